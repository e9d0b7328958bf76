//! The sweep: a pure step (who is due, and when to look again) and a waiting loop around it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora_core::{server::ShutdownWatch, services::background::BackgroundService};

use super::{Lifecycle, ManagedApp, cell::NotIdle};
use crate::{
    app::AppState,
    clock::Millis,
    registry::{Fleet, RegistryError},
};

/// A look costs a few loads per app, so a second is often enough for people and cheap enough for thousands of apps.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// In a fleet a look is a question to the registry.
const AT_LEAST_APART: Duration = Duration::from_millis(50);

/// Which apps are due to sleep at `now`, and how long until the next may be.
pub fn due<'a>(
    now: Millis,
    apps: impl Iterator<Item = &'a Arc<ManagedApp>>,
) -> (Vec<Arc<ManagedApp>>, Duration) {
    let mut due = Vec::new();
    let mut wait = AT_LEAST_EVERY;
    for app in apps {
        let idle = app.settings().timeouts.idle;
        // Whatever it does now, it may end at once; it is not due before its idle time has passed since.
        wait = wait.min(idle);
        if app.state() != AppState::Awake || app.is_left_alone() {
            continue;
        }
        match app.cell.idle_for(now, idle) {
            Ok(()) => due.push(app.clone()),
            Err(NotIdle::Recent(left)) => wait = wait.min(left),
            Err(_) => {}
        }
    }
    (due, wait.max(AT_MOST_EVERY))
}

/// Stops idle apps, for as long as the gateway runs.
pub struct Sweeper(pub Arc<Lifecycle>);

impl Sweeper {
    /// One step of the leader of a fleet: what may be idle is asked of all, and what was left half done is mended. Returns how
    /// long to wait for the next.
    async fn step_for_all(&self, fleet: &dyn Fleet) -> Duration {
        let lifecycle = &self.0;
        let apps = lifecycle.apps();
        let shortest = apps.values().map(|app| app.settings().timeouts.idle).min().unwrap_or(Duration::MAX);
        let pause = (shortest / 4).clamp(AT_LEAST_APART, fleet.lease() / 3);
        if !fleet.leads() {
            return pause;
        }
        let swept = async {
            if fleet.may_stop() {
                self.sweep(fleet).await?;
            }
            lifecycle.mend(fleet).await
        };
        if let Err(error) = swept.await {
            log::warn!("the fleet cannot be swept now: {error}");
        }
        pause
    }

    async fn sweep(&self, fleet: &dyn Fleet) -> Result<(), RegistryError> {
        let (lifecycle, mut later) = (&self.0, Vec::new());
        let now = lifecycle.clock.now();
        for id in fleet.due().await? {
            let Some(app) = lifecycle.apps().get(&id).cloned() else {
                // Another gateway's configuration knows it, or nobody's.
                later.push((id, fleet.lease()));
                continue;
            };
            let idle = app.settings().timeouts.idle;
            let rest = match app.cell.idle_for(now, idle) {
                _ if app.is_left_alone() => idle,
                Ok(()) => {
                    // Not asked again before this is over.
                    later.push((id, fleet.lease()));
                    let lifecycle = lifecycle.clone();
                    lifecycle.tasks.clone().spawn(async move { lifecycle.sleep(&app, idle).await });
                    continue;
                }
                Err(NotIdle::Recent(left)) => left,
                Err(NotIdle::InFlight(_) | NotIdle::State(_)) => idle.min(fleet.lease()),
            };
            later.push((id, rest));
        }
        if later.is_empty() { Ok(()) } else { fleet.used(&later).await }
    }

    /// One step: begins the stop of every app that is due, each in a task of its own, so that a slow one delays no
    /// other. Returns how long to wait for the next step.
    pub fn step(&self) -> Duration {
        let lifecycle = &self.0;
        let apps = lifecycle.apps();
        let (due, wait) = due(lifecycle.clock.now(), apps.values());
        for app in due {
            let lifecycle = lifecycle.clone();
            let idle = app.settings().timeouts.idle;
            lifecycle.tasks.clone().spawn(async move { lifecycle.sleep(&app, idle).await });
        }
        wait
    }
}

#[async_trait]
impl BackgroundService for Sweeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        while !*shutdown.borrow() {
            let wait = match self.0.fleet() {
                Some(fleet) => self.step_for_all(fleet).await,
                None => self.step(),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = shutdown.changed() => {}
            }
        }
    }
}
