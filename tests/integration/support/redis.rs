//! A real `redis-server`, which a test may hurt as it likes.

use std::{path::PathBuf, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, RedisResult, Value, aio::MultiplexedConnection, from_redis_value,
};

use super::leash::{Leash, lasting_port};

/// What is said where there is none.
const MISSING: &str = "redis-server is not installed, and this test needs a real one. `make test` installs it where it can \
                       (scripts/setup test); by hand: apt-get install redis-server, dnf install redis, brew install redis";

/// How a Redis is to be. It keeps nothing on disk, unless told otherwise.
#[derive(Clone, Default)]
pub struct Setup {
    options: Vec<String>,
    password: Option<String>,
}

impl Setup {
    /// A further option of the command line, as `--maxmemory 2mb`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.extend(option.split_whitespace().map(str::to_owned));
        self
    }

    /// Whoever comes must know this.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self.option(&format!("--requirepass {password}"))
    }

    /// It writes everything down at once, and has it after a [`Redis::restart`].
    pub fn lasting(self) -> Self {
        self.option("--appendonly yes --appendfsync always")
    }

    /// Every key that was written down with SAVE takes it 100 ms at a start, while it answers that it is loading.
    pub fn slow_to_load(self) -> Self {
        let slow = self.option("--key-load-delay 100000 --loading-process-events-interval-bytes 1024");
        slow.option("--rdbcompression no")
    }

    /// Starts it on a free port, with a folder of its own.
    pub async fn start(self) -> Redis {
        let redis = self.absent();
        redis.begin().await
    }

    /// One that is yet to begin: its port is known, and nobody listens there.
    pub fn absent(self) -> Absent {
        Absent { folder: tempfile::tempdir().unwrap(), port: lasting_port(), setup: self }
    }
}

/// A Redis that is not there yet.
pub struct Absent {
    folder: tempfile::TempDir,
    port: u16,
    setup: Setup,
}

impl Absent {
    /// See [`Redis::url`].
    pub fn url(&self) -> String {
        url(self.setup.password.as_deref(), self.port)
    }

    /// Now it is there.
    pub async fn begin(self) -> Redis {
        let Self { folder, port, setup } = self;
        let leash = begin(&setup, port, folder.path().to_owned());
        let redis = Redis { leash: Some(leash), folder, port, setup };
        redis.answers().await;
        redis
    }
}

fn url(password: Option<&str>, port: u16) -> String {
    let secret = password.map(|password| format!(":{password}@")).unwrap_or_default();
    format!("redis://{secret}127.0.0.1:{port}")
}

fn begin(setup: &Setup, port: u16, folder: PathBuf) -> Leash {
    let (port, log) = (port.to_string(), folder.join("redis.log"));
    let mut args =
        vec!["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", folder.to_str().unwrap()];
    args.extend(["--protected-mode", "no", "--repl-diskless-sync-delay", "0"]);
    args.extend(setup.options.iter().map(String::as_str));
    server(&args, &log)
}

/// A `redis-server` with these arguments.
pub(super) fn server(args: &[&str], log: &std::path::Path) -> Leash {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file());
    assert!(is_there, "{MISSING}");
    Leash::hold("redis-server", args, &[], log)
}

/// A running `redis-server`. Killed when dropped.
pub struct Redis {
    leash: Option<Leash>,
    folder: tempfile::TempDir,
    pub port: u16,
    setup: Setup,
}

impl Redis {
    /// One as it is without any option.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// One with options.
    pub fn with() -> Setup {
        Setup::default()
    }

    /// `redis://127.0.0.1:PORT`, with the password if there is one.
    pub fn url(&self) -> String {
        url(self.setup.password.as_deref(), self.port)
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        connect(&self.url()).await
    }

    /// One command, as `redis-cli` would send it.
    pub async fn command(&self, words: &[&str]) -> RedisResult<Value> {
        command(&self.url(), words).await
    }

    /// The same, where the answer is a text; `None` for nil.
    pub async fn text(&self, words: &[&str]) -> Option<String> {
        let answer = self.command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        from_redis_value(answer).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A number of `INFO`, as `total_commands_processed`.
    pub async fn info(&self, name: &str) -> u64 {
        let all = self.text(&["INFO", "everything"]).await.unwrap();
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("no number {name} in\n{all}"))
    }

    /// Every key, found with SCAN.
    pub async fn keys(&self) -> Vec<String> {
        let mut connection = self.connect().await.unwrap();
        let mut cursor = String::from("0");
        let mut all = Vec::new();
        loop {
            let scan = redis::cmd("SCAN").arg(&cursor).arg("COUNT").arg(1000).to_owned();
            let (next, some): (String, Vec<String>) = scan.query_async(&mut connection).await.unwrap();
            all.extend(some);
            if next == "0" {
                all.sort();
                all.dedup();
                return all;
            }
            cursor = next;
        }
    }

    /// Kills it; connections to it are refused from now on.
    pub async fn kill(&mut self) {
        if let Some(leash) = self.leash.take() {
            leash.kill().await;
        }
    }

    /// It hangs: connections are accepted, and nothing is answered.
    pub fn freeze(&self) {
        self.leash.as_ref().expect("a running Redis").freeze();
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        self.leash.as_ref().expect("a running Redis").thaw();
    }

    /// No client is answered for so long.
    pub async fn pause_clients(&self, pause: Duration) {
        self.text(&["CLIENT", "PAUSE", &pause.as_millis().to_string(), "ALL"]).await;
    }

    /// Whether its memory is full: then it evicts nothing, and refuses what would need more.
    pub async fn is_full(&self, full: bool) {
        self.text(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        self.text(&["CONFIG", "SET", "maxmemory", if full { "1" } else { "0" }]).await;
    }

    /// Whether it refuses every write, as a replica does.
    pub async fn is_read_only(&self, read_only: bool) {
        let port = lasting_port().to_string();
        let of = if read_only { ["127.0.0.1", &port] } else { ["NO", "ONE"] };
        self.text(&["REPLICAOF", of[0], of[1]]).await;
    }

    /// Killed, if it was not yet, and started again on the same port with what it wrote down: nothing, unless it is `lasting`.
    pub async fn restart(&mut self) {
        self.begin_again().await;
        self.answers().await;
    }

    /// The same, without waiting until it has read what it wrote down.
    pub async fn begin_again(&mut self) {
        self.kill().await;
        self.leash = Some(begin(&self.setup, self.port, self.folder.path().to_owned()));
        let address = ("127.0.0.1", self.port);
        crate::eventually!(tokio::net::TcpStream::connect(address).await.is_ok(), "{}", self.log());
    }

    /// The same, without anything of what it had.
    pub async fn restart_empty(&mut self) {
        self.kill().await;
        for entry in std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).unwrap();
            } else if entry.file_name() != "redis.log" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        self.restart().await;
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// Waits until it answers, also that it is not loading.
    pub async fn answers(&self) {
        crate::eventually!(self.command(&["PING"]).await.is_ok(), "redis-server answers\n{}", self.log());
    }
}

/// A connection that waits for no answer longer than some seconds.
pub(super) async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let patience = Some(Duration::from_secs(10));
    let config = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// One command on a connection of its own.
pub(super) async fn command(url: &str, words: &[&str]) -> RedisResult<Value> {
    let mut connection = connect(url).await?;
    redis::cmd(words[0]).arg(&words[1..]).to_owned().query_async(&mut connection).await
}

/// A number or text out of an answer.
pub fn read<T: redis::FromRedisValue>(answer: RedisResult<Value>) -> T {
    from_redis_value(answer.unwrap()).unwrap()
}

/// Whether it answers, and lets us in.
pub async fn ping(url: String) -> bool {
    command(&url, &["PING"]).await.is_ok()
}
