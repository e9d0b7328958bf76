//! A wake: a task of its own, one for each app at a time, from the decision to the app's first answer.

use std::{sync::Arc, time::Duration};

use super::{
    Event, Lifecycle, ManagedApp, Reached, Step, fail_point::fail_point, fleet::until_not, reference,
};
use crate::{
    app::{AppState, AppStatus, Endpoint, Formation},
    provider::{Queue, Turn},
    registry::{Change, Record, RegistryError, record::back_off},
};

/// Whoever waits for another gateway's wake or stop looks again after so long, should it not be told.
const AT_LEAST: Duration = Duration::from_millis(50);
const AT_MOST: Duration = Duration::from_secs(1);

/// How often a provider is asked whether the app ended on its way up: our own probe sees all else sooner, for free.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An answer that may be the router's is not asked about before so long: each time costs the account a call.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// Who wakes an app.
enum Claim {
    /// This gateway. Without a record, if the registry is away: then each gateway may, once.
    Mine {
        record: Option<Record>,
        /// Whether another gateway had begun, and was not heard of any more.
        taken_over: bool,
    },
    /// Another gateway has, and the cell says what has come of it.
    Elsewhere,
}

/// What an attempt has come to.
enum Woken {
    /// The app has answered at this address. With the epoch of the wake's record.
    Here(Reached, Option<u64>),
    /// See [`Claim::Elsewhere`].
    Elsewhere,
}

/// Runs after the cell went to `Waking`, and always leaves it `Awake` or `Failed` (or what another gateway has made of the
/// app), whatever happens inside.
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
        Ok(Woken::Elsewhere) => return,
        Ok(Woken::Here(reached, epoch)) => {
            succeed(&lifecycle, &app, reached, lifecycle.clock.now().since(began), epoch).await
        }
        Err(reason) => Err(reason),
    };
    if let Err(reason) = result {
        fail(&lifecycle, &app, reason).await;
    }
}

/// Several gateways may want to wake the app; one does, and if it is not heard of any more, another goes on.
async fn attempt(lifecycle: Arc<Lifecycle>, app: Arc<ManagedApp>, limit: Duration) -> Result<Woken, String> {
    loop {
        let Claim::Mine { record, taken_over } = claim(&lifecycle, &app, limit).await? else {
            return Ok(Woken::Elsewhere);
        };
        fail_point("wake:begun");
        let epoch = record.as_ref().map(|record| record.epoch);
        // Without the registry, what was heard of last has to do.
        let known = || app.record().or_else(|| lifecycle.fleet()?.known(&app.id));
        let formation = record.or_else(known).and_then(|record| record.formation);
        tokio::select! {
            reached = start(&lifecycle, &app, limit, formation, taken_over) => {
                fail_point("wake:started");
                return Ok(Woken::Here(reached?, epoch));
            }
            () = lifecycle.keep(&app) => {
                log::warn!("{}: this gateway was too slow to wake it, and another has taken over", app.id);
            }
        }
    }
}

/// Returns once this gateway is to wake the app, or another has woken it (or could not).
async fn claim(lifecycle: &Arc<Lifecycle>, app: &Arc<ManagedApp>, limit: Duration) -> Result<Claim, String> {
    let mut taken_over = app.record().is_some_and(|record| record.state == AppState::Waking);
    loop {
        let change = Change::BeginWake { by: lifecycle.me(), lease: lifecycle.lease(limit) };
        let there = match lifecycle.record(app, change, None).await {
            Ok(record) => return Ok(Claim::Mine { record: Some(record), taken_over }),
            Err(RegistryError::Misfit(record)) => *record,
            Err(error @ RegistryError::Newer(_)) => return Err(error.to_string()),
            // A registry that is away must not keep people from their app.
            Err(error) => {
                log::warn!("{}: waking without the registry: {error}", app.id);
                return Ok(Claim::Mine { record: None, taken_over: false });
            }
        };
        let Some(fleet) = lifecycle.fleet() else {
            return Err(format!("its record says that it is {}", there.state));
        };
        match there.state {
            AppState::Awake => {
                let _order = app.order.lock().await;
                lifecycle.awake_elsewhere(app).map_err(|error| error.to_string())?;
                return Ok(Claim::Elsewhere);
            }
            AppState::Stopping if !there.told => {
                // It gives way to whoever wants the app.
                drop(lifecycle.record(app, Change::Veto, Some(there.epoch)).await);
                continue;
            }
            AppState::Stopping => fleet.want(&app.id).await,
            AppState::Waking => taken_over = true,
            AppState::Asleep | AppState::Failed => {}
        }
        let left = there.deadline.map_or(AT_MOST, |at| Duration::from_millis(at.saturating_sub(fleet.now())));
        tokio::select! {
            () = until_not(app, there.epoch) => {}
            // Renewed meanwhile, or abandoned.
            () = tokio::time::sleep(left.clamp(AT_LEAST, AT_MOST)) => {}
        }
        // Records that change all the time are no reason to ask all the time.
        tokio::time::sleep(AT_LEAST / 5).await;
        // Whoever woke it has told everybody, and those who wait here have been let go.
        lifecycle.catch_up(app).await;
        if app.state() != AppState::Waking {
            return Ok(Claim::Elsewhere);
        }
    }
}

/// Starts the app and returns where it has answered.
async fn start(
    lifecycle: &Arc<Lifecycle>,
    app: &Arc<ManagedApp>,
    limit: Duration,
    formation: Option<Formation>,
    taken_over: bool,
) -> Result<Reached, String> {
    app.exited.send_replace(None);
    let mut exited = app.exited.subscribe();
    Event::Waking.tell(&app.id);
    let settings = app.settings();
    let host = settings.hosts.first().map_or("localhost", |(host, _)| host);
    let turn = Turn::default();
    let boot = async {
        let endpoint = match under_way(app, taken_over).await {
            Some(endpoint) => endpoint,
            None => {
                let start = app.provider.start(&app.id.name, formation.as_ref(), &turn);
                start.await.map_err(|error| error.to_string())?
            }
        };
        app.reached_step(Step::Probing);
        let reached = lifecycle.reached(endpoint);
        let confirm = || async {
            tokio::time::sleep(CONFIRM_AFTER).await;
            matches!(app.provider.status(&app.id.name).await, Ok(AppStatus::Running))
        };
        let ready = lifecycle.prober.until_ready(&reached, host, &settings.ready, confirm);
        tokio::select! {
            () = ready => Ok::<_, String>(reached.clone()),
            reason = ended(app, &reached) => Err(reason),
        }
    };
    tokio::select! {
        biased; // a dead app's port may answer for somebody else: hear of the death first
        reason = exited.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone());
            Err(format!("it ended while starting: {}", reason.as_deref().unwrap_or("for no known reason")))
        }
        reached = boot => reached,
        () = too_late(app, &turn, limit) => {
            Err(format!("no answer on {} within the wake timeout of {limit:?}", settings.ready.path))
        }
    }
}

/// Where the app will answer, if the provider says that the start which another gateway began is under way.
async fn under_way(app: &ManagedApp, taken_over: bool) -> Option<Endpoint> {
    let endpoint = app.known().endpoint.clone().filter(|_| taken_over)?;
    let status = app.provider.status(&app.id.name).await;
    matches!(status, Ok(AppStatus::Running | AppStatus::Starting)).then_some(endpoint)
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
    epoch: Option<u64>,
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
    match lifecycle.record(app, Change::WakeReady { boot }, epoch).await {
        Ok(_) => {}
        // Another has taken over, and will find that it runs. Or the registry was away when this wake began: it runs.
        Err(RegistryError::Misfit(record)) if record.state != AppState::Awake => {
            let found = Change::Found { running: true, by: lifecycle.me() };
            drop(lifecycle.record(app, found, Some(record.epoch)).await);
        }
        Err(RegistryError::Misfit(_)) => {}
        Err(error) => log::warn!("{}: that it woke could not be recorded: {error}", app.id),
    }
    Ok(())
}

async fn fail(lifecycle: &Arc<Lifecycle>, app: &Arc<ManagedApp>, reason: String) {
    lifecycle.surprised_by(app);
    // Whatever half of it runs must not go on running; and only then may a next start begin.
    if let Err(error) = app.provider.give_up(&app.id.name).await {
        log::warn!("{}: cannot clean up after a failed start: {error}", app.id);
    }
    let _order = app.order.lock().await;
    let reference = reference();
    let change = Change::WakeFailed { reason: reason.clone(), reference: reference.clone() };
    let basis = app.record().filter(|_| lifecycle.fleet().is_some()).map(|record| record.epoch);
    let retry_after = match lifecycle.record(app, change, basis).await {
        Ok(record) => record.back_off(),
        Err(error) => {
            log::warn!("{}: its failure could not be recorded: {error}", app.id);
            back_off(app.failures() + 1)
        }
    };
    let failure = lifecycle.failure(reference, retry_after);
    Event::WakeFailed { reference: failure.reference.clone(), reason, retry_after }.tell(&app.id);
    app.turn(AppState::Waking, AppState::Failed, Step::Starting, Some(failure));
    // Another may have taken over, and have come further.
    lifecycle.catch_up_in_order(app).await;
}
