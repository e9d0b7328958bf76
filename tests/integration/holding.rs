//! What clients see while an app is not awake: each what it can understand.

use std::{collections::HashSet, time::Duration};

use futures_util::future::{join_all, join3};
use loir::{app::AppState, clock::Clock};
use reqwest::{RequestBuilder, Response};

use crate::{
    eventually,
    support::{App, Gateway, gateway, wire::Wire},
};

const PAGE: &str = "text/html; charset=utf-8";
const PROBLEM: &str = "application/problem+json";

/// An app that is on its way for longer than any test.
fn endless() -> App {
    App::named("hello").boots_in(Duration::from_secs(600)).with("wake_timeout: 700s")
}

fn soon() -> App {
    App::named("hello").boots_in(Duration::from_millis(500))
}

fn field<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn seconds(answer: &Response) -> u64 {
    field(answer, "retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After: {:?}", answer.headers()))
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

/// A form that a person submits.
fn submit(loir: &Gateway, path: &str) -> RequestBuilder {
    let form = loir
        .request("POST", "hello", path)
        .header("accept", "text/html")
        .header("sec-fetch-mode", "navigate");
    form.header("content-type", "application/x-www-form-urlencoded").body("a=1&b=2")
}

fn grpc(loir: &Gateway) -> RequestBuilder {
    loir.request("POST", "hello", "/svc/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

#[tokio::test]
async fn a_person_soon_sees_a_page_with_manners_in_their_language() {
    let loir = gateway([endless()]).defaults("hold_before_page: 50ms").start().await;
    let mut nonces = HashSet::new();
    for (language, words) in
        [("", "is waking up"), ("fr-CA, en;q=0.5", "se réveille"), ("de, en", "is waking up")]
    {
        let answer = send(loir.visit("hello", "/deep/page?x=1").header("accept-language", language)).await;
        assert_eq!(answer.status(), 503);
        assert!((1..=30).contains(&seconds(&answer)));
        for (name, value) in [
            ("content-type", PAGE),
            ("cache-control", "no-store"),
            ("x-robots-tag", "noindex"),
            ("x-content-type-options", "nosniff"),
            ("x-loir-state", "waking"),
        ] {
            assert_eq!(field(&answer, name), value, "{name}");
        }
        let vary = field(&answer, "vary");
        for by in ["Accept", "Accept-Language", "Sec-Fetch-Mode", "Sec-Fetch-Dest"] {
            assert!(vary.split(", ").any(|name| name == by), "{vary}");
        }
        let policy = field(&answer, "content-security-policy").to_owned();
        let nonce = policy.split_once("script-src 'nonce-").unwrap().1.split('\'').next().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
        let page = answer.text().await.unwrap();
        assert!(page.contains(words) && page.contains(&format!("<script nonce=\"{nonce}\"")), "{page}");
        assert!(page.len() < 14 * 1024, "{} bytes", page.len());
        assert!(!page.contains("http://") && !page.contains("https://"), "it asks for nothing else");
        assert!(page.contains("http-equiv=\"refresh\""), "it goes on without scripts as well");
        assert!(nonces.insert(nonce), "a nonce is used once");
    }
    let length = send(loir.visit("hello", "/")).await.content_length();
    let answer = send(loir.request("HEAD", "hello", "/").header("accept", "text/html")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PAGE));
    assert!(field(&answer, "content-length").parse::<u64>().unwrap().abs_diff(length.unwrap()) < 100);
    assert_eq!(answer.bytes().await.unwrap().len(), 0, "HEAD has no body");
    assert_eq!(loir.times("hello", "start"), 1, "however many look");
}

#[tokio::test]
async fn a_fast_app_never_shows_a_page() {
    let loir = gateway([soon()]).defaults("hold_before_page: 20s").start().await;
    let answer = send(loir.visit("hello", "/pid")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-loir-cold-start"));
    assert!(!answer.headers().contains_key("x-loir-state"), "it is the app's own answer");
}

#[tokio::test]
async fn a_form_is_held_and_its_body_arrives_once_and_whole() {
    let loir = gateway([soon()]).defaults("hold_before_page: 1ms").start().await;
    let body = "name=value&".repeat(20_000);
    let form = submit(&loir, "/count").body(body.clone());
    let sum = body.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let answer = send(form).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "x-loir-state")), (200, ""));
    assert_eq!(answer.text().await.unwrap(), format!("{} {sum}", body.len()));
    assert_eq!(loir.times("hello", &format!("body {} {sum}", body.len())), 1);
    assert_eq!(loir.times("hello", "POST /count"), 1);
}

#[tokio::test]
async fn a_form_that_waits_in_vain_gets_a_page_that_never_reloads_by_itself() {
    let loir = gateway([endless()]).defaults("hold_before_page: 50ms\n  hold_timeout: 100ms").start().await;
    let answer = send(submit(&loir, "/form")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PAGE));
    assert!(seconds(&answer) >= 1);
    let page = answer.text().await.unwrap();
    assert!(page.contains("id=\"posted\"") && !page.contains("http-equiv=\"refresh\""), "{page}");
    assert!(!page.contains("location.replace"), "it must not lose what was typed");
    let visited = send(loir.visit("hello", "/")).await.text().await.unwrap();
    assert!(
        !visited.contains("id=\"posted\"") && visited.contains("location.replace"),
        "but another page does"
    );
}

#[tokio::test]
async fn a_program_is_held_and_gets_the_answer_of_the_app() {
    let loir = gateway([soon()]).defaults("hold_before_page: 1ms").start().await;
    let preflight = loir.request("OPTIONS", "hello", "/echo").header("origin", "https://a.test");
    let preflight = preflight.header("access-control-request-method", "PUT").header("sec-fetch-mode", "cors");
    let image =
        loir.get("hello", "/logo.png").header("sec-fetch-dest", "image").header("sec-fetch-mode", "no-cors");
    let put = loir.request("PUT", "hello", "/echo").body("data");
    let (preflight, image, put) = join3(send(preflight), send(image), send(put)).await;
    for answer in [&preflight, &image, &put] {
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("x-loir-cold-start"));
    }
    assert_eq!(field(&preflight, "x-method"), "OPTIONS");
    assert_eq!(put.text().await.unwrap(), "data");
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn a_program_that_waits_in_vain_gets_a_problem_and_never_a_page() {
    let loir = gateway([endless()]).defaults("hold_before_page: 50ms\n  hold_timeout: 100ms").start().await;
    let html = "text/html;q=0.5, application/json";
    for request in [
        loir.get("hello", "/api"),
        loir.get("hello", "/api").header("accept", html),
        loir.get("hello", "/api").header("accept", "text/html").header("sec-fetch-mode", "cors"),
        loir.request("DELETE", "hello", "/api/1"),
        loir.request("PUT", "hello", "/api/1").body("x".repeat(100_000)),
        loir.request("OPTIONS", "hello", "/api").header("access-control-request-method", "PUT"),
        loir.get("hello", "/ws").header("connection", "upgrade").header("upgrade", "websocket"),
    ] {
        let answer = send(request).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PROBLEM));
        let after = seconds(&answer);
        assert_eq!((field(&answer, "x-loir-state"), field(&answer, "cache-control")), ("waking", "no-store"));
        let problem: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(
            (problem["status"].as_u64(), problem["loir"]["state"].as_str()),
            (Some(503), Some("waking"))
        );
        assert_eq!(problem["loir"]["retry_after"].as_u64(), Some(after));
    }
    assert!(loir.journal("hello").iter().all(|line| line == "start"), "nothing was forwarded");
    assert_eq!(loir.app("hello").held(), 0);
}

#[tokio::test]
async fn a_part_of_a_page_that_waits_in_vain_gets_nothing_that_could_be_taken_for_it() {
    let loir = gateway([endless()]).defaults("hold_before_page: 50ms\n  hold_timeout: 50ms").start().await;
    for kind in ["script", "style", "image", "font", "worker", "serviceworker", "manifest", "video"] {
        let part =
            loir.get("hello", "/part").header("accept", "text/html,*/*").header("sec-fetch-mode", "no-cors");
        let answer = send(part.header("sec-fetch-dest", kind)).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, ""), "{kind}");
        assert_eq!((seconds(&answer) >= 1, field(&answer, "cache-control")), (true, "no-store"));
        assert_eq!(answer.text().await.unwrap(), "", "{kind}");
    }
    let answer = send(loir.get("hello", "/app.js").header("accept", "*/*")).await;
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (503, ""),
        "by its name as well"
    );
}

#[tokio::test]
async fn a_grpc_client_gets_its_status_in_the_header() {
    let loir = gateway([endless()]).start().await;
    let answer = send(grpc(&loir).header("grpc-timeout", "100m")).await;
    assert_eq!(
        (answer.status().as_u16(), field(&answer, "grpc-status")),
        (200, "14"),
        "UNAVAILABLE: may be tried again"
    );
    assert_eq!(field(&answer, "content-type"), "application/grpc");
    assert!(field(&answer, "grpc-retry-pushback-ms").parse::<u64>().unwrap() > 0);
    assert!(!field(&answer, "grpc-message").is_empty());
    assert_eq!(answer.text().await.unwrap(), "", "within its own deadline, which is shorter than ours");
}

/// Each of these asks for the root of the app, or for something at its root, without anybody waiting for it.
fn idle_curiosity(loir: &Gateway) -> Vec<RequestBuilder> {
    let robot = |name: &str| loir.visit("hello", "/").header("user-agent", name);
    vec![
        loir.visit("hello", "/favicon.ico"),
        loir.visit("hello", "/robots.txt"),
        loir.visit("hello", "/").header("sec-purpose", "prefetch;prerender"),
        loir.visit("hello", "/").header("purpose", "prefetch"),
        robot("Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"),
        robot("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
    ]
}

#[tokio::test]
async fn idle_curiosity_does_not_wake() {
    let loir = gateway([soon()]).start().await;
    for request in idle_curiosity(&loir) {
        let answer = send(request).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "x-loir-state")), (503, "asleep"));
        assert!(seconds(&answer) >= 1);
        assert_eq!(answer.text().await.unwrap(), "");
    }
    for path in ["/.loir/status", "/.loir/livez"] {
        assert_eq!(send(loir.get("hello", path)).await.status(), 200);
    }
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    assert_eq!(loir.journal("hello"), Vec::<String>::new());
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200, "somebody who wants it wakes it");
}

#[tokio::test]
async fn idle_curiosity_is_answered_by_an_awake_app_and_does_not_keep_it_awake() {
    let clock = Clock::manual();
    let loir = gateway([soon()]).defaults("idle_timeout: 1h").clock(&clock).start().await;
    loir.wake("hello").await;
    let minutes = |n: u64| clock.advance(Duration::from_secs(60 * n));
    minutes(50);
    assert_eq!(send(loir.get("hello", "/page")).await.status(), 200);
    minutes(50);
    for request in idle_curiosity(&loir) {
        assert_eq!(send(request).await.status(), 200);
    }
    assert_eq!(loir.app("hello").state(), AppState::Awake, "somebody asked for a page 50 minutes ago");
    minutes(11);
    eventually!(loir.app("hello").state() == AppState::Asleep, "curiosity 11 minutes ago is no reason");
    assert_eq!(loir.times("hello", "end"), 1);
}

/// The next event as its name and its data.
async fn event<S: tokio::io::AsyncRead + Unpin>(stream: &mut Wire<S>) -> (String, serde_json::Value) {
    let text = stream.until("\n\n").await;
    let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    (name.to_owned(), serde_json::from_str(data).unwrap())
}

async fn listen(loir: &Gateway) -> Wire {
    let mut stream = loir.send("GET /.loir/events HTTP/1.1\r\nHost: hello.test\r\n\r\n").await;
    let head = stream.head().await;
    assert_eq!((head.status, head.field("content-type").as_deref()), (200, Some("text/event-stream")));
    assert_eq!(head.field("cache-control").as_deref(), Some("no-store"));
    assert!(stream.until("\n\n").await.starts_with("retry: "));
    stream
}

#[tokio::test]
async fn events_tell_the_way_up_until_the_app_is_ready() {
    let loir = gateway([soon()]).start().await;
    let mut stream = listen(&loir).await;
    let (name, data) = event(&mut stream).await;
    assert_eq!(
        (name.as_str(), &data["state"], &data["p50_ms"]),
        ("state", &"asleep".into(), &serde_json::Value::Null)
    );
    let request = tokio::spawn(loir.get("hello", "/pid").send());
    let mut steps = Vec::new();
    loop {
        let (name, data) = event(&mut stream).await;
        if name == "ready" {
            assert_eq!((&data["state"], &data["step"]), (&"awake".into(), &"ready".into()));
            break;
        }
        assert_eq!((name.as_str(), &data["state"]), ("state", &"waking".into()));
        assert!(data["elapsed_ms"].is_u64(), "{data}");
        steps.push(data["step"].as_str().unwrap().to_owned());
    }
    assert!(
        steps.is_sorted_by_key(|step| step != "starting") && steps.contains(&"probing".to_owned()),
        "{steps:?}"
    );
    assert_eq!(stream.end().await, "", "and ends");
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_eq!(event(&mut listen(&loir).await).await.0, "ready", "whoever comes late hears it at once");
}

async fn status(loir: &Gateway) -> serde_json::Value {
    let answer = send(loir.get("hello", "/.loir/status")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (200, "application/json"));
    assert_eq!(field(&answer, "cache-control"), "no-store");
    let state = field(&answer, "x-loir-state").to_owned();
    let status: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(status["state"].as_str(), Some(state.as_str()));
    status
}

#[tokio::test]
async fn event_streams_have_a_limit_and_give_their_places_back() {
    let loir = gateway([endless()]).server("limits: { event_streams: 2 }").start().await;
    let (one, _two) = (listen(&loir).await, listen(&loir).await);
    let answer = send(loir.get("hello", "/.loir/events")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PROBLEM));
    assert_eq!(status(&loir).await["state"], "asleep", "polling goes on");
    drop(one);
    eventually!(send(loir.get("hello", "/.loir/events")).await.status() == 200, "a place is free again");
}

#[tokio::test]
async fn a_wake_that_fails_is_told_with_a_reference_and_without_a_reason_and_not_tried_again_at_once() {
    let (clock, marker) = (Clock::manual(), tempfile::NamedTempFile::new().unwrap());
    let app = App::named("hello").env("FAIL_IF", marker.path().display());
    let loir = gateway([app]).defaults("hold_before_page: 20s").clock(&clock).start().await;
    let mut stream = listen(&loir).await;
    let visited = send(loir.visit("hello", "/").header("accept-language", "fr")).await;
    assert_eq!((visited.status().as_u16(), field(&visited, "content-type")), (502, PAGE));
    assert_eq!((field(&visited, "x-loir-state"), field(&visited, "cache-control")), ("failed", "no-store"));
    assert_eq!(seconds(&visited), 2, "the first back-off");
    let page = visited.text().await.unwrap();
    let problem = send(loir.get("hello", "/api")).await;
    assert_eq!((problem.status().as_u16(), field(&problem, "content-type")), (502, PROBLEM));
    let problem = problem.text().await.unwrap();
    let part =
        send(loir.get("hello", "/x").header("sec-fetch-mode", "no-cors").header("sec-fetch-dest", "script"))
            .await;
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (502, ""));
    let form = send(submit(&loir, "/form")).await;
    assert_eq!((form.status().as_u16(), field(&form, "content-type")), (502, PAGE));
    assert_eq!(field(&send(grpc(&loir)).await, "grpc-status"), "14");
    let failed = loop {
        let (name, data) = event(&mut stream).await;
        if name == "failed" {
            break data;
        }
    };
    let reference = failed["reference"].as_str().unwrap();
    assert_eq!(status(&loir).await["reference"].as_str(), Some(reference));
    assert!(page.contains(reference) && page.contains("n’a pas démarré"), "{page}");
    assert!(problem.contains(&format!("urn:loir:{reference}")), "{problem}");
    for told in [&page, &problem, &failed.to_string(), &form.text().await.unwrap()] {
        for secret in ["FAIL_IF", "exit", "status: 3", &marker.path().display().to_string()] {
            assert!(!told.contains(secret), "{secret} is nobody's business: {told}");
        }
    }
    assert_eq!(loir.times("hello", "start"), 1, "one try for all of them");

    clock.advance(Duration::from_secs(2));
    assert_eq!(
        seconds(&send(loir.get("hello", "/")).await),
        4,
        "a second try has failed, and the next is later"
    );
    clock.advance(Duration::from_secs(3));
    assert_eq!(seconds(&send(loir.get("hello", "/")).await), 1);
    assert_eq!(loir.times("hello", "start"), 2);
    drop(marker);
    clock.advance(Duration::from_secs(1));
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200, "and it recovers");
    assert_eq!(loir.times("hello", "start"), 3);
}

#[tokio::test]
async fn whoever_waits_in_a_wake_that_fails_hears_it_at_once() {
    let app = soon().env("DIE_BEFORE_LISTEN", 1);
    let loir = gateway([app]).defaults("hold_before_page: 50s\n  hold_timeout: 50s").start().await;
    let requests =
        (0..40).map(|turn| if turn % 2 == 0 { loir.get("hello", "/") } else { loir.visit("hello", "/") });
    let mut references = HashSet::new();
    for answer in join_all(requests.map(send)).await {
        assert_eq!(answer.status(), 502);
        let text = answer.text().await.unwrap();
        let reference =
            text.split("urn:loir:").nth(1).or_else(|| text.split("id=\"reference\">").nth(1)).unwrap();
        references.insert(reference[..8].to_owned());
        assert!(!text.contains("cannot go on"), "what the app printed is for the operator");
    }
    assert_eq!(references.len(), 1, "one failure, one reference: {references:?}");
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn too_many_that_wait_are_told_at_once_and_places_come_back() {
    for limit in ["held_per_app: 3", "held: 3"] {
        let loir = gateway([endless()]).server(&format!("limits: {{ {limit} }}")).start().await;
        let get = "GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n";
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(loir.send(get).await);
        }
        eventually!(loir.app("hello").held() == 3);
        let answer = send(loir.get("hello", "/")).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, PROBLEM), "{limit}");
        assert!(seconds(&answer) >= 1);
        assert_eq!(field(&send(loir.visit("hello", "/")).await, "content-type"), PAGE);
        assert_eq!(loir.app("hello").held(), 3, "whoever is refused takes no place");
        drop(inside.pop());
        eventually!(loir.app("hello").held() == 2, "a client that hung up gives its place back");
        let _third = loir.send(get).await;
        eventually!(loir.app("hello").held() == 3);
        assert_eq!(loir.times("hello", "start"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_different_clients_at_once_each_get_what_they_understand() {
    let app = App::named("hello").boots_in(Duration::from_millis(1500));
    let loir = gateway([app]).defaults("hold_before_page: 10ms").start().await;
    let visits = join_all((0..60).map(|_| async {
        let visit = send(loir.visit("hello", "/pid")).await;
        (visit.status().as_u16(), field(&visit, "content-type").to_owned())
    }));
    let bodies: Vec<String> = (0..60).map(|turn| format!("{turn:05}").repeat(2000)).collect();
    let posts = join_all(bodies.iter().map(|body| async {
        let answer = send(loir.request("POST", "hello", "/echo").body(body.clone())).await;
        (answer.status().as_u16(), answer.text().await.unwrap() == *body)
    }));
    let programs =
        join_all((0..60).map(|_| async { send(loir.get("hello", "/pid")).await.text().await.unwrap() }));
    let (visits, posts, programs) = join3(visits, posts, programs).await;
    for (status, kind) in visits {
        assert!(matches!((status, kind.as_str()), (503, PAGE) | (200, _)), "{status} {kind}");
    }
    assert!(posts.iter().all(|post| *post == (200, true)), "every body came back as it was: {posts:?}");
    assert_eq!(programs.iter().collect::<HashSet<_>>().len(), 1, "{programs:?}");
    assert_eq!((loir.times("hello", "POST /echo"), loir.times("hello", "start")), (60, 1));
}
