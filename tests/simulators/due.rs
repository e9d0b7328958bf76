//! What will happen: events with their time, taken when they are due.

use std::time::Duration;

use tokio::time::Instant;

/// Events to come.
#[derive(Debug)]
pub struct Due<E>(Vec<(Instant, E)>);

impl<E> Default for Due<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E> Due<E> {
    /// It will happen after so long.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.0.push((Instant::now() + delay, event));
    }

    /// Takes the earliest that is due; of two at one time, the one that was added first.
    pub fn next(&mut self, now: Instant) -> Option<(Instant, E)> {
        let due = self.0.iter().enumerate().filter(|(_, (at, _))| *at <= now);
        let (index, _) = due.min_by_key(|(index, (at, _))| (*at, *index))?;
        Some(self.0.remove(index))
    }

    /// So much time passes at once: everything happens earlier by it.
    pub fn pass(&mut self, time: Duration) {
        for (at, _) in &mut self.0 {
            *at = earlier(*at, time);
        }
    }

    /// Nothing of that will happen.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Only these will happen.
    pub fn keep(&mut self, keep: impl Fn(&E) -> bool) {
        self.0.retain(|(_, event)| keep(event));
    }
}

/// The instant so long before.
pub fn earlier(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).unwrap_or_else(Instant::now)
}

/// How long an app takes for what it does, and how far the API's word is from the truth.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the accepted start to the first answer at the router.
    pub boot: Duration,
    /// From the accepted stop to the end of the last container; the router stops sending requests at once.
    pub stop: Duration,
    /// The API says running so many milliseconds after the app answers; before it, if negative.
    pub late_ms: i64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { boot: Duration::from_millis(150), stop: Duration::from_millis(100), late_ms: 0 }
    }
}

impl Timing {
    /// From the accepted start until the API says running.
    pub fn reported(&self) -> Duration {
        let shift = Duration::from_millis(self.late_ms.unsigned_abs());
        if self.late_ms < 0 { self.boot.saturating_sub(shift) } else { self.boot + shift }
    }
}
