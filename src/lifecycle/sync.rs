//! From what a provider lists to what is managed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Event, Lifecycle, ManagedApp, Reached, Settings, Slept, Step, cell::NotIdle};
use crate::{
    app::{AppId, AppState, AppStatus, Timeouts},
    provider::{AppInfo, AppSettings, Provider},
    registry::Change,
};

/// How long a removed app may finish what is in flight before it is stopped all the same.
const FAREWELL: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Lifecycle {
    /// Makes the managed apps of the provider entry `name` equal to what it lists: new ones are taken in as they are
    /// found (a running one with its full idle time), known ones get their settings, missing ones leave.
    ///
    /// Only call it with a complete list: a missing app is a removed app.
    pub async fn sync(
        self: &Arc<Self>,
        name: &Arc<str>,
        provider: &Arc<dyn Provider>,
        list: Vec<AppInfo>,
        defaults: &Timeouts,
        domains: &[String],
    ) {
        let known = self.apps();
        let mut apps: HashMap<AppId, Arc<ManagedApp>> = known
            .iter()
            .filter(|(id, _)| id.provider != *name)
            .map(|(id, app)| (id.clone(), app.clone()))
            .collect();
        for info in list {
            let id = AppId::new(name.clone(), info.name.as_str());
            let settings = settings(&info.name, info.settings.clone(), defaults, domains);
            // An app that comes back while it still runs is the same app: its requests in flight count on. Unless its
            // whole provider entry was gone: the new one knows nothing of what the old one runs.
            let app = match known.get(&id).cloned().or_else(|| self.come_back(&id, provider)) {
                Some(app) => {
                    app.configure(settings);
                    app
                }
                None => self.take_in(id.clone(), provider.clone(), settings, &info).await,
            };
            apps.insert(id, app);
        }
        for (id, app) in known.iter().filter(|(id, _)| id.provider == *name && !apps.contains_key(id)) {
            Event::Removed.tell(id);
            self.leaving().push(app.clone());
            self.tasks.spawn(farewell(self.clone(), app.clone()));
        }
        self.apps.store(Arc::new(apps));
    }

    fn come_back(&self, id: &AppId, provider: &Arc<dyn Provider>) -> Option<Arc<ManagedApp>> {
        let mut leaving = self.leaving();
        let place = leaving.iter().position(|app| app.id == *id && Arc::ptr_eq(&app.provider, provider))?;
        Some(leaving.swap_remove(place))
    }

    fn is_leaving(&self, app: &Arc<ManagedApp>) -> bool {
        self.leaving().iter().any(|leaving| Arc::ptr_eq(leaving, app))
    }

    /// Removes every app of a provider entry that is gone.
    pub async fn remove_provider(
        self: &Arc<Self>,
        name: &Arc<str>,
        provider: &Arc<dyn Provider>,
        defaults: &Timeouts,
    ) {
        self.sync(name, provider, Vec::new(), defaults, &[]).await;
    }

    async fn take_in(
        self: &Arc<Self>,
        id: AppId,
        provider: Arc<dyn Provider>,
        settings: Settings,
        info: &AppInfo,
    ) -> Arc<ManagedApp> {
        let mut running = info.endpoint.filter(|_| info.status == AppStatus::Running);
        // What an earlier gateway was doing to it when it ended is finished first: an app in the middle of its boot
        // does not answer yet, and one that was told to stop soon will not.
        let before = self.registry.read(&id).await.ok().flatten().map(|record| record.state);
        let boots = running.is_some() && before == Some(AppState::Waking);
        if running.is_some() && before == Some(AppState::Stopping) {
            match provider.stop(&id.name).await {
                Ok(_) => running = None,
                Err(error) => log::warn!("{id}: its stop cannot be finished: {error}"),
            }
        }
        let awake = running.filter(|_| !boots);
        let record = match self.registry.apply(&id, Change::Found { running: awake.is_some() }).await {
            Ok(record) => Some(record),
            Err(error) => {
                log::warn!("{id}: what is known of it cannot be read: {error}");
                None
            }
        };
        let app = Arc::new(ManagedApp::new(id, provider, self.clock.clone(), settings, record.as_ref()));
        if boots {
            self.begin_wake(&app, AppState::Asleep);
        }
        if let Some(endpoint) = awake {
            let run = self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            app.reach(Some(Reached { endpoint, run }));
            app.turn(AppState::Asleep, AppState::Awake, Step::Ready, None);
            Event::Adopted.tell(&app.id);
        }
        app
    }
}

fn settings(name: &str, own: AppSettings, defaults: &Timeouts, domains: &[String]) -> Settings {
    let mut hosts: Vec<String> = domains.iter().map(|domain| format!("{name}.{domain}")).collect();
    hosts.extend(own.hosts);
    let timeouts = Timeouts {
        idle: own.idle_timeout.unwrap_or(defaults.idle),
        wake: own.wake_timeout.unwrap_or(defaults.wake),
        ..defaults.clone()
    };
    Settings { hosts, timeouts, ready: own.ready }
}

/// Nothing leads to the app any more; once what is held or in flight has ended, it is stopped and forgotten, unless a
/// reload brings it back before.
async fn farewell(lifecycle: Arc<Lifecycle>, app: Arc<ManagedApp>) {
    let deadline = Instant::now() + FAREWELL;
    loop {
        // Also gives the routes time to change: whoever still comes by the old ones is served.
        tokio::time::sleep(LOOK_EVERY).await;
        if !lifecycle.is_leaving(&app) {
            return;
        }
        if Instant::now() >= deadline {
            if let Err(error) = app.provider.stop(&app.id.name).await {
                log::warn!("{}: cannot be stopped: {error}", app.id);
            }
            break;
        }
        if app.held() > 0 {
            continue;
        }
        match lifecycle.sleep(&app, Duration::ZERO).await {
            // Only the next look tells that nobody came while it was being stopped.
            Slept::NotIdle(NotIdle::State(AppState::Asleep | AppState::Failed)) => break,
            Slept::Yes | Slept::NotIdle(_) | Slept::Kept(_) => {}
        }
    }
    let another_leaves = {
        let mut leaving = lifecycle.leaving();
        leaving.retain(|other| !Arc::ptr_eq(other, &app));
        leaving.iter().any(|other| other.id == app.id)
    };
    let known = another_leaves || lifecycle.apps().contains_key(&app.id);
    if !known && let Err(error) = lifecycle.registry.forget(&app.id).await {
        log::warn!("{}: cannot be forgotten: {error}", app.id);
    }
}
