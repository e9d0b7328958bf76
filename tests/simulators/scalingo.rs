//! Scalingo: an auth server, and in each region a control API and a router.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    api::{Answer, Api},
    due::{Due, Timing},
    limit::Window,
    platform::Platform,
    router::{Front, Routed, Routes, Serving},
    scalingo_app::{App, Type},
    scalingo_builder::ScalingoApp,
};

/// The two regions there are.
pub const REGIONS: [&str; 2] = ["osc-fr1", "osc-secnum-fr1"];

/// A simulated Scalingo.
#[derive(Clone)]
pub struct Scalingo(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub api: Arc<Api>,
    pub front: Arc<Front>,
    pub ports: OnceLock<Ports>,
    pub world: Mutex<World>,
}

pub(super) struct Ports {
    pub auth: u16,
    pub apis: [u16; 2],
    pub routers: [u16; 2],
}

pub(super) struct World {
    pub apps: Vec<App>,
    pub token: String,
    pub revoked: bool,
    pub jwt_lifetime: Duration,
    /// The JWTs that were given out and when they end.
    pub jwts: BTreeMap<String, Instant>,
    pub exchanges: usize,
    pub limit: Window,
    pub limited: usize,
    pub retry_after: bool,
    pub ps_shows_stopped: bool,
}

impl World {
    /// The app, with everything taken that was due.
    pub fn app(&mut self, name: &str) -> &mut App {
        let (region, name) = name.split_once('/').map_or((None, name), |(region, name)| (Some(region), name));
        self.find(region, name).unwrap_or_else(|| panic!("no app {name} on the simulated Scalingo"))
    }

    /// The app by its name or id.
    pub fn find(&mut self, region: Option<&str>, name: &str) -> Option<&mut App> {
        let now = Instant::now();
        let app = self.apps.iter_mut().find(|app| {
            (app.name == name || app.id == name) && region.is_none_or(|region| app.region == region)
        })?;
        app.settle(now);
        Some(app)
    }
}

impl Scalingo {
    /// The limit of the real one: calls in a minute.
    pub const REAL_LIMIT: u32 = 60;

    /// Starts one on free ports.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts one on five ports from this one on: auth, an API of each region, a router of each region. 0: free ports.
    pub async fn start_at(base: u16) -> Self {
        let world = World {
            apps: Vec::new(),
            token: "tk-us-simulated".into(),
            revoked: false,
            jwt_lifetime: Duration::from_secs(3600),
            jwts: BTreeMap::new(),
            exchanges: 0,
            limit: Window::open(),
            limited: 0,
            retry_after: false,
            ps_shows_stopped: false,
        };
        let (api, front) = (Api::new(), Front::new());
        let inner = Arc::new(Inner { api, front, ports: OnceLock::new(), world: Mutex::new(world) });
        let port = |offset: u16| if base == 0 { 0 } else { base + offset };
        let ports = Ports {
            auth: inner.api.open("auth", port(0), inner.clone()),
            apis: [0, 1].map(|at| inner.api.open(REGIONS[at], port(1 + at as u16), inner.clone())),
            routers: [0, 1].map(|at| inner.front.open(REGIONS[at], port(3 + at as u16), inner.clone())),
        };
        let _ = inner.ports.set(ports);
        Self(inner)
    }

    /// An app to add: running with one web container, in osc-fr1, unless told otherwise.
    pub fn app(&self, name: &str) -> ScalingoApp {
        let app = App {
            id: format!("65{:022x}", fastrand::u64(..)),
            name: name.into(),
            region: REGIONS[0].into(),
            types: vec![Type { name: "web".into(), amount: 1, size: "M".into() }],
            autoscalers: Vec::new(),
            operations: Vec::new(),
            timing: Timing::default(),
            status: "running",
            status_word: None,
            deploying: false,
            up: true,
            serves: true,
            booting: false,
            run: 1,
            starts: 0,
            stops: 0,
            fail_boots: 0,
            hang_operations: 0,
            deployed: None,
            payment: false,
            suspended: false,
            one_off: false,
            force_https: false,
            sticky: false,
            url: None,
            without_base_url: false,
            due: Due::default(),
        };
        ScalingoApp { platform: self.clone(), app }
    }

    pub(super) fn with<T>(&self, name: &str, act: impl FnOnce(&mut App) -> T) -> T {
        act(self.0.world.lock().unwrap().app(name))
    }

    /// Each of two apps gets the other's name, at once.
    pub fn swap(&self, one: &str, other: &str) {
        let mut world = self.0.world.lock().unwrap();
        for (from, to) in [(one, "~"), (other, one), ("~", other)] {
            world.app(from).name = to.into();
        }
    }

    /// `http://127.0.0.1:PORT` of the auth server.
    pub fn auth_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.ports().auth)
    }

    /// `http://127.0.0.1:PORT` of a region's API.
    pub fn api_url(&self, region: &str) -> String {
        format!("http://127.0.0.1:{}", self.0.ports().apis[index(region)])
    }

    /// The port of a region's router.
    pub fn router_port(&self, region: &str) -> u16 {
        self.0.ports().routers[index(region)]
    }

    /// [`Platform::entry`] for a region.
    pub fn entry_in(&self, name: &str, region: &str) -> String {
        let token = self.0.world.lock().unwrap().token.clone();
        format!(
            "  - name: {name}\n    type: scalingo\n    region: {region}\n    api_token: {token}\n    auth_url: {}\n    \
             api_url: {}\n",
            self.auth_url(),
            self.api_url(region)
        )
    }

    /// How long the JWTs of later exchanges are good; an hour unless told.
    pub fn set_jwt_lifetime(&self, lifetime: Duration) {
        self.0.world.lock().unwrap().jwt_lifetime = lifetime;
    }

    /// All JWTs are refused from now on; an exchange gives good ones.
    pub fn expire_jwts(&self) {
        self.0.world.lock().unwrap().jwts.clear();
    }

    /// How many exchanges succeeded.
    pub fn exchanges(&self) -> usize {
        self.0.world.lock().unwrap().exchanges
    }

    /// Whether a 429 says `Retry-After`.
    pub fn set_retry_after(&self, says: bool) {
        self.0.world.lock().unwrap().retry_after = says;
    }

    /// Another span than a minute for the limit.
    pub fn set_limit_span(&self, span: Duration) {
        self.0.world.lock().unwrap().limit.set_span(span);
    }

    /// Whether `/ps` lists the containers of a stopped app, with `state: "stopped"`, instead of none.
    pub fn set_ps_shows_stopped(&self, shows: bool) {
        self.0.world.lock().unwrap().ps_shows_stopped = shows;
    }

    /// The next operation of the app stays `running` until [`Scalingo::let_go`].
    pub fn hang_operation(&self, app: &str) {
        self.with(app, |app| app.hang_operations = 1);
    }

    /// The operation that hangs ends well now.
    pub fn let_go(&self, app: &str) {
        self.with(app, App::let_go);
    }

    /// Whether the autoscaler of a type is on.
    pub fn autoscaler_enabled(&self, app: &str, container_type: &str) -> bool {
        self.with(app, |app| {
            app.autoscalers.iter().any(|one| one.container_type == container_type && !one.disabled)
        })
    }

    /// A type that a new Procfile no longer has.
    pub fn drop_type(&self, app: &str, container_type: &str) {
        self.with(app, |app| app.types.retain(|one| one.name != container_type));
    }
}

pub(super) fn index(region: &str) -> usize {
    REGIONS.iter().position(|known| *known == region).unwrap_or_else(|| panic!("no region {region}"))
}

impl Inner {
    pub fn ports(&self) -> &Ports {
        self.ports.get().expect("ports are known before anyone asks")
    }

    /// Where the router finds an app.
    pub fn host(&self, app: &App) -> String {
        format!("{}.{}.localhost:{}", app.name, app.region, self.ports().routers[index(&app.region)])
    }
}

impl Routes for Inner {
    fn route(&self, door: &str, host: &str, path: &str) -> Routed {
        let page = |status, error: &str, text: &str| {
            let html = format!(
                "<!DOCTYPE html><html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
            );
            Routed::Answer(Answer::html(status, &html).header("x-scalingo-error", error))
        };
        let mut world = self.world.lock().unwrap();
        let Some(name) = host.strip_suffix(&format!(".{door}.localhost")) else {
            return page(404, "no application for this host", "Not found");
        };
        let Some(app) = world.find(Some(door), name) else {
            return page(404, "no application for this host", "Not found");
        };
        if app.force_https {
            let to = format!("https://{host}{path}");
            return Routed::Answer(Answer::empty(301).header("location", to));
        }
        if app.serves {
            let mut headers = vec![("x-request-id".into(), format!("{:032x}", fastrand::u128(..)))];
            if app.sticky {
                headers
                    .push(("set-cookie".into(), format!("sc-sticky-session=web-1; Domain={host}; Path=/")));
            }
            let (id, region, run) = (app.id.clone(), app.region.clone(), app.run);
            let app = app.name.clone();
            return self.front.pass(Serving { id, app, region, run, headers });
        }
        match app.up && app.amount("web") == 0 {
            true => page(503, "no web container", "This application has no web front"),
            false => page(503, "application is stopped", "Application stopped"),
        }
    }
}

impl Platform for Scalingo {
    fn api(&self) -> &Api {
        &self.0.api
    }

    fn front(&self) -> &Front {
        &self.0.front
    }

    fn entry(&self, name: &str) -> String {
        self.entry_in(name, REGIONS[0])
    }

    fn add(&self, name: &str, formation: &[(&str, u32)], running: bool) {
        let app = self.app(name).formation(formation);
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
        self.with(app, |app| app.due.pass(time));
    }

    fn fail_boots(&self, app: &str, times: usize) {
        self.with(app, |app| app.fail_boots = times);
    }

    fn block(&self, app: &str) {
        self.with(app, |app| app.payment = true);
    }

    fn formation(&self, app: &str) -> BTreeMap<String, u32> {
        self.with(app, |app| app.types.iter().map(|one| (one.name.clone(), one.amount)).collect())
    }

    fn set_formation(&self, app: &str, formation: &[(&str, u32)]) {
        self.with(app, |app| {
            let mut target = app.types.clone();
            for (name, amount) in formation {
                match target.iter_mut().find(|one| one.name == *name) {
                    Some(one) => one.amount = *amount,
                    None => target.push(Type { name: (*name).into(), amount: *amount, size: "M".into() }),
                }
            }
            if target != app.types {
                app.become_formation(target);
            }
        });
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
        self.with(app, |app| app.shown_status().to_owned())
    }

    fn delete(&self, app: &str) {
        let id = self.with(app, |app| app.id.clone());
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
        self.with(app, |app| app.status_word = word.map(str::to_owned));
    }

    fn host(&self, app: &str) -> String {
        let mut world = self.0.world.lock().unwrap();
        let app = world.app(app);
        self.0.host(app)
    }

    fn set_limit(&self, per_minute: Option<u32>) {
        self.0.world.lock().unwrap().limit.set_limit(per_minute);
    }

    fn limited_calls(&self) -> usize {
        self.0.world.lock().unwrap().limited
    }

    fn set_token(&self, token: &str) {
        let mut world = self.0.world.lock().unwrap();
        world.token = token.into();
        world.jwts.clear();
    }

    fn revoke_token(&self) {
        let mut world = self.0.world.lock().unwrap();
        world.revoked = true;
        world.jwts.clear();
    }

    fn restore_token(&self) {
        self.0.world.lock().unwrap().revoked = false;
    }
}
