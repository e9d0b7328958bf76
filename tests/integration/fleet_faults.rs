//! What a fleet does while its Redis, or one of its own, is hurt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    eventually,
    fleet::{all_joined, gateways, leader, record},
    simulators::Platform,
    support::{
        fleet::{Fleet, fleet, knob, seconds},
        redis::Redis,
        sentinels::Sentinels,
        websocket,
    },
    throughout,
};

/// Requests to running apps, one after the other at every gateway, until it ends.
struct Traffic {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn begin(fleet: &Arc<Fleet>, apps: &[&'static str]) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let pairs = apps.iter().flat_map(|app| (0..fleet.size()).map(move |of| (of, *app)));
        let clients = pairs.map(|(of, app)| {
            let (fleet, over, answered) = (fleet.clone(), over.clone(), answered.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match fleet.status(of, app, "/r").await {
                        200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        status => failed.push(format!("{status} from {of} for {app}")),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                failed
            })
        });
        Self { clients: clients.collect(), over, answered }
    }

    /// Waits until so many more were answered.
    async fn goes_on(&self, requests: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually!(self.answered.load(Ordering::Relaxed) >= before + requests, "traffic goes on");
    }

    /// Ends it; what was not answered 200.
    async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for client in self.clients {
            failed.extend(client.await.unwrap());
        }
        failed
    }
}

/// How often each gateway has joined.
fn joins(fleet: &Fleet) -> Vec<usize> {
    (0..fleet.size()).map(|of| fleet.log(of).matches("joined the fleet").count()).collect()
}

/// Waits until all know that Redis is away.
async fn all_blind(fleet: &Fleet) {
    for of in 0..fleet.size() {
        fleet.says(of, "the registry is lost").await;
    }
}

/// Three gateways under steady traffic to two running apps; Redis goes away and comes back.
async fn away_and_back(harm: impl AsyncFnOnce(&mut Redis), back: impl AsyncFnOnce(&mut Redis)) {
    let mut redis = Redis::with().lasting().start().await;
    let plan = gateways(3, &redis).await.running(["shop", "blog", "idle"]).apps(["late"]);
    let fleet = Arc::new(plan.defaults("idle_timeout: 3s").start().await);
    all_joined(&fleet).await;
    let traffic = Traffic::begin(&fleet, &["shop", "blog"]);
    traffic.goes_on(50).await;
    // Nobody comes for this one from now on.
    assert_eq!(fleet.status(0, "idle", "/r").await, 200);
    let before = (joins(&fleet), fleet.platform.stops("idle"));
    harm(&mut redis).await;
    all_blind(&fleet).await;
    assert_eq!(fleet.status(1, "late", "/r").await, 200, "wakes go on\n{}", fleet.logs());
    let away = seconds("LOIR_AWAY_SECONDS", 5);
    tokio::time::sleep(away).await;
    // Not even the idle one was stopped, although its time was over; but a stop may have begun before.
    assert_eq!(fleet.platform.stops("idle"), before.1, "stopped while blind\n{}", fleet.logs());
    assert_eq!(fleet.stops_asked().len(), before.1, "stopped while blind\n{}", fleet.logs());
    back(&mut redis).await;
    let returned = Instant::now();
    eventually!(
        joins(&fleet).iter().zip(&before.0).all(|(now, before)| now > before),
        "all join again\n{}",
        fleet.logs()
    );
    eventually!(fleet.agrees("late", "awake").await, "all know what one has woken\n{}", fleet.logs());
    eventually!(record(&redis, "late").await.is_some_and(|record| record["state"] == "awake"));
    println!("agreed {:?} after Redis came back", returned.elapsed());
    traffic.goes_on(50).await;
    assert_eq!(traffic.end().await, Vec::<String>::new(), "requests failed");
    assert_eq!((fleet.platform.stops("shop"), fleet.platform.stops("blog")), (0, 0));
    assert_eq!(fleet.starts_asked("late").len(), 1);
    assert!(fleet.busy_stops().is_empty());
    // And it works again: the idle ones fall asleep.
    eventually!(fleet.platform.stops("idle") == before.1 + 1, "idle\n{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_started_again_costs_no_request_and_no_stop() {
    away_and_back(async |redis| redis.kill().await, async |redis| redis.restart().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_frozen_costs_no_request_and_no_stop() {
    away_and_back(async |redis| redis.freeze(), async |redis| redis.thaw()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_answers_nobody_costs_no_request_and_no_stop() {
    // In this mode not even CLIENT UNPAUSE is taken: it lasts as long as it was told at first.
    let pause = seconds("LOIR_AWAY_SECONDS", 5) + Duration::from_secs(3);
    let harm = async |redis: &mut Redis| redis.pause_clients(pause).await;
    let back = async |redis: &mut Redis| redis.answers().await;
    away_and_back(harm, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stopped_without_the_word_of_a_gateway_that_stands_still() {
    let redis = Redis::start().await;
    let plan = fleet(3).await.sharing(&redis).registry("lease: 4s").registry("flush_interval: 200ms");
    let fleet = plan.apps(["shop"]).defaults("idle_timeout: 300ms").start().await;
    all_joined(&fleet).await;
    let other = (leader(&fleet).await + 1) % 3;
    assert_eq!(fleet.status(other, "shop", "/r").await, 200);
    // Only this one knows of it.
    let mut open = websocket(fleet.address(other), "shop.test").await;
    fleet.freeze(other);
    let asked = || fleet.logs().contains("no word from the gateways");
    eventually!(asked() || !fleet.stops_asked().is_empty(), "it is asked for\n{}", fleet.logs());
    assert_eq!(fleet.stops_asked().len(), 0, "stopped without its word\n{}", fleet.logs());
    fleet.thaw(other);
    open.send(Message::text("still there")).await.unwrap();
    assert_eq!(open.next().await.unwrap().unwrap(), Message::text("still there"));
    drop(open);
    eventually!(fleet.platform.stops("shop") == 1, "nobody uses it any more\n{}", fleet.logs());
    assert!(fleet.busy_stops().is_empty());
}

/// The holder of a wake's lease stands still, at one of two moments, until the lease is long over.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stands_still_in_the_middle_of_a_wake_causes_a_second_start_at_most() {
    let redis = Redis::start().await;
    let plan = fleet(3).await.sharing(&redis).registry("lease: 1s").registry("response_timeout: 500ms");
    let plan = plan.registry("flush_interval: 200ms").defaults("idle_timeout: 500ms").apps(["shop"]);
    plan.platform().set_boot("shop", Duration::from_millis(400));
    let fleet = Arc::new(plan.start().await);
    all_joined(&fleet).await;
    let mut epoch = 0;
    // Fifty in `benchmarks/`.
    for round in 1..=knob("LOIR_FROZEN_ROUNDS", 8) as usize {
        let (holder, others) = (round % 3, [(round + 1) % 3, (round + 2) % 3]);
        let ask = |of: usize| {
            let fleet = fleet.clone();
            tokio::spawn(async move { fleet.status(of, "shop", "/r").await })
        };
        let first = ask(holder);
        if round.is_multiple_of(2) {
            eventually!(!fleet.starts_asked("shop").is_empty());
        } else {
            eventually!(record(&redis, "shop").await.is_some_and(|record| record["state"] == "waking"));
        }
        fleet.freeze(holder);
        let frozen = Instant::now();
        let rest = others.map(ask);
        for request in rest {
            // Whoever waits is answered without the one that stands still.
            let answer = tokio::time::timeout(Duration::from_secs(20), request).await;
            assert_eq!(answer.expect("answered").unwrap(), 200, "in round {round}\n{}", fleet.logs());
        }
        tokio::time::sleep(Duration::from_millis(1500).saturating_sub(frozen.elapsed())).await;
        fleet.thaw(holder);
        assert_eq!(first.await.unwrap(), 200, "in round {round}\n{}", fleet.logs());
        let mut latest = async || {
            let now = record(&redis, "shop").await.unwrap()["epoch"].as_u64().unwrap();
            assert!(now >= epoch, "in round {round} the epoch went from {epoch} to {now}");
            epoch = now;
        };
        latest().await;
        eventually!(
            {
                latest().await;
                fleet.platform.state("shop") == "stopped" && fleet.agrees("shop", "asleep").await
            },
            "asleep after round {round}\n{}",
            fleet.logs()
        );
        let starts = fleet.starts_asked("shop").len();
        assert!((1..=2).contains(&starts), "{starts} starts in round {round}\n{}", fleet.logs());
        assert!(fleet.busy_stops().is_empty(), "in round {round}\n{}", fleet.logs());
        fleet.platform.clear_orders();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_in_the_middle_of_a_wake_is_replaced_without_a_second_start() {
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.apps(["shop"]);
    plan.platform().set_boot("shop", Duration::from_secs(1));
    let mut fleet = plan.start().await;
    all_joined(&fleet).await;
    let lost = tokio::spawn(fleet.get(0, "shop", "/r").send());
    eventually!(fleet.starts_asked("shop").len() == 1);
    fleet.kill(0).await;
    let (second, third) = tokio::join!(fleet.status(1, "shop", "/r"), fleet.status(2, "shop", "/r"));
    assert_eq!((second, third), (200, 200), "{}", fleet.logs());
    assert!(lost.await.unwrap().is_err(), "the one at the killed gateway");
    assert_eq!(fleet.starts_asked("shop").len(), 1, "{}", fleet.logs());
    eventually!(
        record(&redis, "shop").await.is_some_and(|record| record["state"] == "awake"),
        "{}",
        fleet.logs()
    );
}

/// The leader dies at a place in the middle of a stop or a wake of its own.
async fn dies_at(place: &str) {
    let redis = Redis::start().await;
    let plan = gateways(3, &redis).await.first_leads().env(0, "LOIR_DIE_AT", place);
    let plan = plan.app("shop", &[("web", 2), ("worker", 2)]).defaults("idle_timeout: 500ms");
    if place.starts_with("wake") {
        plan.platform().stop_by_hand("shop");
    }
    let mut fleet = plan.start().await;
    let waits = place.starts_with("wake").then(|| tokio::spawn(fleet.get(0, "shop", "/r").send()));
    fleet.dies(0).await;
    let died = Instant::now();
    if let Some(request) = waits {
        assert!(request.await.unwrap().is_err(), "it died with the gateway");
    }
    let agree = async |there: &str, here: &str| {
        fleet.platform.state("shop") == there
            && record(&redis, "shop").await.is_some_and(|one| one["state"] == here)
    };
    eventually!(
        agree("stopped", "asleep").await || agree("running", "awake").await,
        "{place}: the registry says what is true: {:?}\n{}",
        record(&redis, "shop").await,
        fleet.logs()
    );
    println!("{place}: agreed after {:?}", died.elapsed());
    eventually!(agree("stopped", "asleep").await, "{place}: nobody uses it\n{}", fleet.logs());
    eventually!(fleet.agrees("shop", "asleep").await, "{place}\n{}", fleet.logs());
    assert_eq!(fleet.status(2, "shop", "/r").await, 200, "{place}\n{}", fleet.logs());
    if place.starts_with("stop") {
        let runs = fleet.platform.formation("shop");
        assert_eq!((runs["web"], runs["worker"]), (2, 2), "{place}\n{}", fleet.logs());
    }
    assert!(
        fleet.busy_stops().is_empty() && fleet.starts_in_flight("shop") == 0,
        "{place}\n{}",
        fleet.logs()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_at_any_step_of_a_stop_leaves_nothing_wrong_behind() {
    for place in ["stop:begun", "stop:agreed", "stop:saved", "stop:stopped", "stop:done"] {
        dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_at_any_step_of_a_wake_leaves_nothing_wrong_behind() {
    for place in ["wake:begun", "wake:started"] {
        dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_back_empty_is_told_again_what_ran() {
    let mut redis = Redis::start().await;
    let plan = gateways(2, &redis).await.app("shop", &[("web", 2), ("worker", 2)]).running(["blog"]);
    let fleet = plan.defaults("idle_timeout: 1s").start().await;
    all_joined(&fleet).await;
    eventually!(fleet.platform.state("shop") == "stopped", "idle\n{}", fleet.logs());
    eventually!(fleet.agrees("shop", "asleep").await, "{}", fleet.logs());
    let known = record(&redis, "shop").await.unwrap();
    assert!(known["formation"].to_string().contains("worker"), "{known}");
    let before = joins(&fleet);
    redis.restart_empty().await;
    eventually!(joins(&fleet).iter().zip(&before).all(|(now, before)| now > before), "{}", fleet.logs());
    eventually!(
        record(&redis, "shop").await.is_some_and(|record| record["formation"] == known["formation"]),
        "told again\n{}",
        fleet.logs()
    );
    assert!(record(&redis, "shop").await.unwrap()["epoch"].as_u64() >= known["epoch"].as_u64());
    assert_eq!(fleet.status(1, "shop", "/r").await, 200);
    let runs = fleet.platform.formation("shop");
    assert_eq!((runs["web"], runs["worker"]), (2, 2), "{}", fleet.logs());
    assert_eq!(fleet.starts_asked("shop").len(), 1);
}

/// Redis takes no write any more, and then it does again: apps are served and woken meanwhile, and none is stopped.
async fn no_writes(harm: impl AsyncFnOnce(&Redis), back: impl AsyncFnOnce(&Redis), said: &str) {
    let redis = Redis::start().await;
    let plan = gateways(2, &redis).await.running(["shop"]).apps(["late"]).defaults("idle_timeout: 2s");
    let fleet = Arc::new(plan.start().await);
    all_joined(&fleet).await;
    let traffic = Traffic::begin(&fleet, &["shop"]);
    traffic.goes_on(20).await;
    harm(&redis).await;
    all_blind(&fleet).await;
    for of in 0..2 {
        fleet.says(of, said).await;
    }
    assert_eq!(fleet.status(0, "late", "/r").await, 200, "wakes go on\n{}", fleet.logs());
    // Longer than the idle time.
    let nobody = || fleet.stops_asked().is_empty();
    throughout!(Duration::from_secs(4), nobody(), "nobody stops\n{}", fleet.logs());
    back(&redis).await;
    eventually!(fleet.agrees("late", "awake").await || fleet.platform.stops("late") == 1, "{}", fleet.logs());
    eventually!(fleet.platform.stops("late") == 1, "idle, and stopped again\n{}", fleet.logs());
    assert_eq!(traffic.end().await, Vec::<String>::new());
    assert_eq!((fleet.platform.stops("shop"), fleet.busy_stops().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_costs_no_request_and_no_stop() {
    let (harm, back) =
        (async |redis: &Redis| redis.is_full(true).await, async |redis: &Redis| redis.is_full(false).await);
    no_writes(harm, back, "give it more memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_became_a_replica_costs_no_request_and_no_stop() {
    let harm = async |redis: &Redis| redis.is_read_only(true).await;
    let back = async |redis: &Redis| redis.is_read_only(false).await;
    no_writes(harm, back, "this is a replica").await;
}

/// The gateways begin without Redis, serve what they can, and join when it is there.
async fn joins_later(url: &str, said: &str, back: impl AsyncFnOnce() -> Redis) {
    let plan = fleet(2).await.sharing_at(url).registry("lease: 2s").registry("flush_interval: 200ms");
    let fleet = plan.running(["shop"]).apps(["late"]).defaults("idle_timeout: 1s").start().await;
    for of in 0..2 {
        fleet.says(of, said).await;
        assert_eq!(fleet.status(of, "shop", "/r").await, 200, "{}", fleet.logs());
        assert!(!fleet.log(of).contains("sesame"), "no password is ever said");
    }
    assert_eq!(fleet.status(0, "late", "/r").await, 200, "{}", fleet.logs());
    let nobody = || fleet.stops_asked().is_empty();
    throughout!(Duration::from_secs(3), nobody(), "nobody stops\n{}", fleet.logs());
    let redis = back().await;
    all_joined(&fleet).await;
    eventually!(
        record(&redis, "shop").await.is_some() && record(&redis, "late").await.is_some(),
        "{}",
        fleet.logs()
    );
    eventually!(fleet.platform.stops("shop") == 1 && fleet.platform.stops("late") == 1, "{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_begin_without_redis_and_join_when_it_is_there() {
    let absent = Redis::with().absent();
    joins_later(&absent.url(), "cannot be used", async || absent.begin().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_begin_with_a_redis_that_hangs_and_join_when_it_answers() {
    let redis = Redis::start().await;
    redis.freeze();
    let url = redis.url();
    let back = async || {
        redis.thaw();
        redis
    };
    joins_later(&url, "cannot be used", back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_begin_with_a_redis_that_reads_its_disk_and_join_when_it_has() {
    let mut redis = Redis::with().slow_to_load().start().await;
    for number in 0..100 {
        redis.text(&["SET", &format!("somebody:{number}"), &"x".repeat(2000)]).await;
    }
    redis.text(&["SAVE"]).await;
    redis.begin_again().await;
    joins_later(&redis.url(), "it is reading its data from the disk", async || {
        redis.answers().await;
        redis
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_begin_with_a_wrong_password_say_so_and_join_when_it_is_right() {
    let redis = Redis::with().password("open-sesame").start().await;
    let url = redis.url().replace("open-sesame", "close-sesame");
    let back = async || {
        redis.text(&["ACL", "SETUSER", "default", ">close-sesame"]).await;
        redis
    };
    joins_later(&url, "check the user name and password", back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_writes_costs_a_moment() {
    let mut sentinels = Sentinels::start().await;
    let plan =
        fleet(3).await.sharing_at(&sentinels.url()).registry("lease: 2s").registry("flush_interval: 200ms");
    let plan = plan.running(["shop"]).apps(["early", "late", "last"]).defaults("idle_timeout: 4s");
    let fleet = Arc::new(plan.start().await);
    all_joined(&fleet).await;
    let traffic = Traffic::begin(&fleet, &["shop"]);
    assert_eq!(fleet.status(0, "early", "/r").await, 200);
    let before = joins(&fleet);
    sentinels.cut_replication().await;
    // What is remembered of this one is lost with the first Redis.
    assert_eq!(fleet.status(0, "late", "/r").await, 200);
    sentinels.fail_over().await;
    let over = Instant::now();
    eventually!(joins(&fleet).iter().zip(&before).all(|(now, before)| now > before), "{}", fleet.logs());
    for of in 0..3 {
        for app in ["early", "late", "last"] {
            assert_eq!(fleet.status(of, app, "/r").await, 200, "{app} at {of}\n{}", fleet.logs());
        }
    }
    println!("the fleet went on {:?} after the failover", over.elapsed());
    assert_eq!(traffic.end().await, Vec::<String>::new());
    for app in ["early", "late", "last"] {
        assert_eq!(fleet.starts_asked(app).len(), 1 + fleet.platform.stops(app), "{app}\n{}", fleet.logs());
    }
    assert!(fleet.busy_stops().is_empty(), "{}", fleet.logs());
    // And it works again: what nobody uses falls asleep.
    eventually!(
        ["early", "late", "last", "shop"].iter().all(|app| fleet.platform.stops(app) >= 1),
        "{}",
        fleet.logs()
    );
    let there = record(&sentinels.second, "late").await;
    assert!(there.is_some(), "it is remembered where the primary is now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_without_redis_brings_back_all_that_ran_before_the_sleep() {
    let redis = Redis::start().await;
    let plan = gateways(2, &redis).await.app("shop", &[("web", 2), ("worker", 2)]);
    let fleet = plan.defaults("idle_timeout: 1s").start().await;
    all_joined(&fleet).await;
    eventually!(fleet.agrees("shop", "asleep").await, "{}", fleet.logs());
    redis.freeze();
    assert_eq!(fleet.status(1, "shop", "/r").await, 200, "{}", fleet.logs());
    let runs = fleet.platform.formation("shop");
    assert_eq!((runs["web"], runs["worker"]), (2, 2), "{}", fleet.logs());
    redis.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_goes_without_a_lost_connection_is_noticed() {
    let redis = Redis::start().await;
    let plan = gateways(2, &redis).await.running(["shop"]).defaults("idle_timeout: 4s");
    let fleet = plan.start().await;
    all_joined(&fleet).await;
    eventually!(record(&redis, "shop").await.is_some());
    // All at once: what is written anew in between must not go as well.
    let keys = redis.keys().await;
    let all = ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect::<Vec<_>>();
    redis.command(&all).await.unwrap();
    eventually!(fleet.log(0).contains("it has lost its data"), "{}", fleet.logs());
    eventually!(fleet.platform.stops("shop") == 1, "and the sweep goes on\n{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_keeps_no_other_app_from_being_stopped() {
    let redis = Redis::start().await;
    let plan = gateways(2, &redis).await.running(["shop"]).apps(["strange"]).defaults("idle_timeout: 1s");
    let fleet = plan.start().await;
    all_joined(&fleet).await;
    let key = format!("loir:v1:app:{}/strange", crate::support::fleet::ENTRY);
    eventually!(redis.text(&["GET", &key]).await.is_some());
    redis.text(&["SET", &key, r#"{"v":2,"state":"dreaming"}"#]).await;
    let app = format!("{}/strange", crate::support::fleet::ENTRY);
    redis.command(&["ZADD", "loir:v1:deadlines", "1", &app]).await.unwrap();
    let stops = fleet.platform.stops("shop");
    assert_eq!(fleet.status(0, "shop", "/r").await, 200);
    eventually!(fleet.platform.stops("shop") > stops, "{}", fleet.logs());
    assert_eq!(fleet.status(1, "strange", "/r").await, 502, "whoever asks for it is told\n{}", fleet.logs());
    assert!(fleet.log(1).contains("update this gateway"), "and the operator why\n{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_in_the_middle_of_a_wake_hands_it_over() {
    let redis = Redis::start().await;
    let plan = fleet(2).await.sharing(&redis).registry("lease: 30s").apps(["shop"]);
    plan.platform().set_boot("shop", Duration::from_secs(3));
    let mut fleet = plan.server("drain_timeout: 1s").start().await;
    all_joined(&fleet).await;
    drop(tokio::spawn(fleet.get(0, "shop", "/r").send()));
    eventually!(fleet.starts_asked("shop").len() == 1, "{}", fleet.logs());
    let waits = tokio::spawn(fleet.get(1, "shop", "/r").send());
    fleet.end(0).await;
    let answer = waits.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200, "long before the lease is over\n{}", fleet.logs());
    assert_eq!(fleet.starts_asked("shop").len(), 1, "and without a second start\n{}", fleet.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_swap_their_names_keep_what_must_come_back() {
    let redis = Redis::start().await;
    let plan = gateways(2, &redis).await.app("one", &[("web", 1)]).app("two", &[("web", 2)]);
    let fleet = plan.option("list_every: 1s").defaults("idle_timeout: 1s").start().await;
    all_joined(&fleet).await;
    for app in ["one", "two"] {
        eventually!(fleet.agrees(app, "asleep").await, "{}", fleet.logs());
    }
    let amount = async |app: &str| {
        record(&redis, app).await.map(|record| record["formation"]["web"]["amount"].clone())
    };
    assert_eq!((amount("one").await, amount("two").await), (Some(1.into()), Some(2.into())));
    fleet.platform.swap("one", "two");
    eventually!(amount("one").await == Some(2.into()), "{}", fleet.logs());
    eventually!(amount("two").await == Some(1.into()), "{}", fleet.logs());
}
