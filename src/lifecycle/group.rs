//! Apps that are woken together, one after the other where they say so, and sleep together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Lifecycle, ManagedApp,
    verdict::{Moment, Verdict},
};
use crate::app::{AppId, AppState};

/// Which apps belong together.
#[derive(Default)]
pub struct Groups {
    /// All members of an app's group, itself too.
    of: HashMap<AppId, Arc<[AppId]>>,
    /// Who would wait for whom in a circle, and so does not.
    ignored: HashSet<(AppId, AppId)>,
}

impl Groups {
    /// The groups of these apps.
    pub fn of<'a>(_apps: impl Iterator<Item = &'a Arc<ManagedApp>>) -> Self {
        Self::default()
    }

    /// All members of the group of `app`, itself too. Empty if it is alone.
    pub fn members(&self, app: &AppId) -> &[AppId] {
        self.of.get(app).map_or(&[], |members| members)
    }

    /// Whether `app` does not wait for `other`, whatever its rule says, since `other` waits for it.
    pub fn ignores(&self, app: &AppId, other: &AppId) -> bool {
        self.ignored.contains(&(app.clone(), other.clone()))
    }
}

impl Lifecycle {
    /// The other apps of the group of `app`.
    pub(super) fn group_of(&self, app: &ManagedApp) -> impl Iterator<Item = Arc<ManagedApp>> {
        let (groups, apps) = (self.groups.load_full(), self.apps());
        let others: Vec<_> = groups.members(&app.id).iter().filter(|id| **id != app.id).cloned().collect();
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
        let rests = |other: &ManagedApp| match (other.state(), other.verdict(at)) {
            (AppState::Waking, _) => false,
            (AppState::Asleep | AppState::Failed | AppState::Stopping, _) => true,
            // Whoever is left alone is nobody's to wait for.
            (AppState::Awake, Verdict::Nothing) => true,
            (AppState::Awake, Verdict::Stop { after, .. }) => {
                other.cell.idle_for(at.now, after).is_ok() && is_idle(other)
            }
            (AppState::Awake, Verdict::Keep(_) | Verdict::Wake) => false,
        };
        self.group_of(app).find(|other| !rests(other)).map(|other| other.id.clone())
    }
}
