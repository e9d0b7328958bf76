//! One line of a schedule: a part of the day, or what begins by cron.

use std::{fmt, time::Duration};

use croner::Cron;
use jiff::{civil::DateTime, tz::TimeZone};

use super::{
    Standing,
    wall::{Days, Time, begins, ends, latest_shown, shown},
};

/// When something holds, by the clock on some wall.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When.
    pub when: When,
    /// Where the wall is.
    pub zone: TimeZone,
    /// What holds then; never [`Standing::Free`].
    pub keeps: Standing,
}

/// When a window holds.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// A part of some days: over midnight if it does not end later than it begins. Such a window is of the day on which it
    /// begins.
    Part {
        /// Which days.
        days: Days,
        /// When it begins.
        from: Time,
        /// When it ends.
        to: Time,
    },
    /// It begins by cron.
    Cron {
        /// When it begins.
        cron: Box<Cron>,
        /// When it ends.
        end: End,
    },
}

/// When a window ends that has begun by cron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first time after it has begun that the wall shows this.
    Until(Time),
    /// After this time.
    After(Duration),
}

impl Window {
    /// The name of the time zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// From when to when it holds, if it holds at `at`. Not the whole time, if it begins again before it ends.
    pub(super) fn around(&self, at: u64) -> Option<(u64, u64)> {
        match &self.when {
            When::Part { .. } => {
                let today = shown(&self.zone, at)?;
                // Where the clock is put back over midnight, tomorrow's has begun although the wall shows today.
                let days = (-1..=1).filter_map(|more| today.checked_add(jiff::Span::new().days(more)).ok());
                let mut all = days.filter_map(|day| self.part_of(day));
                all.find(|(from, to)| (*from..*to).contains(&at))
            }
            When::Cron { .. } => {
                let (from, to) = self.begun_before(at)?;
                (from..to).contains(&at).then_some((from, to))
            }
        }
    }

    /// The first moment after `at` at which it begins or ends. Not every beginning within the window itself counts.
    pub(super) fn edge_after(&self, at: u64) -> Option<u64> {
        if let Some((_, to)) = self.around(at) {
            return Some(to);
        }
        match &self.when {
            When::Part { .. } => {
                let today = shown(&self.zone, at)?;
                // Two weeks: a part of one day of the week may not be there where the clock is put forward.
                let days = (0..=15).filter_map(|more| today.checked_add(jiff::Span::new().days(more)).ok());
                let mut begins = days.filter_map(|day| self.part_of(day)).map(|(from, _)| from);
                begins.find(|from| *from > at)
            }
            When::Cron { cron, .. } => {
                let mut wall = shown(&self.zone, at)?;
                // What begins in an hour that the clock shows twice has begun the first time.
                for _ in 0..1_000 {
                    wall = cron.find_next_occurrence(&wall, false).ok()?;
                    if let Some((from, to)) = self.begun_at(wall).filter(|(from, _)| *from > at)
                        && from < to
                    {
                        return Some(from);
                    }
                }
                None
            }
        }
    }

    /// The part of the day of `day`. `None` if there is none, or nothing is left of it because the clock is put forward.
    fn part_of(&self, day: DateTime) -> Option<(u64, u64)> {
        let When::Part { days, from, to } = &self.when else { return None };
        if !days.has(day.weekday()) {
            return None;
        }
        let last = if to > from { day.date() } else { day.date().tomorrow().ok()? };
        let (from, to) = (begins(&self.zone, from.on(day.date())?)?, ends(&self.zone, to.on(last)?)?);
        (from < to).then_some((from, to))
    }

    /// From when to when it holds that begins when the wall shows `wall`.
    fn begun_at(&self, wall: DateTime) -> Option<(u64, u64)> {
        let When::Cron { end, .. } = &self.when else { return None };
        let from = begins(&self.zone, wall)?;
        let to = match end {
            End::Until(time) => ends(&self.zone, time.after(wall)?)?,
            End::After(length) => from.saturating_add(u64::try_from(length.as_millis()).ok()?),
        };
        Some((from, to))
    }

    /// The last one that has begun up to `at`. None that began earlier ends later.
    fn begun_before(&self, at: u64) -> Option<(u64, u64)> {
        let When::Cron { cron, .. } = &self.when else { return None };
        let mut wall = latest_shown(&self.zone, at)?;
        let mut inclusive = true;
        for _ in 0..1_000 {
            wall = cron.find_previous_occurrence(&wall, inclusive).ok()?;
            let window = self.begun_at(wall)?;
            if window.0 <= at {
                return Some(window);
            }
            inclusive = false;
        }
        None
    }
}

/// `mon-fri 08:00-19:00 Europe/Paris`, `from 0 20 * * * until 07:00 Europe/Paris`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Part { days, from, to } => write!(f, "{days} {from}-{to}")?,
            When::Cron { cron, end: End::Until(time) } => write!(f, "from {cron} until {time}")?,
            When::Cron { cron, end: End::After(length) } => {
                write!(f, "from {cron} for {}", crate::config::units::duration(*length))?;
            }
        }
        write!(f, " {}", self.zone_name())
    }
}
