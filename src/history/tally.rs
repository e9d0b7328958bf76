//! What is counted of one app in one hour, in a form in which the counts of several gateways become one.

use serde::{Deserialize, Serialize};

/// Milliseconds of an hour.
pub const HOUR: u64 = 3_600_000;

/// So many boots of an hour are kept for its percentiles; an app that is woken more often than once a minute has other troubles.
pub const BOOTS_KEPT: usize = 60;

/// Of one hour, the seconds for which something is known to be so: stretches from and to a second, apart and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<(u16, u16)>);

impl Spans {
    /// From this second to before that one; nothing, if that leaves none.
    pub fn of(from: u16, to: u16) -> Self {
        if from < to.min(3600) { Self(vec![(from, to.min(3600))]) } else { Self::default() }
    }

    /// The stretches.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }

    /// How many seconds it is all together.
    pub fn seconds(&self) -> u32 {
        self.0.iter().map(|(from, to)| u32::from(to - from)).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is the whole hour.
    pub fn is_whole(&self) -> bool {
        self.0 == [(0, 3600)]
    }

    /// What is known of both: every second that either has. Whoever tells it twice, or another gateway too, changes nothing.
    pub fn join(&mut self, other: &Self) {
        self.0.extend(other.0.iter().copied());
        self.0.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(self.0.len());
        for (from, to) in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        self.0 = joined;
    }
}

/// What is counted of one app in one hour.
///
/// Adding is all that is done with it. Seconds asleep and minutes of traffic are sets, so what several gateways tell of the same
/// second counts once; wakes and requests are sums, so each gateway tells only its own, and a batch is taken once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// When the app is known to have been stopped by Loir and not started: from the confirmed stop, rounded up to a second, to
    /// the start that was asked for, rounded down.
    pub asleep: Spans,
    /// Wakes that came to an answer.
    pub wakes: u32,
    /// Wakes that did not.
    pub failed_wakes: u32,
    /// How long boots took, in milliseconds; [`BOOTS_KEPT`] at most.
    pub boots: Vec<u32>,
    /// Requests that ended.
    pub requests: u64,
    /// Minutes in which the app was used: bit 0 is the first.
    pub minutes: u64,
}

impl Tally {
    /// Whether it says nothing: the hour was seen, and the app was awake and unused.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it has something that may be told once only.
    pub fn adds(&self) -> bool {
        self.wakes > 0
            || self.failed_wakes > 0
            || self.requests > 0
            || self.minutes > 0
            || !self.boots.is_empty()
    }

    /// What is known of both.
    pub fn add(&mut self, other: &Self) {
        self.asleep.join(&other.asleep);
        self.wakes = self.wakes.saturating_add(other.wakes);
        self.failed_wakes = self.failed_wakes.saturating_add(other.failed_wakes);
        let room = BOOTS_KEPT.saturating_sub(self.boots.len());
        self.boots.extend(other.boots.iter().take(room));
        self.requests = self.requests.saturating_add(other.requests);
        self.minutes |= other.minutes;
    }
}

/// An hour of an app, by the clock in UTC. Hours of which nothing is known are not there: then no gateway was watching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hour {
    /// When it began: wall-clock milliseconds since 1970, a whole hour.
    pub at: u64,
    /// How many seconds of it the app was awake, or not known to be asleep. Asleep is it from the stop that its provider confirmed to
    /// the start that was asked for.
    pub awake_seconds: u32,
    /// How often it was woken.
    pub wakes: u32,
    /// How many wakes failed, beside those.
    pub failed_wakes: u32,
    /// The median of its boots, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_p50: Option<u64>,
    /// What 95 of 100 boots took at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_p95: Option<u64>,
    /// Requests, of all gateways together.
    pub requests: u64,
    /// In how many of its minutes the app was used.
    #[serde(default)]
    pub busy_minutes: u32,
}

impl Hour {
    /// The hour that begins at `at`, as seen at `now`, which may be in the middle of it.
    pub fn new(at: u64, tally: &Tally, now: u64) -> Self {
        let passed = u32::try_from(now.saturating_sub(at).min(HOUR) / 1000).unwrap_or(3600);
        Self {
            at,
            awake_seconds: passed.saturating_sub(tally.asleep.seconds()),
            wakes: tally.wakes,
            failed_wakes: tally.failed_wakes,
            boot_p50: percentile(&tally.boots, 50),
            boot_p95: percentile(&tally.boots, 95),
            requests: tally.requests,
            busy_minutes: tally.minutes.count_ones(),
        }
    }
}

/// The smallest of these that `percent` of 100 of them do not exceed.
pub fn percentile(all: &[u32], percent: usize) -> Option<u64> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|millis| u64::from(*millis))
}

/// Cuts the stretch from one moment to another (milliseconds) into hours: when each begins, and its whole seconds within.
pub fn by_the_hour(from: u64, to: u64) -> impl Iterator<Item = (u64, Spans)> {
    let (from, to) = (from.div_ceil(1000), to / 1000);
    (from / 3600..to.div_ceil(3600)).filter_map(move |hour| {
        let second =
            |moment: u64| u16::try_from(moment.saturating_sub(hour * 3600).min(3600)).unwrap_or(3600);
        let spans = Spans::of(second(from), second(to));
        (!spans.is_empty()).then_some((hour * HOUR, spans))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_two_gateways_saw_of_the_same_sleep_counts_once() {
        let mut one = Spans::of(0, 600);
        one.join(&Spans::of(500, 900));
        one.join(&Spans::of(0, 600));
        one.join(&Spans::of(1000, 1001));
        assert_eq!(one.iter().collect::<Vec<_>>(), [(0, 900), (1000, 1001)]);
        assert_eq!(one.seconds(), 901);
        one.join(&Spans::of(0, 3600));
        assert!(one.is_whole());
    }

    #[test]
    fn a_sleep_is_cut_into_hours_and_never_rounded_up() {
        let hours: Vec<_> = by_the_hour(HOUR - 1_500, 2 * HOUR + 1_999).collect();
        assert_eq!(
            hours,
            [(0, Spans::of(3599, 3600)), (HOUR, Spans::of(0, 3600)), (2 * HOUR, Spans::of(0, 1))]
        );
        assert_eq!(
            by_the_hour(100, 900).count()
                + by_the_hour(5_000, 5_000).count()
                + by_the_hour(9_000, 1_000).count(),
            0
        );
    }

    #[test]
    fn percentiles_are_boots_that_were_measured() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 95), Some(7));
        let boots: Vec<u32> = (1..=20).rev().collect();
        assert_eq!((percentile(&boots, 50), percentile(&boots, 95)), (Some(10), Some(19)));
    }

    fn spans() -> impl Strategy<Value = Spans> {
        proptest::collection::vec((0u16..3600, 1u16..900), 0..5).prop_map(|all| {
            let mut spans = Spans::default();
            for (from, length) in all {
                spans.join(&Spans::of(from, from + length));
            }
            spans
        })
    }

    proptest! {
        #[test]
        fn in_whatever_order_and_however_often_sleeps_are_told_they_are_the_same(a in spans(), b in spans(), c in spans()) {
            let join = |all: &[&Spans]| {
                let mut joined = Spans::default();
                all.iter().for_each(|one| joined.join(one));
                joined
            };
            prop_assert_eq!(join(&[&a, &b, &c]), join(&[&c, &a, &b, &a]));
            prop_assert!(join(&[&a, &b]).seconds() <= a.seconds() + b.seconds());
            prop_assert!(join(&[&a, &b, &c]).seconds() <= 3600);
        }

        #[test]
        fn hours_of_a_sleep_are_as_long_as_the_sleep(from in 0u64..10 * HOUR, length in 0u64..50 * HOUR) {
            let seconds: u64 = by_the_hour(from, from + length).map(|(_, spans)| u64::from(spans.seconds())).sum();
            prop_assert_eq!(seconds, ((from + length) / 1000).saturating_sub(from.div_ceil(1000)));
        }
    }
}
