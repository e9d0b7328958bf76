//! The configuration: what was typed becomes what is needed, and every problem is found in between, all at once.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | what is needed: validated types |
//! | `file` | what was typed: one struct for each block of the YAML, unknown keys refused |
//! | `yaml` | the YAML as a tree that knows where each value stands, and serde over that tree |
//! | `interpolate` | `${NAME}` from the environment |
//! | `units` | durations and sizes |
//! | `validate` | from typed to needed |
//! | `problem` | what is wrong, where, and what to do |
//! | `secret` | text that must not be shown |
//! | `schema` | the JSON Schema of it all |

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::app::Timeouts;

pub mod units;

/// The configuration, validated. Provider and registry entries keep their own options until their room takes them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listening side.
    pub server: Server,
    /// Where records are kept.
    pub registry: RegistryEntry,
    /// Where records survive a restart; nowhere, if not set.
    pub state_dir: Option<PathBuf>,
    /// Time limits of apps that set none of their own.
    pub defaults: Timeouts,
    /// Each is one account in one region.
    pub providers: Vec<ProviderEntry>,
}

/// The listening side: `server` in the file.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where clients connect. Changing it needs a restart.
    pub listen: SocketAddr,
    /// `hello.DOMAIN` is the app `hello`. Lower case, no dot at either end.
    pub domains: Vec<String>,
    /// Peers whose `X-Forwarded-*`, `Forwarded`, `X-Request-Id` and `traceparent` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads. Changing it needs a restart.
    pub threads: usize,
    /// How long requests in flight may take to end after SIGTERM.
    pub drain_timeout: Duration,
    /// One line for each request, or none.
    pub access_log: AccessLog,
    /// Whether query strings are written to the access log as they are.
    pub log_queries: bool,
    /// What is refused for being too much.
    pub limits: Limits,
    /// How long each step with a client or an app may take.
    pub timeouts: ServerTimeouts,
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// No line.
    Off,
    /// One JSON object a line.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// What is refused for being too much: `server.limits`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request body; more is 413.
    pub body: u64,
    /// Fields in a request header; more is 431.
    pub header_fields: usize,
    /// Bytes of a request header; more is 431.
    pub header_bytes: usize,
    /// Connections of all clients together; more are closed at once.
    pub connections: usize,
    /// Requests held for one app; more is 503.
    pub held_per_app: usize,
    /// Requests held for all apps together; more is 503.
    pub held: usize,
    /// Holding pages that listen for live steps; more fall back to polling.
    pub event_streams: usize,
}

/// How long each step may take: `server.timeouts`.
#[derive(Clone, Debug)]
pub struct ServerTimeouts {
    /// A client's whole request header, from the connection's first byte.
    pub header: Duration,
    /// An idle client connection between two requests.
    pub keep_alive: Duration,
    /// Each read of a request body.
    pub client_read: Duration,
    /// Each write to a client.
    pub client_write: Duration,
    /// Connecting to an app.
    pub connect: Duration,
    /// Each read from an app.
    pub read: Duration,
    /// Each write to an app.
    pub write: Duration,
    /// A silent WebSocket or event stream.
    pub stream: Duration,
    /// An idle connection to an app. Below the 5 s after which Node.js closes its own side.
    pub upstream_keep_alive: Duration,
}

/// One entry under `providers`: its name and type are known here, its options are its room's own business.
#[derive(Clone, Debug)]
pub struct ProviderEntry {
    /// Unique. The first half of every [`crate::app::AppId`].
    pub name: String,
    /// A row of `PROVIDERS`.
    pub kind: String,
    /// What else the entry says.
    pub options: yaml::Options,
}

/// The `registry` block.
#[derive(Clone, Debug)]
pub struct RegistryEntry {
    /// A row of `REGISTRIES`.
    pub kind: String,
    /// What else the block says.
    pub options: yaml::Options,
}
