//! What is remembered of an app, and every way it may change: pure functions, shared by all registries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::{AppState, Formation};

/// Boot times kept for the estimate on the holding page.
pub const BOOTS_KEPT: usize = 20;

/// An app that ran this long before it crashed has proved that it can run: it is woken again without a back-off.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// What a registry keeps of one app. Times are wall-clock milliseconds since 1970 of the registry's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What may happen to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A wake begins and must be over by `deadline`.
    BeginWake {
        /// When it counts as abandoned.
        deadline: u64,
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
    },
    /// A stop begins and must be over by `deadline`.
    BeginStop {
        /// When it counts as abandoned.
        deadline: u64,
    },
    /// The stop gave way to a request, or the provider refused.
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
    },
    /// The provider was asked at start-up, and it is always right.
    Found {
        /// Whether the app runs.
        running: bool,
    },
}

impl Change {
    /// What leads any record to where this change fits.
    pub fn lead_up(&self) -> Vec<Change> {
        // Abandoned at once, should it be left at that.
        let deadline = 0;
        match self {
            Self::Found { .. } => vec![],
            Self::BeginWake { .. } => vec![Self::Found { running: false }],
            Self::WakeReady { .. } | Self::WakeFailed { .. } => {
                vec![Self::Found { running: false }, Self::BeginWake { deadline }]
            }
            Self::BeginStop { .. } | Self::Crashed { .. } => vec![Self::Found { running: true }],
            Self::Save { .. } | Self::AbortStop | Self::Stopped => {
                vec![Self::Found { running: true }, Self::BeginStop { deadline }]
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
            formation: None,
            boots: Vec::new(),
            failures: 0,
            last_failure: None,
        }
    }

    /// What becomes of the record by `change` at `now`; an error leaves everything as it was.
    pub fn apply(&self, change: &Change, now: u64) -> Result<Record, Misfit> {
        use AppState::{Asleep, Awake, Failed, Stopping, Waking};
        let abandoned = self.deadline.is_some_and(|deadline| now >= deadline);
        let stable =
            now.saturating_sub(self.since) >= u64::try_from(STABLE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let mut next = self.clone();
        next.deadline = None;
        next.state = match (self.state, change) {
            (Asleep | Failed, Change::BeginWake { deadline }) => {
                next.deadline = Some(*deadline);
                Waking
            }
            (Waking | Stopping, Change::BeginWake { deadline }) if abandoned => {
                next.deadline = Some(*deadline);
                Waking
            }
            (Waking, Change::WakeReady { boot }) => {
                next.boots.push(u64::try_from(boot.as_millis()).unwrap_or(u64::MAX));
                let surplus = next.boots.len().saturating_sub(BOOTS_KEPT);
                next.boots.drain(..surplus);
                Awake
            }
            (Waking, Change::WakeFailed { reason }) => {
                next.failures = self.failures.saturating_add(1);
                next.last_failure = Some(reason.clone());
                Failed
            }
            (Awake, Change::BeginStop { deadline }) => {
                next.deadline = Some(*deadline);
                Stopping
            }
            (Stopping, Change::AbortStop) => Awake,
            (Stopping, Change::Save { formation }) => {
                if !formation.is_empty() {
                    next.formation = Some(formation.clone());
                }
                next.deadline = self.deadline;
                next.epoch = self.epoch + 1;
                // The stop goes on: since when, and until when, stays as it was.
                return Ok(next);
            }
            (Stopping, Change::Stopped) => {
                // It went to sleep in peace: whatever went wrong before is over.
                next.failures = 0;
                Asleep
            }
            (Awake, Change::Crashed { reason }) => {
                next.last_failure = Some(reason.clone());
                if stable {
                    next.failures = 0;
                    Asleep
                } else {
                    next.failures = self.failures.saturating_add(1);
                    Failed
                }
            }
            (_, Change::Found { running }) => {
                if *running {
                    Awake
                } else {
                    Asleep
                }
            }
            (state, _) => return Err(Misfit(state)),
        };
        next.epoch = self.epoch + 1;
        next.since = now;
        Ok(next)
    }

    /// How long to wait before the next start.
    pub fn back_off(&self) -> Duration {
        back_off(self.failures)
    }
}

/// How long to wait after so many failures in a row: 2 s, 4 s, 8 s ... 5 min.
pub fn back_off(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_BACK_OFF.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_BACK_OFF),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app::Processes;

    fn record(state: AppState) -> Record {
        Record { state, ..Record::new(0) }
    }

    #[test]
    fn every_change_fits_only_where_it_should() {
        use AppState::{Asleep, Awake, Failed, Stopping, Waking};
        let formation = Formation::single("web");
        let table: &[(Change, &[AppState], AppState)] = &[
            (Change::BeginWake { deadline: 9 }, &[Asleep, Failed], Waking),
            (Change::WakeReady { boot: Duration::from_secs(1) }, &[Waking], Awake),
            (Change::WakeFailed { reason: "no".into() }, &[Waking], Failed),
            (Change::BeginStop { deadline: 9 }, &[Awake], Stopping),
            (Change::AbortStop, &[Stopping], Awake),
            (Change::Save { formation }, &[Stopping], Stopping),
            (Change::Stopped, &[Stopping], Asleep),
            (Change::Crashed { reason: "bang".into() }, &[Awake], Failed),
        ];
        for (change, fits, becomes) in table {
            for state in [Asleep, Waking, Awake, Stopping, Failed] {
                let led =
                    change.lead_up().iter().fold(record(state), |app, step| app.apply(step, 1).unwrap());
                assert!(led.apply(change, 1).is_ok(), "{change:?} fits once {state} was led up to it");
                let result = record(state).apply(change, 1).map(|next| next.state);
                let expected = if fits.contains(&state) { Ok(*becomes) } else { Err(Misfit(state)) };
                assert_eq!(result, expected, "{change:?} on {state}");
            }
        }
    }

    #[test]
    fn an_abandoned_wake_can_be_taken_over_only_after_its_deadline() {
        let waking = Record { deadline: Some(100), ..record(AppState::Waking) };
        let again = Change::BeginWake { deadline: 500 };
        assert!(waking.apply(&again, 99).is_err());
        assert_eq!(waking.apply(&again, 100).unwrap().deadline, Some(500));
    }

    #[test]
    fn a_formation_of_nothing_never_overwrites_a_saved_one() {
        let saved = Formation::single("web");
        let stopping = Record { formation: Some(saved.clone()), ..record(AppState::Stopping) };
        let nothing = Formation([("web".into(), Processes::default())].into());
        let saved_again = stopping.apply(&Change::Save { formation: nothing }, 1).unwrap();
        assert_eq!(saved_again.formation, Some(saved));
    }

    #[test]
    fn what_must_come_back_is_kept_before_the_stop_and_whatever_becomes_of_it() {
        let ran = Formation([("web".into(), Processes { amount: 2, ..Processes::default() })].into());
        let begun = record(AppState::Awake).apply(&Change::BeginStop { deadline: 99 }, 1).unwrap();
        let saved = begun.apply(&Change::Save { formation: ran.clone() }, 2).unwrap();
        assert_eq!((saved.state, saved.deadline, saved.since), (AppState::Stopping, Some(99), 1));
        for end in [Change::Stopped, Change::AbortStop, Change::Found { running: false }] {
            assert_eq!(saved.apply(&end, 3).unwrap().formation, Some(ran.clone()), "{end:?}");
        }
    }

    #[test]
    fn a_crash_loop_backs_off_and_a_stable_run_is_forgiven() {
        let crash = Change::Crashed { reason: "exit 1".into() };
        let mut app = record(AppState::Awake);
        let mut waits = Vec::new();
        for _ in 0..10 {
            app = app.apply(&crash, app.since + 1_000).unwrap();
            waits.push(app.back_off().as_secs());
            app = app.apply(&Change::BeginWake { deadline: u64::MAX }, app.since).unwrap();
            app = app.apply(&Change::WakeReady { boot: Duration::from_secs(1) }, app.since).unwrap();
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let forgiven = app.apply(&crash, app.since + 60_000).unwrap();
        assert_eq!((forgiven.state, forgiven.back_off()), (AppState::Asleep, Duration::ZERO));
    }

    proptest! {
        #[test]
        fn epochs_only_grow_and_boots_stay_bounded(steps in prop::collection::vec(0_u8..9, 0..200)) {
            let mut app = Record::new(0);
            for (now, step) in steps.into_iter().enumerate() {
                let change = match step {
                    0 => Change::BeginWake { deadline: now as u64 + 3 },
                    1 => Change::WakeReady { boot: Duration::from_millis(now as u64) },
                    2 => Change::WakeFailed { reason: String::new() },
                    3 => Change::BeginStop { deadline: now as u64 + 3 },
                    4 => Change::AbortStop,
                    5 => Change::Stopped,
                    6 => Change::Save { formation: Formation::single("web") },
                    7 => Change::Crashed { reason: String::new() },
                    _ => Change::Found { running: now % 2 == 0 },
                };
                if let Ok(next) = app.apply(&change, now as u64) {
                    prop_assert_eq!(next.epoch, app.epoch + 1);
                    let transient = matches!(next.state, AppState::Waking | AppState::Stopping);
                    prop_assert_eq!(transient, next.deadline.is_some(), "only what must end has a deadline");
                    app = next;
                }
                prop_assert!(app.boots.len() <= BOOTS_KEPT);
            }
        }
    }
}
