//! What a schedule wants of an app at this moment: kept warm, kept asleep, or nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::routing::schedule::{Schedule, Standing, WhileAsleep};

/// An app that is to be awake at eight is woken so much earlier at least.
pub const AHEAD_AT_LEAST: Duration = Duration::from_secs(5);

/// The same of an app that was never seen to boot.
pub const AHEAD_AT_FIRST: Duration = Duration::from_secs(30);

/// A page of a timetable without an end is looked up again after so long: nothing else may hold within a year.
const READ_AGAIN: u64 = 24 * 3_600_000;

/// What a schedule wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Nothing.
    Free,
    /// The app is awake, or on its way.
    Warm,
    /// The app sleeps.
    Closed {
        /// What becomes of whoever asks for it.
        wake: WhileAsleep,
        /// When this is over, in milliseconds since 1970; `None` if never, or not within a year.
        opens: Option<u64>,
    },
}

/// The window of now, so that the calendar is only asked when it is over.
#[derive(Default)]
pub struct Timetable(Mutex<Option<Page>>);

#[derive(Clone)]
struct Page {
    of: Arc<Schedule>,
    from: u64,
    until: u64,
    standing: Standing,
    next: Option<(u64, Standing)>,
    opens: Option<u64>,
}

impl Timetable {
    /// What `schedule` wants at `at`, in milliseconds since 1970, of an app that boots within `ahead`.
    pub fn stance(&self, schedule: &Arc<Schedule>, at: u64, ahead: Duration) -> Stance {
        let page = self.page(schedule, at);
        match page.standing {
            Standing::Awake => Stance::Warm,
            _ if begins_within(page.next.as_ref(), at, ahead) => Stance::Warm,
            Standing::Free => Stance::Free,
            Standing::Asleep(wake) => Stance::Closed { wake, opens: page.opens },
        }
    }

    /// The first moment after `at` at which something else holds, and what.
    pub fn next(&self, schedule: &Arc<Schedule>, at: u64) -> Option<(u64, Standing)> {
        self.page(schedule, at).next
    }

    fn page(&self, schedule: &Arc<Schedule>, at: u64) -> Page {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |page: &&Page| Arc::ptr_eq(&page.of, schedule) && (page.from..page.until).contains(&at);
        if let Some(page) = open.as_ref().filter(fits) {
            return page.clone();
        }
        let next = schedule.next(at);
        let until = next.as_ref().map_or(at.saturating_add(READ_AGAIN), |(until, _)| *until);
        let page = Page {
            of: schedule.clone(),
            from: at,
            until,
            standing: schedule.standing(at),
            opens: schedule.opens(at),
            next,
        };
        *open = Some(page.clone());
        page
    }
}

fn begins_within(next: Option<&(u64, Standing)>, at: u64, ahead: Duration) -> bool {
    let ahead = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
    next.is_some_and(|(begins, standing)| *standing == Standing::Awake && begins.saturating_sub(at) <= ahead)
}

/// Whether the same window holds now in which the app was kept asleep `then` already.
pub fn same_rest(schedule: &Schedule, then: u64, now: u64) -> bool {
    matches!(schedule.standing(then), Standing::Asleep(_)) && then <= now && ends(schedule, then) > now
}

/// Whether the same window holds now for which the app was kept warm `then` already.
pub fn same_warmth(schedule: &Schedule, then: u64, now: u64, ahead: Duration) -> bool {
    let end = |at: u64| match schedule.standing(at) {
        Standing::Awake => Some(ends(schedule, at)),
        _ => schedule
            .next(at)
            .filter(|next| begins_within(Some(next), at, ahead))
            .map(|(begins, _)| ends(schedule, begins)),
    };
    end(then).is_some_and(|then| end(now) == Some(then))
}

fn ends(schedule: &Schedule, at: u64) -> u64 {
    schedule.next(at).map_or(u64::MAX, |(end, _)| end)
}

/// How long before its window an app is woken: what nine of ten of its `boots` took at most, the latest one last.
pub fn ahead(boots: &[Duration]) -> Duration {
    let mut boots = boots.to_vec();
    boots.sort_unstable();
    let usual = (boots.len() * 9).div_ceil(10).checked_sub(1).and_then(|place| boots.get(place));
    usual.map_or(AHEAD_AT_FIRST, |usual| (*usual).max(AHEAD_AT_LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_woken_ahead_by_what_nine_of_ten_boots_took() {
        let seconds = |boots: &[u64]| boots.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(ahead(&[]), AHEAD_AT_FIRST);
        assert_eq!(ahead(&seconds(&[1, 2])), AHEAD_AT_LEAST, "quick as it is");
        assert_eq!(ahead(&seconds(&[40])), Duration::from_secs(40));
        assert_eq!(ahead(&seconds(&[90, 10, 20, 30, 40, 50, 60, 70, 80, 300])), Duration::from_secs(90));
    }
}
