//! `ManagedApp`: all that this process knows of one app.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use tokio::sync::{Notify, watch};

use super::{
    Cause, Run,
    cell::{AppCell, NotIdle},
    gate::Gate,
    reached::Reached,
    ruled::Ruled,
    traffic::Traffic,
};
use crate::{
    app::{AppId, AppState, Endpoint, Readiness, StopTypes, Timeouts},
    clock::{Clock, Millis},
    provider::Provider,
    registry::Record,
    routing::Ruling,
};

/// One app: its cell for the hot path, and what the cold paths need. Shared by reference count; lives on while a
/// request holds it, also after it was taken out of the configuration.
pub struct ManagedApp {
    /// Which app.
    pub id: AppId,
    pub(super) cell: AppCell,
    pub(super) clock: Clock,
    pub(super) provider: Arc<dyn Provider>,
    settings: ArcSwap<Settings>,
    reached: ArcSwapOption<Reached>,
    gate: ArcSwap<Gate>,
    progress: watch::Sender<Progress>,
    /// Why the current run ended by itself, if it did. A wake in progress listens.
    pub(super) exited: watch::Sender<Option<Arc<str>>>,
    /// Held from a change of the cell until the registry has it, so that records follow in the same order.
    pub(super) order: tokio::sync::Mutex<()>,
    /// What its provider said of it last.
    known: ArcSwap<Known>,
    /// Whether the provider is being asked if the app still runs.
    pub(super) doubted: AtomicBool,
    /// Held while the provider is asked that, so that many who doubt at once ask once.
    pub(super) asking: tokio::sync::Mutex<()>,
    trust: Mutex<Trust>,
    /// Whether its own host name leads back to this gateway.
    loops: AtomicBool,
    /// The same app under an earlier entry, which looks after it.
    twin: ArcSwapOption<AppId>,
    /// Why it is beyond the plan, if it is.
    beyond: ArcSwapOption<String>,
    /// Requests that wait for this app.
    pub(super) held: AtomicUsize,
    /// One more waits.
    pub(super) more_held: Notify,
    /// Another gateway asks for a stop of this one to be given up.
    pub(super) wanted_elsewhere: AtomicBool,
    /// What is remembered of the app.
    memory: Mutex<Memory>,
    /// The memory is another.
    pub(super) heard: Notify,
    /// Something has happened to the app that the registry could not be told.
    pub(super) untold: AtomicBool,
    /// The registry was away, and what happened meanwhile is not settled yet.
    pub(super) unsettled: AtomicBool,
    /// The activity that other gateways were told of last.
    pub(super) flushed: AtomicU64,
    /// The latest wake or stop that was begun here.
    run: ArcSwapOption<Run>,
    traffic: Traffic,
    pub(super) ruled: Ruled,
}

#[derive(Default)]
struct Memory {
    boots: Arc<[Duration]>,
    failures: u32,
    /// The latest record that was heard of.
    record: Option<Record>,
    /// The epoch that the cell agrees with.
    followed: u64,
}

/// What the configuration says of one app, defaults filled in. Replaced whole by a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Every host name that leads here, lower case, each with how good its claim is.
    pub hosts: Vec<(String, Claim)>,
    /// Its time limits.
    pub timeouts: Timeouts,
    /// Which answer to a probe counts as ready.
    pub ready: Readiness,
    /// Which process types are stopped.
    pub stop: StopTypes,
    /// Whether the app's own host name is kept out of what visitors see.
    pub contain: bool,
    /// What the rules say of it.
    pub ruling: Arc<Ruling>,
}

/// How good a claim to a host name is. Of several claims the best one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The configuration says so.
    Written,
    /// The app's name with its entry's: nobody else has that.
    Full,
    /// The app's own name.
    Name,
    /// Another name of the app.
    Alias,
}

/// What a provider said of an app when it last listed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What never changes at the provider.
    pub key: Option<String>,
    /// Where it is reached, also while it does not run.
    pub endpoint: Option<Endpoint>,
    /// Why it is neither woken nor stopped.
    pub left_alone: Option<Arc<str>>,
    /// In how many lists in a row it was missing.
    pub(super) missing: u32,
}

/// What the provider has confirmed is believed for so long, and twice as long each time: an app may well answer 503 by
/// itself, for hours.
const BELIEVED: Duration = Duration::from_secs(2);
const BELIEVED_AT_MOST: Duration = Duration::from_secs(120);

/// What the provider has confirmed of an app whose answers look as if it did not run.
#[derive(Clone, Copy, Default)]
struct Trust {
    /// When it last said that the app runs, or could not tell.
    at: Option<Millis>,
    /// How often in a row.
    times: u32,
}

/// Why an app that loops is left alone.
const LOOPS: &str = "its own host name leads back to this gateway";

/// What a waiting person or program may know of an app's way up.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The state it belongs to.
    pub state: AppState,
    /// How far a wake has come.
    pub step: Step,
    /// When the wake (or whatever the state is) began.
    pub began: Millis,
    /// The app's latest boot times, oldest first.
    pub boots: Arc<[Duration]>,
    /// Why it is `Failed`.
    pub failure: Option<Failure>,
}

/// The steps of a wake, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The start waits for its turn in the account's budget, for about so long.
    Queued(Duration),
    /// The provider was asked to start the app.
    Starting,
    /// The app runs as far as the provider knows; our probe has no answer yet.
    Probing,
    /// Our probe was answered.
    Ready,
}

/// A start that failed, or a crash.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What a visitor may quote to the operator; the log line of the failure carries it.
    pub reference: Arc<str>,
    /// No start is tried before.
    pub retry_at: Millis,
}

impl ManagedApp {
    pub(super) fn new(
        id: AppId,
        provider: Arc<dyn Provider>,
        clock: Clock,
        settings: Settings,
        known: Known,
        record: Option<&Record>,
    ) -> Self {
        let now = clock.now();
        let memory = record.map(Memory::of).unwrap_or_default();
        let ruled = Ruled::default();
        ruled.pin(record.and_then(|record| record.pinned_until));
        let progress = Progress {
            state: AppState::Asleep,
            step: Step::Starting,
            began: now,
            boots: memory.boots.clone(),
            failure: None,
        };
        Self {
            id,
            cell: AppCell::new(AppState::Asleep, now),
            clock,
            provider,
            settings: ArcSwap::from_pointee(settings),
            reached: ArcSwapOption::empty(),
            gate: ArcSwap::default(),
            progress: watch::Sender::new(progress),
            exited: watch::Sender::new(None),
            order: tokio::sync::Mutex::default(),
            known: ArcSwap::from_pointee(known),
            doubted: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
            trust: Mutex::default(),
            loops: AtomicBool::new(false),
            twin: ArcSwapOption::empty(),
            beyond: ArcSwapOption::empty(),
            held: AtomicUsize::new(0),
            more_held: Notify::new(),
            wanted_elsewhere: AtomicBool::new(false),
            memory: Mutex::new(memory),
            heard: Notify::new(),
            untold: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
            run: ArcSwapOption::empty(),
            traffic: Traffic::default(),
            ruled,
        }
    }

    /// A wake or a stop has begun here.
    pub(super) fn begin_run(&self, cause: Cause) {
        self.ruled.operates(None);
        self.run.store(Some(Arc::new(Run::new(cause))));
    }

    /// The latest wake or stop that was begun here, and why.
    pub fn run(&self) -> Option<Run> {
        self.run.load().as_deref().cloned()
    }

    /// What requests it has had at this gateway.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The state right now.
    pub fn state(&self) -> AppState {
        self.cell.state()
    }

    /// Where it is reached. `None` unless it is awake (or was, a moment ago). Not to be held across an `await`.
    pub fn reached(&self) -> Guard<Option<Arc<Reached>>> {
        self.reached.load()
    }

    /// What its provider said of it last.
    pub fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Why it is neither woken nor stopped, if so.
    pub fn left_alone(&self) -> Option<Arc<str>> {
        let twin = self
            .twin
            .load()
            .as_ref()
            .map(|twin| format!("it is also {twin}, whose entry stands first").into());
        let loops = || self.loops.load(Ordering::Relaxed).then(|| LOOPS.into());
        let beyond = || self.beyond_plan().filter(|_| self.state() == AppState::Awake);
        self.known.load().left_alone.clone().or(twin).or_else(loops).or_else(beyond)
    }

    /// Why it is beyond the plan, if it is. It is not stopped then; one that sleeps is woken all the same when it is wanted, and
    /// goes on running, so that nobody is cut off.
    pub fn beyond_plan(&self) -> Option<Arc<str>> {
        self.beyond.load().as_ref().map(|why| why.as_str().into())
    }

    /// Says why it is beyond the plan, if it is. `true` if that is new.
    pub fn set_beyond_plan(&self, why: Option<&String>) -> bool {
        let new = self.beyond.load().as_deref() != why;
        if new {
            self.beyond.store(why.cloned().map(Arc::new));
        }
        new && why.is_some()
    }

    /// Whether it is left alone for another reason than the plan.
    pub fn is_none_of_ours(&self) -> bool {
        self.loops.load(Ordering::Relaxed)
            || self.twin.load().is_some()
            || self.known.load().left_alone.is_some()
    }

    /// Says which app of an earlier entry it is too; then that one is looked after, and this one is left alone.
    pub fn set_twin(&self, twin: Option<AppId>) {
        let told = self.twin.load().as_deref() == twin.as_ref();
        if let Some(twin) = twin.as_ref().filter(|_| !told) {
            log::warn!("{}: it is also {twin}, whose entry stands first and looks after it", self.id);
        }
        self.twin.store(twin.map(Arc::new));
    }

    /// Says whether its own host name leads back to this gateway; then it is left alone.
    pub fn set_loops(&self, loops: bool) {
        self.loops.store(loops, Ordering::Relaxed);
    }

    /// Whether it is neither woken nor stopped.
    pub fn is_left_alone(&self) -> bool {
        self.is_none_of_ours() || (self.beyond.load().is_some() && self.state() == AppState::Awake)
    }

    /// Whether the provider has confirmed lately that it runs.
    pub(super) fn is_trusted(&self, now: Millis) -> bool {
        let trust = *self.trust_now();
        let believed = BELIEVED.saturating_mul(1 << trust.times.min(10)).min(BELIEVED_AT_MOST);
        trust.at.is_some_and(|at| at >= self.since() && now.since(at) < believed)
    }

    /// Whether nobody has doubted since it last changed its state.
    pub(super) fn is_new_to_doubt(&self) -> bool {
        self.trust_now().at.is_none_or(|at| at < self.since())
    }

    /// The provider says that it runs, or cannot tell.
    pub(super) fn trust(&self, now: Millis) {
        let times = if self.is_new_to_doubt() { 1 } else { self.trust_now().times.saturating_add(1) };
        *self.trust_now() = Trust { at: Some(now), times };
    }

    /// When it last changed its state.
    pub fn since(&self) -> Millis {
        self.progress.borrow().began
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The same for a request, without counting. Not to be held across an `await`.
    pub fn glance(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// How far its wake has come, with every change from now on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// When it was last used, or came up.
    pub fn last_activity(&self) -> Millis {
        self.cell.last_activity()
    }

    /// Requests being proxied to it right now.
    pub fn in_flight(&self) -> u64 {
        self.cell.in_flight()
    }

    /// Requests waiting for it right now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns when a request waits for it, here or at another gateway.
    pub(super) async fn wanted(&self) {
        loop {
            let mut more = std::pin::pin!(self.more_held.notified());
            // Before the look: whoever comes after it is heard.
            more.as_mut().enable();
            if self.held() > 0 || self.wanted_elsewhere.load(Ordering::SeqCst) {
                return;
            }
            more.await;
        }
    }

    /// Returns when a request waits for it here. What other gateways ask for concerns the owner of a stop alone.
    pub(super) async fn wanted_here(&self) {
        loop {
            let mut more = std::pin::pin!(self.more_held.notified());
            more.as_mut().enable();
            if self.held() > 0 {
                return;
            }
            more.await;
        }
    }

    pub(super) fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    pub(super) fn know(&self, known: Known) {
        self.known.store(Arc::new(known));
    }

    /// `from` becomes `to`, if nobody was faster, and everyone who waits hears of it.
    ///
    /// The cell changes under the lock of `progress`, so that the two always tell the same: whoever meets `Failed` finds
    /// the failure, and of two changes the later one is told last.
    pub(super) fn turn(&self, from: AppState, to: AppState, step: Step, failure: Option<Failure>) -> bool {
        let boots = self.memory().boots.clone();
        self.progress.send_if_modified(|progress| {
            let changed = self.cell.change(from, to);
            if changed {
                self.goes(from, to);
                *progress = Progress { state: to, step, began: self.clock.now(), boots, failure };
            }
            changed
        })
    }

    /// What the change means for its hours.
    fn goes(&self, from: AppState, to: AppState) {
        let wall = self.clock.unix_millis();
        let mut usage = self.ruled.usage();
        match to {
            AppState::Waking => usage.up(wall),
            AppState::Awake if from != AppState::Stopping => {
                usage.awake(&self.settings().ruling.limits, wall);
                usage.up(wall);
                self.ruled.comes_up(wall);
            }
            AppState::Awake | AppState::Stopping => {}
            AppState::Asleep | AppState::Failed => usage.down(wall),
        }
    }

    /// `Awake` becomes `Stopping` if the app is idle, see [`AppCell::begin_stop`]. Everyone who waits hears of it either
    /// way: a request may have met `Stopping` for a moment.
    pub(super) fn begin_stop(&self, idle: Duration) -> Result<(), NotIdle> {
        let mut result = Ok(());
        self.progress.send_modify(|progress| {
            let now = self.clock.now();
            result = self.cell.begin_stop(now, idle);
            if result.is_ok() {
                (progress.state, progress.step, progress.began) = (AppState::Stopping, Step::Ready, now);
            }
        });
        result
    }

    /// A wake has come further.
    pub(super) fn reached_step(&self, step: Step) {
        self.progress.send_modify(|progress| progress.step = step);
    }

    /// Takes over what the registry now remembers, of which this gateway's cell knows already.
    pub(super) fn remember(&self, record: &Record) {
        let mut memory = self.memory();
        if memory.record.as_ref().is_none_or(|known| known.epoch <= record.epoch) {
            self.note(memory.record.as_ref(), record);
            *memory = Memory { followed: record.epoch, ..Memory::of(record) };
        }
        drop(memory);
        self.heard.notify_waiters();
    }

    /// Takes over what another gateway has made of it. Whether the cell has yet to follow.
    pub(super) fn hear(&self, record: &Record) -> bool {
        let mut memory = self.memory();
        let news = memory.record.as_ref().is_none_or(|known| known.epoch <= record.epoch);
        // The same epoch with another meaning: the registry has lost what was there, and somebody went on without it.
        let other = |known: &Record| {
            known.epoch == record.epoch
                && (known.state, &known.owner, known.told) != (record.state, &record.owner, record.told)
        };
        if memory.record.as_ref().is_some_and(other) {
            memory.followed = memory.followed.min(record.epoch.saturating_sub(1));
            self.untold.store(true, Ordering::SeqCst);
        }
        if news {
            self.note(memory.record.as_ref(), record);
            *memory = Memory { followed: memory.followed, ..Memory::of(record) };
        }
        let behind = memory.followed < record.epoch;
        drop(memory);
        self.heard.notify_waiters();
        news && behind
    }

    /// Its record was `before`, as far as this gateway has heard, and is another now.
    fn note(&self, before: Option<&Record>, now: &Record) {
        self.ruled.pin(now.pinned_until);
        // Whoever woke it, here or elsewhere. A wake that was begun and ended between two looks has left its boot time.
        let woken = before.is_some_and(|before| match now.state {
            AppState::Waking => before.state != AppState::Waking,
            AppState::Awake => before.state != AppState::Waking && before.boots != now.boots,
            _ => false,
        });
        if woken {
            self.ruled.usage().woke(self.clock.unix_millis());
        }
    }

    /// The registry has no record of it any more: whatever comes next is news.
    pub(super) fn forget_record(&self) {
        let mut memory = self.memory();
        (memory.record, memory.followed) = (None, 0);
        drop(memory);
        self.heard.notify_waiters();
    }

    /// The record that the cell has yet to follow. It is taken to be followed from now on.
    pub(super) fn behind(&self) -> Option<Record> {
        let mut memory = self.memory();
        let record = memory.record.clone().filter(|record| record.epoch > memory.followed)?;
        memory.followed = record.epoch;
        Some(record)
    }

    /// The latest record that was heard of.
    pub fn record(&self) -> Option<Record> {
        self.memory().record.clone()
    }

    pub(super) fn failures(&self) -> u32 {
        self.memory().failures
    }

    /// Through which those go that waited for the run of now.
    pub(super) fn gate(&self) -> Arc<Gate> {
        self.gate.load_full()
    }

    /// Where the run of now is reached; each run begins with a gate that is nearly closed.
    pub(super) fn reach(&self, reached: Option<Reached>) {
        self.gate.store(Arc::default());
        self.reached.store(reached.map(Arc::new));
    }

    fn trust_now(&self) -> std::sync::MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn of(record: &Record) -> Self {
        Self {
            boots: record.boots.iter().copied().map(Duration::from_millis).collect(),
            failures: record.failures,
            record: Some(record.clone()),
            followed: record.epoch,
        }
    }
}
