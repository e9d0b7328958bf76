//! `AppCell`: two atomics per app, and the one rule that lets a request and a stop meet without harm.
//!
//! The state and the number of requests in flight share one word. A request adds itself and learns the state *in one
//! step*; a stop changes the state *only if nobody is in flight*, in one step too. So there is no moment between the
//! two in which they could miss each other: the request is held, or the stop gives way.
//!
//! `tests/integration/cell.rs` lets loom try every interleaving of exactly this source. (Two words, each side writing
//! one and then reading the other, would do as well with sequential consistency, but cost a request one access more,
//! and loom cannot check them: it treats `SeqCst` as `AcqRel`.)

use super::atomic::{AtomicU64, Ordering::SeqCst};
use crate::{app::AppState, clock::Millis};
use std::time::Duration;

/// One request in flight; the bits below are the state.
const ONE: u64 = 1 << 8;
const STATE: u64 = ONE - 1;

/// What every request reads and writes of an app. No lock, no allocation, no system call.
#[derive(Debug)]
pub struct AppCell {
    /// The state, and above it how many requests are being proxied, WebSockets and streams included. A held request
    /// is not in flight.
    word: AtomicU64,
    /// When the last request that counts ended, in [`Millis`].
    last_activity: AtomicU64,
}

/// Why an app is not stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIdle {
    /// It is not awake.
    State(AppState),
    /// So many requests are in flight.
    InFlight(u64),
    /// Its last request ended too recently: so much of the idle timeout is left.
    Recent(Duration),
}

impl AppCell {
    /// A cell in `state`, whose full idle time begins `now`.
    pub fn new(state: AppState, now: Millis) -> Self {
        Self { word: AtomicU64::new(state as u64), last_activity: AtomicU64::new(now.0) }
    }

    /// Counts a request in and tells the state it met, in one step. Unless that is `Awake`, the caller must not forward;
    /// every call is paired with one [`leave`](Self::leave).
    pub fn enter(&self) -> AppState {
        state_of(self.word.fetch_add(ONE, SeqCst))
    }

    /// Counts a request out; one that counts as activity first says when it ended, so that whoever then sees nothing
    /// in flight also sees when that began.
    pub fn leave(&self, ended: Option<Millis>) {
        if let Some(ended) = ended {
            self.touch(ended);
        }
        self.word.fetch_sub(ONE, SeqCst);
    }

    /// Starts the idle time anew.
    pub fn touch(&self, now: Millis) {
        self.last_activity.fetch_max(now.0, SeqCst);
    }

    /// When the last request that counts ended, or the idle time began anew.
    pub fn last_activity(&self) -> Millis {
        Millis(self.last_activity.load(SeqCst))
    }

    /// The state right now.
    pub fn state(&self) -> AppState {
        state_of(self.word.load(SeqCst))
    }

    /// How many requests are in flight right now.
    pub fn in_flight(&self) -> u64 {
        self.word.load(SeqCst) / ONE
    }

    /// `from` becomes `to`, if nobody was faster, whatever is in flight.
    pub fn change(&self, from: AppState, to: AppState) -> bool {
        self.change_if(|state, _| if state == from { Ok(to) } else { Err(()) }).is_ok()
    }

    /// Whether the app is awake, has nothing in flight and has been idle for `idle`. Only a look: deciding is
    /// [`begin_stop`](Self::begin_stop).
    pub fn idle_for(&self, now: Millis, idle: Duration) -> Result<(), NotIdle> {
        let word = self.word.load(SeqCst);
        may_stop(state_of(word), word / ONE)?;
        self.rested(now, idle)
    }

    /// `Awake` becomes `Stopping` if the app is idle. On `Err` the app is as it was; a request that came in between may
    /// have seen `Stopping` and wait, so the caller must wake the waiting either way.
    pub fn begin_stop(&self, now: Millis, idle: Duration) -> Result<(), NotIdle> {
        self.idle_for(now, idle)?;
        self.change_if(may_stop)?;
        // A whole request may have come and gone since the look.
        let rested = self.rested(now, idle);
        if rested.is_err() {
            self.change(AppState::Stopping, AppState::Awake);
        }
        rested
    }

    fn rested(&self, now: Millis, idle: Duration) -> Result<(), NotIdle> {
        let rested = now.since(Millis(self.last_activity.load(SeqCst)));
        if rested < idle { Err(NotIdle::Recent(idle - rested)) } else { Ok(()) }
    }

    /// Changes the state as `decide` says, given the state and how many are in flight, and leaves the count alone.
    fn change_if<E>(&self, decide: impl Fn(AppState, u64) -> Result<AppState, E>) -> Result<(), E> {
        let mut word = self.word.load(SeqCst);
        loop {
            let next = (word & !STATE) | decide(state_of(word), word / ONE)? as u64;
            match self.word.compare_exchange(word, next, SeqCst, SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }
}

fn may_stop(state: AppState, in_flight: u64) -> Result<AppState, NotIdle> {
    match (state, in_flight) {
        (AppState::Awake, 0) => Ok(AppState::Stopping),
        (AppState::Awake, _) => Err(NotIdle::InFlight(in_flight)),
        (state, _) => Err(NotIdle::State(state)),
    }
}

fn state_of(word: u64) -> AppState {
    match word & STATE {
        1 => AppState::Waking,
        2 => AppState::Awake,
        3 => AppState::Stopping,
        4 => AppState::Failed,
        _ => AppState::Asleep,
    }
}
