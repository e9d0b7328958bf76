//! Bad input: a clear 4xx or a closed connection, the gateway alive, other clients undisturbed.

use std::time::{Duration, Instant};

use crate::{
    eventually,
    support::{App, Gateway, Setup, gateway, wire::Wire},
};

/// A gateway with an awake app, and a client of it that has nothing to do with what follows.
struct Scene {
    loir: Gateway,
    bystander: Wire,
    pid: String,
}

const GOOD: &str = "GET /pid HTTP/1.1\r\nHost: hello.test\r\n\r\n";

impl Scene {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let loir = change(gateway([App::named("hello")])).start().await;
        loir.wake("hello").await;
        let mut bystander = loir.send(GOOD).await;
        let (_, pid) = bystander.answer().await;
        Self { loir, bystander, pid }
    }

    /// The bystander's connection still stands, new clients are served, and the app is the one it was.
    async fn is_undisturbed(&mut self, by: &str) {
        self.bystander.send(GOOD).await;
        let (answer, pid) = self.bystander.answer().await;
        assert_eq!((answer.status, &pid), (200, &self.pid), "an open connection after {by}");
        let (answer, pid) = self.loir.send(GOOD).await.answer().await;
        assert_eq!((answer.status, &pid), (200, &self.pid), "a new connection after {by}");
    }

    /// Sends bytes and tells the status, or 0 if the connection is closed without an answer.
    async fn status_of(&mut self, bytes: impl AsRef<[u8]>) -> u16 {
        let bytes = bytes.as_ref();
        let status = self.loir.send(bytes).await.head_or_end().await.map_or(0, |head| head.status);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        self.is_undisturbed(&shown).await;
        status
    }

    async fn refuses(&mut self, cases: &[(u16, &str)]) {
        for (status, request) in cases {
            assert_eq!(self.status_of(request).await, *status, "{request:?}");
        }
        assert!(
            !self.loir.journal("hello").iter().any(|line| line.contains("/bad")),
            "the app heard of none of it"
        );
    }
}

#[tokio::test]
async fn malformed_hosts_are_refused() {
    let mut scene = Scene::new().await;
    let long = "a".repeat(300);
    let hosts = [
        "",
        " ",
        "a b",
        "a/b",
        "a\\b",
        "a,b",
        "hello.test,hello.test",
        "hello.test hello.test",
        ":80",
        "hello.test:x",
        "hello.test:99999999",
        "hello.test:80:80",
        "[",
        "[::1",
        "[::1]x",
        "user@hello.test",
        ".",
        "hello.test%00",
        "hello.test\t.x",
        "<script>alert(1)</script>",
        "\u{e9}.test",
        "http://hello.test",
        "hello.test?",
        "hello.test#",
        "../../etc/passwd",
        "${jndi:ldap://x}",
        &long,
        "hello.test\x00",
        "hello.test\x7f",
    ];
    for host in hosts {
        let status = scene.status_of(format!("GET /bad HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status, 400, "{host:?}");
    }
    let port = scene.status_of("GET /fine HTTP/1.1\r\nHost: HELLO.test.:\r\n\r\n").await;
    assert_eq!(port, 200, "an empty port is a port (RFC 3986, 3.2.3), a name may end with a dot");
    scene
        .refuses(&[
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: hello.test\r\nHost: hello.test\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: hello.test\r\nHost: other.test\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: hello.test\r\nhost: hello.test\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : hello.test\r\n\r\n"),
        ])
        .await;
}

#[tokio::test]
async fn targets_that_contradict_the_host_are_refused() {
    let mut scene = Scene::new().await;
    scene
        .refuses(&[
            (400, "GET http://hello.test/bad HTTP/1.1\r\nHost: other.test\r\n\r\n"),
            (400, "GET http://other.test/bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, "GET http://hello.test:81/bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, "GET http://user@hello.test/bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, "GET http://user:pw@hello.test/bad HTTP/1.1\r\n\r\n"),
            (400, "GET http:/\\hello.test/bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, "GET http:///bad HTTP/1.1\r\n\r\n"),
            (404, "GET http://nobody.test/bad HTTP/1.1\r\n\r\n"),
            (404, "GET http://nobody.test/bad HTTP/1.1\r\nHost: nobody.test\r\n\r\n"),
        ])
        .await;
    // Whatever else a target may be, it is nothing that harms.
    for target in [
        "*",
        "hello.test:80",
        "bad",
        "?",
        "#",
        "https://hello.test/x",
        "ftp://hello.test/x",
        "/%",
        "/%00",
        "/\x7f",
    ] {
        let status = scene.status_of(format!("GET {target} HTTP/1.1\r\nHost: hello.test\r\n\r\n")).await;
        assert!(matches!(status, 200 | 400 | 404), "{target:?}: {status}");
    }
}

#[tokio::test]
async fn connect_is_refused_in_our_words() {
    let mut scene = Scene::new().await;
    for request in [
        "CONNECT hello.test:443 HTTP/1.1\r\nHost: hello.test:443\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
        "CONNECT hello.test:443 HTTP/1.0\r\n\r\n",
    ] {
        let (answer, body) = scene.loir.send(request).await.answer().await;
        assert_eq!(answer.status, 405, "{request}");
        assert!(body.contains("not a forward proxy"), "{body}");
        assert_eq!(answer.field("server"), None);
        scene.is_undisturbed(request).await;
    }
}

#[tokio::test]
async fn a_header_that_is_too_much_is_refused_in_our_words_where_it_can_be_read() {
    let mut scene = Scene::new().await;
    let fields = |count: usize| (0..count).map(|i| format!("X-{i}: 1\r\n")).collect::<String>();
    let get = |fields: &str| format!("GET /bad HTTP/1.1\r\nHost: hello.test\r\n{fields}\r\n");
    for (status, request) in [
        (431, get(&fields(150))),
        (431, get(&format!("X: {}\r\n", "y".repeat(70_000)))),
        (431, get(&format!("Cookie: {}\r\n", "y".repeat(500_000)))),
        (431, get("X: 1\r\n").replace("/bad", &format!("/bad?{}", "y".repeat(65_520)))),
        // Beyond these Pingora itself refuses: 256 fields, 64 KiB of target, a megabyte in all.
        (400, get(&fields(300))),
        (400, get("").replace("/bad", &format!("/bad?{}", "y".repeat(70_000)))),
    ] {
        assert_eq!(scene.status_of(&request).await, status, "{} bytes", request.len());
    }
    let (answer, _) = scene.loir.send(get(&fields(150))).await.answer().await;
    assert!(answer.field("x-loir-state").is_some() && answer.field("server").is_none(), "{}", answer.text);
    assert_eq!(scene.status_of(get(&fields(50)).replace("/bad", "/good")).await, 200);

    // A header without end: whether the client hears the 400 is a matter of who closes first.
    let mut endless = scene.loir.send("GET /bad HTTP/1.1\r\nHost: hello.test\r\nX: ").await;
    let mut sent = 0;
    use tokio::io::AsyncWriteExt;
    while endless.stream.write_all(&[b'y'; 64 * 1024]).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "64 MB of header were taken in");
    }
    scene.is_undisturbed("a header without end").await;
    assert_eq!(scene.loir.times("hello", "GET /bad"), 0);
}

#[tokio::test]
async fn a_body_whose_length_is_ambiguous_is_refused_or_its_connection_ends() {
    let mut scene = Scene::new().await;
    let post = |fields: &str| format!("POST /bad HTTP/1.1\r\nHost: hello.test\r\n{fields}\r\n\r\nhello");
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999999",
        "Content-Length: five",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\u{b}: chunked",
        "Content-Length: 5\r\n Transfer-Encoding: chunked",
    ] {
        let status = scene.status_of(post(fields)).await;
        assert!(matches!(status, 400 | 413), "{fields:?}: {status}");
    }
    assert_eq!(scene.loir.times("hello", "POST /bad"), 0);
    // Both lengths: the chunks count (RFC 9112, 6.3), the app sees one of them only, and nothing may follow.
    let both = "POST /headers HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = scene.loir.send(format!("{both}0\r\n\r\n")).await;
    let (answer, seen) = client.answer().await;
    assert_eq!((answer.status, answer.field("connection").as_deref()), (200, Some("close")));
    assert!(!seen.contains("content-length"), "{seen}");
    assert_eq!(client.end().await, "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: hello.test\r\n\r\n";
    scene.loir.send(format!("{both}0\r\n\r\n{smuggled}")).await.end().await;
    assert_eq!(scene.loir.times("hello", "GET /smuggled"), 0);
    scene.is_undisturbed("both lengths").await;
    for chunks in ["zz\r\n", "-1\r\n", "5\r\nhelloX\r\n", "fffffffffffffffff\r\n", "5hello\r\n0\r\n\r\n"] {
        let request =
            format!("POST /count HTTP/1.1\r\nHost: hello.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let status = scene.status_of(request).await;
        assert!(matches!(status, 0 | 400), "{chunks:?}: {status}");
    }
    assert!(
        !scene.loir.journal("hello").iter().any(|line| line.starts_with("body")),
        "no such body arrived as a whole one"
    );
}

#[tokio::test]
async fn line_ends_and_bytes_that_do_not_belong_in_a_header_are_refused() {
    let mut scene = Scene::new().await;
    scene
        .refuses(&[
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\nX: a\rb\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\rHost: hello.test\r\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\nX: a\r\n folded\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\n Host: hello.test\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\nX: \0\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\nX y: 1\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\n: 1\r\n\r\n"),
            (400, "GET /bad HTTP/1.1\r\nHost: hello.test\r\nno colon\r\n\r\n"),
            (400, "GET /bad HTTP/9.9\r\nHost: hello.test\r\n\r\n"),
            (400, "GET /bad\r\nHost: hello.test\r\n\r\n"),
            (400, "G\u{e9}T /bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, " /bad HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
            (400, "POST /bad HTTP/1.0\r\nHost: hello.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ])
        .await;
    // A lone LF ends a line for those who want it so (RFC 9112, 2.2): the app is sent proper lines.
    let lenient = "GET /headers HTTP/1.1\nHost: hello.test\nX-Lenient: yes\n\n";
    let (answer, seen) = scene.loir.send(lenient).await.answer().await;
    assert_eq!(answer.status, 200);
    assert!(seen.contains("x-lenient: yes\n"), "{seen}");
}

/// An HTTP/1.0 client waits for the end of the connection, and knows no chunks.
#[tokio::test]
async fn http_1_0_is_served_as_it_wants_to_be() {
    let mut scene = Scene::new().await;
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.0\r\n{fields}\r\n");
    assert_eq!(scene.status_of(get("/bad", "")).await, 400, "without a Host nobody knows for whom it is");
    let answer = scene.loir.send(get("/headers", "Host: hello.test\r\n")).await.end().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /headers\n"), "{answer}");
    let answer = scene.loir.send(get("/drip/3/20", "Host: hello.test\r\n")).await.end().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "chunk 0\nchunk 1\nchunk 2\n");
    let mut kept = scene.loir.wire().await;
    for _ in 0..2 {
        kept.send(get("/pid", "Host: hello.test\r\nConnection: keep-alive\r\n")).await;
        assert_eq!(kept.answer().await.0.status, 200, "a connection is kept for whoever asks for it");
    }
    scene.is_undisturbed("HTTP/1.0").await;
}

#[tokio::test]
async fn garbage_and_other_protocols_end_their_own_connection_only() {
    let mut scene = Scene::with(|setup| setup.server("timeouts: { header: 1s }")).await;
    let tls_hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0x5a; 500]].concat();
    let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [
        &tls_hello[..],
        &noise,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"{\"json\": 1}\n\n",
        b"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n",
    ] {
        let mut client = scene.loir.send(bytes).await;
        let said = client.end().await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 400"),
            "{:?}: {said:?}",
            &bytes[..bytes.len().min(20)]
        );
        scene.is_undisturbed("garbage").await;
    }
}

#[tokio::test]
async fn clients_that_hang_up_anywhere_leave_nothing_behind() {
    let mut scene = Scene::new().await;
    let whole = "POST /count HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 100\r\n\r\nhello";
    for length in (0..=whole.len()).step_by(7) {
        drop(scene.loir.send(&whole[..length]).await);
    }
    for path in ["/never", "/slow/20", "/drip/1000/5", "/bytes/10000000", "/one-event"] {
        let mut client = scene.loir.send(format!("GET {path} HTTP/1.1\r\nHost: hello.test\r\n\r\n")).await;
        if path != "/never" && path != "/slow/20" {
            client.head().await;
        } else {
            eventually!(scene.loir.times("hello", &format!("GET {path}")) == 1);
        }
        drop(client);
    }
    eventually!(scene.loir.app("hello").in_flight() == 0, "no request is left in flight");
    eventually!(
        scene.loir.running.open_connections() <= 2,
        "only the bystander and the first client are left"
    );
    scene.is_undisturbed("early ends").await;
}

#[tokio::test]
async fn a_header_that_is_dripped_is_cut_although_every_byte_came_in_time() {
    let mut scene = Scene::with(|setup| setup.server("timeouts: { header: 1s }")).await;
    let began = Instant::now();
    let mut slow = scene.loir.wire().await;
    let mut sent = 0;
    let mut drip = async || {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut byte = [0; 1];
        loop {
            if slow.stream.write_all(b"G").await.is_err() {
                return;
            }
            sent += 1;
            assert!(began.elapsed() < Duration::from_secs(20), "never cut");
            let pause = Duration::from_millis(20);
            if tokio::time::timeout(pause, slow.stream.read(&mut byte)).await.is_ok() {
                return;
            }
        }
    };
    drip().await;
    assert!(began.elapsed() >= Duration::from_millis(900), "not before the limit: {:?}", began.elapsed());
    assert!(sent > 2, "byte by byte");
    scene.is_undisturbed("a dripped header").await;
    // The limit is for headers: an answer may take longer, and so may a body.
    let slow = scene.loir.get("hello", "/slow/1500").send().await.unwrap();
    assert_eq!(slow.status(), 200);
    let mut body =
        scene.loir.send("POST /echo HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 8\r\n\r\n").await;
    for byte in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        body.send(byte).await;
        assert_eq!(scene.loir.get("hello", "/slow/200").send().await.unwrap().status(), 200);
    }
    assert_eq!(body.answer().await.1, "abcdefgh");
}

#[tokio::test]
async fn a_second_header_that_never_ends_does_not_keep_its_connection() {
    let mut scene = Scene::with(|setup| setup.server("timeouts: { header: 1s, keep_alive: 1s }")).await;
    let mut half = scene.loir.send(GOOD).await;
    assert_eq!(half.answer().await.0.status, 200);
    half.send("GET /bad HTTP/1.1\r\nHost: hel").await;
    assert_eq!(half.end().await, "", "closed without an answer");
    let mut idle = scene.loir.send(GOOD).await;
    idle.answer().await;
    assert_eq!(idle.end().await, "", "and so is one that says nothing at all");
    scene.bystander = scene.loir.send(GOOD).await;
    scene.bystander.answer().await;
    scene.is_undisturbed("half a header").await;
    assert_eq!(scene.loir.times("hello", "GET /bad"), 0);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once_and_the_others_served() {
    let loir = gateway([App::named("hello")]).server("limits: { connections: 5 }").start().await;
    let mut inside = Vec::new();
    for _ in 0..5 {
        let mut client = loir.send(GOOD).await;
        assert_eq!(client.answer().await.0.status, 200);
        inside.push(client);
    }
    for _ in 0..10 {
        assert_eq!(loir.wire().await.end().await, "", "one too many");
    }
    for client in &mut inside {
        client.send(GOOD).await;
        assert_eq!(client.answer().await.0.status, 200, "whoever is inside stays");
    }
    drop(inside.pop());
    eventually!(loir.running.open_connections() == 4);
    assert_eq!(loir.send(GOOD).await.answer().await.0.status, 200, "a place is free again");
}
