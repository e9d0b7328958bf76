//! What is counted of events: wakes, stops, and how long each app was awake and asleep.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    app::{AppId, AppState},
    lifecycle::{Event, Happening, Witness},
};

/// Upper bounds of the histogram of wakes, in milliseconds: from a process on this machine to a platform that builds first.
pub const BOUNDS: [u64; 11] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000];

/// What has happened since the gateway began, by app.
#[derive(Default)]
pub struct Counters(Mutex<HashMap<AppId, Tally>>);

/// What has happened to an app, or to several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Wakes that ended with an answer to our probe.
    pub woken: u64,
    /// Wakes that failed.
    pub failed: u64,
    /// Of those that did not fail, how long they took: as many as took at most as long as each of [`BOUNDS`] and no less than the
    /// one before; the last took longer.
    pub wakes: [u64; BOUNDS.len() + 1],
    /// All of them together, in milliseconds.
    pub wake_millis: u64,
    /// Stops that were confirmed.
    pub slept: u64,
    /// Stops that were given up or refused.
    pub kept: u64,
    /// Stops that `dry_run` has withheld.
    pub withheld: u64,
    /// How often it was found idle.
    pub idle: u64,
    /// How often it ended by itself.
    pub crashed: u64,
    /// Milliseconds awake.
    pub awake: u64,
    /// Milliseconds asleep, from the stop that its provider confirmed.
    pub asleep: u64,
    /// What it is, and until when that is counted: wall-clock milliseconds since 1970.
    now: Option<(AppState, u64)>,
}

impl Tally {
    /// Counts what it was until `at`; it is `state` from then on.
    fn turn(&mut self, state: AppState, at: u64) {
        if let Some((before, since)) = self.now {
            let long = at.saturating_sub(since);
            match before {
                AppState::Awake => self.awake += long,
                AppState::Asleep => self.asleep += long,
                AppState::Waking | AppState::Stopping | AppState::Failed => {}
            }
        }
        // Nothing is counted twice if the clock on the wall goes back.
        let at = self.now.map_or(at, |(_, since)| since.max(at));
        self.now = Some((state, at));
    }

    fn woken(&mut self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len());
        self.woken += 1;
        self.wakes[bucket] += 1;
        self.wake_millis = self.wake_millis.saturating_add(millis);
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.woken, other.woken),
            (&mut self.failed, other.failed),
            (&mut self.wake_millis, other.wake_millis),
            (&mut self.slept, other.slept),
            (&mut self.kept, other.kept),
            (&mut self.withheld, other.withheld),
            (&mut self.idle, other.idle),
            (&mut self.crashed, other.crashed),
            (&mut self.awake, other.awake),
            (&mut self.asleep, other.asleep),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.wakes.iter_mut().zip(other.wakes) {
            *sum += more;
        }
    }
}

impl Counters {
    /// Of these apps, which are in these states now. The others are forgotten.
    pub fn of<'a>(
        &self,
        apps: impl Iterator<Item = (&'a AppId, AppState)>,
        now: u64,
    ) -> Vec<(&'a AppId, Tally)> {
        let mut known = self.known();
        let mut of = Vec::new();
        let mut kept = HashMap::new();
        for (app, state) in apps {
            let mut tally = known.remove(app).unwrap_or_default();
            tally.turn(state, now);
            kept.insert(app.clone(), tally.clone());
            of.push((app, tally));
        }
        *known = kept;
        of
    }

    fn known(&self) -> MutexGuard<'_, HashMap<AppId, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Counters {
    fn see(&self, happening: &Happening) {
        let mut known = self.known();
        let tally = known.entry(happening.app.clone()).or_default();
        let state = match &happening.event {
            Event::Waking | Event::AskedFor => AppState::Waking,
            Event::Ready(took) => {
                tally.woken(*took);
                AppState::Awake
            }
            Event::WakeFailed { .. } => {
                tally.failed += 1;
                AppState::Failed
            }
            Event::Idle(_) => {
                tally.idle += 1;
                return;
            }
            Event::KeptAwake(_) => {
                tally.kept += 1;
                AppState::Awake
            }
            Event::WouldSleep(_) => {
                tally.withheld += 1;
                return;
            }
            Event::Asleep(_) => {
                tally.slept += 1;
                AppState::Asleep
            }
            Event::Crashed(_) => {
                tally.crashed += 1;
                AppState::Asleep
            }
            Event::StoppedByOthers => AppState::Asleep,
            Event::Adopted => AppState::Awake,
            Event::Elsewhere(state) => *state,
            Event::Removed => {
                known.remove(&happening.app);
                return;
            }
            _ => return,
        };
        tally.turn(state, happening.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(at: u64, event: Event) -> Happening {
        Happening {
            at,
            app: AppId::new("local", "shop"),
            event,
            run: None,
            gateway: "here".into(),
            operation: None,
        }
    }

    #[test]
    fn wakes_stops_and_the_time_between_are_counted() {
        let counters = Counters::default();
        for (at, event) in [
            (1_000, Event::AskedFor),
            (1_000, Event::Waking),
            (4_000, Event::Ready(Duration::from_secs(3))),
            (14_000, Event::Idle(Duration::from_secs(5))),
            (15_000, Event::Asleep(Duration::from_secs(1))),
            (21_000, Event::AskedFor),
            (
                22_000,
                Event::WakeFailed {
                    reference: "x".into(),
                    reason: String::new(),
                    retry_after: Duration::ZERO,
                },
            ),
        ] {
            counters.see(&happening(at, event));
        }
        let app = AppId::new("local", "shop");
        let of = |now| counters.of([(&app, AppState::Failed)].into_iter(), now).remove(0).1;
        let tally = of(60_000);
        assert_eq!((tally.woken, tally.failed, tally.slept, tally.idle), (1, 1, 1, 1));
        assert_eq!((tally.wakes[5], tally.wake_millis), (1, 3_000));
        assert_eq!((tally.awake, tally.asleep), (11_000, 6_000));
        assert_eq!(of(61_000), Tally { now: Some((AppState::Failed, 61_000)), ..tally });
    }

    #[test]
    fn an_app_that_is_gone_is_forgotten() {
        let counters = Counters::default();
        counters.see(&happening(0, Event::Waking));
        assert!(counters.of(std::iter::empty(), 0).is_empty());
        assert!(counters.known().is_empty());
    }
}
