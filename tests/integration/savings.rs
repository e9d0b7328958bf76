//! What sleeping was good for: a recorded week, and every figure worked out again by hand.

use std::{collections::HashMap, sync::Arc, time::Duration};

use loir::{
    app::AppId,
    clock::Clock,
    config::{Environment, HistoryConfig, SavingsConfig, savings::KnownPrice},
    history::{
        Batch, History, Report, ReportRequest, Store, Tally,
        factors::{COUNTRIES, Intensity},
        memory::Memory,
        report::{Facts, Footprint, Range},
        tally::{HOUR, Spans},
    },
    lifecycle::{Event, Happening, Witness},
    server::{Source, load},
};

use crate::support::{App, gateway};

/// 2026-03-02, a Monday, midnight in UTC.
const MONDAY: u64 = 1_772_409_600_000;
const DAY: u64 = 24 * HOUR;

fn app(text: &str) -> AppId {
    text.parse().unwrap()
}

fn near(found: f64, by_hand: f64) -> bool {
    (found - by_hand).abs() <= 0.001 * by_hand.abs().max(1.0)
}

#[track_caller]
fn is(found: Range, low: f64, central: f64, high: f64) {
    let all = near(found.low, low) && near(found.central, central) && near(found.high, high);
    assert!(all, "{found:?} is not {low} {central} {high}");
}

/// The nights of a shop, told as they happen; what the other apps did, as it was counted.
async fn recorded_week() -> Vec<(AppId, u64, Tally)> {
    let (store, clock) = (Arc::new(Memory::default()), Clock::manual_at(MONDAY + 7 * DAY));
    let whole = Tally { asleep: Spans::of(0, 3600), ..Tally::default() };
    let hours = |name: &str, from: u64, to: u64, tally: &Tally| {
        (from..to).map(|hour| (app(name), MONDAY + hour * HOUR, tally.clone())).collect::<Vec<_>>()
    };
    let tallies = [
        // The gateway watched all week.
        hours("paris/shop", 0, 168, &Tally::default()),
        hours("clever/api", 10, 90, &whole),
        hours("local/hello", 0, 10, &whole),
        hours("heroku/toy", 100, 150, &whole),
    ];
    let batch = Batch { writer: 1, number: 1, entries: vec![], tallies: tallies.concat() };
    store.record(&batch).await.unwrap();
    let history = History::with(store, HistoryConfig::default(), clock);
    let tell = |at: u64, event: Event| {
        history.see(&Happening {
            at,
            app: app("paris/shop"),
            event,
            run: None,
            gateway: "one".into(),
            operation: None,
        });
    };
    for day in 0..7 {
        let midnight = MONDAY + day * DAY;
        // Asleep from eight in the evening to eight in the morning; the week ends at midnight.
        tell(midnight + 20 * HOUR, Event::Asleep(Duration::from_secs(5)));
        let morning = if day == 6 { midnight + DAY } else { midnight + 32 * HOUR };
        tell(morning, Event::AskedFor);
        if day < 6 {
            tell(morning + 36_000, Event::Ready(Duration::from_secs(36)));
        }
    }
    history.tallies(None, MONDAY, MONDAY + 7 * DAY).await.found
}

fn facts() -> HashMap<AppId, Facts> {
    let one = |provider: &str, processes: &[(u32, &str)]| Facts {
        provider: provider.into(),
        processes: processes.iter().map(|(amount, size)| (*amount, Some((*size).into()))).collect(),
    };
    HashMap::from([
        (app("paris/shop"), one("scalingo", &[(1, "M")])),
        (app("clever/api"), one("clever_cloud", &[(1, "pico")])),
        (app("local/hello"), one("process", &[])),
        (app("heroku/toy"), one("heroku", &[(1, "Eco")])),
    ])
}

fn config() -> SavingsConfig {
    let france = COUNTRIES.iter().find(|(code, ..)| *code == "FR").map(Intensity::of);
    let prices = vec![KnownPrice::new("paris/*", Some("M"), 0.02, "EUR")];
    SavingsConfig { prices, carbon: france, ..SavingsConfig::default() }
}

#[tokio::test]
async fn nothing_is_claimed_for_the_time_after_the_end() {
    let store = Arc::new(Memory::default());
    let whole = Tally { asleep: Spans::of(0, 3600), ..Tally::default() };
    let tallies = (0..5).map(|hour| (app("paris/shop"), MONDAY + hour * HOUR, whole.clone())).collect();
    store.record(&Batch { writer: 1, number: 1, entries: vec![], tallies }).await.unwrap();
    let history = History::with(store, HistoryConfig::default(), Clock::manual_at(MONDAY + DAY));
    let until = Some(MONDAY + 2 * HOUR + 600_000);
    let report = history.report(&ReportRequest { since: Some(MONDAY), until, ..Default::default() }).await;
    assert_eq!((report.apps[0].asleep_seconds, report.until), (2 * 3600, MONDAY + 2 * HOUR));
}

async fn report(request: &ReportRequest) -> Report {
    Report::new(request, (MONDAY, MONDAY + 7 * DAY), &recorded_week().await, &facts(), &config())
}

#[tokio::test]
async fn the_figures_of_a_recorded_week_are_those_worked_out_by_hand() {
    let report = report(&ReportRequest::default()).await;
    let names: Vec<_> = report.apps.iter().map(|app| app.app.to_string()).collect();
    assert_eq!(names, ["clever/api", "paris/shop", "heroku/toy", "local/hello"], "who slept longest first");
    let [api, shop, toy, hello] = &report.apps[..] else { panic!() };

    // Six nights of twelve hours and four hours of the last one, at 0.02 EUR; six boots of 36 s are 0.06 h.
    assert_eq!((shop.asleep_seconds, shop.wakes, shop.watched_hours), (76 * 3600, 6, 168));
    let money = shop.money.as_ref().unwrap();
    assert!(near(money.amount, 1.52) && money.currency == "EUR" && shop.price.contains("savings.prices"));
    // 512 MB: 1.135 x (0.05 x 0.74 + 0.5 x 0.392) = 0.264455 W, and 1.135 x 0.05 x (3.5 - 0.74) = 0.15663 W more in a boot;
    // 1.35 x (0.25 x (0.74 + 0.02 x 2.76) + 0.196) = 0.53298 W, and 1.35 x 0.25 x (3.5 - 0.7952) = 0.91287 W more;
    // 1.6 x (0.74 + 0.05 x 2.76 + 0.196) = 1.7184 W, and 1.6 x (3.5 - 0.878) = 4.1952 W more.
    is(shop.footprint.energy_wh, 20.0986 - 0.0094, 40.5065 - 0.0548, 130.5984 - 0.2517);
    // 41 g for a kilowatt-hour.
    is(shop.footprint.co2e_g.unwrap(), 0.82366, 1.65852, 5.34422);

    // Eighty hours of a pico, whose price and memory are known: 256 MB.
    assert_eq!(api.asleep_seconds, 80 * 3600);
    assert!(near(api.money.as_ref().unwrap().amount, 0.5) && api.price.contains("clever-components"));
    is(api.footprint.energy_wh, 12.258, 32.0544, 124.928);

    // On a server of one's own no money is saved, and energy is that of 512 MB.
    assert_eq!((hello.asleep_seconds, &hello.money), (36_000, &None));
    assert!(hello.price.contains("your own server"));
    is(hello.footprint.energy_wh, 2.64455, 5.3298, 17.184);

    // Heroku would have put it to sleep anyway.
    assert_eq!((toy.asleep_seconds, toy.money.as_ref().unwrap().amount), (180_000, 0.0));
    is(toy.footprint.energy_wh, 0.0, 0.0, 0.0);

    let total = &report.total;
    assert_eq!((total.asleep_seconds, total.wakes), (216 * 3600, 6));
    let money: Vec<_> = total.money.iter().map(|money| (money.currency.as_str(), money.amount)).collect();
    assert!(
        money.len() == 2 && money[0].0 == "EUR" && near(money[0].1, 2.02) && money[1] == ("USD", 0.0),
        "{money:?}"
    );
    is(total.footprint.energy_wh, 34.99175, 77.8359, 272.4587);
    // 168 h: 1.135 x (0.878 + 0.392) = 1.44145 W, 1.35 x (1.5 x 0.878 + 0.392) = 2.30715 W, 1.6 x (2 x 0.878 + 0.392) = 3.4368 W.
    let Footprint { energy_wh: gateway, .. } = total.gateway.unwrap();
    is(gateway, 242.1636, 387.6012, 577.3824);
    // The least that was saved without the most that was drawn, and so on: this gateway costs more than it saves.
    is(total.net.unwrap().energy_wh, 34.99175 - 577.3824, 77.8359 - 387.6012, 272.4587 - 242.1636);
}

#[tokio::test]
async fn ranges_and_sources_are_shown_and_nothing_is_said_more_exactly_than_it_is_known() {
    let report =
        report(&ReportRequest { what_if_idle_seconds: Some(3600), ..ReportRequest::default() }).await;
    let text = report.text();
    for part in [
        "From 2026-03-02 00:00 UTC to 2026-03-09 00:00 UTC: 216.0 h asleep (counted)",
        "6 wakes, 0 failed",
        "2.02 EUR + 0.00 USD",
        "\u{2248} 78 Wh (35 to 270); \u{2248} 3.2 g CO2e (1.4 to 11)",
        "- \u{2248} 390 Wh (240 to 580)",
        "\u{2248} -310 Wh (-540 to 30)",
        "local/hello: 0: it runs on your own server",
        "With idle_timeout 1h, replayed by the minute (an estimate)",
        "PUE: 1.35 (1.135 to 1.6) [Cloud Carbon Footprint",
        "memory: 0.392 W/GB [Cloud Carbon Footprint",
        "grid, France: 41 g CO2e/kWh [Ember, yearly electricity data (CC BY 4.0), lifecycle, location-based, 2025]",
        "an hour of pico at clever: 0.00625 EUR/h [Clever Cloud's price system",
        "may be outdated",
        "Note: databases and add-ons go on running",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    for wrong in ["0.5330", "77.8", "trees", "avoided"] {
        assert!(!text.contains(wrong), "{wrong:?} is in\n{text}");
    }
    let csv = report.csv();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 4 + 3, "{csv}");
    assert!(rows[0].len() == 15 && rows[2][..2] == ["paris/shop", "273600"] && rows[2][7] == "EUR", "{csv}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["apps"][1]["energy_wh"]["low"].as_f64().map(f64::round), Some(20.0));
    assert!(
        json["factors"].as_array().unwrap().iter().all(|factor| factor["source"].as_str().unwrap().len() > 3)
    );
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[tokio::test]
async fn of_some_apps_the_gateway_is_not_subtracted_and_too_little_is_not_estimated() {
    let week = recorded_week().await;
    let request = ReportRequest { app: Some("local/*".into()), ..ReportRequest::default() };
    let hello: Vec<_> =
        week.into_iter().filter(|(app, at, _)| &*app.name == "hello" && *at == MONDAY).collect();
    let report = Report::new(&request, (MONDAY, MONDAY + DAY), &hello, &facts(), &SavingsConfig::default());
    assert_eq!((report.total.gateway, report.total.net, report.total.footprint.co2e_g), (None, None, None));
    let text = report.text();
    assert!(
        text.contains("too small to estimate") && !text.contains("Net") && text.contains("no CO2e without"),
        "{text}"
    );
}

#[tokio::test]
async fn a_gateway_reports_what_it_did_and_what_another_idle_time_would_have_done() {
    let clock = Clock::manual_at(MONDAY);
    let gateway = gateway([App::named("hello")]).clock(&clock).start().await;
    let history = gateway.running.history().clone();
    let pass = |minutes: u64| {
        for _ in 0..minutes {
            clock.advance(Duration::from_secs(60));
            history.sample();
        }
    };
    pass(1);
    gateway.wake("hello").await;
    gateway.put_to_sleep("hello").await;
    // Twenty hours asleep, a visit, four more.
    pass(20 * 60);
    gateway.wake("hello").await;
    pass(30);
    gateway.put_to_sleep("hello").await;
    pass(4 * 60);
    let request = ReportRequest { what_if_idle_seconds: Some(600), ..ReportRequest::default() };
    let report = history.report(&request).await;
    let [hello] = &report.apps[..] else { panic!("{report:?}") };
    assert_eq!((hello.asleep_seconds, hello.wakes, hello.requests), (24 * 3600, 2, 2));
    assert!(hello.price.contains("your own server"), "{}", hello.price);
    let what_if = report.what_if.unwrap().total;
    assert_eq!((what_if.asleep_seconds, what_if.wakes, what_if.wakes_then), (24 * 3600, 2, 1));
    // It was used in the second minute and twenty hours later, and would have slept ten minutes after each.
    assert_eq!(what_if.asleep_seconds_then / 60, (20 * 60 - 1 - 10) + (30 + 4 * 60 - 1 - 10));
    // With the store, after the gateway has written what it had in memory.
    assert!(history.flush(Duration::from_secs(20)).await);
    let again = history.report(&request).await;
    assert_eq!(again.apps[0].asleep_seconds, 24 * 3600);
    // The machine was suspended for a night: nobody knows what the app did.
    clock.advance(Duration::from_secs(8 * 3600));
    gateway.wake("hello").await;
    history.sample();
    assert_eq!(history.report(&request).await.apps[0].asleep_seconds, 24 * 3600);
}

fn problems(text: &str) -> String {
    let source = Source { name: "x.yaml".into(), text: format!("providers: []\n{text}") };
    load(source, &Environment::default()).err().map_or_else(String::new, |problems| problems.to_string())
}

#[test]
fn what_is_wrong_with_history_and_savings_is_told_with_its_place_and_no_secret() {
    for (text, wanted) in [
        ("history: { type: sqlite }", "needs a file"),
        ("history: { type: postgres }", "needs a `url`"),
        ("history: { type: mysql }", "unknown type of history"),
        ("history: { type: sqlit, path: x }", "did you mean `sqlite`"),
        ("history: { url: 'mysql://me:hunter2@db/x' }", "does not begin with postgres://"),
        ("history: { url: 'postgres://me:hunter2@db:port/x' }", "cannot be read"),
        ("history: { type: memory, url: 'postgres://me:hunter2@db/x' }", "has no `url`"),
        ("history: { type: memory, path: x }", "has no `path`"),
        ("history: { path: '' }", "must name a file"),
        ("history: { path: x, retention: 30 }", "has no unit"),
        ("history: { url: 'postgres://db/x', pool: 1000 }", "at most 100"),
        ("savings: { prices: [{ per_hour: 1 }] }", "`currency` is missing"),
        ("savings: { prices: [{ per_hour: -1, currency: EUR }] }", "not a number from 0"),
        ("savings: { prices: [{ per_hour: 1, currency: euro }] }", "is not a currency"),
        ("savings: { carbon: { country: XX } }", "no figure is known for `XX`"),
        ("savings: { carbon: { intensity_g_per_kwh: 41 } }", "who says so"),
        ("savings: { carbon: { country: FR, year: 2025 } }", "write one of them"),
        ("savings: { energy: { pue: 0.9 } }", "at least 1"),
    ] {
        let told = problems(text);
        assert!(told.contains(wanted) && told.contains("x.yaml:2:"), "{text}\n{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn the_store_is_implied_by_what_is_written_and_its_password_is_not_shown() {
    let shown = |text: &str| {
        let source = Source { name: "x.yaml".into(), text: format!("providers: []\n{text}") };
        let plan = load(source, &Environment::from_iter([("DATABASE_URL", "postgres://me:hunter2@db/x")]))
            .unwrap_or_else(|problems| panic!("{problems}"));
        let shown = plan.show().unwrap();
        assert!(!shown.contains("hunter2") && !format!("{:?}", plan.config).contains("hunter2"), "{shown}");
        (plan.config.history.kind, shown)
    };
    assert_eq!(shown("").0, "memory", "DATABASE_URL alone is not taken: it may be an app's");
    assert_eq!(shown("state_dir: ./state").0, "sqlite");
    assert_eq!(shown("history: { path: ./h.sqlite }").0, "sqlite");
    let (kind, text) = shown("history: { url: '${DATABASE_URL}' }");
    assert!(
        kind == "postgres" && text.contains("url: ${DATABASE_URL}") && text.contains("pool: 4"),
        "{text}"
    );
    assert_eq!(shown("state_dir: ./state\nhistory: { url: 'postgres://me:hunter2@db/x' }").0, "postgres");
}
