//! What people do by hand: wake an app, put it to sleep.

use std::{sync::Arc, time::Duration};

use super::{Cause, HoldLimits, Lifecycle, ManagedApp, Place, Refusal, Slept};
use crate::app::AppState;

/// What has come of the wish to wake an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roused {
    /// Its wake has begun.
    Begun,
    /// It is on its way up already, or will be as soon as the stop that is under way is over.
    UnderWay,
    /// It is awake.
    Awake,
}

impl Lifecycle {
    /// Wakes `app` because a person says so, whatever its schedule, its limits and its last failure say. An awake app begins its
    /// idle time anew. Returns at once: [`ManagedApp::progress`] tells how far it comes.
    ///
    /// # Errors
    ///
    /// [`Refusal::LeftAlone`] for an app that is not to be started by this gateway.
    pub fn wake(self: &Arc<Self>, app: &Arc<ManagedApp>, cause: Cause) -> Result<Roused, Refusal> {
        let roused = self.rouse(app, true, &cause)?;
        if roused == Roused::Awake {
            app.cell.touch(self.clock.now());
        }
        Ok(roused)
    }

    /// Stops `app` because a person says so, if nothing is in flight. A pin keeps it awake all the same. Returns when the provider
    /// has confirmed it.
    pub async fn sleep_now(self: &Arc<Self>, app: &Arc<ManagedApp>, cause: Cause) -> Slept {
        self.sleep_because(app, Duration::ZERO, cause).await
    }

    /// Wakes `app`; unless somebody insists, only if its rules and its last failure let it be woken now.
    pub(super) fn rouse(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        insists: bool,
        cause: &Cause,
    ) -> Result<Roused, Refusal> {
        let state = app.state();
        match state {
            AppState::Awake => return Ok(Roused::Awake),
            AppState::Waking => return Ok(Roused::UnderWay),
            AppState::Asleep | AppState::Failed | AppState::Stopping => {}
        }
        if let Some(reason) = app.left_alone() {
            return Err(Refusal::LeftAlone(reason));
        }
        if !insists {
            let stopping = state == AppState::Stopping;
            if let Some(refusal) = app.turned_down(false, stopping, self.clock.unix_millis()) {
                return Err(refusal);
            }
            if let Some(failure) = self.backs_off(app).filter(|_| state == AppState::Failed) {
                return Err(Refusal::Failed(failure));
            }
        }
        if state == AppState::Stopping {
            self.rouse_after_stop(app, insists, cause.clone());
            return Ok(Roused::UnderWay);
        }
        match self.begin_wake(app, state, insists, || cause.clone()) {
            true => Ok(Roused::Begun),
            false => Ok(Roused::UnderWay),
        }
    }

    /// As a request would: the stop gives way if it still can, else the wake follows it.
    fn rouse_after_stop(self: &Arc<Self>, app: &Arc<ManagedApp>, insists: bool, cause: Cause) {
        let mut progress = app.progress();
        let anybody = HoldLimits { per_app: usize::MAX, total: usize::MAX };
        let place = Place::take(&self.held, app, anybody);
        let (lifecycle, app) = (self.clone(), app.clone());
        self.tasks.spawn(async move {
            let _place = place;
            loop {
                progress.mark_unchanged();
                match app.state() {
                    AppState::Stopping => {}
                    // Its rules may say no by now: then that is it.
                    AppState::Asleep | AppState::Failed => {
                        return drop(lifecycle.rouse(&app, insists, &cause));
                    }
                    AppState::Waking | AppState::Awake => return,
                }
                if progress.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// What is known from before this gateway began, for the limits of `app`: when it was woken in the last hour, in
    /// milliseconds since 1970, and how long it was awake this day (UTC). Once, right after the start.
    pub fn recall_usage(&self, app: &ManagedApp, wakes: Vec<u64>, awake_today: Duration) {
        app.ruled.usage().recall(wakes, awake_today, self.clock.unix_millis());
    }
}
