//! The configuration: what was typed becomes what is needed, and every problem is found in between, all at once.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | what is needed: validated types |
//! | `file` | what was typed: one struct for each block of the YAML, unknown keys refused |
//! | `yaml` | the YAML as a tree that knows where each value stands, and serde over that tree |
//! | `interpolate` | `${NAME}` from the environment |
//! | `admin` | the admin side: where, and who may |
//! | `scalar` | values of one word: names, hosts, ports, addresses, networks |
//! | `manage` | which apps are looked after |
//! | `rules` | what holds for which apps |
//! | `schedule` | when apps are kept awake or asleep |
//! | `plan` | how many apps are looked after |
//! | `history` | where events are kept, and for how long |
//! | `savings` | what a sleep is worth is reckoned with |
//! | `units` | durations and sizes |
//! | `validate` | from typed to needed |
//! | `show` | `loir config show`: what is needed, as YAML again, without secrets |
//! | `problem` | what is wrong, where, and what to do |
//! | `secret` | text that must not be shown |
//! | `schema` | the JSON Schema of it all |

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{
    app::{AppId, Timeouts},
    routing::Rules,
};

pub mod admin;
mod file;
pub mod history;
pub mod interpolate;
pub mod manage;
pub mod plan;
pub mod problem;
mod rules;
pub mod savings;
pub mod scalar;
mod schedule;
pub mod schema;
pub mod secret;
pub mod show;
pub mod units;
pub mod validate;
pub mod yaml;

pub use admin::Admin;
pub use history::HistoryConfig;
pub use interpolate::Environment;
pub use manage::{Manage, Pattern};
pub use plan::HostingPlan;
use problem::Problems;
pub use savings::SavingsConfig;

/// Reads the text that `problems` carries up to the tree with its variables filled in. From here on, problems know
/// which parts of the text must not be shown. `None` if the text is not YAML, or has no keys at the top.
pub fn read(env: &Environment, problems: &mut Problems) -> Option<yaml::Node> {
    let tree = yaml::parse(problems);
    let secrets = match &tree {
        Some(tree) => secret::in_tree(tree, problems.text()),
        None => secret::in_lines(problems.text()),
    };
    let urls = secret::in_urls(problems.text());
    problems.hide(secrets.into_iter().chain(urls));
    let mut tree = tree?;
    interpolate::expand(&mut tree, env, problems);
    Some(tree)
}

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
    /// Which of their apps are woken and stopped.
    pub manage: Manage,
    /// Apps that exist in several places.
    pub apps: Vec<SharedApp>,
    /// What holds for which apps.
    pub rules: Arc<Rules>,
    /// Whether nothing at all is stopped, and it is only recorded when it would be. The rules know of it.
    pub dry_run: bool,
    /// How many apps are looked after.
    pub plan: HostingPlan,
    /// Where events are kept, and for how long.
    pub history: HistoryConfig,
    /// What a sleep is worth is reckoned with these.
    pub savings: SavingsConfig,
    /// Where operators ask and act.
    pub admin: Admin,
}

/// An app that exists in several places and has one name: `apps` in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedApp {
    /// It answers at `NAME.DOMAIN`.
    pub name: String,
    /// Host names beside that.
    pub hosts: Vec<String>,
    /// Where it is, the preferred place first. Never empty.
    pub replicas: Vec<AppId>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// No line.
    Off,
    /// One JSON object a line.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// What is refused for being too much: `server.limits`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Bytes of a request body; more is 413.
    #[serde(serialize_with = "units::show_size")]
    pub body: u64,
    /// Fields in a request header; more is 431.
    pub header_fields: usize,
    /// Bytes of a request header; more is 431.
    #[serde(serialize_with = "units::show_length")]
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 30,
            header_fields: 100,
            header_bytes: 64 << 10,
            connections: 10_000,
            held_per_app: 2_000,
            held: 10_000,
            event_streams: 1_000,
        }
    }
}

/// How long each step may take: `server.timeouts`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServerTimeouts {
    /// A client's whole request header, from the connection's first byte.
    #[serde(serialize_with = "units::show_duration")]
    pub header: Duration,
    /// An idle client connection between two requests.
    #[serde(serialize_with = "units::show_duration")]
    pub keep_alive: Duration,
    /// Each read of a request body.
    #[serde(serialize_with = "units::show_duration")]
    pub client_read: Duration,
    /// Each write to a client.
    #[serde(serialize_with = "units::show_duration")]
    pub client_write: Duration,
    /// Connecting to an app.
    #[serde(serialize_with = "units::show_duration")]
    pub connect: Duration,
    /// Each read from an app.
    #[serde(serialize_with = "units::show_duration")]
    pub read: Duration,
    /// Each write to an app.
    #[serde(serialize_with = "units::show_duration")]
    pub write: Duration,
    /// A silent WebSocket or event stream.
    #[serde(serialize_with = "units::show_duration")]
    pub stream: Duration,
    /// An idle connection to an app. Below the 5 s after which Node.js closes its own side.
    #[serde(serialize_with = "units::show_duration")]
    pub upstream_keep_alive: Duration,
}

impl Default for ServerTimeouts {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            header: Duration::from_secs(10),
            keep_alive: minute,
            client_read: minute,
            client_write: minute,
            connect: Duration::from_secs(5),
            read: minute,
            write: minute,
            stream: 60 * minute,
            upstream_keep_alive: Duration::from_secs(4),
        }
    }
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
