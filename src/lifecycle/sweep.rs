//! The sweep: a pure step (who is due to sleep or to wake, and when to look again) and a waiting loop around it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora_core::{server::ShutdownWatch, services::background::BackgroundService};

use super::{
    Cause, Event, Lifecycle, ManagedApp,
    cell::NotIdle,
    verdict::{Moment, Verdict, Why, schedule_of},
};
use crate::registry::{Fleet, RegistryError};

/// A look costs a few loads per app, so a second is often enough for people and cheap enough for thousands of apps.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// In a fleet a look is a question to the registry.
const AT_LEAST_APART: Duration = Duration::from_millis(50);

/// What is to be done at one moment.
#[derive(Default)]
pub struct Due {
    /// These may be stopped: each has been idle for so long, and is stopped for this reason.
    pub stops: Vec<(Arc<ManagedApp>, Duration, Why)>,
    /// These are woken ahead of their window, or in it.
    pub wakes: Vec<Arc<ManagedApp>>,
    /// Until there may be more to do.
    pub wait: Duration,
}

/// Which apps are due to sleep or to wake, and how long until the next may be. What groups have to say is another question.
pub fn due<'a>(at: Moment, apps: impl Iterator<Item = &'a Arc<ManagedApp>>) -> Due {
    let mut due = Due { wait: AT_LEAST_EVERY, ..Due::default() };
    for app in apps {
        // Whatever it does now, it may end at once; it is not due before its idle time has passed since.
        due.wait = due.wait.min(app.settings().timeouts.idle);
        match app.verdict(at) {
            Verdict::Nothing | Verdict::Keep(_) => {}
            Verdict::Wake => due.wakes.push(app.clone()),
            Verdict::Stop { why, .. } if why != Why::Idle && !app.ruled.may_try(at.now) => {}
            Verdict::Stop { after, why } => match app.cell.idle_for(at.now, after) {
                Ok(()) => due.stops.push((app.clone(), after, why)),
                Err(NotIdle::Recent(left)) => due.wait = due.wait.min(left),
                Err(_) => {}
            },
        }
    }
    due.wait = due.wait.max(AT_MOST_EVERY);
    due
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
        let mut pause = (shortest / 4).clamp(AT_LEAST_APART, fleet.lease() / 3);
        let ruled = lifecycle.ruled.load_full();
        if !ruled.is_empty() {
            pause = pause.min(AT_LEAST_EVERY);
        }
        if !fleet.leads() {
            return pause;
        }
        let swept = async {
            self.keep_to_rules(fleet, &ruled);
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

    /// What is due by schedules and limits, of which no idle time tells.
    fn keep_to_rules(&self, fleet: &dyn Fleet, ruled: &[Arc<ManagedApp>]) {
        let due = due(Moment::of(&self.0.clock), ruled.iter());
        due.wakes.iter().for_each(|app| self.wake(app));
        if fleet.may_stop() {
            for (app, idle, why) in due.stops.into_iter().filter(|(_, _, why)| *why != Why::Idle) {
                self.stop(app, idle, why);
            }
        }
    }

    async fn sweep(&self, fleet: &dyn Fleet) -> Result<(), RegistryError> {
        let (lifecycle, mut later) = (&self.0, Vec::new());
        let (at, again) = (Moment::of(&lifecycle.clock), fleet.lease() / 3);
        let mut idle_apps = Vec::new();
        for id in fleet.due().await? {
            let Some(app) = lifecycle.apps().get(&id).cloned() else {
                // Another gateway's configuration knows it, or nobody's.
                later.push((id, fleet.lease()));
                continue;
            };
            let idle = app.settings().timeouts.idle;
            let rest = match (app.verdict(at), app.cell.idle_for(at.now, idle)) {
                (Verdict::Stop { why: Why::Idle, .. }, Ok(())) => {
                    app.ruled.seems_idle(at.now);
                    idle_apps.push((app, idle));
                    continue;
                }
                (_, Err(NotIdle::Recent(left))) => left,
                // Left alone, kept awake by its rules, in use, or on its way: or it is time already, and its rules see to it.
                _ => idle.min(fleet.lease()),
            };
            later.push((id, rest));
        }
        // First all have been seen: of a group, whoever comes first waits for nobody who comes later.
        for (app, idle) in idle_apps {
            let is_idle = |other: &ManagedApp| other.ruled.seemed_idle(at.now, again * 2);
            if lifecycle.group_keeps_unless(&app, at, is_idle).is_some() {
                later.push((app.id.clone(), again));
                continue;
            }
            // Not asked again before this is over.
            later.push((app.id.clone(), fleet.lease()));
            self.stop(app, idle, Why::Idle);
        }
        if later.is_empty() { Ok(()) } else { fleet.used(&later).await }
    }

    /// One step: begins whatever is due, each in a task of its own, so that a slow one delays no other. Returns how long to wait
    /// for the next step.
    pub fn step(&self) -> Duration {
        let lifecycle = &self.0;
        let (apps, at) = (lifecycle.apps(), Moment::of(&lifecycle.clock));
        let due = due(at, apps.values());
        due.wakes.iter().for_each(|app| self.wake(app));
        for (app, idle, why) in due.stops {
            if why == Why::Idle && lifecycle.group_keeps(&app, at).is_some() {
                continue;
            }
            self.stop(app, idle, why);
        }
        due.wait
    }

    fn wake(&self, app: &Arc<ManagedApp>) {
        let settings = app.settings();
        // Whoever was faster has woken it.
        drop(self.0.rouse(app, false, &schedule_of(&settings.ruling, self.0.clock.unix_millis())));
    }

    fn stop(&self, app: Arc<ManagedApp>, idle: Duration, why: Why) {
        let settings = app.settings();
        let cause = why.cause(&settings.ruling, self.0.clock.unix_millis());
        if settings.ruling.dry_run {
            return self.0.would_sleep(&app, why, cause);
        }
        if why != Why::Idle {
            app.ruled.try_now(self.0.clock.now());
        }
        let lifecycle = self.0.clone();
        lifecycle.tasks.clone().spawn(async move { lifecycle.sleep_because(&app, idle, cause).await });
    }
}

impl Lifecycle {
    /// `dry_run`: nothing is stopped. It is said once for each time that it would be: until somebody uses the app again, or until
    /// the window or the day is over.
    fn would_sleep(&self, app: &ManagedApp, why: Why, cause: Cause) {
        let wall = self.clock.unix_millis();
        let occasion = match why {
            Why::Idle => (0, app.cell.last_activity().0),
            Why::Schedule => (1, app.next_standing(&app.settings(), wall).map_or(u64::MAX, |(end, _)| end)),
            Why::Limit => (2, wall / 86_400_000),
        };
        if app.ruled.is_news(occasion) {
            self.happened(app, Event::WouldSleep(cause));
        }
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
