//! `Roster`: who is there. Asks every provider for its apps, at start, on an interval, and after a reload, and builds the
//! routes from the answers.
//!
//! A provider that cannot be asked changes nothing: its apps stay as they were, and it is asked again later, ever more
//! rarely. One whose credential is refused is asked again after a reload, and else only now and then.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, mpsc},
    task::JoinHandle,
};

use super::{absolute, allowance, recollection::Recollection};
use crate::{
    app::{AppId, Endpoint},
    clock::{Clock, Millis},
    config::{Config, ProviderEntry, SharedApp},
    lifecycle::{Claim, Lifecycle, Listed, ManagedApp, Policy, Replicas},
    provider::{
        Accounts, Calls, Listing, NeedsRestart, Provider, ProviderConfig, ProviderContext, ProviderError,
        ProviderEvent,
    },
    proxy::Gateway,
    registry::{Fleet, fleet::SharedList},
    routing::RouteTable,
};

/// The first pause after a list that failed; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A surprise brings the next list forward, to this long after the last one at the earliest.
const SOON: Duration = Duration::from_secs(5);

/// At a start, the leader's first list is waited for so long.
const LEADERS_LIST: Duration = Duration::from_secs(5);

/// A leader that has not read a list for so many intervals cannot: then others try.
const STALE: u32 = 4;

/// Two lists that were asked for within this are one.
const SAME_LIST: Duration = Duration::from_millis(20);

/// How long nobody is served because a provider takes its time with its first list.
const FIRST_LISTS: Duration = Duration::from_secs(10);

/// An account whose credential is refused is asked again so much later all the same: the refusal may have been a mistake.
const REFUSED_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Everyone who was listed, and where they are reached. A handle: clones are the same.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    lifecycle: Arc<Lifecycle>,
    gateway: Gateway,
    clock: Clock,
    events: mpsc::UnboundedSender<ProviderEvent>,
    program: Option<PathBuf>,
    accounts: Arc<Accounts>,
    recollection: Recollection,
    /// Held while a list is taken over, so that lists never overtake each other.
    now: Mutex<Now>,
}

struct Now {
    config: Config,
    /// In the order of the file, which decides who has a name that several claim.
    entries: Vec<Connected>,
    /// The collisions that have been told.
    told: HashSet<(String, AppId)>,
}

struct Connected {
    name: Arc<str>,
    kind: String,
    provider: Arc<dyn Provider>,
    /// Asks for the list, again and again.
    watch: Option<JoinHandle<()>>,
    /// Asks for it before its time.
    soon: Arc<Notify>,
    /// When the list that was learned last was asked for.
    learned: Option<Millis>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl Roster {
    /// Nobody, yet.
    pub fn new(
        lifecycle: Arc<Lifecycle>,
        gateway: Gateway,
        clock: Clock,
        config: Config,
        program: Option<PathBuf>,
        events: mpsc::UnboundedSender<ProviderEvent>,
        calls: Arc<Calls>,
    ) -> Self {
        let recollection = Recollection::new(absolute(config.state_dir.clone()));
        let now = Mutex::new(Now { config, entries: Vec::new(), told: HashSet::new() });
        let accounts = match lifecycle.fleet() {
            Some(fleet) => Accounts::sharing(fleet.pool()),
            None => Accounts::default(),
        };
        let accounts = accounts.counting(calls);
        let accounts = Arc::new(accounts);
        Self(Arc::new(Inner { lifecycle, gateway, clock, events, program, accounts, recollection, now }))
    }

    /// Makes the entries equal to those of `config`, and asks each for its apps. Returns the entries that cannot be used at
    /// all. One that only cannot be asked right now is told in the log, its apps stay as they were, and it is asked again.
    pub async fn take(
        &self,
        config: Config,
        options: Vec<(ProviderEntry, Arc<dyn ProviderConfig>)>,
    ) -> Vec<(String, ProviderError)> {
        let mut problems = Vec::new();
        let connected = {
            let mut now = self.0.now.lock().await;
            now.config = config;
            now.told.clear();
            let mut known: HashMap<String, Connected> =
                now.entries.drain(..).map(|entry| (entry.name.to_string(), entry)).collect();
            for (entry, options) in &options {
                match self.connect(&now.config, entry, options.as_ref(), known.remove(&entry.name)).await {
                    Ok(entry) => now.entries.push(entry),
                    Err(error) => problems.push((entry.name.clone(), error)),
                }
            }
            for gone in known.into_values() {
                self.0.lifecycle.remove_provider(&gone.name, &gone.provider);
            }
            self.rebuild_routes(&mut now);
            now.entries.iter().map(|entry| (entry.name.clone(), entry.provider.clone())).collect::<Vec<_>>()
        };
        // All at once: one that hangs keeps nobody else waiting.
        let lists = connected.into_iter().map(|(name, provider)| {
            let roster = self.clone();
            tokio::spawn(async move {
                let result = roster.list(&name, &provider).await;
                if let Err(error) = &result {
                    log::error!("provider {name}: {error}; its apps stay as they were");
                }
                roster.watch(&name, &provider, result.err()).await;
            })
        });
        // What is slow comes later.
        let until = tokio::time::Instant::now() + FIRST_LISTS;
        for list in lists.collect::<Vec<_>>() {
            match tokio::time::timeout_at(until, list).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::error!("a list has ended unexpectedly: {error}"),
                Err(_) => log::warn!(
                    "a provider has not listed its apps within {FIRST_LISTS:?}; going on without them"
                ),
            }
        }
        problems
    }

    /// What `entry` listed is not true any more: it is asked again soon, in place of the next time, by whoever asks for all.
    pub async fn list_soon(&self, entry: &str) {
        match self.0.lifecycle.fleet().filter(|fleet| fleet.sees() && !fleet.leads()) {
            Some(fleet) => fleet.outdated(entry).await,
            None => self.ask_soon(entry).await,
        }
    }

    /// Another gateway has found out that the list is not true any more.
    pub async fn is_outdated(&self, entry: &str) {
        if self.0.lifecycle.fleet().is_some_and(Fleet::leads) {
            self.ask_soon(entry).await;
        }
    }

    async fn ask_soon(&self, entry: &str) {
        let now = self.0.now.lock().await;
        if let Some(entry) = now.entries.iter().find(|known| *known.name == *entry) {
            entry.soon.notify_one();
        }
    }

    /// The providers, for the end.
    pub async fn providers(&self) -> Vec<Arc<dyn Provider>> {
        let mut now = self.0.now.lock().await;
        for entry in &mut now.entries {
            if let Some(watch) = entry.watch.take() {
                watch.abort();
            }
        }
        now.entries.iter().map(|entry| entry.provider.clone()).collect()
    }

    /// Connects a new provider entry, or gives a known one its new options.
    async fn connect(
        &self,
        config: &Config,
        entry: &ProviderEntry,
        options: &dyn ProviderConfig,
        known: Option<Connected>,
    ) -> Result<Connected, ProviderError> {
        if let Some(mut known) = known {
            let changed = match known.kind == entry.kind {
                true => known.provider.reconfigure(options).await,
                false => Err(NeedsRestart(format!("the type of provider {}", entry.name))),
            };
            if let Err(needs_restart) = changed {
                log::warn!("{needs_restart}; until then the old value stays");
            }
            if let Some(watch) = known.watch.take() {
                watch.abort();
            }
            // The same list may mean something else now.
            known.learned = None;
            return Ok(known);
        }
        let name: Arc<str> = entry.name.as_str().into();
        let context = ProviderContext {
            name: name.clone(),
            state_dir: absolute(config.state_dir.clone()),
            program: self.0.program.clone(),
            events: self.0.events.clone(),
            accounts: self.0.accounts.clone(),
        };
        let provider = options.connect(context)?;
        Ok(Connected {
            name,
            kind: entry.kind.clone(),
            provider,
            watch: None,
            soon: Arc::default(),
            learned: None,
        })
    }

    /// One list, from the question to the routes. In a fleet the leader asks, and the others take what it has read.
    async fn list(&self, name: &Arc<str>, provider: &Arc<dyn Provider>) -> Result<(), ProviderError> {
        let shares = provider.list_every().zip(self.0.lifecycle.fleet().filter(|fleet| fleet.sees()));
        if let Some((every, fleet)) = shares.filter(|(_, fleet)| !fleet.leads())
            && let Some(list) = self.read_by_the_leader(name, every, fleet).await
        {
            return self.take_list(name, provider, list).await;
        }
        let asked = self.0.clock.now();
        let listing = match provider.list().await {
            Ok(listing) => listing,
            Err(error) => {
                self.recall(name, provider, asked).await;
                return Err(error);
            }
        };
        self.learn(name, provider, &listing, asked).await?;
        // Whoever hears of it finds renamed apps under their new names.
        if let Some((_, fleet)) = shares {
            let list = SharedList { text: listing.text().to_owned(), age: self.0.clock.now().since(asked) };
            if let Err(error) = fleet.share_list(name, &list).await {
                log::warn!("provider {name}: its list cannot be shared with the other gateways: {error}");
            }
        }
        Ok(())
    }

    /// What the leader has read of this entry lately. At a start, the leader may be about to.
    async fn read_by_the_leader(&self, name: &str, every: Duration, fleet: &dyn Fleet) -> Option<SharedList> {
        let knows_some = self.0.lifecycle.apps().keys().any(|id| *id.provider == *name);
        let patience = tokio::time::Instant::now() + LEADERS_LIST;
        loop {
            match fleet.shared_list(name).await {
                // Somebody has to ask in the place of a leader that cannot.
                Ok(Some(list)) if list.age < every * STALE => return Some(list),
                Ok(_) if !knows_some && tokio::time::Instant::now() < patience && !fleet.leads() => {
                    tokio::time::sleep(LEADERS_LIST / 25).await;
                }
                Ok(_) => return None,
                Err(error) => {
                    log::warn!("provider {name}: what the leader has read cannot be had: {error}");
                    return None;
                }
            }
        }
    }

    /// The leader has read a list.
    pub async fn take_shared(&self, entry: &str) {
        let Some(fleet) = self.0.lifecycle.fleet().filter(|fleet| !fleet.leads()) else { return };
        let known = {
            let now = self.0.now.lock().await;
            let known = now.entries.iter().find(|known| *known.name == *entry);
            known.map(|entry| (entry.name.clone(), entry.provider.clone()))
        };
        let Some((name, provider)) = known else { return };
        let taken = match fleet.shared_list(entry).await {
            Ok(Some(list)) => self.take_list(&name, &provider, list).await.map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            log::warn!("provider {entry}: {error}; its apps stay as they were");
        }
    }

    async fn take_list(
        &self,
        name: &Arc<str>,
        provider: &Arc<dyn Provider>,
        list: SharedList,
    ) -> Result<(), ProviderError> {
        let age = u64::try_from(list.age.as_millis()).unwrap_or(u64::MAX);
        let asked = Millis(self.0.clock.now().0.saturating_sub(age));
        self.learn(name, provider, &Listing::from(list.text), asked).await
    }

    /// Takes over what `provider` listed when it was asked, at `asked`.
    async fn learn(
        &self,
        name: &Arc<str>,
        provider: &Arc<dyn Provider>,
        listing: &Listing,
        asked: Millis,
    ) -> Result<(), ProviderError> {
        let mut now = self.0.now.lock().await;
        let Some(entry) = now.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.provider, provider)) else {
            // A reload has taken the entry out meanwhile.
            return Ok(());
        };
        // One list counts once, however often it is heard of.
        if entry
            .learned
            .is_some_and(|learned| asked.since(learned) < SAME_LIST && provider.list_every().is_some())
        {
            return Ok(());
        }
        let apps = provider.learn(listing)?;
        let lifecycle = &self.0.lifecycle;
        let knew_some = lifecycle.apps().keys().any(|id| id.provider == *name);
        if apps.is_empty() && knew_some && provider.list_every().is_some() {
            let text = "it lists no app at all, though it did before: taken for an error, nothing changes";
            return Err(ProviderError::Failed(text.into()));
        }
        entry.learned = Some(asked);
        if provider.list_every().is_some() {
            self.0.recollection.keep(name, listing);
        }
        let listed = Listed { name: name.clone(), provider: provider.clone(), apps, asked };
        lifecycle.sync(listed, &now.policy()).await;
        self.rebuild_routes(&mut now);
        Ok(())
    }

    /// The provider cannot be asked. If nothing is known of its apps, what it listed last is taken for true.
    async fn recall(&self, name: &Arc<str>, provider: &Arc<dyn Provider>, asked: Millis) {
        let mut now = self.0.now.lock().await;
        let lifecycle = &self.0.lifecycle;
        let knows_some = lifecycle.apps().keys().any(|id| id.provider == *name);
        let there = now.entries.iter().any(|entry| Arc::ptr_eq(&entry.provider, provider));
        if knows_some || !there || provider.list_every().is_none() {
            return;
        }
        let apps = self.0.recollection.recall(name, provider.as_ref());
        if apps.is_empty() {
            return;
        }
        log::warn!(
            "provider {name} cannot be asked: {} apps are taken to be as it last listed them",
            apps.len()
        );
        let listed = Listed { name: name.clone(), provider: provider.clone(), apps, asked };
        lifecycle.sync(listed, &now.policy()).await;
        self.rebuild_routes(&mut now);
    }

    /// Goes on asking, for as long as the entry is there.
    async fn watch(&self, name: &Arc<str>, provider: &Arc<dyn Provider>, failed: Option<ProviderError>) {
        let mut now = self.0.now.lock().await;
        let Some(entry) = now.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.provider, provider)) else {
            return;
        };
        let (roster, name, provider) = (self.clone(), name.clone(), provider.clone());
        if provider.list_every().is_some() {
            let soon = entry.soon.clone();
            let task = tokio::spawn(async move { roster.ask_again(name, provider, failed, soon).await });
            if let Some(before) = entry.watch.replace(task) {
                before.abort();
            }
        }
    }

    async fn ask_again(
        &self,
        name: Arc<str>,
        provider: Arc<dyn Provider>,
        mut failed: Option<ProviderError>,
        soon: Arc<Notify>,
    ) {
        let mut pause = FIRST_PAUSE;
        while let Some(every) = provider.list_every() {
            let wait = match &failed {
                None => every,
                Some(ProviderError::Misconfigured(_)) => REFUSED_PAUSE,
                Some(_) => {
                    let wait = pause.min(every);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait
                }
            };
            // A tenth more or less, so that many gateways and many entries do not ask in step.
            let wait = wait.mul_f64(0.9 + 0.2 * fastrand::f64());
            let early = async {
                tokio::time::sleep(wait.min(SOON)).await;
                soon.notified().await;
            };
            // One that fails is not asked before its time.
            match failed {
                None => tokio::select! { () = tokio::time::sleep(wait) => {}, () = early => {} },
                Some(_) => tokio::time::sleep(wait).await,
            }
            if matches!(failed, Some(ProviderError::Misconfigured(_))) {
                self.0.accounts.forgive();
            }
            let again = self.list(&name, &provider).await;
            match &again {
                Ok(()) if failed.is_some() => log::info!("provider {name}: can be asked again"),
                Ok(()) => {}
                Err(error) => log::warn!("provider {name}: {error}; its apps stay as they were"),
            }
            if again.is_ok() {
                pause = FIRST_PAUSE;
            }
            failed = again.err();
        }
    }

    fn rebuild_routes(&self, now: &mut Now) {
        let apps = self.0.lifecycle.apps();
        let (routes, refused) = RouteTable::new(claims(now, &apps));
        let twins = twins(now, &apps);
        for app in apps.values() {
            app.set_twin(twins.get(&app.id).cloned());
            let known = app.known();
            let Some(Endpoint::Origin(origin)) = &known.endpoint else { continue };
            // Whose name may lead here is looked up by another one.
            let loops = origin.connect.is_none() && routes.find(&origin.host).is_some();
            app.set_loops(loops);
            if loops && now.told.insert((origin.host.clone(), app.id.clone())) {
                log::warn!("{}: {} leads back to this gateway; the app is left alone", app.id, origin.host);
            }
        }
        let ours = apps.values().filter(|app| !app.is_none_of_ours());
        let ours = ours.map(|app| (now.rank(&app.id.provider), &app.id));
        let beyond = allowance::beyond(&now.config.plan, ours);
        for app in apps.values() {
            let why = beyond.get(&app.id);
            if app.set_beyond_plan(why) {
                let why = why.map_or("", String::as_str);
                log::warn!("{}: {why}; it is proxied, and not stopped any more", app.id);
            }
        }
        for (host, replicas) in refused {
            let id = replicas.iter().next().map(|app| app.id.clone());
            if let Some(id) = id.filter(|id| now.told.insert((host.clone(), id.clone()))) {
                log::warn!("{host} is claimed by {id} too, and leads to another app");
            }
        }
        self.0.gateway.set_routes(routes);
    }
}

impl Now {
    fn policy(&self) -> Policy {
        let config = &self.config;
        Policy {
            defaults: config.defaults.clone(),
            domains: config.server.domains.clone(),
            manage: config.manage.clone(),
            rules: config.rules.clone(),
        }
    }

    /// How early an entry stands in the file.
    fn rank(&self, provider: &str) -> usize {
        self.entries.iter().position(|entry| *entry.name == *provider).unwrap_or(usize::MAX)
    }
}

/// Each app that an earlier entry has as well, with its name there: an account may be seen through several entries, and
/// only one of them sees who uses the app.
fn twins(now: &Now, apps: &HashMap<AppId, Arc<ManagedApp>>) -> HashMap<AppId, AppId> {
    let mut first: HashMap<(&str, String), &AppId> = HashMap::new();
    let mut twins = HashMap::new();
    let mut in_order: Vec<_> = apps.values().collect();
    in_order.sort_by_cached_key(|app| (now.rank(&app.id.provider), app.id.clone()));
    for app in in_order {
        let kind =
            now.entries.iter().find(|entry| entry.name == app.id.provider).map(|entry| entry.kind.as_str());
        let Some(key) = kind.zip(app.known().key.clone()) else { continue };
        match first.entry(key) {
            std::collections::hash_map::Entry::Occupied(earlier) => {
                twins.insert(app.id.clone(), AppId::clone(earlier.get()));
            }
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(&app.id)),
        }
    }
    twins
}

/// Who claims which host name, the best claim first: what is written down, then names, then other names; and of equal
/// claims the earlier entry's.
fn claims(now: &Now, apps: &HashMap<AppId, Arc<ManagedApp>>) -> Vec<(String, Arc<Replicas>)> {
    let shared = now.config.apps.iter().filter_map(|shared| {
        let places = shared.replicas.iter().filter_map(|id| apps.get(id).cloned());
        Some((shared, Arc::new(Replicas::new(places)?)))
    });
    let mut claims: Vec<_> = shared
        .flat_map(|(shared, replicas): (&SharedApp, _)| {
            let names = now.config.server.domains.iter().map(|domain| format!("{}.{domain}", shared.name));
            let hosts = names.chain(shared.hosts.iter().cloned()).collect::<Vec<_>>();
            hosts.into_iter().map(move |host| (host, replicas.clone()))
        })
        .collect();
    // Its name at each of its places is no collision.
    let spoken_for: HashSet<(String, AppId)> = claims
        .iter()
        .flat_map(|(host, replicas)| replicas.iter().map(|app| (host.clone(), app.id.clone())))
        .collect();
    let mut single: Vec<_> = apps
        .values()
        .flat_map(|app| {
            let rank = now.rank(&app.id.provider);
            let replicas = Arc::new(Replicas::from(app.clone()));
            let hosts = app.settings().hosts.clone();
            hosts.into_iter().map(move |(host, claim)| (claim, rank, host, replicas.clone(), app.id.clone()))
        })
        .filter(|(claim, _, host, _, id)| {
            *claim == Claim::Written || !spoken_for.contains(&(host.clone(), id.clone()))
        })
        .collect();
    single.sort_by(|a, b| (a.0, a.1, &a.2, &a.4).cmp(&(b.0, b.1, &b.2, &b.4)));
    // One app may claim a host twice, by what is written and by its name.
    single.dedup_by(|a, b| (&a.2, &a.4) == (&b.2, &b.4));
    claims.extend(single.into_iter().map(|(_, _, host, replicas, _)| (host, replicas)));
    claims
}
