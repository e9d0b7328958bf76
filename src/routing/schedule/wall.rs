//! Moments and the clock on the wall, also where that clock is changed.
//!
//! | what the wall shows | begins | ends |
//! |---|---|---|
//! | once | then | then |
//! | never: the clock is put forward over it | when the clock is put forward | when the clock is put forward |
//! | twice: the clock is put back over it | the first time | the last time |
//!
//! So whatever begins and ends by the wall holds exactly while the wall shows a time between the two, without a gap in between.

use std::fmt;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

/// A time of day in whole minutes, from 00:00 to 24:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u16);

impl Time {
    /// 00:00.
    pub const START: Self = Self(0);
    /// 24:00, the same moment as 00:00 of the day after.
    pub const END: Self = Self(24 * 60);

    /// `08:00`, `8:00` or `24:00`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
        let fine = (1..=2).contains(&hour.len()) && minute.len() == 2 && digits(hour) && digits(minute);
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let time = Self(hour * 60 + minute);
        (fine && minute < 60 && time <= Self::END).then_some(time)
    }

    /// This time on that day. `None` at the end of all days.
    pub(super) fn on(self, date: Date) -> Option<DateTime> {
        let midnight = date.to_datetime(jiff::civil::Time::midnight());
        midnight.checked_add(i64::from(self.0).minutes()).ok()
    }

    /// The first time after `then` that the clock shows this.
    pub(super) fn after(self, then: DateTime) -> Option<DateTime> {
        let next = self.on(then.date()).filter(|next| *next > then);
        next.or_else(|| self.on(then.date().tomorrow().ok()?))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

const NAMES: [(&str, &str); 7] = [
    ("mon", "monday"),
    ("tue", "tuesday"),
    ("wed", "wednesday"),
    ("thu", "thursday"),
    ("fri", "friday"),
    ("sat", "saturday"),
    ("sun", "sunday"),
];

impl Days {
    /// All of them.
    pub const DAILY: Self = Self(0b111_1111);

    /// `daily`, `mon`, `mon-fri`, `fri-mon` or a list of those with commas, in any case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "daily" {
            return Some(Self::DAILY);
        }
        let day = |word: &str| {
            let word = word.trim();
            NAMES.iter().position(|(short, long)| word == *short || word == *long)
        };
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            let many = (last + 7 - first) % 7;
            (0..=many).for_each(|more| days |= 1 << ((first + more) % 7));
        }
        Some(Self(days))
    }

    /// Those of either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }
}

/// `mon-fri,sun`.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DAILY {
            return f.write_str("daily");
        }
        let mut day = 0;
        let mut separator = "";
        while day < 7 {
            let run = (day..7).take_while(|day| self.0 & (1 << day) != 0).count();
            match run {
                0 => {
                    day += 1;
                    continue;
                }
                1 => write!(f, "{separator}{}", NAMES[day].0)?,
                2 => write!(f, "{separator}{},{}", NAMES[day].0, NAMES[day + 1].0)?,
                _ => write!(f, "{separator}{}-{}", NAMES[day].0, NAMES[day + run - 1].0)?,
            }
            separator = ",";
            day += run;
        }
        Ok(())
    }
}

/// The moment in milliseconds since 1970; `None` before that.
fn millis(at: Timestamp) -> Option<u64> {
    u64::try_from(at.as_millisecond()).ok()
}

/// What the wall shows. `None` after the end of all days.
pub(super) fn shown(zone: &TimeZone, at: u64) -> Option<DateTime> {
    let at = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?;
    Some(zone.to_datetime(at))
}

/// When something begins that is to begin when the wall shows `wall`.
pub(super) fn begins(zone: &TimeZone, wall: DateTime) -> Option<u64> {
    moment(zone, wall, true)
}

/// When something ends that is to end when the wall shows `wall`.
pub(super) fn ends(zone: &TimeZone, wall: DateTime) -> Option<u64> {
    moment(zone, wall, false)
}

fn moment(zone: &TimeZone, wall: DateTime, first: bool) -> Option<u64> {
    let offset = match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Fold { before, after } => {
            if first {
                before
            } else {
                after
            }
        }
        // Before the change by the new clock, after it by the old one: the change is the only one in between.
        AmbiguousOffset::Gap { after, .. } => {
            let before = after.to_timestamp(wall).ok()?;
            return millis(zone.following(before).next()?.timestamp());
        }
    };
    millis(offset.to_timestamp(wall).ok()?)
}

/// The latest that the wall has shown up to `at`: later than what it shows now, if it has been put back.
pub(super) fn latest_shown(zone: &TimeZone, at: u64) -> Option<DateTime> {
    let now = shown(zone, at)?;
    match zone.to_ambiguous_timestamp(now).offset() {
        AmbiguousOffset::Fold { before, after } => {
            let put_back = before.duration_until(after).abs();
            now.checked_add(put_back).ok()
        }
        _ => Some(now),
    }
}
