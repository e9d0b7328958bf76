//! Waking: one start however many ask, nothing lost, failures remembered.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use loir::{app::AppState, clock::Clock};

use crate::{
    eventually,
    support::{App, Gateway, gateway, program::is_alive},
};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Asks for an app that has failed: how long to wait, and the reference of the failure.
async fn refused(loir: &Gateway, app: &str) -> (u64, String) {
    let answer = loir.get(app, "/").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["x-loir-state"].to_str().unwrap()),
        (502, "failed")
    );
    let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let problem: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    (wait, problem["instance"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_start_one_process_and_all_get_its_answer() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_secs(2))]).start().await;
    for run in 1..=3 {
        let requests = (0..1000).map(|_| loir.get("hello", "/pid").send());
        let mut pids = Vec::new();
        for answer in join_all(requests).await {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.headers().contains_key("x-loir-cold-start"));
            pids.push(answer.text().await.unwrap());
        }
        pids.sort();
        pids.dedup();
        assert_eq!(pids.len(), 1, "run {run}: one process answered");
        assert_eq!(loir.times("hello", "start"), run, "one process was started");
        loir.put_to_sleep("hello").await;
        assert_eq!(loir.app("hello").state(), AppState::Asleep);
    }
}

#[tokio::test]
async fn a_wake_survives_the_client_that_caused_it() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_millis(500))]).start().await;
    let gone = tokio::time::timeout(Duration::from_millis(50), loir.get("hello", "/").send()).await;
    assert!(gone.is_err(), "it gave up");
    let app = loir.app("hello");
    eventually!(app.held() == 0, "its place is free again");
    eventually!(app.state() == AppState::Awake);
    assert_eq!(loir.times("hello", "GET /"), 0, "nobody asked the app in its name");
}

#[tokio::test]
async fn two_apps_are_woken_side_by_side() {
    let slow = App::named("slow").boots_in(AN_HOUR);
    let loir = gateway([slow, App::named("quick")]).start().await;
    let waits = loir.get("slow", "/").send();
    tokio::select! {
        _ = waits => panic!("it cannot be awake"),
        () = loir.wake("quick") => {}
    }
    assert_eq!(loir.app("slow").state(), AppState::Waking);
}

#[tokio::test]
async fn an_app_that_never_answers_fails_after_its_wake_timeout_and_its_process_is_gone() {
    let clock = Clock::manual();
    let app = App::named("hello").boots_in(AN_HOUR).with("wake_timeout: 300ms");
    let loir = gateway([app]).clock(&clock).start().await;
    let (wait, _) = refused(&loir, "hello").await;
    assert_eq!(wait, 2);
    assert!(!is_alive(loir.process("hello")), "what never answered is stopped");
    clock.advance(Duration::from_secs(2));
    refused(&loir, "hello").await;
    assert_eq!(loir.times("hello", "start"), 2, "after the back-off it is tried again");
}

#[tokio::test]
async fn nobody_sees_the_answers_of_an_app_that_listens_but_is_not_ready() {
    let loir = gateway([App::named("hello").env("NOT_READY_MS", 500)]).start().await;
    let answers = join_all((0..50).map(|_| loir.get("hello", "/").send())).await;
    for answer in answers {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn which_answer_counts_as_ready_is_the_apps_own_choice() {
    let strict = App::named("strict")
        .with("wake_timeout: 500ms")
        .with("ready: { path: /status/404, status: [200-399] }");
    let lenient = App::named("lenient").with("ready: { path: /status/503, status: 503 }");
    let loir = gateway([strict, lenient]).keeps_state().start().await;
    loir.wake("lenient").await;
    refused(&loir, "strict").await;
    let records = fs::read_to_string(loir.folder.path().join("state/registry.json")).unwrap();
    assert!(records.contains("no answer on /status/404 within the wake timeout of 500ms"), "{records}");
}

#[tokio::test]
async fn a_crash_while_booting_fails_at_once_and_not_at_the_deadline() {
    let app = App::named("hello").env("DIE_BEFORE_LISTEN", 1).with("wake_timeout: 1h");
    let loir = gateway([app]).keeps_state().start().await;
    // A program is held for 25 s and then told to come back with a 503; this is the failure itself.
    refused(&loir, "hello").await;
    let records = fs::read_to_string(loir.folder.path().join("state/registry.json")).unwrap();
    assert!(
        records.contains("exit status 4; it last said: cannot go on"),
        "the operator is told why: {records}"
    );
}

#[tokio::test]
async fn a_failure_is_remembered_and_within_the_back_off_nothing_is_started() {
    let clock = Clock::manual();
    let loir = gateway([App::named("hello").env("DIE_BEFORE_LISTEN", 1)]).clock(&clock).start().await;
    let (_, reference) = refused(&loir, "hello").await;
    for passed in 0..20 {
        let (wait, again) = refused(&loir, "hello").await;
        assert_eq!(again, reference, "all are told of one and the same failure");
        assert_eq!(wait, if passed < 10 { 2 } else { 1 }, "after {passed} tenths of a second");
        assert_eq!(loir.times("hello", "start"), 1);
        clock.advance(Duration::from_millis(100));
    }
    let (_, another) = refused(&loir, "hello").await;
    assert_ne!(another, reference);
    assert_eq!(loir.times("hello", "start"), 2);
}

#[tokio::test]
async fn the_back_off_grows_and_is_forgotten_after_a_good_run() {
    let clock = Clock::manual();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    fs::write(&broken, "").unwrap();
    let loir = gateway([App::named("hello").env("FAIL_IF", broken.display())]).clock(&clock).start().await;
    let mut starts = 0;
    for seconds in [2, 4, 8, 16] {
        let (wait, _) = refused(&loir, "hello").await;
        starts += 1;
        assert_eq!(wait, seconds);
        clock.advance(Duration::from_millis(seconds * 1000 - 1));
        refused(&loir, "hello").await;
        assert_eq!(loir.times("hello", "start"), starts, "a millisecond too early");
        clock.advance(Duration::from_millis(1));
    }
    fs::remove_file(&broken).unwrap();
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    fs::write(&broken, "").unwrap();
    let (wait, _) = refused(&loir, "hello").await;
    assert_eq!(wait, 2, "whatever went wrong before is over");
}

#[tokio::test]
async fn boot_times_are_remembered() {
    let boot = Duration::from_millis(200);
    let loir = gateway([App::named("hello").boots_in(boot)]).start().await;
    for _ in 0..3 {
        loir.wake("hello").await;
        loir.put_to_sleep("hello").await;
    }
    let boots = loir.app("hello").progress().borrow().boots.clone();
    assert_eq!(boots.len(), 3);
    assert!(boots.iter().all(|&took| took >= boot), "{boots:?}");
}
