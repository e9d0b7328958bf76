//! Durations and sizes, with their units.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::{Span, SpanRelativeTo};
use serde::Serializer;

use super::scalar::{Scalar, scalar};

/// Ten years. Adding more than that to a point in time is a way to overflow it.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// A length of time that may be zero: `800ms`, `15m`, `1h30m`, `2 days`, `PT15M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A length of time that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositivePeriod(pub Duration);

/// A number of bytes: `64KiB`, `100MB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Scalar for Period {
    const NAME: &'static str = "Duration";
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.parse::<f64>().is_ok() {
            return Err("has no unit: write a unit, for example `15s`".to_owned());
        }
        let wrong = || "is not a duration: write for example `800ms`, `15m`, `1h30m` or `2 days`".to_owned();
        let span: Span = text.parse().map_err(|_| wrong())?;
        // A day is 24 hours here: there is no calendar in an idle time. Months and years are refused by that.
        let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        if signed.is_negative() {
            return Err("is less than nothing".to_owned());
        }
        let duration = Duration::try_from(signed).map_err(|_| wrong())?;
        if duration > LONGEST {
            return Err("is longer than ten years".to_owned());
        }
        Ok(Self(duration))
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "string",
            "pattern": "^\\s*[0-9Pp]",
            "examples": ["800ms", "15m", "1h30m", "2 days"]
        })
    }
}

impl Scalar for PositivePeriod {
    const NAME: &'static str = "PositiveDuration";
    fn parse(text: &str) -> Result<Self, String> {
        match Period::parse(text)?.0 {
            Duration::ZERO => Err("must be more than nothing".to_owned()),
            duration => Ok(Self(duration)),
        }
    }
    fn schema() -> serde_json::Value {
        Period::schema()
    }
}

impl Scalar for Size {
    const NAME: &'static str = "Size";
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is not a size: write for example `64KiB`, `100MB` or `1GiB`".to_owned();
        let text = text.trim();
        // `ByteSize` takes what overflows for the largest number; nothing here is ever above an exbibyte.
        let size: ByteSize = text.parse().map_err(|_| wrong())?;
        match size.as_u64() {
            0 => Err("must be more than nothing".to_owned()),
            bytes if bytes > ByteSize::eib(1).as_u64() => Err("is more than 1EiB".to_owned()),
            bytes => Ok(Self(bytes)),
        }
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": "^\\s*[0-9]", "examples": ["64KiB", "100MB", "1GiB"] }
            ]
        })
    }
}

scalar!(Period, PositivePeriod, Size);

/// `800ms`, `15m`, `1h30m`: as short as it can be without loss below a nanosecond.
pub fn duration(duration: Duration) -> String {
    let (mut seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let mut shown = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if seconds >= length {
            shown.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    let mut nanos = nanos;
    for (unit, length) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1)] {
        if nanos >= length {
            shown.push_str(&format!("{}{unit}", nanos / length));
            nanos %= length;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// `64KiB`, `100MB`, `1000001`: the largest unit that it is a whole number of.
pub fn size(bytes: u64) -> String {
    let units = [
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
    ];
    match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// For `serialize_with`: see [`duration`](fn@duration).
///
/// # Errors
///
/// Those of the serializer.
pub fn show_duration<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration(*length))
}

/// For `serialize_with`: see [`size`](fn@size).
///
/// # Errors
///
/// Those of the serializer.
pub fn show_size<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&size(*bytes))
}

/// For `serialize_with`: the [`size`](fn@size) of something in memory.
///
/// # Errors
///
/// Those of the serializer.
pub fn show_length<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    show_size(&(*bytes as u64), serializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("800ms", 800),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2 days", 172_800_000),
            ("1 week", 604_800_000),
            ("90 seconds", 90_000),
            ("1.5s", 1_500),
            ("PT15M", 900_000),
            ("0s", 0),
            (" 5s ", 5_000),
        ] {
            assert_eq!(Period::parse(text), Ok(Period(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn durations_that_are_refused_say_why() {
        for (text, why) in [
            ("15", "has no unit"),
            ("0", "has no unit"),
            ("1.5", "has no unit"),
            ("-15", "has no unit"),
            ("-15m", "less than nothing"),
            ("15m ago", "less than nothing"),
            ("", "is not a duration"),
            ("soon", "is not a duration"),
            ("15 parsecs", "is not a duration"),
            ("1 month", "is not a duration"),
            ("inf", "has no unit"),
            ("100000 days", "longer than ten years"),
        ] {
            let error = Period::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(PositivePeriod::parse("0ms").is_err());
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in
            [("64KiB", 65_536), ("100MB", 100_000_000), ("1 GiB", 1 << 30), ("17", 17), ("1.5kB", 1_500)]
        {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0", "big", "-1MB", "1XB", "nan", "infGB", "99999999999999GB", "9e99"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(nanos in 0..LONGEST.as_nanos() as u64, bytes in 1u64..1 << 60) {
            let length = Duration::from_nanos(nanos);
            prop_assert_eq!(Period::parse(&duration(length)), Ok(Period(length)));
            prop_assert_eq!(Size::parse(&size(bytes)), Ok(Size(bytes)));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".*") {
            let _ = Period::parse(&text);
            let _ = Size::parse(&text);
        }
    }
}
