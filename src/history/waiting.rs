//! `Waiting`: what is not written yet, up to a bound, and what was lost beyond it. Also who is asleep since when, since a sleep
//! is written by the hour.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Batch, Entry, Tally, entry::Ids, sampler::Reading, tally::by_the_hour};
use crate::{
    app::{AppId, AppState},
    lifecycle::{Event, Happening},
};

/// Events in one batch.
const ENTRIES: usize = 500;

/// Hours in one batch.
const TALLIES: usize = 2_000;

/// Apps are looked at once a minute. After so many milliseconds without a look, what they did meanwhile is not known.
const UNWATCHED: u64 = 180_000;

/// How the store does, and what was lost because of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gap {
    /// Events that wait to be written.
    pub waiting: u64,
    /// Events that were lost since the gateway began, because more than `history.queue` of them waited.
    pub lost: u64,
    /// Hours of apps that were lost for the same reason: what they would have added is missing in the roll-ups.
    pub lost_hours: u64,
    /// When the first of the lost ones happened: wall-clock milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<u64>,
    /// When the last of them did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_until: Option<u64>,
    /// Since when the store is away; not set while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// What it says, or is said of it, while it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
}

/// However many apps are looked at, so many hours of each have room: the one that runs and the one before, until both are written.
const HOURS_OF_AN_APP: usize = 2;

/// What is known of an app's sleep.
#[derive(Default)]
struct Sleep {
    /// Asleep since then, as far as it is not told yet.
    from: Option<u64>,
    /// It was stopped by somebody else, or ended by itself: that is no sleep of ours.
    foreign: bool,
}

/// See the module's page.
pub(super) struct Waiting {
    ids: Ids,
    bound: usize,
    queue: VecDeque<Arc<Entry>>,
    hours: BTreeMap<(AppId, u64), Tally>,
    sleeps: HashMap<AppId, Sleep>,
    /// What is being written: the same again until it is, since it may have been.
    writing: Option<Arc<Batch>>,
    /// When all apps were looked at last.
    looked_at: Option<u64>,
    /// What the counters of apps showed at the last look.
    pub(super) readings: HashMap<AppId, Reading>,
    writer: i64,
    number: i64,
    pub(super) gap: Gap,
}

impl Waiting {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            ids: Ids::new(),
            bound,
            queue: VecDeque::new(),
            hours: BTreeMap::new(),
            sleeps: HashMap::new(),
            writing: None,
            looked_at: None,
            readings: HashMap::new(),
            writer: fastrand::i64(1..),
            number: 0,
            gap: Gap::default(),
        }
    }

    /// Takes note. The entry is there even if it is lost for the store.
    pub(super) fn see(&mut self, happening: &Happening) -> Arc<Entry> {
        let entry = Arc::new(Entry::from(happening).with_id(self.ids.next(happening.at)));
        self.count(happening);
        let writing = self.writing.as_ref().map_or(0, |batch| batch.entries.len());
        if self.queue.len() + writing < self.bound {
            self.queue.push_back(entry.clone());
        } else {
            self.lose(1, happening.at);
        }
        entry
    }

    /// So many events are lost, the last of them at that moment.
    pub(super) fn lose(&mut self, events: u64, at: u64) {
        if events > 0 {
            self.gap.lost += events;
            self.gap.lost_since.get_or_insert(at);
            self.gap.lost_until = Some(at);
        }
    }

    fn count(&mut self, happening: &Happening) {
        let Happening { app, event, at, .. } = happening;
        match event {
            Event::Ready(took) => {
                let boot = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
                self.tell(app, *at, &Tally { wakes: 1, boots: vec![boot], ..Tally::default() });
            }
            Event::WakeFailed { .. } => self.tell(app, *at, &Tally { failed_wakes: 1, ..Tally::default() }),
            _ => {}
        }
        match event {
            Event::Asleep(_) => {
                let sleep = self.sleeps.entry(app.clone()).or_default();
                *sleep = Sleep { from: Some(*at), foreign: false };
            }
            Event::AskedFor | Event::Waking => {
                let from = self.ends(app, false).filter(|_| self.is_watched(*at));
                if let Some(from) = from {
                    self.slept(app, from, *at);
                }
            }
            // That gateway tells the rest. If it keeps a history of its own, what is missing here counts as awake.
            Event::Elsewhere(AppState::Asleep) => {}
            // That says nothing of whether it runs.
            Event::Pinned { .. } | Event::Unpinned(_) => {}
            Event::Crashed(_) | Event::StoppedByOthers => drop(self.ends(app, true)),
            // Since when it is not asleep any more is not known: not before the last look.
            _ => drop(self.ends(app, false)),
        }
    }

    /// The app is not asleep any more. Since when it was, as far as that is not told yet.
    fn ends(&mut self, app: &AppId, foreign: bool) -> Option<u64> {
        if foreign {
            self.sleeps.entry(app.clone()).or_default().foreign = true;
        }
        let sleep = self.sleeps.get_mut(app)?;
        sleep.foreign = foreign;
        sleep.from.take()
    }

    /// Whether somebody has looked shortly before that moment, if anybody ever does: a machine that was suspended has not.
    fn is_watched(&self, at: u64) -> bool {
        self.looked_at.is_none_or(|last| at <= last.saturating_add(UNWATCHED))
    }

    /// Adds to the hour of that moment.
    pub(super) fn tell(&mut self, app: &AppId, at: u64, tally: &Tally) {
        let hour = at - at % super::tally::HOUR;
        if let Some(known) = self.hours.get_mut(&(app.clone(), hour)) {
            known.add(tally);
        } else if self.hours.len() < self.bound.max(HOURS_OF_AN_APP * self.readings.len()) {
            self.hours.insert((app.clone(), hour), tally.clone());
        } else {
            self.gap.lost_hours += 1;
        }
    }

    fn slept(&mut self, app: &AppId, from: u64, to: u64) {
        for (hour, asleep) in by_the_hour(from, to) {
            self.tell(app, hour, &Tally { asleep, ..Tally::default() });
        }
    }

    /// The app was looked at: `asleep` if its provider does not run it, and Loir has stopped it.
    pub(super) fn looked(&mut self, app: &AppId, state: AppState, asleep: bool, now: u64) {
        // Seen, and perhaps nothing more to say of it.
        self.tell(app, now, &Tally::default());
        let watched = self.is_watched(now);
        let sleep = self.sleeps.entry(app.clone()).or_default();
        sleep.from = sleep.from.filter(|_| watched);
        match (sleep.from, state) {
            (Some(from), AppState::Asleep) => {
                // Rounded down to a second: what is left of it is told next time.
                sleep.from = Some(from.max(now / 1000 * 1000));
                self.slept(app, from, now);
            }
            (None, AppState::Asleep) if asleep && !sleep.foreign => sleep.from = Some(now),
            // The stop is confirmed, and the cell is about to say so.
            (Some(_), AppState::Stopping) => {}
            // It is told why in a moment. When that was is not known: not before it was last seen asleep.
            _ => sleep.from = None,
        }
    }

    /// All apps were looked at: only these are there.
    pub(super) fn looked_at_all(&mut self, now: u64, there: impl Fn(&AppId) -> bool) {
        self.looked_at = Some(now);
        self.sleeps.retain(|app, _| there(app));
        self.readings.retain(|app, _| there(app));
    }

    /// What is to be written next, if anything: what could not be written before, else the oldest events, and the hours if
    /// they are `due`. `leads`: this gateway tells who slept, also of apps of which it has nothing else to tell.
    pub(super) fn next(&mut self, due: bool, leads: bool) -> Option<Arc<Batch>> {
        if let Some(batch) = &self.writing {
            return Some(batch.clone());
        }
        let entries: Vec<_> = self.queue.drain(..self.queue.len().min(ENTRIES)).collect();
        let mut tallies = Vec::new();
        if due {
            if !leads {
                self.hours.retain(|_, tally| tally.adds());
            }
            while let Some(((app, hour), tally)) = self.hours.pop_first() {
                tallies.push((app, hour, tally));
                if tallies.len() == TALLIES {
                    break;
                }
            }
        }
        if entries.is_empty() && tallies.is_empty() {
            return None;
        }
        self.number += 1;
        let batch = Arc::new(Batch { writer: self.writer, number: self.number, entries, tallies });
        self.writing = Some(batch.clone());
        Some(batch)
    }

    /// What was written, or will never be.
    pub(super) fn done(&mut self) {
        self.writing = None;
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.hours.is_empty() && self.writing.is_none()
    }

    pub(super) fn gap(&self) -> Gap {
        let writing = self.writing.as_ref().map_or(0, |batch| batch.entries.len());
        Gap { waiting: (self.queue.len() + writing) as u64, ..self.gap.clone() }
    }

    /// All events that wait, the newest first. Whoever looks through them does so without keeping others from telling more.
    pub(super) fn events(&self) -> Vec<Arc<Entry>> {
        let writing = self.writing.iter().flat_map(|batch| &batch.entries);
        writing.chain(&self.queue).rev().cloned().collect()
    }

    /// Everything of hours that waits, what is being written included.
    pub(super) fn hours(&self, fits: impl Fn(&AppId, u64) -> bool) -> Vec<(AppId, u64, Tally)> {
        let writing = self.writing.iter().flat_map(|batch| batch.tallies.iter().cloned());
        let hours = self.hours.iter().map(|((app, hour), tally)| (app.clone(), *hour, tally.clone()));
        writing.chain(hours).filter(|(app, hour, _)| fits(app, *hour)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tally::HOUR;

    #[test]
    fn more_apps_than_the_queue_is_long_lose_nothing_while_the_store_is_there() {
        let mut waiting = Waiting::new(2);
        let apps: Vec<_> = (0..5).map(|number| AppId::new("paris", format!("app-{number}"))).collect();
        for now in [HOUR - 30_000, HOUR + 30_000] {
            for app in &apps {
                waiting.readings.insert(app.clone(), Reading::default());
                waiting.looked(app, AppState::Awake, false, now);
            }
        }
        assert_eq!((waiting.hours(|_, _| true).len(), waiting.gap.lost_hours), (10, 0));
        waiting.looked(&apps[0], AppState::Awake, false, 2 * HOUR);
        assert_eq!(waiting.gap.lost_hours, 1, "there is a bound all the same");
    }
}
