//! What people do by hand: pin, wake, put to sleep. And what they are told.

use std::{fs, sync::Arc, time::Duration};

use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Cause, PinError, Refusal, Roused, Slept, Sweeper, outlook::Reason},
};

use crate::{
    eventually,
    support::{App, Gateway, gateway},
};

const MINUTE: Duration = Duration::from_secs(60);

fn somebody() -> Cause {
    Cause::Person { name: "ops".into() }
}

/// An app that sleeps after a minute, by a clock that the test moves; awake.
async fn awake(app: App) -> (Gateway, Clock) {
    let clock = Clock::manual();
    let loir = gateway([app.with("idle_timeout: 1m")]).clock(&clock).start().await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    (loir, clock)
}

async fn pin(loir: &Gateway, clock: &Clock, length: Duration) -> Result<(), PinError> {
    let until = clock.unix_millis() + u64::try_from(length.as_millis()).unwrap();
    loir.running.lifecycle().pin(&loir.app("hello"), until, somebody()).await
}

fn is_kept_by_pin(slept: &Slept) -> bool {
    matches!(slept, Slept::Kept(reason) if reason.starts_with("it is pinned until 20"))
}

#[tokio::test]
async fn a_pinned_app_is_not_stopped_however_idle_it_is_and_sleeps_when_the_pin_is_over() {
    let (loir, clock) = awake(App::named("hello")).await;
    let app = loir.app("hello");
    pin(&loir, &clock, 60 * MINUTE).await.unwrap();
    for _ in 0..59 {
        clock.advance(MINUTE);
        Sweeper(loir.running.lifecycle().clone()).step();
        let slept = loir.sweep("hello").await;
        assert!(is_kept_by_pin(&slept), "{slept:?}");
    }
    assert_eq!((app.state(), loir.times("hello", "term")), (AppState::Awake, 0));
    let outlook = loir.running.lifecycle().outlook(&app);
    assert_eq!(outlook.sleeps_at, None);
    assert!(
        matches!(outlook.awake_because[..], [Reason::Pinned { until }] if Some(until) == outlook.pinned_until)
    );
    clock.advance(MINUTE);
    eventually!(app.state() == AppState::Asleep);
}

#[tokio::test]
async fn a_person_is_told_of_the_pin_and_takes_it_out_first() {
    let (loir, clock) = awake(App::named("hello")).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    pin(&loir, &clock, MINUTE).await.unwrap();
    let slept = lifecycle.sleep_now(&app, somebody()).await;
    assert!(is_kept_by_pin(&slept), "{slept:?}");
    lifecycle.unpin(&app, somebody()).await.unwrap();
    assert_eq!(lifecycle.sleep_now(&app, somebody()).await, Slept::Yes);
    assert_eq!(app.run().unwrap().cause, somebody());
}

#[tokio::test]
async fn a_pin_survives_a_restart_and_does_not_wake_the_app() {
    let clock = Clock::manual();
    let setup = || gateway([App::named("hello").with("idle_timeout: 1m")]).keeps_state().clock(&clock);
    let first = setup().start().await;
    pin(&first, &clock, 60 * MINUTE).await.unwrap();
    assert_eq!(first.app("hello").state(), AppState::Asleep);
    let (before, folder) = (first.folder.path().join("state"), Arc::new(tempfile::tempdir().unwrap()));
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::copy(before.join("registry.json"), folder.path().join("state/registry.json")).unwrap();
    let second = setup().start_in(folder).await;
    assert_eq!(second.app("hello").state(), AppState::Asleep);
    second.wake("hello").await;
    let app = second.app("hello");
    eventually!(app.in_flight() == 0);
    clock.advance(2 * MINUTE);
    let slept = second.sweep("hello").await;
    assert!(is_kept_by_pin(&slept), "{slept:?}");
}

#[tokio::test]
async fn a_pin_that_comes_in_the_middle_of_a_wake_waits_for_its_end_and_disturbs_nothing() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_millis(500))]).start().await;
    let app = loir.app("hello");
    let (lifecycle, clock) = (loir.running.lifecycle(), Clock::system());
    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::Begun);
    eventually!(app.record().is_some_and(|record| record.state == AppState::Waking));
    pin(&loir, &clock, MINUTE).await.unwrap();
    assert_eq!(app.state(), AppState::Awake);
    let record = app.record().unwrap();
    assert_eq!((record.state, record.pinned_until.is_some()), (AppState::Awake, true));
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn a_person_wakes_an_app_whose_last_start_has_just_failed() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    fs::write(&broken, "").unwrap();
    let app = App::named("hello").runs(&["sh", "-c", "test -e \"$BROKEN\" && exit 3; exec \"$APP\""]);
    let app = app.env("BROKEN", broken.display()).env("APP", crate::support::app_program().display());
    let clock = Clock::manual();
    let loir = gateway([app]).clock(&clock).start().await;
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 502);
    fs::remove_file(&broken).unwrap();
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 502, "its back-off has not passed");
    let (lifecycle, app) = (loir.running.lifecycle(), loir.app("hello"));
    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::Begun);
    assert!(matches!(lifecycle.wake(&app, somebody()).unwrap(), Roused::UnderWay | Roused::Awake));
    eventually!(app.state() == AppState::Awake);
    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::Awake);
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn a_wake_in_the_middle_of_a_stop_follows_it_and_nothing_is_left_alone_is_woken() {
    let loir = gateway([App::named("hello").env("STOP_MS", 300), App::named("other")])
        .top("manage:\n  exclude: other")
        .start()
        .await;
    loir.wake("hello").await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    eventually!(app.in_flight() == 0);
    let (stopping, stopped) = (lifecycle.clone(), app.clone());
    let stop = tokio::spawn(async move { stopping.sleep_now(&stopped, somebody()).await });
    eventually!(loir.times("hello", "term") == 1);
    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::UnderWay);
    assert_eq!(stop.await.unwrap(), Slept::Yes);
    eventually!(app.state() == AppState::Awake);
    assert_eq!((loir.times("hello", "start"), app.held()), (2, 0));
    assert!(matches!(lifecycle.wake(&loir.app("other"), somebody()), Err(Refusal::LeftAlone(_))));
}

#[tokio::test]
async fn people_are_told_who_keeps_an_app_awake_and_when_it_would_sleep() {
    let (loir, clock) = awake(App::named("hello")).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    clock.advance(10 * MINUTE / 60);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(2));
        let robot = "Mozilla/5.0 (compatible; Pinger/2.0; https://pinger.test)";
        let request = loir.get("hello", "/pid").header("user-agent", robot);
        assert_eq!(request.send().await.unwrap().status(), 200);
        eventually!(app.in_flight() == 0);
    }
    clock.advance(Duration::from_secs(20));
    let outlook = lifecycle.outlook(&app);
    let line = outlook.to_string();
    assert!(line.contains("3 requests in the last minute from Pinger (127.0.0.1)"), "{line}");
    assert!(line.ends_with("; would sleep in 40s"), "{line}");
    assert_eq!((outlook.sleeps_in, outlook.idle_timeout), (Some(40_000), 60_000));
    let json = serde_json::to_value(&outlook).unwrap();
    assert_eq!(json["state"], "awake");
    assert_eq!(json["awake_because"][0]["reason"], "asked");
    assert_eq!(json["last_cause"]["by"], "request");
    clock.advance(Duration::from_secs(40));
    eventually!(app.state() == AppState::Asleep);
    let line = lifecycle.outlook(&app).to_string();
    assert_eq!(line, "asleep");
}
