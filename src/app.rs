//! The nouns everyone shares.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// Which app: the *configured name* of a provider entry and the app's name there.
///
/// One provider entry is one account in one region, so two apps that carry one name never collide.
/// Cheap to clone. Written as `provider/name`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId {
    /// The `name` of the entry under `providers`.
    pub provider: Arc<str>,
    /// The app's name at that provider.
    pub name: Arc<str>,
}

impl AppId {
    /// The app `name` at the provider entry `provider`.
    pub fn new(provider: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { provider: provider.into(), name: name.into() }
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.name)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `provider/name` was expected, and no `/` was found.
#[derive(Debug, thiserror::Error)]
#[error("an app is written provider/name")]
pub struct NotAnAppId;

impl FromStr for AppId {
    type Err = NotAnAppId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (provider, name) = text.split_once('/').ok_or(NotAnAppId)?;
        Ok(Self::new(provider, name))
    }
}

impl Serialize for AppId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AppId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What we believe of an app. `AppStatus` is what its provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AppState {
    /// Stopped, and a request may wake it.
    Asleep = 0,
    /// Being started: newcomers are held.
    Waking = 1,
    /// Running, and its own answer to a probe was seen: requests are proxied.
    Awake = 2,
    /// Being stopped: newcomers are held, and the app is woken again for them.
    Stopping = 3,
    /// The last start failed, or the app crashed: newcomers are refused until the back-off has passed.
    Failed = 4,
}

impl AppState {
    /// The lower-case word used in headers, logs and state files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Waking => "waking",
            Self::Awake => "awake",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a provider reports of an app, one vocabulary for all providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppStatus {
    /// Running as far as the provider can tell; only our own probe says that it answers.
    Running,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// Not running, and startable.
    Stopped,
    /// Ended by itself, with the reason in words for the operator (never for the public).
    Crashed(String),
    /// A word we do not know. Such an app is left alone.
    Unknown(String),
}

/// How many of which process types an app runs: what must come back after a sleep.
///
/// Kept in order of the type's name, so that two equal formations are written alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Formation(pub BTreeMap<String, Processes>);

impl Formation {
    /// Whether it runs anything at all.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|processes| processes.amount == 0)
    }

    /// Whether something in it answers requests.
    pub fn runs_web(&self) -> bool {
        self.0.get(WEB).is_some_and(|web| web.amount > 0)
    }

    /// One process of one type.
    pub fn single(process_type: &str) -> Self {
        Self(BTreeMap::from([(process_type.to_owned(), Processes { amount: 1, ..Processes::default() })]))
    }
}

/// The processes of one type in a [`Formation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Processes {
    /// How many.
    pub amount: u32,
    /// The provider's word for the size of each, where it has sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The autoscaler that was on for this type, by its id at the provider: scaling by hand turns it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<String>,
}

/// Where an app is reached, as its provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// On this machine or network: plain HTTP, and the app is told the host name that the client asked for.
    Address(SocketAddr),
    /// At a host of the provider's, whose router finds the app by that name.
    Origin(Arc<Origin>),
}

/// The app's own host at its provider (RFC 6454: scheme, host, port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// HTTPS, or plain HTTP.
    pub tls: bool,
    /// The name that certificates are verified against, and that the router reads in SNI and `Host`. Lower case.
    pub host: String,
    /// 443, 80 or another.
    pub port: u16,
    /// The name to look up in DNS in the place of `host`, for a host name that may lead back to this gateway.
    pub connect: Option<String>,
    /// How the provider's router says that it has no app to give a request to.
    pub router: &'static RouterPage,
}

impl Origin {
    /// The origin of an `http` or `https` URL, or of an authority like `shop.example.com` or `shop.localhost:4000`.
    ///
    /// Without a scheme, names under `localhost` (always this machine: RFC 6761, 6.3) are reached over plain HTTP and
    /// all others over HTTPS; a plain `http:` is only believed of them too. `None` for anything else.
    pub fn parse(text: &str, router: &'static RouterPage) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let authority: http::uri::Authority = rest.split(['/', '?', '#']).next()?.parse().ok()?;
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() || host.contains('*') || authority.as_str().contains('@') {
            return None;
        }
        let here = is_this_machine(&host);
        let tls = scheme == Some("https") || !here;
        // The port of a plain URL says nothing about where TLS is spoken.
        let port = authority.port_u16().filter(|_| !tls || scheme != Some("http"));
        Some(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), connect: None, router })
    }

    /// `host`, or `host:port` if the port is not the scheme's own: what `Host` says.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "http://{address}"),
            Self::Origin(origin) => fmt::Display::fmt(origin, f),
        }
    }
}

/// Whether a name always leads to this machine.
pub fn is_this_machine(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

/// How a provider's router says that it has no app to give a request to.
#[derive(Debug, PartialEq, Eq)]
pub struct RouterPage {
    /// The status codes it answers with then.
    pub status: &'static [u16],
    /// Fields that its answer then carries, each with how the value begins.
    pub fields: &'static [(&'static str, &'static str)],
    /// Whether an app's own answer never looks like that.
    pub certain: bool,
}

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The app itself.
    App,
    /// The app or the router: only the provider's API can tell.
    Unclear,
    /// The router, because the app does not run.
    Router,
}

impl RouterPage {
    /// Who gave an answer with this status and these fields.
    pub fn author(&self, status: u16, headers: &http::HeaderMap) -> Author {
        let carries = |(name, start): &(&str, &str)| {
            headers.get(*name).is_some_and(|value| value.as_bytes().starts_with(start.as_bytes()))
        };
        match self.status.contains(&status) && self.fields.iter().all(carries) {
            false => Author::App,
            true if self.certain => Author::Router,
            true => Author::Unclear,
        }
    }
}

/// Which process types of an app are stopped when nobody uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopTypes {
    /// All of them, workers too.
    #[default]
    All,
    /// Only `web`: workers and clocks go on.
    Web,
}

/// The process type that answers requests, at every provider that has types.
pub const WEB: &str = "web";

impl StopTypes {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Web => "web",
        }
    }

    /// The part of a formation that is stopped.
    pub fn of(self, formation: &Formation) -> Formation {
        let stops = |name: &String| self == Self::All || name == WEB;
        Formation(
            formation.0.iter().filter(|(name, _)| stops(name)).map(|(n, p)| (n.clone(), p.clone())).collect(),
        )
    }
}

/// Which answer to a probe counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The path that is asked with GET.
    pub path: String,
    /// Inclusive ranges of status codes.
    pub status: Vec<(u16, u16)>,
}

impl Default for Readiness {
    /// `/` answers with anything but a server error.
    fn default() -> Self {
        Self { path: "/".into(), status: vec![(200, 499)] }
    }
}

impl Readiness {
    /// Whether `status` counts as ready.
    pub fn accepts(&self, status: u16) -> bool {
        self.status.iter().any(|&(low, high)| (low..=high).contains(&status))
    }
}

/// The time limits of one app, after defaults were filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// An app sleeps this long after its last request ended.
    #[serde(serialize_with = "crate::config::units::show_duration")]
    pub idle: Duration,
    /// A start that takes longer has failed.
    #[serde(serialize_with = "crate::config::units::show_duration")]
    pub wake: Duration,
    /// A program's request waits at most this long for a wake.
    #[serde(serialize_with = "crate::config::units::show_duration")]
    pub hold: Duration,
    /// A person's request waits this long before the holding page is shown.
    #[serde(serialize_with = "crate::config::units::show_duration")]
    pub hold_before_page: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    static CERTAIN: RouterPage = RouterPage { status: &[503], fields: &[("x-router", "")], certain: true };
    static UNCLEAR: RouterPage =
        RouterPage { status: &[404, 503], fields: &[("content-type", "text/html")], certain: false };

    #[test]
    fn an_origin_is_https_unless_it_is_on_this_machine() {
        for (text, expected) in [
            ("https://shop.osc-fr1.scalingo.io", Some("https://shop.osc-fr1.scalingo.io")),
            ("https://Shop.herokuapp.com/", Some("https://shop.herokuapp.com")),
            ("shop.example.com/api", Some("https://shop.example.com")),
            ("shop.example.com:8443", Some("https://shop.example.com:8443")),
            ("http://shop.example.com", Some("https://shop.example.com")),
            ("http://shop.example.com:80", Some("https://shop.example.com")),
            ("http://shop.localhost:4000/x?y", Some("http://shop.localhost:4000")),
            ("shop.localhost:4000/", Some("http://shop.localhost:4000")),
            ("https://shop.localhost:4000", Some("https://shop.localhost:4000")),
            ("http://127.0.0.1:9", Some("http://127.0.0.1:9")),
            ("*.example.com", None),
            ("https://user@example.com", None),
            ("ftp://example.com", None),
            ("", None),
            ("https://", None),
            ("not a host", None),
        ] {
            let origin = Origin::parse(text, &CERTAIN).map(|origin| origin.to_string());
            assert_eq!(origin.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_routers_page_is_told_from_an_apps_answer() {
        let with = |name: &'static str, value: &'static str| {
            http::HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )])
        };
        assert_eq!(CERTAIN.author(503, &with("x-router", "no app")), Author::Router);
        assert_eq!(CERTAIN.author(503, &with("content-type", "text/html")), Author::App);
        assert_eq!(CERTAIN.author(200, &with("x-router", "no app")), Author::App);
        assert_eq!(UNCLEAR.author(404, &with("content-type", "text/html; charset=utf-8")), Author::Unclear);
        assert_eq!(UNCLEAR.author(404, &with("content-type", "application/json")), Author::App);
    }
}
