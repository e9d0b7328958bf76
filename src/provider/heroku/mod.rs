//! `type: heroku`: apps of a Heroku account.
//!
//! A list of apps says nothing of their state, and each formation costs a call, so what was seen of it is believed for a
//! while (`memory`). The quantity of the `web` type decides whether an app is meant to run; a stop sets every type to 0,
//! a start sets them back. Quantities are absolute, so that a call that got lost is simply sent again.
//!
//! | call | when |
//! |---|---|
//! | `GET /apps` or `/teams/{team}/apps` | on the interval, one for each 1000 apps |
//! | `GET .../formation` | then, for apps of which that is not known, or not for an hour, or not since a release |
//! | `GET .../formation`, `GET .../dynos` | the state of one app; only the first if it wants no web dyno |
//! | `GET .../formation`, `PATCH .../formation` | the start: 2 calls |
//! | `GET .../dynos`, `DELETE .../dynos` | in place of the `PATCH` where somebody has started it already; the second if its web dynos have all crashed |
//! | `GET .../formation`, `GET /apps/{app}`, `GET .../dynos`, `GET .../releases` | right before a stop; only the first if it does not run |
//! | `PATCH .../formation` | the stop; then `GET .../formation` if the answer does not tell all |
//! | `GET /apps/{app}` | the state of an app that was in maintenance when it was listed |
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | the provider |
//! | `config` | its options |
//! | `calls` | the calls, and what their answers mean |
//! | `memory` | what was last seen of the apps |
//! | `seen` | what a listing holds |
//! | `wire` | what the API says |

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header::ACCEPT};
use tokio::{task::JoinSet, time::Instant};

use super::{
    AppInfo, BeforeStop, ProviderError, Turn,
    api::{Account, Accounts, Api, Fixed, Priority, Quirks},
    connection::Connection,
    instant,
    restore::{at_most_one, restore},
};
use crate::app::{AppStatus, Endpoint, Formation, Origin, RouterPage, WEB};

mod calls;
mod config;
mod memory;
mod seen;
mod wire;

use calls::{Calls, Dynos, RELEASING, Scaled, is_gone, missing};
pub use config::{HerokuConfig, configure, schema};
use memory::{Memory, Sight};
use seen::Seen;

/// The router answers with an HTML page for an app that does not run, that crashed, that is in maintenance or that takes
/// too long, and its reason is only in the app's logs (devcenter.heroku.com, "Heroku error codes"): an app's own page may
/// look the same.
static ROUTER: RouterPage =
    RouterPage { status: &[502, 503, 504], fields: &[("content-type", "text/html")], certain: false };

/// Without it, the API answers 406.
const VERSION: HeaderValue = HeaderValue::from_static("application/vnd.heroku+json; version=3");

/// Calls that read formations for a list at the same time. So many failures end the reading, too.
const AT_ONCE: usize = 8;

/// Rounds of a start: what it was based on has changed, does not fit, or the app is busy.
const TRIES: u32 = 5;

/// Between two rounds, if the app is busy.
const LATER: Duration = Duration::from_secs(3);

/// The rest of the pool is for wakes, and for what else uses the account.
const POOL_RESERVE: u32 = 500;

struct Words;

impl Quirks for Words {
    fn remaining(&self, headers: &HeaderMap) -> Option<u32> {
        headers.get("ratelimit-remaining")?.to_str().ok()?.trim().parse().ok()
    }

    fn pool_reserve(&self) -> u32 {
        POOL_RESERVE
    }
}

/// One credential, and what was seen with it.
struct Heroku {
    config: HerokuConfig,
    calls: Calls,
    /// The entry's name, for logs.
    name: Arc<str>,
    /// By name, as of the listing that was learned last.
    apps: Arc<ArcSwap<HashMap<String, wire::App>>>,
    memory: Arc<Memory>,
}

impl Heroku {
    fn app(&self, name: &str) -> Result<wire::App, ProviderError> {
        self.apps.load().get(name).cloned().ok_or_else(|| ProviderError::NotFound(name.to_owned()))
    }

    /// Why an app is neither woken nor stopped whatever its formation is, and what it is taken for meanwhile.
    fn left_alone(&self, app: &wire::App) -> Option<(&'static str, AppStatus)> {
        let [id, name] = &self.config.own;
        let own = id.as_ref() == Some(&app.id) || name.as_ref() == Some(&app.name);
        if own {
            Some(("it is this gateway itself", AppStatus::Running))
        } else if app.archived_at.is_some() {
            Some(("it is archived", AppStatus::Stopped))
        } else if app.internal_routing == Some(true) {
            Some(("it is only reachable inside its space", AppStatus::Stopped))
        } else if origin(app).is_none() {
            Some(("it has no public address", AppStatus::Stopped))
        } else if app.in_maintenance() {
            // The router's page for that is for visitors to see.
            Some(("it is in maintenance", AppStatus::Running))
        } else {
            None
        }
    }

    fn info(&self, app: &wire::App, sight: Option<&Sight>) -> AppInfo {
        let (left_alone, status) = match self.left_alone(app) {
            Some((reason, status)) => (Some(reason.to_owned()), status),
            None => match sight {
                Some(sight) => judge(sight),
                None => (None, AppStatus::Unknown("its formation is not known".into())),
            },
        };
        let reachable = app.archived_at.is_none() && app.internal_routing != Some(true);
        AppInfo {
            name: app.name.clone(),
            key: Some(app.id.clone()),
            deployed_at: app.released_at.as_deref().and_then(instant),
            aliases: Vec::new(),
            status,
            endpoint: origin(app).filter(|_| reachable).map(|origin| Endpoint::Origin(Arc::new(origin))),
            left_alone,
            settings: self.config.paas.settings(&[&app.name]),
        }
    }

    /// Looks at the apps of which it is not known any more what they want, and returns the ids of those that are gone. What
    /// cannot be read now and was known before stands.
    async fn look_at_all(self: &Arc<Self>, apps: &[wire::App]) -> Result<HashSet<String>, ProviderError> {
        let mut due = apps.iter().filter(|app| self.left_alone(app).is_none() && self.memory.is_due(app));
        let (mut gone, mut failures, mut looks) = (HashSet::new(), Vec::new(), JoinSet::new());
        loop {
            while looks.len() < AT_ONCE
                && failures.len() < AT_ONCE
                && let Some(app) = due.next()
            {
                let (connection, app) = (self.clone(), app.clone());
                looks.spawn(async move { (connection.look(&app).await, app.id) });
            }
            match looks.join_next().await {
                None => break,
                Some(Ok((Ok(()), _))) => {}
                Some(Ok((Err(ProviderError::NotFound(_)), id))) => {
                    gone.insert(id);
                }
                Some(Ok((Err(error @ ProviderError::Misconfigured(_)), _))) => return Err(error),
                Some(Ok((Err(error), _))) => failures.push(error),
                Some(Err(error)) => failures.push(ProviderError::Failed(format!("internal error: {error}"))),
            }
        }
        let Some(error) = failures.pop() else { return Ok(gone) };
        let unknown = |app: &&wire::App| {
            self.left_alone(app).is_none() && self.memory.of(&app.id).is_none() && !gone.contains(&app.id)
        };
        // One app that cannot be read must not take the others with it: it is proxied, and looked at again.
        if failures.len() + 1 >= AT_ONCE && apps.iter().any(|app| unknown(&app)) {
            return Err(error);
        }
        log::warn!("{}: of some apps the last known formation has to do: {error}", self.name);
        Ok(gone)
    }

    /// For the list. An app that is known to have crashed is asked for its dynos, too.
    async fn look(&self, app: &wire::App) -> Result<(), ProviderError> {
        let (asked, turn) = (Instant::now(), Turn::default());
        let formation = match self.calls.formation(app, Priority::List, &turn).await {
            Ok(formation) => Ok(formation),
            Err(error) if is_gone(&error) => return Err(missing(app, error)),
            // One app that is nobody's business must not take the others with it.
            Err(error) if error.status().is_some_and(|status| status.is_client_error()) => {
                Err(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        let mut crashed = self.memory.of(&app.id).is_some_and(|sight| sight.crashed);
        if crashed && formation.as_ref().is_ok_and(Formation::runs_web) {
            let dynos = self.calls.dynos(app, Priority::List, &turn).await?;
            crashed = matches!(dynos.status(), AppStatus::Crashed(_));
        }
        self.memory.list(app, asked, formation, crashed);
        Ok(())
    }

    /// How many of each type are wanted, to be remembered.
    async fn formation(
        &self,
        app: &wire::App,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Formation, ProviderError> {
        let asked = Instant::now();
        let formation =
            self.calls.formation(app, priority, turn).await.map_err(|error| missing(app, error))?;
        self.memory.see(&app.id, asked, &formation, false);
        Ok(formation)
    }

    async fn scale_back(
        &self,
        app: &wire::App,
        saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<(), ProviderError> {
        let (mut fits, mut types_gone) = (true, 0);
        for _ in 0..TRIES {
            let mut formation = self.formation(app, Priority::Wake, turn).await?;
            let mut wanted = match (formation.0.get(WEB), formation.0.is_empty()) {
                (Some(web), _) if web.amount > 0 => return self.revive(app, turn).await,
                (Some(_), _) => restore(&formation, saved),
                (None, false) => return Err(ProviderError::Refused("it has no web process".into())),
                (None, true) => {
                    return Err(ProviderError::Refused(
                        "it was never deployed: it has no process types".into(),
                    ));
                }
            };
            if !fits {
                wanted = at_most_one(&wanted);
            }
            match self.calls.scale(app, &quantities(&wanted), Priority::Wake, turn).await? {
                Scaled::To(_) => {
                    amounts(&mut formation, &quantities(&wanted));
                    self.memory.see(&app.id, Instant::now(), &formation, false);
                    return Ok(());
                }
                Scaled::DoesNotFit(reason) if fits && at_most_one(&wanted) != wanted => {
                    log::warn!(
                        "{}/{}: what ran before does not fit any more ({reason}): one dyno of each type is started",
                        self.name,
                        app.name
                    );
                    fits = false;
                }
                Scaled::TypeGone(_) if types_gone == 0 => types_gone += 1,
                Scaled::DoesNotFit(reason) | Scaled::TypeGone(reason) => {
                    return Err(ProviderError::Refused(reason));
                }
                Scaled::Busy(reason) => {
                    log::warn!("{}/{}: it is busy ({reason})", self.name, app.name);
                    tokio::time::sleep(LATER).await;
                }
            }
        }
        Err(ProviderError::Failed("it stayed busy with something else for too long".into()))
    }

    /// Web dynos are wanted already: then they run, or the platform tries again less and less often.
    async fn revive(&self, app: &wire::App, turn: &Turn) -> Result<(), ProviderError> {
        match self.calls.dynos(app, Priority::Wake, turn).await?.status() {
            AppStatus::Crashed(_) => self.calls.restart(app, turn).await,
            _ => Ok(()),
        }
    }

    async fn scale_down(
        &self,
        app: &wire::App,
        formation: &Formation,
        turn: &Turn,
    ) -> Result<(), ProviderError> {
        let running = formation.0.iter().filter(|(_, processes)| processes.amount > 0);
        let mut nothing: BTreeMap<String, u32> = running.map(|(name, _)| (name.clone(), 0)).collect();
        if nothing.is_empty() {
            return Ok(());
        }
        let mut scaled = self.calls.scale(app, &nothing, Priority::Stop, turn).await?;
        if let Scaled::TypeGone(_) = scaled {
            let current = self.formation(app, Priority::Stop, turn).await?;
            nothing.retain(|name, _| current.0.get(name).is_some_and(|processes| processes.amount > 0));
            if nothing.is_empty() {
                return Ok(());
            }
            scaled = self.calls.scale(app, &nothing, Priority::Stop, turn).await?;
        }
        let said = match scaled {
            Scaled::To(said) => said,
            Scaled::Busy(reason) => return Err(ProviderError::Failed(reason)),
            Scaled::TypeGone(reason) | Scaled::DoesNotFit(reason) => {
                return Err(ProviderError::Refused(reason));
            }
        };
        if nothing.keys().all(|name| said.get(name) == Some(&0)) {
            if let Some(Sight { formation: Ok(mut formation), .. }) = self.memory.of(&app.id) {
                amounts(&mut formation, &nothing);
                self.memory.see(&app.id, Instant::now(), &formation, false);
            }
            return Ok(());
        }
        let current = self.formation(app, Priority::Stop, turn).await?;
        match nothing.keys().find(|name| current.0.get(*name).is_some_and(|processes| processes.amount > 0)) {
            None => Ok(()),
            Some(name) => Err(ProviderError::Failed(format!("it was told to stop and still wants `{name}`"))),
        }
    }
}

#[async_trait]
impl Connection for Heroku {
    type Config = HerokuConfig;

    type Seen = Seen;

    fn open(
        config: HerokuConfig,
        name: Arc<str>,
        accounts: &Accounts,
        before: Option<&Self>,
    ) -> Result<Self, ProviderError> {
        let token = config.api_token.expose();
        let account = accounts.open("heroku", token, config.paas.limits);
        let credential = Arc::new(Fixed::bearer(token)?);
        let timeout = config.paas.operation_timeout;
        let api = Api::new(config.api_url(), account, credential, Arc::new(Words), timeout)?;
        Ok(Self {
            config,
            calls: Calls(api.header(ACCEPT, VERSION)),
            name,
            // Whoever asks for them, ids are the same: until the next list, apps are found as before.
            apps: before.map(|before| before.apps.clone()).unwrap_or_default(),
            memory: before.map(|before| before.memory.clone()).unwrap_or_default(),
        })
    }

    fn with(&self, config: HerokuConfig) -> Self {
        Self {
            config,
            calls: self.calls.clone(),
            name: self.name.clone(),
            apps: self.apps.clone(),
            memory: self.memory.clone(),
        }
    }

    fn config(&self) -> &HerokuConfig {
        &self.config
    }

    fn account(&self) -> &Account {
        self.calls.0.account()
    }

    async fn list(self: Arc<Self>) -> Result<Seen, ProviderError> {
        let mut apps = self.calls.apps(self.config.team.as_deref()).await?;
        let spaces = &self.config.spaces;
        apps.retain(|app| {
            spaces.is_empty() || app.space().is_some_and(|space| spaces.iter().any(|one| one == space))
        });
        let gone = self.look_at_all(&apps).await?;
        apps.retain(|app| !gone.contains(&app.id));
        let seen = |app: wire::App| seen::App { sight: self.memory.of(&app.id), app };
        Ok(Seen { apps: apps.into_iter().map(seen).collect() })
    }

    fn learn(&self, seen: Seen) -> Result<Vec<AppInfo>, ProviderError> {
        for seen::App { app, sight } in &seen.apps {
            if let Some(sight) = sight {
                self.memory.learn(&app.id, sight);
            }
        }
        self.memory.keep(&seen.apps.iter().map(|one| one.app.id.as_str()).collect());
        let by_name = seen.apps.iter().map(|one| (one.app.name.clone(), one.app.clone()));
        self.apps.store(Arc::new(by_name.collect()));
        Ok(seen.apps.iter().map(|one| self.info(&one.app, one.sight.as_ref())).collect())
    }

    fn changed_elsewhere(&self, app: &str) {
        if let Some(app) = self.apps.load().get(app) {
            self.memory.doubt(&app.id);
        }
    }

    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError> {
        let app = self.app(app)?;
        let (priority, turn) = (Priority::Readiness, Turn::default());
        if app.in_maintenance() && self.calls.app(&app, priority).await?.in_maintenance() {
            return Ok(AppStatus::Running);
        }
        let asked = Instant::now();
        let formation =
            self.calls.formation(&app, priority, &turn).await.map_err(|error| missing(&app, error))?;
        let status = match formation.runs_web() {
            false => AppStatus::Stopped,
            true => self.calls.dynos(&app, priority, &turn).await?.status(),
        };
        self.memory.see(&app.id, asked, &formation, matches!(status, AppStatus::Crashed(_)));
        Ok(status)
    }

    async fn start(
        &self,
        app: &str,
        saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError> {
        let app = self.app(app)?;
        let origin = origin(&app).ok_or_else(|| ProviderError::Refused("it has no public address".into()))?;
        self.scale_back(&app, saved, turn).await.inspect_err(|_| self.memory.doubt(&app.id))?;
        Ok(Endpoint::Origin(Arc::new(origin)))
    }

    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError> {
        let app = self.app(app)?;
        let formation = self.formation(&app, Priority::Stop, turn).await?;
        // Without web dynos it is stopped, and whoever left its workers running meant it.
        if !formation.runs_web() {
            return Ok(BeforeStop::Stopped);
        }
        let now = self.calls.app(&app, Priority::Stop).await?;
        turn.was_deployed(now.released_at.as_deref().and_then(instant));
        if now.in_maintenance() {
            return Ok(BeforeStop::Busy("it is in maintenance".into()));
        }
        let dynos: Dynos = self.calls.dynos(&app, Priority::Stop, turn).await?;
        if let Some(reason) = dynos.busy() {
            return Ok(BeforeStop::Busy(reason.into()));
        }
        if self.calls.is_releasing(&app).await? {
            return Ok(BeforeStop::Busy(RELEASING.into()));
        }
        Ok(BeforeStop::Runs(formation))
    }

    async fn stop(&self, app: &str, formation: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        let app = self.app(app)?;
        self.scale_down(&app, formation, turn).await.inspect_err(|_| self.memory.doubt(&app.id))
    }
}

/// What a list says of an app of which this was seen: why it is left alone, if it is, and its state.
fn judge(sight: &Sight) -> (Option<String>, AppStatus) {
    let formation = match &sight.formation {
        Ok(formation) => formation,
        Err(reason) => {
            let status = AppStatus::Unknown("its formation cannot be read".into());
            return (Some(format!("its formation cannot be read: {reason}")), status);
        }
    };
    match formation.0.get(WEB).map(|web| web.amount) {
        None if formation.0.is_empty() => (Some("it was never deployed".into()), AppStatus::Stopped),
        None => (Some("it has no web process".into()), AppStatus::Stopped),
        Some(0) => (None, AppStatus::Stopped),
        Some(_) if sight.crashed => (None, AppStatus::Crashed("all its web dynos had crashed".into())),
        Some(_) => (None, AppStatus::Running),
    }
}

fn quantities(formation: &Formation) -> BTreeMap<String, u32> {
    formation.0.iter().map(|(name, processes)| (name.clone(), processes.amount)).collect()
}

/// Puts these quantities into a formation.
fn amounts(formation: &mut Formation, quantities: &BTreeMap<String, u32>) {
    for (name, quantity) in quantities {
        formation.0.entry(name.clone()).or_default().amount = *quantity;
    }
}

/// Where its own host name says: since 2023 that has a part that nobody can guess.
fn origin(app: &wire::App) -> Option<Origin> {
    Origin::parse(app.web_url.as_deref()?, &ROUTER)
}
