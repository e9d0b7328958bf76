//! A day of hours in few bytes: thirteen months of an app are some kilobytes (`benchmarks/results/history.md`).
//!
//! For each hour that was seen: its number in the day, a byte that says what follows, and that. Numbers are LEB128. An app that
//! sleeps for hours in a row costs three bytes for all of them.

use super::{
    Tally,
    tally::{HOUR, Spans},
};

/// The form. A store's schema grows with it: an older Loir never sees a newer form.
const FORM: u8 = 1;

const WHOLE: u8 = 1;
const SPANS: u8 = 1 << 1;
const WAKES: u8 = 1 << 2;
const FAILED: u8 = 1 << 3;
const BOOTS: u8 = 1 << 4;
const REQUESTS: u8 = 1 << 5;
const MINUTES: u8 = 1 << 6;
/// As many hours in a row were like this one, and a number says how many more.
const AGAIN: u8 = 1 << 7;

/// The day of a moment (milliseconds), counted from 1970.
pub fn day_of(at: u64) -> i64 {
    i64::try_from(at / (24 * HOUR)).unwrap_or(i64::MAX)
}

/// When a day began, in milliseconds.
pub fn start_of(day: i64) -> u64 {
    u64::try_from(day).unwrap_or(0).saturating_mul(24 * HOUR)
}

/// The hours of a day: `None` for those that nobody saw.
pub type Day = [Option<Tally>; 24];

/// Packs a day.
pub fn pack(day: &Day) -> Vec<u8> {
    let mut bytes = vec![FORM];
    let mut hour = 0;
    while hour < day.len() {
        let Some(tally) = &day[hour] else {
            hour += 1;
            continue;
        };
        let same = day[hour + 1..].iter().take_while(|next| next.as_ref() == Some(tally)).count();
        let same = if tally.adds() { 0 } else { same };
        bytes.push(u8::try_from(hour).unwrap_or(0));
        put(&mut bytes, tally, same);
        hour += 1 + same;
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, tally: &Tally, same: usize) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let whole = tally.asleep.is_whole();
    bytes.push(
        flag(whole, WHOLE)
            | flag(!whole && !tally.asleep.is_empty(), SPANS)
            | flag(tally.wakes > 0, WAKES)
            | flag(tally.failed_wakes > 0, FAILED)
            | flag(!tally.boots.is_empty(), BOOTS)
            | flag(tally.requests > 0, REQUESTS)
            | flag(tally.minutes > 0, MINUTES)
            | flag(same > 0, AGAIN),
    );
    if !whole && !tally.asleep.is_empty() {
        number(bytes, tally.asleep.iter().count() as u64);
        let mut last = 0;
        for (from, to) in tally.asleep.iter() {
            number(bytes, u64::from(from - last));
            number(bytes, u64::from(to - from));
            last = to;
        }
    }
    for count in [u64::from(tally.wakes), u64::from(tally.failed_wakes)] {
        if count > 0 {
            number(bytes, count);
        }
    }
    if !tally.boots.is_empty() {
        number(bytes, tally.boots.len() as u64);
        tally.boots.iter().for_each(|boot| number(bytes, u64::from(*boot)));
    }
    if tally.requests > 0 {
        number(bytes, tally.requests);
    }
    if tally.minutes > 0 {
        bytes.extend_from_slice(&tally.minutes.to_le_bytes());
    }
    if same > 0 {
        number(bytes, same as u64);
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Unpacks a day; `None` if these bytes are none.
pub fn unpack(bytes: &[u8]) -> Option<Day> {
    let mut day = Day::default();
    // A row that was just made.
    let Some((form, mut rest)) = bytes.split_first() else {
        return Some(day);
    };
    if *form != FORM {
        return None;
    }
    while let Some((hour, after)) = rest.split_first() {
        rest = after;
        let (tally, same) = take(&mut rest)?;
        let hours = day.get_mut(usize::from(*hour)..=usize::from(*hour).checked_add(same)?)?;
        hours.fill(Some(tally));
    }
    Some(day)
}

fn take(rest: &mut &[u8]) -> Option<(Tally, usize)> {
    let flags = read_bytes::<1>(rest)?[0];
    let has = |flag: u8| flags & flag != 0;
    let mut tally = Tally::default();
    if has(WHOLE) {
        tally.asleep = Spans::of(0, 3600);
    }
    if has(SPANS) {
        let mut last = 0;
        for _ in 0..read(rest)? {
            let from = u16::try_from(read(rest)?).ok()?.checked_add(last)?;
            last = u16::try_from(read(rest)?).ok()?.checked_add(from)?;
            tally.asleep.join(&Spans::of(from, last));
        }
    }
    if has(WAKES) {
        tally.wakes = u32::try_from(read(rest)?).ok()?;
    }
    if has(FAILED) {
        tally.failed_wakes = u32::try_from(read(rest)?).ok()?;
    }
    if has(BOOTS) {
        let count = read(rest)?;
        tally.boots = (0..count).map_while(|_| u32::try_from(read(rest)?).ok()).collect();
        if tally.boots.len() as u64 != count {
            return None;
        }
    }
    if has(REQUESTS) {
        tally.requests = read(rest)?;
    }
    if has(MINUTES) {
        tally.minutes = u64::from_le_bytes(read_bytes(rest)?);
    }
    let same = if has(AGAIN) { usize::try_from(read(rest)?).ok()? } else { 0 };
    Some((tally, same))
}

fn read(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = read_bytes::<1>(rest)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn read_bytes<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally() -> impl Strategy<Value = Tally> {
        let spans = proptest::collection::vec((0u16..3600, 1u16..3600), 0..4);
        let boots = proptest::collection::vec(any::<u32>(), 0..4);
        (spans, any::<u32>(), 0u32..3, boots, any::<u64>(), any::<u64>()).prop_map(
            |(spans, wakes, failed_wakes, boots, requests, minutes)| {
                let mut asleep = Spans::default();
                spans
                    .into_iter()
                    .for_each(|(from, length)| asleep.join(&Spans::of(from, from.saturating_add(length))));
                Tally { asleep, wakes, failed_wakes, boots, requests, minutes }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(hours in proptest::collection::vec(proptest::option::of(prop_oneof![
            tally(),
            Just(Tally::default()),
            Just(Tally { asleep: Spans::of(0, 3600), ..Tally::default() }),
        ]), 24)) {
            let day: Day = hours.try_into().unwrap();
            prop_assert_eq!(unpack(&pack(&day)), Some(day));
        }

        #[test]
        fn damage_is_noticed_or_harmless_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = unpack(&bytes);
            let _ = unpack(&[&[FORM], &*bytes].concat());
        }
    }

    #[test]
    fn a_day_asleep_costs_four_bytes() {
        let asleep = Tally { asleep: Spans::of(0, 3600), ..Tally::default() };
        let day: Day = std::array::from_fn(|_| Some(asleep.clone()));
        assert_eq!(pack(&day), [FORM, 0, WHOLE | AGAIN, 23]);
    }
}
