//! `Link`: the connection for commands. Either it can be used, or every call fails at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, Script, ToRedisArgs,
    aio::MultiplexedConnection,
};
use tokio::sync::Notify;

use crate::registry::RegistryError;

/// A connection that comes and goes.
pub struct Link {
    timeout: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Told when a call shows that the connection is of no use any more.
    pub lost: Notify,
    origin: Instant,
    /// The registry's time at `origin`, in milliseconds since 1970.
    offset: AtomicI64,
    /// When the connection was made, in milliseconds since `origin`.
    since: AtomicU64,
}

impl Link {
    /// Not connected.
    pub fn new(timeout: Duration) -> Self {
        // Until the registry has told its time, our own has to do.
        let now = crate::clock::Clock::system().unix_millis();
        Self {
            timeout,
            connection: Mutex::default(),
            lost: Notify::new(),
            origin: Instant::now(),
            offset: AtomicI64::new(i64::try_from(now).unwrap_or(i64::MAX)),
            since: AtomicU64::new(0),
        }
    }

    /// A new connection, which nobody uses yet.
    pub async fn connect(&self, client: &Client) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// From now on `connection` is used.
    pub fn open(&self, connection: MultiplexedConnection) {
        self.since.store(self.elapsed(), Ordering::SeqCst);
        *self.connection() = Some(connection);
    }

    /// From now on every call fails.
    pub fn close(&self) {
        *self.connection() = None;
    }

    /// How long it has been usable; `None` if it is not.
    pub fn open_for(&self) -> Option<Duration> {
        self.connection().as_ref()?;
        Some(Duration::from_millis(self.elapsed().saturating_sub(self.since.load(Ordering::SeqCst))))
    }

    /// The registry's time.
    pub fn now(&self) -> u64 {
        self.offset.load(Ordering::SeqCst).saturating_add_unsigned(self.elapsed()).try_into().unwrap_or(0)
    }

    /// The registry has just said what time it is.
    pub fn believe_time(&self, now: u64) {
        let offset = i64::try_from(now.saturating_sub(self.elapsed())).unwrap_or(i64::MAX);
        self.offset.store(offset, Ordering::SeqCst);
    }

    /// Runs a script.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[impl ToRedisArgs + Sync],
    ) -> Result<T, RegistryError> {
        let mut connection = self.usable()?;
        let mut invocation = script.key(keys);
        invocation.arg(args);
        invocation.invoke_async(&mut connection).await.map_err(|error| self.failed(&error))
    }

    /// Sends a command.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RegistryError> {
        let mut connection = self.usable()?;
        command.query_async(&mut connection).await.map_err(|error| self.failed(&error))
    }

    /// Sends several commands at once.
    pub async fn commands<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RegistryError> {
        let mut connection = self.usable()?;
        commands.query_async(&mut connection).await.map_err(|error| self.failed(&error))
    }

    /// In words, and without anything secret; what shows that the connection is of no use closes it.
    pub fn failed(&self, error: &RedisError) -> RegistryError {
        // A wrong key or a missing right is not the connection's fault: it would be the same on the next one.
        if !matches!(error.code(), Some("WRONGTYPE" | "ERR" | "NOSCRIPT" | "NOPERM" | "CROSSSLOT")) {
            self.close();
            self.lost.notify_one();
        }
        RegistryError::Unavailable(in_words(error))
    }

    fn usable(&self) -> Result<MultiplexedConnection, RegistryError> {
        self.connection().clone().ok_or_else(|| RegistryError::Unavailable("the registry is away".into()))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What went wrong, and what to do where that is known.
pub fn in_words(error: &RedisError) -> String {
    let help = match error.code() {
        Some("WRONGPASS" | "NOAUTH") => ": check the user name and password in `registry.url`",
        Some("NOPERM") => ": this user needs more rights, see docs/fleet.md",
        Some("OOM") => ": give it more memory (`maxmemory`), and keep `maxmemory-policy noeviction`",
        Some("READONLY") => ": this is a replica; name the primary, or use redis+sentinel://",
        Some("LOADING") => ": it is reading its data from the disk",
        Some("MISCONF") => ": it cannot write its data to the disk, see its own log",
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            ": check the user name and password in `registry.url`"
        }
        _ => "",
    };
    if error.is_io_error() {
        return error.to_string();
    }
    let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail}{help}", error.category())
}
