//! A wake: a task of its own, one for each app at a time, from the decision to the app's first answer.

use std::{sync::Arc, time::Duration};

use super::{Event, Lifecycle, ManagedApp, Reached, Step};
use crate::{
    app::AppState,
    registry::{Change, record::back_off},
};

/// Runs after the cell went to `Waking`, and always leaves it `Awake` or `Failed`, whatever happens inside.
pub(super) async fn run(lifecycle: Arc<Lifecycle>, app: Arc<ManagedApp>) {
    let began = lifecycle.clock.now();
    let limit = app.settings().timeouts.wake;
    // As a task of its own, so that even a panic inside is an ordinary failure here.
    let attempt = lifecycle.tasks.spawn(attempt(lifecycle.clone(), app.clone(), limit));
    let result = match attempt.await {
        Ok(result) => result,
        Err(error) => Err(format!("internal error: {error}")),
    };
    let result = match result {
        Ok(reached) => succeed(&lifecycle, &app, reached, lifecycle.clock.now().since(began)).await,
        Err(reason) => Err(reason),
    };
    if let Err(reason) = result {
        fail(&lifecycle, &app, reason).await;
    }
}

async fn attempt(
    lifecycle: Arc<Lifecycle>,
    app: Arc<ManagedApp>,
    limit: Duration,
) -> Result<Reached, String> {
    let change = Change::BeginWake { deadline: lifecycle.deadline(limit) };
    let formation = match lifecycle.record(&app, change).await {
        Ok(record) => record.formation,
        // A registry that is away must not keep people from their app.
        Err(error) => {
            log::warn!("{}: waking without the registry: {error}", app.id);
            None
        }
    };
    app.exited.send_replace(None);
    let mut exited = app.exited.subscribe();
    Event::Waking.tell(&app.id);
    let settings = app.settings();
    let host = settings.hosts.first().map_or("localhost", String::as_str);
    let boot = async {
        let endpoint =
            app.provider.start(&app.id.name, formation.as_ref()).await.map_err(|e| e.to_string())?;
        app.reached_step(Step::Probing);
        lifecycle.prober.until_ready(endpoint, host, &settings.ready).await;
        Ok::<_, String>(endpoint)
    };
    let endpoint = tokio::select! {
        biased; // a dead app's port may answer for somebody else: hear of the death first
        reason = exited.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone());
            return Err(format!("it ended while starting: {}", reason.as_deref().unwrap_or("for no known reason")));
        }
        endpoint = boot => endpoint?,
        () = tokio::time::sleep(limit) => {
            return Err(format!("no answer on {} within the wake timeout of {limit:?}", settings.ready.path));
        }
    };
    let run = lifecycle.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(Reached { endpoint, run })
}

/// Fails if the app died between its first answer and now: whoever hears of a death says so before it looks at the
/// cell, and we look after we hold `order`, so that one of the two sees the other.
async fn succeed(
    lifecycle: &Lifecycle,
    app: &ManagedApp,
    reached: Reached,
    boot: Duration,
) -> Result<(), String> {
    let _order = app.order.lock().await;
    if let Some(reason) = app.exited.borrow().as_deref() {
        return Err(format!("it ended as soon as it had started: {reason}"));
    }
    app.reach(Some(reached));
    // A full idle time from now, and then at once the requests that wait: the record can follow.
    app.cell.touch(lifecycle.clock.now());
    app.turn(AppState::Waking, AppState::Awake, Step::Ready, None);
    Event::Ready(boot).tell(&app.id);
    match lifecycle.record(app, Change::WakeReady { boot }).await {
        Ok(record) => app.remember(&record),
        Err(error) => log::warn!("{}: that it woke could not be recorded: {error}", app.id),
    }
    Ok(())
}

async fn fail(lifecycle: &Lifecycle, app: &ManagedApp, reason: String) {
    // Whatever half of it runs must not go on running; and only then may a next start begin.
    if let Err(error) = app.provider.stop(&app.id.name).await {
        log::warn!("{}: cannot clean up after a failed start: {error}", app.id);
    }
    let _order = app.order.lock().await;
    let retry_after = match lifecycle.record(app, Change::WakeFailed { reason: reason.clone() }).await {
        Ok(record) => {
            app.remember(&record);
            record.back_off()
        }
        Err(error) => {
            log::warn!("{}: its failure could not be recorded: {error}", app.id);
            back_off(app.failures() + 1)
        }
    };
    let failure = lifecycle.failure(retry_after);
    Event::WakeFailed { reference: failure.reference.clone(), reason, retry_after }.tell(&app.id);
    app.turn(AppState::Waking, AppState::Failed, Step::Starting, Some(failure));
}

impl Lifecycle {
    /// The registry's time `limit` from now, and as much again: the deadline is for those who find the record of a
    /// gateway that died, and must never cut a wake that is merely slow.
    pub(super) fn deadline(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.saturating_mul(2).as_millis()).unwrap_or(u64::MAX);
        self.clock.unix_millis().saturating_add(limit)
    }
}
