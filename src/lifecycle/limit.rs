//! How often and how long an app was awake, for those whose rules limit it.

use std::{collections::VecDeque, time::Duration};

use crate::routing::rules::WakeLimits;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The wakes of the last hour and the time awake of this day, in UTC. Times are milliseconds since 1970.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usage {
    wakes: VecDeque<u64>,
    /// The day that `before` is of, counted from 1970.
    day: u64,
    /// Milliseconds awake that day, without the run of now.
    before: u64,
    /// Since when it is up.
    up: Option<u64>,
    /// The day on which it came up although its time was used up: somebody wanted it all the same.
    overridden: Option<u64>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Wakes in the last sixty minutes.
    WakesPerHour,
    /// Time awake since midnight.
    AwakePerDay,
}

impl Reached {
    /// The key in a rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WakesPerHour => "wakes_per_hour",
            Self::AwakePerDay => "awake_hours_per_day",
        }
    }
}

impl Usage {
    /// It is woken, by whomever.
    pub fn woke(&mut self, at: u64) {
        self.wakes.push_back(at);
        self.forget(at);
    }

    /// It is on its way up.
    pub fn up(&mut self, at: u64) {
        self.turn_page(at);
        self.up.get_or_insert(at);
    }

    /// It does not run any more.
    pub fn down(&mut self, at: u64) {
        self.turn_page(at);
        if let Some(since) = self.up.take() {
            self.before += at.saturating_sub(since.max(self.day * DAY));
        }
        self.overridden = None;
    }

    /// It is awake from now on: if its time was used up before, that was on purpose.
    pub fn awake(&mut self, limits: &WakeLimits, at: u64) {
        self.overridden = self.is_used_up(limits, at).then_some(at / DAY);
    }

    /// The day on which the run of now was wanted against the limits, if it was.
    pub fn overridden(&self) -> Option<u64> {
        self.overridden
    }

    /// The same, to be set.
    pub fn set_overridden(&mut self, overridden: Option<u64>) {
        self.overridden = overridden;
    }

    /// What was before this gateway began, as the history tells it.
    pub fn recall(&mut self, wakes: Vec<u64>, awake_today: Duration, now: u64) {
        self.turn_page(now);
        self.before += u64::try_from(awake_today.as_millis()).unwrap_or(u64::MAX).min(DAY);
        self.wakes.extend(wakes);
        self.wakes.make_contiguous().sort_unstable();
        self.forget(now);
    }

    /// Its time awake since midnight (UTC).
    pub fn awake_today(&self, now: u64) -> Duration {
        let (day, midnight) = (now / DAY, now / DAY * DAY);
        let before = if day == self.day { self.before } else { 0 };
        let run = self.up.map_or(0, |since| now.saturating_sub(since.max(midnight)));
        Duration::from_millis(before.saturating_add(run))
    }

    /// Its wakes in the last sixty minutes.
    pub fn wakes(&self, now: u64) -> usize {
        self.wakes.iter().filter(|at| **at + HOUR > now).count()
    }

    /// Which limit forbids a wake now, and for how long. The later of two.
    pub fn refuses(&self, limits: &WakeLimits, now: u64) -> Option<(Reached, Duration)> {
        let day = self
            .is_used_up(limits, now)
            .then(|| (Reached::AwakePerDay, Duration::from_millis(DAY - now % DAY)));
        let hour = limits.wakes_per_hour.and_then(|most| {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let lately: Vec<u64> = self.wakes.iter().copied().filter(|at| at + HOUR > now).collect();
            // Of so many, the first of the latest has to be an hour ago. None at all are never allowed.
            let first = lately.len().checked_sub(most)?;
            let over = lately.get(first).map_or(HOUR, |at| at + HOUR - now);
            Some((Reached::WakesPerHour, Duration::from_millis(over)))
        });
        day.into_iter().chain(hour).max_by_key(|(_, wait)| *wait)
    }

    /// How long it may yet be awake today, if that is limited.
    pub fn left_today(&self, limits: &WakeLimits, now: u64) -> Option<Duration> {
        limits.awake_per_day.map(|most| most.saturating_sub(self.awake_today(now)))
    }

    /// Whether it is to sleep because its time of today is used up.
    pub fn is_over(&self, limits: &WakeLimits, now: u64) -> bool {
        self.overridden != Some(now / DAY) && self.is_used_up(limits, now)
    }

    /// Whether it may not be woken any more today.
    pub fn is_used_up(&self, limits: &WakeLimits, now: u64) -> bool {
        limits.awake_per_day.is_some_and(|most| self.awake_today(now) >= most)
    }

    fn turn_page(&mut self, now: u64) {
        if self.day != now / DAY {
            (self.day, self.before) = (now / DAY, 0);
        }
    }

    fn forget(&mut self, now: u64) {
        while self.wakes.front().is_some_and(|at| at + HOUR <= now) {
            self.wakes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn hours(hours: u64) -> Option<Duration> {
        Some(Duration::from_millis(hours * HOUR))
    }

    #[test]
    fn a_wake_is_refused_until_the_first_of_the_latest_was_an_hour_ago() {
        let limits = WakeLimits { wakes_per_hour: Some(2), awake_per_day: None };
        let mut usage = Usage::default();
        usage.woke(10 * MINUTE);
        assert_eq!(usage.refuses(&limits, 20 * MINUTE), None);
        usage.woke(30 * MINUTE);
        let left = Duration::from_millis(30 * MINUTE);
        assert_eq!(usage.refuses(&limits, 40 * MINUTE), Some((Reached::WakesPerHour, left)));
        assert_eq!(usage.refuses(&limits, 70 * MINUTE), None, "exactly when it was said");
        usage.woke(71 * MINUTE);
        let left = Duration::from_millis(18 * MINUTE);
        assert_eq!(usage.refuses(&limits, 72 * MINUTE), Some((Reached::WakesPerHour, left)));
        let never = WakeLimits { wakes_per_hour: Some(0), awake_per_day: None };
        assert!(Usage::default().refuses(&never, 5).is_some());
    }

    #[test]
    fn time_awake_is_counted_from_midnight_to_midnight() {
        let limits = WakeLimits { wakes_per_hour: None, awake_per_day: hours(8) };
        let (monday, mut usage) = (20_000 * DAY, Usage::default());
        usage.up(monday + 20 * HOUR);
        assert_eq!(Some(usage.awake_today(monday + 23 * HOUR)), hours(3));
        let tuesday = monday + DAY;
        assert_eq!(Some(usage.awake_today(tuesday + 2 * HOUR)), hours(2), "Monday's hours are Monday's");
        usage.down(tuesday + 3 * HOUR);
        usage.up(tuesday + 10 * HOUR);
        assert!(!usage.is_over(&limits, tuesday + 15 * HOUR - 1));
        assert_eq!(Some(usage.left_today(&limits, tuesday + 14 * HOUR).unwrap()), hours(1));
        assert!(usage.is_over(&limits, tuesday + 15 * HOUR), "three hours of the night, five of the day");
        usage.down(tuesday + 15 * HOUR);
        let until_midnight = hours(8).unwrap();
        assert_eq!(usage.refuses(&limits, tuesday + 16 * HOUR), Some((Reached::AwakePerDay, until_midnight)));
        assert_eq!(usage.refuses(&limits, tuesday + 24 * HOUR), None);
    }

    #[test]
    fn whoever_wakes_it_when_its_time_is_used_up_is_not_contradicted() {
        let limits = WakeLimits { wakes_per_hour: None, awake_per_day: hours(1) };
        let mut usage = Usage::default();
        usage.recall(vec![], Duration::from_secs(3600), 5 * HOUR);
        assert!(usage.refuses(&limits, 5 * HOUR).is_some(), "what was before this gateway began counts");
        usage.up(6 * HOUR);
        usage.awake(&limits, 6 * HOUR);
        assert!(!usage.is_over(&limits, 7 * HOUR) && usage.is_used_up(&limits, 7 * HOUR));
        usage.down(7 * HOUR);
        assert!(usage.is_over(&limits, 7 * HOUR));
    }

    #[test]
    fn whoever_wakes_it_on_one_day_says_nothing_of_the_next() {
        let limits = WakeLimits { wakes_per_hour: None, awake_per_day: hours(1) };
        let mut usage = Usage::default();
        usage.recall(vec![], Duration::from_secs(3600), 5 * HOUR);
        usage.up(22 * HOUR);
        usage.awake(&limits, 22 * HOUR);
        assert!(!usage.is_over(&limits, 24 * HOUR - 1) && !usage.is_over(&limits, 24 * HOUR));
        assert!(usage.is_over(&limits, 25 * HOUR), "an hour of the new day");
    }

    #[test]
    fn what_history_knows_of_wakes_is_put_in_order() {
        let limits = WakeLimits { wakes_per_hour: Some(2), awake_per_day: None };
        let mut usage = Usage::default();
        usage.woke(100 * MINUTE);
        usage.recall(vec![90 * MINUTE, 5 * MINUTE], Duration::ZERO, 101 * MINUTE);
        assert_eq!(usage.wakes(101 * MINUTE), 2);
        assert!(usage.refuses(&limits, 101 * MINUTE).is_some());
    }
}
