//! What is remembered of an app, and every way it may change: pure functions, shared by all registries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::{AppState, Formation};

#[cfg(test)]
mod tests;

/// Boot times kept for the estimate on the holding page.
pub const BOOTS_KEPT: usize = 20;

/// An app that ran this long before it crashed has proved that it can run: it is woken again without a back-off.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// What a registry keeps of one app. Times are wall-clock milliseconds since 1970 of the registry's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// What we believe.
    pub state: AppState,
    /// Grows by one with every change. A write that was decided on an older epoch is refused.
    pub epoch: u64,
    /// Since when the app is in `state`.
    pub since: u64,
    /// When a transient state (waking, stopping) counts as abandoned by whoever began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// The gateway that began the transient state, and is to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of a stop: the provider may have been told of it by now. Whoever wants the app waits for the end of the stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Of a wake: another gateway had the app in hand before, and was not heard of any more. The app may be starting already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_over: bool,
    /// Of a stop: for how many milliseconds nobody, at any gateway, may have used the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// What must come back at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formation: Option<Formation>,
    /// The latest boot times in milliseconds, oldest first, at most [`BOOTS_KEPT`].
    #[serde(default)]
    pub boots: Vec<u64>,
    /// Starts that failed and crashes, in a row.
    #[serde(default)]
    pub failures: u32,
    /// The latest failure, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What visitors were told to quote of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Until then nobody stops it but a person, at the provider. By the clock on the wall of whoever looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_until: Option<u64>,
}

/// The fields of a [`Record`] as it is written, for those who read what people may have edited.
pub const FIELDS: [&str; 14] = [
    "state",
    "epoch",
    "since",
    "deadline",
    "owner",
    "told",
    "taken_over",
    "idle",
    "formation",
    "boots",
    "failures",
    "last_failure",
    "reference",
    "pinned_until",
];

/// What may happen to an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A wake begins.
    BeginWake {
        /// The gateway that wakes it.
        by: String,
        /// It counts as abandoned after so long, unless it is renewed.
        lease: Duration,
    },
    /// Whoever began a wake or a stop is still at it. The epoch stays.
    Renew {
        /// The gateway that began it.
        by: String,
        /// It counts as abandoned after so long.
        lease: Duration,
    },
    /// Our own probe was answered.
    WakeReady {
        /// From the decision to wake to the answer.
        boot: Duration,
    },
    /// The start was refused, crashed or took too long.
    WakeFailed {
        /// For operators.
        reason: String,
        /// For visitors, to quote.
        reference: String,
    },
    /// A stop begins.
    BeginStop {
        /// The gateway that stops it.
        by: String,
        /// For how long nobody, at any gateway, may have used it.
        idle: Duration,
        /// It counts as abandoned after so long, unless it is renewed.
        lease: Duration,
    },
    /// Somebody else than the owner of a stop uses the app: as long as the provider cannot have been told, the stop is off.
    Veto,
    /// The owner gives the stop up: a request came, or the provider refused.
    AbortStop,
    /// The last look before the stop: what must come back. The stop itself may only follow once this is kept.
    Save {
        /// What is about to be stopped. One that runs nothing never replaces a saved one.
        formation: Formation,
    },
    /// The provider confirmed the stop.
    Stopped,
    /// The app ended by itself.
    Crashed {
        /// For operators.
        reason: String,
        /// For visitors, to quote.
        reference: String,
    },
    /// The provider was asked, and it is always right. Not while somebody else wakes or stops the app.
    Found {
        /// Whether the app runs.
        running: bool,
        /// The gateway that asked.
        by: String,
    },
    /// A person has said until when nobody may stop it, or that everybody may again. Not while somebody wakes or stops it.
    Pin {
        /// Wall-clock milliseconds since 1970; `None` to take the pin out.
        until: Option<u64>,
    },
    /// The registry has lost what a gateway still knows: what must come back, and how far epochs were.
    Restore {
        /// The latest record that the gateway has seen.
        known: Box<Record>,
        /// Whether the app runs, as far as the gateway knows.
        running: bool,
    },
}

impl Change {
    /// What leads any record to where this change fits, if `by` is the only one who changes it.
    pub fn lead_up(&self, by: &str) -> Vec<Change> {
        // Abandoned at once, should it be left at that.
        let lease = Duration::ZERO;
        let found = |running| Self::Found { running, by: by.to_owned() };
        match self {
            Self::Found { .. } | Self::Restore { .. } | Self::Pin { .. } => vec![],
            Self::BeginWake { .. } => vec![found(false)],
            Self::WakeReady { .. } | Self::WakeFailed { .. } => {
                vec![found(false), Self::BeginWake { by: by.to_owned(), lease }]
            }
            Self::BeginStop { .. } | Self::Crashed { .. } => vec![found(true)],
            Self::Save { .. } | Self::AbortStop | Self::Veto | Self::Stopped | Self::Renew { .. } => {
                vec![found(true), Self::BeginStop { by: by.to_owned(), idle: lease, lease }]
            }
        }
    }
}

/// The change does not fit the state the app is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app is {0}")]
pub struct Misfit(pub AppState);

impl Record {
    /// An app nobody has heard of.
    pub fn new(now: u64) -> Self {
        Self {
            state: AppState::Asleep,
            epoch: 0,
            since: now,
            deadline: None,
            owner: None,
            told: false,
            taken_over: false,
            idle: None,
            formation: None,
            boots: Vec::new(),
            failures: 0,
            last_failure: None,
            reference: None,
            pinned_until: None,
        }
    }

    /// Whether whoever began the transient state has not been heard of for its lease.
    pub fn is_abandoned(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Whether somebody else than `by` is waking or stopping the app.
    fn is_in_hand(&self, by: &str, now: u64) -> bool {
        self.deadline.is_some() && !self.is_abandoned(now) && self.owner.as_deref() != Some(by)
    }

    /// What becomes of the record by `change` at `now`; an error leaves everything as it was.
    pub fn apply(&self, change: &Change, now: u64) -> Result<Record, Misfit> {
        use AppState::{Asleep, Awake, Failed, Stopping, Waking};
        let abandoned = self.is_abandoned(now);
        let stable = now.saturating_sub(self.since) >= millis(STABLE_AFTER);
        let mut next = self.clone();
        next.settle();
        next.state = match (self.state, change) {
            (Asleep | Failed, Change::BeginWake { by, lease }) => {
                next.take(by, *lease, now);
                Waking
            }
            (Waking | Stopping, Change::BeginWake { by, lease }) if abandoned => {
                next.take(by, *lease, now);
                next.taken_over = true;
                Waking
            }
            (Waking | Stopping, Change::Renew { by, lease }) if self.owner.as_deref() == Some(by) => {
                // Nothing has changed but for how long nobody else may.
                return Ok(Self { deadline: Some(now.saturating_add(millis(*lease))), ..self.clone() });
            }
            (Waking, Change::WakeReady { boot }) => {
                next.boots.push(millis(*boot));
                let surplus = next.boots.len().saturating_sub(BOOTS_KEPT);
                next.boots.drain(..surplus);
                Awake
            }
            (Waking, Change::WakeFailed { reason, reference }) => {
                next.fail(reason, reference);
                Failed
            }
            (Awake, Change::BeginStop { by, idle, lease }) => {
                next.take(by, *lease, now);
                next.idle = Some(millis(*idle));
                Stopping
            }
            (Stopping, Change::Veto) if !self.told => Awake,
            (Stopping, Change::AbortStop) => Awake,
            (Stopping, Change::Save { formation }) => {
                if !formation.is_empty() {
                    next.formation = Some(formation.clone());
                }
                next.epoch = self.epoch.saturating_add(1);
                // The stop goes on: since when, and until when, stays as it was.
                (next.deadline, next.owner, next.idle) = (self.deadline, self.owner.clone(), self.idle);
                next.told = true;
                return Ok(next);
            }
            (Stopping, Change::Stopped) => {
                // It went to sleep in peace: whatever went wrong before is over.
                next.failures = 0;
                Asleep
            }
            (Awake, Change::Crashed { reason, reference }) => {
                next.fail(reason, reference);
                if stable {
                    next.failures = 0;
                    Asleep
                } else {
                    Failed
                }
            }
            (_, Change::Found { running, by }) if !self.is_in_hand(by, now) => settled(*running),
            (Asleep | Awake | Failed, Change::Pin { until }) => {
                // It is as it was, and since when.
                let epoch = self.epoch.saturating_add(1);
                return Ok(Self { pinned_until: *until, epoch, ..self.clone() });
            }
            (_, Change::Restore { known, running }) if self.epoch < known.epoch => {
                // Whose stop nobody was told of yet still runs, whatever newcomers were told.
                let untold = known.state == Stopping && !known.told;
                let state = settled(*running || untold);
                let mut restored = Self { state, since: now, ..Record::clone(known) };
                restored.settle();
                restored.epoch = known.epoch.saturating_add(1);
                return Ok(restored);
            }
            (state, _) => return Err(Misfit(state)),
        };
        next.epoch = self.epoch.saturating_add(1);
        next.since = now;
        Ok(next)
    }

    fn take(&mut self, by: &str, lease: Duration, now: u64) {
        self.owner = Some(by.to_owned());
        self.deadline = Some(now.saturating_add(millis(lease)));
    }

    /// Nobody wakes or stops it any more.
    fn settle(&mut self) {
        (self.deadline, self.owner, self.idle) = (None, None, None);
        (self.told, self.taken_over) = (false, false);
    }

    fn fail(&mut self, reason: &str, reference: &str) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(reason.to_owned());
        self.reference = Some(reference.to_owned());
    }

    /// How long to wait before the next start.
    pub fn back_off(&self) -> Duration {
        back_off(self.failures)
    }
}

fn settled(running: bool) -> AppState {
    if running { AppState::Awake } else { AppState::Asleep }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long to wait after so many failures in a row: 2 s, 4 s, 8 s ... 5 min.
pub fn back_off(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_BACK_OFF.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_BACK_OFF),
    }
}
