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
    Mine(Option<Record>),
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
        Err(error) => Err(Unwoken { reason: format!("internal error: {error}"), epoch: None }),
    };
    let result = match result {
        Ok(Woken::Elsewhere) => return,
        Ok(Woken::Here(reached, epoch)) => {
            let succeeded =
                succeed(&lifecycle, &app, reached, lifecycle.clock.now().since(began), epoch).await;
            succeeded.map_err(|reason| Unwoken { reason, epoch })
        }
        Err(unwoken) => Err(unwoken),
    };
    if let Err(unwoken) = result {
        fail(&lifecycle, &app, unwoken).await;
    }
}

/// Why an attempt has come to nothing, and the epoch of the record that it was about.
struct Unwoken {
    reason: String,
    epoch: Option<u64>,
}

/// Several gateways may want to wake the app; one does, and if it is not heard of any more, another goes on.
async fn attempt(lifecycle: Arc<Lifecycle>, app: Arc<ManagedApp>, limit: Duration) -> Result<Woken, Unwoken> {
    let mut under_way = false;
    loop {
        let claim = claim(&lifecycle, &app, limit).await;
        let record = match claim.map_err(|reason| Unwoken { reason, epoch: None })? {
            Claim::Mine(record) => record,
            Claim::Elsewhere => return Ok(Woken::Elsewhere),
        };
        fail_point("wake:begun");
        let epoch = record.as_ref().map(|record| record.epoch);
        under_way |= record.as_ref().is_some_and(|record| record.taken_over);
        // Without the registry, what was heard of last has to do.
        let known = || app.record().or_else(|| lifecycle.fleet()?.known(&app.id));
        let formation = record.or_else(known).and_then(|record| record.formation);
        tokio::select! {
            reached = start(&lifecycle, &app, limit, formation, under_way) => {
                fail_point("wake:started");
                return match reached {
                    Ok(reached) => Ok(Woken::Here(reached, epoch)),
                    Err(reason) => Err(Unwoken { reason, epoch }),
                };
            }
            () = lifecycle.keep(&app) => {
                log::warn!("{}: this gateway was too slow to wake it, and another has taken over", app.id);
                under_way = true;
            }
        }
    }
}

/// Returns once this gateway is to wake the app, or another has woken it (or could not).
async fn claim(lifecycle: &Arc<Lifecycle>, app: &Arc<ManagedApp>, limit: Duration) -> Result<Claim, String> {
    loop {
        let change = Change::BeginWake { by: lifecycle.me(), lease: lifecycle.lease(limit) };
        let there = match lifecycle.record(app, change, None).await {
            Ok(record) => {
                // What was followed meanwhile may have turned the cell: whoever comes waits for this wake.
                let _order = app.order.lock().await;
                let (latest, state) = (app.record(), app.state());
                if state != AppState::Waking && latest.is_some_and(|latest| latest.epoch == record.epoch) {
                    app.turn(state, AppState::Waking, Step::Starting, None);
                }
                return Ok(Claim::Mine(Some(record)));
            }
            Err(RegistryError::Misfit(record)) => *record,
            Err(error @ RegistryError::Newer(_)) => return Err(error.to_string()),
            // A registry that is away must not keep people from their app.
            Err(error) => {
                log::warn!("{}: waking without the registry: {error}", app.id);
                app.ruled.usage().woke(lifecycle.clock.unix_millis());
                return Ok(Claim::Mine(None));
            }
        };
        let Some(fleet) = lifecycle.fleet() else {
            return Err(format!("its record says that it is {}", there.state));
        };
        match there.state {
            // It gives way to whoever wants the app.
            AppState::Stopping if !there.told => {
                match lifecycle.registry.apply(&app.id, Change::Veto, Some(there.epoch)).await {
                    Ok(record) => drop(app.hear(&record)),
                    Err(RegistryError::Misfit(record)) => drop(app.hear(&record)),
                    Err(_) => {}
                }
                continue;
            }
            AppState::Stopping => fleet.want(&app.id).await,
            AppState::Awake | AppState::Waking | AppState::Asleep | AppState::Failed => {}
        }
        if there.state != AppState::Awake {
            let left =
                there.deadline.map_or(AT_MOST, |at| Duration::from_millis(at.saturating_sub(fleet.now())));
            tokio::select! {
                () = until_not(app, there.epoch) => {}
                // Renewed meanwhile, or abandoned.
                () = tokio::time::sleep(left.clamp(AT_LEAST, AT_MOST)) => {}
            }
            // Records that change all the time are no reason to ask all the time.
            tokio::time::sleep(AT_LEAST / 5).await;
        }
        let _order = app.order.lock().await;
        lifecycle.catch_up_in_order(app).await;
        let latest = app.record().map(|record| record.state);
        if app.state() == AppState::Waking && latest == Some(AppState::Awake) {
            lifecycle.awake_elsewhere(app).map_err(|error| error.to_string())?;
        }
        // Whoever woke it has told everybody, and those who wait here have been let go.
        if app.state() != AppState::Waking {
            return Ok(Claim::Elsewhere);
        }
    }
}

/// Starts the app, once those that have to be up first are, and returns where it has answered.
async fn start(
    lifecycle: &Arc<Lifecycle>,
    app: &Arc<ManagedApp>,
    limit: Duration,
    formation: Option<Formation>,
    may_be_under_way: bool,
) -> Result<Reached, String> {
    lifecycle.gather(app).await?;
    app.exited.send_replace(None);
    let mut exited = app.exited.subscribe();
    lifecycle.happened(app, Event::Waking);
    let settings = app.settings();
    let host = settings.hosts.first().map_or("localhost", |(host, _)| host);
    let turn = Turn::default();
    let boot = async {
        let endpoint = match under_way(app, may_be_under_way).await {
            Some(endpoint) => endpoint,
            None => {
                if let Some(run) = app.run() {
                    lifecycle.guard.before_start(app, &run).await?;
                }
                let started = app.provider.start(&app.id.name, formation.as_ref(), &turn).await;
                app.ruled.operates(turn.operation());
                started.map_err(|error| error.to_string())?
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
async fn under_way(app: &ManagedApp, may_be: bool) -> Option<Endpoint> {
    let endpoint = app.known().endpoint.clone().filter(|_| may_be)?;
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
    lifecycle: &Arc<Lifecycle>,
    app: &Arc<ManagedApp>,
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
    lifecycle.happened(app, Event::Ready(boot));
    match lifecycle.record(app, Change::WakeReady { boot }, epoch).await {
        Ok(_) => {
            let state = app.state();
            if state != AppState::Awake {
                app.turn(state, AppState::Awake, Step::Ready, None);
            }
        }
        // Another has taken over, and will find that it runs. Or the registry was away when this wake began: it runs.
        Err(RegistryError::Misfit(record)) if record.state != AppState::Awake => {
            let found = Change::Found { running: true, by: lifecycle.me() };
            drop(lifecycle.record(app, found, Some(record.epoch)).await);
        }
        Err(RegistryError::Misfit(_)) => {}
        Err(error) => log::warn!("{}: that it woke could not be recorded: {error}", app.id),
    }
    lifecycle.catch_up_in_order(app).await;
    Ok(())
}

async fn fail(lifecycle: &Arc<Lifecycle>, app: &Arc<ManagedApp>, unwoken: Unwoken) {
    let Unwoken { reason, epoch } = unwoken;
    lifecycle.surprised_by(app);
    // Whatever half of it runs must not go on running; and only then may a next start begin.
    if let Err(error) = app.provider.give_up(&app.id.name).await {
        log::warn!("{}: cannot clean up after a failed start: {error}", app.id);
    }
    let _order = app.order.lock().await;
    let reference = reference();
    let change = Change::WakeFailed { reason: reason.clone(), reference: reference.clone() };
    let retry_after = match lifecycle.record(app, change, epoch).await {
        Ok(record) => record.back_off(),
        // Another has taken over: whoever comes hears what becomes of that.
        Err(RegistryError::Misfit(_)) => {
            log::warn!("{}: did not wake here ({reason}), and another gateway has it in hand", app.id);
            app.turn(AppState::Waking, AppState::Asleep, Step::Starting, None);
            return lifecycle.catch_up_in_order(app).await;
        }
        Err(error) => {
            log::warn!("{}: its failure could not be recorded: {error}", app.id);
            back_off(app.failures() + 1)
        }
    };
    let failure = lifecycle.failure(reference, retry_after);
    lifecycle.happened(app, Event::WakeFailed { reference: failure.reference.clone(), reason, retry_after });
    app.turn(AppState::Waking, AppState::Failed, Step::Starting, Some(failure));
    lifecycle.catch_up_in_order(app).await;
}
