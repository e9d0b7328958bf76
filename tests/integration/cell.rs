//! `AppCell` under loom: every interleaving of a request and a stop.
//!
//! The source is the very file that production compiles; only its atomics are loom's.

mod atomic {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../../src/lifecycle/cell.rs"]
#[allow(dead_code, reason = "production uses more of it than this model does")]
mod cell_source;

use std::time::Duration;

use cell_source::AppCell;
use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use crate::{app::AppState, clock::Millis};

const LONG_IDLE: Millis = Millis(1_000_000);
const IDLE: Duration = Duration::from_secs(10);

/// What a request does, as `Lifecycle::decide` and `InFlight` do it. Tells whether it was forwarded.
fn request(cell: &AppCell, killed: &AtomicBool) -> bool {
    if cell.enter() != AppState::Awake {
        cell.leave(None);
        return false;
    }
    assert!(!killed.load(SeqCst), "a request was forwarded to an app that was told to stop");
    cell.leave(Some(LONG_IDLE));
    true
}

#[test]
fn of_a_request_and_a_stop_that_meet_at_least_one_sees_the_other() {
    loom::model(|| {
        let cell = Arc::new(AppCell::new(AppState::Awake, Millis(0)));
        let killed = Arc::new(AtomicBool::new(false));
        let client = {
            let (cell, killed) = (cell.clone(), killed.clone());
            thread::spawn(move || {
                if cell.enter() == AppState::Awake {
                    // In flight from here on: the app must not be told to stop before `leave`.
                    assert!(!killed.load(SeqCst), "told to stop although a request is in flight");
                    thread::yield_now();
                    assert!(!killed.load(SeqCst), "told to stop although a request is in flight");
                    cell.leave(Some(LONG_IDLE));
                    true
                } else {
                    cell.leave(None);
                    false
                }
            })
        };
        if cell.begin_stop(LONG_IDLE, IDLE).is_ok() {
            killed.store(true, SeqCst);
        }
        let forwarded = client.join().unwrap();
        let stopping = cell.state() == AppState::Stopping;
        // A request that was forwarded ended just now, so the app is not idle; one that was held saw the stop, which
        // may have given way to it afterwards.
        assert!(!(forwarded && stopping) || killed.load(SeqCst));
        assert_eq!(cell.in_flight(), 0);
    });
}

#[test]
fn two_requests_and_a_stop_agree_as_well() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let cell = Arc::new(AppCell::new(AppState::Awake, Millis(0)));
        let killed = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let (cell, killed) = (cell.clone(), killed.clone());
                thread::spawn(move || request(&cell, &killed))
            })
            .collect();
        if cell.begin_stop(LONG_IDLE, IDLE).is_ok() {
            killed.store(true, SeqCst);
        }
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(cell.in_flight(), 0);
        let state = cell.state();
        assert_eq!(state == AppState::Stopping, killed.load(SeqCst), "what gave way is awake again: {state}");
    });
}

#[test]
fn of_many_that_want_to_wake_one_does() {
    loom::model(|| {
        let cell = Arc::new(AppCell::new(AppState::Asleep, Millis(0)));
        let other = {
            let cell = cell.clone();
            thread::spawn(move || cell.change(AppState::Asleep, AppState::Waking))
        };
        let here = cell.change(AppState::Asleep, AppState::Waking);
        assert!(here ^ other.join().unwrap());
    });
}
