//! What limits need to know of the time before this gateway began: out of the history.

use std::{sync::Arc, time::Duration};

use crate::{
    history::{History, Query},
    lifecycle::Lifecycle,
    routing::rules::WakeLimits,
};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Tells the lifecycle how often each app with limits was woken in the hour before `now` (wall-clock milliseconds since 1970),
/// and how long it was awake since midnight (UTC). A history that cannot be asked has nothing to tell: then limits begin anew.
pub async fn recall(lifecycle: Arc<Lifecycle>, history: History, now: u64) {
    for (id, app) in lifecycle.apps().iter() {
        if app.settings().ruling.limits == WakeLimits::default() {
            continue;
        }
        let name = id.to_string();
        let woken = Query {
            app: Some(name.clone()),
            event: Some("waking".into()),
            since: Some(now.saturating_sub(HOUR)),
            until: Some(now),
            ..Query::default()
        };
        let wakes = history.events(&woken).await.found.into_iter().map(|entry| entry.at).collect();
        let hours = history.hours(Some(&name), now - now % DAY, now).await.found;
        let awake = hours.iter().map(|(_, hour)| u64::from(hour.awake_seconds)).sum();
        lifecycle.recall_usage(app, wakes, Duration::from_secs(awake));
    }
}
