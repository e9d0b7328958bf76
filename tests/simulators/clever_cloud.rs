//! Clever Cloud: the bridge for API tokens, the host for OAuth, one router.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    api::{Answer, Api, uuid},
    clever_cloud_app::{App, Ending, SecondStart},
    clever_cloud_builder::CleverCloudApp,
    due::{Due, Timing},
    limit::Window,
    platform::Platform,
    router::{Front, Routed, Routes, Serving},
};

/// The person to whom the credentials belong.
pub const USER: &str = "user_11111111-1111-4111-8111-111111111111";
/// The organisation of an app that is not told otherwise.
pub const ORGANISATION: &str = "orga_22222222-2222-4222-8222-222222222222";

/// A simulated Clever Cloud.
#[derive(Clone)]
pub struct CleverCloud(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub api: Arc<Api>,
    pub front: Arc<Front>,
    pub ports: OnceLock<Ports>,
    pub world: Mutex<World>,
}

pub(super) struct Ports {
    pub bridge: u16,
    pub oauth: u16,
    pub router: u16,
}

/// The four parts of an OAuth credential.
#[derive(Clone, Debug)]
pub struct OAuth {
    pub consumer_key: String,
    pub consumer_secret: String,
    pub token: String,
    pub secret: String,
}

pub(super) struct World {
    pub apps: Vec<App>,
    pub token: String,
    pub oauth: OAuth,
    pub revoked: bool,
    pub limit: Window,
    pub limited: usize,
    /// What the router answers for a stopped app.
    pub stopped_status: u16,
    /// A deployment is not found by its id for so long after the list has it.
    pub by_id_lag: Duration,
    pub bare_start_answer: bool,
}

impl World {
    /// The app, with everything taken that was due.
    pub fn app(&mut self, name: &str) -> &mut App {
        let (owner, name) = name.split_once('/').map_or((None, name), |(owner, name)| (Some(owner), name));
        let is_it =
            |app: &App| (app.name == name || app.id == name) && owner.is_none_or(|owner| app.owner == owner);
        let app = self.apps.iter_mut().find(|app| is_it(app));
        let app = app.unwrap_or_else(|| panic!("no app {name} on the simulated Clever Cloud"));
        app.settle(Instant::now());
        app
    }
}

impl CleverCloud {
    /// About what the real one bears, which is documented nowhere: calls in a minute.
    pub const REAL_LIMIT: u32 = 300;

    /// Starts one on free ports.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts one on three ports from this one on: bridge, OAuth host, router. 0: free ports.
    pub async fn start_at(base: u16) -> Self {
        let oauth = OAuth {
            consumer_key: "ck-simulated".into(),
            consumer_secret: "cs-simulated".into(),
            token: "ot-simulated".into(),
            secret: "os-simulated".into(),
        };
        let world = World {
            apps: Vec::new(),
            token: "cc-token-simulated".into(),
            oauth,
            revoked: false,
            limit: Window::open(),
            limited: 0,
            stopped_status: 404,
            by_id_lag: Duration::from_millis(50),
            bare_start_answer: false,
        };
        let (api, front) = (Api::new(), Front::new());
        let inner = Arc::new(Inner { api, front, ports: OnceLock::new(), world: Mutex::new(world) });
        let port = |offset: u16| if base == 0 { 0 } else { base + offset };
        let ports = Ports {
            bridge: inner.api.open("bridge", port(0), inner.clone()),
            oauth: inner.api.open("oauth", port(1), inner.clone()),
            router: inner.front.open("router", port(2), inner.clone()),
        };
        let _ = inner.ports.set(ports);
        Self(inner)
    }

    /// An app to add: up with one instance, in [`ORGANISATION`], with its default host, unless told otherwise.
    pub fn app(&self, name: &str) -> CleverCloudApp {
        let id = format!("app_{}", uuid());
        let app = App {
            vhosts: vec![format!("{}.cleverapps.localhost:{}/", id.replace('_', "-"), self.0.ports().router)],
            id,
            name: name.into(),
            owner: ORGANISATION.into(),
            zone: "par".into(),
            instances_wanted: 1,
            flavor: "XS".into(),
            lifetime: "REGULAR",
            archived: false,
            homogeneous: false,
            force_https: false,
            never_deployed: false,
            favourite: None,
            state: "SHOULD_BE_DOWN",
            state_word: None,
            deployments: Vec::new(),
            instances: Vec::new(),
            timing: Timing::default(),
            state_lag: Duration::from_millis(20),
            serves: false,
            run: 0,
            starts: 0,
            stops: 0,
            second_starts: 0,
            endings: VecDeque::new(),
            second_start: SecondStart::Redeploys,
            due: Due::default(),
        };
        CleverCloudApp { platform: self.clone(), app, up: true, state: None, last: Ending::Ok }
    }

    pub(super) fn with<T>(&self, name: &str, act: impl FnOnce(&mut App) -> T) -> T {
        act(self.0.world.lock().unwrap().app(name))
    }

    /// `http://127.0.0.1:PORT` of the bridge, for API tokens.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.ports().bridge)
    }

    /// `http://127.0.0.1:PORT` of the host for OAuth.
    pub fn oauth_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.ports().oauth)
    }

    /// Where the router listens.
    pub fn router_port(&self) -> u16 {
        self.0.ports().router
    }

    /// [`Platform::entry`] with the OAuth credential instead of the API token.
    pub fn entry_oauth(&self, name: &str) -> String {
        let oauth = self.0.world.lock().unwrap().oauth.clone();
        format!(
            "  - name: {name}\n    type: clever_cloud\n    oauth:\n      consumer_key: {}\n      consumer_secret: {}\n      \
             token: {}\n      secret: {}\n    api_url: {}\n",
            oauth.consumer_key,
            oauth.consumer_secret,
            oauth.token,
            oauth.secret,
            self.oauth_url()
        )
    }

    /// The OAuth credential.
    pub fn oauth(&self) -> OAuth {
        self.0.world.lock().unwrap().oauth.clone()
    }

    /// What the router answers for a stopped app: 404 (so unless told) or 503.
    pub fn set_stopped_status(&self, status: u16) {
        self.0.world.lock().unwrap().stopped_status = status;
    }

    /// A deployment is not found by its id for so long after the list has it; 50 ms unless told.
    pub fn set_by_id_lag(&self, lag: Duration) {
        self.0.world.lock().unwrap().by_id_lag = lag;
    }

    /// Whether the answer to a start leaves `deploymentId` out.
    pub fn set_bare_start_answer(&self, bare: bool) {
        self.0.world.lock().unwrap().bare_start_answer = bare;
    }

    /// Another span than a minute for the limit.
    pub fn set_limit_span(&self, span: Duration) {
        self.0.world.lock().unwrap().limit.set_span(span);
    }

    /// The next deployment that a start of the app begins ends so; later ones queue up.
    pub fn next_ending(&self, app: &str, ending: Ending) {
        self.with(app, |app| app.endings.push_back(ending));
    }

    /// How often a start came for an app that was up or being deployed: a gateway must never do that.
    pub fn second_starts(&self, app: &str) -> usize {
        self.with(app, |app| app.second_starts)
    }

    /// What such a start does.
    pub fn set_second_start(&self, app: &str, second: SecondStart) {
        self.with(app, |app| app.second_start = second);
    }

    /// Somebody cancels the deployment that is going on.
    pub fn cancel_deployment(&self, app: &str) -> bool {
        self.with(app, |app| {
            let uuid = app.deployments.iter().find(|row| row.state == "WIP").map(|row| row.uuid.clone());
            uuid.is_some_and(|uuid| app.cancel(&uuid))
        })
    }
}

impl Inner {
    pub fn ports(&self) -> &Ports {
        self.ports.get().expect("ports are known before anyone asks")
    }
}

/// The host of a `fqdn` and its path prefix.
fn host_and_path(fqdn: &str) -> (&str, &str) {
    let (host, path) = fqdn.split_once('/').unwrap_or((fqdn, ""));
    (host.split(':').next().unwrap_or(host), path)
}

impl Routes for Inner {
    fn route(&self, _: &str, host: &str, path: &str) -> Routed {
        let mut world = self.world.lock().unwrap();
        let stopped = world.stopped_status;
        let id = uuid().to_uppercase();
        let page = |status, text: &str| {
            let html = format!(
                "<!DOCTYPE html><html><head><title>{status} {text}</title></head><body><h1>{status} {text}</h1><footer>This is \
                 an automatic answer by Sozu.</footer></body></html>"
            );
            let answer = Answer::of(status, "text/html", html).header("cache-control", "no-cache");
            Routed::Answer(answer.header("sozu-id", &id))
        };
        let path_fits = |prefix: &str| path.trim_start_matches('/').starts_with(prefix.trim_end_matches('/'));
        let found = world.apps.iter_mut().find(|app| {
            app.vhosts
                .iter()
                .map(|fqdn| host_and_path(fqdn))
                .any(|(vhost, prefix)| vhost == host && path_fits(prefix))
        });
        let Some(app) = found else { return page(404, "Not Found") };
        app.settle(Instant::now());
        if app.serves && app.force_https {
            let answer = Answer::empty(301).header("location", format!("https://{host}{path}"));
            return Routed::Answer(answer.header("sozu-id", &id));
        }
        if app.serves {
            let headers = vec![("sozu-id".into(), id)];
            let (id, region, run) = (app.id.clone(), app.zone.clone(), app.run);
            let app = app.name.clone();
            return self.front.pass(Serving { id, app, region, run, headers });
        }
        match app.state {
            "SHOULD_BE_UP" => page(503, "Service Unavailable"),
            _ if stopped == 503 => page(503, "Service Unavailable"),
            _ => page(404, "Not Found"),
        }
    }
}

impl Platform for CleverCloud {
    fn api(&self) -> &Api {
        &self.0.api
    }

    fn front(&self) -> &Front {
        &self.0.front
    }

    fn entry(&self, name: &str) -> String {
        let token = self.0.world.lock().unwrap().token.clone();
        format!(
            "  - name: {name}\n    type: clever_cloud\n    token: {token}\n    api_url: {}\n",
            self.api_url()
        )
    }

    fn add(&self, name: &str, formation: &[(&str, u32)], running: bool) {
        let app = self.app(name).instances(instances(formation));
        if running { app.add() } else { app.stopped().add() }
    }

    fn add_never_deployed(&self, name: &str) {
        self.app(name).never_deployed().add();
    }

    fn id(&self, app: &str) -> String {
        self.with(app, |app| app.id.clone())
    }

    fn timing(&self, app: &str) -> Timing {
        self.with(app, |app| app.timing)
    }

    fn set_timing(&self, app: &str, timing: Timing) {
        self.with(app, |app| app.timing = timing);
    }

    fn pass(&self, app: &str, time: Duration) {
        self.with(app, |app| app.pass(time));
    }

    fn fail_boots(&self, app: &str, times: usize) {
        self.with(app, |app| app.endings.extend(vec![Ending::Fail; times]));
    }

    fn block(&self, app: &str) {
        self.with(app, |app| app.state = "DEFAULT_OF_PAYMENT");
    }

    fn formation(&self, app: &str) -> BTreeMap<String, u32> {
        self.with(app, |app| BTreeMap::from([("instances".into(), app.instances_wanted)]))
    }

    fn set_formation(&self, app: &str, formation: &[(&str, u32)]) {
        self.with(app, |app| app.instances_wanted = instances(formation));
    }

    fn stop_by_hand(&self, app: &str) {
        self.with(app, App::stop);
    }

    fn starts(&self, app: &str) -> usize {
        self.with(app, |app| app.starts)
    }

    fn stops(&self, app: &str) -> usize {
        self.with(app, |app| app.stops)
    }

    fn is_running(&self, app: &str) -> bool {
        self.with(app, |app| app.serves)
    }

    fn state(&self, app: &str) -> String {
        self.with(app, |app| app.shown_state().to_owned())
    }

    fn delete(&self, app: &str) {
        let id = self.id(app);
        self.0.world.lock().unwrap().apps.retain(|app| app.id != id);
    }

    fn rename(&self, app: &str, to: &str) {
        self.with(app, |app| app.name = to.into());
    }

    fn begin_deployment(&self, app: &str) {
        self.with(app, App::begin_deployment);
    }

    fn end_deployment(&self, app: &str) {
        self.with(app, App::end_deployment);
    }

    fn crash(&self, app: &str) {
        self.with(app, App::crash);
    }

    fn set_state_word(&self, app: &str, word: Option<&str>) {
        self.with(app, |app| app.state_word = word.map(str::to_owned));
    }

    fn host(&self, app: &str) -> String {
        let all = self.with(app, |app| app.vhosts.clone());
        let default = all.iter().find(|fqdn| fqdn.contains(".cleverapps.")).or(all.first());
        let host = default.unwrap_or_else(|| panic!("{app} has no host")).trim_end_matches('/');
        if host.contains(':') { host.into() } else { format!("{host}:{}", self.router_port()) }
    }

    fn set_limit(&self, per_minute: Option<u32>) {
        self.0.world.lock().unwrap().limit.set_limit(per_minute);
    }

    fn limited_calls(&self) -> usize {
        self.0.world.lock().unwrap().limited
    }

    fn set_token(&self, token: &str) {
        self.0.world.lock().unwrap().token = token.into();
    }

    fn revoke_token(&self) {
        self.0.world.lock().unwrap().revoked = true;
    }

    fn restore_token(&self) {
        self.0.world.lock().unwrap().revoked = false;
    }
}

/// The number of instances that stands for a formation: see [`Platform::add`].
fn instances(formation: &[(&str, u32)]) -> u32 {
    let named = formation.iter().find(|(name, _)| *name == "instances").map(|(_, amount)| *amount);
    named.or_else(|| formation.iter().map(|(_, amount)| *amount).max()).unwrap_or(1)
}
