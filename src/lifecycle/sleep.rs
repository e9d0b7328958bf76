//! A stop: from the decision to its confirmation, giving way to any request on the way.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Cause, Event, Lifecycle, ManagedApp, Step, cell::NotIdle, event::moment, fail_point::fail_point,
    lease::held_since, verdict::Moment,
};
use crate::{
    app::{AppState, AppStatus, StopTypes},
    config::units,
    provider::{BeforeStop, Queue, Turn},
    registry::{Change, Fleet, RegistryError, fleet::Agreement},
};

/// Longer than any provider takes to confirm a stop.
const LIMIT: Duration = Duration::from_secs(120);

/// Why a stop does not begin while nobody knows what the other gateways do.
const BLIND: &str = "the registry is away, or has just come back: nothing is stopped blindly";

/// What is being stopped is looked at so often, if it has not come out how that ended.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What became of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slept {
    /// The provider confirmed it.
    Yes,
    /// It gave way, and nothing was done.
    NotIdle(NotIdle),
    /// The provider or the registry refused, with the reason.
    Kept(String),
}

impl Lifecycle {
    /// Stops `app` if it has been idle for `idle`, because it has.
    pub async fn sleep(self: &Arc<Self>, app: &Arc<ManagedApp>, idle: Duration) -> Slept {
        self.sleep_because(app, idle, Cause::Idle { rule: app.settings().ruling.origin_of("idle_timeout") })
            .await
    }

    /// Stops `app` if it has been idle for `idle`, for this reason.
    ///
    /// From the first step on, newcomers are held; whatever the outcome, they are let go: forwarded if the stop gave
    /// way, woken for if it did not.
    pub async fn sleep_because(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        idle: Duration,
        cause: Cause,
    ) -> Slept {
        if let Some(reason) = app.left_alone() {
            return Slept::Kept(reason.to_string());
        }
        if let Some(pinned) = self.pinned(app, &cause) {
            return pinned;
        }
        if self.is_still_used(app) {
            return Slept::Kept("somebody still uses it under an earlier entry or name".into());
        }
        if self.fleet().is_some_and(|fleet| !fleet.may_stop()) {
            return Slept::Kept(BLIND.into());
        }
        // As a task of its own, so that whoever asks for it may go away, and even a panic inside is only a failure here.
        let (lifecycle, stopping) = (self.clone(), app.clone());
        match self.tasks.spawn(async move { lifecycle.put_to_sleep(&stopping, idle, cause).await }).await {
            Ok(slept) => slept,
            Err(error) => {
                app.turn(AppState::Stopping, AppState::Awake, Step::Ready, None);
                Slept::Kept(format!("internal error: {error}"))
            }
        }
    }

    /// Whether it is pinned, and so stays. One that was taken out of the configuration does not.
    fn pinned(&self, app: &ManagedApp, cause: &Cause) -> Option<Slept> {
        let until = app.ruled.pinned(self.clock.unix_millis()).filter(|_| *cause != Cause::Gateway)?;
        Some(Slept::Kept(format!("it is pinned until {}", moment(until))))
    }

    async fn put_to_sleep(self: &Arc<Self>, app: &Arc<ManagedApp>, idle: Duration, cause: Cause) -> Slept {
        // From the first change to the last: whoever else holds the order never meets `Stopping`.
        let _order = app.order.lock().await;
        // It may have waited long for the order.
        if self.fleet().is_some_and(|fleet| !fleet.may_stop()) {
            return Slept::Kept(BLIND.into());
        }
        if let Some(pinned) = self.pinned(app, &cause) {
            return pinned;
        }
        app.wanted_elsewhere.store(false, Ordering::SeqCst);
        // The others of its group may be on their way down already.
        let together = matches!(cause, Cause::Idle { .. });
        if let Some(other) = self.group_keeps(app, Moment::of(&self.clock)).filter(|_| together) {
            return Slept::Kept(format!("{other} of its group is in use"));
        }
        if let Err(reason) = app.begin_stop(idle) {
            if together {
                self.wake_others(app);
            }
            return Slept::NotIdle(reason);
        }
        let meant = matches!(cause, Cause::Person { .. });
        app.begin_run(cause);
        let (began, run) = (self.clock.now(), (app.ruled.run(), app.progress().borrow().boots.clone()));
        if !idle.is_zero() {
            self.happened(app, Event::Idle(idle));
        }
        let slept = match self.stop(app, idle).await {
            Ok(()) => {
                app.reach(None);
                if meant {
                    app.ruled.lay_down(self.clock.unix_millis());
                }
                self.happened(app, Event::Asleep(self.clock.now().since(began)));
                app.turn(AppState::Stopping, AppState::Asleep, Step::Starting, None);
                Slept::Yes
            }
            Err(kept) => {
                // A full idle time passes before the next try.
                let now = self.clock.now();
                app.cell.touch(match kept {
                    Kept::Fresh(ago) => now.before(ago),
                    _ => now,
                });
                self.happened(app, Event::KeptAwake(kept.to_string()));
                let to = match kept {
                    // What has become of it is in the record. Until that was read, nobody is let through.
                    Kept::Off(_) => AppState::Asleep,
                    _ => AppState::Awake,
                };
                app.turn(AppState::Stopping, to, Step::Ready, None);
                if let (Kept::Off(_), Ok(Some(record))) = (&kept, self.registry.read(&app.id).await) {
                    app.hear(&record);
                }
                Slept::Kept(kept.to_string())
            }
        };
        // Another gateway may have had the last word.
        self.catch_up_in_order(app).await;
        if app.state() == AppState::Awake && app.progress().borrow().boots == run.1 {
            // Nobody has woken it: it never slept.
            app.ruled.goes_on(run.0);
        }
        if together && slept != Slept::Yes {
            self.wake_others(app);
        }
        slept
    }

    /// Only while `app.order` is held.
    async fn stop(&self, app: &ManagedApp, idle: Duration) -> Result<(), Kept> {
        let begin = Change::BeginStop { by: self.me(), idle, lease: self.lease(LIMIT) };
        let sent = Instant::now();
        let begun = match self.record(app, begin, None).await {
            Ok(record) => record,
            Err(RegistryError::Misfit(_)) if self.fleet().is_some() => {
                return Err(Kept::Off("another gateway has it in hand"));
            }
            Err(error) => return Err(Kept::Before(error.to_string())),
        };
        fail_point("stop:begun");
        let mut basis = self.fleet().map(|_| begun.epoch);
        let lease = Mutex::new(sent);
        let outcome = tokio::select! {
            outcome = self.agree_save_and_stop(app, idle, &mut basis, &lease) => outcome,
            () = self.keep_since(app, &lease) => Err(Kept::Off("this gateway was too slow, and another has it in hand")),
        };
        let change = match &outcome {
            Ok(()) => Change::Stopped,
            Err(Kept::Wanted | Kept::Before(_) | Kept::Fresh(_)) => Change::AbortStop,
            // It is theirs to look what has become of the app.
            Err(Kept::Off(_)) => return outcome,
            // The provider is always right: a stop that reported an error may have worked all the same.
            Err(Kept::Stopping(_)) => tokio::select! {
                stopped = has_stopped(app) => if stopped { Change::Stopped } else { Change::AbortStop },
                // If it did work, the router's page will tell.
                () = app.wanted() => Change::AbortStop,
            },
        };
        let stopped = change == Change::Stopped;
        fail_point("stop:done");
        if let Err(error) = self.record(app, change, basis).await {
            log::warn!("{}: the end of a stop could not be recorded: {error}", app.id);
        }
        if stopped { Ok(()) } else { outcome }
    }

    /// Every gateway holds newcomers and has nothing in flight; then the app is stopped.
    async fn agree_save_and_stop(
        &self,
        app: &ManagedApp,
        idle: Duration,
        basis: &mut Option<u64>,
        lease: &Mutex<Instant>,
    ) -> Result<(), Kept> {
        if let (Some(fleet), Some(epoch)) = (self.fleet(), *basis) {
            tokio::select! {
                biased;
                agreed = all_agree(fleet, app, epoch) => agreed?,
                () = app.wanted() => return Err(Kept::Wanted),
            }
            fail_point("stop:agreed");
        }
        self.save_and_stop(app, idle, basis, lease).await
    }

    /// What must come back is kept before anything is stopped: whoever ends in between, nothing is lost. Whoever comes before
    /// the provider was told to stop it does not wait: the stop is given up.
    async fn save_and_stop(
        &self,
        app: &ManagedApp,
        idle: Duration,
        basis: &mut Option<u64>,
        lease: &Mutex<Instant>,
    ) -> Result<(), Kept> {
        let (name, turn) = (&app.id.name, Turn::default());
        if let Some(run) = app.run() {
            let objection = tokio::select! {
                biased;
                objection = self.guard.before_stop(app, &run) => objection,
                () = app.wanted() => return Err(Kept::Wanted),
            };
            objection.map_err(Kept::Before)?;
        }
        let look = tokio::select! {
            biased;
            look = app.provider.before_stop(name, &turn) => look,
            () = app.wanted() => return Err(Kept::Wanted),
        };
        let before = |error: &dyn std::fmt::Display| Kept::Before(error.to_string());
        self.still_fresh(&turn, idle)?;
        let stop = app.settings().stop;
        let formation = match look.map_err(|error| before(&error))? {
            // Nobody could wake it, so nobody's absence is a reason to stop it.
            BeforeStop::Runs(formation) if stop == StopTypes::All && !formation.runs_web() => {
                return Err(Kept::Before("it runs without a web process".to_owned()));
            }
            BeforeStop::Runs(formation) => stop.of(&formation),
            BeforeStop::Stopped => return Ok(()),
            BeforeStop::Busy(reason) => return Err(Kept::Before(reason)),
        };
        if formation.is_empty() {
            return Ok(());
        }
        // The look may have taken long: a word that was given before it may be old by now.
        if let (Some(fleet), Some(epoch)) = (self.fleet(), *basis) {
            all_agree(fleet, app, epoch).await?;
        }
        let save = Change::Save { formation: formation.clone() };
        let saved = self.record(app, save, *basis).await.map_err(|error| before(&error))?;
        *basis = basis.map(|_| saved.epoch);
        fail_point("stop:saved");
        // A gateway that stood still, or lost the registry, may have been taken for dead, and the app be in use elsewhere.
        if let Some(fleet) = self.fleet()
            && (!fleet.may_stop() || held_since(lease).elapsed() >= fleet.lease())
        {
            return Err(Kept::Off("this gateway was too slow to stop it"));
        }
        let turn = turn.next();
        tokio::select! {
            biased;
            stopped = app.provider.stop(name, &formation, &turn) => {
                fail_point("stop:stopped");
                app.ruled.operates(turn.operation());
                stopped.map_err(|error| Kept::Stopping(error.to_string()))
            }
            () = wanted_in_time(app, &turn) => Err(Kept::Wanted),
        }
    }
}

impl Lifecycle {
    /// A deployment counts as activity. One that is still to come is not believed: then clocks differ.
    fn still_fresh(&self, turn: &Turn, idle: Duration) -> Result<(), Kept> {
        let ago = turn.deployed().and_then(|at| self.clock.unix_millis().checked_sub(at));
        match ago.map(Duration::from_millis).filter(|ago| *ago < idle) {
            Some(ago) => Err(Kept::Fresh(ago)),
            None => Ok(()),
        }
    }
}

/// Returns once every live gateway has agreed.
async fn all_agree(fleet: &dyn Fleet, app: &ManagedApp, epoch: u64) -> Result<(), Kept> {
    let limit = Instant::now() + fleet.lease() / 2;
    loop {
        match fleet.agreement(&app.id, epoch).await {
            Ok(Agreement::Reached) => return Ok(()),
            Ok(Agreement::Off) => return Err(Kept::Off("it is used at another gateway")),
            Ok(Agreement::Missing(gateways)) if Instant::now() >= limit => {
                return Err(Kept::Before(format!("no word from the gateways {}", gateways.join(", "))));
            }
            Ok(Agreement::Missing(_)) => fleet.heard().await,
            Err(error) => return Err(Kept::Before(error.to_string())),
        }
    }
}

/// What the provider says of an app whose stop has failed, or perhaps has not; a moment in between is waited for.
async fn has_stopped(app: &ManagedApp) -> bool {
    let limit = Instant::now() + LIMIT;
    loop {
        match app.provider.status(&app.id.name).await {
            Ok(AppStatus::Stopped | AppStatus::Crashed(_)) => return true,
            Ok(AppStatus::Stopping | AppStatus::Starting) if Instant::now() < limit => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            _ => return false,
        }
    }
}

/// Why a stop came to nothing.
#[derive(Debug, thiserror::Error)]
enum Kept {
    /// Another gateway has ended it, or may have, for this reason.
    #[error("{0}")]
    Off(&'static str),
    /// A request came, and nothing was done yet.
    #[error("somebody wants it")]
    Wanted,
    /// The provider or the registry refused, and nothing was done yet.
    #[error("{0}")]
    Before(String),
    /// It was deployed so long ago, and nothing was done yet.
    #[error("it was deployed {} ago", units::duration(Duration::from_secs(.0.as_secs())))]
    Fresh(Duration),
    /// The provider was told to stop it, and that went wrong.
    #[error("{0}")]
    Stopping(String),
}

/// Returns when a request waits for the app and the provider has not been told to stop it. Never, once it has.
async fn wanted_in_time(app: &ManagedApp, turn: &Turn) {
    let mut queue = turn.watch();
    let told = async { drop(queue.wait_for(|queue| *queue == Queue::Through).await) };
    tokio::select! {
        biased;
        () = told => std::future::pending().await,
        () = app.wanted() => {}
    }
}
