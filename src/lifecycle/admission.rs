//! The answer to a request: forwarded, held or refused; and what it holds meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{Cause, Decision, Failure, Lifecycle, ManagedApp, Progress, gate};
use crate::app::AppState;

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
    /// The same of a person who knows that the schedule keeps the app asleep, and has asked for it all the same.
    Insist,
    /// Somebody wants the app and may not wake it: forwarded if it is awake, and activity then.
    Use,
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

impl Admission {
    /// The app it is about.
    pub fn app(&self) -> &Arc<ManagedApp> {
        match self {
            Self::Forward(in_flight) => in_flight.app(),
            Self::Hold(waking) => waking.app(),
            Self::Refuse(refused) => &refused.app,
        }
    }
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
    /// The app does not run, and is not ours to start: this is why, for operators.
    LeftAlone(Arc<str>),
    /// Too many requests wait already.
    TooManyHeld,
    /// Its schedule keeps it asleep.
    Closed {
        /// When that ends, in milliseconds since 1970, if it does.
        opens: Option<u64>,
        /// Whether a person may wake it all the same.
        ask: bool,
    },
    /// It was woken often enough, or was awake long enough.
    Limited {
        /// When it may be woken again.
        retry_after: Duration,
    },
    /// Whoever asks may not wake it.
    NotAllowed,
}

/// A request that is being proxied. The app is not stopped while one exists; dropping it begins the idle time.
pub struct InFlight {
    pub(super) app: Arc<ManagedApp>,
    pub(super) counts: bool,
    /// Of a request that has waited, until the app answers.
    pub(super) pass: Option<gate::Pass>,
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
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) app: Arc<ManagedApp>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) demand: Demand,
    pub(super) cause: Cause,
    pub(super) _place: Place,
}

impl Waking {
    /// Returns when the app is awake (or the wake has failed, or is not to be made any more). Has no deadline of its own; may be
    /// called again after it was cancelled.
    pub async fn awake(&mut self) -> Result<InFlight, Refusal> {
        loop {
            // First mark what was told so far as seen, then look at the cell: whatever changes after the look is told
            // after it, and wakes us.
            self.progress.mark_unchanged();
            match self.lifecycle.decide(&self.app, self.demand, || self.cause.clone()) {
                Decision::Forward(mut in_flight) => {
                    in_flight.pass = Some(self.app.gate().pass().await);
                    // It may have crashed while this request was still at the gate.
                    if self.app.state() == AppState::Awake {
                        return Ok(in_flight);
                    }
                    continue;
                }
                Decision::Refuse(refusal) => return Err(refusal),
                Decision::Wait => {}
            }
            if self.progress.changed().await.is_err() {
                // Cannot happen: the sender lives in the app that we hold.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whoever asked does not wait here. What they asked for is done all the same: the stop that is under way gives way, or is
    /// followed by the wake.
    pub fn goes_on(mut self) {
        // A wake that has begun needs nobody.
        if matches!(self.app.state(), AppState::Waking | AppState::Awake) {
            return;
        }
        let tasks = self.lifecycle.tasks.clone();
        tasks.spawn(async move { drop(self.awake().await) });
    }

    /// The app it waits for.
    pub fn app(&self) -> &Arc<ManagedApp> {
        &self.app
    }
}

pub(super) struct Place {
    total: Arc<AtomicUsize>,
    app: Arc<ManagedApp>,
}

impl Place {
    pub(super) fn take(total: &Arc<AtomicUsize>, app: &Arc<ManagedApp>, limits: HoldLimits) -> Option<Self> {
        let place = Self { total: total.clone(), app: app.clone() };
        let others = total.fetch_add(1, Ordering::Relaxed);
        let here = app.held.fetch_add(1, Ordering::SeqCst);
        app.more_held.notify_waiters();
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
