//! What happened to an app, in words for people. Every event is one log line with the target `event` and the fields
//! `app` and `event`, so that a program can read it as well.

use std::{fmt, sync::Arc, time::Duration};

use crate::app::{AppId, AppState};

/// The `target` of the log lines.
pub const TARGET: &str = "event";

/// One thing that happened to an app.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request came for an app that was not awake.
    AskedFor,
    /// The provider is asked to start it.
    Waking,
    /// The app answered our probe, so long after it was asked for.
    Ready(Duration),
    /// The start failed. The reason is for the operator; visitors see the reference only.
    WakeFailed {
        /// What the page quotes.
        reference: Arc<str>,
        /// Why.
        reason: String,
        /// The next start is tried at the earliest after so long.
        retry_after: Duration,
    },
    /// Nobody used it for its idle time.
    Idle(Duration),
    /// It was to be stopped and was not, for this reason.
    KeptAwake(String),
    /// The stop is confirmed.
    Asleep,
    /// It ended by itself, for this reason.
    Crashed(String),
    /// It does not run any more, and it was not us.
    StoppedByOthers,
    /// It was renamed: this was its name.
    Renamed(AppId),
    /// It is neither woken nor stopped from now on, for this reason.
    LeftAlone(Arc<str>),
    /// It was found running and is looked after from now on.
    Adopted,
    /// Another gateway has made this of it.
    Elsewhere(AppState),
    /// It was taken out of the configuration, or its provider does not list it any more.
    Removed,
}

impl Event {
    /// Writes the log line.
    pub fn tell(&self, app: &AppId) {
        let level = match self {
            Self::WakeFailed { .. } | Self::Crashed(_) => log::Level::Warn,
            // That gateway has said it.
            Self::Elsewhere(_) => log::Level::Debug,
            _ => log::Level::Info,
        };
        let (name, event) = (app.to_string(), self.name());
        log::log!(target: TARGET, level, app = name.as_str(), event = event; "{name}: {self}");
    }

    fn name(&self) -> &'static str {
        match self {
            Self::AskedFor => "asked-for",
            Self::Waking => "waking",
            Self::Ready(_) => "ready",
            Self::WakeFailed { .. } => "wake-failed",
            Self::Idle(_) => "idle",
            Self::KeptAwake(_) => "kept-awake",
            Self::Asleep => "asleep",
            Self::Crashed(_) => "crashed",
            Self::StoppedByOthers => "stopped-by-others",
            Self::Renamed(_) => "renamed",
            Self::LeftAlone(_) => "left-alone",
            Self::Adopted => "adopted",
            Self::Elsewhere(_) => "elsewhere",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedFor => f.write_str("asked for"),
            Self::Waking => f.write_str("waking"),
            Self::Ready(after) => write!(f, "ready after {:.1} s", after.as_secs_f64()),
            Self::WakeFailed { reference, reason, retry_after } => {
                write!(
                    f,
                    "did not wake: {reason} (reference {reference}; next try in {retry_after:?} at the earliest)"
                )
            }
            Self::Idle(idle) => write!(f, "idle for {idle:?}"),
            Self::KeptAwake(reason) => write!(f, "kept awake: {reason}"),
            Self::Asleep => f.write_str("asleep"),
            Self::Crashed(reason) => write!(f, "crashed: {reason}"),
            Self::StoppedByOthers => f.write_str("was stopped by somebody else"),
            Self::Renamed(from) => write!(f, "was {from} before"),
            Self::LeftAlone(reason) => write!(f, "left alone: {reason}"),
            Self::Adopted => f.write_str("found running"),
            Self::Elsewhere(state) => write!(f, "{state}, by another gateway"),
            Self::Removed => f.write_str("no longer there"),
        }
    }
}
