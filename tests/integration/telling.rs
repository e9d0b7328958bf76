//! What the app is told of a client, what a client is told by us, and what the log keeps of both.

use std::{sync::Arc, time::Duration};

use reqwest::header::HeaderMap;

use crate::support::{App, Gateway, Setup, gateway, program::Program, wire::Wire};

const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

const LIES: &[(&str, &str)] = &[
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "bank.test"),
    ("x-forwarded-port", "443"),
    ("x-real-ip", "6.6.6.6"),
    ("forwarded", "for=6.6.6.6;proto=https"),
    ("x-request-id", "my-own-id"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "vendor=1"),
    ("via", "1.1 front"),
];

async fn awake(setup: Setup) -> Gateway {
    let loir = setup.start().await;
    loir.wake("hello").await;
    loir
}

/// What the app sees of a request with these fields.
async fn seen(loir: &Gateway, fields: &[(&str, &str)]) -> HeaderMap {
    let mut request = loir.get("hello", "/headers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let fields = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let mut seen = HeaderMap::new();
    for (name, value) in fields {
        seen.append(
            reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    seen
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn an_app_is_told_who_asks_and_the_lies_of_a_client_are_replaced() {
    let loir = awake(gateway([App::named("hello")])).await;
    let port = loir.address.port().to_string();
    for fields in [&[], LIES] {
        let seen = seen(&loir, fields).await;
        assert_eq!(all(&seen, "host"), ["hello.test"]);
        assert_eq!(all(&seen, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(all(&seen, "x-real-ip"), ["127.0.0.1"]);
        assert_eq!(all(&seen, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&seen, "x-forwarded-host"), ["hello.test"]);
        assert_eq!(all(&seen, "x-forwarded-port"), [port.as_str()]);
        assert_eq!(all(&seen, "forwarded"), ["for=127.0.0.1;proto=http;host=\"hello.test\""]);
        let [id] = all(&seen, "x-request-id")[..] else { panic!("{seen:?}") };
        assert!(is_hex(id, 32), "{id}");
        let [trace] = all(&seen, "traceparent")[..] else { panic!("{seen:?}") };
        assert!(
            trace.starts_with(&format!("00-{id}-")) && trace.ends_with("-01") && trace.len() == 55,
            "{trace}"
        );
        assert!(all(&seen, "tracestate").is_empty());
        assert!(all(&seen, "via").concat().contains("1.1 loir-"));
    }
}

#[tokio::test]
async fn the_words_of_a_trusted_proxy_are_kept_and_added_to() {
    let loir = awake(gateway([App::named("hello")]).server("trusted_proxies: [loopback]")).await;
    let fields =
        [LIES, &[("x-forwarded-for", "7.7.7.7, 8.8.8.8"), ("via", "1.0 second"), ("forwarded", "for=_two")]]
            .concat();
    let seen = seen(&loir, &fields).await;
    assert_eq!(all(&seen, "x-forwarded-for").join(", "), "6.6.6.6, 7.7.7.7, 8.8.8.8, 127.0.0.1");
    assert_eq!(all(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&seen, "x-forwarded-host"), ["bank.test"]);
    assert_eq!(all(&seen, "x-forwarded-port"), ["443"]);
    assert_eq!(all(&seen, "x-real-ip"), ["6.6.6.6"]);
    let forwarded = "for=6.6.6.6;proto=https, for=_two, for=127.0.0.1;proto=http;host=\"hello.test\"";
    assert_eq!(all(&seen, "forwarded").join(", "), forwarded);
    assert_eq!(all(&seen, "x-request-id"), ["my-own-id"]);
    assert_eq!(all(&seen, "traceparent"), [LIES[7].1]);
    assert_eq!(all(&seen, "tracestate"), ["vendor=1"]);
    let via = all(&seen, "via").join(", ");
    assert!(via.starts_with("1.1 front, 1.0 second, 1.1 loir-"), "no earlier hop is lost: {via}");
}

#[tokio::test]
async fn what_is_meant_for_one_hop_goes_no_further() {
    let loir = awake(gateway([App::named("hello")])).await;
    let fields = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                  Proxy-Authorization: Basic c2VjcmV0\r\nTE: trailers\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\n\
                  HTTP2-Settings: AAMAAABk\r\nAuthorization: Bearer mine\r\nCookie: a=1\r\nX-Other: 2\r\n";
    let mut client = loir.send(format!("GET /headers HTTP/1.1\r\nHost: hello.test\r\n{fields}\r\n")).await;
    let (answer, seen) = client.answer().await;
    assert_eq!(answer.status, 200);
    for name in ["connection", "x-mine", "keep-alive", "proxy-", "te", "trailer", "upgrade", "http2-settings"]
    {
        assert!(!seen.lines().any(|line| line.starts_with(name) && !line.contains("test")), "{name}: {seen}");
    }
    for field in ["authorization: Bearer mine", "cookie: a=1", "x-other: 2"] {
        assert!(seen.contains(field), "{field}: {seen}");
    }
    // Nobody makes the gateway forget who asked by calling that a matter of one hop.
    for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Request-Id", "traceparent"] {
        let request =
            format!("GET /headers HTTP/1.1\r\nHost: hello.test\r\n{name}: x\r\nConnection: {name}\r\n\r\n");
        let (answer, seen) = loir.send(request).await.answer().await;
        let told = seen.to_ascii_lowercase().contains(&format!("{}: ", name.to_ascii_lowercase()));
        assert!(answer.status == 400 || (answer.status == 200 && told), "{name}: {} {seen}", answer.text);
    }
}

#[tokio::test]
async fn a_request_in_absolute_form_is_routed_by_it_and_rewritten() {
    let loir = awake(gateway([App::named("hello")])).await;
    for (target, host, line) in [
        ("http://hello.test/headers?a=1", "Host: hello.test\r\n", "GET /headers?a=1\n"),
        ("http://hello.test:8080/headers", "Host: hello.test:8080\r\n", "GET /headers\n"),
        ("http://hello.test/headers", "", "GET /headers\n"),
        ("HTTP://HELLO.test/headers", "", "GET /headers\n"),
        ("http://hello.test", "Host: hello.test\r\n", "hello from /\n"),
        ("http://hello.test?headers", "Host: hello.test\r\n", "hello from /?headers\n"),
    ] {
        let (answer, body) = loir.send(format!("GET {target} HTTP/1.1\r\n{host}\r\n")).await.answer().await;
        assert_eq!(answer.status, 200, "{target}");
        assert!(body.starts_with(line), "{target} became {body}");
    }
    let reserved = "GET http://hello.test/.loir/status HTTP/1.1\r\nHost: hello.test\r\n\r\n";
    let (answer, body) = loir.send(reserved).await.answer().await;
    assert_eq!(answer.status, 200);
    assert!(body.contains("\"state\":\"awake\""), "a reserved path is ours in this form too: {body}");
}

#[tokio::test]
async fn every_answer_of_ours_says_so_and_is_kept_by_no_cache() {
    let loir =
        awake(gateway([App::named("hello")]).server("limits: { body: 1KiB, header_fields: 20 }")).await;
    let get = |host: &str, fields: &str| format!("GET / HTTP/1.1\r\n{host}{fields}\r\n");
    let many: String = (0..30).map(|i| format!("X-{i}: 1\r\n")).collect();
    let cases = [
        (400, get("", "")),
        (400, get("Host: a/b\r\n", "")),
        (404, get("Host: nobody.test\r\n", "")),
        (404, "GET /.loir/nothing HTTP/1.1\r\nHost: hello.test\r\n\r\n".into()),
        (405, "CONNECT hello.test:443 HTTP/1.1\r\nHost: hello.test:443\r\n\r\n".into()),
        (413, "POST / HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 2000\r\n\r\n".into()),
        (431, get("Host: hello.test\r\n", &many)),
    ];
    for (status, request) in &cases {
        for (accept, kind) in
            [(HTML, "text/html; charset=utf-8"), ("application/json", "application/problem+json")]
        {
            let request = request.replacen("\r\n", &format!("\r\nAccept: {accept}\r\n"), 1);
            let (answer, body) = loir.send(&request).await.answer().await;
            assert_eq!(answer.status, *status, "{request}");
            assert_eq!(answer.field("content-type").as_deref(), Some(kind), "{request}");
            for (name, value) in [("cache-control", "no-store"), ("cdn-cache-control", "no-store")] {
                assert_eq!(answer.field(name).as_deref(), Some(value), "{name} of {request}");
            }
            assert_eq!(answer.field("x-robots-tag").as_deref(), Some("noindex"));
            assert_eq!(answer.field("x-loir-state").as_deref(), Some("none"));
            assert!(answer.field("vary").unwrap().contains("Accept"));
            assert_eq!(answer.field("server"), None, "{}", answer.text);
            let id = answer.field("x-request-id").unwrap();
            assert!(body.contains(&id), "{status} quotes its reference: {body}");
            if kind.ends_with("json") {
                let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(
                    (&problem["status"], &problem["type"]),
                    (&(*status).into(), &"about:blank".into())
                );
            } else {
                assert!(body.starts_with("<!doctype html>"), "{body}");
                assert!(answer.field("content-security-policy").unwrap().contains("default-src 'none'"));
            }
        }
    }
    let image = "GET /x.png HTTP/1.1\r\nHost: nobody.test\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n\r\n";
    let (answer, body) = loir.send(image).await.answer().await;
    assert_eq!((answer.status, body.as_str()), (404, ""), "a part of a page is no place for a page");
    let head =
        loir.send("HEAD / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n").await.end().await;
    assert!(head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n"), "HEAD has no body: {head}");
}

#[tokio::test]
async fn only_a_response_that_waited_says_how_long() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_millis(300))]).start().await;
    let first = loir.get("hello", "/pid").send().await.unwrap();
    let waited: f64 = first.headers()["x-loir-cold-start"].to_str().unwrap().parse().unwrap();
    assert!((0.3..20.0).contains(&waited), "{waited} s");
    let second = loir.get("hello", "/pid").send().await.unwrap();
    assert!(!second.headers().contains_key("x-loir-cold-start"));
    let unknown = loir.get("nobody", "/").send().await.unwrap();
    assert!(!unknown.headers().contains_key("x-loir-cold-start"));
}

#[tokio::test]
async fn a_method_that_does_not_fit_is_told_which_would() {
    let loir = awake(gateway([App::named("hello")])).await;
    for (line, allow) in [
        ("POST /.loir/status", "GET, HEAD"),
        ("DELETE /.loir/livez", "GET, HEAD"),
        ("HEAD /.loir/events", "GET"),
        ("CONNECT hello.test:443", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ] {
        let host = if line.starts_with("CONNECT") { "hello.test:443" } else { "hello.test" };
        let answer = loir.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.head().await;
        assert_eq!((answer.status, answer.field("allow").as_deref()), (405, Some(allow)), "{line}");
    }
}

#[tokio::test]
async fn a_grpc_client_is_told_whether_to_try_again() {
    let loir = awake(gateway([App::named("hello")]).server("limits: { body: 1KiB }")).await;
    for (code, host, length) in [("12", "nobody.test", 5), ("13", "a/b", 5), ("8", "hello.test", 2000)] {
        let fields = format!("Content-Type: application/grpc\r\nContent-Length: {length}\r\n");
        let request = format!("POST /a.B/C HTTP/1.1\r\nHost: {host}\r\n{fields}\r\nhello");
        let answer = loir.send(request).await.head().await;
        assert_eq!(answer.field("grpc-status").as_deref(), Some(code), "{}", answer.text);
    }
}

#[tokio::test]
async fn the_log_names_the_app_and_what_a_request_met() {
    let folder = tempfile::tempdir().unwrap();
    let setup = gateway([App::named("hello").boots_in(Duration::from_millis(300))]);
    let mut program = Program::start(&setup.server("access_log: json"), folder.path()).await;
    let robot = program.get("hello", "/robot").header("user-agent", "UptimeRobot/2.0").send().await.unwrap();
    assert_eq!(robot.status(), 503);
    for path in ["/first", "/second"] {
        assert_eq!(program.get("hello", path).send().await.unwrap().status(), 200);
    }
    program.says("/second").await;
    program.signal(nix::sys::signal::Signal::SIGTERM);
    program.ended().await;
    let log = std::fs::read_to_string(folder.path().join("loir.log")).unwrap();
    for (path, state, status) in
        [("/robot", "asleep", 503), ("/first", "asleep", 200), ("/second", "awake", 200)]
    {
        let line = log.lines().find(|line| line.contains(&format!("\"{path}\""))).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = ("local/hello".into(), state.into(), status.into());
        assert_eq!(
            (&line["app"], &line["app_state"], &line["status"]),
            (&expected.0, &expected.1, &expected.2)
        );
    }
}

/// Two gateways, each of which takes the other for its app. Their probes ask `/.loir/livez`, which knows of no loop.
#[tokio::test]
async fn a_loop_through_another_gateway_is_refused() {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (listen(), listen());
    let toward = |address: std::net::SocketAddr| {
        gateway([App::named("hello").env("RELAY", address).with("ready: { path: /.loir/livez }")])
    };
    let folder = || Arc::new(tempfile::tempdir().unwrap());
    let (to_here, to_there) = (toward(here.local_addr().unwrap()), toward(there.local_addr().unwrap()));
    let (loir, _other) = tokio::join!(to_there.start_on(here, folder()), to_here.start_on(there, folder()));
    let answer = loir.get("hello", "/").send().await.unwrap();
    assert_eq!(answer.status(), 508);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_request_that_has_been_here_is_known_by_its_via_and_a_stranger_is_not() {
    let loir = awake(gateway([App::named("hello")])).await;
    let via = all(&seen(&loir, &[]).await, "via").concat();
    for (given, status) in [(via.as_str(), 508), ("1.1 front", 200), ("1.1 loir-00000000", 200)] {
        let answer = loir.get("hello", "/headers").header("via", given).send().await.unwrap();
        assert_eq!(answer.status(), status, "{given}");
    }
    let answer = loir
        .get("hello", "/")
        .header("via", "1.1 a")
        .header("via", format!("{via}, 1.1 b"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 508, "whatever came between");
}

#[tokio::test]
async fn no_secret_of_a_request_is_in_the_log() {
    for format in ["json", "combined"] {
        let folder = tempfile::tempdir().unwrap();
        let setup = gateway([App::named("hello")]).server(&format!("access_log: {format}"));
        let mut program = Program::start(&setup, folder.path()).await;
        let secrets = "Authorization: Bearer S3CRET\r\nCookie: id=S3CRET\r\nReferer: https://a.test/from?key=S3CRET\r\n";
        let targets = [
            ("/seen?token=S3CRET", "Host: hello.test"),
            ("/lost?token=S3CRET", "Host: nobody.test"),
            ("/gone?token=S3CRET", "X: 1"),
            ("/crash?token=S3CRET", "Host: hello.test"),
            ("/late?token=S3CRET", "Host: hello.test"),
            ("http://hello.test/absolute?token=S3CRET", "Host: hello.test"),
            ("http://user:S3CRET@hello.test/", "Host: hello.test"),
            ("http://user:S3CRET@hello.test/", "X: 1"),
            ("/bad?token=S3CRET", "Host: user:S3CRET@hello.test"),
            ("/space ?token=S3CRET", "Host : x"),
        ];
        for (target, host) in targets {
            let request = format!(
                "GET {target} HTTP/1.1\r\n{host}\r\n{secrets}User-Agent: tester\r\nConnection: close\r\n\r\n"
            );
            let mut wire = Wire::with(program.address, request).await;
            assert!(wire.end().await.starts_with("HTTP/1.1 "), "{target}");
        }
        program.signal(nix::sys::signal::Signal::SIGTERM);
        program.ended().await;
        let log = std::fs::read_to_string(folder.path().join("loir.log")).unwrap();
        assert!(!log.contains("S3CRET") && !log.contains("Bearer"), "{log}");
        for path in ["/seen", "/lost", "/gone", "/crash", "/late", "/absolute"] {
            let line = log.lines().find(|line| line.contains(path) && line.contains("tester"));
            let line = line.unwrap_or_else(|| panic!("no line for {path}: {log}"));
            assert!(line.contains("https://a.test/from"), "{line}");
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!((&line["method"], &line["client_ip"]), (&"GET".into(), &"127.0.0.1".into()));
            } else {
                assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            }
        }
    }
}
