//! After something went wrong: the registry was away, or a gateway has ended in the middle of a wake or a stop. What was seen
//! meanwhile is told, what is not known is asked, and records and cells agree again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Lifecycle, ManagedApp, Step};
use crate::{
    app::{AppState, AppStatus},
    registry::{Change, Fleet, Record, RegistryError},
};

impl Lifecycle {
    /// The registry is lost in the middle of another gateway's stop, which this one has agreed to. That gateway may go on with
    /// it, so newcomers are still held: until the registry is back and says what has become of it, or for two leases, after which
    /// the provider knows.
    pub(super) async fn let_go(self: &Arc<Self>, app: &Arc<ManagedApp>, lease: Duration) {
        let mut progress = app.progress();
        let over = progress.wait_for(|progress| progress.state != AppState::Stopping);
        // A lease later the word that was given is old, and counts no more.
        if tokio::time::timeout(lease * 2, over).await.is_ok() {
            return;
        }
        let status = app.provider.status(&app.id.name).await;
        let _order = app.order.lock().await;
        if self.fleet().is_some_and(Fleet::sees) {
            return;
        }
        let to = match status {
            Ok(AppStatus::Stopped | AppStatus::Stopping | AppStatus::Crashed(_)) => AppState::Asleep,
            // If nobody can tell: its router will, if it does not run.
            _ => AppState::Awake,
        };
        app.turn(AppState::Stopping, to, Step::Ready, None);
    }

    /// The registry can be used again: what happened meanwhile is told and heard, and what it has lost is restored.
    pub(super) async fn agree_again(self: &Arc<Self>) {
        let Some(fleet) = self.fleet() else { return };
        let apps: Vec<_> = self.apps().values().cloned().collect();
        let ids: Vec<_> = apps.iter().map(|app| app.id.clone()).collect();
        let records = match fleet.read_all(&ids).await {
            Ok(records) => records,
            // It is lost again, and will be joined again.
            Err(error) => return log::warn!("what others have done cannot be read: {error}"),
        };
        for (app, record) in apps.into_iter().zip(records) {
            let lifecycle = self.clone();
            self.tasks.spawn(async move {
                if let Err(error) = lifecycle.settle(&app, record).await {
                    log::debug!("{}: its record cannot be settled now: {error}", app.id);
                    // Else it is when the registry is back.
                    if lifecycle.fleet().is_some_and(Fleet::sees) {
                        app.unsettled.store(false, Ordering::SeqCst);
                    }
                }
            });
        }
    }

    /// Makes the record and the cell agree: what this gateway has seen and could not tell counts, else the record does.
    async fn settle(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        record: Option<Record>,
    ) -> Result<(), RegistryError> {
        let _order = app.order.lock().await;
        if let Some(record) = self.tell(app, record).await? {
            app.remember(&record);
            self.follow_record(app, &record).await;
        }
        app.unsettled.store(false, Ordering::SeqCst);
        self.catch_up_in_order(app).await;
        Ok(())
    }

    /// Tells the registry, where the record of the app is `there`, what it does not know. Returns the record to be followed.
    /// Only while `app.order` is held.
    pub(super) async fn tell(
        &self,
        app: &ManagedApp,
        mut there: Option<Record>,
    ) -> Result<Option<Record>, RegistryError> {
        let untold = app.untold.load(Ordering::SeqCst);
        // Others settle the same app now: whoever is not the first looks at what the first has made of it.
        while let Some((change, basis)) = self.to_tell(app, there.as_ref(), untold).await {
            match self.registry.apply(&app.id, change, basis).await {
                Ok(told) => {
                    app.remember(&told);
                    app.untold.store(false, Ordering::SeqCst);
                    return Ok(Some(told));
                }
                Err(RegistryError::Misfit(now)) if there.as_ref() != Some(&now) => there = Some(*now),
                Err(RegistryError::Misfit(_)) => break,
                Err(error) => return Err(error),
            }
        }
        app.untold.store(false, Ordering::SeqCst);
        Ok(there)
    }

    /// What the registry is yet to be told of an app whose record is `there`, and the epoch that this is decided on.
    async fn to_tell(
        &self,
        app: &ManagedApp,
        there: Option<&Record>,
        untold: bool,
    ) -> Option<(Change, Option<u64>)> {
        let mut running = app.state() == AppState::Awake;
        let known = app.record().or_else(|| self.fleet()?.known(&app.id));
        let lost = known.filter(|known| there.is_none_or(|there| there.epoch < known.epoch));
        if let Some(known) = lost {
            if known.told {
                // Whether the provider was told, only the provider knows.
                running = self.seems_to_run(app).await.unwrap_or(running);
            }
            return Some((Change::Restore { known: Box::new(known), running }, None));
        }
        let found = Change::Found { running, by: self.me() };
        let Some(there) = there else { return Some((found, Some(0))) };
        let settled = matches!(app.state(), AppState::Awake | AppState::Asleep | AppState::Failed);
        if !untold || !settled || running == (there.state == AppState::Awake) {
            return None;
        }
        // Others may have started or stopped it since it was seen here.
        let still = self.seems_to_run(app).await.is_none_or(|runs| runs == running);
        still.then_some((found, Some(there.epoch)))
    }

    /// Whether the app runs as its provider sees it. `None` if that cannot be told.
    async fn seems_to_run(&self, app: &ManagedApp) -> Option<bool> {
        match app.provider.status(&app.id.name).await {
            Ok(AppStatus::Running | AppStatus::Unknown(_)) => Some(true),
            Ok(AppStatus::Stopped | AppStatus::Crashed(_)) => Some(false),
            Ok(AppStatus::Starting | AppStatus::Stopping) | Err(_) => None,
        }
    }

    /// Gateways died or lost the registry in the middle of these apps' wakes and stops: the provider is asked what has become
    /// of them. For the leader.
    pub(super) async fn mend(self: &Arc<Self>, fleet: &dyn Fleet) -> Result<(), RegistryError> {
        for id in fleet.abandoned().await? {
            let Some(app) = self.apps().get(&id).cloned() else { continue };
            // One that cannot be read keeps no other from being mended.
            let record = match self.registry.read(&id).await {
                Ok(Some(record)) if record.is_abandoned(fleet.now()) => record,
                Ok(_) => continue,
                Err(error) => {
                    log::debug!("{id}: was left half done, and cannot be mended: {error}");
                    continue;
                }
            };
            // If that cannot be told now, it is looked at again.
            let Some(running) = self.seems_to_run(&app).await else { continue };
            let runs = if running { "runs" } else { "does not run" };
            log::warn!("{id}: was left {} by a gateway that is gone; it {runs}", record.state);
            let found = Change::Found { running, by: self.me() };
            // Told to all, this gateway too.
            if let Err(error @ RegistryError::Unavailable(_)) =
                self.registry.apply(&id, found, Some(record.epoch)).await
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// This gateway ends: what it has in hand is anybody's at once, and not only after a lease.
    pub async fn hand_over(&self) {
        let mine = |record: &Record| record.owner.as_deref() == Some(self.registry.me());
        for app in self.apps().values().filter(|app| app.record().is_some_and(|record| mine(&record))) {
            let renew = Change::Renew { by: self.me(), lease: Duration::ZERO };
            if let Err(error) = self.registry.apply(&app.id, renew, None).await {
                log::debug!("{}: it cannot be handed over: {error}", app.id);
            }
        }
    }
}
