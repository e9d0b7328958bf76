//! A wake: a task of its own, one for each app at a time, from the decision to the app's first answer.

use std::{sync::Arc, time::Duration};

use super::{Event, Lifecycle, ManagedApp, Reached, Step};
use crate::{
    app::{AppState, AppStatus},
    provider::{Queue, Turn},
    registry::{Change, record::back_off},
};

/// How often a provider is asked whether the app ended on its way up: our own probe sees all else sooner, for free.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An answer that may be the router's is not asked about before so long: each time costs the account a call.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

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
    let host = settings.hosts.first().map_or("localhost", |(host, _)| host);
    let turn = Turn::default();
    let boot = async {
        let start = app.provider.start(&app.id.name, formation.as_ref(), &turn);
        let endpoint = start.await.map_err(|error| error.to_string())?;
        app.reached_step(Step::Probing);
        let reached = lifecycle.reached(endpoint);
        let confirm = || async {
            tokio::time::sleep(CONFIRM_AFTER).await;
            matches!(app.provider.status(&app.id.name).await, Ok(AppStatus::Running))
        };
        let ready = lifecycle.prober.until_ready(&reached, host, &settings.ready, confirm);
        tokio::select! {
            () = ready => Ok::<_, String>(reached.clone()),
            reason = ended(&app, &reached) => Err(reason),
        }
    };
    tokio::select! {
        biased; // a dead app's port may answer for somebody else: hear of the death first
        reason = exited.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone());
            Err(format!("it ended while starting: {}", reason.as_deref().unwrap_or("for no known reason")))
        }
        reached = boot => reached,
        () = too_late(&app, &turn, limit) => {
            Err(format!("no answer on {} within the wake timeout of {limit:?}", settings.ready.path))
        }
    }
}

/// Returns the reason if the provider says that the app crashed, or twice in a row that it is stopped: then somebody has
/// cancelled the start. A local app's end is told without asking.
async fn ended(app: &ManagedApp, reached: &Reached) -> String {
    if reached.origin().is_none() {
        std::future::pending::<()>().await;
    }
    let mut stopped = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match app.provider.status(&app.id.name).await {
            Ok(AppStatus::Crashed(reason)) => return reason,
            Ok(AppStatus::Stopped) if stopped => return "it was stopped again before it was ready".into(),
            Ok(status) => stopped = status == AppStatus::Stopped,
            Err(_) => {}
        }
    }
}

/// Returns when the app has had `limit` to start. The time that a start waits in the account's queue is not the app's.
async fn too_late(app: &ManagedApp, turn: &Turn, limit: Duration) {
    let mut queue = turn.watch();
    let mut left = limit;
    loop {
        let now = *queue.borrow_and_update();
        match now {
            Queue::Waiting(estimate) => {
                app.reached_step(Step::Queued(estimate));
                let _ = queue.changed().await;
                app.reached_step(Step::Starting);
            }
            Queue::Ahead | Queue::Through => {
                let began = tokio::time::Instant::now();
                tokio::select! {
                    () = tokio::time::sleep(left) => return,
                    _ = queue.changed() => left = left.saturating_sub(began.elapsed()),
                }
            }
        }
    }
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
    lifecycle.surprised_by(app);
    // Whatever half of it runs must not go on running; and only then may a next start begin.
    if let Err(error) = app.provider.give_up(&app.id.name).await {
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
