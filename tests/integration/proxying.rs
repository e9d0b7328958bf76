//! Proxying: what goes through a gateway to an awake app, and what comes back.

use std::{collections::HashSet, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    eventually,
    support::{App, Gateway, gateway, wire::Wire},
};

async fn awake() -> Gateway {
    let loir = gateway([App::named("hello")]).start().await;
    loir.wake("hello").await;
    loir
}

/// The header of a request for `hello`, on a connection that is kept.
fn head(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: hello.test\r\n{fields}\r\n")
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let loir = awake().await;
    let mut client = loir.wire().await;
    let mut seen_by_the_app = HashSet::new();
    for _ in 0..20 {
        client.send(head("GET /peer", "")).await;
        let (answer, peer) = client.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("connection").as_deref(), Some("keep-alive"), "{}", answer.text);
        seen_by_the_app.insert(peer);
    }
    assert_eq!(seen_by_the_app.len(), 1, "one connection to the app carried all: {seen_by_the_app:?}");
    client.send(head("GET /peer", "Connection: close\r\n")).await;
    assert_eq!(client.answer().await.0.field("connection").as_deref(), Some("close"));
    assert_eq!(client.end().await, "");
}

/// A gateway that collected either body would wait here for ever. Where a length was announced, Pingora may keep up to
/// 1,460 bytes back until more comes (`NOTE on buffering` in its `v1/body.rs`), so those pieces are larger.
#[tokio::test]
async fn each_piece_of_an_upload_is_answered_before_the_next_is_sent() {
    let loir = awake().await;
    for chunked in [true, false] {
        let piece = if chunked { vec![b'x'; 5] } else { vec![b'x'; 2000] };
        let fields = if chunked { "Transfer-Encoding: chunked\r\n" } else { "Content-Length: 8000\r\n" };
        let mut client = loir.send(head("POST /echo", fields)).await;
        for turn in 0..4 {
            if chunked {
                client.send("5\r\n").await;
            }
            client.send(&piece).await;
            if chunked {
                client.send("\r\n").await;
            }
            if turn == 0 {
                assert_eq!(client.head().await.status, 200);
            }
            let back = if chunked { client.chunk().await } else { client.exactly(piece.len()).await };
            assert!(back == piece, "turn {turn}");
        }
    }
}

#[tokio::test]
async fn a_slow_response_arrives_piece_by_piece_and_an_event_at_once() {
    let loir = awake().await;
    let mut client = loir.send(head("GET /one-event", "Accept: text/event-stream\r\n")).await;
    let answer = client.head().await;
    assert_eq!(answer.field("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(client.chunk().await, b"data: first\n\n", "the app says nothing more, ever");
    assert_eq!(loir.app("hello").in_flight(), 1);
    drop(client);
    eventually!(loir.app("hello").in_flight() == 0, "the app is idle when nobody listens");

    let mut client = loir.send(head("GET /drip/3/50", "")).await;
    client.head().await;
    for i in 0..3 {
        assert_eq!(client.chunk().await, format!("chunk {i}\n").as_bytes(), "in chunks of its own");
    }
    assert_eq!(client.chunk().await, b"");
}

/// Bytes that depend on their place, so that nothing can be lost, doubled or swapped unnoticed.
fn piece(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_go_up_and_come_down_whole() {
    const SIZE: usize = 50 * 1024 * 1024;
    const PIECE: usize = 256 * 1024;
    let loir = awake().await;
    let stream = tokio::net::TcpStream::connect(loir.address).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let upload = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        writer
            .write_all(head("POST /echo", &format!("Content-Length: {SIZE}\r\n")).as_bytes())
            .await
            .unwrap();
        for from in (0..SIZE).step_by(PIECE) {
            writer.write_all(&piece(from, PIECE)).await.unwrap();
        }
        writer
    });
    let mut download = Wire::reading(reader);
    assert_eq!(download.head().await.status, 200);
    for from in (0..SIZE).step_by(PIECE) {
        assert!(download.exactly(PIECE).await == piece(from, PIECE), "differs after byte {from}");
    }
    drop(upload.await.unwrap());
}

async fn websocket(loir: &Gateway) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let mut request = format!("ws://{}/ws", loir.address).into_client_request().unwrap();
    request.headers_mut().insert("host", "hello.test".parse().unwrap());
    let stream = tokio::net::TcpStream::connect(loir.address).await.unwrap();
    let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    socket
}

async fn echoes(loir: &Gateway) {
    let mut socket = websocket(loir).await;
    let large = Message::binary(piece(0, 300_000));
    for message in
        [Message::text("bonjour, ça va ?"), Message::binary(vec![0, 255, 128]), large, Message::text("")]
    {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    assert_eq!(loir.app("hello").in_flight(), 1, "an open WebSocket is a request in flight");
    socket.close(None).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    eventually!(loir.app("hello").in_flight() == 0);
}

#[tokio::test]
async fn a_websocket_echoes_text_and_binary_and_closes() {
    echoes(&awake().await).await;
}

#[tokio::test]
async fn a_websocket_to_a_sleeping_app_is_held_and_then_works() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_millis(400))]).start().await;
    echoes(&loir).await;
    assert_eq!(loir.times("hello", "start"), 1);
    assert_eq!(loir.times("hello", "GET /ws"), 1);
}

/// A body limit is for bodies: a WebSocket may carry more, but only one that the app accepted.
#[tokio::test]
async fn the_body_limit_is_not_for_websockets_and_not_evaded_by_asking_for_one() {
    let loir = gateway([App::named("hello")]).server("limits: { body: 1KiB }").start().await;
    let mut socket = websocket(&loir).await;
    for _ in 0..4 {
        let message = Message::binary(piece(0, 1000));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n";
    let mut client = loir.send(head("POST /count", fields)).await;
    client.send(format!("1000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1000))).await;
    assert_eq!(client.head().await.status, 413);
}

#[tokio::test]
async fn head_has_the_header_of_get_and_no_body() {
    let loir = awake().await;
    let mut client = loir.wire().await;
    client.send(head("GET /anything", "")).await;
    let (get, body) = client.answer().await;
    client.send(head("HEAD /anything", "")).await;
    let answer = client.head().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-length"), Some(body.len().to_string()));
    assert_eq!(answer.field("content-type"), get.field("content-type"));
    client.send(head("GET /pid", "")).await;
    assert_eq!(client.answer().await.0.status, 200, "the next answer begins where the body would have been");
}

#[tokio::test]
async fn continue_comes_from_the_app_and_not_before_an_answer_of_our_own() {
    let loir = gateway([App::named("hello")]).server("limits: { body: 1KiB }").start().await;
    loir.wake("hello").await;
    let expects = |length: usize| format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
    let mut client = loir.send(head("POST /count", &expects(5))).await;
    assert_eq!(client.head().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.1, "5 99162322");

    let mut client = loir.send(head("POST /status/403", &expects(5))).await;
    assert_eq!(client.head().await.status, 403, "an app that does not want the body never asks for it");

    let mut client = loir.send(head("POST /echo", &expects(2000))).await;
    assert_eq!(client.head().await.status, 413);
    let unknown = format!("POST / HTTP/1.1\r\nHost: nobody.test\r\n{}\r\n", expects(5));
    assert_eq!(loir.send(unknown).await.head().await.status, 404);
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_with_its_extensions_and_trailers_gone() {
    let loir = awake().await;
    let mut client = loir.send(head("POST /echo", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n")).await;
    client.send("5;name=value\r\nhello\r\n00006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert_eq!(client.answer().await.1, "hello world");
    client.send(head("GET /pid", "")).await;
    assert_eq!(client.answer().await.0.status, 200, "the connection goes on");
}

#[tokio::test]
async fn methods_targets_and_statuses_pass_as_they_are() {
    let loir = awake().await;
    let mut client = loir.wire().await;
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        for target in ["/headers", "/headers?a=1&a=%20%2F&b=%E9", "/headers?", "//x/../%2e%2e/a%2Fb;c=d?e"] {
            client.send(head(&format!("{method} {target}"), "")).await;
            let (answer, body) = client.answer().await;
            assert_eq!(answer.status, 200);
            let seen = if target.starts_with("/headers") {
                format!("{method} {target}\n")
            } else {
                format!("hello from {target}\n")
            };
            assert!(body.starts_with(&seen), "{seen:?} became {body:?}");
        }
    }
    for status in [201, 301, 403, 404, 418, 500, 502, 503, 504] {
        client.send(head(&format!("GET /status/{status}"), "Accept: text/html\r\n")).await;
        let (answer, body) = client.answer().await;
        assert_eq!((answer.status, body.as_str()), (status, ""), "the app's own answer");
        assert_eq!(answer.field("x-loir-state"), None);
    }
    for status in [204, 304] {
        client.send(head(&format!("GET /status/{status}"), "")).await;
        assert_eq!(client.head().await.status, status);
    }
    client.send(head("GET /pid", "")).await;
    assert_eq!(client.answer().await.0.status, 200, "nothing of all that is left in the connection");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not() {
    let loir = gateway([App::named("hello")]).server("limits: { body: 100KiB }").start().await;
    loir.wake("hello").await;
    let fits = vec![b'x'; 100 * 1024];
    let answer = loir.request("POST", "hello", "/count").body(fits).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut client = loir.send(head("POST /count", "Content-Length: 102401\r\n")).await;
    assert_eq!(client.head().await.status, 413);
    assert_eq!(loir.times("hello", "POST /count"), 1, "the app has not heard of it");

    let mut client = loir.send(head("POST /count", "Transfer-Encoding: chunked\r\n")).await;
    let kilobyte = format!("400\r\n{}\r\n", "x".repeat(1024));
    for _ in 0..101 {
        client.send(&kilobyte).await;
    }
    let answer = client.head().await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.field("content-type").as_deref(), Some("application/problem+json"));
    assert!(
        !loir.journal("hello").iter().any(|line| line.starts_with("body 103424")),
        "and never gets it whole"
    );
    eventually!(loir.app("hello").in_flight() == 0);
}

#[tokio::test]
async fn an_app_that_is_too_slow_is_a_504_and_one_that_is_slow_enough_is_not() {
    let loir = gateway([App::named("hello")]).server("timeouts: { read: 300ms }").start().await;
    loir.wake("hello").await;
    let answer = loir.get("hello", "/never").send().await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let page = loir.visit("hello", "/never").send().await.unwrap();
    assert_eq!(page.status(), 504);
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    let dripping = loir.get("hello", "/drip/8/100").send().await.unwrap();
    assert_eq!(dripping.text().await.unwrap().lines().count(), 8, "each read is bounded, not the whole");
    let answer = loir.get("hello", "/pid").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // A silent event stream is no slow app.
    let mut client = loir.send(head("GET /one-event", "Accept: text/event-stream\r\n")).await;
    client.head().await;
    client.chunk().await;
    assert_eq!(loir.get("hello", "/never").send().await.unwrap().status(), 504, "longer than that limit");
    assert_eq!(loir.app("hello").in_flight(), 1, "the stream is still open");
}

/// A limit that any client could lift would be none.
#[tokio::test]
async fn only_a_websocket_may_be_silent_for_longer_than_an_app() {
    let loir =
        gateway([App::named("hello")]).server("timeouts: { read: 600ms, client_read: 300ms }").start().await;
    let mut socket = websocket(&loir).await;
    for upgrade in ["x", "h2c"] {
        let fields = format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n");
        let mut client = loir.send(head("GET /never", &fields)).await;
        assert_eq!(client.head().await.status, 504, "{upgrade}");
    }
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n";
    let mut client = loir.send(head("POST /count", fields)).await;
    assert_eq!(client.head().await.status, 408, "a body that does not come");
    for _ in 0..2 {
        socket.send(Message::text("still here")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test]
async fn an_app_that_crashes_in_a_request_is_a_502_and_comes_back_when_it_may() {
    let clock = loir::clock::Clock::manual();
    let loir = gateway([App::named("hello"), App::named("other")]).clock(&clock).start().await;
    loir.wake("other").await;
    loir.wake("hello").await;
    let answer = loir.get("hello", "/crash").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(loir.times("hello", "GET /crash"), 1, "it is not killed once more by a second try");
    eventually!(loir.app("hello").state() == loir::app::AppState::Failed, "the crash is noticed");
    assert_eq!(loir.get("other", "/pid").send().await.unwrap().status(), 200, "others hear nothing of it");
    assert_eq!(loir.get("hello", "/pid").send().await.unwrap().status(), 502);
    assert_eq!(loir.times("hello", "start"), 1, "not retried in a loop");
    clock.advance(Duration::from_secs(3));
    loir.wake("hello").await;
    assert_eq!(loir.times("hello", "start"), 2);
}

#[tokio::test]
async fn an_app_without_manners_costs_one_502_each_time() {
    let loir = gateway([App::named("hello").env("RUDE", 1)]).start().await;
    loir.wake("hello").await;
    for path in ["/garbage", "/silent"] {
        for method in ["GET", "POST"] {
            let answer = loir.request(method, "hello", path).send().await.unwrap();
            assert_eq!(answer.status(), 502, "{method} {path}");
            assert!(answer.headers().contains_key("x-loir-state"));
        }
        assert_eq!(loir.times("hello", &format!("POST {path}")), 1, "a POST is never repeated");
        assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 200);
    }
    let mut client = loir.send(head("GET /cut", "")).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(
        client.end().await,
        "half",
        "half a body is not dressed up as a whole one, and not followed by a page"
    );
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_app_that_closes_a_kept_connection_costs_no_request() {
    let loir = gateway([App::named("hello").env("RUDE", 1)]).start().await;
    loir.wake("hello").await;
    for turn in 1..=30 {
        let answer = loir.get("hello", "/close").send().await.unwrap();
        assert_eq!(answer.status(), 200, "turn {turn}");
    }
    // It closes just when a request arrives: a request that may be repeated is, once and on a new connection.
    assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 200);
    assert_eq!(loir.get("hello", "/fresh").send().await.unwrap().status(), 200);
    assert_eq!(loir.times("hello", "GET /fresh"), 2);
    assert_eq!(loir.request("POST", "hello", "/fresh").send().await.unwrap().status(), 502);
    assert_eq!(loir.times("hello", "POST /fresh"), 1, "a POST may have had its effect");
}
