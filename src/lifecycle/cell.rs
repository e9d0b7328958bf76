//! `AppCell`: three atomics per app, and the one rule that lets a request and a stop meet without harm.
//!
//! A request adds itself to `in_flight` *first* and reads `state` *after*. A stop writes `state` *first* and reads
//! `in_flight` *after*. All four are sequentially consistent, so there is one order of them that every thread agrees
//! on, and in any such order at least one of the two sees the other: the request is held, or the stop gives way.
//! `tests/integration/cell.rs` lets loom try every interleaving of exactly this source.

use super::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};
use crate::{app::AppState, clock::Millis};
use std::time::Duration;

/// What every request reads and writes of an app. No lock, no allocation, no system call.
#[derive(Debug)]
pub struct AppCell {
    state: AtomicU8,
    /// Requests being proxied, WebSockets and streams included. A held request is not in flight.
    in_flight: AtomicU32,
    /// When the last request that counts ended, in [`Millis`].
    last_activity: AtomicU64,
}

/// Why an app is not stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIdle {
    /// It is not awake.
    State(AppState),
    /// Requests are in flight.
    InFlight(u32),
    /// Its last request ended too recently: so much of the idle timeout is left.
    Recent(Duration),
}

impl AppCell {
    /// A cell in `state`, whose full idle time begins `now`.
    pub fn new(state: AppState, now: Millis) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            in_flight: AtomicU32::new(0),
            last_activity: AtomicU64::new(now.0),
        }
    }

    /// Counts a request in and tells the state it met. Unless that is `Awake`, the caller must not forward, and
    /// every call is paired with one [`leave`](Self::leave).
    pub fn enter(&self) -> AppState {
        self.in_flight.fetch_add(1, SeqCst);
        self.state()
    }

    /// Counts a request out; one that counts as activity first says when it ended, so that whoever then sees nothing
    /// in flight also sees when that began.
    pub fn leave(&self, ended: Option<Millis>) {
        if let Some(ended) = ended {
            self.touch(ended);
        }
        self.in_flight.fetch_sub(1, SeqCst);
    }

    /// Starts the idle time anew.
    pub fn touch(&self, now: Millis) {
        self.last_activity.fetch_max(now.0, SeqCst);
    }

    /// The state right now.
    pub fn state(&self) -> AppState {
        from_byte(self.state.load(SeqCst))
    }

    /// How many requests are in flight right now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// When the last request that counts ended.
    pub fn last_activity(&self) -> Millis {
        Millis(self.last_activity.load(SeqCst))
    }

    /// `from` becomes `to`, if nobody was faster.
    pub fn change(&self, from: AppState, to: AppState) -> bool {
        self.state.compare_exchange(from as u8, to as u8, SeqCst, SeqCst).is_ok()
    }

    /// Whether the app has nothing in flight and has been idle for `idle`. Only a look: deciding is
    /// [`begin_stop`](Self::begin_stop).
    pub fn idle_for(&self, now: Millis, idle: Duration) -> Result<(), NotIdle> {
        match self.in_flight() {
            0 => {}
            n => return Err(NotIdle::InFlight(n)),
        }
        let rested = now.since(self.last_activity());
        if rested < idle { Err(NotIdle::Recent(idle - rested)) } else { Ok(()) }
    }

    /// `Awake` becomes `Stopping` if the app is idle. On `Err` the app is as it was; requests that came in between
    /// may have seen `Stopping` and wait, so the caller must wake the waiting either way.
    pub fn begin_stop(&self, now: Millis, idle: Duration) -> Result<(), NotIdle> {
        if !self.change(AppState::Awake, AppState::Stopping) {
            return Err(NotIdle::State(self.state()));
        }
        let result = self.idle_for(now, idle);
        if result.is_err() {
            self.change(AppState::Stopping, AppState::Awake);
        }
        result
    }
}

fn from_byte(byte: u8) -> AppState {
    match byte {
        1 => AppState::Waking,
        2 => AppState::Awake,
        3 => AppState::Stopping,
        4 => AppState::Failed,
        _ => AppState::Asleep,
    }
}
