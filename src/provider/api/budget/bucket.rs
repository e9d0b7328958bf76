//! `Bucket`: who goes next, and when. A token bucket with a queue; pure: it is told the time.

use std::{collections::VecDeque, time::Duration};

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
pub struct Waiter {
    since: u64,
    pub id: u64,
}

/// What the provider says is left in its own pool.
#[derive(Clone, Copy, Debug)]
struct Pool {
    left: u64,
    reserve: u64,
}

/// All times are milliseconds since one same moment.
#[derive(Clone, Debug)]
pub struct Bucket {
    limits: Limits,
    tokens: u64,
    /// Up to when `tokens` is counted; lies ahead during a pause.
    counted: u64,
    /// When the latest pause ends. Wakes that came before go first.
    resumes: Option<u64>,
    pool: Option<Pool>,
    /// Until when the bucket that gateways share has nothing for each priority.
    holds: [u64; 4],
    /// How many gateways waited for that bucket when it last had nothing.
    sharers: u64,
    /// Of each priority, first come, first served: the head is the one that is due first.
    queues: [VecDeque<Waiter>; 4],
    passed: u32,
    next_id: u64,
}

impl Bucket {
    pub fn new(limits: Limits) -> Self {
        let limits = limits.sane();
        Self {
            limits,
            tokens: u64::from(limits.burst) * TOKEN,
            counted: 0,
            resumes: None,
            pool: None,
            holds: [0; 4],
            sharers: 0,
            queues: Default::default(),
            passed: 0,
            next_id: 0,
        }
    }

    pub fn limit(&mut self, limits: Limits, now: u64) {
        self.refill(now);
        self.limits = limits.sane();
        self.release();
        self.tokens = self.tokens.min(self.full());
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn full(&self) -> u64 {
        u64::from(self.limits.burst) * TOKEN
    }

    pub fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.counted).saturating_mul(u64::from(self.limits.per_minute));
        self.tokens = self.tokens.saturating_add(gained).min(self.full());
        if let Some(pool) = &mut self.pool {
            pool.left = pool.left.saturating_add(gained);
        }
        self.counted = self.counted.max(now);
    }

    /// Somebody who counts as having come at `since`.
    pub fn enqueue(&mut self, priority: Priority, since: u64) -> Waiter {
        let waiter = Waiter { since, id: self.next_id };
        self.next_id += 1;
        self.put_back(priority, waiter);
        waiter
    }

    /// Puts somebody where it belongs: those who came first are in front.
    pub fn put_back(&mut self, priority: Priority, waiter: Waiter) {
        let queue = &mut self.queues[priority as usize];
        let place = queue.partition_point(|other| *other < waiter);
        queue.insert(place, waiter);
    }

    /// Takes somebody out of the queue; false if it is not there.
    pub fn leave(&mut self, priority: Priority, waiter: Waiter) -> bool {
        let queue = &mut self.queues[priority as usize];
        queue.binary_search(&waiter).is_ok_and(|place| queue.remove(place).is_some())
    }

    /// Nobody goes before `until`. Then the bucket is empty: the provider has just said that we were too fast. Returns
    /// whether nobody knew yet that it takes so long.
    pub fn pause(&mut self, until: u64, now: u64) -> bool {
        self.refill(now);
        let news = self.resumes < Some(until);
        self.resumes = self.resumes.max(Some(until));
        self.counted = self.counted.max(until);
        self.tokens = 0;
        self.passed = 0;
        news
    }

    /// The bucket that gateways share has nothing for this priority before `until`; `sharers` wait for it.
    pub fn hold(&mut self, priority: Priority, until: u64, sharers: u32) {
        self.holds[priority as usize] = until;
        self.sharers = u64::from(sharers).max(1);
    }

    /// Nothing is known of the bucket that gateways share.
    pub fn release(&mut self) {
        self.holds = [0; 4];
        self.sharers = 0;
    }

    /// How long one of several gateways waits between two of its calls.
    pub fn pace(&self) -> u64 {
        (self.sharers * TOKEN).div_ceil(u64::from(self.limits.per_minute))
    }

    /// Whether the bucket that gateways share was found empty, not longer ago than it takes to hear of it anew.
    fn contended(&self, now: u64) -> bool {
        let latest = self.holds.into_iter().max().unwrap_or(0);
        latest > 0 && latest.saturating_add(self.pace()) >= now
    }

    /// What remains is counted up as our own bucket is: were it not, and no wake came to hear of it anew, nobody else would
    /// ever go again.
    pub fn believe(&mut self, remaining: u32, reserve: u32, now: u64) {
        self.refill(now);
        self.pool = Some(Pool { left: u64::from(remaining) * TOKEN, reserve: u64::from(reserve) * TOKEN });
    }

    pub fn give_back(&mut self) {
        self.tokens = self.tokens.saturating_add(TOKEN).min(self.full());
    }

    pub fn head(&self, priority: Priority) -> Option<(u64, Waiter)> {
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
        let own =
            after(((spared + 1) * TOKEN).saturating_sub(self.tokens)).max(self.holds[priority as usize]);
        match self.pool {
            Some(pool) if priority != Priority::Wake => {
                own.max(after(pool.reserve.saturating_sub(pool.left)))
            }
            _ => own,
        }
    }

    /// Who goes next, and when; the bucket is refilled up to `now`.
    pub fn next(&self, now: u64) -> Option<(u64, Priority)> {
        self.next_among(&Priority::ALL, now)
    }

    fn next_among(&self, priorities: &[Priority], now: u64) -> Option<(u64, Priority)> {
        let owed = self.owed(now);
        let waiting = || priorities.iter().filter_map(|p| Some((*p, self.head(*p)?)));
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
    pub fn settle(&mut self, now: u64) -> Vec<(Priority, Waiter)> {
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

    /// Lets go whoever is to have a token that was got from the bucket that gateways share, for somebody of this priority.
    /// A wake that came meanwhile goes before a list; but a list does not go with what may be of the wakes' reserve.
    pub fn settle_one(&mut self, priority: Priority, now: u64) -> Option<(Priority, Waiter)> {
        self.refill(now);
        let holds = std::mem::take(&mut self.holds);
        let next = self.next_among(&Priority::ALL[..=priority as usize], now);
        self.holds = holds;
        let (_, priority) = next.filter(|(at, _)| *at <= now)?;
        Some((priority, self.take(priority, now)?))
    }

    /// How long `id` will wait if nobody else comes: all that lies ahead is played through. Where other gateways wait too,
    /// they are taken to go on waiting.
    pub fn wait_of(&self, id: u64, now: u64) -> Duration {
        let mut ahead = self.clone();
        ahead.refill(now);
        let contended = ahead.contended(now);
        let mut then = now;
        while let Some((at, priority)) = ahead.next(then) {
            then = at;
            ahead.refill(then);
            if ahead.take(priority, then).is_none_or(|waiter| waiter.id == id) {
                return Duration::from_millis(then - now);
            }
            if contended {
                let after = then.saturating_add(ahead.pace());
                ahead.holds.iter_mut().for_each(|hold| *hold = after.max(*hold));
            }
        }
        Duration::ZERO
    }

    pub fn estimate(&self, priority: Priority, now: u64) -> Duration {
        let mut with = self.clone();
        let id = with.enqueue(priority, now).id;
        with.wait_of(id, now)
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
