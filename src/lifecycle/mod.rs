//! The one object that decides every start and stop.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Lifecycle::admit`: the answer to a request |
//! | `admission` | what that answer is, and what a request holds while it waits or is proxied |
//! | `cell` | `AppCell`: the atomics that a request and a stop meet on |
//! | `managed` | `ManagedApp`: all this process knows of one app |
//! | `reached` | where the run of now is reached |
//! | `gate` | how many of those that waited are let go at once |
//! | `wake` | a wake, from the decision to the first answer |
//! | `sleep` | a stop, from the decision to its confirmation |
//! | `sweep` | who is due to sleep, and when to look again |
//! | `readiness` | our own probe |
//! | `resolver` | host names to addresses, in the background |
//! | `replicas` | one app in several places |
//! | `follow` | what becomes of an app here when another gateway has changed its record: pure |
//! | `fleet` | the same with hands: following, agreeing, telling what is used |
//! | `lease` | an app that is in hand stays in hand |
//! | `settle` | after the registry was away, or a gateway ended half way |
//! | `news` | what a provider says that we did not know: running, stopped, gone |
//! | `sync` | from what providers list to what is managed |
//! | `settings` | what holds for an app, and who says so |
//! | `event` | what happened, in words, and who hears of it |
//! | `cause` | why it happened |
//! | `guard` | who may object to a start or a stop |
//! | `traffic` | what requests an app has had |
//! | `verdict` | what is to be done about an app at this moment |
//! | `schedule`, `limit`, `group` | what rules want: windows by the clock, so much and not more, together |
//! | `ruled` | what is noted of an app for that |
//! | `pin`, `hand` | what people do: keep awake until, wake, put to sleep |
//! | `outlook` | why an app is awake and when it would sleep, for people |

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    app::{AppId, AppState, Endpoint},
    clock::Clock,
    registry::{Change, Record, Registry, RegistryError},
    routing::Groups,
};

mod admission;
pub mod cause;
pub mod cell;
#[cfg(test)]
mod cell_tests;
pub mod event;
mod fail_point;
mod fleet;
pub mod follow;
mod gate;
mod group;
pub mod guard;
mod hand;
mod lease;
pub mod limit;
mod managed;
mod news;
pub mod outlook;
mod pin;
mod reached;
pub mod readiness;
mod replicas;
pub mod resolver;
mod ruled;
pub mod schedule;
mod settings;
mod settle;
mod sleep;
pub mod sweep;
mod sync;
pub mod traffic;
pub mod verdict;
mod wake;

/// The atomics of [`cell`], named here so that loom can put its own in their place.
mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

use admission::Place;
pub use admission::{Admission, Demand, HoldLimits, InFlight, Refusal, Refused, Waking};
pub use cause::{Cause, Run};
pub use event::{Event, Happening, Witness};
pub use fleet::ListNews;
use guard::Guard;
pub use hand::Roused;
pub use managed::{Claim, Failure, Known, ManagedApp, Progress, Settings, Step};
pub use outlook::Outlook;
pub use pin::PinError;
pub use reached::Reached;
pub use replicas::Replicas;
use resolver::Resolver;
pub use sleep::Slept;
pub use sweep::Sweeper;
pub use sync::{Listed, Policy};

/// Decides every start and stop. Shared by every request and every background task of a gateway.
pub struct Lifecycle {
    apps: ArcSwap<HashMap<AppId, Arc<ManagedApp>>>,
    /// Apps that have a schedule or a limit, which no idle time tells of.
    ruled: ArcSwap<Vec<Arc<ManagedApp>>>,
    groups: ArcSwap<Groups>,
    /// Apps that were taken out of the configuration and still run.
    leaving: Mutex<Vec<Arc<ManagedApp>>>,
    registry: Arc<dyn Registry>,
    prober: readiness::Prober,
    resolver: Resolver,
    /// Told the name of a provider entry that turned out to know more than we do: its list is old.
    surprises: mpsc::UnboundedSender<Arc<str>>,
    clock: Clock,
    /// Where wakes and stops run: they belong to no request and outlive the client that caused them.
    tasks: Handle,
    held: Arc<AtomicUsize>,
    limits: ArcSwap<HoldLimits>,
    runs: std::sync::atomic::AtomicU64,
    /// This gateway's name, in events.
    name: Arc<str>,
    witnesses: Vec<Arc<dyn Witness>>,
    guard: Arc<dyn Guard>,
}

/// What a [`Lifecycle`] lives by.
pub struct Surroundings {
    /// Where records are kept.
    pub registry: Arc<dyn Registry>,
    /// Looks up host names.
    pub resolver: Resolver,
    /// Is told the name of a provider entry whose list turned out to be old.
    pub surprises: mpsc::UnboundedSender<Arc<str>>,
    /// The clock that idle times go by.
    pub clock: Clock,
    /// Where wakes and stops run.
    pub tasks: Handle,
    /// How many requests may wait.
    pub limits: HoldLimits,
    /// Who hears of every event.
    pub witnesses: Vec<Arc<dyn Witness>>,
    /// Who may object to a start or a stop.
    pub guard: Arc<dyn Guard>,
}

enum Decision {
    Forward(InFlight),
    Wait,
    Refuse(Refusal),
}

impl Lifecycle {
    /// Decides for no app yet; `sync` brings them.
    pub fn new(around: Surroundings) -> Result<Arc<Self>, reqwest::Error> {
        let Surroundings { registry, resolver, surprises, clock, tasks, limits, witnesses, guard } = around;
        Ok(Arc::new(Self {
            name: registry.me().into(),
            witnesses,
            guard,
            apps: ArcSwap::default(),
            ruled: ArcSwap::default(),
            groups: ArcSwap::default(),
            leaving: Mutex::default(),
            registry,
            prober: readiness::Prober::new(resolver.clone())?,
            resolver,
            surprises,
            clock,
            tasks,
            held: Arc::default(),
            limits: ArcSwap::from_pointee(limits),
            runs: std::sync::atomic::AtomicU64::new(fastrand::u64(..)),
        }))
    }

    /// Keeps the addresses of apps fresh, for as long as the gateway runs.
    pub async fn refresh_addresses(&self) {
        loop {
            tokio::time::sleep(resolver::REFRESH_EVERY).await;
            self.resolver.refresh().await;
        }
    }

    /// What its provider listed of this app is not true any more, and so perhaps of others.
    fn surprised_by(&self, app: &ManagedApp) {
        if app.provider.list_every().is_some() {
            // Nobody listens when the gateway ends.
            let _ = self.surprises.send(app.id.provider.clone());
        }
    }

    /// A new run of an app at `endpoint`.
    fn reached(&self, endpoint: Endpoint) -> Reached {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let addresses = match &endpoint {
            Endpoint::Address(_) => None,
            Endpoint::Origin(origin) => Some(self.resolver.addresses(origin)),
        };
        Reached::new(endpoint, addresses, run)
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
    /// `cause` says why the app is woken, if it is.
    pub fn admit(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        demand: Demand,
        cause: impl Fn() -> Cause,
    ) -> Admission {
        let refuse = |reason| Admission::Refuse(Refused { app: app.clone(), reason });
        match self.decide(app, demand, &cause) {
            Decision::Forward(in_flight) => Admission::Forward(in_flight),
            Decision::Refuse(refusal) => refuse(refusal),
            Decision::Wait => match Place::take(&self.held, app, **self.limits.load()) {
                None => refuse(Refusal::TooManyHeld),
                Some(place) => Admission::Hold(Waking {
                    lifecycle: self.clone(),
                    app: app.clone(),
                    progress: app.progress(),
                    demand,
                    cause: cause(),
                    _place: place,
                }),
            },
        }
    }

    fn decide(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        demand: Demand,
        cause: impl Fn() -> Cause,
    ) -> Decision {
        let state = app.cell.enter();
        if state == AppState::Awake {
            return Decision::Forward(InFlight {
                app: app.clone(),
                counts: demand != Demand::Observe,
                pass: None,
            });
        }
        app.cell.leave(None);
        if matches!(demand, Demand::Observe | Demand::Use) {
            return Decision::Refuse(Refusal::Resting(state));
        }
        if let (AppState::Asleep | AppState::Failed, Some(reason)) = (state, app.left_alone()) {
            return Decision::Refuse(Refusal::LeftAlone(reason));
        }
        let insists = demand == Demand::Insist;
        let stopping = state == AppState::Stopping;
        if (stopping || matches!(state, AppState::Asleep | AppState::Failed))
            && let Some(refusal) = app.turned_down(insists, stopping, self.clock.unix_millis())
        {
            return Decision::Refuse(refusal);
        }
        match state {
            AppState::Asleep => drop(self.begin_wake(app, AppState::Asleep, insists, &cause)),
            AppState::Failed => {
                if let Some(failure) = self.backs_off(app) {
                    return Decision::Refuse(Refusal::Failed(failure));
                }
                self.begin_wake(app, AppState::Failed, insists, &cause);
            }
            AppState::Waking | AppState::Awake | AppState::Stopping => {}
        }
        Decision::Wait
    }

    /// The failure after which no start is tried yet.
    fn backs_off(&self, app: &ManagedApp) -> Option<Failure> {
        let failure = app.progress().borrow().failure.clone();
        failure.filter(|failure| self.clock.now() < failure.retry_at)
    }

    /// Whether this was the one that began it.
    fn begin_wake(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        from: AppState,
        insists: bool,
        cause: impl Fn() -> Cause,
    ) -> bool {
        // Of all that ask at once, one changes the cell; that one starts the task.
        let begun = app.turn(from, AppState::Waking, Step::Starting, None);
        if begun {
            app.begin_run(cause());
            app.ruled.insisted.store(insists, Ordering::SeqCst);
            app.ruled.gets_up();
            self.happened(app, Event::AskedFor);
            self.tasks.spawn(wake::run(self.clone(), app.clone()));
        }
        begun
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<ManagedApp>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records `change`; with a `basis`, only if nobody else has changed the record since it had that epoch.
    ///
    /// Of what happens at the only gateway, that gateway is the witness: a record that has fallen behind, because a write
    /// failed earlier, is first led to where the change fits. In a fleet another may have had its reasons.
    async fn record(
        &self,
        app: &ManagedApp,
        change: Change,
        basis: Option<u64>,
    ) -> Result<Record, RegistryError> {
        let mut result = self.registry.apply(&app.id, change.clone(), basis).await;
        if let (Err(RegistryError::Misfit(record)), None) = (&result, self.registry.fleet()) {
            log::warn!(
                "{}: its record had fallen behind (the app is {}) and is put right",
                app.id,
                record.state
            );
            for step in change.lead_up(self.registry.me()) {
                self.registry.apply(&app.id, step, None).await?;
            }
            result = self.registry.apply(&app.id, change, None).await;
        }
        match &result {
            Ok(record) => app.remember(record),
            Err(RegistryError::Misfit(record)) => drop(app.hear(record)),
            Err(_) => app.untold.store(true, Ordering::SeqCst),
        }
        result
    }

    /// Who this gateway is, in records.
    fn me(&self) -> String {
        self.registry.me().to_owned()
    }

    /// How long nobody else takes a wake or a stop over that may take up to `limit`. In a fleet it is renewed on the way.
    fn lease(&self, limit: Duration) -> Duration {
        self.registry.fleet().map_or(limit.saturating_mul(2), |fleet| fleet.lease())
    }

    /// What follows a failure: `Failed`, with a reference for visitors; the reason for operators is in the log.
    fn failure(&self, reference: String, retry_after: Duration) -> Failure {
        Failure { reference: reference.into(), retry_at: self.clock.now().after(retry_after) }
    }
}

/// What a visitor may quote to the operator.
fn reference() -> String {
    format!("{:08x}", fastrand::u32(..))
}
