//! `Ruled`: what this process notes of an app for its rules: since when it runs, how much today, what was said of it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{limit::Usage, schedule::Timetable};
use crate::clock::Millis;

/// The pause after a stop that was forced and gave way, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Nothing of it is read or written for a request to an awake app.
#[derive(Default)]
pub(super) struct Ruled {
    pub timetable: Timetable,
    usage: Mutex<Usage>,
    pace: Mutex<Pace>,
    /// When it came up, in milliseconds since 1970.
    came_up: AtomicU64,
    /// When it was put to sleep on purpose, in milliseconds since 1970; 0 if it was not.
    laid_down: AtomicU64,
    /// Until when it is pinned, in milliseconds since 1970; 0 if it is not.
    pinned: AtomicU64,
    /// Whoever began its latest wake does so against schedules and limits.
    pub insisted: AtomicBool,
    /// When the fleet took it for idle last, plus one.
    seen_idle: AtomicU64,
    /// For what it was said last that it would sleep.
    would: Mutex<Option<(u8, u64)>>,
    /// The provider's name for what it does about the wake or stop of now.
    operation: Mutex<Option<std::sync::Arc<str>>>,
}

/// When the next forced stop may be tried.
#[derive(Default)]
struct Pace {
    again: Millis,
    tries: u32,
}

impl Ruled {
    pub fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It came up at `wall`.
    pub fn comes_up(&self, wall: u64) {
        self.came_up.store(wall, SeqCst);
    }

    /// When it came up.
    pub fn came_up(&self) -> u64 {
        self.came_up.load(SeqCst)
    }

    /// The run of now: when it came up, and whether against its limits.
    pub fn run(&self) -> (u64, Option<u64>) {
        (self.came_up(), self.usage().overridden())
    }

    /// It is still that run.
    pub fn goes_on(&self, (came_up, overridden): (u64, Option<u64>)) {
        self.comes_up(came_up);
        self.usage().set_overridden(overridden);
    }

    /// Somebody meant it to sleep, at `wall`.
    pub fn lay_down(&self, wall: u64) {
        self.laid_down.store(wall.max(1), SeqCst);
    }

    /// Somebody wants it.
    pub fn gets_up(&self) {
        self.laid_down.store(0, SeqCst);
    }

    /// When somebody meant it to sleep, if nobody has wanted it since.
    pub fn laid_down(&self) -> Option<u64> {
        Some(self.laid_down.load(SeqCst)).filter(|at| *at > 0)
    }

    pub fn pin(&self, until: Option<u64>) {
        self.pinned.store(until.unwrap_or(0), SeqCst);
    }

    /// Until when it is pinned, if it is at `wall`.
    pub fn pinned(&self, wall: u64) -> Option<u64> {
        Some(self.pinned.load(SeqCst)).filter(|until| *until > wall)
    }

    /// The fleet takes it for idle.
    pub fn seems_idle(&self, now: Millis) {
        self.seen_idle.store(now.0 + 1, SeqCst);
    }

    /// Whether the fleet has taken it for idle within `lately`.
    pub fn seemed_idle(&self, now: Millis, lately: Duration) -> bool {
        let seen = self.seen_idle.load(SeqCst);
        seen > 0 && now.since(Millis(seen - 1)) <= lately
    }

    /// Whether a forced stop may be tried.
    pub fn may_try(&self, now: Millis) -> bool {
        self.pace().again <= now
    }

    /// A forced stop begins: the next is not tried before a while.
    pub fn try_now(&self, now: Millis) {
        let mut pace = self.pace();
        // What was long ago has nothing to do with it.
        if now.since(pace.again) > LONGEST_PAUSE {
            pace.tries = 0;
        }
        pace.again = now.after(FIRST_PAUSE.saturating_mul(1 << pace.tries.min(10)).min(LONGEST_PAUSE));
        pace.tries += 1;
    }

    /// It is to be said on this occasion that it would sleep, and was not yet.
    pub fn is_news(&self, occasion: (u8, u64)) -> bool {
        let mut would = self.would.lock().unwrap_or_else(PoisonError::into_inner);
        would.replace(occasion) != Some(occasion)
    }

    /// What the provider calls it, or that it does nothing yet.
    pub fn operates(&self, operation: Option<std::sync::Arc<str>>) {
        *self.operation.lock().unwrap_or_else(PoisonError::into_inner) = operation;
    }

    pub fn operation(&self) -> Option<std::sync::Arc<str>> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_gives_way_is_tried_again_later_and_later() {
        let ruled = Ruled::default();
        let mut now = Millis(5);
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert!(ruled.may_try(now));
            ruled.try_now(now);
            let end = now.after(Duration::from_secs(pause));
            assert!(!ruled.may_try(Millis(end.0 - 1)) && ruled.may_try(end), "{pause} s");
            now = end;
        }
        let next_day = now.after(Duration::from_secs(86_400));
        ruled.try_now(next_day);
        assert!(ruled.may_try(next_day.after(FIRST_PAUSE)));
    }
}
