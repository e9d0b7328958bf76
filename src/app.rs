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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation(pub BTreeMap<String, Processes>);

impl Formation {
    /// One process of one type.
    pub fn single(process_type: &str) -> Self {
        Self(BTreeMap::from([(process_type.to_owned(), Processes { amount: 1, size: None })]))
    }
}

/// The processes of one type in a [`Formation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// How many.
    pub amount: u32,
    /// The provider's word for the size of each, where it has sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// Where a running app is reached. Always a resolved address, since `HttpPeer::new` blocks on a host name and
/// panics when it does not resolve (Pingora 0.9.1, `upstreams/peer.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address to connect to.
    pub address: SocketAddr,
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
