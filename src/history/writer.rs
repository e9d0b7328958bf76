//! The task that writes what waits, again and again while the store is away.

use std::{sync::Arc, time::Duration};

use super::{StoreError, handle::Inner};

/// Hours are written so often, and all at the end: they are counted in memory meanwhile, where answers take them from.
const HOURS_EVERY: Duration = Duration::from_secs(300);

/// Old events and hours are forgotten so often.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// A store that has not taken a batch after so long is away. What became of it is not known, and need not be.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries while the store is away: twice as long each time, up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Writes until it is aborted.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut hours = tokio::time::interval(HOURS_EVERY);
    hours.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut prune = tokio::time::interval(PRUNE_EVERY);
    prune.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    hours.tick().await;
    // Beside the writing: to forget millions of events takes longer than the queue is long.
    let mut forgetting = tokio::task::JoinSet::new();
    loop {
        let due = tokio::select! {
            () = inner.more.notified() => false,
            () = inner.hurry.notified() => true,
            _ = hours.tick() => true,
            _ = prune.tick() => {
                if forgetting.is_empty() {
                    let inner = inner.clone();
                    forgetting.spawn(async move { forget(&inner).await });
                }
                continue;
            }
            Some(_) = forgetting.join_next() => continue,
        };
        write_all(&inner, due).await;
    }
}

async fn write_all(inner: &Inner, mut due: bool) {
    let mut pause = BACK_OFF.0;
    loop {
        let leads = inner.leads();
        let Some(batch) = inner.waiting().next(due, leads) else {
            inner.written.notify_waiters();
            return;
        };
        let still = inner.moving.write().await;
        let result = tokio::time::timeout(PATIENCE, inner.store.record(&batch)).await;
        let result = result.unwrap_or_else(|_| Err(StoreError::Away(format!("no answer in {PATIENCE:?}"))));
        match result {
            Ok(()) => {
                inner.waiting().done();
                drop(still);
                inner.is_back();
                pause = BACK_OFF.0;
            }
            Err(StoreError::Refused(error)) => {
                log::error!(
                    "history: the store will never take {} events, which are lost: {error}",
                    batch.entries.len()
                );
                let mut waiting = inner.waiting();
                if let Some(last) = batch.entries.last() {
                    waiting.lose(batch.entries.len() as u64, last.at);
                }
                waiting.gap.lost_hours += batch.tallies.len() as u64;
                waiting.done();
            }
            Err(StoreError::Away(error)) => {
                drop(still);
                inner.is_away(error);
                let rest = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
                tokio::select! {
                    () = tokio::time::sleep(rest) => pause = (pause * 2).min(BACK_OFF.1),
                    // Somebody waits for the end.
                    () = inner.hurry.notified() => (due, pause) = (true, BACK_OFF.0),
                }
            }
        }
    }
}

async fn forget(inner: &Inner) {
    let now = inner.clock.unix_millis();
    let before = |kept: Duration| now.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
    let (events, hours) = inner.kept();
    if let Err(error) = inner.store.prune(before(events), before(hours)).await {
        log::debug!("history: what is old could not be forgotten: {error}");
    }
}
