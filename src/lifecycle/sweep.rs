//! The sweep: a pure step (who is due, and when to look again) and a waiting loop around it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora_core::{server::ShutdownWatch, services::background::BackgroundService};

use super::{Lifecycle, ManagedApp, cell::NotIdle};
use crate::{app::AppState, clock::Millis};

/// A look costs a few loads per app, so a second is often enough for people and cheap enough for thousands of apps.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const AT_MOST_EVERY: Duration = Duration::from_millis(10);

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
            let wait = self.step();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = shutdown.changed() => {}
            }
        }
    }
}
