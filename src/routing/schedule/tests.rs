use std::time::Duration;

use jiff::{Zoned, tz::TimeZone};
use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;
const PARIS: &str = "Europe/Paris";
const NEW_YORK: &str = "America/New_York";

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn part(days: &str, from: &str, to: &str, name: &str, keeps: Standing) -> Window {
    let (days, from, to) = (Days::parse(days).unwrap(), Time::parse(from).unwrap(), Time::parse(to).unwrap());
    Window { when: When::Part { days, from, to }, zone: zone(name), keeps }
}

fn cron(pattern: &str, end: End, name: &str, keeps: Standing) -> Window {
    let cron = Box::new(pattern.parse().unwrap());
    Window { when: When::Cron { cron, end }, zone: zone(name), keeps }
}

fn until(time: &str) -> End {
    End::Until(Time::parse(time).unwrap())
}

/// `2026-03-29T01:30[Europe/Paris]`, with `+02:00` before the zone where the wall shows it twice.
fn at(text: &str) -> u64 {
    text.parse::<Zoned>().unwrap().timestamp().as_millisecond() as u64
}

fn paris(text: &str) -> u64 {
    at(&format!("{text}[{PARIS}]"))
}

/// From when to when something holds, from one moment to another, as the schedule tells it.
fn spells(schedule: &Schedule, from: u64, to: u64) -> Vec<(u64, u64)> {
    let (mut spells, mut when, mut standing) = (Vec::new(), from, schedule.standing(from));
    while when < to {
        let (next, then) = schedule.next(when).unwrap_or((to, Standing::Free));
        if standing != Standing::Free {
            spells.push((when, next.min(to)));
        }
        (when, standing) = (next, then);
    }
    spells
}

#[test]
fn a_weekly_window_that_is_not_there_once_is_there_a_week_later() {
    // In the night of 29 March, the clock in Paris is put forward over it.
    let schedule = Schedule::new(vec![part("sun", "02:00", "03:00", PARIS, Standing::Awake)]);
    let before = paris("2026-03-22T03:30");
    assert_eq!(schedule.standing(before), Standing::Free);
    assert_eq!(schedule.next(before), Some((paris("2026-04-05T02:00"), Standing::Awake)));
    assert_eq!(schedule.standing(paris("2026-04-05T02:30")), Standing::Awake);
}

#[test]
fn office_hours_are_kept_awake_and_weekends_are_free() {
    let schedule = Schedule::new(vec![part("mon-fri", "08:00", "19:00", PARIS, Standing::Awake)]);
    let friday = paris("2026-11-20T18:59");
    assert_eq!(schedule.standing(friday), Standing::Awake);
    assert_eq!(schedule.next(friday), Some((paris("2026-11-20T19:00"), Standing::Free)));
    assert_eq!(schedule.reason(friday).unwrap(), "mon-fri 08:00-19:00 Europe/Paris");
    let evening = paris("2026-11-20T19:00");
    assert_eq!(schedule.standing(evening), Standing::Free);
    assert_eq!(schedule.reason(evening), None);
    assert_eq!(schedule.next(evening), Some((paris("2026-11-23T08:00"), Standing::Awake)));
    assert_eq!(schedule.opens(evening), None, "it is not kept asleep");
}

#[test]
fn a_window_over_midnight_is_of_the_day_on_which_it_begins() {
    let asleep = Standing::Asleep(WhileAsleep::Never);
    let schedule = Schedule::new(vec![part("fri", "22:00", "06:00", PARIS, asleep.clone())]);
    assert_eq!(schedule.standing(paris("2026-11-20T05:00")), Standing::Free, "that is Thursday's night");
    let saturday = paris("2026-11-21T05:59");
    assert_eq!(schedule.standing(saturday), asleep);
    assert_eq!(schedule.opens(saturday), Some(paris("2026-11-21T06:00")));
    assert_eq!(schedule.standing(paris("2026-11-21T06:00")), Standing::Free);
}

#[test]
fn windows_that_touch_are_one_and_a_day_may_end_at_24() {
    let asleep = Standing::Asleep(WhileAsleep::Allow);
    let schedule = Schedule::new(vec![
        part("sat,sun", "00:00", "24:00", PARIS, asleep.clone()),
        part("mon", "00:00", "07:00", PARIS, asleep.clone()),
    ]);
    let saturday = paris("2026-11-21T00:00");
    assert_eq!(schedule.standing(saturday - 1), Standing::Free);
    assert_eq!(schedule.standing(saturday), asleep);
    assert_eq!(schedule.next(saturday), Some((paris("2026-11-23T07:00"), Standing::Free)));
    let always = Schedule::new(vec![part("daily", "00:00", "24:00", PARIS, Standing::Awake)]);
    assert_eq!(always.next(saturday), None);
}

#[test]
fn the_window_that_stands_first_wins() {
    let (ask, never) = (Standing::Asleep(WhileAsleep::Ask), Standing::Asleep(WhileAsleep::Never));
    let schedule = Schedule::new(vec![
        part("daily", "12:00", "13:00", PARIS, Standing::Awake),
        part("daily", "11:00", "14:00", PARIS, ask.clone()),
        part("daily", "11:00", "15:00", PARIS, never.clone()),
    ]);
    let next = |text: &str| schedule.next(paris(text)).unwrap();
    assert_eq!(next("2026-11-21T10:00"), (paris("2026-11-21T11:00"), ask.clone()));
    assert_eq!(next("2026-11-21T11:00"), (paris("2026-11-21T12:00"), Standing::Awake));
    assert_eq!(next("2026-11-21T12:00"), (paris("2026-11-21T13:00"), ask));
    assert_eq!(next("2026-11-21T13:00"), (paris("2026-11-21T14:00"), never));
    assert_eq!(schedule.opens(paris("2026-11-21T13:30")), Some(paris("2026-11-21T15:00")));
    assert_eq!(schedule.opens(paris("2026-11-21T11:30")), Some(paris("2026-11-21T12:00")));
    assert_eq!(schedule.opens(paris("2026-11-21T12:30")), None);
}

#[test]
fn a_window_by_cron_ends_at_a_time_of_day_or_after_a_while() {
    let asleep = Standing::Asleep(WhileAsleep::Never);
    let night = Schedule::new(vec![cron("0 20 * * *", until("07:00"), PARIS, asleep.clone())]);
    assert_eq!(
        spells(&night, paris("2026-11-20T12:00"), paris("2026-11-22T12:00")),
        [
            (paris("2026-11-20T20:00"), paris("2026-11-21T07:00")),
            (paris("2026-11-21T20:00"), paris("2026-11-22T07:00"))
        ]
    );
    assert_eq!(night.reason(paris("2026-11-20T21:00")).unwrap(), "from 0 20 * * * until 07:00 Europe/Paris");
    let later = Schedule::new(vec![cron("0 8 * * *", until("17:00"), PARIS, Standing::Awake)]);
    assert_eq!(
        spells(&later, paris("2026-11-20T00:00"), paris("2026-11-21T00:00")),
        [(paris("2026-11-20T08:00"), paris("2026-11-20T17:00"))]
    );
    let hours = End::After(Duration::from_secs(5400));
    let often = Schedule::new(vec![cron("0 9-11 * * MON-FRI", hours, PARIS, Standing::Awake)]);
    assert_eq!(
        spells(&often, paris("2026-11-20T00:00"), paris("2026-11-23T00:00")),
        [(paris("2026-11-20T09:00"), paris("2026-11-20T12:30"))],
        "one that begins before the last one ends goes on"
    );
    let minutely = End::After(Duration::from_secs(60));
    let always = Schedule::new(vec![cron("* * * * *", minutely, PARIS, Standing::Awake)]);
    assert_eq!(always.next(paris("2026-11-20T00:00")), None);
}

#[test]
fn a_leap_day_comes_and_is_a_day_like_any_other() {
    let hours = End::After(Duration::from_secs(3600));
    let schedule = Schedule::new(vec![cron("0 8 29 2 *", hours, PARIS, Standing::Awake)]);
    assert_eq!(schedule.standing(paris("2028-02-29T08:30")), Standing::Awake);
    assert_eq!(schedule.next(paris("2028-01-01T00:00")), Some((paris("2028-02-29T08:00"), Standing::Awake)));
    assert_eq!(schedule.next(paris("2026-01-01T00:00")), None, "not within a year");
    let daily = Schedule::new(vec![part("tue", "08:00", "09:00", PARIS, Standing::Awake)]);
    assert_eq!(
        spells(&daily, paris("2028-02-28T00:00"), paris("2028-03-02T00:00")),
        [(paris("2028-02-29T08:00"), paris("2028-02-29T09:00"))]
    );
    let over = Schedule::new(vec![part("mon", "22:00", "06:00", PARIS, Standing::Awake)]);
    assert_eq!(
        spells(&over, paris("2028-02-28T00:00"), paris("2028-03-02T00:00")),
        [(paris("2028-02-28T22:00"), paris("2028-02-29T06:00"))]
    );
}

/// What a window of one night holds: `None` where nothing is left of it.
fn night(window: Window, from: u64, to: u64) -> Option<(u64, u64)> {
    let spells = spells(&Schedule::new(vec![window]), from, to);
    assert!(spells.len() < 2, "{spells:?}");
    spells.first().copied()
}

#[test]
fn in_the_night_when_the_clock_is_put_forward_a_time_that_does_not_exist_is_when_it_is() {
    // 02:00 becomes 03:00.
    for (name, day) in [(PARIS, "2026-03-29"), (NEW_YORK, "2026-03-08")] {
        let when = |time: &str| at(&format!("{day}T{time}[{name}]"));
        let (from, to) = (when("00:30"), when("12:00"));
        let held = |begin: &str, end: &str| night(part("sun", begin, end, name, Standing::Awake), from, to);
        let change = when("03:00");
        assert_eq!(change - when("01:59"), MINUTE, "{name}");
        assert_eq!(held("02:30", "05:00"), Some((change, when("05:00"))));
        assert_eq!(held("01:00", "02:30"), Some((when("01:00"), change)));
        assert_eq!(held("01:00", "05:00"), Some((when("01:00"), when("05:00"))));
        assert_eq!(held("02:00", "03:00"), None, "that hour is not there");
        assert_eq!(held("02:15", "02:45"), None);
        assert_eq!(when("05:00") - when("01:00"), 3 * 60 * MINUTE);
        let begun = |end| night(cron("30 2 * * *", end, name, Standing::Awake), from, to);
        assert_eq!(begun(until("05:00")), Some((change, when("05:00"))));
        assert_eq!(begun(until("02:45")), None);
        assert_eq!(begun(End::After(Duration::from_secs(3600))), Some((change, when("04:00"))));
        let over = part("sat", "22:00", "06:00", name, Standing::Awake);
        assert_eq!(night(over, from, to), Some((from, when("06:00"))));
    }
}

#[test]
fn in_the_night_when_the_clock_is_put_back_a_window_begins_the_first_time_and_ends_the_last() {
    // 03:00 becomes 02:00 in Paris, and 02:00 becomes 01:00 in New York.
    for (name, day, hour, offsets) in
        [(PARIS, "2026-10-25", 2, ["+02:00", "+01:00"]), (NEW_YORK, "2026-11-01", 1, ["-04:00", "-05:00"])]
    {
        let once = |hour: u8, minute: u8| at(&format!("{day}T{hour:02}:{minute:02}[{name}]"));
        let twice =
            |minute: u8, last: usize| at(&format!("{day}T{hour:02}:{minute:02}{}[{name}]", offsets[last]));
        let time = |hour: u8, minute: u8| format!("{hour:02}:{minute:02}");
        let (from, to) = (once(0, 15), once(12, 0));
        let held = |begin: &str, end: &str| night(part("sun", begin, end, name, Standing::Awake), from, to);
        assert_eq!(twice(30, 1) - twice(30, 0), 60 * MINUTE, "{name}");
        assert_eq!(held(&time(hour, 30), "05:00"), Some((twice(30, 0), once(5, 0))));
        assert_eq!(held("00:30", &time(hour, 30)), Some((once(0, 30), twice(30, 1))));
        assert_eq!(held(&time(hour, 15), &time(hour, 45)), Some((twice(15, 0), twice(45, 1))));
        let begun = |end| night(cron(&format!("30 {hour} * * *"), end, name, Standing::Awake), from, to);
        assert_eq!(begun(until("05:00")), Some((twice(30, 0), once(5, 0))));
        assert_eq!(begun(until(&time(hour, 45))), Some((twice(30, 0), twice(45, 1))));
        assert_eq!(
            begun(End::After(Duration::from_secs(600))),
            Some((twice(30, 0), twice(40, 0))),
            "what begins by cron begins once"
        );
        let over = part("sat", "22:00", "06:00", name, Standing::Awake);
        assert_eq!(night(over, from, to), Some((from, once(6, 0))));
    }
}

#[test]
fn a_clock_that_is_put_back_over_midnight_does_not_end_a_day_that_has_begun() {
    // Newfoundland changed its clocks at one minute past midnight until 2011.
    let name = "America/St_Johns";
    let window = part("sun", "00:00", "02:00", name, Standing::Awake);
    let (first, end) =
        (at("2010-11-06T23:59-02:30[America/St_Johns]") + MINUTE, at("2010-11-07T02:00[America/St_Johns]"));
    assert_eq!(night(window, first - 10 * MINUTE, end + MINUTE), Some((first, end)));
}

#[test]
fn days_and_times_as_people_write_them() {
    for (text, shown) in [
        ("daily", "daily"),
        ("mon-sun", "daily"),
        ("MON-Fri", "mon-fri"),
        ("monday, wednesday", "mon,wed"),
        ("fri-mon", "mon,fri-sun"),
        ("sat,sun", "sat,sun"),
        ("sat-sat", "sat"),
    ] {
        assert_eq!(Days::parse(text).unwrap().to_string(), shown, "{text}");
    }
    for text in ["", "m", "mon-", "mon-fri-sat", "weekend", "mon,,tue", "1-5"] {
        assert_eq!(Days::parse(text), None, "{text}");
    }
    for (text, shown) in [("08:00", "08:00"), ("8:05", "08:05"), ("24:00", "24:00"), ("00:00", "00:00")] {
        assert_eq!(Time::parse(text).unwrap().to_string(), shown);
    }
    for text in ["", "8", "24:01", "25:00", "12:60", "12:5", "+8:00", "12:+5", "008:00", "12:00:00", "-1:00"]
    {
        assert_eq!(Time::parse(text), None, "{text}");
    }
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Awake),
        Just(Standing::Asleep(WhileAsleep::Never)),
        Just(Standing::Asleep(WhileAsleep::Ask)),
    ]
}

fn a_time() -> impl Strategy<Value = String> {
    (0u8..24, prop_oneof![Just(0u8), Just(15), Just(30), 0u8..60])
        .prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"))
}

fn a_window() -> impl Strategy<Value = Window> {
    let name = prop_oneof![Just(PARIS), Just(NEW_YORK), Just("Australia/Lord_Howe"), Just("UTC")];
    let days = prop_oneof![Just("daily"), Just("sun"), Just("sat,sun"), Just("mon-fri")];
    let parts = (days, a_time(), a_time(), name.clone(), standing())
        .prop_map(|(days, from, to, name, keeps)| part(days, &from, &to, name, keeps));
    let patterns = prop_oneof![
        Just("30 2 * * *"),
        Just("0 */3 * * *"),
        Just("15 1 * * SUN"),
        Just("*/20 1-3 * * *"),
        Just("0 20 * * *")
    ];
    let ends = prop_oneof![
        a_time().prop_map(|time| until(&time)),
        (1u64..600).prop_map(|minutes| End::After(Duration::from_secs(minutes * 60)))
    ];
    let crons =
        (patterns, ends, name, standing()).prop_map(|(text, end, name, keeps)| cron(text, end, name, keeps));
    prop_oneof![parts, crons]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Over a week with a clock change in it, minute by minute: what holds changes when `next` says so, and never else; and a
    /// part of a day holds exactly when the wall shows a time in it, but for the hour that it shows twice.
    #[test]
    fn what_is_said_of_the_next_change_is_what_happens(
        windows in prop::collection::vec(a_window(), 1..4),
        week in prop_oneof![
            Just("2026-03-26T00:00"), Just("2026-10-22T00:00"), Just("2026-03-05T00:00"), Just("2026-10-29T00:00"),
            Just("2028-02-26T00:00"), Just("2026-04-02T00:00"),
        ],
    ) {
        let schedule = Schedule::new(windows);
        let start = at(&format!("{week}[UTC]"));
        let (mut standing, mut next) = (schedule.look(start), schedule.next(start));
        for minute in 1..7 * 24 * 60 {
            let now = start + minute * MINUTE;
            let looked = schedule.look(now);
            match &next {
                Some((when, then)) if *when == now => {
                    prop_assert_eq!(&looked, then);
                    prop_assert_ne!(&looked, &standing);
                    (standing, next) = (looked.clone(), schedule.next(now));
                }
                Some((when, _)) => {
                    prop_assert!(*when > now, "{now}: it was to change at {when}");
                    prop_assert_eq!(&looked, &standing, "at {}", now);
                }
                None => prop_assert_eq!(&looked, &standing),
            }
            prop_assert_eq!(schedule.standing(now), looked, "what was found out before is still true");
        }
    }

    #[test]
    fn a_part_of_a_day_holds_when_the_wall_shows_a_time_in_it(
        from in a_time(), to in a_time(), name in prop_oneof![Just(PARIS), Just(NEW_YORK)], minute in 0u64..1_600_000,
    ) {
        let window = part("daily", &from, &to, name, Standing::Awake);
        let now = at("2025-01-01T00:00[UTC]") + minute * MINUTE;
        let wall = wall::shown(&zone(name), now).unwrap();
        let shown = wall.strftime("%H:%M").to_string();
        let within = if from < to { from <= shown && shown < to } else { shown >= from || shown < to };
        let holds = Schedule::new(vec![window]).standing(now) == Standing::Awake;
        // In the hour that the wall shows twice, it goes on where it began or is yet to end.
        let twice = zone(name).to_ambiguous_timestamp(wall).is_ambiguous();
        prop_assert!(holds == within || twice && holds);
    }
}
