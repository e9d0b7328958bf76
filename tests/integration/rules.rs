//! What rules mean for requests: those that wake nothing, apps that a schedule keeps asleep, limits, plans.

use std::{fs, path::Path, time::Duration};

use loir::{
    app::AppState,
    clock::Clock,
    config::Environment,
    lifecycle::{Slept, Sweeper},
    server,
};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::{
    eventually,
    support::{App, Gateway, gateway},
};

const PAGE: &str = "text/html; charset=utf-8";
const PROBLEM: &str = "application/problem+json";

fn field<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

async fn problem(answer: Response) -> Value {
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PROBLEM));
    assert_eq!(field(&answer, "cache-control"), "no-store");
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

async fn page(answer: Response) -> String {
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PAGE));
    assert_eq!(field(&answer, "cache-control"), "no-store");
    answer.text().await.unwrap()
}

/// A moment by the clock on a wall, in milliseconds since 1970.
fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<jiff::Zoned>().unwrap().timestamp().as_millisecond()).unwrap()
}

/// Every request that a rule lists, by each part of the list, as it comes from `192.0.2.7` behind a proxy.
fn quiet(loir: &Gateway) -> Vec<(&'static str, RequestBuilder)> {
    vec![
        ("path", loir.get("hello", "/healthz")),
        ("path, posted", loir.request("POST", "hello", "/healthz").body("x")),
        ("path below", loir.get("hello", "/status/db?deep=1")),
        ("agent", loir.get("hello", "/pid").header("user-agent", "Acme Nightly-Check/2")),
        ("monitor", loir.request("POST", "hello", "/echo").header("user-agent", "UptimeRobot/2.0")),
        ("method", loir.request("OPTIONS", "hello", "/echo")),
        ("network", loir.get("hello", "/pid").header("x-forwarded-for", "192.0.2.7")),
    ]
}

const QUIET: &str = "rules:\n  - match: hello\n    no_wake: { paths: [/healthz, '/status/*'], user_agents: [monitors, Nightly-Check], \
                     methods: [OPTIONS], cidrs: [192.0.2.0/24] }";

#[tokio::test]
async fn a_request_that_a_rule_lists_is_answered_without_waking() {
    let loir = gateway([App::named("hello")]).server("trusted_proxies: [loopback]").top(QUIET).start().await;
    for (which, request) in quiet(&loir) {
        let answer = send(request).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "x-loir-state")), (503, "asleep"), "{which}");
        assert!(!field(&answer, "retry-after").is_empty());
        assert_eq!(answer.text().await.unwrap(), "", "{which}");
    }
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    let other = loir.get("hello", "/pid").header("x-forwarded-for", "198.51.100.7");
    assert_eq!(send(other).await.status(), 200, "anybody else wakes it");
}

#[tokio::test]
async fn a_request_that_a_rule_lists_reaches_an_app_that_is_awake_and_is_no_activity() {
    let clock = Clock::manual();
    let app = App::named("hello").with("idle_timeout: 1m");
    let setup = gateway([app]).server("trusted_proxies: [loopback]").top(QUIET).clock(&clock);
    let loir = setup.start().await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    for (which, request) in quiet(&loir) {
        eventually!(app.in_flight() == 0);
        clock.advance(Duration::from_secs(5));
        let answer = send(request).await;
        assert_eq!(field(&answer, "x-loir-state"), "", "{which}: it is the app's own answer");
    }
    eventually!(app.in_flight() == 0);
    clock.advance(Duration::from_secs(25));
    assert_eq!(loir.sweep("hello").await, Slept::Yes, "a minute after the only one that counted");
}

fn weekend(wake: &str) -> String {
    format!(
        "rules:\n  - match: hello\n    schedule:\n      - {{ days: [sat, sun], tz: Europe/Paris, state: asleep, wake: {wake} }}\n      \
         - {{ days: mon, to: '08:00', tz: Europe/Paris, state: asleep, wake: {wake} }}"
    )
}

/// An app that sleeps from Saturday to Monday, on a Saturday at noon.
async fn on_saturday(wake: &str) -> (Gateway, Clock) {
    let clock = Clock::manual_at(at("2026-11-21T12:00[Europe/Paris]"));
    let loir = gateway([App::named("hello")]).top(&weekend(wake)).clock(&clock).start().await;
    (loir, clock)
}

#[tokio::test]
async fn an_app_that_its_schedule_keeps_asleep_says_when_it_opens() {
    let (loir, clock) = on_saturday("never").await;
    let seconds = (at("2026-11-23T08:00[Europe/Paris]") - clock.unix_millis()) / 1000;
    for (language, words) in [("en", "Hello opens Monday 08:00"), ("fr", "Hello ouvre lundi à 08:00")] {
        let answer = send(loir.visit("hello", "/deep").header("accept-language", language)).await;
        assert_eq!(field(&answer, "retry-after"), seconds.to_string());
        let page = page(answer).await;
        assert!(page.contains(words) && page.contains("Paris"), "{page}");
        assert!(!page.contains("<form") && !page.contains("http-equiv"), "{page}");
    }
    let told = problem(send(loir.get("hello", "/api")).await).await;
    assert_eq!(told["loir"]["opens"], "2026-11-23T08:00:00+01:00");
    assert_eq!(told["loir"]["retry_after"].as_u64(), Some(seconds));
    let pressed = loir.request("POST", "hello", "/.loir/wake").header("sec-fetch-site", "same-origin");
    assert_eq!(send(pressed).await.status(), 403, "nor does a button help");
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    clock.advance(Duration::from_secs(seconds));
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200, "on Monday it is an app like any other");
}

#[tokio::test]
async fn a_date_is_told_where_the_weekday_alone_would_mislead() {
    let rule = "rules:\n  - match: hello\n    schedule: { cron: '0 0 1 8 *', for: 31d, tz: America/New_York, state: asleep, wake: never }";
    let clock = Clock::manual_at(at("2026-08-10T12:00[America/New_York]"));
    let loir = gateway([App::named("hello")]).top(rule).clock(&clock).start().await;
    let shown = page(send(loir.visit("hello", "/")).await).await;
    assert!(shown.contains("Hello opens Tuesday 1 September, 00:00"), "{shown}");
    assert!(shown.contains("that of New York"), "{shown}");
}

#[tokio::test]
async fn a_person_may_wake_an_app_anyway_where_its_schedule_asks() {
    let (loir, _) = on_saturday("ask").await;
    let answer = send(loir.visit("hello", "/deep/page?x=1&y=%20")).await;
    let policy = field(&answer, "content-security-policy").to_owned();
    assert!(policy.contains("form-action 'self'") && policy.contains("default-src 'none'"), "{policy}");
    let shown = page(answer).await;
    assert!(shown.contains("Wake it anyway"), "{shown}");
    let action = shown.split_once("action=\"").unwrap().1.split('"').next().unwrap();
    let action = action.replace("&#x2f;", "/");
    assert!(action.starts_with("/.loir/wake?to="), "{action}");

    let told = problem(send(loir.get("hello", "/api")).await).await;
    assert_eq!(told["loir"]["state"], "asleep");
    assert_eq!(loir.app("hello").state(), AppState::Asleep);

    let press = |name: &str, value: &str| {
        let pressed = loir.request("POST", "hello", &action).header("content-length", "0");
        send(pressed.header("accept", "text/html").header(name.to_owned(), value.to_owned()))
    };
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("origin", "http://evil.test"), ("accept-language", "en")]
    {
        assert_eq!(press(name, value).await.status(), 403, "{name}: {value}");
    }
    assert_eq!(send(loir.get("hello", &action)).await.status(), 403, "nor does a link do what a button does");
    assert_eq!(loir.app("hello").state(), AppState::Asleep);

    let answer = press("sec-fetch-site", "same-origin").await;
    assert_eq!((answer.status().as_u16(), field(&answer, "location")), (303, "/deep/page?x=1&y=%20"));
    assert_eq!(field(&answer, "cache-control"), "no-store");
    eventually!(loir.app("hello").state() == AppState::Awake);
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200);
}

#[tokio::test]
async fn a_form_that_meets_a_closed_app_is_told_that_nothing_was_submitted() {
    let (loir, _) = on_saturday("ask").await;
    let form = loir.request("POST", "hello", "/form").header("accept", "text/html");
    let form = form.header("sec-fetch-mode", "navigate").body("a=1");
    let shown = page(send(form).await).await;
    assert!(shown.contains("Nothing was submitted.") && !shown.contains("<form"), "{shown}");
}

#[tokio::test]
async fn an_app_that_was_woken_often_enough_says_when_it_may_be_woken_again() {
    let clock = Clock::manual();
    let rule = "rules:\n  - match: hello\n    limits: { wakes_per_hour: 1 }";
    let loir = gateway([App::named("hello")]).top(rule).clock(&clock).start().await;
    loir.wake("hello").await;
    clock.advance(Duration::from_secs(600));
    loir.put_to_sleep("hello").await;
    let shown = page(send(loir.visit("hello", "/")).await).await;
    assert!(shown.contains("Hello rests for now") && shown.contains("50\u{a0}min"), "{shown}");
    let told = problem(send(loir.get("hello", "/api")).await).await;
    assert_eq!(told["loir"]["retry_after"].as_u64(), Some(3000));
    clock.advance(Duration::from_secs(3000));
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200);
}

#[tokio::test]
async fn apps_beyond_the_plan_are_proxied_and_not_stopped_and_one_that_sleeps_is_woken_once_more() {
    let clock = Clock::manual();
    let apps = ["c", "a", "d", "b"].map(App::named);
    let loir = gateway(apps).top("plan: { apps: 2 }").clock(&clock).start().await;
    for app in ["a", "b", "c", "d"] {
        loir.wake(app).await;
        let app = loir.app(app);
        eventually!(app.in_flight() == 0);
    }
    clock.advance(Duration::from_secs(7200));
    for (app, within) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        let slept = loir.sweep(app).await;
        match within {
            true => eventually!(loir.app(app).state() == AppState::Asleep),
            false => assert!(matches!(slept, Slept::Kept(_)), "{app}: {slept:?}"),
        }
        let why = loir.app(app).left_alone();
        assert_eq!(why.is_none(), within, "{app}");
        if let Some(why) = why {
            assert_eq!(&*why, "the plan looks after 2 apps, and earlier ones come first");
        }
    }
    for app in ["a", "b", "c", "d"] {
        assert_eq!(send(loir.get(app, "/pid")).await.status(), 200, "{app}: nobody is cut off");
    }
}

/// Nobody would stop it again.
#[tokio::test]
async fn an_app_beyond_the_plan_is_not_woken_by_its_schedule() {
    let rules = "plan: { apps: 1 }\nrules:\n  - match: '*'\n    schedule: { days: daily, state: awake }";
    let loir = gateway(["a", "b"].map(App::named)).top(rules).clock(&Clock::manual()).start().await;
    eventually!(loir.app("a").state() == AppState::Awake);
    for _ in 0..5 {
        Sweeper(loir.running.lifecycle().clone()).step();
        assert_eq!(loir.app("b").state(), AppState::Asleep);
    }
}

/// The documents show what loads, and nothing else.
#[test]
fn every_example_of_the_documents_loads() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    let text = fs::read_to_string(docs).unwrap();
    let mut examples = 0;
    for (number, part) in text.split("```yaml\n").skip(1).enumerate() {
        let example = part.split("```").next().unwrap();
        let mut file = example.to_owned();
        if !example.contains("providers:") {
            file.push_str("\nproviders: []\n");
        }
        let source = server::Source { name: format!("example {number}"), text: file };
        let plan = server::load(source, &Environment::default());
        assert!(plan.is_ok(), "{}", plan.err().map(|problems| problems.to_string()).unwrap_or_default());
        examples += 1;
    }
    assert!(examples >= 8, "{examples}");
}
