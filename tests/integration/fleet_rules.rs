//! What rules mean where several gateways share a registry: one decides, and all agree.

use std::time::Duration;

use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Admission, Cause, Demand, Refusal, Slept},
};

use crate::{
    eventually,
    simulators::{Platform, Scalingo},
    support::{Gateway, paas::gateway_for, redis::Redis, websocket},
    throughout,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Two gateways in this process, with one clock that the test moves; the first one leads.
struct Pair {
    platform: Scalingo,
    clock: Clock,
    leader: Gateway,
    follower: Gateway,
    _redis: Redis,
}

fn somebody() -> Cause {
    Cause::Person { name: "ops".into() }
}

fn clock_at(moment: &str) -> Clock {
    Clock::manual_at(u64::try_from(moment.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap())
}

/// In front of these apps, which run or do not, with these rules.
async fn pair(moment: &str, apps: &[&str], run: bool, rules: &str) -> Pair {
    pair_by(clock_at(moment), "10m", apps, run, rules).await
}

async fn pair_by(clock: Clock, idle: &str, apps: &[&str], run: bool, rules: &str) -> Pair {
    let (platform, redis) = (Scalingo::start().await, Redis::start().await);
    for app in apps {
        platform.add(app, &[("web", 1)], run);
    }
    let top = format!(
        "registry: {{ type: redis, url: {:?}, lease: 2s, flush_interval: 200ms }}\nrules:\n{rules}",
        redis.url()
    );
    let setup = gateway_for([platform.entry("cloud")])
        .option("budget: { requests_per_minute: 60000 }")
        .defaults(&format!("idle_timeout: {idle}"))
        .top(&top)
        .clock(&clock);
    let leader = setup.start().await;
    let fleet = |of: &Gateway| of.running.lifecycle().fleet().map(|fleet| (fleet.leads(), fleet.may_stop()));
    eventually!(fleet(&leader) == Some((true, true)), "the first one leads");
    let follower = setup.start().await;
    eventually!(fleet(&follower) == Some((false, true)));
    Pair { platform, clock, leader, follower, _redis: redis }
}

impl Pair {
    fn go_to(&self, moment: &str) {
        let then = clock_at(moment).unix_millis();
        self.clock.advance(Duration::from_millis(then - self.clock.unix_millis()));
    }

    /// What both gateways believe.
    fn states(&self, app: &str) -> [AppState; 2] {
        [&self.leader, &self.follower].map(|gateway| gateway.app_at("cloud", app).state())
    }

    async fn stays(&self, app: &str, state: AppState) {
        // A few steps of the sweep, which a fleet's leader makes twice a second.
        let some = Duration::from_millis(1500);
        throughout!(some, self.states(app) == [state; 2], "{:?}", self.states(app));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_sleep_stops_an_app_for_all_when_nothing_is_in_flight_anywhere_however_lately_it_was_used()
 {
    let night = "  - match: shop\n    schedule:\n      - { cron: \"0 20 * * *\", tz: Europe/Paris, state: asleep, until: \"07:00\", wake: never }";
    let pair = pair("2026-06-01T17:55:00Z", &["shop"], true, night).await;
    eventually!(pair.states("shop") == [AppState::Awake; 2]);
    let open = websocket(pair.follower.address, "shop.test").await;
    eventually!(pair.platform.in_flight("shop") == 1);
    pair.go_to("2026-06-01T18:00:00Z");
    let in_use = || pair.platform.stops("shop") == 0;
    throughout!(Duration::from_secs(2), in_use(), "the follower has something in flight");
    drop(open);
    eventually!(pair.platform.in_flight("shop") == 0);
    eventually!(pair.follower.app_at("cloud", "shop").in_flight() == 0);
    // Not again at once after it gave way, and long before ten minutes have passed.
    pair.clock.advance(MINUTE);
    eventually!(pair.states("shop") == [AppState::Asleep; 2]);
    let cause = pair.leader.app_at("cloud", "shop").run().unwrap().cause;
    assert!(matches!(cause, Cause::Schedule { .. }), "{cause}");
    assert_eq!(pair.platform.stops("shop"), 1);
    for gateway in [&pair.leader, &pair.follower] {
        assert_eq!(gateway.get("shop", "/").send().await.unwrap().status(), 503);
    }
    assert_eq!(pair.platform.starts("shop"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_alone_wakes_an_app_ahead_of_its_window_and_nobody_stops_it_in_it() {
    let day = "  - match: shop\n    schedule:\n      - { days: mon-sun, from: \"08:00\", to: \"19:00\", tz: Europe/Paris, state: awake }";
    let pair = pair("2026-06-01T05:00:00Z", &["shop"], false, day).await;
    pair.stays("shop", AppState::Asleep).await;
    pair.go_to("2026-06-01T05:59:40Z");
    eventually!(pair.states("shop") == [AppState::Awake; 2]);
    pair.clock.advance(60 * MINUTE);
    pair.stays("shop", AppState::Awake).await;
    assert_eq!((pair.platform.starts("shop"), pair.platform.stops("shop")), (1, 0));
    let follower = pair.follower.running.lifecycle();
    let slept = follower.sleep_now(&pair.follower.app_at("cloud", "shop"), somebody()).await;
    assert_eq!(slept, Slept::Yes, "a person may, at any gateway");
    eventually!(pair.states("shop") == [AppState::Asleep; 2]);
    pair.stays("shop", AppState::Asleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_holds_at_every_gateway_whichever_was_told() {
    let pair = pair("2026-06-01T05:00:00Z", &["shop"], true, "  - match: nobody\n    idle_timeout: 1m").await;
    eventually!(pair.states("shop") == [AppState::Awake; 2]);
    let (leaders, followers) = (pair.leader.app_at("cloud", "shop"), pair.follower.app_at("cloud", "shop"));
    let until = pair.clock.unix_millis() + 7_200_000;
    pair.follower.running.lifecycle().pin(&followers, until, somebody()).await.unwrap();
    eventually!(pair.leader.running.lifecycle().outlook(&leaders).pinned_until == Some(until));
    pair.clock.advance(60 * MINUTE);
    pair.stays("shop", AppState::Awake).await;
    let slept = pair.leader.running.lifecycle().sleep_now(&leaders, somebody()).await;
    assert!(matches!(&slept, Slept::Kept(why) if why.contains("pinned")), "{slept:?}");
    pair.leader.running.lifecycle().unpin(&leaders, somebody()).await.unwrap();
    let follower = pair.follower.running.lifecycle();
    eventually!(follower.sleep_now(&followers, somebody()).await == Slept::Yes);
    eventually!(pair.states("shop") == [AppState::Asleep; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wakes_at_any_gateway_count() {
    let rule = "  - match: shop\n    limits: { wakes_per_hour: 2 }";
    let pair = pair("2026-06-01T05:00:00Z", &["shop"], false, rule).await;
    for gateway in [&pair.leader, &pair.follower] {
        assert_eq!(gateway.get("shop", "/").send().await.unwrap().status(), 200);
        eventually!(pair.states("shop") == [AppState::Awake; 2]);
        eventually!(gateway.app_at("cloud", "shop").in_flight() == 0);
        eventually!(pair.leader.stop_at("cloud", "shop").await == Slept::Yes);
        eventually!(pair.states("shop") == [AppState::Asleep; 2]);
    }
    for gateway in [&pair.leader, &pair.follower] {
        let (lifecycle, app) = (gateway.running.lifecycle(), gateway.app_at("cloud", "shop"));
        let Admission::Refuse(refused) = lifecycle.admit(&app, Demand::Wake, somebody) else { panic!() };
        assert!(matches!(refused.reason, Refusal::Limited { .. }), "{:?}", refused.reason);
    }
    assert_eq!(pair.platform.starts("shop"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_sleeps_when_all_of_it_is_idle_at_all_gateways() {
    let rule = "  - match: 'shop-(front|back)'\n    wakes_with: ['shop-back']";
    // Idle times in a fleet are also told to Redis, whose clock nobody moves.
    let pair = pair_by(Clock::system(), "1s", &["shop-front", "shop-back"], false, rule).await;
    let open = websocket(pair.follower.address, "shop-front.test").await;
    eventually!(pair.platform.in_flight("shop-front") == 1, "used at the gateway that does not decide");
    eventually!(pair.states("shop-back") == [AppState::Awake; 2]);
    let stops = || (pair.platform.stops("shop-front"), pair.platform.stops("shop-back"));
    throughout!(Duration::from_secs(5), stops() == (0, 0), "{:?}", stops());
    drop(open);
    eventually!(pair.states("shop-front") == [AppState::Asleep; 2]);
    eventually!(pair.states("shop-back") == [AppState::Asleep; 2]);
    assert_eq!((pair.platform.stops("shop-front"), pair.platform.stops("shop-back")), (1, 1));
}
