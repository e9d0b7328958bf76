//! The app that tests put to sleep and wake: a real process with a real HTTP server, and every behaviour a test needs.
//!
//! It listens on `PORT`. Other variables: `BOOT_MS` (waits before it listens), `NOT_READY_MS` (answers 503 for so long
//! after it listens), `JOURNAL` (a file to which it appends a line for its start, its end by SIGTERM, and every
//! request), `IGNORE_TERM=1`, `STOP_MS` (takes so long to end after SIGTERM; while it boots it ends at once), `FAIL_IF` (exits with 3 at once if this
//! file exists), `DIE_BEFORE_LISTEN=1`, `GRANDCHILD=1` (starts a child that ignores SIGTERM), `RELAY` (an address
//! to which it passes every connection on), `RUDE=1` (see `rude`).

#![allow(clippy::unwrap_used, clippy::zombie_processes, reason = "an app of the tests may end loudly")]

mod rude;

use std::{
    convert::Infallible,
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone)]
struct App {
    journal: Option<Arc<Mutex<File>>>,
    ready_at: Instant,
}

impl App {
    fn note(&self, line: &str) {
        if let Some(journal) = &self.journal {
            let mut journal = journal.lock().unwrap();
            // In one write, so that no reader sees half a line.
            journal.write_all(format!("{} {line}\n", std::process::id()).as_bytes()).unwrap();
        }
    }
}

fn millis(name: &str) -> Duration {
    Duration::from_millis(std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let journal = std::env::var_os("JOURNAL")
        .map(|path| Arc::new(Mutex::new(File::options().create(true).append(true).open(path).unwrap())));
    let app = App { journal, ready_at: Instant::now() + millis("BOOT_MS") + millis("NOT_READY_MS") };
    app.note("start");
    if std::env::var_os("FAIL_IF").is_some_and(|path| std::path::Path::new(&path).exists()) {
        eprintln!("FAIL_IF says so");
        std::process::exit(3);
    }
    let stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    if is_set("GRANDCHILD") {
        let child = Command::new(stubborn[0]).args(&stubborn[1..]).spawn().unwrap();
        app.note(&format!("child {}", child.id()));
    }
    if is_set("STRAY") {
        let child = Command::new("setsid").args(stubborn).spawn().unwrap();
        app.note(&format!("child {}", child.id()));
    }
    tokio::time::sleep(millis("BOOT_MS")).await;
    if is_set("DIE_BEFORE_LISTEN") {
        eprintln!("cannot go on");
        std::process::exit(4);
    }
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    if let Ok(address) = std::env::var("RELAY") {
        return relay(port, address).await;
    }
    if is_set("RUDE") {
        return rude::serve(port, move |line| app.note(line)).await;
    }
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    app.note("listen");
    let router = Router::new()
        .route("/pid", get(|| async { std::process::id().to_string() }))
        .route("/echo", any(echo))
        .route("/headers", any(headers))
        .route("/env", get(environment))
        .route("/print/{bytes}", post(print))
        .route("/count", post(count))
        .route("/bytes/{count}", any(bytes))
        .route(
            "/status/{code}",
            any(|Path(code): Path<u16>| async move { StatusCode::from_u16(code).unwrap() }),
        )
        .route("/slow/{millis}", any(slow))
        .route("/drip/{chunks}/{millis}", get(drip))
        .route("/events/{count}/{millis}", get(events))
        .route("/one-event", get(one_event))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/ws", get(websocket))
        .route("/never", any(std::future::pending::<StatusCode>))
        .route("/crash", any(|| async { std::process::exit(7) as StatusCode }))
        .fallback(hello)
        .layer(axum::middleware::from_fn_with_state(app.clone(), gate))
        .layer(DefaultBodyLimit::disable())
        .with_state(app.clone());
    tokio::select! {
        served = async { axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await } => served.unwrap(),
        () = async {
            terminate.recv().await;
            app.note("term");
            if is_set("IGNORE_TERM") {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(millis("STOP_MS")).await;
            app.note("end");
        } => {}
    }
}

/// Until it is ready it says so; every other request is noted.
async fn gate(State(app): State<App>, request: Request, next: axum::middleware::Next) -> Response {
    if Instant::now() < app.ready_at {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let probe = request
        .headers()
        .get("user-agent")
        .is_some_and(|agent| agent.as_bytes().ends_with(b"(readiness probe)"));
    if !probe {
        app.note(&format!("{} {}", request.method(), request.uri()));
    }
    next.run(request).await
}

async fn hello(uri: Uri) -> String {
    format!("hello from {uri}\n")
}

async fn echo(method: Method, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert("x-method", method.as_str().parse().unwrap());
    response
}

/// The request's header as the app saw it, one field a line.
async fn headers(method: Method, uri: Uri, headers: HeaderMap) -> String {
    let mut text = format!("{method} {uri}\n");
    for (name, value) in &headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text
}

/// Where it runs, and every variable, one a line.
async fn environment() -> String {
    let mut text = format!("cwd={}\n", std::env::current_dir().unwrap().display());
    for (name, value) in std::env::vars() {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

/// Prints one very long line.
async fn print(Path(bytes): Path<usize>) -> &'static str {
    let mut out = std::io::stdout().lock();
    out.write_all(&vec![b'x'; bytes]).unwrap();
    out.write_all(b"\nprinted\n").unwrap();
    "printed\n"
}

/// The body's length and a sum over it, so that a test knows that it arrived once and whole.
async fn count(State(app): State<App>, body: Bytes) -> String {
    let sum = body.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    app.note(&format!("body {} {sum}", body.len()));
    format!("{} {sum}", body.len())
}

async fn bytes(Path(count): Path<usize>) -> Response {
    const CHUNK: usize = 64 * 1024;
    let chunks = (0..count.div_ceil(CHUNK)).map(move |i| {
        let left = count - i * CHUNK;
        Ok::<_, Infallible>(Bytes::from(vec![b'x'; left.min(CHUNK)]))
    });
    Response::new(Body::from_stream(stream::iter(chunks)))
}

async fn slow(Path(millis): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    "slow\n"
}

async fn drip(Path((chunks, millis)): Path<(u64, u64)>) -> Response {
    let body = stream::iter(0..chunks).then(move |i| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, Infallible>(format!("chunk {i}\n"))
    });
    Response::new(Body::from_stream(body))
}

async fn events(Path((count, millis)): Path<(u64, u64)>) -> impl IntoResponse {
    let events = stream::iter(0..count).then(move |i| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, Infallible>(Event::default().data(i.to_string()))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// One event, then silence for ever: it arrives only if nobody on the way collects.
async fn one_event() -> impl IntoResponse {
    let event = stream::once(async { Ok::<_, Infallible>(Event::default().data("first")) });
    Sse::new(event.chain(stream::pending()))
}

/// Sends every message back.
async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            let back = matches!(message, Message::Text(_) | Message::Binary(_));
            if back && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

/// An app whose address leads somewhere else.
async fn relay(port: u16, address: String) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        let address = address.clone();
        tokio::spawn(async move {
            let mut there = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::io::copy_bidirectional(&mut here, &mut there).await
        });
    }
}
