//! `Rules`: what holds for which apps, out of `rules` in the file.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use super::schedule::Schedule;
use crate::app::{AppId, StopTypes};

/// All rules, compiled once.
#[derive(Clone, Debug, Default)]
pub struct Rules {}

impl Rules {
    /// What they say of one app: of each key, what the first rule says that fits and has it.
    pub fn of(&self, app: &AppId) -> Ruling {
        let _ = app;
        Ruling::default()
    }
}

/// What the rules say of one app. Empty where none says anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// It sleeps this long after its last request ended.
    pub idle_timeout: Option<Duration>,
    /// A start that takes longer has failed.
    pub wake_timeout: Option<Duration>,
    /// A program's request waits at most this long for it to wake.
    pub hold_timeout: Option<Duration>,
    /// A person's request waits this long before the holding page is shown.
    pub hold_before_page: Option<Duration>,
    /// Which process types are stopped.
    pub stop: Option<StopTypes>,
    /// Apps that are woken whenever this one is. A name without `/` is an app of the same provider entry.
    pub wakes_with: Vec<AppId>,
    /// Of those, which must have come how far before this one is started.
    pub after: Vec<(AppId, Until)>,
    /// When it is kept awake or asleep.
    pub schedule: Option<Arc<Schedule>>,
    /// Requests that neither wake it nor count as activity.
    pub no_wake: Option<Arc<NoWake>>,
    /// Who may wake it; anybody, if not set.
    pub access: Option<Arc<Access>>,
    /// How often and how long it may be awake.
    pub limits: WakeLimits,
    /// Whether it is only said when it would be stopped.
    pub dry_run: bool,
    /// Who said what, key by key, for people.
    pub sources: Vec<Source>,
}

/// How far an app must have come before another is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// It has answered our probe.
    Ready,
    /// Its provider was asked to start it, and has agreed.
    Started,
}

/// Requests that neither wake an app nor count as activity: those that fit any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoWake {
    /// Paths; `*` at the end stands for anything.
    pub paths: Vec<String>,
    /// Parts of a `User-Agent`, in lower case.
    pub user_agents: Vec<String>,
    /// Methods, in upper case.
    pub methods: Vec<String>,
    /// Clients.
    pub cidrs: Vec<IpNet>,
}

/// Who may wake an app. Others are served while it is awake, and told that it sleeps while it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whoever sends a token of the admin side that may operate.
    pub token: bool,
    /// Whoever has a link that the admin side has signed.
    pub link: bool,
    /// Clients from these networks.
    pub networks: Vec<IpNet>,
}

/// How often and how long an app may be awake. Nothing is limited that is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WakeLimits {
    /// Wakes in any sixty minutes.
    pub wakes_per_hour: Option<u32>,
    /// Time awake from midnight to midnight (UTC).
    pub awake_per_day: Option<Duration>,
}

/// Who said what of one key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// The key, as `idle_timeout`.
    pub key: &'static str,
    /// The value in words, as `10m`.
    pub value: String,
    /// The rule and where it stands, as `rule 3, conf/loir.yaml:41`.
    pub origin: Arc<str>,
}

impl Ruling {
    /// Which rule has said `key`.
    pub fn origin_of(&self, key: &str) -> Option<Arc<str>> {
        self.sources.iter().find(|source| source.key == key).map(|source| source.origin.clone())
    }
}
