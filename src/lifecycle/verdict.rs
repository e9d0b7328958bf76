//! What is to be done about an app at this moment, by its rules and by who used it: the one answer that the sweep acts on and
//! that people are shown.

use std::{sync::Arc, time::Duration};

use super::{
    Cause, ManagedApp, Refusal, Settings,
    limit::Reached,
    schedule::{self, Stance},
};
use crate::{
    app::AppState,
    clock::{Clock, Millis},
    config::units,
    routing::{Ruling, schedule::Standing, schedule::WhileAsleep},
};

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For idle times.
    pub now: Millis,
    /// For schedules, pins and days: milliseconds since 1970.
    pub wall: u64,
}

impl Moment {
    /// Now.
    pub fn of(clock: &Clock) -> Self {
        Self { now: clock.now(), wall: clock.unix_millis() }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is left alone, sleeps as it may, or is on its way somewhere.
    Nothing,
    /// It is kept awake, however idle it is.
    Keep(Kept),
    /// It is woken.
    Wake,
    /// It is stopped when nobody has used it for so long.
    Stop {
        /// How long. Zero: as soon as nothing is in flight.
        after: Duration,
        /// Why.
        why: Why,
    },
}

/// Who keeps an app awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A pin, until this moment.
    Pinned(u64),
    /// Its schedule.
    Warm,
}

/// Why an app is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody uses it.
    Idle,
    /// Its schedule keeps it asleep.
    Schedule,
    /// It was awake long enough today.
    Limit,
}

impl Why {
    /// The same, with the rule.
    pub fn cause(self, ruling: &Ruling, wall: u64) -> Cause {
        match self {
            Self::Idle => Cause::Idle { rule: ruling.origin_of("idle_timeout") },
            Self::Schedule => schedule_of(ruling, wall),
            Self::Limit => Cause::Limit { limit: limit_of(ruling, Reached::AwakePerDay) },
        }
    }
}

/// The schedule of an app, as a cause: the rule, and the window of `wall` or else the next one.
pub(super) fn schedule_of(ruling: &Ruling, wall: u64) -> Cause {
    let window = ruling
        .schedule
        .as_deref()
        .and_then(|schedule| schedule.reason(wall).or_else(|| schedule.reason(schedule.next(wall)?.0)));
    let rule = match (ruling.origin_of("schedule"), window) {
        (Some(origin), Some(window)) => format!("{window}, {origin}").into(),
        (Some(origin), None) => origin,
        (None, window) => window.unwrap_or_default().into(),
    };
    Cause::Schedule { rule }
}

/// A limit in words, with the rule that sets it.
pub(super) fn limit_of(ruling: &Ruling, reached: Reached) -> Arc<str> {
    let key = reached.as_str();
    let value = match reached {
        Reached::WakesPerHour => ruling.limits.wakes_per_hour.map(|most| most.to_string()),
        Reached::AwakePerDay => ruling.limits.awake_per_day.map(units::duration),
    };
    let value = value.unwrap_or_default();
    match ruling.origin_of("limits") {
        Some(origin) => format!("{key} {value}, {origin}").into(),
        None => format!("{key} {value}").into(),
    }
}

impl ManagedApp {
    /// What is to be done about it. Its group may have a say in a stop because of [`Why::Idle`].
    pub fn verdict(&self, at: Moment) -> Verdict {
        if self.is_left_alone() {
            return Verdict::Nothing;
        }
        let settings = self.settings();
        match self.state() {
            AppState::Awake => self.awake_verdict(&settings, at),
            // One that is beyond the plan would never be stopped again: only who wants it wakes it.
            AppState::Asleep | AppState::Failed
                if settings.ruling.schedule.is_some() && self.beyond_plan().is_none() =>
            {
                self.asleep_verdict(&settings, at)
            }
            _ => Verdict::Nothing,
        }
    }

    fn awake_verdict(&self, settings: &Settings, at: Moment) -> Verdict {
        let ruling = &settings.ruling;
        if let Some(until) = self.ruled.pinned(at.wall) {
            return Verdict::Keep(Kept::Pinned(until));
        }
        let now = |why| Verdict::Stop { after: Duration::ZERO, why };
        if self.ruled.usage().is_over(&ruling.limits, at.wall) {
            return now(Why::Limit);
        }
        let woken_on_purpose = || {
            let same = |schedule| schedule::same_rest(schedule, self.ruled.came_up(), at.wall);
            ruling.schedule.as_deref().is_some_and(same)
        };
        match self.stance(settings, at.wall) {
            Stance::Warm => Verdict::Keep(Kept::Warm),
            Stance::Closed { .. } if !woken_on_purpose() => now(Why::Schedule),
            _ => Verdict::Stop { after: settings.timeouts.idle, why: Why::Idle },
        }
    }

    fn asleep_verdict(&self, settings: &Settings, at: Moment) -> Verdict {
        let Some(schedule) = settings.ruling.schedule.as_deref() else { return Verdict::Nothing };
        if self.stance(settings, at.wall) != Stance::Warm {
            return Verdict::Nothing;
        }
        // Whoever put it to sleep in its window meant it.
        let meant = |then| schedule::same_warmth(schedule, then, at.wall, self.boots_within());
        let failed = || self.progress().borrow().failure.clone().is_some_and(|it| at.now < it.retry_at);
        let limited = || self.ruled.usage().refuses(&settings.ruling.limits, at.wall).is_some();
        match self.ruled.laid_down().is_some_and(meant) || failed() || limited() {
            true => Verdict::Nothing,
            false => Verdict::Wake,
        }
    }

    /// What its schedule wants.
    pub fn stance(&self, settings: &Settings, wall: u64) -> Stance {
        let Some(schedule) = &settings.ruling.schedule else { return Stance::Free };
        self.ruled.timetable.stance(schedule, wall, self.boots_within())
    }

    /// When its schedule wants something else, and what.
    pub fn next_standing(&self, settings: &Settings, wall: u64) -> Option<(u64, Standing)> {
        self.ruled.timetable.next(settings.ruling.schedule.as_ref()?, wall)
    }

    fn boots_within(&self) -> Duration {
        schedule::ahead(&self.progress().borrow().boots)
    }

    /// Why its rules do not let it be woken by somebody who does not `insist`, if so. `stopping` if it still runs, so that no
    /// wake may be needed.
    pub(super) fn turned_down(&self, insist: bool, stopping: bool, wall: u64) -> Option<Refusal> {
        let settings = self.settings();
        let ruling = &settings.ruling;
        // Another gateway has it up already, or on its way.
        let up = |state| matches!(state, AppState::Waking | AppState::Awake);
        if !stopping && self.record().is_some_and(|record| up(record.state)) {
            return None;
        }
        if let Stance::Closed { wake, opens } = self.stance(&settings, wall) {
            match wake {
                WhileAsleep::Never => return Some(Refusal::Closed { opens, ask: false }),
                WhileAsleep::Ask if !insist => return Some(Refusal::Closed { opens, ask: true }),
                WhileAsleep::Ask | WhileAsleep::Allow => {}
            }
        }
        let (reached, retry_after) = self.ruled.usage().refuses(&ruling.limits, wall)?;
        let needed = !stopping || reached == Reached::AwakePerDay;
        needed.then_some(Refusal::Limited { retry_after })
    }
}
