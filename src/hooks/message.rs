//! `Message`: what a hook is told.

use std::sync::Arc;

use serde::Serialize;

use super::Phase;
use crate::{
    app::AppId,
    history::{Entry, EventId},
    lifecycle::{Cause, ManagedApp, Run},
};

/// So many apps are named in the message of one sweep. The others are counted.
pub(super) const MOST_APPS: usize = 200;

/// What a hook is told: an entry as the history keeps it, the phase, and a name of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// When the hook was due.
    pub phase: Phase,
    /// Unique. The same in each try to deliver it, so that a receiver can tell a repetition.
    pub id: Arc<str>,
    /// What has happened; for a sweep, the last of what has.
    #[serde(flatten)]
    pub entry: Entry,
    /// All that one sweep has done. Empty in every other phase.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<Entry>,
}

impl Message {
    /// One about one event.
    pub fn new(phase: Phase, entry: Entry) -> Self {
        Self { phase, id: format!("{:016x}", fastrand::u64(..)).into(), entry, apps: Vec::new() }
    }

    /// What is about to be done.
    pub(super) fn before(phase: Phase, app: &ManagedApp, run: &Run, at: u64, gateway: &Arc<str>) -> Self {
        let (event, text) = match phase {
            Phase::BeforeStop => ("before-stop", "is about to be stopped"),
            _ => ("before-start", "is about to be started"),
        };
        Self::new(
            phase,
            Entry {
                id: EventId::default(),
                at,
                app: app.id.clone(),
                event: event.into(),
                text: text.into(),
                cause: run.cause.clone(),
                run: Some(run.id.clone()),
                took: None,
                gateway: gateway.clone(),
                operation: None,
            },
        )
    }

    /// What one sweep has done; `more` apps are counted only. `None` if it did nothing.
    pub(super) fn of_sweep(apps: Vec<Entry>, more: usize) -> Option<Self> {
        let last = apps.last()?;
        let count = |event: &str| apps.iter().filter(|entry| entry.event == event).count();
        let names = |event: &str| {
            let names: Vec<_> =
                apps.iter().filter(|entry| entry.event == event).map(|entry| &*entry.app.name).collect();
            names.join(", ")
        };
        let mut parts = Vec::new();
        if count(ASLEEP) > 0 {
            parts.push(format!("{} asleep: {}", count(ASLEEP), names(ASLEEP)));
        }
        if count(WOULD_SLEEP) > 0 {
            parts.push(format!(
                "{} would be asleep, but for dry_run: {}",
                count(WOULD_SLEEP),
                names(WOULD_SLEEP)
            ));
        }
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        let entry = Entry { event: "sweep".into(), text: parts.join("; "), took: None, ..last.clone() };
        Some(Self { apps, ..Self::new(Phase::Sweep, entry) })
    }

    /// An example of the phase, to try a hook with.
    pub fn example(phase: Phase, app: AppId, at: u64) -> Self {
        let (event, text, took) = match phase {
            Phase::BeforeStart => ("before-start", "is about to be started", None),
            Phase::AfterStart => ("ready", "ready after 2.0 s", Some(2_000)),
            Phase::BeforeStop => ("before-stop", "is about to be stopped", None),
            Phase::AfterStop => (ASLEEP, "asleep", Some(1_000)),
            Phase::WakeFailed => {
                ("wake-failed", "did not wake: this is only a test (reference 00000000)", None)
            }
            Phase::Sweep => (ASLEEP, "asleep", Some(1_000)),
        };
        let cause = match phase {
            Phase::BeforeStart | Phase::AfterStart | Phase::WakeFailed => {
                Cause::Request { id: "example".into(), client: None, agent: "".into() }
            }
            _ => Cause::Idle { rule: None },
        };
        let run = Some(format!("{:016x}", fastrand::u64(..)).into());
        let entry = Entry {
            id: EventId::default(),
            at,
            app,
            event: event.into(),
            text: text.into(),
            cause,
            run,
            took,
            gateway: "test".into(),
            operation: None,
        };
        match phase {
            Phase::Sweep => Self::of_sweep(vec![entry.clone()], 0).unwrap_or(Self::new(phase, entry)),
            _ => Self::new(phase, entry),
        }
    }

    /// As JSON, in one line.
    pub fn json(&self) -> String {
        // Only maps with keys that are no texts cannot be written, and there is none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same without who the client was: that is nobody's business outside.
    pub fn for_others(&self) -> Self {
        let mut message = self.clone();
        for entry in std::iter::once(&mut message.entry).chain(&mut message.apps) {
            if let Cause::Request { client, agent, .. } = &mut entry.cause {
                (*client, *agent) = (None, "".into());
            }
        }
        message
    }

    /// In a line for people, without who the client was.
    pub fn line(&self) -> String {
        match self.phase {
            Phase::Sweep => self.entry.text.clone(),
            _ => {
                let cause = match &self.for_others().entry.cause {
                    Cause::Request { .. } => "a request".to_owned(),
                    cause => cause.to_string(),
                };
                format!("{}: {} (because: {cause})", self.entry.app, self.entry.text)
            }
        }
    }

    /// As variables of a command.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let Entry { at, app, event, text, cause, run, took, gateway, .. } = &self.entry;
        let mut variables = vec![
            ("LOIR_PHASE", self.phase.name().to_owned()),
            ("LOIR_MESSAGE_ID", self.id.to_string()),
            ("LOIR_APP", app.to_string()),
            ("LOIR_APP_NAME", app.name.to_string()),
            ("LOIR_PROVIDER", app.provider.to_string()),
            ("LOIR_EVENT", event.clone()),
            ("LOIR_TEXT", text.clone()),
            ("LOIR_AT", at.to_string()),
            ("LOIR_CAUSE", cause.kind().to_owned()),
            ("LOIR_CAUSE_TEXT", cause.to_string()),
            ("LOIR_GATEWAY", gateway.to_string()),
        ];
        variables.extend(run.as_ref().map(|run| ("LOIR_RUN", run.to_string())));
        let operation = self.entry.operation.as_ref();
        variables.extend(operation.map(|operation| ("LOIR_OPERATION", operation.to_string())));
        variables.extend(took.map(|took| ("LOIR_TOOK_MS", took.to_string())));
        if !self.apps.is_empty() {
            let apps: Vec<_> = self.apps.iter().map(|entry| entry.app.to_string()).collect();
            variables.push(("LOIR_APPS", apps.join(" ")));
        }
        // A variable ends at the first NUL.
        variables.into_iter().map(|(name, value)| (name, value.replace('\0', "\u{fffd}"))).collect()
    }
}

/// The events that a sweep is about.
pub(super) const ASLEEP: &str = "asleep";
pub(super) const WOULD_SLEEP: &str = "would-sleep";
