//! What a provider says of an app that we did not know: it runs, it does not, it ended by itself. The provider is always
//! right; what it said before our own latest change is old news.

use std::{sync::Arc, time::Duration};

use super::{Event, Lifecycle, ManagedApp, Step, reference};
use crate::{
    app::{AppId, AppState, AppStatus, Endpoint},
    clock::Millis,
    registry::{Change, RegistryError, record::back_off},
};

/// The provider's word may lag behind its router's: the first time it is asked twice.
const SECOND_LOOK: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// A request could not connect to an app that we believe awake: the provider is asked, in the background and once
    /// at a time, and if it knows better the app is taken for crashed.
    pub fn doubt(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        if app.doubted.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let (lifecycle, app) = (self.clone(), app.clone());
        self.tasks.spawn(async move {
            lifecycle.ask_whether_it_runs(&app, false).await;
            app.doubted.store(false, std::sync::atomic::Ordering::SeqCst);
        });
    }

    /// An answer came from an app that we believe awake, and looks like the page of its provider's router for an app that
    /// does not run; `certain` if only the router can have given it, and to nobody else. Asks the provider, once for all who
    /// ask at the same time. Whether the answer is to be believed: then the app runs as far as anybody can tell within
    /// `patience`, else it is not awake any more.
    pub async fn confirm(self: &Arc<Self>, app: &Arc<ManagedApp>, certain: bool, patience: Duration) -> bool {
        let (lifecycle, asked) = (self.clone(), app.clone());
        // As a task of its own: a client that goes away must not leave it half done.
        let answer = self.tasks.spawn(async move { lifecycle.ask_whether_it_runs(&asked, certain).await });
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.unwrap_or(true),
            Err(_) => {
                // Whoever comes next need not wait as long for the same question.
                app.trust(self.clock.now());
                true
            }
        }
    }

    async fn ask_whether_it_runs(self: &Arc<Self>, app: &Arc<ManagedApp>, certain: bool) -> bool {
        if app.is_trusted(self.clock.now()) {
            return true;
        }
        let _one = app.asking.lock().await;
        if app.state() != AppState::Awake {
            return false;
        }
        if app.is_trusted(self.clock.now()) {
            return true;
        }
        let at_provider = app.provider.list_every().is_some();
        let mut looks = if app.is_new_to_doubt() && at_provider { 2 } else { 1 };
        loop {
            looks -= 1;
            match app.provider.status(&app.id.name).await {
                Ok(AppStatus::Running | AppStatus::Unknown(_)) => {}
                Ok(AppStatus::Crashed(reason)) => {
                    self.ended(app, Some(reason)).await;
                    return false;
                }
                // Of a process of ours, not to run is to have crashed; at a provider somebody else may have stopped it.
                Ok(AppStatus::Stopped) if !at_provider => {
                    self.ended(app, Some("it is not running any more".into())).await;
                    return false;
                }
                // It is being scaled or deployed, and may have given the answer itself.
                Ok(AppStatus::Starting) if !certain => {}
                Ok(AppStatus::Stopped | AppStatus::Starting | AppStatus::Stopping) => {
                    self.ended(app, None).await;
                    return false;
                }
                Err(error) => log::warn!("{}: whether it runs cannot be told: {error}", app.id),
            }
            if looks == 0 {
                break;
            }
            tokio::time::sleep(SECOND_LOOK).await;
        }
        app.trust(self.clock.now());
        true
    }

    /// A provider says that an app ended by itself.
    pub async fn exited(self: &Arc<Self>, id: &AppId, reason: &str) {
        let leaving = || self.leaving().iter().rfind(|app| app.id == *id).cloned();
        let Some(app) = self.apps.load().get(id).cloned().or_else(leaving) else {
            return;
        };
        // The message may be about an earlier run.
        if matches!(app.provider.status(&id.name).await, Ok(AppStatus::Running)) {
            return;
        }
        app.exited.send_replace(Some(reason.into()));
        self.ended(&app, Some(reason.to_owned())).await;
    }

    /// What a list, asked for at `asked`, says of an app that is known.
    pub(super) async fn listed(self: &Arc<Self>, app: &Arc<ManagedApp>, status: &AppStatus, asked: Millis) {
        // Our own change is younger than the answer, or under way.
        // And who is being started or stopped at this moment has no news to wait for: the next list tells.
        if app.since() >= asked || app.order.try_lock().is_err() {
            return;
        }
        if !self.speaks() {
            return self.follow_endpoint(app).await;
        }
        match (app.state(), status) {
            (AppState::Asleep | AppState::Failed, AppStatus::Running | AppStatus::Unknown(_)) => {
                // Asleep with its workers running, as it was told to be: then "running" is no news.
                let expected = app.settings().stop == crate::app::StopTypes::Web && !app.is_left_alone();
                if let Some(endpoint) = app.known().endpoint.clone().filter(|_| !expected) {
                    self.adopt(app, endpoint).await;
                }
            }
            (AppState::Awake, AppStatus::Running | AppStatus::Unknown(_)) => self.follow_endpoint(app).await,
            (AppState::Awake, AppStatus::Stopped) if app.in_flight() == 0 => {
                self.ended(app, None).await;
            }
            (AppState::Awake, AppStatus::Crashed(reason)) if app.in_flight() == 0 => {
                self.ended(app, Some(reason.clone())).await;
            }
            _ => {}
        }
    }

    /// Its provider reaches it elsewhere now.
    async fn follow_endpoint(&self, app: &ManagedApp) {
        let Some(endpoint) = app.known().endpoint.clone() else { return };
        if app.reached().as_ref().is_none_or(|reached| reached.endpoint == endpoint) {
            return;
        }
        let _order = app.order.lock().await;
        if app.state() == AppState::Awake {
            app.reach(Some(self.reached(endpoint)));
        }
    }

    /// The app runs, and nobody here has started it: it is awake, with its full idle time.
    pub(super) async fn adopt(&self, app: &Arc<ManagedApp>, endpoint: Endpoint) {
        let _order = app.order.lock().await;
        let from = app.state();
        if !matches!(from, AppState::Asleep | AppState::Failed) {
            return;
        }
        match self.record(app, Change::Found { running: true, by: self.me() }, None).await {
            Ok(_) => {}
            // Another gateway wakes or stops it.
            Err(RegistryError::Misfit(_)) => return,
            Err(error) => log::warn!("{}: that it runs could not be recorded: {error}", app.id),
        }
        app.reach(Some(self.reached(endpoint)));
        app.cell.touch(self.clock.now());
        // A wake that has begun meanwhile finds it running.
        if app.turn(from, AppState::Awake, Step::Ready, None) {
            self.happened(app, Event::Adopted);
        }
    }

    /// The app does not run any more: it crashed, or was stopped by somebody else.
    async fn ended(self: &Arc<Self>, app: &Arc<ManagedApp>, crashed: Option<String>) {
        let _order = app.order.lock().await;
        // Whoever changes the cell owns what follows. If it is not awake, a wake listens or a stop wanted it so.
        if !app.turn(AppState::Awake, AppState::Stopping, Step::Ready, None) {
            return;
        }
        app.reach(None);
        self.surprised_by(app);
        let reference = reference();
        let (event, change) = match crashed {
            Some(reason) => {
                (Event::Crashed(reason.clone()), Change::Crashed { reason, reference: reference.clone() })
            }
            None => (Event::StoppedByOthers, Change::Found { running: false, by: self.me() }),
        };
        let otherwise = match &change {
            Change::Crashed { .. } => AppState::Failed,
            _ => AppState::Asleep,
        };
        if matches!(event, Event::StoppedByOthers) {
            app.ruled.lay_down(self.clock.unix_millis());
        }
        self.happened(app, event);
        let (becomes, back_off) = match self.record(app, change, None).await {
            Ok(record) => (record.state, record.back_off()),
            Err(error) => {
                log::warn!("{}: its end could not be recorded: {error}", app.id);
                (otherwise, back_off(app.failures() + 1))
            }
        };
        let failure = (becomes == AppState::Failed).then(|| self.failure(reference, back_off));
        app.turn(AppState::Stopping, becomes, Step::Starting, failure);
        // Another gateway may have seen the same, or more.
        self.catch_up_in_order(app).await;
    }
}
