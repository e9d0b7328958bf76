//! What has happened is kept: the same story for every store, and the stores' own troubles.

use std::{
    collections::HashSet,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loir::{
    app::AppId,
    clock::Clock,
    config::{HistoryConfig, Pattern, secret::Secret},
    history::{
        Batch, Entry, EventId, History, Hour, Query, Store, Tally,
        memory::Memory,
        postgres::PostgresStore,
        sqlite::SqliteStore,
        tally::{HOUR, Spans},
    },
    lifecycle::{Cause, Event, Happening, Run, Witness},
};

use crate::{
    eventually,
    support::{App, gateway, postgres::Postgres},
};

/// 2026-03-01, midnight in UTC.
const MARCH: u64 = 1_772_323_200_000;
const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * HOUR;

fn shop() -> AppId {
    AppId::new("paris", "shop")
}

fn blog() -> AppId {
    AppId::new("heroku", "blog")
}

fn postgres_config(postgres: &Postgres) -> HistoryConfig {
    HistoryConfig { kind: "postgres", url: Some(Secret::new(&postgres.url())), ..HistoryConfig::default() }
}

fn entry(at: u64, sequence: i64, app: &AppId, event: &str, run: &str, cause: Cause) -> Arc<Entry> {
    Arc::new(Entry {
        id: EventId(EventId::at(at).0 + sequence),
        at,
        app: app.clone(),
        event: event.into(),
        text: format!("{event} \u{1f43f} 'quoted' \\ \"text\""),
        cause,
        run: (!run.is_empty()).then(|| run.into()),
        took: (event == "ready").then_some(3_100),
        gateway: "one".into(),
        operation: Some("op-1".into()),
    })
}

fn request() -> Cause {
    Cause::Request { id: "r-1".into(), client: Some("203.0.113.9".parse().unwrap()), agent: "curl/8".into() }
}

fn names(found: &[Entry]) -> Vec<String> {
    found.iter().map(|entry| format!("{} {}", entry.app, entry.event)).collect()
}

fn asleep(from: u16, to: u16) -> Tally {
    Tally { asleep: Spans::of(from, to), ..Tally::default() }
}

/// What every store does.
async fn story(store: &dyn Store) {
    let nothing = store.events(&Query::default()).await.unwrap();
    assert!(nothing.is_empty(), "a store that nobody has opened before is empty");
    let idle = Cause::Idle { rule: Some("rule 3, conf/loir.yaml:41".into()) };
    let entries = vec![
        entry(MARCH, 0, &shop(), "asked-for", "w1", request()),
        entry(MARCH, 1, &shop(), "waking", "w1", request()),
        entry(MARCH + 3_100, 0, &shop(), "ready", "w1", request()),
        entry(MARCH + HOUR, 0, &blog(), "adopted", "", Cause::Provider),
        entry(MARCH + 2 * HOUR, 0, &shop(), "asleep", "s1", idle.clone()),
    ];
    let first = Batch {
        writer: 7,
        number: 1,
        entries: entries.clone(),
        tallies: vec![
            (
                shop(),
                MARCH,
                Tally { wakes: 1, boots: vec![3_100], requests: 40, minutes: 0b11, ..Tally::default() },
            ),
            (shop(), MARCH + 2 * HOUR, asleep(0, 1_800)),
            (blog(), MARCH, Tally { requests: 2, minutes: 1 << 59, ..Tally::default() }),
        ],
    };
    store.record(&first).await.unwrap();
    store.record(&first).await.unwrap();

    let all = store.events(&Query::default()).await.unwrap();
    let newest_first: Vec<Entry> = entries.iter().rev().map(|entry| Entry::clone(entry)).collect();
    assert_eq!(all, newest_first, "a batch that is told twice counts once, and all of it is as it was");

    let ask = async |query: Query| names(&store.events(&query).await.unwrap());
    let of = |app: &str| Query { app: Some(app.into()), ..Query::default() };
    assert_eq!(ask(of("heroku/blog")).await, ["heroku/blog adopted"]);
    assert_eq!(ask(of("sh*")).await.len(), 4);
    assert_eq!(ask(of("*/b?og")).await, ["heroku/blog adopted"]);
    assert!(ask(of("paris/nobody")).await.is_empty() && ask(of("nobody*")).await.is_empty());
    let query = Query { event: Some("ready".into()), ..Query::default() };
    assert_eq!(ask(query).await, ["paris/shop ready"]);
    let query = Query { cause: Some("idle".into()), app: Some("*".into()), ..Query::default() };
    assert_eq!(ask(query).await, ["paris/shop asleep"]);
    let query = Query { run: Some("w1".into()), ..Query::default() };
    assert_eq!(ask(query).await, ["paris/shop ready", "paris/shop waking", "paris/shop asked-for"]);
    let query = Query { since: Some(MARCH + 1), until: Some(MARCH + 2 * HOUR), ..Query::default() };
    assert_eq!(ask(query).await, ["heroku/blog adopted", "paris/shop ready"]);
    let odd = Query {
        app: Some("'; DROP TABLE loir_events; --\0".into()),
        run: Some("\0".into()),
        ..Query::default()
    };
    assert!(ask(odd).await.is_empty());

    let mut pages = Vec::new();
    let mut query = Query { limit: Some(2), ..Query::default() };
    loop {
        let page = store.events(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some(last.id);
        pages.extend(page);
    }
    assert_eq!(pages, newest_first, "page by page, everything comes once");

    let again = Batch {
        writer: 8,
        number: 1,
        entries: vec![],
        tallies: vec![
            (shop(), MARCH, Tally { failed_wakes: 1, requests: 2, minutes: 0b110, ..Tally::default() }),
            (shop(), MARCH + 2 * HOUR, asleep(1_000, 3_600)),
            (shop(), MARCH + DAY, asleep(0, 3_600)),
        ],
    };
    store.record(&again).await.unwrap();
    let hours = store.hours(Some(&Pattern::new("paris/shop")), MARCH, MARCH + 2 * DAY).await.unwrap();
    let shown: Vec<Hour> =
        hours.iter().map(|(_, at, tally)| Hour::new(*at, tally, MARCH + 9 * DAY)).collect();
    let empty = Hour { at: 0, awake_seconds: 3_600, ..Hour::default() };
    let both = Hour {
        at: MARCH,
        wakes: 1,
        failed_wakes: 1,
        boot_p50: Some(3_100),
        boot_p95: Some(3_100),
        requests: 42,
        busy_minutes: 3,
        ..empty.clone()
    };
    let slept = |at| Hour { at, awake_seconds: 0, ..empty.clone() };
    assert_eq!(
        shown,
        [both, slept(MARCH + 2 * HOUR), slept(MARCH + DAY)],
        "what several gateways count adds up"
    );
    let all = store.hours(None, MARCH, MARCH + HOUR).await.unwrap();
    let apps: Vec<_> = all.iter().map(|(app, ..)| app.clone()).collect();
    assert_eq!(apps, [blog(), shop()], "by app, and no hour that begins later");
    assert_eq!(all[0].2.minutes, 1 << 59);

    store.prune(MARCH + HOUR, MARCH + DAY).await.unwrap();
    assert_eq!(ask(Query::default()).await, ["paris/shop asleep", "heroku/blog adopted"]);
    let left = store.hours(None, 0, MARCH + 9 * DAY).await.unwrap();
    assert_eq!(left.len(), 1);
    // So late that nobody remembers it, but for the store.
    store.record(&Batch { number: 1, ..again }).await.unwrap();
}

#[tokio::test]
async fn the_story_in_memory() {
    story(&Memory::default()).await;
}

#[tokio::test]
async fn the_story_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/history.sqlite");
    story(&SqliteStore::at(&path)).await;
    let again = SqliteStore::at(&path).events(&Query::default()).await.unwrap();
    assert_eq!(again.len(), 2, "it is still there for the next gateway");
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn the_story_in_postgres() {
    let postgres = Postgres::start().await;
    story(&PostgresStore::open(&postgres_config(&postgres))).await;
    let again = PostgresStore::open(&postgres_config(&postgres)).events(&Query::default()).await.unwrap();
    assert_eq!(again.len(), 2, "it is still there for the next gateway");
}

/// A table that is locked stands for a server that has gone without a word: what was asked is never answered.
#[tokio::test]
async fn whoever_stops_to_wait_for_postgres_leaves_no_connection_behind_that_hangs() {
    let postgres = Postgres::start().await;
    let config = HistoryConfig { pool: 2, ..postgres_config(&postgres) };
    let store = PostgresStore::open(&config);
    assert!(store.events(&Query::default()).await.unwrap().is_empty());
    let mut somebody = postgres.connect().await.unwrap();
    for statement in ["BEGIN", "LOCK TABLE loir_events"] {
        sqlx::query(statement).execute(&mut somebody).await.unwrap();
    }
    for _ in 0..config.pool {
        let query = Query::default();
        assert!(tokio::time::timeout(Duration::from_millis(300), store.events(&query)).await.is_err());
    }
    assert_eq!(store.hours(None, MARCH, MARCH + DAY).await, Ok(Vec::new()), "the pool has a place");
}

#[tokio::test]
async fn five_gateways_start_at_once_on_an_empty_postgres_and_their_hours_add_up() {
    let postgres = Postgres::start().await;
    let config = postgres_config(&postgres);
    let gateways: Vec<_> = (0..5).map(|_| PostgresStore::open(&config)).collect();
    let write = async |writer: usize, store: &PostgresStore| {
        for number in 1..=20 {
            let tally = Tally { requests: 1, ..asleep((writer * 720) as u16, (writer * 720 + 720) as u16) };
            let apps = [shop(), blog()];
            let tallies = apps.iter().map(|app| (app.clone(), MARCH, tally.clone())).collect();
            let entries =
                vec![entry(MARCH + number as u64, writer as i64, &apps[writer % 2], "ready", "", request())];
            store.record(&Batch { writer: writer as i64, number, entries, tallies }).await.unwrap();
        }
    };
    futures_util::future::join_all(gateways.iter().enumerate().map(|(writer, store)| write(writer, store)))
        .await;
    let hours = gateways[0].hours(None, MARCH, MARCH + 1).await.unwrap();
    let counted: Vec<_> =
        hours.iter().map(|(_, _, tally)| (tally.requests, tally.asleep.is_whole())).collect();
    assert_eq!(counted, [(100, true), (100, true)]);
    assert_eq!(postgres.number("SELECT count(*) FROM loir_events").await, 100);
    assert_eq!(postgres.number("SELECT count(*) FROM loir_schema").await, 1);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.sqlite");
    SqliteStore::at(&path).events(&Query::default()).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO loir_schema (version) VALUES (99)").execute(&pool).await.unwrap();
    let error = SqliteStore::at(&path).events(&Query::default()).await.unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("99"), "{error}");
}

/// Something that happens to `shop`, told as the lifecycle tells it.
fn tell(history: &History, at: u64, event: Event) {
    let run = Some(Run { id: "run".into(), cause: Cause::Gateway });
    history.see(&Happening { at, app: shop(), event, run, gateway: "one".into(), operation: None });
}

fn history_with(store: Arc<dyn Store>, queue: usize, clock: &Clock) -> History {
    History::with(store, HistoryConfig { queue, ..HistoryConfig::default() }, clock.clone())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_sleep_is_counted_from_the_confirmed_stop_to_the_start_that_was_asked_for() {
    let clock = Clock::manual_at(MARCH);
    let history = history_with(Arc::new(Memory::default()), 100, &clock);
    tell(&history, MARCH + 10 * MINUTE, Event::Idle(secs(900)));
    tell(&history, MARCH + 11 * MINUTE + 1, Event::Asleep(secs(60)));
    tell(&history, MARCH + 20 * MINUTE, Event::Pinned { until: MARCH + 2 * HOUR, by: Cause::Gateway });
    tell(&history, MARCH + HOUR + 30 * MINUTE, Event::AskedFor);
    tell(&history, MARCH + HOUR + 31 * MINUTE, Event::Waking);
    tell(&history, MARCH + HOUR + 32 * MINUTE, Event::Ready(secs(120)));
    // Stopped by somebody else: that is no sleep of Loir's.
    tell(&history, MARCH + HOUR + 40 * MINUTE, Event::StoppedByOthers);
    tell(&history, MARCH + 3 * HOUR, Event::AskedFor);
    clock.advance(secs(4 * 3_600));
    let hours = history.hours(Some("shop"), MARCH, MARCH + 9 * HOUR).await;
    let awake: Vec<_> =
        hours.found.iter().map(|(_, hour)| (hour.at - MARCH, hour.awake_seconds, hour.wakes)).collect();
    assert_eq!(awake, [(0, 11 * 60 + 1, 0), (HOUR, 30 * 60, 1)], "and never rounded up");
    assert_eq!(hours.found[1].1.boot_p50, Some(120_000));
}

#[tokio::test]
async fn what_waits_is_found_and_what_is_beyond_the_bound_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder is to be made.
    let blocked = folder.path().join("state");
    std::fs::write(&blocked, "").unwrap();
    let clock = Clock::manual_at(MARCH);
    let history = history_with(Arc::new(SqliteStore::at(&blocked.join("history.sqlite"))), 10, &clock);
    let mut live = history.live();
    for number in 0..15 {
        tell(&history, MARCH + number, Event::KeptAwake(format!("{number}")));
    }
    eventually!(history.gap().store_error.is_some());
    let gap = history.gap();
    assert_eq!(
        (gap.waiting, gap.lost, gap.lost_since, gap.lost_until),
        (10, 5, Some(MARCH + 10), Some(MARCH + 14))
    );
    assert_eq!(gap.since, Some(MARCH));
    let answer = history.events(&Query { limit: Some(3), ..Query::default() }).await;
    let texts: Vec<_> = answer.found.iter().map(|entry| entry.text.clone()).collect();
    assert_eq!(texts, ["kept awake: 9", "kept awake: 8", "kept awake: 7"]);
    assert!(answer.incomplete.unwrap().contains("cannot be made"));
    for number in 0..15 {
        assert_eq!(live.recv().await.unwrap().text, format!("kept awake: {number}"), "also what is lost");
    }
    std::fs::remove_file(&blocked).unwrap();
    eventually!(history.gap().store_error.is_none() && history.gap().waiting == 0);
    let answer = history.events(&Query::default()).await;
    assert_eq!((answer.found.len(), answer.incomplete), (10, None));
    assert_eq!(history.gap().lost, 5, "a gap is not forgotten when it ends");
    tell(&history, MARCH + 100, Event::Adopted);
    assert!(history.flush(secs(20)).await);
    assert_eq!(
        SqliteStore::at(&blocked.join("history.sqlite")).events(&Query::default()).await.unwrap().len(),
        11
    );
}

/// How long the store is away; `LOIR_AWAY_SECONDS` makes it longer.
fn away() -> Duration {
    let seconds = std::env::var("LOIR_AWAY_SECONDS").ok().and_then(|it| it.parse().ok());
    secs(seconds.unwrap_or(3))
}

/// A gateway whose history is in this database serves, wakes and stops while that is hurt.
async fn under_traffic(mut postgres: Postgres, hurt: impl AsyncFnOnce(&mut Postgres, &History)) {
    let block = format!("history: {{ url: '{}' }}", postgres.url());
    let gateway = gateway([App::named("warm"), App::named("sleepy")]).top(&block).start().await;
    gateway.wake("warm").await;
    let history = gateway.running.history().clone();
    assert_eq!(history.store(), "postgres");
    eventually!(history.gap().waiting == 0);
    assert_eq!(postgres.number("SELECT count(*) FROM loir_events").await, 3);
    let over = AtomicBool::new(false);
    let traffic = async {
        let mut rounds = 0;
        while !over.load(Ordering::SeqCst) {
            let answer = gateway.get("warm", "/pid").send().await.unwrap();
            assert_eq!(answer.status(), 200, "no request fails because of the history");
            gateway.wake("sleepy").await;
            gateway.put_to_sleep("sleepy").await;
            rounds += 1;
        }
        rounds
    };
    let trouble = async {
        hurt(&mut postgres, &history).await;
        over.store(true, Ordering::SeqCst);
    };
    let (rounds, ()) = tokio::join!(traffic, trouble);
    assert!(history.flush(secs(60)).await, "{}", postgres.log());
    let query = Query { app: Some("local/sleepy".into()), limit: Some(10_000), ..Query::default() };
    let answer = history.events(&query).await;
    assert_eq!((answer.incomplete, history.gap().lost), (None, 0));
    let events: Vec<_> = answer.found.iter().rev().map(|entry| entry.event.as_str()).collect();
    let round = ["asked-for", "waking", "ready", "asleep"];
    assert_eq!(events, round.repeat(rounds), "everything is there, in order");
    let runs: HashSet<_> = answer.found.iter().filter_map(|entry| entry.run.clone()).collect();
    assert_eq!(runs.len(), 2 * rounds);
    let hours = history.hours(Some("local/sleepy"), 0, u64::MAX).await.found;
    let (wakes, requests) = hours
        .iter()
        .fold((0, 0), |(wakes, requests), (_, hour)| (wakes + hour.wakes, requests + hour.requests));
    assert_eq!((wakes as usize, requests as usize), (rounds, rounds), "and each counts once");
}

/// Until the history has found out that its store is away, and for some seconds more.
async fn some_time(history: &History) {
    eventually!(history.gap().store_error.is_some());
    tokio::time::sleep(away()).await;
}

#[tokio::test]
async fn a_postgres_that_hangs_costs_no_request_and_no_event() {
    let postgres = Postgres::start().await;
    under_traffic(postgres, async |postgres, history| {
        postgres.freeze();
        some_time(history).await;
        postgres.thaw();
    })
    .await;
}

#[tokio::test]
async fn a_postgres_that_is_killed_costs_no_request_and_no_event() {
    let postgres = Postgres::start().await;
    under_traffic(postgres, async |postgres, history| {
        postgres.kill().await;
        some_time(history).await;
        postgres.restart().await;
    })
    .await;
}

#[tokio::test]
async fn a_gateway_starts_without_its_store_and_with_a_state_dir_remembers_the_last_one() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let setup = || gateway([App::named("hello")]).keeps_state();
    let first = setup().start_in(folder.clone()).await;
    assert_eq!(first.running.history().store(), "sqlite");
    first.wake("hello").await;
    first.put_to_sleep("hello").await;
    first.running.end().await;
    assert!(Path::new(&folder.path().join("state/history.sqlite")).exists());
    let second = setup().start_in(folder.clone()).await;
    let events = second.running.history().events(&Query::default()).await.found;
    let events: Vec<_> =
        events.iter().rev().map(|entry| (entry.event.as_str(), entry.cause.kind())).collect();
    assert_eq!(events[..3], [("asked-for", "request"), ("waking", "request"), ("ready", "request")]);
    assert_eq!(events[3].0, "asleep");

    let block = "history: { url: 'postgres://loir:hunter2@127.0.0.1:1/none' }";
    let blind = gateway([App::named("hello")]).top(block).start().await;
    blind.wake("hello").await;
    eventually!(blind.running.history().gap().store_error.is_some());
    let answer = blind.running.history().events(&Query::default()).await;
    assert_eq!(answer.found.len(), 3, "what waits is found");
    assert!(!format!("{answer:?}{:?}", blind.running.history().gap()).contains("hunter2"));
}
