//! The simulators against the notes on the providers.

#[path = "clever_cloud_tests.rs"]
mod clever_cloud;
#[path = "heroku_tests.rs"]
mod heroku;
#[path = "scalingo_tests.rs"]
mod scalingo;

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::{CleverCloud, Heroku, Platform, Scalingo};
use crate::support::client;

/// Longer than any test: an app moves by [`Platform::pass`].
const HOUR: Duration = Duration::from_secs(3600);

async fn body(response: Response) -> Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

async fn send(request: RequestBuilder, json: &Value) -> Response {
    request.header("content-type", "application/json").body(json.to_string()).send().await.unwrap()
}

/// Waits until it holds.
async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("never came true");
}

/// A request at a platform's router.
async fn visit(platform: &impl Platform, app: &str, path: &str) -> Response {
    visit_host(&platform.host(app), path).await
}

async fn visit_host(host: &str, path: &str) -> Response {
    let port = host.rsplit(':').next().unwrap();
    client().get(format!("http://127.0.0.1:{port}{path}")).header("host", host).send().await.unwrap()
}

/// The part of the story that all platforms share, told in their own dialect by the tests below.
async fn an_app_answers_only_while_it_runs(platform: &impl Platform) {
    platform.add("awake", &[("web", 1)], true);
    platform.add("asleep", &[("web", 1)], false);
    let answer = visit(platform, "awake", "/hello?x=1").await;
    assert_eq!(answer.status(), 200);
    let said = body(answer).await;
    assert_eq!(
        (&said["app"], &said["run"], &said["path"]),
        (&json!("awake"), &json!(1), &json!("/hello?x=1"))
    );
    assert_eq!(said["host"], json!(platform.host("awake")));
    assert_eq!(visit(platform, "awake", "/status/418").await.status(), 418);
    assert_eq!(
        visit(platform, "awake", "/redirect?to=http%3A%2F%2Fx%2Fy").await.headers()["location"],
        "http://x/y"
    );
    assert!(
        visit(platform, "asleep", "/").await.status().is_client_error() || !platform.is_running("asleep")
    );
    assert_eq!(platform.served("awake"), 3);
    assert_eq!((platform.starts("awake"), platform.served("asleep")), (0, 0));
    platform.crash("awake");
    assert!(!platform.is_running("awake"));
    assert_eq!(visit(platform, "awake", "/").await.status(), 503);
}

/// Told of every platform: a start that fails, an app that cannot be started, a state nobody knows.
async fn a_platform_can_misbehave(platform: &dyn Platform) {
    platform.add("shop", &[("web", 2)], true);
    platform.add_never_deployed("fresh");
    assert!(!platform.is_running("fresh"));
    platform.set_unknown_state("shop");
    assert_eq!(platform.state("shop"), "frobnicating");
    platform.set_state_word("shop", None);
    platform.set_boot("shop", Duration::from_millis(30));
    platform.set_api_lag("shop", 40);
    assert_eq!(platform.timing("shop").reported(), Duration::from_millis(70));
    platform.begin_deployment("shop");
    assert!(platform.is_running("shop"), "what ran before goes on");
    platform.end_deployment("shop");
    until(|| platform.is_running("shop")).await;
    assert_eq!((platform.starts("shop"), platform.stops("shop")), (0, 0));
    platform.block("shop");
    platform.rename("shop", "store");
    assert_eq!(platform.formation("store").values().sum::<u32>(), 2);
    platform.delete("store");
}

#[tokio::test]
async fn every_platform_can_misbehave() {
    a_platform_can_misbehave(&Scalingo::start().await).await;
    a_platform_can_misbehave(&CleverCloud::start().await).await;
    a_platform_can_misbehave(&Heroku::start().await).await;
}

/// Told of every platform, with an app that has just been asked to start, in an hour.
fn the_api_may_know_of_a_start_later_than_the_router(platform: &dyn Platform, running: &str) {
    assert!(!platform.is_running("late"));
    platform.pass("late", HOUR);
    assert!(platform.is_running("late"));
    assert_ne!(platform.state("late"), running);
    platform.pass("late", HOUR);
    assert_eq!(platform.state("late"), running);
}

/// The other way round.
fn the_api_may_know_of_a_start_before_the_router(platform: &dyn Platform, running: &str) {
    platform.pass("early", HOUR / 2);
    assert_eq!(platform.state("early"), running);
    assert!(!platform.is_running("early"));
    platform.pass("early", HOUR / 2);
    assert!(platform.is_running("early"));
}

/// Adds an app that boots in an hour, and how far the API is from the truth.
fn add_lagging(platform: &dyn Platform, name: &str, late: i64) {
    platform.add(name, &[("web", 1)], false);
    platform.set_boot(name, HOUR);
    platform.set_api_lag(name, late);
}

#[tokio::test]
async fn an_api_s_word_is_early_or_late_as_told() {
    let clever = CleverCloud::start().await;
    let platforms: [(Box<dyn Platform>, &str); 3] = [
        (Box::new(Scalingo::start().await), "running"),
        (Box::new(Heroku::start().await), "up"),
        (Box::new(clever.clone()), "SHOULD_BE_UP"),
    ];
    let hour = HOUR.as_millis() as i64;
    for (platform, running) in platforms {
        for (name, late) in [("late", hour), ("early", -hour / 2)] {
            add_lagging(&*platform, name, late);
            match running {
                "SHOULD_BE_UP" => drop(clever_cloud::clever_start(&clever, name).await),
                _ => platform.set_formation(name, &[("web", 1)]),
            }
            assert_eq!(platform.starts(name), 1);
        }
        the_api_may_know_of_a_start_later_than_the_router(&*platform, running);
        the_api_may_know_of_a_start_before_the_router(&*platform, running);
    }
}
