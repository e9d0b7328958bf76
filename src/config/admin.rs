//! `admin`: where operators ask and act, and who may.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::{At, Problems},
    scalar::{HostName, Label, Listen, Scalar, scalar},
    secret::Secret,
    show::as_written,
    yaml::{Located, OneOrMany},
};
use crate::credentials::{NamedToken, Scope, TokenHash};

/// Where the admin side listens if the file does not say.
pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Somebody who makes up a token makes up a longer one.
const SHORTEST_TOKEN: usize = 16;

/// As long as what it makes.
const SHORTEST_KEY: usize = 32;

/// What stands where `loir config show` shows no secret. Nobody has that token.
const HIDDEN: &str = "***";

/// The admin side, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Changing it needs a restart.
    pub listen: Bind,
    /// The host name under which it is reached on the main listener, lower case.
    pub host: Option<String>,
    /// Who may do what.
    pub tokens: Vec<NamedToken>,
    /// What wake links are signed with.
    pub signing_key: Option<Secret>,
    /// Whether metrics tell apps apart.
    pub per_app: PerApp,
    /// Where `host` is written.
    pub host_at: At,
    /// As it is to be shown.
    pub(super) shown: Value,
}

impl Admin {
    /// Whether there is a way in.
    pub fn is_on(&self) -> bool {
        self.listen != Bind::Off || self.host.is_some()
    }

    /// As YAML that loads again, without secrets.
    pub fn show(&self) -> Value {
        self.shown.clone()
    }
}

/// Where the admin side listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// At [`DEFAULT`], if that is free.
    #[default]
    Usual,
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl Scalar for Bind {
    const NAME: &'static str = "ListenOrOff";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" | "false" => Ok(Self::Off),
            _ => Listen::parse(text).map(|listen| Self::At(listen.0)),
        }
    }
    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["off", false] }, Listen::schema()] })
    }
}

/// Whether metrics tell apps apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PerApp {
    /// Up to 500 apps.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: the label `app` is `all`.
    Off,
}

/// The hash of a token, as typed.
pub(super) struct Hash(TokenHash);

impl Scalar for Hash {
    const NAME: &'static str = "TokenHash";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$" })
    }
}

scalar!(Bind, Hash);

/// The admin side: an API for operators and for `loir apps`, `loir wake` and so on, and metrics.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `admin`")]
#[schemars(rename = "Admin")]
pub(super) struct Typed {
    /// Address and port, or `off`. Default: `127.0.0.1:9090`. A change needs a restart.
    pub listen: Option<Located<Bind>>,
    /// A host name under which the admin side is reached where clients connect as well, always with a token: for platforms
    /// with a single port. Default: none.
    pub host: Option<Located<HostName>>,
    /// Who may do what. Without any, whoever connects from this machine may do everything.
    pub tokens: Option<Vec<Located<Token>>>,
    /// What links that wake an app are signed with: 32 characters or more, the same for all gateways of a fleet. Default: made at
    /// the first start and kept in `state_dir`.
    pub signing_key: Option<Located<Secret>>,
    /// What is measured.
    pub metrics: Option<Metrics>,
}

/// What is measured.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `per_app`")]
#[schemars(rename = "Metrics")]
pub(super) struct Metrics {
    /// Whether metrics tell apps apart: `auto` (up to 500 apps), `on` or `off`. Default: `auto`.
    pub per_app: Option<PerApp>,
}

/// Somebody who may do something.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `name`, `hash` and `scopes`")]
#[schemars(rename = "Token")]
pub(super) struct Token {
    /// Who has it: the cause of what is done with it.
    #[schemars(required)]
    pub name: Option<Located<Label>>,
    /// Its hash, as `loir token new` prints it.
    pub hash: Option<Located<Hash>>,
    /// In the place of `hash`: the token itself, as `${NAME}`.
    pub token: Option<Located<Secret>>,
    /// What it gives a right to: `read`, `operate`, `admin`; each gives the ones before it as well. Default: `read`.
    pub scopes: Option<OneOrMany<Scope>>,
}

/// From typed to needed.
pub(super) fn admin(typed: Typed, server: SocketAddr, keeps_state: bool, problems: &mut Problems) -> Admin {
    let mut shown = json!({ "metrics": { "per_app": typed.metrics.as_ref().and_then(|m| m.per_app).unwrap_or_default() } });
    let (mut tokens, mut shown_tokens): (Vec<NamedToken>, _) = (Vec::new(), Vec::new());
    let configured = typed.tokens.is_some();
    for entry in typed.tokens.unwrap_or_default() {
        let scope = entry.scopes.iter().flat_map(|scopes| &scopes.0).max().copied().unwrap_or(Scope::Read);
        if entry.lacks("name", &entry.name) {
            problems.push(entry.at, "`name` is missing: a token needs one");
        }
        let hash = match (&entry.value.hash, &entry.value.token) {
            (Some(_), Some(token)) => {
                problems.push(token.at, "`hash` and `token` stand here both: leave one of them out");
                None
            }
            (Some(hash), None) => Some((hash.value.0.clone(), ("hash", hash.value.0.to_string()))),
            (None, Some(token)) => secret(token, problems).map(|hash| (hash, ("token", HIDDEN.to_owned()))),
            (None, None) => {
                if entry.lacks("hash", &entry.hash) && entry.lacks("token", &entry.token) {
                    let help = "make one with `loir token new`, which prints both";
                    problems.push_with_help(entry.at, "a token needs its `hash`", help);
                }
                None
            }
        };
        let (Some(name), Some((hash, (key, text)))) = (&entry.value.name, hash) else { continue };
        if tokens.iter().any(|known| *known.name == *name.value.0) {
            problems.push(name.at, "another token has this name");
            continue;
        }
        shown_tokens.push(json!({ "name": as_written(name, &name.value.0), key: text, "scopes": [scope] }));
        tokens.push(NamedToken { name: name.value.0.as_str().into(), hash, scope });
    }
    if let Some(key) =
        typed.signing_key.as_ref().filter(|key| key.expose().len() < SHORTEST_KEY && key.expose() != HIDDEN)
    {
        let help =
            "make one with `openssl rand -base64 32`, or leave it out: then one is kept in `state_dir`";
        problems.push_with_help(key.at, "this key is shorter than 32 characters", help);
    }
    let listen = typed.listen.as_ref().map_or(Bind::Usual, |listen| listen.value);
    // A list whose entries are wrong has been told.
    let nobody = !configured && !keeps_state;
    let help =
        "make one with `loir token new`, or write `state_dir` for one that is printed at the first start";
    if let (Some(typed), Bind::At(address)) = (&typed.listen, listen) {
        let everywhere = address.ip().is_unspecified() || server.ip().is_unspecified();
        if address.port() != 0
            && address.port() == server.port()
            && (everywhere || address.ip() == server.ip())
        {
            problems.push(typed.at, "this is where clients connect: see `server.listen`");
        }
        if nobody && !address.ip().is_loopback() {
            let message = "the admin side can be reached from elsewhere here, and there are no `tokens` that could be asked for";
            problems.push_with_help(typed.at, message, help);
        }
    }
    if let Some(host) = typed.host.as_ref().filter(|_| nobody) {
        problems.push_with_help(host.at, "this host needs a token, and there are no `tokens`", help);
    }
    shown["listen"] = match (&typed.listen, listen) {
        (_, Bind::Off) => "off".into(),
        (_, Bind::Usual) => Value::Null,
        (_, Bind::At(address)) => address.to_string().into(),
    };
    shown["host"] = typed.host.as_ref().map(|host| as_written(host, &host.value.0)).into();
    if !shown_tokens.is_empty() {
        shown["tokens"] = shown_tokens.into();
    }
    shown["signing_key"] = typed.signing_key.as_ref().map(|_| HIDDEN).into();
    if let Value::Object(shown) = &mut shown {
        shown.retain(|_, value| !value.is_null());
    }
    Admin {
        listen,
        host_at: typed.host.as_ref().map(|host| host.at).unwrap_or_default(),
        host: typed.host.map(|host| host.value.0),
        tokens,
        signing_key: typed.signing_key.map(|key| key.value).filter(|key| key.expose() != HIDDEN),
        per_app: typed.metrics.and_then(|metrics| metrics.per_app).unwrap_or_default(),
        shown,
    }
}

fn secret(token: &Located<Secret>, problems: &mut Problems) -> Option<TokenHash> {
    match token.expose() {
        HIDDEN => Some(TokenHash::nobodys()),
        text if text.len() < SHORTEST_TOKEN => {
            let help = "make one with `loir token new`";
            problems.push_with_help(
                token.at,
                "this token is shorter than 16 characters: it could be guessed",
                help,
            );
            None
        }
        text => Some(TokenHash::of(text)),
    }
}
