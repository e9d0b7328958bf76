//! `Gate`: the requests that waited for an app are let go few at first, and more with every answer.
//!
//! An app that has just begun to listen may have a short queue of connections: 5 in Python's `http.server`, 128 in Rust's
//! standard library. A thousand held requests let go in one instant overflow it; Linux then drops the last packet of
//! handshakes, the client's side believes to be connected, and its request is sent again after 1, 3, 7 ... seconds.
//! Measured (`benchmarks`, scenario `herd`): with a queue of 5, 28 of 1,000 requests had no answer within a minute. So the
//! gate opens the way TCP starts: each answer lets two more through, which doubles their number each round trip.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

/// Below the shortest queue in use.
const FIRST: usize = 4;

/// An app may answer late and well (a long poll): then its place is given to the next, but to no more than one.
const LATE: Duration = Duration::from_secs(1);

/// The gate of one run of an app. Requests that did not wait do not come by here.
pub(super) struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FIRST)))
    }
}

impl Gate {
    /// Waits for its turn, first come, first served.
    pub async fn pass(&self) -> Pass {
        // The semaphore is never closed; were it, everybody would pass.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
        let place = Arc::new(Place { gate: self.0.clone(), left: AtomicBool::new(false) });
        let late = place.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            late.leave(1);
        });
        Pass(place)
    }
}

struct Place {
    gate: Arc<Semaphore>,
    left: AtomicBool,
}

impl Place {
    /// Lets `others` through in its place, once.
    fn leave(&self, others: usize) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.gate.add_permits(others);
        }
    }
}

/// A request that was let through and has no answer yet. Dropping it lets one other through.
pub(super) struct Pass(Arc<Place>);

impl Pass {
    /// The app has answered: two others may follow.
    pub fn answered(self) {
        self.0.leave(2);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.leave(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn let_through(gate: &Gate) -> Vec<Pass> {
        let mut passes = Vec::new();
        while gate.0.available_permits() > 0 {
            passes.push(gate.pass().await);
        }
        passes
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_lets_two_more_through() {
        let gate = Gate::default();
        let mut round = let_through(&gate).await;
        for expected in [4, 8, 16, 32] {
            assert_eq!(round.len(), expected);
            round.drain(..).for_each(Pass::answered);
            round = let_through(&gate).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_or_late_gives_its_place_to_one_other() {
        let gate = Gate::default();
        let first = let_through(&gate).await;
        tokio::time::sleep(LATE * 2).await;
        let second = let_through(&gate).await;
        assert_eq!(second.len(), FIRST, "late ones made room");
        first.into_iter().for_each(Pass::answered);
        assert_eq!(gate.0.available_permits(), 0, "and only once");
        drop(second);
        assert_eq!(let_through(&gate).await.len(), FIRST);
    }
}
