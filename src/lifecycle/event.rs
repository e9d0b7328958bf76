//! What happened to an app, in words for people, why, and in which run. Whoever wants to know of it is a [`Witness`]: the log
//! is one; history, hooks and metrics are others.

use std::{fmt, sync::Arc, time::Duration};

use super::{Cause, Lifecycle, ManagedApp, Run};
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
    /// It would be stopped now, for this reason, if `dry_run` did not say that nothing is.
    WouldSleep(Cause),
    /// The stop is confirmed, so long after it was decided.
    Asleep(Duration),
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
    /// Nobody but a person at its provider stops it until then: wall-clock milliseconds since 1970.
    Pinned {
        /// When that ends.
        until: u64,
        /// Who said so.
        by: Cause,
    },
    /// It may be stopped again, as this one said.
    Unpinned(Cause),
    /// It was taken out of the configuration, or its provider does not list it any more.
    Removed,
}

/// An [`Event`] with its circumstances.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Wall-clock milliseconds since 1970.
    pub at: u64,
    /// To whom.
    pub app: AppId,
    /// What.
    pub event: Event,
    /// The wake or the stop that it belongs to, if it does.
    pub run: Option<Run>,
    /// The gateway that saw it.
    pub gateway: Arc<str>,
    /// What the provider calls what it did about it, where it has a name for that.
    pub operation: Option<Arc<str>>,
}

impl Happening {
    /// Why it happened.
    pub fn cause(&self) -> Cause {
        self.run.as_ref().map_or_else(|| self.event.cause(), |run| run.cause.clone())
    }
}

/// Hears of every event, in the order in which they happen to each app.
pub trait Witness: Send + Sync {
    /// It has happened. Called where wakes, stops and requests are handled: whoever has more to do than to count hands it to a
    /// task of its own.
    fn see(&self, happening: &Happening);
}

/// One log line for each event, with the target `event` and the fields `app`, `event`, `run` and `cause`, so that a program can
/// read it as well.
pub struct Log;

impl Witness for Log {
    fn see(&self, happening: &Happening) {
        let Happening { app, event, .. } = happening;
        let level = match event {
            Event::WakeFailed { .. } | Event::Crashed(_) => log::Level::Warn,
            // That gateway has said it.
            Event::Elsewhere(_) => log::Level::Debug,
            _ => log::Level::Info,
        };
        let (name, kind, cause) = (app.to_string(), event.name(), happening.cause().to_string());
        let run = happening.run.as_ref().map_or("", |run| &*run.id);
        let because = match event {
            Event::AskedFor => format!(", because: {cause}"),
            _ => String::new(),
        };
        log::log!(
            target: TARGET, level, app = name.as_str(), event = kind, run = run, cause = cause.as_str();
            "{name}: {event}{because}"
        );
    }
}

impl Lifecycle {
    /// Something has happened to an app.
    pub(super) fn happened(&self, app: &ManagedApp, event: Event) {
        let run = app.run().filter(|_| event.is_of_a_run());
        let operation = app.ruled.operation().filter(|_| event.is_of_a_run());
        self.tell_all(Happening {
            at: self.clock.unix_millis(),
            app: app.id.clone(),
            event,
            run,
            gateway: self.name.clone(),
            operation,
        });
    }

    /// The same, of an app that is not (or no more) among ours.
    pub(super) fn happened_to(&self, app: &AppId, event: Event) {
        self.tell_all(Happening {
            at: self.clock.unix_millis(),
            app: app.clone(),
            event,
            run: None,
            gateway: self.name.clone(),
            operation: None,
        });
    }

    fn tell_all(&self, happening: Happening) {
        for witness in self.witnesses.iter() {
            witness.see(&happening);
        }
    }
}

impl Event {
    /// Whether it is part of a wake or a stop.
    fn is_of_a_run(&self) -> bool {
        match self {
            Self::AskedFor | Self::Waking | Self::Ready(_) | Self::WakeFailed { .. } => true,
            Self::Idle(_) | Self::KeptAwake(_) | Self::Asleep(_) => true,
            Self::WouldSleep(_) => false,
            Self::Crashed(_) | Self::StoppedByOthers | Self::Renamed(_) | Self::LeftAlone(_) => false,
            Self::Adopted | Self::Elsewhere(_) | Self::Removed => false,
            Self::Pinned { .. } | Self::Unpinned(_) => false,
        }
    }

    /// Why it happens, if it is part of no run.
    fn cause(&self) -> Cause {
        match self {
            Self::Elsewhere(_) => Cause::Fleet,
            Self::WouldSleep(cause) | Self::Unpinned(cause) | Self::Pinned { by: cause, .. } => cause.clone(),
            Self::Crashed(_) | Self::StoppedByOthers | Self::Renamed(_) | Self::Adopted => Cause::Provider,
            _ => Cause::Gateway,
        }
    }

    /// The event in one word, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AskedFor => "asked-for",
            Self::Waking => "waking",
            Self::Ready(_) => "ready",
            Self::WakeFailed { .. } => "wake-failed",
            Self::Idle(_) => "idle",
            Self::KeptAwake(_) => "kept-awake",
            Self::WouldSleep(_) => "would-sleep",
            Self::Asleep(_) => "asleep",
            Self::Crashed(_) => "crashed",
            Self::StoppedByOthers => "stopped-by-others",
            Self::Renamed(_) => "renamed",
            Self::LeftAlone(_) => "left-alone",
            Self::Adopted => "adopted",
            Self::Elsewhere(_) => "elsewhere",
            Self::Pinned { .. } => "pinned",
            Self::Unpinned(_) => "unpinned",
            Self::Removed => "removed",
        }
    }
}

/// A moment as people read it; one that no calendar has stays a number.
pub(super) fn moment(wall: u64) -> String {
    let time = i64::try_from(wall).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| wall.to_string(), |time| time.to_string())
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
            Self::WouldSleep(reason) => write!(f, "would be stopped now, but for dry_run: {reason}"),
            Self::Asleep(_) => f.write_str("asleep"),
            Self::Crashed(reason) => write!(f, "crashed: {reason}"),
            Self::StoppedByOthers => f.write_str("was stopped by somebody else"),
            Self::Renamed(from) => write!(f, "was {from} before"),
            Self::LeftAlone(reason) => write!(f, "left alone: {reason}"),
            Self::Adopted => f.write_str("found running"),
            Self::Elsewhere(state) => write!(f, "{state}, by another gateway"),
            Self::Pinned { until, .. } => write!(f, "pinned until {}", moment(*until)),
            Self::Unpinned(_) => f.write_str("not pinned any more"),
            Self::Removed => f.write_str("no longer there"),
        }
    }
}
