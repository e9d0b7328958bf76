//! SIGTERM: what is in flight may end, who waits is answered, and nothing is left.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    eventually,
    support::{
        App, gateway,
        program::{Program, free_address, is_alive},
        read_all,
    },
};

/// Far longer than any test: whoever ends before it did not wait for it.
const AN_HOUR: &str = "drain_timeout: 1h";
const DRAINING: &str = "shutting down";

#[tokio::test]
async fn requests_in_flight_finish_and_then_it_ends_at_once_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::named("hello").env("STOP_MS", 300);
    let mut loir = Program::start(&gateway([app]).server(AN_HOUR), folder.path()).await;
    let process = loir.wake("hello").await;
    let download = loir.get("hello", "/drip/50/20").send().await.unwrap();
    let slow = tokio::spawn(loir.get("hello", "/slow/700").send());
    eventually!(loir.journal("hello").contains(&"GET /slow/700".into()));
    loir.signal(Signal::SIGTERM);
    loir.says(DRAINING).await;
    assert!(is_alive(process), "it is still needed");
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    assert!(download.text().await.unwrap().ends_with("chunk 49\n"));
    assert_eq!(loir.ended().await.code(), Some(0));
    assert!(!is_alive(process), "it waited for the app's end");
    assert!(loir.journal("hello").ends_with(&["term".into(), "end".into()]), "the app ended in peace");
    assert!(!loir.log().contains("are cut"), "{}", loir.log());
}

#[tokio::test]
async fn sigint_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir = Program::start(&gateway([App::named("hello")]).server(AN_HOUR), folder.path()).await;
    let process = loir.wake("hello").await;
    loir.signal(Signal::SIGINT);
    assert_eq!(loir.ended().await.code(), Some(0));
    assert!(!is_alive(process));
}

#[tokio::test]
async fn new_connections_are_refused_and_idle_ones_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir = Program::start(&gateway([App::named("hello")]).server(AN_HOUR), folder.path()).await;
    loir.wake("hello").await;
    let mut idle = TcpStream::connect(loir.address).await.unwrap();
    idle.write_all(b"GET /pid HTTP/1.1\r\nHost: hello.test\r\n\r\n").await.unwrap();
    assert!(read_one(&mut idle).await.starts_with("HTTP/1.1 200"));
    let fresh = TcpStream::connect(loir.address).await.unwrap();
    let slow = tokio::spawn(loir.get("hello", "/slow/1000").send());
    eventually!(loir.journal("hello").contains(&"GET /slow/1000".into()));
    loir.signal(Signal::SIGTERM);
    loir.says(DRAINING).await;
    eventually!(TcpStream::connect(loir.address).await.is_err(), "nobody new");
    for mut quiet in [idle, fresh] {
        let mut byte = [0];
        let closed = tokio::time::timeout(Duration::from_secs(20), quiet.read(&mut byte)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "closed before anything else ends: {closed:?}");
    }
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    assert_eq!(loir.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_ends_with_its_last_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir = Program::start(&gateway([App::named("hello")]).server(AN_HOUR), folder.path()).await;
    loir.wake("hello").await;
    let mut kept = TcpStream::connect(loir.address).await.unwrap();
    kept.write_all(b"GET /slow/700 HTTP/1.1\r\nHost: hello.test\r\n\r\n").await.unwrap();
    eventually!(loir.journal("hello").contains(&"GET /slow/700".into()));
    loir.signal(Signal::SIGTERM);
    let answer = read_all(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow\n"), "{answer}");
    assert_eq!(kept.read(&mut [0]).await.unwrap_or(0), 0, "closed");
    assert_eq!(loir.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir =
        Program::start(&gateway([App::named("hello")]).server("drain_timeout: 500ms"), folder.path()).await;
    let process = loir.wake("hello").await;
    let never = tokio::spawn(loir.get("hello", "/never").send());
    let websocket = TcpStream::connect(loir.address).await.unwrap();
    let (_socket, _) = tokio_tungstenite::client_async("ws://hello.test/ws", websocket).await.unwrap();
    eventually!(loir.journal("hello").contains(&"GET /never".into()));
    let began = Instant::now();
    loir.signal(Signal::SIGTERM);
    assert_eq!(loir.ended().await.code(), Some(0), "that is not a failure");
    assert!(began.elapsed() >= Duration::from_millis(500), "it had its time");
    // The app is stopped before the gateway is gone, so there may be time for an answer.
    if let Ok(answer) = never.await.unwrap() {
        assert_eq!(answer.status(), 502);
    }
    loir.says("2 connections are cut").await;
    assert!(!is_alive(process));
}

#[tokio::test]
async fn those_who_wait_for_a_wake_are_answered_by_the_app_if_it_wakes_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::named("hello").boots_in(Duration::from_millis(800));
    let mut loir = Program::start(&gateway([app]).server(AN_HOUR), folder.path()).await;
    let waits: Vec<_> = (0..20).map(|_| tokio::spawn(loir.get("hello", "/pid").send())).collect();
    eventually!(loir.journal("hello").contains(&"start".into()));
    loir.signal(Signal::SIGTERM);
    loir.says("shutting down: 20 connections").await;
    let mut processes = Vec::new();
    for waits in waits {
        let answer = waits.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        processes.push(answer.text().await.unwrap());
    }
    assert_eq!(loir.ended().await.code(), Some(0));
    assert!(!is_alive(processes[0].parse().unwrap()));
}

#[tokio::test]
async fn those_who_wait_for_a_wake_are_told_to_come_back_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::named("hello").boots_in(Duration::from_secs(3600));
    let mut loir = Program::start(&gateway([app]).server("drain_timeout: 300ms"), folder.path()).await;
    let waits: Vec<_> = (0..20).map(|_| tokio::spawn(loir.get("hello", "/").send())).collect();
    eventually!(loir.journal("hello").contains(&"start".into()));
    loir.signal(Signal::SIGTERM);
    for waits in waits {
        let answer = waits.await.unwrap().expect("an answer, and not a closed connection");
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    assert_eq!(loir.ended().await.code(), Some(0));
    let process = crate::support::latest_process(folder.path(), "hello");
    assert!(!is_alive(process), "what was being started is stopped");
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::named("hello").env("IGNORE_TERM", 1).env("STRAY", 1);
    let mut loir = Program::start(&gateway([app]).server(AN_HOUR), folder.path()).await;
    let process = loir.wake("hello").await;
    let child = crate::support::children(folder.path(), "hello")[0];
    let never = tokio::spawn(loir.get("hello", "/never").send());
    eventually!(loir.journal("hello").contains(&"GET /never".into()));
    loir.signal(Signal::SIGTERM);
    loir.says(DRAINING).await;
    loir.signal(Signal::SIGTERM);
    assert_eq!(loir.ended().await.code(), Some(1));
    assert!(never.await.unwrap().is_err());
    eventually!(!is_alive(process) && !is_alive(child), "the keeper sees to that");
}

#[tokio::test]
async fn children_that_left_their_group_end_with_the_gateway_too() {
    let folder = tempfile::tempdir().unwrap();
    let setup = gateway([App::named("hello").env("STRAY", 1)]).server(AN_HOUR);
    let mut loir = Program::start(&setup, folder.path()).await;
    loir.wake("hello").await;
    let stray = crate::support::children(folder.path(), "hello")[0];
    loir.signal(Signal::SIGTERM);
    assert_eq!(loir.ended().await.code(), Some(0));
    eventually!(!is_alive(stray));
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_clearly_and_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = folder.path().join("loir.yaml");
    fs::write(&config, gateway([App::named("hello")]).keeps_state().yaml(folder.path(), address)).unwrap();
    let refused = Program::refused(&config).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains(&format!("cannot listen on {address}: Address already in use")), "{said}");
    assert!(said.contains("set server.listen or PORT"), "it says what to do: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_demo_whose_port_is_taken_says_so_once_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_loir"));
    let demo = demo.args(["demo", "--port", &port]).env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8([demo.stdout, demo.stderr].concat()).unwrap();
    assert_eq!(demo.status.code(), Some(1));
    assert_eq!(said.matches("cannot listen").count(), 1, "{said}");
    assert!(said.contains("--port") && !said.contains("server.listen"), "{said}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn open_files_are_raised_to_what_is_allowed_and_too_few_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loir.yaml");
    let address = free_address();
    fs::write(&config, gateway([App::named("hello")]).yaml(folder.path(), address)).unwrap();
    let log = folder.path().join("loir.log");
    let loir = tokio::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -Sn 100; ulimit -Hn 1000; exec \"$0\" run -c \"$1\"",
            env!("CARGO_BIN_EXE_loir"),
        ])
        .arg(&config)
        .stderr(fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually!(TcpStream::connect(address).await.is_ok());
    let limits = fs::read_to_string(format!("/proc/{}/limits", loir.id().unwrap())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("1000"), "{files}");
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("ulimit -n 20000") && said.contains("LimitNOFILE=20000"), "{said}");
}

#[tokio::test]
async fn a_health_check_tells_whether_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([App::named("hello")]), folder.path()).await;
    let check = |address: std::net::SocketAddr| {
        let loir = env!("CARGO_BIN_EXE_loir");
        Command::new(loir).args(["healthcheck", "--address", &address.to_string()]).output().unwrap()
    };
    let well = check(loir.address);
    assert_eq!(well.status.code(), Some(0), "{}", String::from_utf8_lossy(&well.stderr));
    assert!(loir.journal("hello").is_empty(), "it wakes nobody");
    let nobody = free_address();
    let ill = check(nobody);
    assert_eq!(ill.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ill.stderr).contains(&format!("{nobody} is not healthy")));
}

/// One answer of a connection that stays open.
async fn read_one(stream: &mut TcpStream) -> String {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).await.unwrap();
    String::from_utf8_lossy(&chunk[..read]).into_owned()
}
