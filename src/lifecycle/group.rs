//! Apps that are woken together, one after the other where they say so, and sleep together.

use std::sync::{Arc, atomic::Ordering};

use futures_util::future::try_join_all;

use super::{
    Cause, Lifecycle, ManagedApp, Refusal, Step,
    event::moment,
    verdict::{Moment, Verdict},
};
use crate::{
    app::{AppId, AppState},
    config::units,
    routing::{Groups, Ruling, rules::Until},
};

impl Lifecycle {
    /// The other apps of the group of `app`.
    pub(super) fn group_of(&self, app: &ManagedApp) -> impl Iterator<Item = Arc<ManagedApp>> {
        let (groups, apps) = (self.groups.load_full(), self.apps());
        let others: Vec<_> = groups.of(&app.id).iter().filter(|id| **id != app.id).cloned().collect();
        others.into_iter().filter_map(move |id| apps.get(&id).cloned())
    }

    /// Who keeps `app` awake although it is idle: another one of its group that is in use, on its way up, pinned or kept warm.
    pub(super) fn group_keeps(&self, app: &ManagedApp, at: Moment) -> Option<AppId> {
        self.group_keeps_unless(app, at, |_| true)
    }

    /// The same, where an app that is idle here counts as idle only if `is_idle` elsewhere too.
    pub(super) fn group_keeps_unless(
        &self,
        app: &ManagedApp,
        at: Moment,
        is_idle: impl Fn(&ManagedApp) -> bool,
    ) -> Option<AppId> {
        // One that is never stopped is not to go on running without those that it is woken with.
        let stays = |other: &ManagedApp| {
            let needs = |ruling: &Ruling| ruling.dry_run && ruling.wakes_with.contains(&app.id);
            needs(&other.settings().ruling) && !app.settings().ruling.dry_run
        };
        let rests = |other: &ManagedApp| match (other.state(), other.verdict(at)) {
            (AppState::Waking, _) => false,
            (AppState::Asleep | AppState::Failed | AppState::Stopping, _) => true,
            // Whoever is left alone is nobody's to wait for.
            (AppState::Awake, Verdict::Nothing) => true,
            (AppState::Awake, Verdict::Stop { after, .. }) => {
                other.cell.idle_for(at.now, after).is_ok() && is_idle(other) && !stays(other)
            }
            (AppState::Awake, Verdict::Keep(_) | Verdict::Wake) => false,
        };
        self.group_of(app).find(|other| !rests(other)).map(|other| other.id.clone())
    }

    /// Which of these apps belong together, from now on. Orders that nobody can keep are told once.
    pub(super) fn regroup<'a>(&self, apps: impl Iterator<Item = &'a Arc<ManagedApp>>) {
        let settings: Vec<_> = apps.map(|app| (app, app.settings())).collect();
        let groups = Groups::new(settings.iter().map(|(app, settings)| (&app.id, &*settings.ruling)));
        let told = self.groups.load();
        for cycle in groups.cycles().iter().filter(|cycle| !told.cycles().contains(cycle)) {
            log::error!(
                "rules.after: each of these is to be started after the next: {cycle}; none of them waits"
            );
        }
        self.groups.store(Arc::new(groups));
    }

    /// Wakes the apps that are woken with `app`, which is about to be started by this gateway, and returns once those have come
    /// far enough that are to come first. The start's own time begins then: each of the others has a wake timeout of its own.
    ///
    /// # Errors
    ///
    /// One that is to come first does not wake: which, and why.
    pub(super) async fn gather(self: &Arc<Self>, app: &Arc<ManagedApp>) -> Result<(), String> {
        let settings = app.settings();
        let ruling = &settings.ruling;
        let (apps, insists) = (self.apps(), app.ruled.insisted.load(Ordering::SeqCst));
        let cause = Cause::Group { app: app.id.clone() };
        let found = |id: &AppId| {
            let other = apps.get(id).filter(|other| other.id != app.id).cloned();
            if other.is_none() && *id != app.id {
                log::debug!("{}: there is no app {id} to be woken with it", app.id);
            }
            other
        };
        for other in ruling.wakes_with.iter().filter_map(found) {
            if let Err(refusal) = self.rouse(&other, insists, &cause) {
                log::info!("{}: {} is not woken with it: {}", app.id, other.id, refusal.because(&other));
            }
        }
        let groups = self.groups.load_full();
        let first = ruling.after.iter().filter(|(id, _)| !groups.is_endless(&app.id, id));
        let first = first.filter_map(|(id, until)| Some((found(id)?, *until)));
        let waits = first.map(|(other, until)| self.comes_first(app, other, until, insists));
        try_join_all(waits).await.map(drop)
    }

    /// `app` was to sleep with its group, and somebody wants it, or it is kept from being stopped: then those that are woken with
    /// it do not sleep either.
    pub(super) fn wake_others(self: &Arc<Self>, app: &Arc<ManagedApp>) {
        if app.state() != AppState::Awake {
            return;
        }
        let (settings, apps) = (app.settings(), self.apps());
        let cause = Cause::Group { app: app.id.clone() };
        for other in settings.ruling.wakes_with.iter().filter_map(|id| apps.get(id)) {
            if let Err(refusal) = self.rouse(other, false, &cause) {
                log::info!("{}: goes on without {}: {}", app.id, other.id, refusal.because(other));
            }
        }
    }

    /// Returns once `other` has come as far as `until`.
    async fn comes_first(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        other: Arc<ManagedApp>,
        until: Until,
        mut insists: bool,
    ) -> Result<(), String> {
        let cause = Cause::Group { app: app.id.clone() };
        let mut progress = other.progress();
        loop {
            let step = progress.borrow_and_update().step;
            match other.state() {
                AppState::Awake => return Ok(()),
                AppState::Waking
                    if until == Until::Started && matches!(step, Step::Probing | Step::Ready) =>
                {
                    return Ok(());
                }
                AppState::Waking => {}
                AppState::Asleep | AppState::Failed | AppState::Stopping => {
                    if let Err(refusal) = self.rouse(&other, insists, &cause) {
                        return Err(format!(
                            "{}, which has to come first, is not awake: {}",
                            other.id,
                            refusal.because(&other)
                        ));
                    }
                    // If that fails, it has failed.
                    insists = false;
                }
            }
            if progress.changed().await.is_err() {
                return Err(format!("{} is gone", other.id));
            }
        }
    }
}

impl Refusal {
    /// Why `app` is not woken, in words for operators.
    pub fn because(&self, app: &ManagedApp) -> String {
        match self {
            Self::Resting(state) => format!("it is {state}"),
            Self::Failed(failure) => {
                let reason = app.record().and_then(|record| record.last_failure);
                let reason = reason.unwrap_or_else(|| "its last start failed".into());
                format!("{reason} (reference {})", failure.reference)
            }
            Self::LeftAlone(reason) => format!("it is left alone: {reason}"),
            Self::TooManyHeld => "too many requests wait for it".into(),
            Self::Closed { opens: None, .. } => "its schedule keeps it asleep".into(),
            Self::Closed { opens: Some(opens), .. } => {
                format!("its schedule keeps it asleep until {}", moment(*opens))
            }
            Self::Limited { retry_after } => {
                format!("it was awake as much as it may be for another {}", units::duration(*retry_after))
            }
            Self::NotAllowed => "whoever asks may not wake it".into(),
        }
    }
}
