//! What a provider says of an app that we did not know: it runs, it does not, it ended by itself. The provider is always
//! right; what it said before our own latest change is old news.

use std::{sync::Arc, time::Duration};

use super::{Event, Known, Lifecycle, ManagedApp, Step, managed::Confirmed};
use crate::{
    app::{AppId, AppState, AppStatus, Endpoint},
    clock::Millis,
    registry::{Change, record::back_off},
};

/// What the provider has confirmed is believed for so long, and twice as long each time: an app may well answer 503 by
/// itself, for hours.
const BELIEVED: Duration = Duration::from_secs(2);
const BELIEVED_AT_MOST: Duration = Duration::from_secs(120);

/// The provider's word may lag behind its router's: the first time it is asked twice.
const SECOND_LOOK: Duration = Duration::from_secs(1);

fn believed(times: u32) -> Duration {
    BELIEVED.saturating_mul(1 << times.min(10)).min(BELIEVED_AT_MOST)
}

impl Lifecycle {
    /// A request could not connect to an app that we believe awake: the provider is asked, in the background and once
    /// at a time, and if it knows better the app is taken for crashed.
    pub fn doubt(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        if app.doubted.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let (lifecycle, app) = (self.clone(), app.clone());
        self.tasks.clone().spawn(async move {
            lifecycle.confirm(&app).await;
            app.doubted.store(false, std::sync::atomic::Ordering::SeqCst);
        });
    }

    /// An answer came from an app that we believe awake, and looks like the page of its provider's router for an app that
    /// does not run. Asks the provider, once for all who ask at the same time. Whether the answer is to be believed: then
    /// the app runs as far as anybody can tell, else it is not awake any more.
    pub async fn confirm(&self, app: &Arc<ManagedApp>) -> bool {
        let mut confirmed = app.confirmed.lock().await;
        if app.state() != AppState::Awake {
            return false;
        }
        let since = confirmed.at.filter(|when| *when >= app.since());
        match since {
            Some(when) if self.clock.now().since(when) < believed(confirmed.times) => return true,
            Some(_) => {}
            None => confirmed.times = 0,
        }
        let at_provider = app.provider.list_every().is_some();
        let mut looks = if confirmed.times == 0 && at_provider { 2 } else { 1 };
        loop {
            looks -= 1;
            match app.provider.status(&app.id.name).await {
                Ok(AppStatus::Running | AppStatus::Unknown(_)) => {}
                Ok(AppStatus::Crashed(reason)) => {
                    self.ended(app, AppState::Awake, Some(reason)).await;
                    return false;
                }
                // Of a process of ours, not to run is to have crashed; at a provider somebody else may have stopped it.
                Ok(AppStatus::Stopped) if !at_provider => {
                    self.ended(app, AppState::Awake, Some("it is not running any more".into())).await;
                    return false;
                }
                Ok(AppStatus::Stopped | AppStatus::Starting | AppStatus::Stopping) => {
                    self.ended(app, AppState::Awake, None).await;
                    return false;
                }
                Err(error) => log::warn!("{}: whether it runs cannot be told: {error}", app.id),
            }
            if looks == 0 {
                break;
            }
            tokio::time::sleep(SECOND_LOOK).await;
        }
        *confirmed = Confirmed { at: Some(self.clock.now()), times: confirmed.times.saturating_add(1) };
        true
    }

    /// A provider says that an app ended by itself.
    pub async fn exited(&self, id: &AppId, reason: &str) {
        let leaving = || self.leaving().iter().rfind(|app| app.id == *id).cloned();
        let Some(app) = self.apps.load().get(id).cloned().or_else(leaving) else {
            return;
        };
        // The message may be about an earlier run.
        if matches!(app.provider.status(&id.name).await, Ok(AppStatus::Running)) {
            return;
        }
        app.exited.send_replace(Some(reason.into()));
        self.ended(&app, AppState::Awake, Some(reason.to_owned())).await;
    }

    /// What a list, asked for at `asked`, says of an app that is known.
    pub(super) async fn listed(&self, app: &Arc<ManagedApp>, status: &AppStatus, asked: Millis) {
        // Our own change is younger than the answer, or under way.
        if app.since() >= asked {
            return;
        }
        match (app.state(), status) {
            (AppState::Asleep | AppState::Failed, AppStatus::Running | AppStatus::Unknown(_)) => {
                // Asleep with its workers running, as it was told to be: then "running" is no news.
                let expected = app.settings().stop == crate::app::StopTypes::Web && !app.is_left_alone();
                if let Some(endpoint) = app.known().endpoint.clone().filter(|_| !expected) {
                    self.adopt(app, endpoint).await;
                }
            }
            (AppState::Awake, AppStatus::Stopped) if app.in_flight() == 0 => {
                self.ended(app, AppState::Awake, None).await;
            }
            (AppState::Awake, AppStatus::Crashed(reason)) if app.in_flight() == 0 => {
                self.ended(app, AppState::Awake, Some(reason.clone())).await;
            }
            _ => {}
        }
    }

    /// Neither wakes nor stops `app` any more, until it is listed again.
    pub fn leave_alone(&self, app: &ManagedApp, reason: &str) {
        let known = app.known();
        if known.left_alone.is_none() {
            app.know(Known { left_alone: Some(reason.into()), ..Known::clone(&known) });
        }
    }

    /// The app runs, and nobody here has started it: it is awake, with its full idle time.
    pub(super) async fn adopt(&self, app: &Arc<ManagedApp>, endpoint: Endpoint) {
        let _order = app.order.lock().await;
        let from = app.state();
        if !matches!(from, AppState::Asleep | AppState::Failed) {
            return;
        }
        app.reach(Some(self.reached(endpoint)));
        app.cell.touch(self.clock.now());
        // A wake that has begun meanwhile finds it running.
        if app.turn(from, AppState::Awake, Step::Ready, None) {
            Event::Adopted.tell(&app.id);
            if let Err(error) = self.record(app, Change::Found { running: true }).await {
                log::warn!("{}: that it runs could not be recorded: {error}", app.id);
            }
        }
    }

    /// The app does not run any more: it crashed, or was stopped by somebody else.
    async fn ended(&self, app: &ManagedApp, from: AppState, crashed: Option<String>) {
        let _order = app.order.lock().await;
        // Whoever changes the cell owns what follows. If it is not awake, a wake listens or a stop wanted it so.
        if !app.turn(from, AppState::Stopping, Step::Ready, None) {
            return;
        }
        app.reach(None);
        let (event, change) = match crashed {
            Some(reason) => (Event::Crashed(reason.clone()), Change::Crashed { reason }),
            None => (Event::StoppedByOthers, Change::Found { running: false }),
        };
        let otherwise = match &change {
            Change::Crashed { .. } => AppState::Failed,
            _ => AppState::Asleep,
        };
        event.tell(&app.id);
        let (becomes, back_off) = match self.record(app, change).await {
            Ok(record) => {
                app.remember(&record);
                (record.state, record.back_off())
            }
            Err(error) => {
                log::warn!("{}: its end could not be recorded: {error}", app.id);
                (otherwise, back_off(app.failures() + 1))
            }
        };
        let failure = (becomes == AppState::Failed).then(|| self.failure(back_off));
        app.turn(AppState::Stopping, becomes, Step::Starting, failure);
    }
}
