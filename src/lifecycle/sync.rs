//! From what a provider lists to what is managed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{Cause, Event, Known, Lifecycle, ManagedApp, Settings, Slept, Step, cell::NotIdle, settings};
use crate::{
    app::{AppId, AppState, AppStatus, Endpoint, Timeouts},
    clock::Millis,
    config::Manage,
    provider::{AppInfo, Provider},
    registry::{Change, Fleet, Record, RegistryError},
    routing::Rules,
};

/// How long a removed app may finish what is in flight before it is stopped all the same.
const FAREWELL: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// In so many lists in a row an app must be missing before it is gone: one list may be wrong.
const GONE_AFTER: u32 = 2;

/// What the configuration says of every app.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Time limits of apps that set none of their own.
    pub defaults: Timeouts,
    /// `NAME.DOMAIN` is the app `NAME`.
    pub domains: Vec<String>,
    /// Which apps are woken and stopped.
    pub manage: Manage,
    /// What holds for which apps.
    pub rules: Arc<Rules>,
}

/// A provider's answer to `list`.
pub struct Listed {
    /// The entry's name.
    pub name: Arc<str>,
    /// Who answered.
    pub provider: Arc<dyn Provider>,
    /// Everything it has.
    pub apps: Vec<AppInfo>,
    /// When it was asked.
    pub asked: Millis,
}

impl Lifecycle {
    /// Makes the managed apps of a provider entry equal to what it lists: new ones are taken in as they are found (a
    /// running one with its full idle time), known ones get their settings and the provider's news, renamed ones keep
    /// their record, missing ones leave.
    ///
    /// Only call it with a complete list.
    pub async fn sync(self: &Arc<Self>, listed: Listed, policy: &Policy) {
        let Listed { name, provider, apps: list, asked } = listed;
        let known = self.apps();
        let mut apps: HashMap<AppId, Arc<ManagedApp>> = known
            .iter()
            .filter(|(id, _)| id.provider != name)
            .map(|(id, app)| (id.clone(), app.clone()))
            .collect();
        let names: HashSet<String> = list.iter().map(|info| info.name.clone()).collect();
        let (mut renamed, mut replaced, mut new) = (HashSet::new(), Vec::new(), Vec::new());
        let (mut renames, mut back) = (Vec::new(), Vec::new());
        for info in list {
            let id = AppId::new(name.clone(), info.name.as_str());
            let settings = settings::settings(&id, &info, policy);
            let news = self.news(&id, &info, &policy.manage);
            // An app that comes back while it still runs is the same app: its requests in flight count on. Unless its
            // whole provider entry was gone: the new one knows nothing of what the old one runs.
            let same = |app: &&Arc<ManagedApp>| is_same(&app.known().key, &info.key);
            match known.get(&id).filter(same).cloned().or_else(|| self.come_back(&id, &provider, &info.key)) {
                Some(app) => {
                    app.configure(settings);
                    let reason = news.left_alone.clone();
                    if let Some(reason) = reason.filter(|reason| app.left_alone().as_ref() != Some(reason)) {
                        self.happened_to(&id, Event::LeftAlone(reason));
                    }
                    app.know(news);
                    self.deployed(&app, info.deployed_at);
                    self.listed(&app, &info.status, asked).await;
                    if !known.contains_key(&id) {
                        back.push(app.clone());
                    }
                    apps.insert(id, app);
                }
                None => {
                    let before = known.values().find(|app| {
                        let key = app.known().key.clone();
                        app.id.provider == name && app.id != id && key.is_some() && key == info.key
                    });
                    if let Some(before) = before {
                        self.happened_to(&id, Event::Renamed(before.id.clone()));
                        renames.push((before.id.clone(), id.clone()));
                        renamed.insert(before.id.clone());
                    } else if known.contains_key(&id) {
                        replaced.push(id.clone());
                    }
                    new.push((id, settings, news, info));
                }
            }
        }
        // In a fleet the leader does it for all.
        if self.speaks() {
            self.rename(&renames).await;
        }
        // What ran before under a name that another app has now is none of its business, unless it has moved away already.
        for id in replaced.iter().filter(|id| !renamed.contains(*id) && self.speaks()) {
            if let Err(error) = self.registry.forget(id).await {
                log::warn!(
                    "{id}: what is known of the app that had this name before cannot be forgotten: {error}"
                );
            }
        }
        // All at once, since a registry writes many changes as fast as one.
        let mut taken = JoinSet::new();
        for (id, settings, news, info) in new {
            let (lifecycle, provider) = (self.clone(), provider.clone());
            let take_in = async move { lifecycle.take_in(id, provider, settings, news, &info).await };
            taken.spawn_on(take_in, &self.tasks);
        }
        let mut taken_in = Vec::new();
        while let Some(app) = taken.join_next().await {
            match app {
                Ok(app) => {
                    taken_in.push(app.clone());
                    apps.insert(app.id.clone(), app);
                }
                Err(error) => log::error!("{name}: an app cannot be taken in: {error}"),
            }
        }
        let owned = provider.list_every().is_none();
        let gone = |id: &AppId, app: &Arc<ManagedApp>| {
            id.provider == name && apps.get(id).is_none_or(|now| !Arc::ptr_eq(now, app))
        };
        let gone: Vec<_> = known.iter().filter(|(id, app)| gone(id, app)).collect();
        for (id, app) in gone {
            if !owned && !renamed.contains(id) && !names.contains(&*id.name) {
                let missing = app.known().missing + 1;
                if missing < GONE_AFTER {
                    app.know(Known { missing, ..Known::clone(&app.known()) });
                    apps.insert(id.clone(), app.clone());
                    continue;
                }
            }
            if !renamed.contains(id) {
                self.happened_to(id, Event::Removed);
            }
            self.leave(app, owned);
        }
        self.set_apps(apps);
        // What others did to an app while it was not among ours was not heard.
        for app in taken_in.into_iter().chain(back) {
            let latest = self.fleet().and_then(|fleet| fleet.known(&app.id));
            if latest.is_some_and(|record| app.hear(&record)) {
                self.catch_up(&app).await;
            }
        }
    }

    fn news(&self, id: &AppId, info: &AppInfo, manage: &Manage) -> Known {
        let left_alone = info.left_alone.clone().or_else(|| manage.leaves_alone(id)).map(Arc::from);
        Known { key: info.key.clone(), endpoint: info.endpoint.clone(), left_alone, missing: 0 }
    }

    /// Takes what is remembered of apps over to their new names. A name may have been another app's until now: first all are
    /// put aside.
    async fn rename(&self, renames: &[(AppId, AppId)]) {
        let aside = |id: &AppId| AppId::new(id.provider.clone(), format!("{}~renamed", id.name));
        let one = renames.len() == 1;
        let first =
            renames.iter().map(|(from, to)| (from.clone(), if one { to.clone() } else { aside(from) }));
        let second = renames.iter().filter(|_| !one).map(|(from, to)| (aside(from), to.clone()));
        for (from, to) in first.chain(second).collect::<Vec<_>>() {
            if let Err(error) = self.registry.rename(&from, &to).await {
                log::warn!("{to}: what is known of it as {from} cannot be kept: {error}");
            }
        }
    }

    fn leave(self: &Arc<Self>, app: &Arc<ManagedApp>, owned: bool) {
        self.leaving().push(app.clone());
        match owned {
            true => self.tasks.spawn(farewell(self.clone(), app.clone())),
            false => self.tasks.spawn(fade(self.clone(), app.clone())),
        };
    }

    /// Whether requests that came under an earlier entry or name of the same app are still in flight: it is not idle.
    pub(super) fn is_still_used(&self, app: &Arc<ManagedApp>) -> bool {
        let same = |other: &Arc<ManagedApp>| {
            let key = other.known().key.clone();
            let same_key = key.is_some() && key == app.known().key && other.id.provider == app.id.provider;
            !Arc::ptr_eq(other, app) && (other.id == app.id || same_key)
        };
        self.leaving().iter().any(|other| same(other) && (other.in_flight() > 0 || other.held() > 0))
    }

    fn come_back(
        &self,
        id: &AppId,
        provider: &Arc<dyn Provider>,
        key: &Option<String>,
    ) -> Option<Arc<ManagedApp>> {
        let mut leaving = self.leaving();
        let same = |app: &Arc<ManagedApp>| {
            app.id == *id && Arc::ptr_eq(&app.provider, provider) && is_same(&app.known().key, key)
        };
        let place = leaving.iter().position(same)?;
        Some(leaving.swap_remove(place))
    }

    fn is_leaving(&self, app: &Arc<ManagedApp>) -> bool {
        self.leaving().iter().any(|leaving| Arc::ptr_eq(leaving, app))
    }

    /// Removes every app of a provider entry that is gone. Those that are ours are stopped; at a provider they stay as
    /// they are, and what must come back is remembered for the day the entry does.
    pub fn remove_provider(self: &Arc<Self>, name: &str, provider: &Arc<dyn Provider>) {
        let (gone, stay): (HashMap<_, _>, HashMap<_, _>) = self
            .apps()
            .iter()
            .map(|(id, app)| (id.clone(), app.clone()))
            .partition(|(id, _)| *id.provider == *name);
        for (id, app) in &gone {
            self.happened_to(id, Event::Removed);
            self.leave(app, provider.list_every().is_none());
        }
        self.set_apps(stay);
    }

    /// A deployment counts as activity, whenever it is heard of.
    fn deployed(&self, app: &ManagedApp, at: Option<u64>) {
        if let Some(ago) = at.and_then(|at| self.clock.unix_millis().checked_sub(at)) {
            app.cell.touch(self.clock.now().before(Duration::from_millis(ago)));
        }
    }

    /// These are the apps from now on.
    fn set_apps(&self, apps: HashMap<AppId, Arc<ManagedApp>>) {
        let is_ruled = |app: &&Arc<ManagedApp>| {
            let ruling = &app.settings().ruling;
            ruling.schedule.is_some() || ruling.limits.awake_per_day.is_some()
        };
        self.ruled.store(Arc::new(apps.values().filter(is_ruled).cloned().collect()));
        self.regroup(apps.values());
        self.apps.store(Arc::new(apps));
    }

    async fn take_in(
        self: &Arc<Self>,
        id: AppId,
        provider: Arc<dyn Provider>,
        settings: Settings,
        known: Known,
        info: &AppInfo,
    ) -> Arc<ManagedApp> {
        let runs = matches!(info.status, AppStatus::Running | AppStatus::Unknown(_));
        let mut running = info.endpoint.clone().filter(|_| runs);
        let owned = provider.list_every().is_none();
        // What an earlier gateway was doing to it when it ended is finished first: an app in the middle of its boot
        // does not answer yet, and one that was told to stop soon will not. At a provider that was another one's stop: it
        // has come through or it has not, and the list says which.
        let there = self.registry.read(&id).await;
        let before = there.as_ref().ok().and_then(Option::as_ref).map(|record| record.state);
        let boots = running.is_some() && before == Some(AppState::Waking) && owned;
        if running.is_some() && before == Some(AppState::Stopping) && owned {
            match provider.give_up(&id.name).await {
                Ok(()) => running = None,
                Err(error) => log::warn!("{id}: its stop cannot be finished: {error}"),
            }
        }
        // Put to sleep with its workers running: then "running" says nothing about it.
        if settings.stop == crate::app::StopTypes::Web && before == Some(AppState::Asleep) {
            running = None;
        }
        let awake = running.filter(|_| !boots);
        if let Some(fleet) = self.fleet() {
            let record = self.found(fleet, &id, there, awake.is_some()).await;
            return self.join_in(id, provider, settings, known, record, awake).await;
        }
        let found = Change::Found { running: awake.is_some(), by: self.me() };
        let record = match self.registry.apply(&id, found, None).await {
            Ok(record) => Some(record),
            Err(error) => {
                log::warn!("{id}: what is known of it cannot be read: {error}");
                None
            }
        };
        let clock = self.clock.clone();
        let app = Arc::new(ManagedApp::new(id, provider, clock, settings, known, record.as_ref()));
        if let Some(reason) = app.left_alone() {
            self.happened(&app, Event::LeftAlone(reason));
        }
        if boots {
            self.begin_wake(&app, AppState::Asleep, true, || Cause::Gateway);
        }
        if let Some(endpoint) = awake {
            app.reach(Some(self.reached(endpoint)));
            app.turn(AppState::Asleep, AppState::Awake, Step::Ready, None);
            self.happened(&app, Event::Adopted);
        }
        app
    }

    /// The record of an app that is new to this gateway, and perhaps to the fleet. What the provider says of it is for the
    /// leader to say; `None` if the registry is away.
    async fn found(
        &self,
        fleet: &dyn Fleet,
        id: &AppId,
        there: Result<Option<Record>, RegistryError>,
        running: bool,
    ) -> Option<Record> {
        let found = Change::Found { running, by: self.me() };
        let change = match there {
            Err(error) => {
                log::warn!("{id}: what is known of it cannot be read: {error}");
                return None;
            }
            Ok(Some(record)) => {
                let agrees = (record.state == AppState::Awake) == running;
                if !fleet.leads() || agrees || record.deadline.is_some() {
                    return Some(record);
                }
                found
            }
            Ok(None) => match fleet.known(id) {
                Some(known) => Change::Restore { known: Box::new(known), running },
                None => found,
            },
        };
        match self.registry.apply(id, change, None).await {
            Ok(record) => Some(record),
            Err(RegistryError::Misfit(record)) => Some(*record),
            Err(error) => {
                log::warn!("{id}: that it is there cannot be recorded: {error}");
                None
            }
        }
    }

    /// Takes in an app that others may know already, in the state that they have brought it to.
    async fn join_in(
        self: &Arc<Self>,
        id: AppId,
        provider: Arc<dyn Provider>,
        settings: Settings,
        known: Known,
        record: Option<Record>,
        running: Option<Endpoint>,
    ) -> Arc<ManagedApp> {
        let app = Arc::new(ManagedApp::new(id, provider, self.clock.clone(), settings, known, None));
        if let Some(reason) = app.left_alone() {
            self.happened(&app, Event::LeftAlone(reason));
        }
        match (record, running) {
            (Some(record), _) => {
                app.hear(&record);
                self.catch_up(&app).await;
            }
            (None, Some(endpoint)) => {
                app.untold.store(true, Ordering::SeqCst);
                app.reach(Some(self.reached(endpoint)));
                app.turn(AppState::Asleep, AppState::Awake, Step::Ready, None);
                self.happened(&app, Event::Adopted);
            }
            (None, None) => {}
        }
        app
    }
}

/// Two apps of one name are the same, unless their provider says otherwise.
fn is_same(known: &Option<String>, listed: &Option<String>) -> bool {
    known.as_ref().zip(listed.as_ref()).is_none_or(|(known, listed)| known == listed)
}

/// Nothing leads to the app any more, and it is not ours to stop: it is only remembered for as long as somebody uses it.
async fn fade(lifecycle: Arc<Lifecycle>, app: Arc<ManagedApp>) {
    loop {
        // Also gives the routes time to change.
        tokio::time::sleep(LOOK_EVERY).await;
        let busy = matches!(app.state(), AppState::Waking | AppState::Stopping);
        if app.in_flight() == 0 && app.held() == 0 && !busy {
            break;
        }
    }
    lifecycle.leaving().retain(|other| !Arc::ptr_eq(other, &app));
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
            if let Err(error) = app.provider.give_up(&app.id.name).await {
                log::warn!("{}: cannot be stopped: {error}", app.id);
            }
            break;
        }
        if app.held() > 0 {
            continue;
        }
        match lifecycle.sleep_because(&app, Duration::ZERO, Cause::Gateway).await {
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
