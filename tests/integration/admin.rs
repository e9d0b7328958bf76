//! The admin side over real sockets: who is let in, what it does, and that nothing of it and no app ever meet.

use std::{fs, time::Duration};

use loir::{
    app::AppState,
    config::Environment,
    server::{Source, load},
};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    eventually,
    support::{
        App, Gateway, Setup, gateway,
        program::{Program, free_address},
        wire::Wire,
    },
};

pub const READ: &str = "reader-0123456789";
pub const OPERATE: &str = "operator-0123456789";
pub const ADMIN: &str = "admin-0123456789abc";

/// With an admin side on a free port, and these tokens.
pub fn with_tokens(setup: Setup) -> Setup {
    let token =
        |name: &str, token: &str| format!("    - {{ name: {name}, token: {token}, scopes: [{name}] }}\n");
    let tokens = [token("read", READ), token("operate", OPERATE), token("admin", ADMIN)].concat();
    setup.top(&format!("admin:\n  listen: 127.0.0.1:0\n  host: admin.test\n  tokens:\n{tokens}"))
}

/// With an admin side on a free port, and no tokens.
pub fn with_admin(setup: Setup) -> Setup {
    setup.top("admin:\n  listen: 127.0.0.1:0\n")
}

/// A request to the admin side's own listener.
pub fn ask(gateway: &Gateway, method: &str, path: &str) -> RequestBuilder {
    let address = gateway.running.admin_address().expect("it listens");
    gateway.client.request(method.parse::<Method>().unwrap(), format!("http://{address}{path}"))
}

async fn status(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let headers = answer.headers().clone();
    let text = answer.text().await.unwrap();
    if !status.is_success() {
        is_problem(status, &headers, &text);
    }
    (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn is_problem(status: StatusCode, headers: &HeaderMap, text: &str) {
    assert_eq!(headers["content-type"], "application/problem+json", "{status} {text}");
    assert_eq!(headers["cache-control"], "no-store");
    let problem: Value = serde_json::from_str(text).unwrap();
    assert_eq!(problem["status"], status.as_u16(), "{text}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{text}");
}

#[tokio::test]
async fn an_app_is_listed_woken_pinned_and_stopped() {
    let gateway = with_admin(gateway([App::named("shop"), App::named("blog")])).start().await;
    let (code, apps) = status(ask(&gateway, "GET", "/v1/apps")).await;
    assert_eq!(
        (code, apps[0]["id"].as_str(), apps[1]["id"].as_str()),
        (200, Some("local/blog"), Some("local/shop"))
    );
    let woken = ask(&gateway, "POST", "/v1/apps/local/shop/wake").send().await.unwrap();
    assert_eq!(
        (woken.status().as_u16(), &woken.headers()["location"]),
        (202, &"/v1/apps/local/shop".parse().unwrap())
    );
    eventually!(gateway.app("shop").state() == AppState::Awake);
    assert_eq!(status(ask(&gateway, "POST", "/v1/apps/local/shop/wake")).await.0, 200, "once more is once");
    assert_eq!(gateway.times("shop", "start"), 1);
    let (_, awake) =
        status(ask(&gateway, "GET", "/v1/apps?state=awake&provider=local&pattern=s*&q=SHOP")).await;
    assert_eq!((awake.as_array().map(Vec::len), &awake[0]["state"]), (Some(1), &json!("awake")));
    let (_, detail) = status(ask(&gateway, "GET", "/v1/apps/local/shop")).await;
    assert!(detail["why"].as_str().unwrap().starts_with("awake"), "{detail}");
    assert!(detail["sleeps_in"].as_u64().unwrap() > 3_500_000, "{detail}");

    let pin = |body: Value| {
        status(
            ask(&gateway, "POST", "/v1/apps/local/shop/pin")
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
    };
    assert_eq!(pin(json!({ "for": "2h" })).await.0, 200);
    let (code, refused) = status(ask(&gateway, "POST", "/v1/apps/local/shop/sleep")).await;
    assert_eq!(code, 409, "a pin holds: {refused}");
    assert_eq!(pin(json!({ "for": "2h", "until": "2099-01-01T00:00:00Z" })).await.0, 422);
    assert_eq!(pin(json!({ "until": "1999-01-01T00:00:00Z" })).await.0, 422);
    assert_eq!(pin(json!({ "for": "2" })).await.0, 422);
    assert_eq!(pin(json!({ "fro": "2h" })).await.0, 422);
    assert_eq!(status(ask(&gateway, "POST", "/v1/apps/local/shop/pin").body("{}")).await.0, 415);
    assert_eq!(
        status(
            ask(&gateway, "POST", "/v1/apps/local/shop/pin")
                .header("content-type", "application/json")
                .body("{")
        )
        .await
        .0,
        400
    );
    assert_eq!(status(ask(&gateway, "POST", "/v1/apps/local/shop/unpin")).await.0, 200);
    let (code, slept) = status(ask(&gateway, "POST", "/v1/apps/local/shop/sleep")).await;
    assert!(code == 202 || slept["state"] == "asleep", "{code} {slept}");
    eventually!(gateway.app("shop").state() == AppState::Asleep);

    // What was done is in the history, with who did it.
    eventually!(
        status(ask(&gateway, "GET", "/v1/events?event=asleep")).await.1["found"][0]["cause"]["name"]
            == "local"
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_as_a_problem_whatever_it_is() {
    let gateway = with_admin(gateway([App::named("shop")])).start().await;
    for (method, path, expected) in [
        ("GET", "/v1/apps/local/shpo", 404),
        ("GET", "/v1/apps/paris/shop", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v1/apps/%ff/shop", 400),
        ("GET", "/v1/apps?state=sleepy", 400),
        ("GET", "/v1/apps?stat=awake", 400),
        ("GET", "/v1/events?limit=many", 400),
        ("GET", "/v1/events/live?ap=x", 400),
        ("GET", "/v1/report?since=yesterday", 400),
        ("GET", "/v1/report?what_if=hope", 400),
        ("DELETE", "/v1/apps", 405),
        ("GET", "/v1/apps/local/shop/wake", 405),
        ("POST", "/v1/reload", 409),
    ] {
        assert_eq!(status(ask(&gateway, method, path)).await.0, expected, "{method} {path}");
    }
    let (_, detail) = status(ask(&gateway, "GET", "/v1/apps/local/shpo")).await;
    assert!(detail["detail"].as_str().unwrap().contains("did you mean local/shop?"), "{detail}");
    let large = ask(&gateway, "POST", "/v1/apps/local/shop/pin").header("content-type", "application/json");
    assert_eq!(status(large.body(format!("{{\"for\":\"{}\"}}", " ".repeat(100_000)))).await.0, 413);
    let allowed = ask(&gateway, "POST", "/v1/apps").send().await.unwrap();
    assert!(allowed.headers()["allow"].to_str().unwrap().contains("GET"), "{:?}", allowed.headers());
}

#[tokio::test]
async fn each_scope_may_do_its_own_and_what_is_below_and_no_more() {
    let gateway = with_tokens(gateway([App::named("shop")])).start().await;
    let with = |token: &str, method: &str, path: &str| status(ask(&gateway, method, path).bearer_auth(token));
    for (path, method, allowed) in [
        ("/v1/apps", "GET", [200, 200, 200]),
        ("/metrics", "GET", [200, 200, 200]),
        ("/openapi.json", "GET", [200, 200, 200]),
        ("/v1/report", "GET", [200, 200, 200]),
        ("/v1/apps/local/shop/unpin", "POST", [403, 200, 200]),
        ("/v1/config", "GET", [403, 403, 200]),
    ] {
        let found = [
            with(READ, method, path).await.0,
            with(OPERATE, method, path).await.0,
            with(ADMIN, method, path).await.0,
        ];
        assert_eq!(found, allowed, "{method} {path}");
        let (code, _) = status(ask(&gateway, method, path)).await;
        assert_eq!(code, 401, "{path} without a token");
        let nobody = ask(&gateway, method, path).bearer_auth("nobodys-0123456789").send().await.unwrap();
        assert_eq!(nobody.headers()["www-authenticate"], "Bearer realm=\"loir\"");
    }
    let config =
        ask(&gateway, "GET", "/v1/config").bearer_auth(ADMIN).send().await.unwrap().text().await.unwrap();
    assert!(!config.contains(ADMIN) && config.contains("token: \"***\""), "{config}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&gateway, "GET", path).send().await.unwrap().status(), 200, "probes have no tokens");
    }
    assert_eq!(status(ask(&gateway, "GET", "/readyz?verbose")).await.0, 401);
    let words =
        ask(&gateway, "GET", "/readyz?verbose").bearer_auth(READ).send().await.unwrap().text().await.unwrap();
    assert!(words.starts_with("ready\nregistry: ok"), "{words}");
}

#[tokio::test]
async fn without_tokens_only_this_machine_itself_is_answered() {
    let gateway = with_admin(gateway([App::named("shop")])).start().await;
    let port = gateway.running.admin_address().unwrap().port();
    for (host, expected) in [
        ("localhost".to_owned(), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("evil.example:{port}"), 401),
        ("shop.test".to_owned(), 401),
    ] {
        assert_eq!(
            status(ask(&gateway, "GET", "/v1/apps").header("host", &host)).await.0,
            expected,
            "Host: {host}"
        );
    }
    for (name, value, expected) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 200),
        ("x-forwarded-for", "127.0.0.1", 401),
        ("forwarded", "for=127.0.0.1", 401),
        ("via", "1.1 proxy", 401),
    ] {
        assert_eq!(
            status(ask(&gateway, "GET", "/v1/apps").header(name, value)).await.0,
            expected,
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_client_that_guesses_is_told_when_it_is_heard_again() {
    let gateway = with_tokens(gateway([])).start().await;
    let mut codes = Vec::new();
    for _ in 0..11 {
        codes.push(status(ask(&gateway, "GET", "/v1/apps").bearer_auth("guess-0123456789")).await.0);
    }
    assert_eq!((codes[9], codes[10]), (401, 429), "{codes:?}");
    let refused = ask(&gateway, "GET", "/v1/apps").bearer_auth(READ).send().await.unwrap();
    assert_eq!(refused.status(), 429, "not even with a right one");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let probe = ask(&gateway, "GET", "/livez").bearer_auth("guess-0123456789");
    assert_eq!(probe.send().await.unwrap().status(), 200, "a probe is no guess");
}

#[tokio::test]
async fn under_its_host_the_admin_side_is_reached_on_the_main_port_and_no_app_is() {
    let gateway = with_tokens(gateway([App::named("shop"), App::named("admin").with("hosts: [other.test]")]));
    // `admin.test` would be the app `admin`, which is a mistake that is told.
    let folder = tempfile::tempdir().unwrap();
    let text = gateway.yaml(folder.path(), "127.0.0.1:0".parse().unwrap());
    let problems =
        load(Source { name: "x.yaml".into(), text }, &Environment::default()).err().unwrap().to_string();
    assert!(problems.contains("the host `admin.test` is the admin side's"), "{problems}");

    let gateway = with_tokens(super::support::gateway([App::named("shop")])).start().await;
    gateway.wake("shop").await;
    let under = |method: &str, path: &str| gateway.request(method, "admin", path);
    assert_eq!(status(under("GET", "/v1/apps").bearer_auth(READ)).await.0, 200);
    for host in ["ADMIN.test", "admin.test.", "admin.test:8080"] {
        let request = gateway.client.get(format!("http://{}/v1/apps", gateway.address)).header("host", host);
        assert_eq!(status(request).await.0, 401, "{host} without a token, from this machine");
    }
    for path in ["/livez", "/readyz", "/metrics", "/pid", "/.loir/status", "/v1/apps"] {
        assert_eq!(status(under("GET", path)).await.0, 401, "{path}");
    }
    for path in [
        "/pid",
        "/echo",
        "/headers",
        "/.loir/status",
        "/v1/apps/local/shop/../../../pid",
        "//pid",
        "/%2e%2e/pid",
    ] {
        assert_eq!(status(under("GET", path).bearer_auth(ADMIN)).await.0, 404, "{path}");
    }
    let mut wire = Wire::with(
        gateway.address,
        format!(
            "GET http://admin.test/pid HTTP/1.1\r\nHost: admin.test\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        ),
    )
    .await;
    assert_eq!(wire.head().await.status, 404);
    for path in ["/v1/apps", "/metrics", "/v1/config", "/openapi.json"] {
        let answer = gateway.get("shop", path).bearer_auth("somebody-elses-token").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path} is the app's own");
    }
    let journal = gateway.journal("shop");
    let own: Vec<_> = journal.iter().filter(|line| line.starts_with("GET")).collect();
    assert_eq!(
        own,
        ["GET /pid", "GET /v1/apps", "GET /metrics", "GET /v1/config", "GET /openapi.json"],
        "{journal:?}"
    );
    let body = "x".repeat(100_000);
    assert_eq!(under("POST", "/v1/reload").bearer_auth(ADMIN).body(body).send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_token_in_any_header_never_reaches_an_app() {
    let made = loir::credentials::new_token().unwrap();
    let hash = loir::credentials::TokenHash::of(&made);
    let setup = gateway([App::named("shop")]).top(&format!(
        "admin:\n  listen: 127.0.0.1:0\n  tokens:\n    - {{ name: made, hash: \"{hash}\" }}\n    - {{ name: own, token: {OPERATE} }}\n"
    ));
    let gateway = setup.start().await;
    gateway.wake("shop").await;
    let mut request = gateway.get("shop", "/headers").header("x-loir-token", OPERATE);
    for name in ["cookie", "x-api-key", "referer", "user-agent", "x-forwarded-for", "via", "te", "x-anything"]
    {
        request = request.header(name, format!("a={made}; b"));
    }
    let seen = request.bearer_auth(OPERATE).send().await.unwrap().text().await.unwrap();
    assert!(seen.contains("host"), "{seen}");
    assert!(!seen.contains(&made) && !seen.contains(OPERATE), "{seen}");
    let own =
        gateway.get("shop", "/headers").bearer_auth("the-apps-own-token-of-a-visitor").send().await.unwrap();
    assert!(
        own.text().await.unwrap().contains("the-apps-own-token-of-a-visitor"),
        "what is the app's goes to the app"
    );
    // Also of a request that upgrades, and of one that had to wait.
    gateway.put_to_sleep("shop").await;
    let late = gateway.get("shop", "/headers").bearer_auth(&made).send().await.unwrap().text().await.unwrap();
    assert!(!late.contains(&made), "{late}");
}

#[tokio::test]
async fn events_come_live_at_both_doors_and_from_where_one_left_off() {
    let gateway = with_tokens(gateway([App::named("shop")])).start().await;
    let mut own = ask(&gateway, "GET", "/v1/events/live?app=shop").bearer_auth(READ).send().await.unwrap();
    assert_eq!(own.headers()["content-type"], "text/event-stream");
    let edge = gateway.request("GET", "admin", "/v1/events/live").bearer_auth(READ).send();
    let mut edge = edge.await.unwrap();
    async fn until(stream: &mut reqwest::Response, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let more = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.expect(text);
            all.push_str(&String::from_utf8_lossy(&more.unwrap().expect("it goes on")));
        }
        all
    }
    until(&mut own, ": listening").await;
    until(&mut edge, ": listening").await;
    gateway.wake("shop").await;
    let heard = until(&mut own, "event: ready").await;
    until(&mut edge, "event: ready").await;
    assert!(heard.contains("event: asked-for"), "{heard}");
    let first = heard.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let again = ask(&gateway, "GET", "/v1/events/live").bearer_auth(READ).header("last-event-id", first);
    let mut again = again.send().await.unwrap();
    let missed = until(&mut again, "event: ready").await;
    assert!(!missed.contains("event: asked-for"), "that one was seen: {missed}");
    // The last one that was seen may be of another gateway, whose clock is ahead of this one's.
    let ahead = loir::history::EventId::at(u64::MAX).to_string();
    let ahead = ask(&gateway, "GET", "/v1/events/live").bearer_auth(READ).header("last-event-id", ahead);
    let mut ahead = ahead.send().await.unwrap();
    until(&mut ahead, ": listening").await;
    gateway.put_to_sleep("shop").await;
    until(&mut ahead, "event: asleep").await;
    let wrong = ask(&gateway, "GET", "/v1/events/live").bearer_auth(READ).header("last-event-id", "x");
    assert_eq!(status(wrong).await.0, 400);
    // The end of the gateway is the end of the streams.
    tokio::spawn(gateway.running.end());
    while let Ok(Ok(Some(_))) = tokio::time::timeout(Duration::from_secs(20), own.chunk()).await {}
    assert!(tokio::time::timeout(Duration::from_secs(20), again.chunk()).await.is_ok());
}

#[tokio::test]
async fn a_wake_link_is_made_for_whoever_may_operate() {
    let gateway = with_tokens(gateway([App::named("shop")])).start().await;
    let link = |token: &str, long: &str| {
        let request = ask(&gateway, "POST", "/v1/apps/local/shop/wake-link").bearer_auth(token);
        status(request.header("content-type", "application/json").body(json!({ "for": long }).to_string()))
    };
    assert_eq!(link(READ, "1d").await.0, 403);
    assert_eq!(link(OPERATE, "500 days").await.0, 422);
    let (code, made) = link(OPERATE, "1d").await;
    assert_eq!(code, 201);
    let url = made["link"].as_str().unwrap();
    let path = url.strip_prefix("https://shop--local.test").unwrap();
    assert_eq!(gateway.app("shop").state(), AppState::Asleep);
    let answer = gateway.get("shop--local", path).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].as_bytes()), (303, &b"/"[..]));
    eventually!(gateway.app("shop").state() == AppState::Awake);
}

#[tokio::test]
async fn a_reload_is_asked_for_and_its_problems_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let admin = free_address();
    let block = format!("admin:\n  listen: {admin}\n");
    let setup = gateway([App::named("shop")]).top(&block);
    let loir = Program::start(&setup, folder.path()).await;
    loir.says("the admin side listens").await;
    let ask = |method: &str, path: &str| {
        crate::support::client().request(method.parse().unwrap(), format!("http://{admin}{path}"))
    };
    let config = folder.path().join("loir.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("idle_timeout: 1h", "idle_timeout: 2h")).unwrap();
    assert_eq!(ask("POST", "/v1/reload").send().await.unwrap().status(), 204);
    let shown = ask("GET", "/v1/config").send().await.unwrap().text().await.unwrap();
    assert!(shown.contains("idle_timeout: 2h"), "{shown}");
    fs::write(&config, text.replace("idle_timeout: 1h", "idle_timeout: soon")).unwrap();
    let (code, problem) = status(ask("POST", "/v1/reload")).await;
    assert!(code == 422 && problem["detail"].as_str().unwrap().contains("is not a duration"), "{problem}");
    let metrics = ask("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("loir_config_last_reload_successful 0"), "{metrics}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_if_it_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = folder.path().join("loir.yaml");
    let setup = gateway([]).top(&format!("admin:\n  listen: {address}\n"));
    fs::write(&config, setup.yaml(folder.path(), free_address())).unwrap();
    let output = Program::refused(&config).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("for the admin side") && said.contains("admin.listen"),
        "{said}"
    );
}

#[test]
fn mistakes_in_the_block_are_told() {
    let problems = |block: &str| {
        let text = format!("server: {{ listen: 127.0.0.1:8080 }}\nproviders: []\nadmin:\n{block}");
        load(Source { name: "x.yaml".into(), text }, &Environment::default())
            .err()
            .map(|p| p.to_string())
            .unwrap_or_default()
    };
    for (block, expected) in [
        ("  listen: 127.0.0.1:8080\n", "this is where clients connect"),
        ("  listen: 0.0.0.0:9090\n", "there are no `tokens`"),
        ("  host: a.test\n", "there are no `tokens`"),
        ("  tokens: [{ name: a, token: short }]\n", "shorter than 16"),
        ("  tokens: [{ name: a }]\n", "needs its `hash`"),
        ("  tokens: [{ token: 0123456789abcdef0 }]\n", "`name` is missing"),
        ("  tokens: [{ name: a, hash: abc }]\n", "is not a hash"),
        (
            "  tokens: [{ name: a, token: 0123456789abcdef0 }, { name: a, token: 0123456789abcdef1 }]\n",
            "another token has this name",
        ),
        ("  signing_key: short\n", "shorter than 32"),
    ] {
        let told = problems(block);
        assert!(told.contains(expected), "{block}{told}");
    }
    assert_eq!(problems("  listen: off\n"), "");
}
