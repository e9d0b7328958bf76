//! Sleeping: idle means idle, and no request is ever lost to a stop.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt, StreamExt};
use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Slept, Sweeper, cell::NotIdle},
};
use reqwest::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    eventually,
    support::{App, Gateway, gateway, program::is_alive, read_all},
};

const MINUTE: Duration = Duration::from_secs(60);

/// An app that sleeps after a minute, by a clock that the test moves; awake.
async fn awake(app: App) -> (Gateway, Clock) {
    let clock = Clock::manual();
    let loir = gateway([app.with("idle_timeout: 1m")]).clock(&clock).start().await;
    loir.wake("hello").await;
    (loir, clock)
}

/// It is kept awake for as long as this is in flight, however long that is; it sleeps a minute after the end.
async fn stays_awake(loir: &Gateway, clock: &Clock) {
    for _ in 0..10 {
        clock.advance(MINUTE);
        Sweeper(loir.running.lifecycle().clone()).step();
        assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::InFlight(1)));
        assert_eq!(loir.app("hello").state(), AppState::Awake);
    }
}

async fn sleeps_after_a_minute(loir: &Gateway, clock: &Clock) {
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0, "the end is noticed");
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(Duration::from_millis(1))));
    clock.advance(Duration::from_millis(1));
    eventually!(app.state() == AppState::Asleep);
    assert_eq!(loir.times("hello", "start"), 1, "it was never stopped before");
    assert_eq!(loir.times("hello", "end"), 1, "it ended in peace");
}

#[tokio::test]
async fn an_open_websocket_keeps_an_app_awake_even_if_it_is_silent() {
    let (loir, clock) = awake(App::named("hello")).await;
    let mut socket = crate::support::websocket(loir.address, "hello.test").await;
    stays_awake(&loir, &clock).await;
    socket.send(Message::text("still there?")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there?"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn a_websocket_whose_client_vanished_keeps_nothing_awake() {
    let (loir, clock) = awake(App::named("hello")).await;
    let socket = crate::support::websocket(loir.address, "hello.test").await;
    stays_awake(&loir, &clock).await;
    drop(socket);
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn a_long_download_keeps_an_app_awake_and_arrives_whole() {
    let (loir, clock) = awake(App::named("hello")).await;
    let mut download = loir.get("hello", "/drip/50/10").send().await.unwrap();
    let mut text = download.chunk().await.unwrap().unwrap().to_vec();
    stays_awake(&loir, &clock).await;
    while let Some(chunk) = download.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let whole: String = (0..50).map(|number| format!("chunk {number}\n")).collect();
    assert_eq!(String::from_utf8(text).unwrap(), whole);
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn an_event_stream_keeps_an_app_awake() {
    let (loir, clock) = awake(App::named("hello")).await;
    let request = loir.get("hello", "/events/1000000/10").header("accept", "text/event-stream");
    let mut events = request.send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    stays_awake(&loir, &clock).await;
    assert!(events.chunk().await.unwrap().is_some());
    drop(events);
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn a_slow_upload_keeps_an_app_awake() {
    let (loir, clock) = awake(App::named("hello")).await;
    let mut upload = TcpStream::connect(loir.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: hello.test\r\nConnection: close\r\nContent-Length: 20\r\n\r\n";
    upload.write_all(format!("{head}the start, ").as_bytes()).await.unwrap();
    let app = loir.app("hello");
    eventually!(app.in_flight() == 1);
    stays_awake(&loir, &clock).await;
    upload.write_all(b"the end.\n").await.unwrap();
    let answer = read_all(&mut upload).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("the start, the end."), "{answer}");
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn twenty_four_hours_idle_is_idle_and_a_second_less_is_not() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let clock = Clock::manual();
    let loir = gateway([App::named("hello").with("idle_timeout: 24h")]).clock(&clock).start().await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(Duration::from_secs(1))));
    assert_eq!(app.state(), AppState::Awake);
    clock.advance(Duration::from_secs(1));
    eventually!(app.state() == AppState::Asleep);
}

#[tokio::test]
async fn idle_counts_from_the_end_of_the_last_request_and_not_from_its_start() {
    let (loir, clock) = awake(App::named("hello")).await;
    let request = tokio::spawn(loir.get("hello", "/drip/1/500").send());
    let app = loir.app("hello");
    eventually!(app.in_flight() == 1);
    clock.advance(MINUTE * 10);
    request.await.unwrap().unwrap().bytes().await.unwrap();
    sleeps_after_a_minute(&loir, &clock).await;
}

#[tokio::test]
async fn what_does_not_count_is_answered_and_prolongs_nothing() {
    let (loir, clock) = awake(App::named("hello")).await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    clock.advance(MINUTE / 2);
    let monitor = loir.get("hello", "/").header("user-agent", "UptimeRobot/2.0");
    let prefetch = loir.get("hello", "/").header("sec-purpose", "prefetch");
    for request in [loir.get("hello", "/favicon.ico"), loir.get("hello", "/robots.txt"), monitor, prefetch] {
        assert_eq!(request.send().await.unwrap().status(), 200, "an awake app answers them");
    }
    eventually!(app.in_flight() == 0);
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(MINUTE / 2)));
    loir.get("hello", "/").send().await.unwrap();
    eventually!(app.in_flight() == 0);
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(MINUTE)), "but this one counts");
}

#[tokio::test]
async fn an_app_that_was_just_woken_has_its_full_idle_time() {
    let clock = Clock::manual();
    let app = App::named("hello").boots_in(Duration::from_millis(500)).with("idle_timeout: 1m");
    let loir = gateway([app]).clock(&clock).start().await;
    let gone = tokio::time::timeout(Duration::from_millis(50), loir.get("hello", "/").send()).await;
    assert!(gone.is_err(), "the one who asked left: no request will count");
    clock.advance(MINUTE * 10);
    let app = loir.app("hello");
    eventually!(app.state() == AppState::Awake);
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(MINUTE)));
}

#[tokio::test]
async fn a_request_that_meets_a_stop_waits_and_is_answered_by_the_next_run() {
    let loir = gateway([App::named("hello").env("STOP_MS", 500)]).start().await;
    loir.wake("hello").await;
    let (first, app) = (loir.process("hello"), loir.app("hello"));
    let (lifecycle, stopped) = (loir.running.lifecycle().clone(), app.clone());
    let stop = tokio::spawn(async move { lifecycle.sleep(&stopped, Duration::ZERO).await });
    eventually!(loir.times("hello", "term") == 1);
    assert_eq!(app.state(), AppState::Stopping);
    let answer = loir.request("POST", "hello", "/count").body("hold me").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-loir-cold-start"), "it waited");
    assert_eq!(stop.await.unwrap(), Slept::Yes);
    assert!(!is_alive(first));
    assert_ne!(loir.process("hello"), first);
    let journal = loir.journal("hello");
    let after = journal.iter().position(|line| line == "term").unwrap();
    let rest: Vec<_> = journal[after..].iter().map(String::as_str).collect();
    let body = rest.last().unwrap();
    assert_eq!(rest, ["term", "end", "start", "listen", "POST /count", body], "one stop, then one start");
    assert!(body.starts_with("body 7 "));
}

#[tokio::test]
async fn the_sweep_looks_again_as_soon_as_an_app_may_be_idle_and_at_least_every_second() {
    let clock = Clock::manual();
    let loir = gateway([App::named("hello").with("idle_timeout: 50ms")]).clock(&clock).start().await;
    let sweeper = Sweeper(loir.running.lifecycle().clone());
    loir.wake("hello").await;
    let _download = loir.get("hello", "/drip/1000/50").send().await.unwrap();
    assert_eq!(sweeper.step(), Duration::from_millis(50), "the download may end at any moment");
    let slow = gateway([App::named("hello")]).clock(&clock).start().await;
    assert_eq!(Sweeper(slow.running.lifecycle().clone()).step(), Duration::from_secs(1));
}

/// Judged: 10,000 requests at a steady rate, and an app that is stopped whenever it is idle for a few milliseconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_lose_nothing_while_the_app_is_stopped_and_woken_again_and_again() {
    const REQUESTS: u64 = 10_000;
    const EVERY: Duration = Duration::from_micros(1_800);
    /// After so many requests nobody asks for a moment.
    const PAUSE_AFTER: u64 = 400;
    const PAUSE: Duration = Duration::from_millis(100);

    let loir = gateway([App::named("hello").with("idle_timeout: 2ms")]).start().await;
    let mut answers = JoinSet::new();
    let mut expected = BTreeMap::new();
    let start = Instant::now();
    for number in 0..REQUESTS {
        // An open loop: the next request comes when it is due, whatever became of the last.
        let due =
            EVERY * u32::try_from(number).unwrap() + PAUSE * u32::try_from(number / PAUSE_AFTER).unwrap();
        tokio::time::sleep_until(start + due).await;
        let (request, answer) = if number % 2 == 0 {
            let path = format!("/request/{number}");
            (loir.get("hello", &path), format!("hello from {path}\n"))
        } else {
            let body = body(number);
            let counted = format!("{} {}", body.len(), sum(&body));
            *expected.entry(format!("body {counted}")).or_insert(0) += 1;
            (loir.request("POST", "hello", "/count").body(body), counted)
        };
        answers.spawn(async move {
            let answered = request.send().await.unwrap_or_else(|error| panic!("request {number}: {error:?}"));
            assert_eq!(answered.status(), StatusCode::OK, "request {number}");
            assert_eq!(answered.text().await.unwrap(), answer, "request {number}");
        });
    }
    while let Some(answer) = answers.join_next().await {
        answer.unwrap();
    }

    let (mut bodies, mut gets) = (BTreeMap::new(), BTreeMap::new());
    for line in loir.journal("hello") {
        if line.starts_with("body ") {
            *bodies.entry(line).or_insert(0) += 1;
        } else if line.starts_with("GET ") {
            *gets.entry(line).or_insert(0) += 1;
        }
    }
    assert!(bodies == expected, "every body arrived once and whole");
    assert_eq!(u64::try_from(gets.len()).unwrap(), REQUESTS / 2);
    assert!(gets.values().all(|&times| times == 1), "every request arrived once");
    let (starts, stops) = (loir.times("hello", "start"), loir.times("hello", "end"));
    println!("started {starts} times, stopped {stops} times");
    assert!(stops >= 10, "it was stopped {stops} times");
    assert!(starts == stops || starts == stops + 1);
}

/// Of a size of its own between 0 and 100 kB, small ones more often than large ones.
fn body(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let size = random.usize(0..47).pow(3);
    std::iter::repeat_with(|| random.u8(..)).take(size).collect()
}

/// As `tests/app` sums.
fn sum(body: &[u8]) -> u64 {
    body.iter().fold(0, |sum: u64, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}
