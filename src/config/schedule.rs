//! `schedule` in a rule: what was typed, and what becomes of it.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{civil::DateTime, tz::TimeZone};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::Problems,
    scalar::{Scalar, scalar},
    units::PositivePeriod,
    yaml::{Located, OneOrMany},
};
use crate::routing::schedule::{Days, End, Schedule, Standing, Time, When, WhileAsleep, Window};

/// A window: some hours of some days (`days`, `from`, `to`), or what begins by cron (`cron` with `until` or `for`).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a window: a map with `state` and the time")]
#[schemars(rename = "Window")]
pub(super) struct Typed {
    /// `mon`, `mon-fri`, a list of those, or `daily`. Default: `daily`. A window over midnight is of the day on which it begins.
    days: Option<OneOrMany<Located<TypedDays>>>,
    /// When it begins, as `08:00`. Default: `00:00`.
    from: Option<Located<TypedTime>>,
    /// When it ends, as `19:00`, or `24:00`. Not later than `from` means on the next day. Default: `24:00`.
    to: Option<Located<TypedTime>>,
    /// When it begins, as minute, hour, day of the month, month and day of the week: `0 20 * * *` is every day at 20:00.
    cron: Option<Located<TypedCron>>,
    /// With `cron`: it ends when the clock shows this for the first time after it has begun.
    until: Option<Located<TypedTime>>,
    /// With `cron`: it ends after this time.
    r#for: Option<Located<PositivePeriod>>,
    /// Where the clock is that it goes by, as `Europe/Paris`. Default: `UTC`.
    tz: Option<Located<Zone>>,
    /// `awake`: the app is kept warm. `asleep`: it is kept asleep.
    #[schemars(required)]
    state: Option<Located<State>>,
    /// With `state: asleep`, what becomes of a request: `never` (it is told when the app opens), `ask` (a person may wake the
    /// app all the same) or `allow` (it wakes the app). Default: `allow`.
    wake: Option<Located<WhileAsleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "WindowState")]
enum State {
    /// Kept warm.
    Awake,
    /// Kept asleep.
    Asleep,
}

/// Days of the week.
#[derive(Clone, Copy, Debug)]
pub struct TypedDays(Days);

impl Scalar for TypedDays {
    const NAME: &'static str = "Days";
    fn parse(text: &str) -> Result<Self, String> {
        let why = "is not a day: write for example `mon`, `mon-fri`, `sat,sun` or `daily`";
        Days::parse(text).map(Self).ok_or_else(|| why.to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z, -]+$", "examples": ["mon-fri", "sat,sun", "daily"] })
    }
}

/// A time of day.
#[derive(Clone, Copy, Debug)]
pub struct TypedTime(Time);

impl Scalar for TypedTime {
    const NAME: &'static str = "TimeOfDay";
    fn parse(text: &str) -> Result<Self, String> {
        let why = "is not a time of day: write hours and minutes, for example `08:00`";
        Time::parse(text.trim()).map(Self).ok_or_else(|| why.to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}$", "examples": ["08:00", "24:00"] })
    }
}

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Scalar for Zone {
    const NAME: &'static str = "TimeZone";
    fn parse(text: &str) -> Result<Self, String> {
        let why = "is not a time zone that is known: write for example `Europe/Paris` or `UTC`";
        TimeZone::get(text.trim()).map(Self).map_err(|_| why.to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["Europe/Paris", "America/New_York", "UTC"] })
    }
}

/// When something begins, by cron.
#[derive(Clone, Debug)]
pub struct TypedCron(Cron);

impl Scalar for TypedCron {
    const NAME: &'static str = "Cron";
    fn parse(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let wrong = "is not a cron expression: minute, hour, day of the month, month, day of the week, as `0 20 * * *`";
        let cron = parser.parse(text).map_err(|_| wrong.to_owned())?;
        let never = "never comes: there is no such day";
        let some_day = DateTime::constant(2026, 1, 1, 0, 0, 0, 0);
        match cron.find_next_occurrence(&some_day, true) {
            Ok(_) => Ok(Self(cron)),
            Err(_) => Err(never.to_owned()),
        }
    }
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["0 20 * * *", "30 6 * * MON-FRI"] })
    }
}

scalar!(TypedDays, TypedTime, Zone, TypedCron);

/// The windows of a schedule, in order.
pub(super) fn windows(typed: &[Located<Typed>], problems: &mut Problems) -> Schedule {
    Schedule::new(typed.iter().filter_map(|typed| window(typed, problems)).collect())
}

fn window(typed: &Located<Typed>, problems: &mut Problems) -> Option<Window> {
    let before = problems.len();
    let when = match &typed.cron {
        Some(cron) => by_cron(typed, cron, problems),
        None => part(typed, problems),
    };
    if typed.lacks("state", &typed.state) {
        problems.push(typed.at, "`state` is missing: say `awake` or `asleep`");
    }
    if let (Some(State::Awake), Some(wake)) = (typed.state.as_ref().map(|state| state.value), &typed.wake) {
        problems.push(wake.at, "`wake` means nothing with `state: awake`");
    }
    let keeps = match typed.state.as_ref()?.value {
        State::Awake => Standing::Awake,
        State::Asleep => Standing::Asleep(typed.wake.as_ref().map(|wake| wake.value).unwrap_or_default()),
    };
    let zone = typed.tz.as_ref().map_or(TimeZone::UTC, |zone| zone.0.clone());
    when.filter(|_| problems.len() == before).map(|when| Window { when, zone, keeps })
}

fn by_cron(typed: &Located<Typed>, cron: &Located<TypedCron>, problems: &mut Problems) -> Option<When> {
    let parts = [typed.from.as_ref().map(|time| time.at), typed.to.as_ref().map(|time| time.at)];
    let days = typed.days.as_ref().map(|days| days.0.first().map_or(typed.at, |day| day.at));
    for at in parts.into_iter().chain([days]).flatten() {
        problems.push_with_help(
            at,
            "`cron` says when the window begins: `days`, `from` and `to` have no meaning beside it",
            "say with `until` or `for` when it ends",
        );
    }
    let end = match (&typed.until, &typed.r#for) {
        (Some(time), None) => End::Until(time.0),
        (None, Some(length)) => End::After(length.0),
        (Some(_), Some(length)) => {
            problems.push(length.at, "`until` and `for` both say when the window ends: leave one out");
            return None;
        }
        (None, None) => {
            if typed.lacks("until", &typed.until) && typed.lacks("for", &typed.r#for) {
                let help = "write for example `until: \"07:00\"` or `for: 8h`";
                problems.push_with_help(cron.at, "it is not said when this window ends", help);
            }
            return None;
        }
    };
    Some(When::Cron { cron: Box::new(cron.0.clone()), end })
}

fn part(typed: &Located<Typed>, problems: &mut Problems) -> Option<When> {
    let lost = ["days", "from", "to", "cron", "until", "for"];
    if typed.lost.iter().any(|key| lost.contains(&key.as_str())) {
        return None;
    }
    let ends = [typed.until.as_ref().map(|time| time.at), typed.r#for.as_ref().map(|length| length.at)];
    for at in ends.into_iter().flatten() {
        problems.push(at, "`until` and `for` belong to `cron`: beside `from` the end is `to`");
    }
    if typed.days.is_none() && typed.from.is_none() && typed.to.is_none() {
        if ends == [None, None] {
            let help = "write `days`, `from` and `to`, or `cron` with `until`";
            problems.push_with_help(typed.at, "this window says no time", help);
        }
        return None;
    }
    let mut days = None;
    for day in typed.days.iter().flat_map(|days| &days.0) {
        days = Some(days.map_or(day.value.0, |days: Days| days.and(day.value.0)));
    }
    if typed.days.as_ref().is_some_and(|days| days.0.is_empty()) {
        problems.push(typed.at, "`days` is an empty list: name a day, or leave the key out for every day");
    }
    let days = days.unwrap_or(Days::DAILY);
    let (from, to) = (
        typed.from.as_ref().map_or(Time::START, |time| time.0),
        typed.to.as_ref().map_or(Time::END, |time| time.0),
    );
    if let Some(late) = typed.from.as_ref().filter(|_| from == Time::END) {
        problems.push(late.at, "no day begins at 24:00: write `00:00` and the next day");
    } else if from == to {
        let at = typed.to.as_ref().or(typed.from.as_ref()).map_or(typed.at, |time| time.at);
        let help = "for the whole day leave both out, or write `from: \"00:00\"` and `to: \"24:00\"`";
        problems.push_with_help(at, "an empty window: it ends when it begins", help);
    }
    Some(When::Part { days, from, to })
}
