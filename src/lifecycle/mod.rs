//! The one object that decides every start and stop.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Lifecycle::admit`: the answer to a request |
//! | `cell` | `AppCell`: the atomics that a request and a stop meet on |
//! | `managed` | `ManagedApp`: all this process knows of one app |
//! | `gate` | how many of those that waited are let go at once |
//! | `wake` | a wake, from the decision to the first answer |
//! | `sleep` | a stop, from the decision to its confirmation |
//! | `sweep` | who is due to sleep, and when to look again |
//! | `readiness` | our own probe |
//! | `sync` | from what providers list to what is managed |
//! | `event` | what happened, in words |

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch};

use crate::{
    app::{AppId, AppState, AppStatus},
    clock::Clock,
    registry::{Change, Record, Registry, RegistryError, record::back_off},
};

pub mod cell;
#[cfg(test)]
mod cell_tests;
pub mod event;
mod gate;
mod managed;
pub mod readiness;
mod sleep;
pub mod sweep;
mod sync;
mod wake;

/// The atomics of [`cell`], named here so that loom can put its own in their place.
mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

use event::Event;
pub use managed::{Failure, ManagedApp, Progress, Reached, Settings, Step};
pub use sleep::Slept;
pub use sweep::Sweeper;

/// Decides every start and stop. Shared by every request and every background task of a gateway.
pub struct Lifecycle {
    apps: ArcSwap<HashMap<AppId, Arc<ManagedApp>>>,
    /// Apps that were taken out of the configuration and still run.
    leaving: Mutex<Vec<Arc<ManagedApp>>>,
    registry: Arc<dyn Registry>,
    prober: readiness::Prober,
    clock: Clock,
    /// Where wakes and stops run: they belong to no request and outlive the client that caused them.
    tasks: Handle,
    held: Arc<AtomicUsize>,
    limits: ArcSwap<HoldLimits>,
    runs: std::sync::atomic::AtomicU64,
}

/// How many requests may wait.
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// For one app.
    pub per_app: usize,
    /// For all apps together.
    pub total: usize,
}

/// Whether a request may wake the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Somebody wants the app: it is woken, and the request counts as activity.
    Wake,
    /// A prefetch, a monitor, a favicon: forwarded if the app is awake, but no reason to wake or stay awake.
    Observe,
}

/// The answer to a request: what to do, not how to say it.
pub enum Admission {
    /// The app is awake and stays so until the guard is dropped.
    Forward(InFlight),
    /// The app is on its way up: wait, or tell the client to.
    Hold(Waking),
    /// Neither.
    Refuse(Refused),
}

/// A request that is neither forwarded nor held.
pub struct Refused {
    /// The app it is for.
    pub app: Arc<ManagedApp>,
    /// Why.
    pub reason: Refusal,
}

/// Why a request is neither forwarded nor held.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The app is not awake, and this request may not wake it.
    Resting(AppState),
    /// The last start failed, and its back-off has not passed.
    Failed(Failure),
    /// Too many requests wait already.
    TooManyHeld,
}

/// A request that is being proxied. The app is not stopped while one exists; dropping it begins the idle time.
pub struct InFlight {
    app: Arc<ManagedApp>,
    counts: bool,
    /// Of a request that has waited, until the app answers.
    pass: Option<gate::Pass>,
}

impl InFlight {
    /// The app it is for.
    pub fn app(&self) -> &Arc<ManagedApp> {
        &self.app
    }

    /// The app has begun to answer: others that wait may follow.
    pub fn answered(&mut self) {
        if let Some(pass) = self.pass.take() {
            pass.answered();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.app.cell.leave(self.counts.then(|| self.app.clock.now()));
    }
}

/// A request's place among those that wait for an app. Dropping it gives the place back; the wake goes on.
pub struct Waking {
    lifecycle: Arc<Lifecycle>,
    app: Arc<ManagedApp>,
    progress: watch::Receiver<Progress>,
    _place: Place,
}

impl Waking {
    /// Returns when the app is awake (or the wake has failed). Has no deadline of its own; may be called again after
    /// it was cancelled.
    pub async fn awake(&mut self) -> Result<InFlight, Failure> {
        loop {
            // First mark what was told so far as seen, then look at the cell: whatever changes after the look is told
            // after it, and wakes us.
            self.progress.mark_unchanged();
            match self.lifecycle.decide(&self.app, Demand::Wake) {
                Decision::Forward(mut in_flight) => {
                    in_flight.pass = Some(self.app.gate().pass().await);
                    // It may have crashed while this request was still at the gate.
                    if self.app.state() == AppState::Awake {
                        return Ok(in_flight);
                    }
                    continue;
                }
                Decision::Failed(failure) => return Err(failure),
                Decision::Wait | Decision::Resting(_) => {}
            }
            if self.progress.changed().await.is_err() {
                // Cannot happen: the sender lives in the app that we hold.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The app it waits for.
    pub fn app(&self) -> &Arc<ManagedApp> {
        &self.app
    }
}

struct Place {
    total: Arc<AtomicUsize>,
    app: Arc<ManagedApp>,
}

impl Place {
    fn take(total: &Arc<AtomicUsize>, app: &Arc<ManagedApp>, limits: HoldLimits) -> Option<Self> {
        let place = Self { total: total.clone(), app: app.clone() };
        let others = total.fetch_add(1, Ordering::Relaxed);
        let here = app.held.fetch_add(1, Ordering::Relaxed);
        // Dropping it takes both counts back.
        (others < limits.total && here < limits.per_app).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        self.app.held.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Decision {
    Forward(InFlight),
    Wait,
    Failed(Failure),
    Resting(AppState),
}

impl Lifecycle {
    /// Decides for no app yet; `sync` brings them.
    pub fn new(
        registry: Arc<dyn Registry>,
        prober: readiness::Prober,
        clock: Clock,
        tasks: Handle,
        limits: HoldLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            apps: ArcSwap::default(),
            leaving: Mutex::default(),
            registry,
            prober,
            clock,
            tasks,
            held: Arc::default(),
            limits: ArcSwap::from_pointee(limits),
            runs: std::sync::atomic::AtomicU64::new(fastrand::u64(..)),
        })
    }

    /// Every app, as of now.
    pub fn apps(&self) -> Arc<HashMap<AppId, Arc<ManagedApp>>> {
        self.apps.load_full()
    }

    /// Requests that wait right now, for all apps together.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Changes how many may wait, for those that come from now on.
    pub fn set_limits(&self, limits: HoldLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// The answer to a request for `app`. On the warm path: one atomic operation to look, one to keep the app.
    pub fn admit(self: &Arc<Self>, app: &Arc<ManagedApp>, demand: Demand) -> Admission {
        let refuse = |reason| Admission::Refuse(Refused { app: app.clone(), reason });
        match self.decide(app, demand) {
            Decision::Forward(in_flight) => Admission::Forward(in_flight),
            Decision::Failed(failure) => refuse(Refusal::Failed(failure)),
            Decision::Resting(state) => refuse(Refusal::Resting(state)),
            Decision::Wait => match Place::take(&self.held, app, **self.limits.load()) {
                None => refuse(Refusal::TooManyHeld),
                Some(place) => Admission::Hold(Waking {
                    lifecycle: self.clone(),
                    app: app.clone(),
                    progress: app.progress(),
                    _place: place,
                }),
            },
        }
    }

    fn decide(self: &Arc<Self>, app: &Arc<ManagedApp>, demand: Demand) -> Decision {
        let state = app.cell.enter();
        if state == AppState::Awake {
            return Decision::Forward(InFlight {
                app: app.clone(),
                counts: demand == Demand::Wake,
                pass: None,
            });
        }
        app.cell.leave(None);
        if demand == Demand::Observe {
            return Decision::Resting(state);
        }
        match state {
            AppState::Asleep => self.begin_wake(app, AppState::Asleep),
            AppState::Failed => {
                let failure = app.progress().borrow().failure.clone();
                if let Some(failure) = failure.filter(|failure| self.clock.now() < failure.retry_at) {
                    return Decision::Failed(failure);
                }
                self.begin_wake(app, AppState::Failed);
            }
            AppState::Waking | AppState::Awake | AppState::Stopping => {}
        }
        Decision::Wait
    }

    fn begin_wake(self: &Arc<Self>, app: &Arc<ManagedApp>, from: AppState) {
        // Of all that ask at once, one changes the cell; that one starts the task.
        if app.turn(from, AppState::Waking, Step::Starting, None) {
            Event::AskedFor.tell(&app.id);
            self.tasks.spawn(wake::run(self.clone(), app.clone()));
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<ManagedApp>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records `change`. A record that has fallen behind, because a write failed earlier, is first led to where the change
    /// fits: of what happens in this process, this process is the witness.
    async fn record(&self, app: &ManagedApp, change: Change) -> Result<Record, RegistryError> {
        match self.registry.apply(&app.id, change.clone()).await {
            Err(RegistryError::Misfit(misfit)) => {
                log::warn!("{}: its record had fallen behind ({misfit}) and is put right", app.id);
                for step in change.lead_up() {
                    self.registry.apply(&app.id, step).await?;
                }
                self.registry.apply(&app.id, change).await
            }
            result => result,
        }
    }

    /// What follows a failure: `Failed`, with a reference for visitors and the reason for operators.
    fn failure(&self, retry_after: std::time::Duration) -> Failure {
        Failure {
            reference: format!("{:08x}", fastrand::u32(..)).into(),
            retry_at: self.clock.now().after(retry_after),
        }
    }

    /// A request could not connect to an app that we believe awake: the provider is asked, in the background and once
    /// at a time, and if it knows better the app is taken for crashed.
    pub fn doubt(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        if app.doubted.swap(true, Ordering::SeqCst) {
            return;
        }
        let (lifecycle, app) = (self.clone(), app.clone());
        self.tasks.clone().spawn(async move {
            if let Ok((AppStatus::Stopped | AppStatus::Crashed(_), _)) =
                app.provider.status(&app.id.name).await
            {
                lifecycle.exited(&app.id, "it is not running any more").await;
            }
            app.doubted.store(false, Ordering::SeqCst);
        });
    }

    /// A provider says that an app ended by itself.
    pub async fn exited(&self, id: &AppId, reason: &str) {
        let leaving = || self.leaving().iter().rfind(|app| app.id == *id).cloned();
        let Some(app) = self.apps.load().get(id).cloned().or_else(leaving) else {
            return;
        };
        // The message may be about an earlier run. The provider is always right.
        if matches!(app.provider.status(&id.name).await, Ok((AppStatus::Running, _))) {
            return;
        }
        app.exited.send_replace(Some(reason.into()));
        let _order = app.order.lock().await;
        // Whoever changes the cell owns what follows. If it is not awake, a wake listens or a stop wanted it so.
        if !app.turn(AppState::Awake, AppState::Stopping, Step::Ready, None) {
            return;
        }
        Event::Crashed(reason.to_owned()).tell(id);
        app.reach(None);
        let change = Change::Crashed { reason: reason.to_owned() };
        let (becomes, back_off) = match self.record(&app, change).await {
            Ok(record) => {
                app.remember(&record);
                (record.state, record.back_off())
            }
            Err(error) => {
                log::warn!("{id}: its crash could not be recorded: {error}");
                (AppState::Failed, back_off(app.failures() + 1))
            }
        };
        let failure = (becomes == AppState::Failed).then(|| self.failure(back_off));
        app.turn(AppState::Stopping, becomes, Step::Starting, failure);
    }
}
