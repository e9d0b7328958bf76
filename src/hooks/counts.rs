//! `Counts`: what hooks have come to, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Phase;

/// What one run of a hook, or one delivery, has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has done its work.
    Ok,
    /// It has not: it was refused, ended with another status than 0, or could not be run.
    Failed,
    /// It took too long.
    TimedOut,
    /// Nobody waited for its answer any more: somebody wanted the app, or the gateway ended.
    GivenUp,
    /// Too many waited already, and it was not tried.
    Dropped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Failed, Self::TimedOut, Self::GivenUp, Self::Dropped];

    /// In one word, as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}

/// How often which phase has come to what, since the gateway began.
#[derive(Default)]
pub struct Counts([[AtomicU64; Outcome::ALL.len()]; Phase::ALL.len()]);

impl Counts {
    /// One more.
    pub(super) fn add(&self, phase: Phase, outcome: Outcome) {
        self.0[phase as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often this phase has come to this.
    pub fn of(&self, phase: Phase, outcome: Outcome) -> u64 {
        self.0[phase as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// Every pair, those that are 0 as well.
    pub fn all(&self) -> impl Iterator<Item = (Phase, Outcome, u64)> {
        let pairs = Phase::ALL.iter().flat_map(|&phase| Outcome::ALL.map(|outcome| (phase, outcome)));
        pairs.map(|(phase, outcome)| (phase, outcome, self.of(phase, outcome)))
    }
}
