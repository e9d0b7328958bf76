//! One gateway among several: it follows what others change, answers for its own requests, and tells what is used.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};

use super::{
    Event, Failure, Lifecycle, ManagedApp, Step,
    cell::NotIdle,
    follow::{Follow, follow},
};
use crate::{
    app::{AppId, AppState},
    clock::Millis,
    registry::{Change, Fleet, News, Record, RegistryError},
};

/// What another gateway has in hand is looked at so often, if its lease is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What concerns the lists of providers, for whoever keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListNews {
    /// The leader has read what this entry lists.
    Listed(String),
    /// What this entry listed is not true any more.
    Outdated(String),
}

impl Lifecycle {
    /// The gateways that share the registry, if there can be others.
    pub fn fleet(&self) -> Option<&dyn Fleet> {
        self.registry.fleet()
    }

    /// Whether what a provider says is this gateway's to record: it is alone, or leads, or sees nobody.
    pub(super) fn speaks(&self) -> bool {
        self.fleet().is_none_or(|fleet| fleet.leads() || !fleet.sees())
    }

    /// Hears what the others do, for as long as the gateway runs.
    pub async fn follow_fleet(self: Arc<Self>, lists: mpsc::UnboundedSender<ListNews>) {
        let Some(mut news) = self.fleet().and_then(Fleet::news) else { return };
        while let Some(news) = news.recv().await {
            // Nobody listens when the gateway ends.
            match news {
                News::Changed(app, record) => self.changed(&app, &record),
                News::Wanted(app) => self.wanted(&app),
                News::Forgotten(app) => {
                    if let Some(app) = self.apps().get(&app) {
                        app.forget_record();
                    }
                }
                News::Listed(entry) => drop(lists.send(ListNews::Listed(entry))),
                News::Outdated(entry) => drop(lists.send(ListNews::Outdated(entry))),
                News::Joined => {
                    let lifecycle = self.clone();
                    self.tasks.spawn(async move { lifecycle.agree_again().await });
                }
                News::Lost => {
                    let lease = self.fleet().map_or(Duration::ZERO, Fleet::lease);
                    self.apps().values().for_each(|app| app.unsettled.store(true, Ordering::SeqCst));
                    for app in self.apps().values().filter(|app| app.state() == AppState::Stopping) {
                        let (lifecycle, app) = (self.clone(), app.clone());
                        self.tasks.spawn(async move { lifecycle.let_go(&app, lease).await });
                    }
                }
            }
        }
    }

    /// Tells the others which apps are used, for as long as the gateway runs.
    pub async fn tell_what_is_used(self: Arc<Self>) {
        let Some(every) = self.fleet().map(Fleet::flush_interval) else { return };
        loop {
            sleep(every).await;
            let now = self.clock.now();
            let apps = self.apps();
            let used: Vec<_> = apps.values().filter_map(|app| used(app, now, every)).collect();
            if let (Some(fleet), false) = (self.fleet(), used.is_empty())
                && let Err(error) = fleet.used(&used).await
            {
                // Told again with the next.
                log::debug!("what is used could not be told: {error}");
                used.iter()
                    .filter_map(|(id, _)| apps.get(id))
                    .for_each(|app| app.flushed.store(0, Ordering::SeqCst));
            }
        }
    }

    fn changed(self: &Arc<Self>, id: &AppId, record: &Record) {
        let Some(app) = self.apps().get(id).cloned() else {
            return self.agree_as_a_stranger(id, record);
        };
        // Right after the registry was away, first it is settled what happened meanwhile.
        if app.hear(record) && !app.unsettled.load(Ordering::SeqCst) {
            let lifecycle = self.clone();
            self.tasks.spawn(async move { lifecycle.catch_up(&app).await });
        }
    }

    /// The app is not among this gateway's, or not any more: nobody here can want it, once what is in flight has ended.
    fn agree_as_a_stranger(self: &Arc<Self>, id: &AppId, record: &Record) {
        let mine = record.owner.as_deref() == Some(self.registry.me());
        let used =
            || self.leaving().iter().any(|app| app.id == *id && (app.in_flight() > 0 || app.held() > 0));
        if record.state != AppState::Stopping || record.told || mine || used() {
            return;
        }
        let (lifecycle, id, epoch) = (self.clone(), id.clone(), record.epoch);
        self.tasks.spawn(async move {
            if let Some(fleet) = lifecycle.fleet()
                && let Err(error) = fleet.agree(&id, epoch).await
            {
                log::debug!("{id}: its stop cannot be agreed to: {error}");
            }
        });
    }

    fn wanted(&self, id: &AppId) {
        if let Some(app) = self.apps().get(id) {
            app.wanted_elsewhere.store(true, Ordering::SeqCst);
            app.more_held.notify_waiters();
        }
    }

    /// Follows the latest record, whatever was heard in between.
    pub(super) async fn catch_up(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        let _order = app.order.lock().await;
        self.catch_up_in_order(app).await;
    }

    /// Only while `app.order` is held.
    pub(super) async fn catch_up_in_order(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        while let Some(record) = app.behind() {
            // What this gateway has seen, and nobody else can know, counts for more.
            let record = match app.untold.load(Ordering::SeqCst) {
                false => Ok(Some(record)),
                true => self.tell(app, Some(record)).await,
            };
            match record {
                Ok(Some(record)) => self.follow_record(app, &record).await,
                Ok(None) => {}
                // Told when the registry is back.
                Err(error) => {
                    return log::debug!("{}: what was seen of it cannot be told now: {error}", app.id);
                }
            }
        }
    }

    pub(super) async fn follow_record(self: &Arc<Self>, app: &Arc<ManagedApp>, record: &Record) {
        if record.state != app.state() {
            app.provider.changed_elsewhere(&app.id.name);
        }
        // Requests may still be in flight from when it was awake here.
        let wanted = app.held() > 0 || app.in_flight() > 0;
        match follow(app.state(), wanted, record, self.registry.me()) {
            Follow::Stay if record.told && app.state() == AppState::Stopping => {
                let (lifecycle, app, epoch) = (self.clone(), app.clone(), record.epoch);
                if record.owner.as_deref() != Some(self.registry.me()) {
                    self.tasks.spawn(async move { lifecycle.outlast(&app, epoch).await });
                }
            }
            Follow::Stay => {}
            Follow::Awake => {
                if let Err(error) = self.awake_elsewhere(app) {
                    log::warn!("{}: {error}", app.id);
                }
            }
            Follow::Asleep => self.rests(app, AppState::Asleep, None),
            Follow::Failed => self.rests(app, AppState::Failed, Some(self.failure_of(record))),
            Follow::Yield => {
                let idle = Duration::from_millis(record.idle.unwrap_or(0));
                match app.begin_stop(idle) {
                    Ok(()) | Err(NotIdle::State(_)) => self.agree(app, record.epoch).await,
                    Err(_) => self.veto(app, record.epoch).await,
                }
            }
            Follow::Agree => self.agree(app, record.epoch).await,
            Follow::Veto => self.veto(app, record.epoch).await,
        }
    }

    /// The app runs, and another gateway has seen it answer.
    /// Fails if its address is not known here yet: the next list will tell.
    pub(super) fn awake_elsewhere(&self, app: &ManagedApp) -> Result<(), NoAddress> {
        let endpoint = app.known().endpoint.clone().ok_or(NoAddress)?;
        app.reach(Some(self.reached(endpoint)));
        app.cell.touch(self.clock.now());
        let from = app.state();
        if from != AppState::Awake && app.turn(from, AppState::Awake, Step::Ready, None) {
            self.happened(app, Event::Elsewhere(AppState::Awake));
        }
        Ok(())
    }

    fn rests(&self, app: &ManagedApp, to: AppState, failure: Option<Failure>) {
        let from = app.state();
        if from != to && app.turn(from, to, Step::Starting, failure) {
            app.reach(None);
            if from == AppState::Stopping {
                // By a person, perhaps: then its schedule is not to wake it at once, should this gateway lead.
                app.ruled.lay_down(self.clock.unix_millis());
            }
            self.happened(app, Event::Elsewhere(to));
        }
    }

    /// What visitors of this gateway are told of a failure that another one met.
    pub(super) fn failure_of(&self, record: &Record) -> Failure {
        let now = self.fleet().map_or(record.since, Fleet::now);
        let passed = Duration::from_millis(now.saturating_sub(record.since));
        let reference = record.reference.clone().unwrap_or_default().into();
        Failure { reference, retry_at: self.clock.now().after(record.back_off().saturating_sub(passed)) }
    }

    async fn agree(self: &Arc<Self>, app: &Arc<ManagedApp>, epoch: u64) {
        let Some(fleet) = self.fleet() else { return };
        if let Err(error) = fleet.agree(&app.id, epoch).await {
            log::warn!("{}: its stop cannot be agreed to: {error}", app.id);
        }
        // Whoever comes from now on waits, and has the stop given up if that is still possible.
        let (lifecycle, app) = (self.clone(), app.clone());
        self.tasks.spawn(async move { lifecycle.want_back(&app, epoch).await });
    }

    /// Another gateway's stop, which may have been told to the provider, is waited for; if its owner is not heard of any more,
    /// whoever comes here wakes the app.
    async fn outlast(self: &Arc<Self>, app: &Arc<ManagedApp>, epoch: u64) {
        let Some(fleet) = self.fleet() else { return };
        loop {
            let deadline = app.record().and_then(|record| record.deadline).unwrap_or(0);
            let left = Duration::from_millis(deadline.saturating_sub(fleet.now()));
            tokio::select! {
                () = until_not(app, epoch) => return,
                () = sleep(left.max(LOOK_EVERY)) => {}
            }
            let abandoned = app.record().is_some_and(|record| record.is_abandoned(fleet.now()));
            if abandoned && app.held() > 0 {
                let _order = app.order.lock().await;
                app.turn(AppState::Stopping, AppState::Asleep, Step::Starting, None);
                return;
            }
        }
    }

    /// Returns when the stop is over, or its owner is not heard of any more. Whoever comes has it given up, if it still can be.
    async fn want_back(self: &Arc<Self>, app: &Arc<ManagedApp>, epoch: u64) {
        tokio::select! {
            () = app.wanted_here() => {}
            () = until_not(app, epoch) => return,
        }
        self.veto(app, epoch).await;
        self.outlast(app, epoch).await;
    }

    async fn veto(&self, app: &Arc<ManagedApp>, epoch: u64) {
        // The leader asks again when it may be idle, and that is later than it thought.
        app.flushed.store(0, Ordering::SeqCst);
        match self.registry.apply(&app.id, Change::Veto, Some(epoch)).await {
            // The change is told to all, this gateway too.
            Ok(_) => {}
            Err(RegistryError::Misfit(record)) if record.told && record.state == AppState::Stopping => {
                if let Some(fleet) = self.fleet() {
                    fleet.want(&app.id).await;
                }
            }
            Err(RegistryError::Misfit(_)) => {}
            Err(error) => log::warn!("{}: its stop cannot be vetoed: {error}", app.id),
        }
    }
}

/// Another gateway has woken an app that this one cannot reach.
#[derive(Debug, thiserror::Error)]
#[error("it runs, and its address is not known here yet")]
pub(super) struct NoAddress;

/// Returns once the record has another epoch.
pub(super) async fn until_not(app: &ManagedApp, epoch: u64) {
    loop {
        let mut heard = std::pin::pin!(app.heard.notified());
        // Before the look: what comes after it is heard.
        heard.as_mut().enable();
        if app.record().is_none_or(|record| record.epoch != epoch) {
            return;
        }
        heard.await;
    }
}

/// In how long `app` may be idle, if that is news to the others.
fn used(app: &ManagedApp, now: Millis, slack: Duration) -> Option<(AppId, Duration)> {
    if app.state() != AppState::Awake {
        return None;
    }
    let last = if app.in_flight() > 0 { now } else { app.cell.last_activity() };
    if app.flushed.swap(last.0, Ordering::SeqCst) >= last.0 {
        return None;
    }
    let idle = app.settings().timeouts.idle.saturating_sub(now.since(last));
    // Later rather than too early: it may be used again before this is told the next time.
    Some((app.id.clone(), idle + slack))
}
