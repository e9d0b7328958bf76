//! Once a minute: which apps were used, how often, and who sleeps.

use std::time::Duration;

use super::{History, Tally, tally::HOUR};
use crate::{app::AppState, clock::Millis};

const MINUTE: u64 = 60_000;

/// Apps that are looked at under one lock.
const AT_ONCE: usize = 200;

/// What an app's counter showed when it was last read, and when the app was last used.
#[derive(Clone, Copy, Default)]
pub(super) struct Reading {
    requests: u64,
    active: Millis,
}

impl History {
    /// Looks at every app at the end of each minute, until it is aborted.
    pub async fn watch(self) {
        loop {
            let now = self.inner().clock.unix_millis();
            // A moment after the minute's end, whatever the clock's hands do meanwhile.
            tokio::time::sleep(Duration::from_millis(MINUTE - now % MINUTE + 50)).await;
            self.sample();
        }
    }

    /// Looks at every app now: what it was asked for since the last look goes to the minute in which most of that time was.
    pub fn sample(&self) {
        let inner = self.inner();
        let Some(lifecycle) = inner.lifecycle() else {
            return;
        };
        let now = inner.clock.unix_millis();
        let at = now.saturating_sub(MINUTE / 2);
        let apps = lifecycle.apps();
        let all: Vec<_> = apps.iter().collect();
        // A few at a time: whoever has an event to tell waits for none of this.
        for some in all.chunks(AT_ONCE) {
            let mut waiting = inner.waiting();
            for (id, app) in some {
                let reading =
                    Reading { requests: app.traffic().counts().requests(), active: app.last_activity() };
                let last = waiting.readings.insert((*id).clone(), reading).unwrap_or_default();
                // An app that was taken out and is back counts from nothing.
                let requests = reading.requests.checked_sub(last.requests).unwrap_or(reading.requests);
                let used = app.in_flight() > 0 || (reading.active != last.active && requests > 0);
                if requests > 0 || used {
                    let minutes = u64::from(used) << (at % HOUR / MINUTE);
                    waiting.tell(id, at, &Tally { requests, minutes, ..Tally::default() });
                }
                let kept =
                    app.record().is_some_and(|it| it.formation.is_some() && it.state == AppState::Asleep);
                waiting.looked(id, app.state(), kept && !app.is_left_alone(), now);
            }
        }
        inner.waiting().retain(|app| apps.contains_key(app));
    }
}
