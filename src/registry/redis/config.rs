//! The options of `registry: {type: redis}`.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Redis, address::Address, upkeep::Night};
use crate::{
    config::{
        Environment, RegistryEntry,
        problem::Problems,
        scalar::Label,
        show::as_written,
        units::{self, PositivePeriod},
        yaml::Located,
    },
    registry::{Registry, RegistryConfig, RegistryContext, RegistryError, Upkeep},
};

/// Where a Redis of a platform or of the operator is found, if the file does not say.
const VARIABLES: [&str; 2] = ["REDIS_URL", "SCALINGO_REDIS_URL"];

const PREFIX: &str = "loir";
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(15);

/// Below this, gateways would take each other for dead because a machine was busy for a moment.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// One Redis or Valkey, shared by any number of gateways.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `type`, `url` and so on")]
#[schemars(rename = "RedisRegistry")]
struct Typed {
    /// `redis://` or, with TLS, `rediss://`: `redis://user:password@host:6379/0`. With Sentinel:
    /// `redis+sentinel://user:password@host1:26379,host2:26379/name-of-the-primary`. Default: REDIS_URL or SCALINGO_REDIS_URL in
    /// the environment.
    url: Option<Located<String>>,
    /// Every key begins with it: fleets with different prefixes can share one database. Default: `loir`.
    prefix: Option<Located<Label>>,
    /// How the server's certificate is checked.
    tls: Option<Tls>,
    /// An answer that takes longer is none. Default: `1s`.
    response_timeout: Option<Located<PositivePeriod>>,
    /// How often gateways tell which apps are used. Default: `5s`.
    flush_interval: Option<Located<PositivePeriod>>,
    /// A gateway that was not heard of for so long has lost what it was doing to another. At least `1s`. Default: `15s`.
    lease: Option<Located<PositivePeriod>>,
}

/// How the server's certificate is checked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `ca`")]
#[schemars(rename = "RedisTls")]
struct Tls {
    /// A file with the certificates (PEM) of the authority that signed the server's. Default: those that the system trusts.
    ca: Located<PathBuf>,
}

/// The validated options.
#[derive(Clone)]
pub struct RedisConfig {
    /// Where it is.
    pub address: Address,
    /// Every key begins with it.
    pub prefix: String,
    /// An answer that takes longer is none.
    pub response_timeout: Duration,
    /// How often gateways tell which apps are used.
    pub flush_interval: Duration,
    /// How long a gateway that is not heard of is believed.
    pub lease: Duration,
    shown: Value,
}

/// The JSON Schema of the options.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Typed>()
}

/// Reads the options.
pub fn configure(
    entry: &RegistryEntry,
    env: &Environment,
    problems: &mut Problems,
) -> Option<Arc<dyn RegistryConfig>> {
    read(entry, env, problems).map(|config| Arc::new(config) as _)
}

/// Reads the options, for those who need to know that it is a Redis.
pub fn read(entry: &RegistryEntry, env: &Environment, problems: &mut Problems) -> Option<RedisConfig> {
    let typed: Typed = entry.options.decode(problems)?;
    let at = typed.url.as_ref().map_or(entry.options.at(), |url| url.at);
    let from_env =
        VARIABLES.iter().find_map(|name| Some((*name, env.get(name).filter(|url| !url.is_empty())?)));
    let (url, shown_url) = match (&typed.url, from_env) {
        (Some(url), _) => (url.value.clone(), as_written(url, &url.value)),
        (None, Some((name, url))) => (url.to_string(), format!("${{{name}}}")),
        (None, None) => {
            let help = "write `url: redis://localhost:6379`, or set REDIS_URL";
            problems.push_with_help(at, "a registry of type redis needs a `url`", help);
            return None;
        }
    };
    let certificates = typed.tls.as_ref().and_then(|tls| match fs::read(&tls.ca.value) {
        Ok(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }),
        Err(error) => {
            problems.push(tls.ca.at, format!("{} cannot be read: {error}", tls.ca.value.display()));
            None
        }
    });
    let address = match Address::parse(&url, certificates) {
        Ok(address) => Some(address),
        Err(reason) => {
            let help = "write `redis://user:password@host:6379/0`, `rediss://...`, or `redis+sentinel://host1:26379,host2:26379/primary`";
            problems.push_with_help(at, format!("this is no address of a Redis: {reason}"), help);
            None
        }
    };
    let period = |period: &Option<Located<PositivePeriod>>, usual| {
        period.as_ref().map_or(usual, |period| period.value.0)
    };
    let lease = period(&typed.lease, LEASE);
    if let Some(typed) = typed.lease.as_ref().filter(|_| lease < SHORTEST_LEASE) {
        problems.push(typed.at, "`lease` must be at least 1s: gateways would take each other for dead");
    }
    let response_timeout = period(&typed.response_timeout, RESPONSE_TIMEOUT);
    if let Some(typed) = typed.response_timeout.as_ref().filter(|_| response_timeout >= lease) {
        problems.push(typed.at, "`response_timeout` must be shorter than `lease`");
    }
    let flush_interval = period(&typed.flush_interval, FLUSH_INTERVAL);
    let prefix = typed.prefix.as_ref().map_or_else(|| PREFIX.to_owned(), |prefix| prefix.value.0.clone());
    let mut shown = json!({
        "url": shown_url,
        "prefix": prefix,
        "response_timeout": units::duration(response_timeout),
        "flush_interval": units::duration(flush_interval),
        "lease": units::duration(lease),
    });
    if let Some(tls) = &typed.tls {
        shown["tls"] = json!({ "ca": tls.ca.value });
    }
    Some(RedisConfig { address: address?, prefix, response_timeout, flush_interval, lease, shown })
}

#[async_trait]
impl RegistryConfig for RedisConfig {
    fn open(&self, context: RegistryContext) -> Result<Arc<dyn Registry>, RegistryError> {
        let opened = Redis::open(self.clone(), context);
        opened.map(|redis| redis as _).map_err(|error| RegistryError::Unavailable(error.to_string()))
    }

    async fn upkeep(&self, _: RegistryContext) -> Result<Box<dyn Upkeep>, RegistryError> {
        Ok(Box::new(Night::open(self.clone()).await?))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn show(&self) -> Value {
        self.shown.clone()
    }
}

/// Turns a URL of one server into what the client needs.
pub(super) fn server(url: &str) -> Result<ConnectionInfo, String> {
    // The client's words may repeat the URL, and with it the password.
    url.into_connection_info().map_err(|error| error.category().to_owned())
}
