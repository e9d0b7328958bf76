//! `Hook`: when, for whom, and what is done.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    app::AppId,
    config::secret::Secret,
    lifecycle::Event,
    routing::{
        Rules,
        rules::{Match, Names},
    },
};

/// When a hook is due.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// An app is about to be started. A command may object: then the wake has failed, with its reason.
    BeforeStart,
    /// An app has answered our probe.
    AfterStart,
    /// An app is about to be stopped. A command may object: then it is kept awake.
    BeforeStop,
    /// The provider has confirmed that an app is stopped.
    AfterStop,
    /// A start has failed.
    WakeFailed,
    /// Apps were stopped by the gateway itself, or would have been but for `dry_run`: one message for those of one sweep.
    Sweep,
}

impl Phase {
    /// All of them, in the order in which an app meets them.
    pub const ALL: [Self; 6] = [
        Self::BeforeStart,
        Self::AfterStart,
        Self::BeforeStop,
        Self::AfterStop,
        Self::WakeFailed,
        Self::Sweep,
    ];

    /// As in the configuration: `after_stop`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::AfterStart => "after_start",
            Self::BeforeStop => "before_stop",
            Self::AfterStop => "after_stop",
            Self::WakeFailed => "wake_failed",
            Self::Sweep => "sweep",
        }
    }

    /// Whether a hook is asked, and not only told.
    pub fn asks(self) -> bool {
        matches!(self, Self::BeforeStart | Self::BeforeStop)
    }

    /// The phase that begins with an event of this gateway's own doing. [`Phase::Sweep`] is told of many at once.
    pub(super) fn after(event: &Event) -> Option<Self> {
        match event {
            Event::Ready(_) => Some(Self::AfterStart),
            Event::Asleep(_) => Some(Self::AfterStop),
            Event::WakeFailed { .. } => Some(Self::WakeFailed),
            _ => None,
        }
    }
}

/// The form of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// An incoming webhook of Slack, or of what understands the same (Mattermost, Rocket.Chat).
    Slack,
    /// A webhook of Discord.
    Discord,
    /// A ping URL of Healthchecks: success, `/fail` for a failed wake, `/start` for `before_start`.
    Healthchecks,
}

/// What is done.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// A program is run.
    Command {
        /// The program and its arguments, never empty.
        command: Vec<String>,
        /// Beside the few variables that are inherited, and those that tell of the event.
        env: BTreeMap<String, String>,
    },
    /// Something is sent by HTTP.
    Webhook {
        /// Where to. It may be a secret itself.
        url: Secret,
        /// The form; the event as JSON, if not set.
        preset: Option<Preset>,
        /// What signs it, if it is signed.
        secret: Option<Secret>,
        /// Tries after the first one.
        retries: u32,
        /// Before the second try; each further pause is twice as long.
        backoff: Duration,
    },
}

/// For which apps a hook is.
#[derive(Clone, PartialEq)]
pub enum Whom {
    /// All.
    All,
    /// Those whose rules name it.
    Rules,
    /// Those that one of these fits, and those whose rules name it.
    Fitting(Vec<Fit>),
}

/// A pattern, and how it was written.
#[derive(Clone)]
pub struct Fit {
    /// How it was written.
    pub text: String,
    /// What became of it.
    pub pattern: Match,
}

impl PartialEq for Fit {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// When, for whom, and what is done.
#[derive(Clone, PartialEq)]
pub struct Hook {
    /// Unique.
    pub name: Arc<str>,
    /// When.
    pub on: Vec<Phase>,
    /// For which apps.
    pub whom: Whom,
    /// How long it may take: a command as a whole, a webhook each try.
    pub timeout: Duration,
    /// What.
    pub action: Action,
}

impl Hook {
    /// Whether it is due.
    pub fn is_due(&self, phase: Phase, app: &AppId, rules: &Rules) -> bool {
        let by_rule = || rules.of(app).hooks.contains(&self.name);
        self.on.contains(&phase)
            && match &self.whom {
                Whom::All => true,
                Whom::Rules => by_rule(),
                Whom::Fitting(patterns) => {
                    let names = Names::from(app);
                    patterns.iter().any(|it| it.pattern.captures(&names).is_some()) || by_rule()
                }
            }
    }
}

/// What it does is left out: its command line and its address may hold secrets.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.name)
            .field("on", &self.on)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
