//! `type: scalingo`: apps of a Scalingo account.
//!
//! A region is one API with one list of apps, which tells every app's state in one call; so states are always read from
//! the list, and who asks at the same time shares the answer. A stop scales every type to 0, a start scales back.
//!
//! | call | when |
//! |---|---|
//! | `POST /v1/tokens/exchange` | once an hour |
//! | `GET /v1/apps` | on the interval, and to see what became of a start or a stop |
//! | `GET .../deployments`, `GET .../ps`, `GET .../autoscalers`, `GET .../containers` | right before a stop |
//! | `GET .../containers` | right before a start: somebody may have started it |
//! | `POST .../scale` | the stop and the start |
//! | `PATCH .../autoscalers/{id}` | after a start, for those that were on: scaling by hand turns them off |
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | the provider |
//! | `config` | its options |
//! | `seen` | what a listing holds |
//! | `region` | one region's API |
//! | `token` | the hourly token |
//! | `wire` | what the API says |

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde_json::json;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{
    AppInfo, BeforeStop, ProviderError, Turn,
    api::{Account, Accounts, Api, ApiError, Call, Credential, Fixed, Plain, Priority, Renewed, segment},
    connection::Connection,
    instant,
    restore::{at_most_one, restore},
    stopping::{LOOK_EVERY, Look, late, until_stopped},
};
use crate::app::{AppStatus, Endpoint, Formation, Origin, Processes, RouterPage};

mod config;
mod region;
mod seen;
mod token;
mod wire;

pub use config::{Regions, ScalingoConfig, configure, schema};
use region::{Outcome, Region};
use seen::Seen;

/// The router answers for an app that does not run with a page of its own, and names its reason in this field
/// (doc.scalingo.com, "Routing").
static ROUTER: RouterPage =
    RouterPage { status: &[502, 503, 504], fields: &[("x-scalingo-error", "")], certain: true };

/// A container has 30 s to end after SIGTERM (doc.scalingo.com, "Container management"), and the platform its own delays.
const STOP_TAKES: Duration = Duration::from_secs(100);

/// Tries to turn an autoscaler on, each a little later than the one before: over some minutes.
const AUTOSCALER_TRIES: u32 = 12;

/// Tries of a scale that the app was too busy for, or that may have got lost.
const TRIES: u32 = 40;

/// One credential, and what was seen with it.
struct Scalingo {
    config: ScalingoConfig,
    api: Api,
    /// The entry's name, for logs.
    name: Arc<str>,
    regions: OnceCell<Vec<Arc<Region>>>,
    met: Arc<Mutex<Met>>,
    /// Which app a name means, as of the listing that was learned last.
    apps: ArcSwap<HashMap<String, Place>>,
    /// The platform wants one operation to end before the next begins; two at a time have been found to work.
    stops: Semaphore,
}

/// By name and address: each region that was listed or learned, so that all share what it says.
type Met = HashMap<(String, String), Arc<Region>>;

/// Where an app is: its region, its name there, and where it is reached.
#[derive(Clone)]
struct Place {
    region: Arc<Region>,
    name: String,
    endpoint: Endpoint,
}

impl Scalingo {
    async fn regions(&self) -> Result<&[Arc<Region>], ProviderError> {
        let regions = self.regions.get_or_try_init(|| self.find_regions()).await?;
        Ok(regions)
    }

    async fn find_regions(&self) -> Result<Vec<Arc<Region>>, ProviderError> {
        match &self.config.regions {
            Regions::Named(names) => names.iter().map(|name| self.meet(name, &self.usual(name))).collect(),
            Regions::All => {
                let listed: wire::Regions =
                    self.api.call(Call::get("/v1/regions", Priority::List)).await?.json()?;
                listed.regions.iter().map(|one| self.meet(&one.name, &one.api)).collect()
            }
        }
    }

    /// Where a region's API is, unless the platform says otherwise.
    fn usual(&self, region: &str) -> String {
        let usual = || format!("https://api.{region}.scalingo.com");
        self.config.paas.api_url.clone().unwrap_or_else(usual)
    }

    /// The region of this name at this address, the same for all who mean it.
    fn meet(&self, name: &str, url: &str) -> Result<Arc<Region>, ProviderError> {
        let api = self.api.at(url)?;
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let region = met.entry((name.to_owned(), url.to_owned()));
        Ok(region.or_insert_with(|| Arc::new(Region::new(name, url, api))).clone())
    }

    /// The region that a listing names, without asking for the list of regions. Whoever wrote the listing does not decide
    /// where the token is sent.
    fn region(&self, seen: &seen::Region) -> Result<Arc<Region>, ProviderError> {
        let name = &seen.name;
        let refused =
            |why: &str| Err(ProviderError::Failed(format!("the listing has region {name:?}, {why}")));
        if let Some(region) = self.regions.get().into_iter().flatten().find(|region| region.name == *name) {
            return Ok(region.clone());
        }
        match &self.config.regions {
            Regions::Named(names) if names.contains(name) => self.meet(name, &self.usual(name)),
            Regions::Named(_) => refused("which the entry does not name"),
            Regions::All if region::is_beside(&seen.api, &self.config.auth_url) => self.meet(name, &seen.api),
            Regions::All => refused("whose API is not where that of the account is"),
        }
    }

    fn place(&self, app: &str) -> Result<Place, ProviderError> {
        self.apps.load().get(app).cloned().ok_or_else(|| ProviderError::NotFound(app.to_owned()))
    }

    fn info(&self, name: &str, app: &wire::App, region: &Region) -> AppInfo {
        let config = &self.config;
        let own = config.own.as_ref().is_some_and(|(at, own)| *at == region.name && *own == app.name);
        let left_alone = match app.status.as_str() {
            _ if own => Some("it is this gateway itself".to_owned()),
            "new" => Some("it was never deployed".to_owned()),
            "" => Some("its state is not told".to_owned()),
            word => match status(word) {
                AppStatus::Unknown(word) => Some(format!("its state is `{word}`, and nobody here knows it")),
                _ => None,
            },
        };
        AppInfo {
            name: name.to_owned(),
            key: Some(app.id.clone()),
            deployed_at: app.last_deployed_at.as_deref().and_then(instant),
            aliases: Vec::new(),
            status: status(&app.status),
            endpoint: Some(endpoint(app, &region.name)),
            left_alone,
            settings: config.paas.settings(&[name, &app.name]),
        }
    }

    /// Scales, and does not give up because the app is busy with something else. What is wanted is asked each time.
    async fn scale_back(
        &self,
        place: &Place,
        saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<(), ProviderError> {
        let mut fits = true;
        for _ in 0..TRIES {
            let current = place.region.formation(&place.name, Priority::Wake, turn).await?;
            if current.0.is_empty() {
                return Err(ProviderError::Refused("it was never deployed: it has no process types".into()));
            }
            let mut wanted = restore(&current, saved);
            if !fits {
                wanted = at_most_one(&wanted);
            }
            if wanted.is_empty() {
                return self.revive(place, &current, turn).await;
            }
            match place.region.scale(&place.name, &wanted, Priority::Wake, turn).await? {
                Outcome::Accepted | Outcome::NoChange => return Ok(()),
                Outcome::NeverDeployed => {
                    return Err(ProviderError::Refused("it was never deployed".into()));
                }
                Outcome::DoesNotFit(reason) if fits => {
                    log::warn!(
                        "{}/{}: what ran before does not fit any more ({reason}): one process of each type is started",
                        self.name,
                        place.name
                    );
                    fits = false;
                }
                Outcome::DoesNotFit(reason) => return Err(ProviderError::Refused(reason)),
                Outcome::TypeGone => {}
                // A deployment, or a stop that is not over yet: the wake's own deadline ends it.
                Outcome::Busy => self.until_free(place).await?,
                Outcome::NotKnown => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        Err(ProviderError::Failed("it stayed busy with something else for too long".into()))
    }

    /// Returns when the app is not being deployed, scaled or restarted any more, by the list that all share.
    async fn until_free(&self, place: &Place) -> Result<(), ProviderError> {
        loop {
            tokio::time::sleep(LOOK_EVERY / 2).await;
            // Who else waits, for this app or another, shares the look.
            let since = Instant::now();
            tokio::time::sleep(LOOK_EVERY / 2).await;
            let app = place.region.look(&place.name, since, Priority::Readiness).await?;
            if !matches!(app.status.as_str(), "scaling" | "booting" | "restarting") {
                return Ok(());
            }
        }
    }

    /// Its containers are wanted already: then they run, or the platform has given up on them.
    async fn revive(&self, place: &Place, current: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        if !current.runs_web() {
            return Err(ProviderError::Refused("it has no process type that answers requests".into()));
        }
        let app = place.region.look(&place.name, Instant::now(), Priority::Wake).await?;
        if app.status != "crashed" {
            return Ok(());
        }
        let path = format!("/v1/apps/{}/restart", segment(&place.name));
        let call = Call::post(path, Priority::Wake).json(&json!({})).waiting(turn);
        match place.region.api.call(call).await {
            Ok(_) | Err(ApiError::Ambiguous(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Connection for Scalingo {
    type Config = ScalingoConfig;

    type Seen = Seen;

    fn open(
        config: ScalingoConfig,
        name: Arc<str>,
        accounts: &Accounts,
        _before: Option<&Self>,
    ) -> Result<Self, ProviderError> {
        let token = config.api_token.expose();
        let account = accounts.open("scalingo", token, config.paas.limits);
        let api = |credential: Arc<dyn Credential>| {
            let (base, timeout) = (&config.auth_url, config.paas.operation_timeout);
            Api::new(base, account.clone(), credential, Arc::new(Plain), timeout)
        };
        let exchange = token::Exchange { api: api(Arc::new(Fixed::basic("", token)?))? };
        Ok(Self {
            // One short-lived token for all regions.
            api: api(Arc::new(Renewed::new(exchange)))?.hiding(token),
            config,
            name,
            regions: OnceCell::new(),
            met: Arc::default(),
            apps: ArcSwap::default(),
            stops: Semaphore::new(2),
        })
    }

    fn with(&self, config: ScalingoConfig) -> Self {
        Self {
            config,
            api: self.api.clone(),
            name: self.name.clone(),
            regions: self.regions.clone(),
            met: self.met.clone(),
            apps: ArcSwap::new(self.apps.load_full()),
            stops: Semaphore::new(2),
        }
    }

    fn config(&self) -> &ScalingoConfig {
        &self.config
    }

    fn account(&self) -> &Account {
        self.api.account()
    }

    async fn list(self: Arc<Self>) -> Result<Seen, ProviderError> {
        let mut regions = Vec::new();
        for region in self.regions().await? {
            let listed = match region.list(Instant::now(), Priority::List).await {
                Ok(listed) => listed,
                // One of several is away: what it said last has to do.
                Err(error) if region.is_known() => {
                    log::warn!("{}: {}: {error}; its apps stay as they were", self.name, region.name);
                    region.known()
                }
                Err(error) => return Err(error),
            };
            let (name, api) = (region.name.clone(), region.url.clone());
            regions.push(seen::Region { name, api, apps: listed.to_vec() });
        }
        Ok(Seen { regions })
    }

    fn learn(&self, seen: Seen) -> Result<Vec<AppInfo>, ProviderError> {
        // All of them or none: half a listing is not learned.
        let regions = seen.regions.iter().map(|seen| self.region(seen)).collect::<Result<Vec<_>, _>>()?;
        let mut places: HashMap<String, Place> = HashMap::new();
        let mut infos = Vec::new();
        for (region, seen) in regions.into_iter().zip(seen.regions) {
            for app in &seen.apps {
                // An account may use one name in each region: then the later region's app is named with it.
                let name = match places.contains_key(&app.name) {
                    false => app.name.clone(),
                    true => format!("{}-{}", app.name, region.name),
                };
                infos.push(self.info(&name, app, &region));
                let endpoint = endpoint(app, &region.name);
                places.insert(name, Place { region: region.clone(), name: app.name.clone(), endpoint });
            }
            region.learn(seen.apps);
        }
        self.apps.store(Arc::new(places));
        Ok(infos)
    }

    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError> {
        let place = self.place(app)?;
        let listed = place.region.look(&place.name, Instant::now(), Priority::Readiness).await?;
        let status = status(&listed.status);
        if status == AppStatus::Running {
            // Its workers alone make it "running".
            let formation =
                place.region.formation(&place.name, Priority::Readiness, &Turn::default()).await?;
            return Ok(if formation.runs_web() { status } else { AppStatus::Stopped });
        }
        Ok(status)
    }

    async fn start(
        &self,
        app: &str,
        formation: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError> {
        let place = self.place(app)?;
        self.scale_back(&place, formation, turn).await?;
        if let Some(saved) = formation {
            let ids: Vec<String> = saved.0.values().filter_map(|one| one.autoscaler.clone()).collect();
            tokio::spawn(turn_autoscalers_on(self.name.clone(), place.clone(), ids));
        }
        Ok(place.endpoint)
    }

    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError> {
        let place = self.place(app)?;
        let region = &place.region;
        let now = region.look(&place.name, Instant::now(), Priority::Stop).await?;
        turn.was_deployed(now.last_deployed_at.as_deref().and_then(instant));
        match now.status.as_str() {
            "running" => {}
            "stopped" => return Ok(BeforeStop::Stopped),
            other => return Ok(BeforeStop::Busy(format!("it is {other}"))),
        }
        if region.is_being_deployed(&place.name, turn).await? {
            return Ok(BeforeStop::Busy("a deployment is under way".into()));
        }
        if region.runs_one_off(&place.name, turn).await? {
            return Ok(BeforeStop::Busy("a one-off container runs".into()));
        }
        let formation = region.formation_to_keep(&place.name, turn).await?;
        Ok(BeforeStop::Runs(formation))
    }

    async fn stop(&self, app: &str, formation: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        let place = self.place(app)?;
        let region = &place.region;
        let _one_of_two = self.stops.acquire().await;
        let running = formation.0.iter().filter(|(_, processes)| processes.amount > 0);
        let nothing = Formation(running.map(|(name, _)| (name.clone(), Processes::default())).collect());
        match region.scale(&place.name, &nothing, Priority::Stop, turn).await? {
            Outcome::Accepted | Outcome::NotKnown | Outcome::NoChange => {}
            Outcome::NeverDeployed | Outcome::TypeGone => {}
            Outcome::Busy => return Err(ProviderError::Failed("it is busy with something else".into())),
            Outcome::DoesNotFit(reason) => return Err(ProviderError::Refused(reason)),
        }
        let began = Instant::now();
        let look = || async {
            Ok(match self.status(app).await? {
                AppStatus::Stopped => Look::Stopped,
                // It is being stopped, or the list is a little behind.
                AppStatus::Starting | AppStatus::Stopping => Look::NotYet,
                _ if began.elapsed() < 2 * LOOK_EVERY => Look::NotYet,
                other => Look::Odd(format!("{other:?}")),
            })
        };
        match until_stopped(&format!("{}/{app}", self.name), STOP_TAKES, look).await? {
            true => Ok(()),
            false => Err(late(STOP_TAKES)),
        }
    }
}

/// Scaling by hand has turned them off. An app that is still being scaled may refuse: then later.
async fn turn_autoscalers_on(entry: Arc<str>, place: Place, ids: Vec<String>) {
    for id in ids {
        let path = format!("/v1/apps/{}/autoscalers/{}", segment(&place.name), segment(&id));
        let on = json!({ "autoscaler": { "disabled": false } });
        let mut tries = 0;
        loop {
            tries += 1;
            // Absolute, so twice is the same as once.
            let call = Call::patch(path.as_str(), Priority::Readiness).json(&on).repeatable();
            match place.region.api.call(call).await {
                Ok(_) => break,
                Err(error) if tries < AUTOSCALER_TRIES => {
                    log::debug!("{entry}/{}: its autoscaler {id} is not on yet: {error}", place.name);
                    tokio::time::sleep(LOOK_EVERY * tries).await;
                }
                Err(error) => {
                    log::warn!(
                        "{entry}/{}: its autoscaler {id} cannot be turned on again: {error}",
                        place.name
                    );
                    break;
                }
            }
        }
    }
}

/// Scalingo's words (developers.scalingo.com, "Get a precise application").
fn status(word: &str) -> AppStatus {
    match word {
        // While an app restarts, the old containers serve until the new ones are ready.
        "running" | "restarting" => AppStatus::Running,
        // Up or down: whoever asked for it knows.
        "scaling" | "booting" => AppStatus::Starting,
        "stopped" | "new" => AppStatus::Stopped,
        "crashed" => AppStatus::Crashed("the platform gave it up after repeated crashes".into()),
        other => AppStatus::Unknown(other.to_owned()),
    }
}

/// The name that the platform gave it: `url` may be the very domain that leads to this gateway.
fn endpoint(app: &wire::App, region: &str) -> Endpoint {
    let given = app.base_url.as_deref().and_then(|url| Origin::parse(url, &ROUTER));
    let origin = given.unwrap_or_else(|| Origin {
        tls: true,
        host: format!("{}.{region}.scalingo.io", app.name),
        port: 443,
        connect: None,
        router: &ROUTER,
    });
    Endpoint::Origin(Arc::new(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_reached_at_the_name_that_the_platform_gave_it() {
        let app = |base_url: Option<&str>| wire::App {
            id: "1".into(),
            name: "shop".into(),
            status: "running".into(),
            base_url: base_url.map(str::to_owned),
            last_deployed_at: None,
        };
        for (base_url, expected) in [
            (Some("https://shop.osc-fr1.scalingo.io"), "https://shop.osc-fr1.scalingo.io"),
            (None, "https://shop.osc-secnum-fr1.scalingo.io"),
            (Some(""), "https://shop.osc-secnum-fr1.scalingo.io"),
        ] {
            assert_eq!(endpoint(&app(base_url), "osc-secnum-fr1").to_string(), expected);
        }
    }
}
