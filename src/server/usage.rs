//! What the history knows of apps whose rules limit how often and how long they are awake: a restart takes none of it back.

use std::time::Duration;

use crate::{
    history::{Entry, History, Query},
    lifecycle::Lifecycle,
    routing::rules::WakeLimits,
};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Tells the lifecycle what was before `began` (milliseconds since 1970), when this gateway did. Once.
pub async fn recall(lifecycle: &Lifecycle, history: &History, began: u64) {
    let midnight = began - began % DAY;
    for (id, app) in lifecycle.apps().iter() {
        if app.settings().ruling.limits == WakeLimits::default() {
            continue;
        }
        let query = Query {
            app: Some(id.to_string()),
            since: Some(midnight.min(began.saturating_sub(HOUR))),
            until: Some(began),
            limit: Some(usize::MAX),
            ..Query::default()
        };
        let mut answer = history.events(&query).await;
        if let Some(why) = answer.incomplete {
            log::warn!("{id}: its limits do not count what was before this start: {why}");
        }
        answer.found.reverse();
        let wakes = answer.found.iter().filter(|entry| entry.event == "waking").map(|entry| entry.at);
        lifecycle.recall_usage(app, wakes.collect(), awake(&answer.found, midnight));
    }
}

/// How long an app was awake from `midnight` on, by what has happened to it, oldest first. Of a time whose end nobody saw
/// nothing counts: the gateway that saw its beginning has ended meanwhile.
fn awake(entries: &[Entry], midnight: u64) -> Duration {
    let (mut up, mut seen, mut sum) = (None, false, 0);
    for entry in entries {
        match &*entry.event {
            "asked-for" | "waking" | "ready" | "adopted" => {
                up.get_or_insert(entry.at);
            }
            "asleep" | "crashed" | "stopped-by-others" | "wake-failed" => {
                // What ends first of all has begun before.
                let since = up.take().or((!seen).then_some(midnight));
                sum += since.map_or(0, |since: u64| entry.at.saturating_sub(since.max(midnight)));
            }
            _ => continue,
        }
        seen = true;
    }
    Duration::from_millis(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::AppId, history::EventId, lifecycle::Cause};

    fn entry((hour, event): &(u64, &str)) -> Entry {
        Entry {
            id: EventId::at(hour * HOUR),
            at: hour * HOUR,
            app: AppId::new("local", "hello"),
            event: (*event).into(),
            text: String::new(),
            cause: Cause::Gateway,
            run: None,
            took: None,
            gateway: "one".into(),
            operation: None,
        }
    }

    #[test]
    fn time_awake_is_what_lies_between_what_has_happened() {
        let hours = |events: &[(u64, &str)]| {
            let entries: Vec<_> = events.iter().map(entry).collect();
            awake(&entries, 24 * HOUR).as_secs() / 3600
        };
        assert_eq!(hours(&[]), 0);
        assert_eq!(
            hours(&[(25, "asked-for"), (25, "waking"), (26, "ready"), (28, "idle"), (29, "asleep")]),
            4
        );
        assert_eq!(hours(&[(26, "asleep"), (30, "waking"), (31, "wake-failed")]), 3, "up since yesterday");
        assert_eq!(hours(&[(23, "ready"), (26, "crashed"), (27, "asleep")]), 2, "once");
        assert_eq!(hours(&[(26, "ready")]), 0, "nobody saw the end");
    }
}
