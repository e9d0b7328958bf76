//! `type: memory`: the latest events and the hours of each app, gone when the gateway ends.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Batch, Entry, Query, Store, StoreError, Tally};
use crate::{app::AppId, config::Pattern};

/// So many events are kept: each is some 500 bytes.
const EVENTS: usize = 10_000;

/// See the module's page.
#[derive(Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// In the order of their ids.
    events: VecDeque<Arc<Entry>>,
    hours: BTreeMap<(AppId, u64), Tally>,
    /// The latest batch of each writer.
    writers: HashMap<i64, i64>,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn record(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let last = kept.writers.entry(batch.writer).or_default();
        if *last >= batch.number {
            return Ok(());
        }
        *last = batch.number;
        for entry in &batch.entries {
            let place = kept.events.partition_point(|known| known.id < entry.id);
            kept.events.insert(place, entry.clone());
        }
        let surplus = kept.events.len().saturating_sub(EVENTS);
        kept.events.drain(..surplus);
        for (app, hour, tally) in &batch.tallies {
            kept.hours.entry((app.clone(), *hour)).or_default().add(tally);
        }
        Ok(())
    }

    async fn events(&self, query: &Query) -> Result<Vec<Entry>, StoreError> {
        let kept = self.kept();
        let fitting = kept.events.iter().rev().filter(|entry| query.fits(entry));
        Ok(fitting.take(query.limit()).map(|entry| Entry::clone(entry)).collect())
    }

    async fn hours(
        &self,
        apps: Option<&Pattern>,
        from: u64,
        to: u64,
    ) -> Result<Vec<(AppId, u64, Tally)>, StoreError> {
        let kept = self.kept();
        let fits = |app: &AppId| apps.is_none_or(|pattern| pattern.fits(app));
        let fitting = kept.hours.iter().filter(|((app, hour), _)| (from..to).contains(hour) && fits(app));
        Ok(fitting.map(|((app, hour), tally)| (app.clone(), *hour, tally.clone())).collect())
    }

    async fn prune(&self, events: u64, hours: u64) -> Result<(), StoreError> {
        let mut kept = self.kept();
        kept.events.retain(|entry| entry.at >= events);
        kept.hours.retain(|(_, hour), _| *hour >= hours);
        Ok(())
    }
}
