//! What was typed: one struct for each block of the YAML. Everything is optional here and unknown keys are refused;
//! `validate` fills in the defaults. The doc comments are the descriptions in the JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    AccessLog,
    history::History,
    manage::Pattern,
    plan, rules,
    savings::Savings,
    scalar::{Count, HostName, Label, Listen, Networks, Threads},
    units::{Period, PositivePeriod, Size},
    yaml::{Located, OneOrMany},
};

/// The configuration of Loir, an edge gateway that stops idle apps and wakes them on the first request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `server`, `providers` and so on")]
#[schemars(title = "Loir", inline)]
pub(super) struct File {
    /// The listening side: where clients connect, and what they may ask.
    pub server: Option<Server>,
    /// Where records of apps are kept. Default: in memory.
    #[schemars(schema_with = "anything")]
    #[serde(default, rename = "registry")]
    pub _registry: Option<IgnoredAny>,
    /// A directory where records survive a restart. Relative to the working directory. Default: nowhere.
    pub state_dir: Option<Located<String>>,
    /// Time limits of apps that set none of their own.
    pub defaults: Option<Defaults>,
    /// Where apps run: each entry is one account in one region.
    #[schemars(schema_with = "anything")]
    #[serde(default, rename = "providers")]
    pub _providers: Option<IgnoredAny>,
    /// Which apps are woken and stopped. Default: all.
    pub manage: Option<Manage>,
    /// Apps that exist in several places and have one name.
    pub apps: Option<Vec<Located<SharedApp>>>,
    /// What holds for which apps. Of each key the first rule counts that fits and has it.
    pub rules: Option<Vec<Located<rules::Typed>>>,
    /// Whether nothing is stopped, and it is only recorded when it would be. Default: `false`.
    pub dry_run: Option<Located<bool>>,
    /// How many provider entries and apps are looked after, for whoever hosts the gateway for others: `free` (1 and 3), `team`
    /// (3 and 20), `enterprise` (all and 100) or numbers. Default: all.
    pub plan: Option<plan::Typed>,
    /// Where events are kept, and for how long.
    pub history: Option<Located<History>>,
    /// What a sleep is worth is reckoned with these: money, energy, CO2e.
    pub savings: Option<Savings>,
    /// Where operators ask and act, and who may.
    pub admin: Option<super::admin::Typed>,
}

/// Which apps are woken and stopped. The others are proxied while they run, and else left alone.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `include` and `exclude`")]
#[schemars(rename = "Manage")]
pub(super) struct Manage {
    /// Only what one of these patterns fits. Default: `*`.
    pub include: Option<OneOrMany<Located<Pattern>>>,
    /// And none of these. `*` stands for anything, `?` for one character; with a `/`, the pattern is for
    /// `provider/name`. Default: none.
    pub exclude: Option<OneOrMany<Located<Pattern>>>,
}

/// An app that exists in several places and has one name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `name` and `replicas`")]
#[schemars(rename = "SharedApp")]
pub(super) struct SharedApp {
    /// It answers at NAME.DOMAIN.
    #[schemars(required)]
    pub name: Option<Located<Label>>,
    /// Where it is, as `provider/name`, the preferred place first: the one that is awake serves, else the first that can
    /// be woken.
    #[schemars(required)]
    pub replicas: Option<Located<OneOrMany<Located<String>>>>,
    /// Host names beside NAME.DOMAIN.
    pub hosts: Option<OneOrMany<Located<HostName>>>,
}

/// The tables of providers and registries say more, in `schema`.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({})
}

/// The listening side: where clients connect, and what they may ask.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `server`")]
pub(super) struct Server {
    /// Address and port for clients: `127.0.0.1:8080`, `:8080` or `8080`. Default: `0.0.0.0:8080`, or what HOST and
    /// PORT in the environment say. A change needs a restart.
    pub listen: Option<Located<Listen>>,
    /// The app `hello` answers at `hello.DOMAIN`. One domain or a list. Default: `localhost`.
    pub domain: Option<Located<OneOrMany<Located<HostName>>>>,
    /// Proxies in front of the gateway, whose `X-Forwarded-*`, `Forwarded`, `X-Request-Id` and `traceparent` are
    /// believed: networks, addresses, or the words `loopback` and `private`. Default: nobody.
    pub trusted_proxies: Option<OneOrMany<Located<Networks>>>,
    /// Worker threads. Default: one for each processor. A change needs a restart.
    pub threads: Option<Threads>,
    /// How long requests in flight may take to end after SIGTERM. Default: `30s`.
    pub drain_timeout: Option<Period>,
    /// One line for each request: `off`, `json` or `combined`. Default: `off`.
    pub access_log: Option<AccessLog>,
    /// Whether query strings are written to the access log as they are. They may carry secrets. Default: `false`.
    pub log_queries: Option<bool>,
    /// What is refused for being too much.
    pub limits: Option<Limits>,
    /// How long each step with a client or an app may take.
    pub timeouts: Option<Timeouts>,
}

/// What is refused for being too much.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `limits`")]
#[schemars(rename = "Limits")]
pub(super) struct Limits {
    /// Size of a request body; more is 413. Default: `1GiB`.
    pub body: Option<Size>,
    /// Fields in a request header; more is 431. Default: 100.
    pub header_fields: Option<Count>,
    /// Size of a request header; more is 431. Default: `64KiB`.
    pub header_bytes: Option<Size>,
    /// Connections of all clients together; more are closed at once. Default: 10000.
    pub connections: Option<Count>,
    /// Requests held for one app while it wakes; more is 503. Default: 2000.
    pub held_per_app: Option<Count>,
    /// Requests held for all apps together; more is 503. Default: 10000.
    pub held: Option<Count>,
    /// Holding pages that listen for live steps; more fall back to polling. Default: 1000.
    pub event_streams: Option<Count>,
}

/// How long each step with a client or an app may take.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `timeouts`")]
#[schemars(rename = "Timeouts")]
pub(super) struct Timeouts {
    /// A client's whole request header. Default: `10s`.
    pub header: Option<PositivePeriod>,
    /// An idle client connection between two requests. Default: `60s`.
    pub keep_alive: Option<PositivePeriod>,
    /// Each read of a request body. Default: `60s`.
    pub client_read: Option<PositivePeriod>,
    /// Each write to a client. Default: `60s`.
    pub client_write: Option<PositivePeriod>,
    /// Connecting to an app. Default: `5s`.
    pub connect: Option<PositivePeriod>,
    /// Each read from an app. Default: `60s`.
    pub read: Option<PositivePeriod>,
    /// Each write to an app. Default: `60s`.
    pub write: Option<PositivePeriod>,
    /// A silent WebSocket or event stream. Default: `1h`.
    pub stream: Option<PositivePeriod>,
    /// An idle connection to an app. Default: `4s`, below the 5 s after which Node.js closes its own side.
    pub upstream_keep_alive: Option<PositivePeriod>,
}

/// Time limits of apps that set none of their own.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `defaults`")]
pub(super) struct Defaults {
    /// An app sleeps this long after its last request ended. Default: `15m`.
    pub idle_timeout: Option<Located<PositivePeriod>>,
    /// A start that takes longer has failed. Default: `60s`.
    pub wake_timeout: Option<Located<PositivePeriod>>,
    /// A program's request waits at most this long for an app to wake. Default: `25s`.
    pub hold_timeout: Option<Located<PositivePeriod>>,
    /// A person's request waits this long before the holding page is shown. Default: `800ms`.
    pub hold_before_page: Option<Located<Period>>,
}
