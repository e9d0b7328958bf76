//! `Budget`: how often one account may be called, and who goes first when that is not often enough.
//!
//! A token bucket with a queue. Whoever waits is *due* some time after it came, the later the less it matters; the earliest
//! due goes first, so that a wake overtakes a list, and yet a list has its turn. The last tokens are for wakes alone.
//! Deciding (`bucket`) is pure: it is told the time, in milliseconds of its own. [`Budget`] waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

mod bucket;
#[cfg(test)]
mod tests;

use bucket::{Bucket, Waiter, millis};
pub use bucket::{Limits, Priority};

/// What is called with the estimate of whoever has to wait.
pub type OnWait<'a> = &'a (dyn Fn(Duration) + Send + Sync);

/// Whoever waits is told again at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Whoever is not the next looks this long after the next one should have gone.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Whoever is told how long it has yet to wait.
struct Listener<'a> {
    on_wait: OnWait<'a>,
    /// What it was told last, and when that was last found to be true still.
    told: Option<(Duration, Instant)>,
    /// The [`State::turns`] it was told at.
    turns: u64,
}

impl Listener<'_> {
    /// When to estimate anew, unless a pause or other limits come: a long wait changes slowly, and an estimate costs as much
    /// as there are others who wait.
    fn due(&self) -> Option<Instant> {
        self.told.map(|(wait, at)| at + worth_telling(wait))
    }

    /// Whether it is time to estimate anew.
    fn listens(&mut self, turns: u64) -> bool {
        let turned = std::mem::replace(&mut self.turns, turns) != turns;
        turned || self.due().is_none_or(|due| due <= Instant::now())
    }

    /// Tells it the estimate, unless that is much what it was told.
    fn hear(&mut self, wait: Duration) {
        let told = match self.told {
            Some((told, _)) if wait.abs_diff(told) < worth_telling(told) => told,
            _ => {
                (self.on_wait)(wait);
                wait
            }
        };
        self.told = Some((told, Instant::now()));
    }
}

/// How much another estimate must differ from this one, and how long it is believed.
fn worth_telling(told: Duration) -> Duration {
    (told / 5).max(TELL_EVERY)
}

/// How often one account may be called, shared by all who call.
#[derive(Debug)]
pub struct Budget {
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: Bucket,
    /// Let go, and not yet noticed by those who wait. That somebody else lets them go, and not they themselves, keeps a
    /// future that nobody polls from standing in everybody's way.
    granted: Vec<(Priority, Waiter)>,
    /// Tells one who waits that its turn has come, or that it is the next and has to watch the clock for all.
    bells: HashMap<u64, Arc<Notify>>,
    /// How often everybody's wait has changed at once.
    turns: u64,
}

impl State {
    /// Lets go whoever may, tells them, and tells the next.
    fn settle(&mut self, now: u64) {
        let gone = self.bucket.settle(now);
        if gone.is_empty() {
            return;
        }
        for (_, waiter) in &gone {
            self.ring(waiter.id);
        }
        self.granted.extend(gone);
        if let Some(next) = self.next(now).map(|(_, waiter)| waiter.id) {
            self.ring(next);
        }
    }

    fn next(&self, now: u64) -> Option<(u64, Waiter)> {
        let (at, priority) = self.bucket.next(now)?;
        Some((at, self.bucket.head(priority)?.1))
    }

    fn ring(&self, id: u64) {
        if let Some(bell) = self.bells.get(&id) {
            bell.notify_one();
        }
    }

    fn everybody_waits_anew(&mut self) {
        self.turns += 1;
        self.bells.values().for_each(|bell| bell.notify_one());
    }
}

impl Budget {
    /// A full bucket.
    pub fn new(limits: Limits) -> Self {
        let state =
            State { bucket: Bucket::new(limits), granted: Vec::new(), bells: HashMap::new(), turns: 0 };
        Self { origin: Instant::now(), state: Mutex::new(state) }
    }

    /// Returns when a call may be made. `since` is when what it belongs to began, if that was earlier: the second call of a
    /// wake goes before the first of a later one. `on_wait` is called with the estimate if it has to wait, and again (each
    /// second at most) when the estimate is another by a fifth. Dropping the future leaves the queue.
    pub async fn acquire(&self, priority: Priority, since: Option<Instant>, on_wait: Option<OnWait<'_>>) {
        let now = self.now();
        let since = since.map_or(now, |since| millis(since.saturating_duration_since(self.origin)).min(now));
        let bell = Arc::new(Notify::new());
        let me = {
            let mut state = self.lock();
            let me = state.bucket.enqueue(priority, since);
            state.bells.insert(me.id, bell.clone());
            me
        };
        let mut place = Place { budget: self, priority, me, gone: false };
        let mut listener = on_wait.map(|on_wait| Listener { on_wait, told: None, turns: 0 });
        loop {
            let now = self.now();
            let (next, wait) = {
                let mut state = self.lock();
                state.settle(now);
                if let Some(mine) = state.granted.iter().position(|(_, waiter)| *waiter == me) {
                    state.granted.swap_remove(mine);
                    place.gone = true;
                    return;
                }
                let listens = listener.as_mut().is_some_and(|listener| listener.listens(state.turns));
                (state.next(now), listens.then(|| state.bucket.wait_of(me.id, now)))
            };
            if let (Some(listener), Some(wait)) = (&mut listener, wait) {
                listener.hear(wait);
            }
            // The next one watches the clock for all. The others look now and then: nobody may be polling it.
            let look = match next {
                Some((at, waiter)) if waiter == me => self.instant(at),
                Some((at, _)) => self.instant(at) + LOOK_AFTER.mul_f64(0.5 + fastrand::f64()),
                None => Instant::now() + LOOK_AFTER,
            };
            let until = listener.as_ref().and_then(Listener::due).map_or(look, |due| due.min(look));
            tokio::select! {
                () = bell.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Nobody goes before `until`; then wakes first, one at a time at the refill rate. Of two pauses the longer stands.
    pub fn pause_until(&self, until: Instant) {
        let now = self.now();
        // Rounded up: never a call within the pause.
        let until = millis(until.saturating_duration_since(self.origin)).saturating_add(1);
        let state = &mut *self.lock();
        state.bucket.pause(until, now);
        for (priority, waiter) in state.granted.drain(..) {
            state.bucket.put_back(priority, waiter);
        }
        state.everybody_waits_anew();
    }

    /// The provider says that `remaining` calls are left in its pool. While fewer than `reserve` are, only wakes go.
    pub fn believe_remaining(&self, remaining: u32, reserve: u32) {
        let now = self.now();
        let mut state = self.lock();
        state.bucket.believe(remaining, reserve, now);
        if let Some((_, next)) = state.next(now) {
            state.ring(next.id);
        }
    }

    /// How long a caller that comes now would wait, if nobody came after it.
    pub fn estimate(&self, priority: Priority) -> Duration {
        let now = self.now();
        self.lock().bucket.estimate(priority, now)
    }

    /// Other limits from now on.
    pub fn limit(&self, limits: Limits) {
        let now = self.now();
        let mut state = self.lock();
        state.bucket.limit(limits, now);
        state.everybody_waits_anew();
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }

    fn instant(&self, at: u64) -> Instant {
        // A century ahead is far enough, and no addition overflows.
        self.origin + Duration::from_millis(at.min(100 * 365 * 86_400_000))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. Dropping it without having gone gives it, or the token, to the next.
struct Place<'a> {
    budget: &'a Budget,
    priority: Priority,
    me: Waiter,
    gone: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = self.budget.now();
        let mut state = self.budget.lock();
        state.bells.remove(&self.me.id);
        if self.gone {
            return;
        }
        if !state.bucket.leave(self.priority, self.me) {
            state.granted.retain(|(_, waiter)| *waiter != self.me);
            state.bucket.give_back();
        }
        if let Some((_, next)) = state.next(now) {
            state.ring(next.id);
        }
    }
}
