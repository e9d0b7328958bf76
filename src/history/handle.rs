//! `History`: the one that everybody tells and asks. Cheap to clone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, RwLock, broadcast},
    task::JoinHandle,
};

use super::{
    Answer, Entry, Gap, HISTORIES, HistoryContext, Hour, Query, Store, StoreError, Tally, report::Books,
    tally::HOUR, waiting::Waiting, writer,
};
use crate::{
    app::AppId,
    clock::Clock,
    config::{HistoryConfig, Pattern},
    lifecycle::{Happening, Lifecycle, Witness},
};

/// So many events a slow listener may be behind before it misses some.
const LIVE: usize = 1_000;

/// Whoever asks waits for the store no longer than this, and gets what waits to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// What everybody tells and asks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct History(
    Arc<Inner>,
    #[expect(dead_code, reason = "ends the writer with the last clone")] Arc<Writer>,
);

struct Writer(JoinHandle<()>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Inner {
    waiting: Mutex<Waiting>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// There is more to write.
    pub(super) more: Notify,
    /// Everything is to be written now.
    pub(super) hurry: Notify,
    /// Everything is written.
    pub(super) written: Notify,
    /// Held for writing while hours move from memory to the store.
    pub(super) moving: RwLock<()>,
    live: broadcast::Sender<Arc<Entry>>,
    config: ArcSwap<HistoryConfig>,
    /// What reports are made with.
    pub(super) books: ArcSwap<Books>,
    /// Whose apps these are: known once the gateway is put together.
    lifecycle: OnceLock<Weak<Lifecycle>>,
}

impl History {
    /// Makes the store that `config` names ready, and starts to write. Only called within a runtime. A store that is not there
    /// keeps nobody from anything: what happens meanwhile waits in memory, up to `config.queue` events.
    pub fn open(config: HistoryConfig, context: &HistoryContext, clock: Clock) -> Self {
        let kind = HISTORIES.iter().find(|kind| kind.name == config.kind).unwrap_or(&HISTORIES[0]);
        Self::with((kind.open)(&config, context), config, clock)
    }

    /// The same with a store of one's own.
    pub fn with(store: Arc<dyn Store>, config: HistoryConfig, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            waiting: Mutex::new(Waiting::new(config.queue)),
            store,
            clock,
            more: Notify::new(),
            hurry: Notify::new(),
            written: Notify::new(),
            moving: RwLock::new(()),
            live: broadcast::Sender::new(LIVE),
            config: ArcSwap::from_pointee(config),
            books: ArcSwap::default(),
            lifecycle: OnceLock::new(),
        });
        let writer = Writer(tokio::spawn(writer::run(inner.clone())));
        Self(inner, Arc::new(writer))
    }

    /// Whose apps these are. From now on they are looked at once a minute, by [`watch`](Self::watch).
    pub fn attach(&self, lifecycle: &Arc<Lifecycle>) {
        let _ = self.0.lifecycle.set(Arc::downgrade(lifecycle));
    }

    /// What reports are made with from now on.
    pub fn set_books(&self, books: Books) {
        self.0.books.store(Arc::new(books));
    }

    /// The store's type: `sqlite` and so on.
    pub fn store(&self) -> &'static str {
        self.0.store.name()
    }

    /// How long events and hours are kept from now on. The rest of a configuration needs a restart; what is in effect is returned.
    pub fn configure(&self, wanted: &HistoryConfig) -> HistoryConfig {
        let mut next = HistoryConfig::clone(&self.0.config.load());
        (next.retention, next.rollup_retention) = (wanted.retention, wanted.rollup_retention);
        self.0.config.store(Arc::new(next.clone()));
        next
    }

    /// How the store does, and what was lost because of it.
    pub fn gap(&self) -> Gap {
        self.0.waiting().gap()
    }

    /// Every event from now on, as it happens, whether it can be kept or not. A listener that is more than 1,000 events behind
    /// is told how many it has missed.
    pub fn live(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.0.live.subscribe()
    }

    /// Finds events, the newest first; what waits to be written is found as well.
    pub async fn events(&self, query: &Query) -> Answer<Entry> {
        // What is written between the two looks is found twice and counted once; the other way round it would be missed.
        let waiting = self.0.waiting().events();
        let waiting = waiting.iter().filter(|entry| query.fits(entry)).take(query.limit());
        let waiting: Vec<Entry> = waiting.map(|entry| Entry::clone(entry)).collect();
        let (stored, incomplete) = self.ask(self.0.store.events(query)).await;
        let all = waiting.into_iter().chain(stored).map(|entry| (std::cmp::Reverse(entry.id), entry));
        let found = all.collect::<BTreeMap<_, _>>().into_values().take(query.limit()).collect();
        Answer { found, incomplete }
    }

    /// The hours that begin from `from` on and before `to` (milliseconds since 1970), of one app, of those that fit a pattern, or of
    /// all: by app, and then by time. An hour that is not there was seen by no gateway.
    pub async fn hours(&self, apps: Option<&str>, from: u64, to: u64) -> Answer<(AppId, Hour)> {
        let now = self.0.clock.unix_millis();
        let Answer { found, incomplete } = self.tallies(apps, from, to).await;
        let found = found.into_iter().map(|(app, at, tally)| (app, Hour::new(at, &tally, now))).collect();
        Answer { found, incomplete }
    }

    /// The same as it is counted.
    pub async fn tallies(&self, apps: Option<&str>, from: u64, to: u64) -> Answer<(AppId, u64, Tally)> {
        let pattern = apps.map(Pattern::new);
        let from = from - from % HOUR;
        let fits = |app: &AppId, hour: u64| {
            (from..to).contains(&hour) && pattern.as_ref().is_none_or(|pattern| pattern.fits(app))
        };
        // Numbers add up, so each must be found once: nothing moves from memory to the store meanwhile.
        let looked = async {
            let _still = self.0.moving.read().await;
            let waiting = self.0.waiting().hours(fits);
            (waiting, self.0.store.hours(pattern.as_ref(), from, to).await)
        };
        let (waiting, stored) = match tokio::time::timeout(PATIENCE, looked).await {
            Ok((waiting, stored)) => (waiting, stored.map_err(|error| error.to_string())),
            Err(_) => (self.0.waiting().hours(fits), Err(format!("no answer in {PATIENCE:?}"))),
        };
        let (stored, incomplete) = match stored {
            Ok(stored) => (stored, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut all: BTreeMap<(AppId, u64), Tally> = BTreeMap::new();
        for (app, hour, tally) in stored.into_iter().chain(waiting) {
            all.entry((app, hour)).or_default().add(&tally);
        }
        let found = all.into_iter().map(|((app, hour), tally)| (app, hour, tally)).collect();
        Answer { found, incomplete }
    }

    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<Vec<T>, StoreError>>,
    ) -> (Vec<T>, Option<String>) {
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(found)) => (found, None),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
            Err(_) => (Vec::new(), Some(format!("no answer in {PATIENCE:?}"))),
        }
    }

    /// Writes everything now, and returns when that is done, at the latest after `limit`. Whether it is done.
    pub async fn flush(&self, limit: Duration) -> bool {
        self.sample();
        let all = async {
            loop {
                let written = self.0.written.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                if self.0.waiting().is_empty() {
                    return;
                }
                self.0.hurry.notify_one();
                written.await;
            }
        };
        let done = tokio::time::timeout(limit, all).await.is_ok();
        if !done {
            let Gap { waiting, .. } = self.gap();
            log::warn!(
                "history: {waiting} events and some hours of apps could not be written before the end"
            );
        }
        done
    }

    /// The answers can be waited for anywhere.
    #[cfg(test)]
    fn _is_send(&self, request: &super::ReportRequest) {
        fn send(_: impl Send) {}
        let query = Query::default();
        send((self.report(request), self.events(&query), self.flush(PATIENCE)));
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

/// Never waits: the entry is put in a queue, for a moment under a lock that nobody holds while waiting for anything.
impl Witness for History {
    fn see(&self, happening: &Happening) {
        let entry = self.0.waiting().see(happening);
        self.0.more.notify_one();
        let _ = self.0.live.send(entry);
    }
}

impl Inner {
    /// A panic cannot leave half of anything behind that the next one would trip over.
    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lifecycle(&self) -> Option<Arc<Lifecycle>> {
        self.lifecycle.get()?.upgrade()
    }

    /// Whether this gateway speaks for all of them.
    pub(super) fn leads(&self) -> bool {
        let Some(lifecycle) = self.lifecycle() else {
            return true;
        };
        lifecycle.fleet().is_none_or(|fleet| fleet.leads())
    }

    /// How long events are kept, and hours.
    pub(super) fn kept(&self) -> (Duration, Duration) {
        let config = self.config.load();
        (config.retention, config.rollup_retention)
    }

    pub(super) fn is_away(&self, error: String) {
        let now = self.clock.unix_millis();
        let (begins, queue) = {
            let mut waiting = self.waiting();
            waiting.gap.store_error = Some(error.clone());
            let begins = waiting.gap.since.is_none();
            waiting.gap.since.get_or_insert(now);
            (begins, self.config.load().queue)
        };
        if begins {
            log::warn!(
                "history: the store ({}) is away: {error}. Up to {queue} events are kept in memory until it is back",
                self.store.name()
            );
        }
    }

    pub(super) fn is_back(&self) {
        let now = self.clock.unix_millis();
        let mut waiting = self.waiting();
        waiting.gap.store_error = None;
        if let Some(since) = waiting.gap.since.take() {
            let (lost, hours) = (waiting.gap.lost, waiting.gap.lost_hours);
            drop(waiting);
            let away = Duration::from_secs(now.saturating_sub(since).div_ceil(1000));
            log::info!(
                "history: the store is back after {away:?}; since the gateway began, {lost} events and {hours} hours of apps were lost"
            );
        }
    }
}
