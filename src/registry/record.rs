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
}

/// The fields of a [`Record`] as it is written, for those who read what people may have edited.
pub const FIELDS: [&str; 12] = [
    "state",
    "epoch",
    "since",
    "deadline",
    "owner",
    "told",
    "idle",
    "formation",
    "boots",
    "failures",
    "last_failure",
    "reference",
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
            Self::Found { .. } | Self::Restore { .. } => vec![],
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app::Processes;

    const ME: &str = "me";

    fn record(state: AppState) -> Record {
        Record { state, ..Record::new(0) }
    }

    fn begin_wake(by: &str, lease: u64) -> Change {
        Change::BeginWake { by: by.into(), lease: Duration::from_millis(lease) }
    }

    fn begin_stop(by: &str, lease: u64) -> Change {
        Change::BeginStop { by: by.into(), idle: Duration::ZERO, lease: Duration::from_millis(lease) }
    }

    fn found(running: bool, by: &str) -> Change {
        Change::Found { running, by: by.into() }
    }

    fn failed(reason: &str) -> Change {
        Change::WakeFailed { reason: reason.into(), reference: "1a2b".into() }
    }

    fn crashed(reason: &str) -> Change {
        Change::Crashed { reason: reason.into(), reference: "1a2b".into() }
    }

    #[test]
    fn every_field_is_named() {
        let some = Some(String::new());
        let full = Record {
            deadline: Some(1),
            owner: some.clone(),
            told: true,
            idle: Some(1),
            formation: Some(Formation::default()),
            last_failure: some.clone(),
            reference: some,
            ..Record::new(0)
        };
        let written = serde_json::to_value(&full).unwrap();
        let names: std::collections::BTreeSet<_> = written.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, FIELDS.map(str::to_owned).into());
    }

    #[test]
    fn every_change_fits_only_where_it_should() {
        use AppState::{Asleep, Awake, Failed, Stopping, Waking};
        let formation = Formation::single("web");
        let table: &[(Change, &[AppState], AppState)] = &[
            (begin_wake(ME, 9), &[Asleep, Failed], Waking),
            (Change::WakeReady { boot: Duration::from_secs(1) }, &[Waking], Awake),
            (failed("no"), &[Waking], Failed),
            (begin_stop(ME, 9), &[Awake], Stopping),
            (Change::AbortStop, &[Stopping], Awake),
            (Change::Veto, &[Stopping], Awake),
            (Change::Save { formation }, &[Stopping], Stopping),
            (Change::Stopped, &[Stopping], Asleep),
            (crashed("bang"), &[Awake], Failed),
        ];
        for (change, fits, becomes) in table {
            for state in [Asleep, Waking, Awake, Stopping, Failed] {
                let led =
                    change.lead_up(ME).iter().fold(record(state), |app, step| app.apply(step, 1).unwrap());
                assert!(led.apply(change, 1).is_ok(), "{change:?} fits once {state} was led up to it");
                let result = record(state).apply(change, 1).map(|next| next.state);
                let expected = if fits.contains(&state) { Ok(*becomes) } else { Err(Misfit(state)) };
                assert_eq!(result, expected, "{change:?} on {state}");
            }
        }
    }

    #[test]
    fn an_abandoned_wake_can_be_taken_over_only_after_its_deadline() {
        let waking = record(AppState::Asleep).apply(&begin_wake("other", 100), 0).unwrap();
        let again = begin_wake(ME, 400);
        assert!(waking.apply(&again, 99).is_err());
        let mine = waking.apply(&again, 100).unwrap();
        assert_eq!((mine.deadline, mine.owner.as_deref(), mine.taken_over), (Some(500), Some(ME), true));
        let awake = mine.apply(&Change::WakeReady { boot: Duration::ZERO }, 101).unwrap();
        assert!(!awake.taken_over && !waking.taken_over);
    }

    #[test]
    fn only_the_owner_renews_and_that_is_no_change_of_the_epoch() {
        let waking = record(AppState::Asleep).apply(&begin_wake(ME, 100), 0).unwrap();
        let renew = |by: &str| Change::Renew { by: by.into(), lease: Duration::from_millis(100) };
        assert!(waking.apply(&renew("other"), 50).is_err());
        let renewed = waking.apply(&renew(ME), 50).unwrap();
        assert_eq!((renewed.deadline, renewed.epoch, renewed.since), (Some(150), 1, 0));
    }

    #[test]
    fn what_a_provider_says_waits_while_somebody_else_has_the_app_in_hand() {
        let stopping = record(AppState::Awake).apply(&begin_stop("other", 100), 0).unwrap();
        assert!(stopping.apply(&found(true, ME), 99).is_err());
        assert_eq!(stopping.apply(&found(true, "other"), 99).unwrap().state, AppState::Awake);
        assert_eq!(stopping.apply(&found(false, ME), 100).unwrap().state, AppState::Asleep);
    }

    #[test]
    fn a_stop_can_be_vetoed_until_the_provider_may_know_of_it() {
        let stopping = record(AppState::Awake).apply(&begin_stop("other", 100), 0).unwrap();
        assert_eq!(stopping.apply(&Change::Veto, 1).unwrap().state, AppState::Awake);
        let told = stopping.apply(&Change::Save { formation: Formation::single("web") }, 1).unwrap();
        assert!(told.told && told.apply(&Change::Veto, 2).is_err());
        let asleep = told.apply(&Change::Stopped, 3).unwrap();
        assert!(!asleep.told && asleep.owner.is_none());
    }

    #[test]
    fn what_the_registry_lost_comes_back_and_epochs_do_not_go_back() {
        let known = Record { epoch: 7, formation: Some(Formation::single("web")), ..record(AppState::Awake) };
        let restore = Change::Restore { known: Box::new(known.clone()), running: false };
        let restored = Record::new(5).apply(&restore, 9).unwrap();
        assert_eq!((restored.epoch, restored.state, restored.since), (8, AppState::Asleep, 9));
        assert_eq!(restored.formation, known.formation);
        assert!(restored.apply(&restore, 9).is_err(), "once");
        for (told, becomes) in [(false, AppState::Awake), (true, AppState::Asleep)] {
            let known = Record { state: AppState::Stopping, told, ..known.clone() };
            let restore = Change::Restore { known: Box::new(known), running: false };
            assert_eq!(Record::new(5).apply(&restore, 9).unwrap().state, becomes);
        }
        let newer = Record { epoch: 8, ..Record::new(0) };
        assert!(newer.apply(&restore, 9).is_err(), "what is newer stays");
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
        let begun = record(AppState::Awake).apply(&begin_stop(ME, 98), 1).unwrap();
        let saved = begun.apply(&Change::Save { formation: ran.clone() }, 2).unwrap();
        assert_eq!((saved.state, saved.deadline, saved.since), (AppState::Stopping, Some(99), 1));
        for end in [Change::Stopped, Change::AbortStop, found(false, ME)] {
            assert_eq!(saved.apply(&end, 3).unwrap().formation, Some(ran.clone()), "{end:?}");
        }
    }

    #[test]
    fn a_crash_loop_backs_off_and_a_stable_run_is_forgiven() {
        let crash = crashed("exit 1");
        let mut app = record(AppState::Awake);
        let mut waits = Vec::new();
        for _ in 0..10 {
            app = app.apply(&crash, app.since + 1_000).unwrap();
            waits.push(app.back_off().as_secs());
            app = app.apply(&begin_wake(ME, u64::MAX), app.since).unwrap();
            app = app.apply(&Change::WakeReady { boot: Duration::from_secs(1) }, app.since).unwrap();
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let forgiven = app.apply(&crash, app.since + 60_000).unwrap();
        assert_eq!((forgiven.state, forgiven.back_off()), (AppState::Asleep, Duration::ZERO));
    }

    proptest! {
        #[test]
        fn epochs_only_grow_and_boots_stay_bounded(steps in prop::collection::vec(0_u8..12, 0..200)) {
            let mut app = Record::new(0);
            for (now, step) in steps.into_iter().enumerate() {
                let change = match step {
                    0 => begin_wake(ME, 3),
                    1 => Change::WakeReady { boot: Duration::from_millis(now as u64) },
                    2 => failed(""),
                    3 => begin_stop(ME, 3),
                    4 => Change::AbortStop,
                    5 => Change::Stopped,
                    6 => Change::Save { formation: Formation::single("web") },
                    7 => crashed(""),
                    8 => Change::Veto,
                    9 => Change::Restore { known: Box::new(Record { epoch: app.epoch + 1, ..app.clone() }), running: true },
                    10 => Change::Renew { by: ME.into(), lease: Duration::from_millis(3) },
                    _ => found(now % 2 == 0, if now % 3 == 0 { ME } else { "other" }),
                };
                if let Ok(next) = app.apply(&change, now as u64) {
                    match change {
                        Change::Renew { .. } => prop_assert_eq!(next.epoch, app.epoch),
                        _ => prop_assert!(next.epoch > app.epoch),
                    }
                    let transient = matches!(next.state, AppState::Waking | AppState::Stopping);
                    prop_assert_eq!(transient, next.deadline.is_some(), "only what must end has a deadline");
                    prop_assert_eq!(transient, next.owner.is_some(), "and somebody to end it");
                    app = next;
                }
                prop_assert!(app.boots.len() <= BOOTS_KEPT);
            }
        }
    }
}
