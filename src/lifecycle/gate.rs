//! `Gate`: the requests that waited for an app are let go few at first, and more with every answer.
//!
//! An app that has just begun to listen may have a short queue of connections: 5 in Python's `http.server`, 128 in Rust's
//! standard library. A thousand held requests let go in one instant overflow it; Linux then drops the last packet of
//! handshakes, the client's side believes to be connected, and its request is sent again after 1, 3, 7 ... seconds.
//! Measured (`benchmarks`, scenario `herd`): with a queue of 5, 28 of 1,000 requests had no answer within a minute. So few
//! are under way at once, and a little more with the answers: a fast app needs no more, and its queue stays short. An app
//! that is slow to answer is not spared but waited for, so there the number doubles each second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

/// Below the shortest queue in use.
const FIRST: usize = 4;

/// One more is under way for each so many answers: about 35 of the last of 1,000.
const ANSWERS_FOR_ONE_MORE: usize = 32;

/// An app may answer late and well (a long poll, a heavy page): then two others go in its place.
const LATE: Duration = Duration::from_secs(1);

/// The gate of one run of an app. Requests that did not wait do not come by here.
pub(super) struct Gate(Arc<Opening>);

struct Opening {
    places: Semaphore,
    answers: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Opening { places: Semaphore::new(FIRST), answers: AtomicUsize::new(0) }))
    }
}

impl Gate {
    /// Waits for its turn, first come, first served.
    pub async fn pass(&self) -> Pass {
        // The semaphore is never closed; were it, everybody would pass.
        if let Ok(permit) = self.0.places.acquire().await {
            permit.forget();
        }
        let place = Arc::new(Place { gate: self.0.clone(), left: AtomicBool::new(false) });
        let late = place.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            late.leave(2);
        });
        Pass(place)
    }
}

struct Place {
    gate: Arc<Opening>,
    left: AtomicBool,
}

impl Place {
    /// Lets `others` through in its place, once.
    fn leave(&self, others: usize) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.gate.places.add_permits(others);
        }
    }
}

/// A request that was let through and has no answer yet. Dropping it lets one other through.
pub(super) struct Pass(Arc<Place>);

impl Pass {
    /// The app has answered: another may follow, and now and then two.
    pub fn answered(self) {
        let earlier = self.0.gate.answers.fetch_add(1, Ordering::Relaxed);
        self.0.leave(if earlier % ANSWERS_FOR_ONE_MORE == ANSWERS_FOR_ONE_MORE - 1 { 2 } else { 1 });
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
        while gate.0.places.available_permits() > 0 {
            passes.push(gate.pass().await);
        }
        passes
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_under_way_at_once_and_a_little_more_with_the_answers() {
        let gate = Gate::default();
        let mut answered = 0;
        while answered < 1000 {
            let round = let_through(&gate).await;
            assert_eq!(round.len(), FIRST + answered / ANSWERS_FOR_ONE_MORE, "after {answered} answers");
            answered += round.len();
            round.into_iter().for_each(Pass::answered);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_answers_late_is_asked_by_twice_as_many_each_second() {
        let gate = Gate::default();
        let mut waiting = Vec::new();
        for expected in [4, 8, 16, 32, 64] {
            let round = let_through(&gate).await;
            assert_eq!(round.len(), expected);
            waiting.extend(round);
            tokio::time::sleep(LATE * 11 / 10).await;
        }
        let room = gate.0.places.available_permits();
        waiting.into_iter().for_each(Pass::answered);
        assert_eq!(gate.0.places.available_permits(), room, "each makes room only once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_gives_its_place_to_one_other() {
        let gate = Gate::default();
        drop(let_through(&gate).await);
        assert_eq!(let_through(&gate).await.len(), FIRST);
    }
}
