//! How often and how long an app may be awake.

use std::time::Duration;

use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Cause, Roused, Sweeper},
};

use crate::{
    eventually,
    support::{App, Gateway, gateway, plan},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Six in the morning, UTC.
fn morning() -> Clock {
    let moment: jiff::Timestamp = "2026-06-01T06:00:00Z".parse().unwrap();
    Clock::manual_at(u64::try_from(moment.as_millisecond()).unwrap())
}

async fn limited(limits: &str, clock: &Clock) -> Gateway {
    let app = App::named("hello").with("idle_timeout: 10m");
    let rules = format!("rules:\n  - match: hello\n    limits: {limits}");
    gateway([app]).top(&rules).clock(clock).start().await
}

fn somebody() -> Cause {
    Cause::Person { name: "ops".into() }
}

/// How long a client is told to wait, in seconds.
async fn refused(loir: &Gateway) -> u64 {
    let answer = loir.get("hello", "/").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    answer.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn after_so_many_wakes_in_an_hour_the_next_is_refused_until_exactly_when_it_is_said() {
    let clock = morning();
    let loir = limited("{ wakes_per_hour: 2 }", &clock).await;
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    clock.advance(20 * MINUTE);
    loir.wake("hello").await;
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 200, "a request is no wake");
    loir.put_to_sleep("hello").await;
    clock.advance(10 * MINUTE);
    assert_eq!(refused(&loir).await, 30 * 60);
    clock.advance(30 * MINUTE - Duration::from_secs(1));
    assert_eq!(refused(&loir).await, 1);
    clock.advance(Duration::from_secs(1));
    loir.wake("hello").await;
    assert_eq!(loir.times("hello", "start"), 3);
}

#[tokio::test]
async fn what_was_counted_survives_a_reload() {
    let clock = morning();
    let mut loir = limited("{ wakes_per_hour: 1 }", &clock).await;
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    let app = App::named("hello").with("idle_timeout: 10m");
    let setup = gateway([app]).top("rules:\n  - match: 'h*'\n    limits: { wakes_per_hour: 1 }");
    loir.running.reload(plan(&setup.yaml(loir.folder.path(), loir.address))).await;
    assert_eq!(refused(&loir).await, 3600);
}

#[tokio::test]
async fn what_history_knows_counts_from_the_start_on() {
    let clock = morning();
    let loir = limited("{ wakes_per_hour: 1, awake_hours_per_day: 2 }", &clock).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    lifecycle.recall_usage(&app, vec![clock.unix_millis() - 600_000], HOUR);
    assert_eq!(refused(&loir).await, 50 * 60);
    let outlook = lifecycle.outlook(&app);
    assert_eq!((outlook.wakes_this_hour, outlook.awake_seconds_today), (1, 3600));
}

#[tokio::test]
async fn an_app_whose_time_of_today_is_used_up_sleeps_at_once_and_until_midnight() {
    let clock = morning();
    let loir = limited("{ awake_hours_per_day: 2 }", &clock).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    loir.wake("hello").await;
    let mut download = loir.get("hello", "/drip/50/10").send().await.unwrap();
    clock.advance(2 * HOUR);
    for _ in 0..5 {
        Sweeper(lifecycle.clone()).step();
        assert_eq!((app.state(), app.in_flight()), (AppState::Awake, 1), "what is in flight ends in peace");
    }
    while download.chunk().await.unwrap().is_some() {}
    eventually!(app.state() == AppState::Asleep);
    let Cause::Limit { limit } = app.run().unwrap().cause else { panic!("{:?}", app.run()) };
    assert!(limit.starts_with("awake_hours_per_day 2h, rule 1"), "{limit}");
    assert_eq!(refused(&loir).await, 16 * 3600, "it is eight: sixteen hours until midnight in UTC");
    assert_eq!(loir.times("hello", "start"), 1);

    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::Begun, "but a person may");
    eventually!(app.state() == AppState::Awake);
    clock.advance(9 * MINUTE);
    for _ in 0..5 {
        Sweeper(lifecycle.clone()).step();
        assert_eq!(app.state(), AppState::Awake, "and is not contradicted");
    }
    clock.advance(MINUTE);
    eventually!(app.state() == AppState::Asleep);
    clock.advance(16 * HOUR);
    loir.wake("hello").await;
}

#[tokio::test]
async fn what_was_before_a_restart_counts() {
    let clock = morning();
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let start = || {
        let app = App::named("hello").with("idle_timeout: 1h");
        let rules = "rules:\n  - match: hello\n    limits: { wakes_per_hour: 1, awake_hours_per_day: 2 }\nhistory: { type: sqlite }";
        gateway([app]).top(rules).keeps_state().clock(&clock).start_in(folder.clone())
    };
    let loir = start().await;
    loir.wake("hello").await;
    clock.advance(20 * MINUTE);
    loir.put_to_sleep("hello").await;
    clock.advance(10 * MINUTE);
    loir.running.end().await;
    clock.advance(MINUTE);
    let loir = start().await;
    let outlook = || loir.running.lifecycle().outlook(&loir.app("hello"));
    eventually!(outlook().wakes_this_hour == 1);
    assert_eq!(outlook().awake_seconds_today, 20 * 60);
    assert_eq!(refused(&loir).await, 29 * 60);
}

/// The limit is of the day; a window that goes on does not make it one of the window.
#[tokio::test]
async fn an_app_that_is_kept_warm_is_woken_again_when_its_next_day_begins() {
    let clock = morning();
    let app = App::named("hello").with("idle_timeout: 10m");
    let rules = "rules:\n  - match: hello\n    limits: { awake_hours_per_day: 2 }\n    schedule: { days: daily, state: awake }";
    let loir = gateway([app]).top(rules).clock(&clock).start().await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    eventually!(app.state() == AppState::Awake);
    clock.advance(2 * HOUR);
    eventually!(app.state() == AppState::Asleep);
    clock.advance(15 * HOUR);
    for _ in 0..5 {
        Sweeper(lifecycle.clone()).step();
        assert_eq!(app.state(), AppState::Asleep, "until midnight");
    }
    clock.advance(HOUR);
    eventually!(app.state() == AppState::Awake);
}

#[tokio::test]
async fn a_gateway_that_begins_anew_knows_from_the_history_how_often_an_app_was_woken() {
    let (clock, folder) = (morning(), std::sync::Arc::new(tempfile::tempdir().unwrap()));
    let setup = || {
        let rules = "rules:\n  - match: hello\n    limits: { wakes_per_hour: 1 }";
        gateway([App::named("hello")]).top(rules).keeps_state().clock(&clock)
    };
    let first = setup().start_in(folder.clone()).await;
    first.wake("hello").await;
    first.running.end().await;
    clock.advance(20 * MINUTE);
    let second = setup().start_in(folder).await;
    let woken = || second.running.lifecycle().outlook(&second.app("hello")).wakes_this_hour;
    eventually!(woken() == 1);
    assert_eq!(refused(&second).await, 40 * 60);
    assert_eq!(second.times("hello", "start"), 1);
}

/// Of an app that nobody has started, nobody has seen an end.
#[tokio::test]
async fn an_app_that_was_never_awake_was_not_awake_before_a_restart_either() {
    let (clock, folder) = (morning(), std::sync::Arc::new(tempfile::tempdir().unwrap()));
    let start = || {
        let rules = "rules:\n  - match: hello\n    limits: { wakes_per_hour: 1, awake_hours_per_day: 1 }";
        gateway([App::named("hello")]).top(rules).keeps_state().clock(&clock).start_in(folder.clone())
    };
    let first = start().await;
    first.running.history().sample();
    clock.advance(2 * HOUR);
    first.running.history().sample();
    first.running.end().await;
    let second = start().await;
    second.wake("hello").await;
}
