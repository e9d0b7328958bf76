//! `Budget`: how often one account may be called, and who goes first when that is not often enough.
//!
//! A token bucket with a queue. Whoever waits is *due* some time after it came, the later the less it matters; the earliest
//! due goes first, so that a wake overtakes a list, and yet a list has its turn. The last tokens are for wakes alone.
//! Deciding (`bucket`) is pure: it is told the time, in milliseconds of its own. [`Budget`] waits.
//!
//! Where gateways share the account, whoever may go by this budget needs a token of the [`Pool`] as well (`shared`).

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
mod shared;
#[cfg(test)]
mod tests;

use super::pool::Pool;
use bucket::{Bucket, Waiter, millis};
pub use bucket::{Limits, Priority};
use shared::Shared;

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
pub struct Budget(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    origin: Instant,
    state: Mutex<State>,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct State {
    bucket: Bucket,
    /// Let go, and not yet noticed by those who wait. That somebody else lets them go, and not they themselves, keeps a
    /// future that nobody polls from standing in everybody's way.
    granted: Vec<Grant>,
    /// Tells one who waits that its turn has come, or that it is the next and has to watch the clock for all.
    bells: HashMap<u64, Arc<Notify>>,
    /// How often everybody's wait has changed at once.
    turns: u64,
    asking: Asking,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    priority: Priority,
    waiter: Waiter,
    /// With a token of the bucket that gateways share.
    shared: bool,
}

/// Whether the bucket that gateways share has to be asked, and is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// There is none.
    Never,
    /// Whoever may go has to ask, from this time on. Before, there was no answer, and nobody waits for another.
    From(u64),
    /// Somebody is asking, and nobody goes meanwhile.
    Now,
}

impl State {
    /// Lets go whoever may, tells them, and tells the next. Returns for whom the shared bucket has to be asked first.
    fn settle(&mut self, now: u64) -> Option<Priority> {
        match self.asking {
            Asking::Now => return None,
            Asking::From(from) if from <= now => {
                self.bucket.refill(now);
                let (_, priority) = self.bucket.next(now).filter(|(at, _)| *at <= now)?;
                self.asking = Asking::Now;
                return Some(priority);
            }
            Asking::Never | Asking::From(_) => {}
        }
        let gone = self.bucket.settle(now);
        if gone.is_empty() {
            return None;
        }
        for (priority, waiter) in gone {
            self.grant(Grant { priority, waiter, shared: false });
        }
        self.ring_next(now);
        None
    }

    fn grant(&mut self, grant: Grant) {
        self.ring(grant.waiter.id);
        self.granted.push(grant);
    }

    fn next(&self, now: u64) -> Option<(u64, Waiter)> {
        let (at, priority) = self.bucket.next(now)?;
        // Until there is an answer nobody can say when.
        (self.asking != Asking::Now).then_some((at, self.bucket.head(priority)?.1))
    }

    fn ring(&self, id: u64) {
        if let Some(bell) = self.bells.get(&id) {
            bell.notify_one();
        }
    }

    fn ring_next(&self, now: u64) {
        if let Some((_, next)) = self.next(now) {
            self.ring(next.id);
        }
    }

    fn everybody_waits_anew(&mut self) {
        self.turns += 1;
        self.bells.values().for_each(|bell| bell.notify_one());
    }
}

impl Budget {
    /// A full bucket, of this gateway alone.
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, None)
    }

    /// A full bucket, and the one behind it that gateways share under the name `account`.
    pub fn sharing(limits: Limits, pool: Arc<dyn Pool>, account: &str) -> Self {
        Self::with(limits, Some(Shared::new(pool, account)))
    }

    fn with(limits: Limits, shared: Option<Shared>) -> Self {
        let state = State {
            bucket: Bucket::new(limits),
            granted: Vec::new(),
            bells: HashMap::new(),
            turns: 0,
            asking: if shared.is_some() { Asking::From(0) } else { Asking::Never },
        };
        Self(Arc::new(Queue { origin: Instant::now(), state: Mutex::new(state), shared }))
    }

    /// Returns when a call may be made. `since` is when what it belongs to began, if that was earlier: the second call of a
    /// wake goes before the first of a later one. `on_wait` is called with the estimate if it has to wait, and again (each
    /// second at most) when the estimate is another by a fifth. Dropping the future leaves the queue.
    pub async fn acquire(&self, priority: Priority, since: Option<Instant>, on_wait: Option<OnWait<'_>>) {
        let queue = &self.0;
        let now = queue.now();
        let since = since.map_or(now, |since| millis(since.saturating_duration_since(queue.origin)).min(now));
        let bell = Arc::new(Notify::new());
        let me = {
            let mut state = queue.lock();
            let me = state.bucket.enqueue(priority, since);
            state.bells.insert(me.id, bell.clone());
            me
        };
        let mut place = Place { queue, priority, me, gone: false };
        let mut listener = on_wait.map(|on_wait| Listener { on_wait, told: None, turns: 0 });
        loop {
            let now = queue.now();
            queue.settle(now);
            let (next, wait) = {
                let mut state = queue.lock();
                if let Some(mine) = state.granted.iter().position(|grant| grant.waiter == me) {
                    state.granted.swap_remove(mine);
                    place.gone = true;
                    return;
                }
                let listens = listener.as_mut().is_some_and(|listener| listener.listens(state.turns));
                let wait = listens.then(|| state.bucket.wait_of(me.id, now));
                // Whoever would go at once if there were no other gateways hears nothing before they do.
                let unsure = state.asking == Asking::Now && wait == Some(Duration::ZERO);
                (state.next(now), wait.filter(|_| !unsure))
            };
            if let (Some(listener), Some(wait)) = (&mut listener, wait) {
                listener.hear(wait);
            }
            // The next one watches the clock for all. The others look now and then: nobody may be polling it.
            let look = match next {
                Some((at, waiter)) if waiter == me => queue.instant(at),
                Some((at, _)) => queue.instant(at) + LOOK_AFTER.mul_f64(0.5 + fastrand::f64()),
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
    /// Other gateways that share the account hear of it.
    pub fn pause_until(&self, until: Instant) {
        let queue = &self.0;
        let now = queue.now();
        // Rounded up: never a call within the pause.
        let at = millis(until.saturating_duration_since(queue.origin)).saturating_add(1);
        let news = {
            let state = &mut *queue.lock();
            let news = state.bucket.pause(at, now);
            for Grant { priority, waiter, .. } in state.granted.drain(..) {
                state.bucket.put_back(priority, waiter);
            }
            state.everybody_waits_anew();
            news
        };
        if let Some(shared) = &queue.shared
            && news
        {
            shared.pause(Duration::from_millis(at.saturating_sub(now)));
        }
    }

    /// The provider says that `remaining` calls are left in its pool. While fewer than `reserve` are, only wakes go.
    pub fn believe_remaining(&self, remaining: u32, reserve: u32) {
        let now = self.0.now();
        let mut state = self.0.lock();
        state.bucket.believe(remaining, reserve, now);
        state.ring_next(now);
    }

    /// How long a caller that comes now would wait, if nobody came after it.
    pub fn estimate(&self, priority: Priority) -> Duration {
        let now = self.0.now();
        self.0.lock().bucket.estimate(priority, now)
    }

    /// Other limits from now on.
    pub fn limit(&self, limits: Limits) {
        let now = self.0.now();
        let mut state = self.0.lock();
        state.bucket.limit(limits, now);
        state.everybody_waits_anew();
    }
}

impl Queue {
    fn settle(self: &Arc<Self>, now: u64) {
        let asks = {
            let mut state = self.lock();
            state.settle(now).map(|priority| (priority, state.bucket.limits()))
        };
        if let (Some((priority, limits)), Some(shared)) = (asks, &self.shared) {
            shared.ask(self.clone(), limits, priority);
        }
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
    queue: &'a Queue,
    priority: Priority,
    me: Waiter,
    gone: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = self.queue.now();
        let mut state = self.queue.lock();
        state.bells.remove(&self.me.id);
        if self.gone {
            return;
        }
        let mut unused = None;
        if !state.bucket.leave(self.priority, self.me) {
            let mine = state.granted.iter().position(|grant| grant.waiter == self.me);
            unused = mine.map(|mine| state.granted.swap_remove(mine));
            state.bucket.give_back();
        }
        state.ring_next(now);
        drop(state);
        if let (Some(Grant { shared: true, .. }), Some(shared)) = (unused, &self.queue.shared) {
            shared.give_back();
        }
    }
}
