//! What requests an app has had: counters for metrics and history, and who asked lately.
//!
//! On the path of every request: a few relaxed atomic additions on words of the app's own, and never a lock but once a
//! second for each app, when somebody is noted down as having asked.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::clock::Millis;

/// Upper bounds of the histogram of durations, in milliseconds: Prometheus's usual ones up to 10 s, and two more for requests
/// that waited for a wake.
pub const BOUNDS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 30_000, 60_000];

/// At most one visitor is noted down in this time.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// So many who asked are remembered.
const NOTED: usize = 60;

/// The requests of one app since the gateway began.
#[derive(Debug, Default)]
pub struct Traffic {
    /// By the first digit of the status that was sent; 0 for those whose client was gone before.
    classes: [AtomicU64; 6],
    durations: [AtomicU64; BOUNDS.len() + 1],
    total_millis: AtomicU64,
    /// When somebody was noted down last, plus one; 0 if nobody was.
    noted: AtomicU64,
    askers: Mutex<VecDeque<Asker>>,
}

/// Somebody who asked, of all who did in the same second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// When.
    pub at: Millis,
    /// From where.
    pub client: Option<IpAddr>,
    /// With what: its `User-Agent`, cut.
    pub agent: Arc<str>,
}

/// [`Traffic`] as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By the first digit of the status; 0 for none.
    pub classes: [u64; 6],
    /// How many took at most as long as each of [`BOUNDS`], and no less than the one before; the last took longer.
    pub durations: [u64; BOUNDS.len() + 1],
    /// All durations together, in milliseconds.
    pub total_millis: u64,
}

impl Counts {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }
}

impl Traffic {
    /// A request has ended with `status`, 0 if nothing was sent, after `took`.
    pub fn count(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(self.classes.len() - 1);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len());
        self.classes[class].fetch_add(1, Relaxed);
        self.durations[bucket].fetch_add(1, Relaxed);
        self.total_millis.fetch_add(millis, Relaxed);
    }

    /// All counters.
    pub fn counts(&self) -> Counts {
        Counts {
            classes: std::array::from_fn(|class| self.classes[class].load(Relaxed)),
            durations: std::array::from_fn(|bucket| self.durations[bucket].load(Relaxed)),
            total_millis: self.total_millis.load(Relaxed),
        }
    }

    /// Somebody asks; `who` is only called for the first in each second.
    pub fn asked(&self, now: Millis, who: impl FnOnce() -> (Option<IpAddr>, Arc<str>)) {
        let noted = self.noted.load(Relaxed);
        let long_ago = noted == 0 || now.since(Millis(noted - 1)) >= NOTED_EVERY;
        if !long_ago || self.noted.compare_exchange(noted, now.0 + 1, Relaxed, Relaxed).is_err() {
            return;
        }
        let (client, agent) = who();
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if askers.len() == NOTED {
            askers.pop_front();
        }
        askers.push_back(Asker { at: now, client, agent });
    }

    /// Who asked lately, the first one first.
    pub fn askers(&self) -> Vec<Asker> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_class_and_duration() {
        let traffic = Traffic::default();
        for (status, millis) in [(200, 3), (204, 5), (503, 11_000), (0, 90_000), (999, 6)] {
            traffic.count(status, Duration::from_millis(millis));
        }
        let counts = traffic.counts();
        assert_eq!(counts.classes, [1, 0, 2, 0, 0, 2]);
        assert_eq!(counts.durations, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!((counts.requests(), counts.total_millis), (5, 101_014));
    }

    #[test]
    fn one_asker_a_second_is_noted_down_and_the_oldest_are_forgotten() {
        let traffic = Traffic::default();
        for tenth in 0..1000 {
            traffic.asked(Millis(tenth * 100), || (None, format!("{tenth}").into()));
        }
        let askers = traffic.askers();
        assert_eq!(askers.len(), NOTED);
        assert_eq!((&*askers[0].agent, &*askers[NOTED - 1].agent), ("400", "990"));
    }
}
