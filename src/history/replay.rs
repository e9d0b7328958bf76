//! What another idle time would have done: the recorded minutes of traffic, played again.
//!
//! As exact as the record is: to the minute. It knows nothing of schedules, groups, limits and visitors who gave up, and takes a
//! wake for no time at all. Hours that no gateway saw are left out of both sides; after one, the app counts as awake.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Tally,
    tally::{HOUR, Hour},
};
use crate::app::AppId;

const MINUTE: u64 = 60_000;

/// What another idle time would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhatIf {
    /// That idle time, in seconds.
    pub idle_timeout_seconds: u64,
    /// Of all apps together.
    pub total: Replayed,
    /// App by app.
    pub apps: Vec<AppReplayed>,
    /// What to know of these figures.
    pub notes: Vec<String>,
}

/// What was, and what would have been, of one app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AppReplayed {
    /// Which.
    #[schema(value_type = String)]
    pub app: AppId,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Replayed,
}

/// What was, and what would have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Seconds asleep, as it was.
    pub asleep_seconds: u64,
    /// Wakes, as it was.
    pub wakes: u64,
    /// Seconds asleep with the other idle time.
    pub asleep_seconds_then: u64,
    /// Wakes with the other idle time.
    pub wakes_then: u64,
}

impl Replayed {
    pub(super) fn add(&mut self, other: &Self) {
        self.asleep_seconds += other.asleep_seconds;
        self.wakes += other.wakes;
        self.asleep_seconds_then += other.asleep_seconds_then;
        self.wakes_then += other.wakes_then;
    }
}

/// Plays the hours of one app again, in their order, with this idle time, up to `now`.
pub fn replay(hours: &[(u64, Tally)], idle: Duration, now: u64) -> Replayed {
    let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let mut played = Replayed::default();
    // When the app was last used, in the stretch of hours that follow each other.
    let mut used: Option<u64> = None;
    let mut until = 0;
    for (at, tally) in hours {
        let length = now.saturating_sub(*at).min(HOUR);
        played.asleep_seconds +=
            length / 1000 - u64::from(Hour::new(*at, tally, now).awake_seconds).min(length / 1000);
        played.wakes += u64::from(tally.wakes);
        if let Some(last) = used.take_if(|_| *at != until) {
            played.asleep_seconds_then += slept(last, until, idle);
        }
        for minute in (0..60).filter(|minute| tally.minutes >> minute & 1 == 1) {
            let begins = at + minute * MINUTE;
            // It may have ended anywhere in the minute: at its end, so that no sleep is invented.
            let last = used.replace(begins + MINUTE).unwrap_or(*at);
            let asleep = slept(last, begins, idle);
            played.asleep_seconds_then += asleep;
            played.wakes_then += u64::from(asleep > 0);
        }
        used.get_or_insert(*at);
        until = at + length;
    }
    if let Some(last) = used {
        played.asleep_seconds_then += slept(last, until, idle);
    }
    played
}

/// The seconds asleep of an app that was last used then and next used at `next`.
fn slept(last: u64, next: u64, idle: u64) -> u64 {
    next.saturating_sub(last).saturating_sub(idle) / 1000
}

/// What to know of a replay with this idle time.
pub(super) fn notes(idle: Duration) -> Vec<String> {
    let mut notes = vec![
        "traffic is recorded by the minute, so each use counts to the end of its minute; schedules, groups, limits, the time a wake takes and visitors who gave up are not replayed".to_owned(),
    ];
    if idle < Duration::from_secs(120) {
        notes.push(
            "an idle time below two minutes is finer than the record: take these figures as a rough idea"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tally::Spans;

    fn hour(number: u64, minutes: &[u64]) -> (u64, Tally) {
        let minutes = minutes.iter().fold(0, |mask, minute| mask | 1 << minute);
        (number * HOUR, Tally { minutes, requests: 1, ..Tally::default() })
    }

    fn then(hours: &[(u64, Tally)], minutes: u64) -> (u64, u64) {
        let played = replay(hours, Duration::from_secs(60 * minutes), 100 * HOUR);
        (played.asleep_seconds_then / 60, played.wakes_then)
    }

    #[test]
    fn an_app_sleeps_between_uses_that_are_further_apart_than_its_idle_time() {
        // Used at 0:05, 0:06 and 0:50, and then not for the rest of three hours.
        let hours = [hour(0, &[5, 6, 50]), hour(1, &[]), hour(2, &[])];
        // From 0:17 to 0:50, and from 1:01 to 3:00.
        assert_eq!(then(&hours, 10), (33 + 119, 1));
        assert_eq!(then(&hours, 60), (180 - 51 - 60, 0));
        assert_eq!(then(&hours, 1000), (0, 0));
        // Before 0:05 as well.
        assert_eq!(then(&hours, 2), (3 + 41 + 127, 2));
    }

    #[test]
    fn after_an_hour_that_nobody_saw_the_app_counts_as_awake() {
        let hours = [hour(0, &[0]), hour(5, &[59])];
        // From 0:11 to 1:00, and from 5:10 to 5:59.
        assert_eq!(then(&hours, 10), (49 + 49, 1));
    }

    #[test]
    fn what_was_is_told_beside_it_and_the_running_hour_ends_now() {
        let asleep = Tally { asleep: Spans::of(0, 600), wakes: 2, ..Tally::default() };
        let played =
            replay(&[(0, asleep.clone()), (HOUR, asleep)], Duration::from_secs(600), HOUR + 1_200_000);
        let wanted =
            Replayed { asleep_seconds: 1_200, wakes: 4, asleep_seconds_then: 70 * 60, wakes_then: 0 };
        assert_eq!(played, wanted);
    }
}
