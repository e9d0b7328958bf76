//! Apps that are woken together, in parallel or in order, and sleep together.

use std::time::Duration;

use loir::{
    app::{AppId, AppState},
    clock::Clock,
    lifecycle::{Cause, Slept, Sweeper, outlook::Reason},
};

use crate::{
    eventually,
    simulators::{Platform, Scalingo},
    support::{App, Gateway, Setup, gateway, paas::gateway_for},
};

const MINUTE: Duration = Duration::from_secs(60);

fn shop(front: App, back: App, rule: &str) -> Setup {
    gateway([front.with("idle_timeout: 1m"), back.with("idle_timeout: 2m"), App::named("other")])
        .top(&format!("rules:\n  - match: 'shop-(front|back)'\n{rule}"))
}

const TOGETHER: &str = "    wakes_with: ['shop-back']";
const IN_ORDER: &str = "    wakes_with: ['shop-back']\n    after: { 'shop-back': ready }";
const STARTED: &str = "    wakes_with: ['shop-back']\n    after: { 'shop-back': started }";

fn front() -> App {
    App::named("shop-front")
}

fn back() -> App {
    App::named("shop-back")
}

fn with_front() -> Cause {
    Cause::Group { app: AppId::new("local", "shop-front") }
}

fn states(loir: &Gateway) -> [AppState; 2] {
    ["shop-front", "shop-back"].map(|app| loir.app(app).state())
}

#[tokio::test]
async fn the_apps_of_a_group_are_woken_together_and_nobody_else() {
    let boot = Duration::from_millis(500);
    let loir = shop(front(), back().boots_in(boot), TOGETHER).start().await;
    loir.wake("shop-front").await;
    assert_eq!(
        states(&loir),
        [AppState::Awake, AppState::Waking],
        "in parallel: the front was not kept waiting"
    );
    eventually!(loir.app("shop-back").state() == AppState::Awake);
    assert_eq!(loir.app("shop-back").run().unwrap().cause, with_front());
    assert_eq!(loir.app("other").state(), AppState::Asleep);
    assert_eq!((loir.times("shop-front", "start"), loir.times("shop-back", "start")), (1, 1));
}

#[tokio::test]
async fn in_order_an_app_is_started_when_the_other_is_ready() {
    let boot = Duration::from_millis(700);
    // Less than both boots together: its own time begins when the other is there.
    let front = front().boots_in(boot).with("wake_timeout: 1100ms");
    let loir = shop(front, back().boots_in(boot), IN_ORDER).start().await;
    let request = tokio::spawn(loir.get("shop-front", "/pid").send());
    eventually!(loir.times("shop-back", "start") == 1);
    // What was counted before the back was seen not to be awake was counted while it was not.
    let in_order =
        || loir.times("shop-front", "start") == 0 || loir.app("shop-back").state() == AppState::Awake;
    eventually!({
        assert!(in_order(), "the front waits");
        loir.app("shop-back").state() == AppState::Awake
    });
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_eq!(states(&loir), [AppState::Awake; 2]);
}

#[tokio::test]
async fn in_order_of_starts_an_app_does_not_wait_for_the_other_to_be_ready() {
    let forever = Duration::from_secs(3600);
    let loir = shop(front(), back().boots_in(forever), STARTED).start().await;
    loir.wake("shop-front").await;
    assert_eq!(states(&loir), [AppState::Awake, AppState::Waking]);
    assert_eq!(loir.times("shop-back", "start"), 1);
}

#[tokio::test]
async fn if_the_one_that_comes_first_fails_so_does_the_wake_and_says_why() {
    let loir = shop(front(), back().env("DIE_BEFORE_LISTEN", 1), IN_ORDER).start().await;
    assert_eq!(loir.get("shop-front", "/").send().await.unwrap().status(), 502);
    assert_eq!(states(&loir), [AppState::Failed; 2]);
    let reason = loir.app("shop-front").record().unwrap().last_failure.unwrap();
    assert!(
        reason.contains("local/shop-back, which has to come first") && reason.contains("cannot go on"),
        "{reason}"
    );
    assert_eq!(loir.times("shop-front", "start"), 0);
}

/// Apps that are written down are refused in a circle; those that a platform lists are only known when it does.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_would_wait_for_each_other_do_not_wait() {
    let platform = Scalingo::start().await;
    for app in ["shop-front", "shop-back"] {
        platform.add(app, &[("web", 1)], false);
    }
    let rules = "rules:\n  - match: 'shop-(front|back)'\n    wakes_with: ['shop-front', 'shop-back']\n    \
                 after: { 'shop-front': ready, 'shop-back': ready }";
    let loir = gateway_for([platform.entry("cloud")]).top(rules).start().await;
    assert_eq!(loir.get("shop-front", "/").send().await.unwrap().status(), 200);
    eventually!(loir.app_at("cloud", "shop-back").state() == AppState::Awake);
}

#[tokio::test]
async fn idle_apps_of_a_group_sleep_when_all_of_the_group_is_idle() {
    let clock = Clock::manual();
    let loir = shop(front(), back(), TOGETHER).clock(&clock).start().await;
    let sweeper = Sweeper(loir.running.lifecycle().clone());
    loir.wake("shop-front").await;
    eventually!(states(&loir) == [AppState::Awake; 2]);
    eventually!(loir.app("shop-front").in_flight() == 0);
    clock.advance(MINUTE);
    for _ in 0..5 {
        sweeper.step();
        assert_eq!(
            states(&loir),
            [AppState::Awake; 2],
            "the front is idle for a minute, the back not for two"
        );
    }
    let outlook = loir.running.lifecycle().outlook(&loir.app("shop-front"));
    let kept_by = AppId::new("local", "shop-back");
    assert!(outlook.awake_because.contains(&Reason::Group { app: kept_by }), "{outlook}");
    assert_eq!((outlook.sleeps_at, outlook.group.len()), (None, 1));
    let download = loir.get("shop-front", "/drip/1000/50").send().await.unwrap();
    clock.advance(10 * MINUTE);
    for _ in 0..5 {
        sweeper.step();
        assert_eq!(states(&loir), [AppState::Awake; 2], "the front is in use");
    }
    drop(download);
    eventually!(loir.app("shop-front").in_flight() == 0);
    clock.advance(MINUTE);
    eventually!(states(&loir) == [AppState::Asleep; 2]);
    assert_eq!((loir.times("shop-front", "term"), loir.times("shop-back", "term")), (1, 1));
}

#[tokio::test]
async fn a_pinned_app_keeps_its_group_awake() {
    let clock = Clock::manual();
    let loir = shop(front(), back(), TOGETHER).clock(&clock).start().await;
    let lifecycle = loir.running.lifecycle().clone();
    loir.wake("shop-front").await;
    eventually!(states(&loir) == [AppState::Awake; 2]);
    eventually!(loir.app("shop-front").in_flight() == 0);
    let until = clock.unix_millis() + 3_600_000;
    let somebody = Cause::Person { name: "ops".into() };
    lifecycle.pin(&loir.app("shop-front"), until, somebody.clone()).await.unwrap();
    clock.advance(30 * MINUTE);
    for _ in 0..5 {
        Sweeper(lifecycle.clone()).step();
        // Whatever has begun has time to go on meanwhile.
        loir.wake("other").await;
        assert_eq!(states(&loir), [AppState::Awake; 2]);
    }
    assert_eq!(lifecycle.sleep_now(&loir.app("shop-back"), somebody).await, Slept::Yes, "but a person may");
    clock.advance(30 * MINUTE);
    eventually!(states(&loir) == [AppState::Asleep; 2]);
}

/// A front that is kept awake would have nothing behind it.
#[tokio::test]
async fn an_app_that_is_kept_from_sleeping_keeps_those_that_are_woken_with_it() {
    let clock = Clock::manual();
    let veto = "hooks:\n  - { on: before_stop, match: shop-front, command: [/bin/false] }";
    let apps = [front().with("idle_timeout: 1m"), back().with("idle_timeout: 1m")];
    let rules = format!("{veto}\nrules:\n  - match: shop-front\n    wakes_with: [shop-back]");
    let loir = gateway(apps).top(&rules).clock(&clock).start().await;
    loir.wake("shop-front").await;
    eventually!(states(&loir) == [AppState::Awake; 2]);
    eventually!(loir.app("shop-front").in_flight() == 0);
    clock.advance(MINUTE);
    eventually!(
        loir.times("shop-back", "term") == 1 || loir.app("shop-front").last_activity() == clock.now()
    );
    eventually!(states(&loir) == [AppState::Awake; 2]);
    assert_eq!(loir.times("shop-front", "term"), 0);
}

#[tokio::test]
async fn an_app_that_is_never_stopped_is_not_left_without_those_that_are_woken_with_it() {
    let clock = Clock::manual();
    let apps = [front().with("idle_timeout: 1m"), back().with("idle_timeout: 1m")];
    let rules = "rules:\n  - match: shop-front\n    wakes_with: [shop-back]\n    dry_run: true";
    let loir = gateway(apps).top(rules).clock(&clock).start().await;
    loir.wake("shop-front").await;
    eventually!(states(&loir) == [AppState::Awake; 2]);
    eventually!(loir.app("shop-front").in_flight() == 0);
    clock.advance(5 * MINUTE);
    let lifecycle = loir.running.lifecycle().clone();
    for _ in 0..5 {
        Sweeper(lifecycle.clone()).step();
        assert_eq!(states(&loir), [AppState::Awake; 2]);
    }
    let kept_by = Reason::Group { app: AppId::new("local", "shop-front") };
    assert!(lifecycle.outlook(&loir.app("shop-back")).awake_because.contains(&kept_by));
}
