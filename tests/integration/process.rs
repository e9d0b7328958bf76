//! Apps as child processes: how they are started, what they are given, and how they end.

use std::{fs, time::Duration};

use loir::{app::AppState, clock::Clock};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::{
    eventually,
    support::{
        App, Gateway, app_program, children, gateway,
        program::{Program, group_is_alive, is_alive},
    },
};

/// The app's environment, and `cwd`, as it sees them itself.
async fn environment(loir: &Gateway, app: &str) -> Vec<(String, String)> {
    let text = loir.get(app, "/env").send().await.unwrap().text().await.unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn value<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn records(loir: &Gateway) -> String {
    fs::read_to_string(loir.folder.path().join("state/registry.json")).unwrap()
}

#[tokio::test]
async fn an_app_is_told_its_port_in_every_way_it_may_ask_for() {
    let app = App::named("hello")
        .runs(&["env", "IN_THE_COMMAND={port}", app_program().to_str().unwrap()])
        .env("IN_A_VALUE", "http://127.0.0.1:{port}/");
    let loir = gateway([app]).start().await;
    let environment = environment(&loir, "hello").await;
    let port = loir.app("hello").reached().as_ref().unwrap().address().unwrap().port().to_string();
    assert_eq!(value(&environment, "PORT"), Some(&*port));
    assert_eq!(value(&environment, "IN_THE_COMMAND"), Some(&*port));
    assert_eq!(value(&environment, "IN_A_VALUE"), Some(&*format!("http://127.0.0.1:{port}/")));
}

#[tokio::test]
async fn an_app_with_a_port_of_its_own_gets_it_at_every_start() {
    let port = crate::support::program::free_address().port();
    let loir = gateway([App::named("hello").with(&format!("port: {port}"))]).start().await;
    for _ in 0..3 {
        loir.wake("hello").await;
        assert_eq!(loir.app("hello").reached().as_ref().unwrap().address().unwrap().port(), port);
        loir.put_to_sleep("hello").await;
    }
}

#[tokio::test]
async fn a_strangers_pages_are_never_taken_for_those_of_an_app_with_a_port_of_its_own() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let app = App::named("hello").with(&format!("port: {port}"));
    let loir = gateway([app]).keeps_state().start().await;
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 502);
    let records = records(&loir);
    assert!(records.contains(&format!("port {port} is in use by another program")), "{records}");
    assert!(loir.journal("hello").is_empty(), "it was not even started");
}

#[tokio::test]
async fn nothing_of_our_environment_reaches_an_app_but_what_every_program_needs() {
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok(), "a stand-in for a secret of ours");
    let loir = gateway([App::named("hello").env("ITS_OWN", "value")]).start().await;
    let environment = environment(&loir, "hello").await;
    assert_eq!(value(&environment, "ITS_OWN"), Some("value"));
    assert_eq!(value(&environment, "PATH"), std::env::var("PATH").ok().as_deref());
    let known = [
        "cwd",
        "PORT",
        "HOST",
        "JOURNAL",
        "ITS_OWN",
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "LOIR_KEEPER",
    ];
    let others: Vec<_> = environment.iter().filter(|(name, _)| !known.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn an_app_runs_in_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let loir = gateway([App::named("hello").with(&format!("cwd: {path:?}"))]).start().await;
    assert_eq!(value(&environment(&loir, "hello").await, "cwd"), path.to_str());
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_a_failure_that_says_so() {
    let loir = gateway([App::named("hello").runs(&["/nowhere/app"])]).keeps_state().start().await;
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 502);
    assert_eq!(loir.app("hello").state(), AppState::Failed);
    assert!(records(&loir).contains("cannot run /nowhere/app: No such file"), "{}", records(&loir));
}

#[tokio::test]
async fn an_app_is_asked_to_end_and_given_its_time() {
    let app = App::named("hello").env("STOP_MS", 400);
    let loir = gateway([app]).provider("stop_grace: 1h").start().await;
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    assert!(loir.journal("hello").ends_with(&["term".into(), "end".into()]));
}

#[tokio::test]
async fn what_does_not_end_when_asked_is_killed_with_everything_it_started() {
    let app = App::named("hello").env("IGNORE_TERM", 1).env("GRANDCHILD", 1);
    let loir = gateway([app]).provider("stop_grace: 200ms").start().await;
    loir.wake("hello").await;
    let (process, children) = (loir.process("hello"), children(loir.folder.path(), "hello"));
    assert!(is_alive(process) && is_alive(children[0]));
    loir.put_to_sleep("hello").await;
    assert!(!group_is_alive(process), "nothing of the group is left when the stop is confirmed");
    assert!(!is_alive(process) && !is_alive(children[0]));
    assert_eq!((loir.times("hello", "term"), loir.times("hello", "end")), (1, 0));
}

#[tokio::test]
async fn a_child_that_outlives_a_polite_app_is_killed_as_well() {
    let loir =
        gateway([App::named("hello").env("GRANDCHILD", 1)]).provider("stop_grace: 200ms").start().await;
    loir.wake("hello").await;
    let child = children(loir.folder.path(), "hello")[0];
    loir.put_to_sleep("hello").await;
    assert_eq!(loir.times("hello", "end"), 1);
    assert!(!is_alive(child));
}

#[tokio::test]
async fn a_crash_is_noticed_at_once_remembered_and_not_retried_in_a_loop() {
    let clock = Clock::manual();
    let loir = gateway([App::named("hello").env("GRANDCHILD", 1)]).keeps_state().clock(&clock).start().await;
    loir.wake("hello").await;
    let (app, child) = (loir.app("hello"), children(loir.folder.path(), "hello")[0]);
    let answer = loir.get("hello", "/crash").send().await.unwrap();
    assert_eq!(answer.status(), 502, "whoever was talking to it is told");
    eventually!(app.state() == AppState::Failed);
    eventually!(!is_alive(child), "what it left behind is gone");
    assert!(records(&loir).contains("exit status 7"), "{}", records(&loir));
    for _ in 0..10 {
        let answer = loir.get("hello", "/").send().await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.headers()["retry-after"], "2");
    }
    assert_eq!(loir.times("hello", "start"), 1);
    clock.advance(Duration::from_secs(2));
    assert_eq!(loir.times("hello", "start"), 1, "nobody asked for it");
    loir.wake("hello").await;
    assert_eq!(loir.times("hello", "start"), 2);
}

#[tokio::test]
async fn an_app_that_somebody_killed_is_noticed() {
    let loir = gateway([App::named("hello")]).keeps_state().start().await;
    loir.wake("hello").await;
    kill(Pid::from_raw(loir.process("hello").cast_signed()), Signal::SIGKILL).unwrap();
    let app = loir.app("hello");
    eventually!(app.state() == AppState::Failed);
    assert!(records(&loir).contains("ended by SIGKILL"), "{}", records(&loir));
}

#[tokio::test]
async fn a_crash_between_two_requests_of_one_connection_harms_the_next_run_in_nothing() {
    let clock = Clock::manual();
    let loir = gateway([App::named("hello")]).clock(&clock).start().await;
    for run in 1..=5 {
        loir.wake("hello").await;
        kill(Pid::from_raw(loir.process("hello").cast_signed()), Signal::SIGKILL).unwrap();
        let app = loir.app("hello");
        eventually!(app.state() == AppState::Failed);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(loir.times("hello", "start"), run);
    }
}

#[tokio::test]
async fn what_an_app_prints_is_logged_in_bounded_lines_and_never_blocks_it() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([App::named("hello")]), folder.path()).await;
    loir.wake("hello").await;
    let print = loir.request("POST", "hello", "/print/3000000").send().await.unwrap();
    assert_eq!(print.text().await.unwrap(), "printed\n");
    loir.says("hello: printed").await;
    let log = loir.log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 5_000, "a line of {longest} bytes");
    assert_eq!(log.matches('x').count() / 1_000_000, 3, "and all of it is there");
}

#[tokio::test]
async fn two_stops_and_starts_of_one_app_never_overlap() {
    let loir = gateway([App::named("hello").env("STOP_MS", 50)]).start().await;
    let began = Instant::now();
    while loir.times("hello", "start") < 5 && began.elapsed() < Duration::from_secs(20) {
        let app = loir.app("hello");
        let stops = (0..10).map(|_| loir.running.lifecycle().sleep(&app, Duration::ZERO));
        let (_, answer) =
            tokio::join!(futures_util::future::join_all(stops), loir.get("hello", "/pid").send());
        assert_eq!(answer.unwrap().status(), 200);
    }
    let lines: Vec<_> =
        loir.journal("hello").into_iter().filter(|line| line == "start" || line == "end").collect();
    for pair in lines.chunks(2) {
        assert!(pair[0] == "start" && pair.get(1).is_none_or(|next| next == "end"), "{lines:?}");
    }
    assert!(lines.len() >= 9);
}
