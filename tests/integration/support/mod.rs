//! A gateway in a few words, real apps behind it, and clients in front.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use loir::{
    clock::Clock,
    config::Environment,
    lifecycle::{ManagedApp, Slept},
    server::{Gear, Plan, Running, Source, load},
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

pub mod fleet;
pub mod leash;
pub mod paas;
pub mod postgres;
pub mod program;
pub mod receiver;
pub mod redis;
pub mod sentinels;
pub mod watch;
pub mod wire;

/// Waits until a condition holds, at most 20 seconds: enough for a busy machine, and no test waits longer than it must.
#[macro_export]
macro_rules! eventually {
    ($condition:expr) => { $crate::eventually!($condition, "{}", stringify!($condition)) };
    ($condition:expr, $($message:tt)+) => {{
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !$condition {
            assert!(std::time::Instant::now() < deadline, "never came true: {}", format!($($message)+));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }};
}

/// Holds for so long, looked at all the while: what must not happen is seen when it does.
#[macro_export]
macro_rules! throughout {
    ($time:expr, $condition:expr, $($message:tt)+) => {{
        let end = std::time::Instant::now() + $time;
        while std::time::Instant::now() < end {
            assert!($condition, $($message)+);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!($condition, $($message)+);
    }};
}

/// An app to put behind a gateway: `tests/app`, with its behaviour in variables.
pub struct App {
    name: String,
    command: Option<String>,
    env: Vec<(String, String)>,
    extra: String,
}

impl App {
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), command: None, env: Vec::new(), extra: String::new() }
    }

    /// Waits so long before it listens.
    pub fn boots_in(self, boot: Duration) -> Self {
        self.env("BOOT_MS", boot.as_millis())
    }

    /// A variable of `tests/app`.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.into(), value.to_string()));
        self
    }

    /// Another command than `tests/app` alone.
    pub fn runs(mut self, command: &[&str]) -> Self {
        self.command = Some(format!("{command:?}"));
        self
    }

    /// A further line of its YAML, as `idle_timeout: 1s`.
    pub fn with(mut self, line: &str) -> Self {
        writeln!(self.extra, "        {line}").unwrap();
        self
    }

    fn yaml(&self, journal: &Path) -> String {
        let command = self.command.clone().unwrap_or_else(|| format!("[{:?}]", app_program()));
        let mut text = format!("      - name: {}\n        command: {command}\n{}", self.name, self.extra);
        writeln!(text, "        env:\n          JOURNAL: {journal:?}").unwrap();
        for (name, value) in &self.env {
            writeln!(text, "          {name}: {value:?}").unwrap();
        }
        text
    }
}

/// `tests/app`, which cargo builds beside the tests.
pub fn app_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let program = target.join("examples").join("app");
    assert!(
        program.exists(),
        "{} is missing: run the tests with cargo test or cargo nextest",
        program.display()
    );
    program
}

/// How a gateway is to be.
pub struct Setup {
    apps: Vec<App>,
    server: String,
    defaults: String,
    provider: String,
    top: String,
    state: bool,
    clock: Clock,
}

/// A gateway with these apps, all asleep; idle for an hour before they sleep again, unless told otherwise.
pub fn gateway(apps: impl IntoIterator<Item = App>) -> Setup {
    Setup {
        apps: apps.into_iter().collect(),
        server: String::new(),
        defaults: String::new(),
        provider: String::new(),
        top: String::new(),
        state: false,
        clock: Clock::system(),
    }
}

impl Setup {
    /// A further line under `server`, as `drain_timeout: 1s`; indented lines may follow in it.
    pub fn server(mut self, line: &str) -> Self {
        writeln!(self.server, "  {}", line.replace('\n', "\n  ")).unwrap();
        self
    }

    /// A further line under `defaults`, as `hold_timeout: 1s`.
    pub fn defaults(mut self, line: &str) -> Self {
        writeln!(self.defaults, "  {line}").unwrap();
        self
    }

    /// A further line of the provider entry, as `stop_grace: 1s`.
    pub fn provider(mut self, line: &str) -> Self {
        writeln!(self.provider, "    {line}").unwrap();
        self
    }

    /// Further blocks of the file, as `hooks: []`.
    pub fn top(mut self, yaml: &str) -> Self {
        writeln!(self.top, "{}", yaml.trim_end()).unwrap();
        self
    }

    /// With a `state_dir`.
    pub fn keeps_state(mut self) -> Self {
        self.state = true;
        self
    }

    /// With a clock that the test moves.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The configuration as YAML, with everything it needs in `folder`.
    pub fn yaml(&self, folder: &Path, listen: SocketAddr) -> String {
        let idle = if self.defaults.contains("idle_timeout") { "" } else { "  idle_timeout: 1h\n" };
        let state =
            if self.state { format!("state_dir: {:?}\n", folder.join("state")) } else { String::new() };
        let apps: String = self.apps.iter().map(|app| app.yaml(&journal(folder, &app.name))).collect();
        // Gateways that are programs would all want the same usual port.
        let admin = if self.top.contains("admin:") { "" } else { "admin: { listen: off }\n" };
        format!(
            "{}{admin}server:\n  listen: {listen}\n  domain: test\n{}{state}defaults:\n{idle}{}providers:\n  - name: local\n    \
             type: process\n{}    apps:\n{apps}",
            self.top, self.server, self.defaults, self.provider
        )
    }

    /// Starts it in this process, on a free port.
    pub async fn start(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        self.start_in(Arc::new(folder)).await
    }

    /// Starts it with what an earlier one left in `folder`.
    pub async fn start_in(self, folder: Arc<tempfile::TempDir>) -> Gateway {
        self.start_on(TcpListener::bind("127.0.0.1:0").unwrap(), folder).await
    }

    /// Starts it where somebody listens already.
    pub async fn start_on(self, listener: TcpListener, folder: Arc<tempfile::TempDir>) -> Gateway {
        let address = listener.local_addr().unwrap();
        let text = self.yaml(folder.path(), address);
        let gear = Gear {
            clock: self.clock.clone(),
            edge: tokio::runtime::Handle::current(),
            program: Some(env!("CARGO_BIN_EXE_loir").into()),
        };
        let running = Running::start(listener, plan(&text), gear).await.unwrap();
        Gateway { address, running, folder, client: client() }
    }
}

/// A plan from YAML that must be fine.
pub fn plan(text: &str) -> Plan {
    let source = Source { name: "test.yaml".into(), text: text.into() };
    load(source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn journal(folder: &Path, app: &str) -> PathBuf {
    folder.join(format!("{app}.journal"))
}

/// A client that keeps connections, follows nothing and waits for a minute at most.
pub fn client() -> reqwest::Client {
    pingora_core::tls::install_default_crypto_provider();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

/// A running gateway. Ends without ceremony when dropped: the keeper ends its children.
pub struct Gateway {
    pub address: SocketAddr,
    pub running: Running,
    pub folder: Arc<tempfile::TempDir>,
    pub client: reqwest::Client,
}

impl Gateway {
    /// A request for an app, as a program sends it.
    pub fn request(&self, method: &str, app: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.client
            .request(method, format!("http://{}{path}", self.address))
            .header("host", format!("{app}.test"))
    }

    pub fn get(&self, app: &str, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", app, path)
    }

    /// A request as a browser sends it when a person opens a page.
    pub fn visit(&self, app: &str, path: &str) -> reqwest::RequestBuilder {
        self.get(app, path)
            .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
    }

    /// Wakes the app and waits for its own answer.
    pub async fn wake(&self, app: &str) {
        let answer = self.get(app, "/pid").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// What the gateway itself knows of the app.
    pub fn app(&self, name: &str) -> Arc<ManagedApp> {
        self.running.lifecycle().apps()[&loir::app::AppId::new("local", name)].clone()
    }

    /// The app's lines in its journal, without process ids.
    pub fn journal(&self, app: &str) -> Vec<String> {
        journal_lines(self.folder.path(), app).into_iter().map(|(_, line)| line).collect()
    }

    /// The process of the app's latest start.
    pub fn process(&self, app: &str) -> u32 {
        latest_process(self.folder.path(), app)
    }

    /// Stops the app now if it has been idle for its idle time, as the sweep would.
    pub async fn sweep(&self, app: &str) -> Slept {
        let app = self.app(app);
        let idle = app.settings().timeouts.idle;
        self.running.lifecycle().sleep(&app, idle).await
    }

    /// Stops the app now. A request counts a moment longer than its answer takes to arrive.
    pub async fn put_to_sleep(&self, app: &str) {
        eventually!(self.app(app).in_flight() == 0);
        let slept = self.running.lifecycle().sleep(&self.app(app), Duration::ZERO).await;
        assert_eq!(slept, Slept::Yes);
    }

    /// How often the journal holds the line.
    pub fn times(&self, app: &str, line: &str) -> usize {
        self.journal(app).iter().filter(|noted| *noted == line).count()
    }

    /// A connection on which bytes are sent as they are.
    pub async fn wire(&self) -> wire::Wire {
        wire::Wire::open(self.address).await
    }

    /// The same, when these bytes have been sent.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> wire::Wire {
        wire::Wire::with(self.address, bytes).await
    }
}

/// Each line of an app's journal with the id of the process that wrote it.
pub fn journal_lines(folder: &Path, app: &str) -> Vec<(u32, String)> {
    let text = std::fs::read_to_string(journal(folder, app)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(process, line)| (process.parse().unwrap(), line.to_owned()))
        .collect()
}

/// The process of the app's latest start.
pub fn latest_process(folder: &Path, app: &str) -> u32 {
    let lines = journal_lines(folder, app);
    lines.iter().rfind(|(_, line)| line == "start").expect("it was started").0
}

/// The children that the app has started, in all of its runs.
pub fn children(folder: &Path, app: &str) -> Vec<u32> {
    journal_lines(folder, app)
        .iter()
        .filter_map(|(_, line)| line.strip_prefix("child ")?.parse().ok())
        .collect()
}

/// An open WebSocket on `/ws` of the app that this host leads to, which sends back what it is sent.
///
/// Pingora 0.9.1 now and then closes one right after the handshake: by its source (`proxy_h1.rs`), when the app's 101 has been
/// read before the end of the request's empty body was passed on, since a request that is done ends an upgraded connection.
/// Seen on loopback, on a busy machine. Then one connects again, as every client does.
pub async fn websocket(address: SocketAddr, host: &str) -> WebSocketStream<TcpStream> {
    for _ in 0..5 {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut socket, _) = client_async(format!("ws://{host}/ws"), stream).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        if matches!(socket.next().await, Some(Ok(answer)) if answer == Message::text("hello")) {
            return socket;
        }
    }
    panic!("no WebSocket to {host} stays open");
}

/// Reads until the end, or until nothing comes for two seconds.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut chunk)).await
    {
        all.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}
