//! Several gateways that share one Redis: woken once, never stopped while in use, nothing lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::Barrier;

use crate::{
    eventually,
    simulators::Platform,
    support::{
        fleet::{ENTRY, Fleet, Plan, fleet, knob, seconds, status},
        redis::Redis,
        websocket,
    },
};

/// Gateways that share a Redis and tell each other often what they know, since these stories are short.
pub async fn gateways(size: usize, redis: &Redis) -> Plan {
    let plan = fleet(size).await.sharing(redis);
    plan.registry("lease: 2s").registry("flush_interval: 200ms")
}

/// Waits until each of them has joined.
pub async fn all_joined(fleet: &Fleet) {
    for number in 0..fleet.size() {
        fleet.says(number, "joined the fleet").await;
    }
}

/// What Redis remembers of an app.
pub async fn record(redis: &Redis, app: &str) -> Option<Value> {
    let text = redis.text(&["GET", &format!("loir:v1:app:{ENTRY}/{app}")]).await?;
    Some(serde_json::from_str(&text).unwrap())
}

/// The gateway that leads, once one does.
pub async fn leader(fleet: &Fleet) -> usize {
    let leads = |of: usize| {
        let log = fleet.log(of);
        fleet.runs(of) && log.rfind("leads the fleet") > log.rfind("does not lead the fleet")
    };
    let found = || (0..fleet.size()).find(|of| leads(*of));
    eventually!(found().is_some(), "somebody leads, after\n{}", fleet.logs());
    found().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_one_without_a_registry_wakes_stops_and_is_killed_and_frozen() {
    let mut fleet = fleet(1).await.apps(["shop"]).defaults("idle_timeout: 300ms").start().await;
    assert_eq!(fleet.status(0, "shop", "/r/1").await, 200);
    assert_eq!((fleet.starts_asked("shop").len(), fleet.starts_in_flight("shop")), (1, 0));
    assert!(fleet.agrees("shop", "awake").await, "{}", fleet.tells(0, "shop").await);
    let open = websocket(fleet.address(0), "shop.test").await;
    eventually!(fleet.platform.in_flight("shop") == 1);
    drop(open);
    eventually!(fleet.platform.in_flight("shop") == 0);
    eventually!(fleet.stops_asked().len() == 1);
    assert!(fleet.busy_stops().is_empty());
    fleet.freeze(0);
    assert!(tokio::time::timeout(Duration::from_millis(200), fleet.status(0, "shop", "/r/2")).await.is_err());
    fleet.thaw(0);
    assert_eq!(fleet.status(0, "shop", "/r/3").await, 200);
    fleet.kill(0).await;
    assert_eq!(fleet.status(0, "shop", "/r/4").await, 0);
    fleet.restart(0).await;
    eventually!(fleet.status(0, "shop", "/r/5").await == 200);
    fleet.end(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_requests_at_three_gateways_cause_one_start_each_round_and_all_are_answered() {
    const CLIENTS: usize = 1000;
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.apps(["shop"]).defaults("idle_timeout: 700ms");
    // Long enough for all to come before the first is answered, even on a busy machine.
    plan.platform().set_boot("shop", Duration::from_secs(1));
    let fleet = Arc::new(plan.start().await);
    all_joined(&fleet).await;
    for round in 1..=knob("LOIR_ROUNDS", 20) {
        let together = Arc::new(Barrier::new(CLIENTS));
        let clients = (0..CLIENTS).map(|number| {
            let (fleet, together) = (fleet.clone(), together.clone());
            tokio::spawn(async move {
                let request = fleet.get(number % 3, "shop", &format!("/r/{number}"));
                together.wait().await;
                status(request).await
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut answered = 0;
        for client in clients {
            answered += usize::from(client.await.unwrap() == 200);
        }
        assert_eq!(answered, CLIENTS, "in round {round}");
        assert_eq!(fleet.starts_asked("shop").len(), 1, "in round {round}, after\n{}", fleet.logs());
        eventually!(fleet.platform.state("shop") == "stopped", "idle after round {round}\n{}", fleet.logs());
        eventually!(fleet.agrees("shop", "asleep").await, "asleep after round {round}\n{}", fleet.logs());
        assert!(fleet.busy_stops().is_empty(), "in round {round}");
        fleet.platform.clear_orders();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_are_hardly_idle_under_random_traffic_lose_no_request_and_are_never_stopped_in_use() {
    const APPS: [&str; 12] =
        ["anna", "bert", "carl", "dora", "emil", "fritz", "gerda", "hans", "ida", "jan", "kurt", "lena"];
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.apps(APPS).defaults("idle_timeout: 200ms");
    let fleet = Arc::new(plan.start().await);
    all_joined(&fleet).await;
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..24).map(|_| {
        let (fleet, over, sent) = (fleet.clone(), over.clone(), sent.clone());
        tokio::spawn(async move {
            let mut lost = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let (of, app) = (fastrand::usize(..3), APPS[fastrand::usize(..APPS.len())]);
                let path =
                    format!("/slow?ms={}&r={}", fastrand::u32(..150), sent.fetch_add(1, Ordering::Relaxed));
                let status = fleet.status(of, app, &path).await;
                if status != 200 {
                    lost.push((of, app, path, status));
                }
                // From one right after the other to longer than the idle time.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..600))).await;
            }
            lost
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(seconds("LOIR_RANDOM_SECONDS", 20)).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        assert_eq!(client.await.unwrap(), [], "lost");
    }
    let (sent, stops) = (sent.load(Ordering::Relaxed), fleet.stops_asked().len());
    println!("{sent} requests, {stops} stops");
    assert!(stops > 3, "apps fell asleep in between: {stops} stops, {sent} requests\n{}", fleet.logs());
    assert_eq!(fleet.busy_stops().len(), 0, "{:?}", fleet.busy_stops());
    let turned_away = fleet.turned_away("/slow").len();
    assert_eq!(turned_away, 0, "a request was on its way to an app that was stopped\n{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_at_one_gateway_keeps_the_leader_from_stopping_its_app() {
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.apps(["shop", "blog"]).defaults("idle_timeout: 300ms");
    let fleet = plan.start().await;
    all_joined(&fleet).await;
    let other = (leader(&fleet).await + 1) % 3;
    assert_eq!(fleet.status(other, "shop", "/").await, 200);
    let open = websocket(fleet.address(other), "shop.test").await;
    // Meanwhile another app falls asleep again and again.
    for stops in 1..=3 {
        assert_eq!(fleet.status(stops % 3, "blog", "/").await, 200);
        eventually!(fleet.platform.stops("blog") == stops, "it is idle\n{}", fleet.logs());
    }
    assert_eq!(fleet.platform.stops("shop"), 0, "{}", fleet.logs());
    drop(open);
    eventually!(fleet.platform.stops("shop") == 1, "nobody uses it any more\n{}", fleet.logs());
    assert!(fleet.busy_stops().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_at_keys_or_empties_anything_or_touches_what_is_not_the_fleets() {
    let redis = Redis::start().await;
    redis.text(&["SET", "somebody:else", "1"]).await;
    let watch = redis.watch().await;
    let plan = gateways(3, &redis).await.apps(["shop", "blog"]).running(["news"]);
    let mut fleet = plan.defaults("idle_timeout: 300ms").option("list_every: 300ms").start().await;
    all_joined(&fleet).await;
    for (of, app) in ["shop", "blog", "news", "shop"].into_iter().enumerate() {
        assert_eq!(fleet.status(of % 3, app, "/").await, 200);
        eventually!(fleet.platform.state(app) == "stopped", "{app} is idle\n{}", fleet.logs());
    }
    fleet.platform.delete("blog");
    fleet.platform.rename("news", "gazette");
    eventually!(fleet.tells(1, "gazette").await["state"] == "asleep");
    let lists = fleet.platform.count("GET", "/v1/apps");
    eventually!(fleet.platform.count("GET", "/v1/apps") > lists + 2, "lists go on");
    fleet.end(leader(&fleet).await).await;
    fleet.kill(leader(&fleet).await).await;
    let heard = watch.end_within(&redis, "loir").await;
    assert!(heard.iter().any(|said| said.by == "lua"), "scripts were heard as well");
    assert!(redis.keys().await.iter().all(|key| key.starts_with("loir:v1:") || key == "somebody:else"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fleets_share_a_database_and_know_nothing_of_each_other() {
    let redis = Redis::start().await;
    let mine = gateways(1, &redis).await.apps(["shop"]).start().await;
    let plan = fleet(1).await.sharing(&redis).prefixed("other");
    let theirs = plan.apps(["shop"]).start().await;
    all_joined(&mine).await;
    all_joined(&theirs).await;
    assert_eq!(mine.status(0, "shop", "/").await, 200);
    assert_eq!(theirs.tells(0, "shop").await["state"], "asleep");
    assert_eq!((mine.platform.starts("shop"), theirs.platform.starts("shop")), (1, 0));
    let keys = redis.keys().await;
    for prefix in ["loir:v1:", "other:v1:"] {
        assert!(keys.contains(&format!("{prefix}app:{ENTRY}/shop")), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gateways_cost_an_account_no_more_lists_than_one() {
    let redis = Redis::start().await;
    let usual = async |size: usize, redis: &Redis| {
        let plan = gateways(size, redis).await.apps(["shop"]).option("list_every: 1s");
        let fleet = plan.start().await;
        all_joined(&fleet).await;
        fleet
    };
    let ten = usual(10, &redis).await;
    let alone = Redis::start().await;
    let one = usual(1, &alone).await;
    for fleet in [&ten, &one] {
        fleet.platform.clear_calls();
    }
    let lists = |fleet: &Fleet| fleet.platform.count("GET", "/v1/apps");
    eventually!(lists(&one) >= 8);
    let (of_ten, of_one) = (lists(&ten), lists(&one));
    println!("ten gateways listed {of_ten} times, one {of_one} times");
    // Each of the ten would make it eighty; a machine that was busy with one of them may make it a few more.
    assert!(
        (1..=of_one + 4).contains(&of_ten),
        "{of_ten} lists of ten gateways, {of_one} of one\n{}",
        ten.logs()
    );
    ten.platform.add("late", &[("web", 1)], false);
    for number in 0..10 {
        eventually!(
            ten.tells(number, "late").await["state"] == "asleep",
            "{number} hears of it\n{}",
            ten.log(number)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_off_by_an_hour_changes_nothing() {
    // Asked for its library only: it starts its program as a child, which would outlive it.
    let told = std::process::Command::new("faketime").args(["-f", "+1h", "printenv", "LD_PRELOAD"]).output();
    let missing = "faketime is not installed: `make test` installs it where it can (scripts/setup test)";
    let library = String::from_utf8(told.expect(missing).stdout).unwrap();
    for off in ["+1h", "-1h"] {
        let redis = Redis::start().await;
        let plan = gateways(3, &redis).await.apps(["shop"]).defaults("idle_timeout: 400ms");
        // Its clock for the time of day only: no system changes the other one.
        let plan = plan.env(1, "LD_PRELOAD", library.trim()).env(1, "FAKETIME", off);
        let plan = plan.env(1, "DONT_FAKE_MONOTONIC", "1").env(1, "FAKETIME_DONT_FAKE_MONOTONIC", "1");
        plan.platform().set_boot("shop", Duration::from_millis(500));
        let fleet = plan.start().await;
        all_joined(&fleet).await;
        let hour = |of: usize| fleet.log(of).split(':').next().map(str::to_owned);
        assert_ne!(hour(0), hour(1), "its clock is off");
        for round in 1..=3 {
            // Together, so that any of the three may be the one that starts it.
            let (first, second, third) = tokio::join!(
                fleet.status(0, "shop", "/"),
                fleet.status(1, "shop", "/"),
                fleet.status(2, "shop", "/")
            );
            assert_eq!((first, second, third), (200, 200, 200), "{off}");
            assert_eq!(fleet.platform.starts("shop"), round, "{off}");
            assert_eq!(fleet.starts_asked("shop").len(), round, "{off}\n{}", fleet.logs());
            eventually!(fleet.platform.stops("shop") == round, "{off}: it is idle\n{}", fleet.logs());
            eventually!(fleet.agrees("shop", "asleep").await, "{off}: asleep\n{}", fleet.logs());
        }
        assert!(fleet.busy_stops().is_empty(), "{off}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_when_the_leader_ends_or_is_killed() {
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.apps(["shop"]).defaults("idle_timeout: 300ms");
    let mut fleet = plan.start().await;
    all_joined(&fleet).await;
    for harm in ["ends", "is killed"] {
        let first = leader(&fleet).await;
        match harm {
            "ends" => fleet.end(first).await,
            _ => fleet.kill(first).await,
        }
        let others: Vec<_> = (0..3).filter(|of| fleet.runs(*of)).collect();
        eventually!(others.iter().any(|of| fleet.log(*of).contains("leads the fleet")), "{}", fleet.logs());
        // And it sweeps.
        let stops = fleet.platform.stops("shop");
        assert_eq!(fleet.status(others[0], "shop", "/").await, 200, "when the leader {harm}");
        eventually!(fleet.platform.stops("shop") == stops + 1, "when the leader {harm}\n{}", fleet.logs());
    }
}
