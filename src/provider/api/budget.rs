//! `Budget`: how often one account may be called, and who goes first when that is not often enough.
//!
//! A token bucket with a queue. Whoever waits is *due* some time after it came, the later the less it matters; the earliest
//! due goes first, so that a wake overtakes a list, and yet a list has its turn. The last tokens are for wakes alone.
//! Deciding (`Bucket`) is pure: it is told the time, in milliseconds of its own. [`Budget`] waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What a call is for, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A visitor waits for an app to start.
    Wake,
    /// Whether a started app is ready.
    Readiness,
    /// An idle app is put to sleep.
    Stop,
    /// What apps there are.
    List,
}

impl Priority {
    /// Each of them, by its number.
    pub const ALL: [Self; 4] = [Self::Wake, Self::Readiness, Self::Stop, Self::List];

    /// How long after it came a call is due.
    pub const fn slack(self) -> Duration {
        Duration::from_secs(match self {
            Self::Wake => 0,
            Self::Readiness => 5,
            Self::Stop => 60,
            Self::List => 300,
        })
    }
}

/// How often an account may be called: never more than `burst + per_minute` in any minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls per minute in the long run, at least 1.
    pub per_minute: u32,
    /// Calls at once after a rest, at least 1.
    pub burst: u32,
    /// The last so many of `burst` are for wakes alone. Less than `burst`.
    pub reserve_for_wakes: u32,
}

impl Limits {
    /// With what cannot work put right.
    fn sane(self) -> Self {
        let burst = self.burst.max(1);
        Self {
            per_minute: self.per_minute.max(1),
            burst,
            reserve_for_wakes: self.reserve_for_wakes.min(burst - 1),
        }
    }
}

/// One token. With it, one millisecond refills `per_minute`, and no arithmetic rounds.
const TOKEN: u64 = 60_000;

/// So many wakes in a row may pass somebody who is overdue; then it has one token of the wakes' reserve. Without this,
/// wakes at the refill rate would keep the bucket below the reserve, and the others from ever going.
const PATIENCE: u32 = 4;

/// In the order in which they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiter {
    since: u64,
    id: u64,
}

/// What the provider says is left in its own pool.
#[derive(Clone, Copy, Debug)]
struct Pool {
    left: u64,
    reserve: u64,
}

/// The pure half: all times are milliseconds since one same moment.
#[derive(Clone, Debug)]
struct Bucket {
    limits: Limits,
    tokens: u64,
    /// Up to when `tokens` is counted; lies ahead during a pause.
    counted: u64,
    /// When the latest pause ends. Wakes that came before go first.
    resumes: Option<u64>,
    pool: Option<Pool>,
    /// Of each priority, first come, first served: the head is the one that is due first.
    queues: [VecDeque<Waiter>; 4],
    passed: u32,
    next_id: u64,
}

impl Bucket {
    fn new(limits: Limits) -> Self {
        let limits = limits.sane();
        Self {
            limits,
            tokens: u64::from(limits.burst) * TOKEN,
            counted: 0,
            resumes: None,
            pool: None,
            queues: Default::default(),
            passed: 0,
            next_id: 0,
        }
    }

    fn limit(&mut self, limits: Limits, now: u64) {
        self.refill(now);
        self.limits = limits.sane();
        self.tokens = self.tokens.min(self.full());
    }

    fn full(&self) -> u64 {
        u64::from(self.limits.burst) * TOKEN
    }

    fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.counted).saturating_mul(u64::from(self.limits.per_minute));
        self.tokens = self.tokens.saturating_add(gained).min(self.full());
        if let Some(pool) = &mut self.pool {
            pool.left = pool.left.saturating_add(gained);
        }
        self.counted = self.counted.max(now);
    }

    /// Somebody who counts as having come at `since`.
    fn enqueue(&mut self, priority: Priority, since: u64) -> Waiter {
        let waiter = Waiter { since, id: self.next_id };
        self.next_id += 1;
        self.put_back(priority, waiter);
        waiter
    }

    /// Puts somebody where it belongs: those who came first are in front.
    fn put_back(&mut self, priority: Priority, waiter: Waiter) {
        let queue = &mut self.queues[priority as usize];
        let place = queue.partition_point(|other| *other < waiter);
        queue.insert(place, waiter);
    }

    /// Takes somebody out of the queue; false if it is not there.
    fn leave(&mut self, priority: Priority, waiter: Waiter) -> bool {
        let queue = &mut self.queues[priority as usize];
        queue.binary_search(&waiter).is_ok_and(|place| queue.remove(place).is_some())
    }

    /// Nobody goes before `until`. Then the bucket is empty: the provider has just said that we were too fast.
    fn pause(&mut self, until: u64, now: u64) {
        self.refill(now);
        self.resumes = self.resumes.max(Some(until));
        self.counted = self.counted.max(until);
        self.tokens = 0;
        self.passed = 0;
    }

    /// What remains is counted up as our own bucket is: were it not, and no wake came to hear of it anew, nobody else would
    /// ever go again.
    fn believe(&mut self, remaining: u32, reserve: u32, now: u64) {
        self.refill(now);
        self.pool = Some(Pool { left: u64::from(remaining) * TOKEN, reserve: u64::from(reserve) * TOKEN });
    }

    fn give_back(&mut self) {
        self.tokens = self.tokens.saturating_add(TOKEN).min(self.full());
    }

    fn head(&self, priority: Priority) -> Option<(u64, Waiter)> {
        let waiter = *self.queues[priority as usize].front()?;
        Some((waiter.since.saturating_add(millis(priority.slack())), waiter))
    }

    /// The one that is overdue and was passed by wakes too often.
    fn owed(&self, now: u64) -> Option<Priority> {
        if self.passed < PATIENCE {
            return None;
        }
        let others = Priority::ALL.into_iter().skip(1);
        let heads = others.filter_map(|priority| Some((self.head(priority)?.0, priority)));
        heads.filter(|(due, _)| *due <= now).min().map(|(_, priority)| priority)
    }

    /// From when on there is a token for this priority.
    fn ready_at(&self, priority: Priority, owed: Option<Priority>, now: u64) -> u64 {
        let from = now.max(self.counted);
        let after = |missing: u64| from.saturating_add(missing.div_ceil(u64::from(self.limits.per_minute)));
        let spared = match priority {
            Priority::Wake => 0,
            other if owed == Some(other) => 0,
            _ => u64::from(self.limits.reserve_for_wakes),
        };
        let own = after(((spared + 1) * TOKEN).saturating_sub(self.tokens));
        match self.pool {
            Some(pool) if priority != Priority::Wake => {
                own.max(after(pool.reserve.saturating_sub(pool.left)))
            }
            _ => own,
        }
    }

    /// Who goes next, and when; the bucket is refilled up to `now`.
    fn next(&self, now: u64) -> Option<(u64, Priority)> {
        let owed = self.owed(now);
        let waiting = || Priority::ALL.into_iter().filter_map(|p| Some((p, self.head(p)?)));
        let at = waiting().map(|(p, _)| self.ready_at(p, owed, now)).min()?;
        waiting()
            .filter(|(p, _)| self.ready_at(*p, owed, now) <= at)
            .min_by_key(|(p, (due, waiter))| {
                let held_up = *p == Priority::Wake && self.resumes.is_some_and(|end| waiter.since <= end);
                (!held_up, owed != Some(*p), *due, *p)
            })
            .map(|(p, _)| (at, p))
    }

    fn take(&mut self, priority: Priority, now: u64) -> Option<Waiter> {
        let waiter = self.queues[priority as usize].pop_front()?;
        self.tokens = self.tokens.saturating_sub(TOKEN);
        if let Some(pool) = &mut self.pool {
            pool.left = pool.left.saturating_sub(TOKEN);
        }
        let passes = |p| self.head(p).is_some_and(|(due, _)| due <= now && due < waiter.since);
        if priority != Priority::Wake {
            self.passed = 0;
        } else if Priority::ALL.into_iter().skip(1).any(passes) {
            self.passed = self.passed.saturating_add(1);
        }
        Some(waiter)
    }

    /// Lets go whoever may at `now`.
    fn settle(&mut self, now: u64) -> Vec<(Priority, Waiter)> {
        self.refill(now);
        let mut gone = Vec::new();
        while let Some((at, priority)) = self.next(now)
            && at <= now
            && let Some(waiter) = self.take(priority, now)
        {
            gone.push((priority, waiter));
        }
        gone
    }

    /// How long `id` will wait if nobody else comes: all that lies ahead is played through.
    fn wait_of(&self, id: u64, now: u64) -> Duration {
        let mut ahead = self.clone();
        ahead.refill(now);
        let mut then = now;
        while let Some((at, priority)) = ahead.next(then) {
            then = at;
            ahead.refill(then);
            if ahead.take(priority, then).is_none_or(|waiter| waiter.id == id) {
                return Duration::from_millis(then - now);
            }
        }
        Duration::ZERO
    }

    fn estimate(&self, priority: Priority, now: u64) -> Duration {
        let mut with = self.clone();
        let id = with.enqueue(priority, now).id;
        with.wait_of(id, now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is called with the estimate of whoever has to wait.
pub type OnWait<'a> = &'a (dyn Fn(Duration) + Send + Sync);

/// Whoever waits is told again at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Whoever is not the next looks this long after the next one should have gone.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// A long wait changes slowly, and an estimate costs as much as there are others who wait.
fn tell_after(told: Duration) -> Duration {
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

    fn ring_all(&self) {
        self.bells.values().for_each(|bell| bell.notify_one());
    }
}

impl Budget {
    /// A full bucket.
    pub fn new(limits: Limits) -> Self {
        let state = State { bucket: Bucket::new(limits), granted: Vec::new(), bells: HashMap::new() };
        Self { origin: Instant::now(), state: Mutex::new(state) }
    }

    /// Returns when a call may be made. `since` is when what it belongs to began, if that was earlier: the second call of a
    /// wake goes before the first of a later one. `on_wait` is called with the estimate if it has to wait, and again (each
    /// second at most) when the estimate is another by a fifth. Dropping the future leaves the queue.
    pub async fn acquire(&self, priority: Priority, since: Option<Instant>, on_wait: Option<OnWait<'_>>) {
        let since = since
            .map_or(self.now(), |since| millis(since.saturating_duration_since(self.origin)).min(self.now()));
        let bell = Arc::new(Notify::new());
        let me = {
            let mut state = self.lock();
            let me = state.bucket.enqueue(priority, since);
            state.bells.insert(me.id, bell.clone());
            me
        };
        let mut place = Place { budget: self, priority, me, gone: false };
        let mut told: Option<(Instant, Duration)> = None;
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
                let listens =
                    on_wait.is_some() && told.is_none_or(|(at, before)| at.elapsed() >= tell_after(before));
                (state.next(now), listens.then(|| state.bucket.wait_of(me.id, now)))
            };
            if let (Some(on_wait), Some(wait)) = (on_wait, wait) {
                let news = told.is_none_or(|(_, before)| wait.abs_diff(before) >= tell_after(before));
                if news {
                    on_wait(wait);
                }
                told =
                    Some((Instant::now(), if news { wait } else { told.map_or(wait, |(_, before)| before) }));
            }
            // The next one watches the clock for all. The others look now and then: nobody may be polling it.
            let until = match next {
                Some((at, waiter)) if waiter == me => self.instant(at),
                Some((at, _)) => self.instant(at) + LOOK_AFTER.mul_f64(0.5 + fastrand::f64()),
                None => Instant::now() + LOOK_AFTER,
            };
            let until = match told {
                Some((at, before)) => until.min(at + tell_after(before)),
                None => until,
            };
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
        state.ring_all();
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
        state.ring_all();
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
