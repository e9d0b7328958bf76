//! The only way to read time.
//!
//! Idle time is counted in whole milliseconds on a monotonic clock, in 64 bits: no arithmetic on it can wrap
//! (584 million years). Tests move a [`Clock::manual`] by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A monotonic clock, and the wall clock for what people and files see. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System(Instant),
    Manual(Arc<Hands>),
}

/// Of a clock that is moved by hand.
#[derive(Debug)]
struct Hands {
    now: AtomicU64,
    /// The wall clock's time when `now` was zero.
    wall: AtomicU64,
}

/// Milliseconds on a [`Clock`]. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The time since `earlier`, zero if `earlier` is later (two threads may read the clock in either order).
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `duration` ago; the beginning of the clock at the earliest.
    pub fn before(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment and `duration` more, at most the end of time.
    pub fn after(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Clock {
    /// The machine's monotonic clock (`clock_gettime` in the vDSO on Linux: no system call).
    pub fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }

    /// A clock that moves only by [`Clock::advance`].
    pub fn manual() -> Self {
        Self::manual_at(Self::system().unix_millis())
    }

    /// The same, and its wall clock shows `unix_millis` at first.
    pub fn manual_at(unix_millis: u64) -> Self {
        Self(Kind::Manual(Arc::new(Hands { now: AtomicU64::new(0), wall: AtomicU64::new(unix_millis) })))
    }

    /// Now.
    pub fn now(&self) -> Millis {
        match &self.0 {
            Kind::System(start) => Millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)),
            Kind::Manual(hands) => Millis(hands.now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the system's clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(hands) = &self.0 {
            hands.now.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Wall-clock time in milliseconds since 1970: for files, for people, and for what people say by the clock on their
    /// wall (schedules, pins). Idle time never goes by it: it may be put back.
    pub fn unix_millis(&self) -> u64 {
        if let Kind::Manual(hands) = &self.0 {
            return hands.wall.load(Ordering::SeqCst).saturating_add(hands.now.load(Ordering::SeqCst));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_wrap() {
        let clock = Clock::manual();
        let start = clock.now();
        clock.advance(Duration::from_secs(24 * 3600));
        assert_eq!(clock.now().since(start), Duration::from_secs(86_400));
        assert_eq!(
            start.since(clock.now()),
            Duration::ZERO,
            "a later start is no time at all, not centuries"
        );
        assert_eq!(Millis(u64::MAX).after(Duration::from_secs(1)), Millis(u64::MAX));
    }
}
