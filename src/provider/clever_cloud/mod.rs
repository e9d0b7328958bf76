//! `type: clever_cloud`: apps of a Clever Cloud account.
//!
//! One call tells the state of all apps of all owners, so states are always read from there, and who asks at the same time
//! shares the answer. Sizes and numbers of instances are settings of the app that a stop does not touch, so there is
//! nothing to restore. Every start is a deployment, and the call that starts an app also deploys one that runs: so it is
//! only made for an app that is seen to be down, and never while another may be under way.
//!
//! `P` is `/v2/self` for the personal space, else `/v2/organisations/{id}`.
//!
//! | call | when |
//! |---|---|
//! | `GET /v2/summary` | on the interval, right before a start or a stop, and to see what became of it |
//! | `GET P/applications` | once for each owner, and after hours, or when a new app appears: domains and zone |
//! | `POST P/applications/{id}/instances` | the start |
//! | `DELETE P/applications/{id}/instances` | the stop |
//! | `GET P/applications/{id}/deployments` | right before a stop; while an app is on its way up, to see whether it failed; after a start that may have got lost |
//! | `GET P/applications/{id}/instances` | right before a stop: a build or a task may run |
//!
//! So a list is one call, a stop is five or more (three looks, the stop, and looks until it is confirmed), and a start is two.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | the provider |
//! | `config` | its options |
//! | `inventory` | what apps there are, their names and hosts |
//! | `seen` | what a listing holds |
//! | `start` | what became of our own start |
//! | `wire` | what the API says |

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::StatusCode;
use tokio::time::Instant;

use super::{
    AppInfo, BeforeStop, ProviderError, Turn,
    api::{
        Account, Accounts, Api, ApiError, Call, Credential, Fixed, Priority, Quirks, Reply, code, message,
        oauth1::Oauth1, segment,
    },
    connection::Connection,
    stopping::{LOOK_EVERY, Look, late, until_stopped},
};
use crate::app::{AppStatus, Endpoint, Formation, Processes, WEB};

mod config;
mod inventory;
mod seen;
mod start;
mod wire;

pub use config::{Access, CleverCloudConfig, Oauth, configure, schema};
use inventory::{App, Inventory, dashed};
use seen::Seen;
use start::{Fate, Start, Track, Tracks};

/// Instances have some time to end after SIGTERM, and the platform its own delays.
const STOP_TAKES: Duration = Duration::from_secs(100);

/// A stop that may have got lost is only looked at for so long.
const STOP_LOST: Duration = Duration::from_secs(15);

/// And one that was refused, only to see whether the app is down anyway.
const STOP_REFUSED: Duration = Duration::from_secs(4);

/// Tries of a start that may have got lost.
const TRIES: u32 = 3;

/// When to look whether a start that may have got lost has come through all the same: state and deployments follow a
/// little late, and a second deployment is worse than a wait.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(6)];

/// One credential, and what was seen with it.
struct CleverCloud {
    config: CleverCloudConfig,
    api: Api,
    /// The entry's name, for logs.
    name: Arc<str>,
    inventory: Inventory,
    /// Which app a name means, as of the listing that was learned last.
    apps: ArcSwap<HashMap<String, Place>>,
    /// By id. Kept across reloads, whatever the credential.
    tracks: Arc<Tracks>,
}

/// Where an app is.
#[derive(Clone)]
struct Place {
    id: String,
    owner: String,
    endpoint: Option<Endpoint>,
    instances: u32,
}

impl Place {
    fn path(&self, what: &str) -> String {
        format!("{}/applications/{}/{what}", inventory::path(&self.owner), segment(&self.id))
    }
}

/// How Clever Cloud says what HTTP has other words for. Errors have a number; 403 alone means many things.
struct Words;

impl Quirks for Words {
    fn throttled(&self, reply: &Reply) -> bool {
        reply.status == StatusCode::FORBIDDEN && code(reply).as_deref() == Some("403")
    }

    fn misconfigured(&self, reply: &Reply) -> Option<String> {
        let unknown = reply.status == StatusCode::FORBIDDEN && code(reply).as_deref() == Some("1504");
        unknown.then(|| {
            let said = message(reply);
            format!(
                "the credential is unknown, expired or revoked, or has no right to this (403, 1504): {said}"
            )
        })
    }
}

impl CleverCloud {
    fn place(&self, app: &str) -> Result<Place, ProviderError> {
        self.apps.load().get(app).cloned().ok_or_else(|| ProviderError::NotFound(app.to_owned()))
    }

    /// All apps, as of `since` or later.
    async fn apps(
        &self,
        since: Instant,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Arc<Vec<App>>, ProviderError> {
        let call = Call::get("/v2/summary", priority).waiting(turn);
        let organisation = self.config.organisation.as_deref();
        self.inventory.apps(&self.api, organisation, since, call, priority).await
    }

    /// The state of one app, as of now.
    async fn state(&self, place: &Place, priority: Priority, turn: &Turn) -> Result<String, ProviderError> {
        self.state_since(Instant::now(), place, priority, turn).await
    }

    /// The same, as of `since` or later.
    async fn state_since(
        &self,
        since: Instant,
        place: &Place,
        priority: Priority,
        turn: &Turn,
    ) -> Result<String, ProviderError> {
        let apps = self.apps(since, priority, turn).await?;
        let app = apps.iter().find(|app| app.id == place.id);
        app.map(|app| app.state.clone()).ok_or_else(|| ProviderError::NotFound(place.id.clone()))
    }

    /// The latest deployments, newest first.
    async fn deployments(
        &self,
        place: &Place,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Vec<wire::Deployment>, ProviderError> {
        let call = Call::get(place.path("deployments?limit=5"), priority).waiting(turn);
        let reply = self.api.call(call).await;
        Ok(reply.map_err(|error| ProviderError::about(&place.id, error))?.json()?)
    }

    fn info(&self, name: &str, app: &App, more: Option<&wire::Application>) -> AppInfo {
        let endpoint = more.and_then(inventory::endpoint);
        let lifetime = more.and_then(|more| more.instance.as_ref()?.lifetime.as_deref());
        let left_alone = match blocked(&app.state) {
            _ if self.config.own.as_deref() == Some(&*app.id) => Some("it is this gateway itself".to_owned()),
            Some(reason) => Some(reason),
            None if lifetime == Some("TASK") => Some("it is a task: a start runs it".to_owned()),
            None if more.is_none() => Some("its domains are not known yet".to_owned()),
            None if endpoint.is_none() => Some("it has no domain at which it can be reached".to_owned()),
            None => None,
        };
        let alias = dashed(&app.id);
        AppInfo {
            name: name.to_owned(),
            key: Some(app.id.clone()),
            // The list has a number that grows and no date.
            deployed_at: None,
            status: self.status_of(&app.id, &app.state),
            endpoint,
            left_alone,
            settings: self.config.paas.settings(&[name, &app.name, &app.id, &alias]),
            aliases: if alias == name { Vec::new() } else { vec![alias] },
        }
    }

    /// We have seen an app in this state, and asked for it at `asked`.
    fn note(&self, id: &str, state: &str, asked: Instant) {
        if state == "SHOULD_BE_UP" {
            self.tracks.of(id).seen_up(asked);
        }
    }

    /// What a state means.
    fn status_of(&self, id: &str, state: &str) -> AppStatus {
        match state {
            // Also while a new version is deployed: the old one serves until it is ready.
            "SHOULD_BE_UP" => AppStatus::Running,
            "WANTS_TO_BE_UP" => AppStatus::Starting,
            "SHOULD_BE_DOWN" if self.tracks.of(id).lags() => AppStatus::Starting,
            "SHOULD_BE_DOWN" | "MODERATED" | "DEFAULT_OF_PAYMENT" => AppStatus::Stopped,
            other => AppStatus::Unknown(other.to_owned()),
        }
    }

    /// Whether the app has to be started. If in doubt it has not: the same call would deploy it once more.
    async fn is_needed(&self, place: &Place, track: &Track, turn: &Turn) -> Result<bool, ProviderError> {
        let state = self.state(place, Priority::Wake, turn).await?;
        match state.as_str() {
            "SHOULD_BE_UP" => return Ok(false),
            "SHOULD_BE_DOWN" if !track.lags() => return Ok(true),
            "SHOULD_BE_DOWN" | "WANTS_TO_BE_UP" => {}
            state => {
                let reason = blocked(state).unwrap_or_else(|| format!("its state is {state}"));
                return Err(ProviderError::Refused(reason));
            }
        }
        let rows = self.deployments(place, Priority::Wake, turn).await?;
        if let Some(fate) = track.read(&rows) {
            // Done, and down again: somebody has stopped it since.
            let over = fate == Fate::Done && state == "SHOULD_BE_DOWN";
            return Ok(over || matches!(fate, Fate::Failed | Fate::Cancelled));
        }
        // Somebody else has started it. It stays like this after a failure too; but the row of a new deployment comes a
        // little later than the state, so the failure must still be the latest news after a while.
        let gave_up = |rows: &[wire::Deployment]| {
            let latest = start::latest(rows);
            let ended =
                |row: &wire::Deployment| matches!(start::outcome(row), Fate::Failed | Fate::Cancelled);
            latest.filter(|row| ended(row)).map(|row| row.uuid.clone())
        };
        let Some(before) = gave_up(&rows) else { return Ok(false) };
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(gave_up(&self.deployments(place, Priority::Wake, turn).await?) == Some(before))
    }

    /// Only while `track.one` is held, and for an app that is down.
    async fn ask_for_start(&self, place: &Place, track: &Track, turn: &Turn) -> Result<(), ProviderError> {
        for _ in 0..TRIES {
            // Before the call: whoever gives it up half-way does not know that it was not made.
            track.remember(Some(Start::of(None)));
            let call = Call::post(place.path("instances"), Priority::Wake).waiting(turn);
            let started = self.api.call(call).await;
            let reason = match started {
                Ok(reply) => {
                    let started = reply.json::<wire::Started>().ok();
                    let deployment = started.and_then(|started| started.deployment_id);
                    if let Some(deployment) = &deployment {
                        turn.operates(deployment.as_str());
                    }
                    track.remember(Some(Start::of(deployment)));
                    return Ok(());
                }
                Err(error @ ApiError::Ambiguous(_)) => error.to_string(),
                Err(error) if error.status() == Some(StatusCode::CONFLICT) => error.to_string(),
                Err(error) => {
                    track.remember(None);
                    return Err(match error.refusal().and_then(|refusal| refusal.code.as_deref()) {
                        Some("4014") => ProviderError::Refused("it was never deployed".into()),
                        _ => ProviderError::about(&place.id, error),
                    });
                }
            };
            log::warn!("{}/{}: {reason}; its state is read again", self.name, place.id);
            if self.has_begun(place, track, turn).await? {
                return Ok(());
            }
        }
        track.remember(None);
        Err(ProviderError::Failed("it was told to start several times and does not".into()))
    }

    /// Whether a start that may have got lost has come through.
    async fn has_begun(&self, place: &Place, track: &Track, turn: &Turn) -> Result<bool, ProviderError> {
        for pause in LOOKS {
            tokio::time::sleep(pause).await;
            if self.state(place, Priority::Wake, turn).await? != "SHOULD_BE_DOWN" {
                return Ok(true);
            }
            let rows = self.deployments(place, Priority::Wake, turn).await?;
            track.read(&rows);
            if start::under_way(&rows).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Why an app in this state is neither started nor stopped, if so.
fn blocked(state: &str) -> Option<String> {
    match state {
        "SHOULD_BE_UP" | "WANTS_TO_BE_UP" | "SHOULD_BE_DOWN" => None,
        "MODERATED" => Some("it is blocked by the platform (MODERATED)".to_owned()),
        "DEFAULT_OF_PAYMENT" => Some("it is blocked until it is paid for (DEFAULT_OF_PAYMENT)".to_owned()),
        other => Some(format!("its state is `{other}`, and nobody here knows it")),
    }
}

#[async_trait]
impl Connection for CleverCloud {
    type Config = CleverCloudConfig;

    type Seen = Seen;

    fn open(
        config: CleverCloudConfig,
        name: Arc<str>,
        accounts: &Accounts,
        before: Option<&Self>,
    ) -> Result<Self, ProviderError> {
        let (credential, key): (Arc<dyn Credential>, String) = match &config.access {
            Access::Token(token) => (Arc::new(Fixed::bearer(token.expose())?), token.expose().to_owned()),
            Access::Oauth(oauth) => {
                let credential = Oauth1 {
                    consumer_key: oauth.consumer_key.expose().to_owned(),
                    consumer_secret: oauth.consumer_secret.expose().to_owned(),
                    token: oauth.token.expose().to_owned(),
                    secret: oauth.secret.expose().to_owned(),
                    signature: oauth.signature,
                };
                let key = format!("{}\0{}", credential.token, credential.secret);
                (Arc::new(credential), key)
            }
        };
        let account = accounts.open("clever_cloud", &key, config.paas.limits);
        let timeout = config.paas.operation_timeout;
        Ok(Self {
            api: Api::new(config.api_url(), account, credential, Arc::new(Words), timeout)?,
            config,
            name,
            inventory: Inventory::default(),
            apps: ArcSwap::default(),
            tracks: before.map(|before| before.tracks.clone()).unwrap_or_default(),
        })
    }

    /// Domains are read anew: a reload is how an operator asks for it.
    fn with(&self, config: CleverCloudConfig) -> Self {
        Self {
            config,
            api: self.api.clone(),
            name: self.name.clone(),
            inventory: Inventory::default(),
            apps: ArcSwap::new(self.apps.load_full()),
            tracks: self.tracks.clone(),
        }
    }

    fn config(&self) -> &CleverCloudConfig {
        &self.config
    }

    fn account(&self) -> &Account {
        self.api.account()
    }

    async fn list(self: Arc<Self>) -> Result<Seen, ProviderError> {
        let asked = Instant::now();
        let apps = self.apps(asked, Priority::List, &Turn::default()).await?;
        let mut details = self.inventory.details(&self.api, &apps).await?;
        for app in apps.iter() {
            self.note(&app.id, &app.state, asked);
        }
        let seen = |app: &App| seen::App { more: details.remove(&app.id), app: app.clone() };
        Ok(Seen { apps: apps.iter().map(seen).collect() })
    }

    /// Our own starts are not over because of it: nobody knows how old it is.
    fn learn(&self, seen: Seen) -> Result<Vec<AppInfo>, ProviderError> {
        let (apps, details): (Vec<App>, Vec<_>) =
            seen.apps.into_iter().map(|one| (one.app, one.more)).unzip();
        let mut places = HashMap::new();
        let mut infos = Vec::new();
        for ((app, more), name) in apps.iter().zip(&details).zip(inventory::names(&apps)) {
            let more = more.as_ref();
            let info = self.info(&name, app, more);
            let instance = more.and_then(|more| more.instance.as_ref());
            let place = Place {
                id: app.id.clone(),
                owner: app.owner.clone(),
                endpoint: info.endpoint.clone(),
                instances: instance.and_then(|instance| instance.min_instances).unwrap_or(1).max(1),
            };
            infos.push(info);
            places.insert(name, place);
        }
        let ids: HashSet<&str> = apps.iter().map(|app| app.id.as_str()).collect();
        self.tracks.keep(|id| ids.contains(id));
        self.apps.store(Arc::new(places));
        Ok(infos)
    }

    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError> {
        let place = self.place(app)?;
        let track = self.tracks.of(&place.id);
        // A start takes long and is asked about every few seconds: then an answer from a moment ago will do, as long as it
        // is from after the start, and all apps that start share it.
        let now = Instant::now();
        let recent = now.checked_sub(start::ASK_EVERY).unwrap_or(now);
        let since = track.start().map_or(now, |start| start.at.max(recent));
        let state = self.state_since(since, &place, Priority::Readiness, &Turn::default()).await?;
        self.note(&place.id, &state, since);
        let status = self.status_of(&place.id, &state);
        let Some(start) = track.start().filter(|_| state == "WANTS_TO_BE_UP") else {
            return Ok(status);
        };
        let fate = match start.fresh() {
            Some(fate) => fate,
            None => {
                let rows = self.deployments(&place, Priority::Readiness, &Turn::default()).await?;
                track.read(&rows).unwrap_or(Fate::UnderWay)
            }
        };
        Ok(match fate {
            Fate::UnderWay | Fate::Done => status,
            Fate::Failed => AppStatus::Crashed("its deployment failed".into()),
            Fate::Cancelled => AppStatus::Stopped,
        })
    }

    async fn start(
        &self,
        app: &str,
        _saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError> {
        let place = self.place(app)?;
        let endpoint = place.endpoint.clone();
        let endpoint = endpoint
            .ok_or_else(|| ProviderError::Refused("it has no domain at which it can be reached".into()))?;
        let track = self.tracks.of(&place.id);
        let _one = track.one.lock().await;
        if self.is_needed(&place, &track, turn).await? {
            self.ask_for_start(&place, &track, turn).await?;
        }
        Ok(endpoint)
    }

    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError> {
        let place = self.place(app)?;
        let busy = |reason: &str| Ok(BeforeStop::Busy(reason.to_owned()));
        match self.state(&place, Priority::Stop, turn).await?.as_str() {
            "SHOULD_BE_UP" => {}
            "SHOULD_BE_DOWN" if !self.tracks.of(&place.id).lags() => return Ok(BeforeStop::Stopped),
            "SHOULD_BE_DOWN" | "WANTS_TO_BE_UP" => return busy("it is starting"),
            state => return busy(&blocked(state).unwrap_or_else(|| format!("its state is {state}"))),
        }
        let rows = self.deployments(&place, Priority::Stop, turn).await?;
        if rows.iter().any(start::is_under_way) {
            return busy("a deployment is under way");
        }
        turn.was_deployed(start::latest(&rows).and_then(|row| row.date));
        match start::latest(&rows).map(start::outcome) {
            Some(Fate::Failed) => return busy("its last deployment failed, so it might not come back"),
            Some(Fate::Cancelled) => {
                return busy("its last deployment was cancelled, so it might not come back");
            }
            Some(Fate::UnderWay | Fate::Done) | None => {}
        }
        let call = Call::get(place.path("instances"), Priority::Stop).waiting(turn);
        let reply = self.api.call(call).await.map_err(|error| ProviderError::about(&place.id, error))?;
        let instances: Vec<wire::Instance> = reply.json()?;
        let any = |state: &str| instances.iter().any(|one| one.state.as_deref() == Some(state));
        if any("TASK_IN_PROGRESS") {
            return busy("a task runs");
        }
        if any("BUILDING") {
            return busy("a build runs");
        }
        if !any("UP") && !any("MIGRATION_IN_PROGRESS") {
            return busy("none of its instances serves");
        }
        // The platform itself keeps what must come back; only a record of it is made here.
        let web = Processes { amount: place.instances, ..Processes::default() };
        Ok(BeforeStop::Runs(Formation(BTreeMap::from([(WEB.to_owned(), web)]))))
    }

    async fn stop(&self, app: &str, _formation: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        let place = self.place(app)?;
        let track = self.tracks.of(&place.id);
        let _one = track.one.lock().await;
        let call = Call::delete(place.path("instances"), Priority::Stop).waiting(turn);
        let (limit, refused) = match self.api.call(call).await {
            Ok(_) => (STOP_TAKES, None),
            // Whatever it says of an app that is down already is not known: its state tells.
            Err(error @ ApiError::Ambiguous(_)) => (STOP_LOST, Some(error.into())),
            Err(error @ ApiError::Status(_)) => (STOP_REFUSED, Some(ProviderError::about(&place.id, error))),
            Err(error) => return Err(error.into()),
        };
        // From now on nothing that was started by us goes on.
        track.remember(None);
        let look = || async {
            Ok(match self.state(&place, Priority::Stop, &Turn::default()).await?.as_str() {
                "SHOULD_BE_DOWN" => Look::Stopped,
                "SHOULD_BE_UP" => Look::NotYet,
                other => Look::Odd(other.to_owned()),
            })
        };
        match until_stopped(&format!("{}/{app}", self.name), limit, look).await? {
            true => Ok(()),
            false => Err(refused.unwrap_or_else(|| late(limit))),
        }
    }
}
