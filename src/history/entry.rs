//! An event as it is kept, and shown to whoever asks.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    app::AppId,
    lifecycle::{Cause, Event, Happening},
};

/// Bits of an [`EventId`] that tell gateways apart.
const WRITER_BITS: u32 = 15;

/// Bits of an [`EventId`] that tell events of one millisecond apart.
const SEQUENCE_BITS: u32 = 6;

/// Which event: a number that grows with time, so that the order of ids is the order of events, in one gateway strictly.
///
/// 42 bits of milliseconds since 1970 (until 2109), 6 bits that count within one, 15 bits of the gateway, which are random at its
/// start. Two gateways that drew the same (1 in 32,768) would have to see an event in the same millisecond to have one id twice;
/// the store then keeps the first. Written as 16 hexadecimal digits, since a browser's numbers end at 53 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub i64);

impl EventId {
    /// The smallest id of that moment: everything from then on is at or above it.
    pub fn at(unix_millis: u64) -> Self {
        let shifted =
            unix_millis.min(u64::MAX >> (WRITER_BITS + SEQUENCE_BITS + 1)) << (WRITER_BITS + SEQUENCE_BITS);
        Self(i64::try_from(shifted).unwrap_or(i64::MAX))
    }

    /// The moment of its event, in milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0 >> (WRITER_BITS + SEQUENCE_BITS)).unwrap_or(0)
    }

    /// Whether no id was given.
    pub fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Sixteen hexadecimal digits were expected.
#[derive(Debug, thiserror::Error)]
#[error("the id of an event has sixteen hexadecimal digits")]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        i64::from_str_radix(text, 16).ok().filter(|_| plain).map(Self).ok_or(NotAnEventId)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Gives out ids, each above all before it, whatever the wall clock does.
#[derive(Debug)]
pub(super) struct Ids {
    writer: i64,
    /// The last one without the gateway's bits.
    last: i64,
}

impl Ids {
    /// Of a gateway that begins.
    pub(super) fn new() -> Self {
        Self { writer: fastrand::i64(0..1 << WRITER_BITS), last: 0 }
    }

    /// The id of an event at that moment.
    pub(super) fn next(&mut self, unix_millis: u64) -> EventId {
        self.last = (EventId::at(unix_millis).0 >> WRITER_BITS).max(self.last + 1);
        EventId(self.last << WRITER_BITS | self.writer)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct Entry {
    /// Which; a page of a list begins before the last one of the page that came before.
    #[serde(default, skip_serializing_if = "EventId::is_none")]
    #[schema(value_type = String, example = "00c9a4c2e1b80001")]
    pub id: EventId,
    /// When: wall-clock milliseconds since 1970.
    pub at: u64,
    /// To which app.
    #[schema(value_type = String, example = "paris/shop")]
    pub app: AppId,
    /// What, in one word: `ready`, `asleep` and so on.
    pub event: String,
    /// In words, for people.
    pub text: String,
    /// Why.
    #[schema(value_type = Object)]
    pub cause: Cause,
    /// The wake or the stop that it belongs to: all of its events have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run: Option<Arc<str>>,
    /// How long it took, in milliseconds: a boot, a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
    /// The gateway that saw it.
    #[schema(value_type = String)]
    pub gateway: Arc<str>,
    /// What the provider calls what it did about it, where it has a name for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub operation: Option<Arc<str>>,
}

impl Entry {
    /// The same with this id.
    #[must_use]
    pub fn with_id(self, id: EventId) -> Self {
        Self { id, ..self }
    }
}

/// Without an id, which only the history gives.
impl From<&Happening> for Entry {
    fn from(happening: &Happening) -> Self {
        let took = match &happening.event {
            Event::Ready(took) | Event::Asleep(took) => u64::try_from(took.as_millis()).ok(),
            _ => None,
        };
        Self {
            id: EventId::default(),
            at: happening.at,
            app: happening.app.clone(),
            event: happening.event.name().to_owned(),
            // PostgreSQL keeps no text with a zero byte in it, and an app's last words may have one.
            text: happening.event.to_string().replace('\0', "\u{fffd}"),
            cause: happening.cause(),
            run: happening.run.as_ref().map(|run| run.id.clone()),
            took,
            gateway: happening.gateway.clone(),
            operation: happening.operation.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_with_time_and_never_go_back_with_the_clock() {
        let mut ids = Ids::new();
        let now = 1_790_000_000_000;
        let given: Vec<EventId> = (0..200).map(|_| ids.next(now)).collect();
        assert!(given.is_sorted() && given[0] >= EventId::at(now) && given[63] < EventId::at(now + 1));
        assert!(ids.next(now - 3_600_000) > given[199]);
        assert!(ids.next(now + 60_000) >= EventId::at(now + 60_000));
    }

    #[test]
    fn an_id_is_written_and_read_as_text() {
        let id = EventId(0x00c9_a4c2_e1b8_0001);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"00c9a4c2e1b80001\"");
        assert_eq!("00c9a4c2e1b80001".parse::<EventId>().unwrap(), id);
        for bad in ["", "1", "+0c9a4c2e1b80001", "zzc9a4c2e1b80001", "ffc9a4c2e1b80001"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
        assert_eq!(EventId::at(1_790_000_000_000).unix_millis(), 1_790_000_000_000);
        assert_eq!(EventId::at(u64::MAX).0 >> 63, 0, "the end of time is no negative number");
    }
}
