//! Schedules: kept warm, kept asleep, by the clock on the wall, which a test moves.

use std::{fs, time::Duration};

use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Admission, Cause, Demand, Refusal, Roused, Slept, Sweeper, outlook::Reason},
};

use crate::{
    eventually,
    support::{App, Gateway, app_program, gateway},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A clock whose wall shows this moment.
fn clock_at(moment: &str) -> Clock {
    Clock::manual_at(u64::try_from(moment.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap())
}

/// Moves the clock to this moment.
fn go_to(clock: &Clock, moment: &str) {
    let then = u64::try_from(moment.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap();
    clock.advance(Duration::from_millis(then.checked_sub(clock.unix_millis()).expect("it does not go back")));
}

fn rule(windows: &str) -> String {
    format!("rules:\n  - match: hello\n    schedule:\n      - {windows}")
}

const WORKING_HOURS: &str =
    r#"{ days: mon-sun, from: "08:00", to: "19:00", tz: Europe/Paris, state: awake }"#;

fn nights(wake: &str) -> String {
    format!(r#"{{ cron: "0 20 * * *", tz: Europe/Paris, state: asleep, until: "07:00", wake: {wake} }}"#)
}

/// An app that sleeps after ten minutes, but for its schedule.
async fn with_schedule(app: App, windows: &str, clock: &Clock) -> Gateway {
    gateway([app.with("idle_timeout: 10m")]).top(&rule(windows)).clock(clock).start().await
}

fn step(loir: &Gateway) {
    Sweeper(loir.running.lifecycle().clone()).step();
}

fn somebody() -> Cause {
    Cause::Person { name: "ops".into() }
}

/// It is kept warm from 8 to 19 by the clock in Paris, whatever the clock was last night.
async fn warm_by_the_clock_of_the_day(day_before: &str, ahead: &str, in_time: &str, end: &str) {
    let clock = clock_at(day_before);
    let loir = with_schedule(App::named("hello"), WORKING_HOURS, &clock).await;
    let app = loir.app("hello");
    for moment in [day_before, ahead] {
        go_to(&clock, moment);
        step(&loir);
        assert_eq!(app.state(), AppState::Asleep, "at {moment}");
    }
    go_to(&clock, in_time);
    step(&loir);
    assert_ne!(app.state(), AppState::Asleep, "woken ahead, at {in_time}");
    eventually!(app.state() == AppState::Awake);
    let Cause::Schedule { rule } = app.run().unwrap().cause else { panic!("{:?}", app.run()) };
    assert!(rule.contains("Europe/Paris") && rule.contains("rule 1"), "{rule}");
    for _ in 0..10 {
        clock.advance(HOUR);
        step(&loir);
        let outlook = loir.running.lifecycle().outlook(&app);
        assert!(matches!(outlook.awake_because[..], [Reason::Schedule { .. }]), "{outlook}");
        assert_eq!((app.state(), outlook.sleeps_at), (AppState::Awake, None));
    }
    go_to(&clock, end);
    eventually!(app.state() == AppState::Asleep, "idle, and nothing keeps it any more");
    assert_eq!((loir.times("hello", "start"), loir.times("hello", "term")), (1, 1));
}

#[tokio::test]
async fn an_app_is_woken_ahead_of_its_window_and_kept_warm_after_the_night_that_lacks_an_hour() {
    // Eight in Paris is seven in UTC on the day before, and six on this one. A boot that was never seen: 30 s ahead.
    warm_by_the_clock_of_the_day(
        "2026-03-28T18:30:00Z",
        "2026-03-29T05:59:00Z",
        "2026-03-29T05:59:31Z",
        "2026-03-29T17:00:00Z",
    )
    .await;
}

#[tokio::test]
async fn an_app_is_woken_ahead_of_its_window_and_kept_warm_after_the_night_that_has_one_more() {
    warm_by_the_clock_of_the_day(
        "2026-10-24T18:30:00Z",
        "2026-10-25T06:59:00Z",
        "2026-10-25T06:59:31Z",
        "2026-10-25T18:00:00Z",
    )
    .await;
}

#[tokio::test]
async fn an_app_whose_boots_are_known_is_woken_later() {
    let clock = clock_at("2026-06-01T02:00:00Z");
    let loir = with_schedule(App::named("hello"), WORKING_HOURS, &clock).await;
    let app = loir.app("hello");
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    go_to(&clock, "2026-06-01T05:59:54Z");
    step(&loir);
    assert_eq!(app.state(), AppState::Asleep, "it boots in no time");
    go_to(&clock, "2026-06-01T05:59:55Z");
    eventually!(app.state() == AppState::Awake);
}

#[tokio::test]
async fn a_wake_by_schedule_that_fails_is_tried_again_by_its_back_off_only() {
    let clock = clock_at("2026-06-01T06:00:00Z");
    let loir = with_schedule(App::named("hello").env("DIE_BEFORE_LISTEN", 1), WORKING_HOURS, &clock).await;
    let app = loir.app("hello");
    for (tries, back_off) in [(1, 2), (2, 4), (3, 8)] {
        eventually!(app.state() == AppState::Failed && loir.times("hello", "start") == tries);
        for _ in 0..5 {
            step(&loir);
        }
        assert_eq!((app.state(), loir.times("hello", "start")), (AppState::Failed, tries));
        clock.advance(Duration::from_secs(back_off));
    }
    eventually!(loir.times("hello", "start") == 4);
}

#[tokio::test]
async fn whoever_puts_a_warm_app_to_sleep_is_not_contradicted_until_its_next_window() {
    let clock = clock_at("2026-06-01T06:30:00Z");
    let loir = with_schedule(App::named("hello"), WORKING_HOURS, &clock).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    eventually!(app.state() == AppState::Awake);
    assert_eq!(lifecycle.sleep_now(&app, somebody()).await, Slept::Yes);
    for _ in 0..10 {
        clock.advance(HOUR);
        step(&loir);
        assert_eq!(app.state(), AppState::Asleep);
    }
    go_to(&clock, "2026-06-02T06:00:00Z");
    eventually!(app.state() == AppState::Awake, "the next morning");
}

#[tokio::test]
async fn a_window_of_sleep_stops_the_app_as_soon_as_nothing_is_in_flight() {
    let clock = clock_at("2026-06-01T17:55:00Z");
    let loir = with_schedule(App::named("hello"), &nights("allow"), &clock).await;
    let app = loir.app("hello");
    loir.wake("hello").await;
    let mut download = loir.get("hello", "/drip/50/10").send().await.unwrap();
    go_to(&clock, "2026-06-01T18:00:00Z");
    for _ in 0..5 {
        step(&loir);
        assert_eq!((app.state(), app.in_flight()), (AppState::Awake, 1));
    }
    while download.chunk().await.unwrap().is_some() {}
    eventually!(app.state() == AppState::Asleep, "not ten minutes later");
    let Cause::Schedule { rule } = app.run().unwrap().cause else { panic!("{:?}", app.run()) };
    assert!(rule.contains("rule 1"), "{rule}");
    assert_eq!(loir.times("hello", "end"), 1, "in peace");
}

#[tokio::test]
async fn an_app_that_is_woken_on_purpose_in_a_window_of_sleep_has_its_usual_idle_time() {
    let clock = clock_at("2026-06-01T20:00:00Z");
    let loir = with_schedule(App::named("hello"), &nights("allow"), &clock).await;
    let app = loir.app("hello");
    loir.wake("hello").await;
    eventually!(app.in_flight() == 0);
    for _ in 0..9 {
        clock.advance(MINUTE);
        step(&loir);
        assert_eq!(app.state(), AppState::Awake, "the sweep does not fight whoever woke it");
    }
    clock.advance(MINUTE);
    eventually!(app.state() == AppState::Asleep);
    assert!(matches!(app.run().unwrap().cause, Cause::Idle { .. }));
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn a_window_in_which_nobody_wakes_it_refuses_until_it_is_over_and_people_at_the_admin_side_may() {
    let clock = clock_at("2026-06-01T20:00:00Z");
    let loir = with_schedule(App::named("hello"), &nights("never"), &clock).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    let answer = loir.get("hello", "/").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "32400"));
    for demand in [Demand::Wake, Demand::Insist] {
        let Admission::Refuse(refused) = lifecycle.admit(&app, demand, somebody) else {
            panic!("{demand:?}")
        };
        let opens = clock_at("2026-06-02T05:00:00Z").unix_millis();
        assert!(
            matches!(refused.reason, Refusal::Closed { opens: Some(at), ask: false } if at == opens),
            "{:?}",
            refused.reason
        );
    }
    assert_eq!(loir.times("hello", "start"), 0);
    let outlook = lifecycle.outlook(&app);
    assert!(outlook.to_string().contains("not woken by requests"), "{outlook}");
    assert_eq!(lifecycle.wake(&app, somebody()).unwrap(), Roused::Begun);
    eventually!(app.state() == AppState::Awake);
    loir.wake("hello").await;
    eventually!(app.in_flight() == 0);
    clock.advance(10 * MINUTE);
    eventually!(app.state() == AppState::Asleep);
    go_to(&clock, "2026-06-02T05:00:00Z");
    loir.wake("hello").await;
}

#[tokio::test]
async fn a_window_that_asks_lets_a_person_wake_it_who_insists() {
    let clock = clock_at("2026-06-01T20:00:00Z");
    let loir = with_schedule(App::named("hello"), &nights("ask"), &clock).await;
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app("hello"));
    let Admission::Refuse(refused) = lifecycle.admit(&app, Demand::Wake, somebody) else { panic!() };
    assert!(matches!(refused.reason, Refusal::Closed { ask: true, .. }), "{:?}", refused.reason);
    let Admission::Hold(mut waking) = lifecycle.admit(&app, Demand::Insist, somebody) else { panic!() };
    drop(waking.awake().await.unwrap());
    assert_eq!(app.state(), AppState::Awake);
}

#[tokio::test]
async fn newcomers_do_not_keep_an_app_awake_that_is_closed() {
    let clock = clock_at("2026-06-01T17:55:00Z");
    let loir = with_schedule(App::named("hello").env("STOP_MS", 500), &nights("never"), &clock).await;
    let app = loir.app("hello");
    loir.wake("hello").await;
    go_to(&clock, "2026-06-01T18:00:00Z");
    eventually!(app.state() == AppState::Stopping);
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 503);
    eventually!(app.state() == AppState::Asleep);
    assert_eq!((loir.times("hello", "start"), loir.times("hello", "term")), (1, 1));
}

#[tokio::test]
async fn a_stop_that_is_forced_and_gives_way_is_tried_again_and_not_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    fs::write(&hold, "").unwrap();
    let clock = clock_at("2026-06-01T17:55:00Z");
    let program = app_program();
    let app = App::named("hello").runs(&[program.to_str().unwrap()]);
    let loir = with_schedule(app, &nights("allow"), &clock).await;
    let app = loir.app("hello");
    loir.wake("hello").await;
    eventually!(app.in_flight() == 0);
    // Somebody has pinned it: each try comes to nothing.
    let until = clock_at("2026-06-01T18:30:00Z").unix_millis();
    loir.running.lifecycle().pin(&app, until, somebody()).await.unwrap();
    go_to(&clock, "2026-06-01T18:00:00Z");
    for _ in 0..20 {
        step(&loir);
        clock.advance(MINUTE);
    }
    assert_eq!((app.state(), loir.times("hello", "term")), (AppState::Awake, 0));
    go_to(&clock, "2026-06-01T18:30:00Z");
    eventually!(app.state() == AppState::Asleep);
}

#[tokio::test]
async fn windows_of_sleep_and_warmth_that_meet_hand_the_app_over() {
    let clock = clock_at("2026-06-01T18:30:00Z");
    let windows = format!("{}\n      - {WORKING_HOURS}", nights("never").replace("07:00", "08:00"));
    let loir = with_schedule(App::named("hello"), &windows, &clock).await;
    let app = loir.app("hello");
    step(&loir);
    go_to(&clock, "2026-06-02T05:59:00Z");
    step(&loir);
    assert_eq!(
        (app.state(), loir.get("hello", "/").send().await.unwrap().status().as_u16()),
        (AppState::Asleep, 503)
    );
    // Still kept asleep by the clock, and woken ahead all the same, for whoever comes.
    go_to(&clock, "2026-06-02T05:59:40Z");
    eventually!(app.state() == AppState::Awake);
    loir.wake("hello").await;
    for _ in 0..20 {
        step(&loir);
        clock.advance(Duration::from_secs(2));
    }
    assert_eq!(
        (app.state(), loir.times("hello", "start"), loir.times("hello", "term")),
        (AppState::Awake, 1, 0)
    );
}
