//! Heroku: one control API, one router.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    api::{Answer, Api, uuid},
    due::{Due, Timing},
    heroku_app::{App, Type},
    heroku_builder::HerokuApp,
    limit::Pool,
    platform::Platform,
    router::{Front, Routed, Routes, Serving},
};

/// A simulated Heroku.
#[derive(Clone)]
pub struct Heroku(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub api: Arc<Api>,
    pub front: Arc<Front>,
    pub ports: OnceLock<(u16, u16)>,
    pub world: Mutex<World>,
}

pub(super) struct World {
    pub apps: Vec<App>,
    pub token: String,
    pub revoked: bool,
    pub pool: Pool,
    pub limited: usize,
    pub page_size: Option<usize>,
    /// Every `Next-Range` that was given out: another one is not understood.
    pub ranges: BTreeSet<String>,
    pub answers_changed_only: bool,
    pub unknown_type_is_422: bool,
    pub hold: Duration,
}

impl World {
    /// The app, with everything taken that was due.
    pub fn app(&mut self, name: &str) -> &mut App {
        self.find(name).unwrap_or_else(|| panic!("no app {name} on the simulated Heroku"))
    }

    /// The app by its name or id.
    pub fn find(&mut self, name: &str) -> Option<&mut App> {
        let app = self.apps.iter_mut().find(|app| app.name == name || app.id == name)?;
        app.settle(Instant::now());
        Some(app)
    }
}

impl Heroku {
    /// The pool of the real one, and how many calls a minute fill it again.
    pub const REAL_POOL: (u32, u32) = (4500, 75);

    /// Starts one on free ports.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts one on two ports from this one on: API, router. 0: free ports.
    pub async fn start_at(base: u16) -> Self {
        let world = World {
            apps: Vec::new(),
            token: "HRKU-simulated".into(),
            revoked: false,
            pool: Pool::full(Self::REAL_POOL.0, Self::REAL_POOL.1),
            limited: 0,
            page_size: None,
            ranges: BTreeSet::new(),
            answers_changed_only: false,
            unknown_type_is_422: false,
            hold: Duration::from_secs(75),
        };
        let (api, front) = (Api::new(), Front::new());
        let inner = Arc::new(Inner { api, front, ports: OnceLock::new(), world: Mutex::new(world) });
        let control = inner.api.open("api", base, inner.clone());
        let router = inner.front.open("router", if base == 0 { 0 } else { base + 1 }, inner.clone());
        let _ = inner.ports.set((control, router));
        Self(inner)
    }

    /// An app to add: running with one web dyno of size Standard-1X, unless told otherwise.
    pub fn app(&self, name: &str) -> HerokuApp {
        let app = App {
            id: uuid(),
            name: name.into(),
            suffix: format!("{:012x}", fastrand::u64(..1 << 48)),
            types: vec![Type::new("web", 1)],
            dynos: Vec::new(),
            timing: Timing::default(),
            state_word: None,
            serves: false,
            run: 0,
            starts: 0,
            stops: 0,
            eco_wakes: 0,
            fail_boots: 0,
            version: 42,
            deploying: false,
            maintenance: false,
            released: None,
            quota_exhausted: false,
            without_web_url: false,
            internal_routing: false,
            generation: "cedar",
            stage: None,
            team: None,
            team_list_only: false,
            blocked: None,
            due: Due::default(),
        };
        HerokuApp { platform: self.clone(), app, state: "up", extra: Vec::new(), deploying: false }
    }

    pub(super) fn with<T>(&self, name: &str, act: impl FnOnce(&mut App) -> T) -> T {
        act(self.0.world.lock().unwrap().app(name))
    }

    /// `http://127.0.0.1:PORT` of the API.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.ports().0)
    }

    /// Where the router listens.
    pub fn router_port(&self) -> u16 {
        self.0.ports().1
    }

    /// No list has longer pages than this, whatever a client asks for.
    pub fn set_page_size(&self, apps: usize) {
        self.0.world.lock().unwrap().page_size = Some(apps);
    }

    /// A pool of so many calls, full, that so many a minute fill again.
    pub fn set_pool(&self, size: u32, per_minute: u32) {
        self.0.world.lock().unwrap().pool = Pool::full(size, per_minute);
    }

    /// Whether a PATCH of the formation answers only the types that it changed, instead of all.
    pub fn set_answers_changed_only(&self, only: bool) {
        self.0.world.lock().unwrap().answers_changed_only = only;
    }

    /// Whether an unknown process type is answered 422 instead of 404.
    pub fn set_unknown_type_is_422(&self, is: bool) {
        self.0.world.lock().unwrap().unknown_type_is_422 = is;
    }

    /// How long the router holds requests for a starting app; 75 s unless told.
    pub fn set_hold(&self, hold: Duration) {
        self.0.world.lock().unwrap().hold = hold;
    }

    /// Maintenance of an app, on or off.
    pub fn set_maintenance(&self, app: &str, on: bool) {
        self.with(app, |app| app.maintenance = on);
    }

    /// The dynos of the app boot again, as every day.
    pub fn cycle(&self, app: &str) {
        self.with(app, App::reboot);
    }

    /// Eco dynos that nobody visited fall asleep.
    pub fn fall_idle(&self, app: &str) {
        self.with(app, |app| {
            app.crash();
            app.dynos.iter_mut().filter(|dyno| dyno.state == "crashed").for_each(|dyno| dyno.state = "idle");
        });
    }

    /// How often the router woke idle Eco dynos.
    pub fn eco_wakes(&self, app: &str) -> usize {
        self.with(app, |app| app.eco_wakes)
    }

    /// A type that a new Procfile no longer has.
    pub fn drop_type(&self, app: &str, name: &str) {
        self.with(app, |app| app.types.retain(|one| one.name != name));
    }
}

impl Inner {
    pub fn ports(&self) -> (u16, u16) {
        *self.ports.get().expect("ports are known before anyone asks")
    }

    /// Where the router finds an app.
    pub fn host(&self, app: &App) -> String {
        format!("{}-{}.localhost:{}", app.name, app.suffix, self.ports().1)
    }
}

impl Routes for Inner {
    fn route(&self, _: &str, host: &str, _: &str) -> Routed {
        let mut world = self.world.lock().unwrap();
        let hold = world.hold;
        let found = host.strip_suffix(".localhost").and_then(|label| {
            let (name, suffix) = label.rsplit_once('-')?;
            world.find(name).filter(|app| app.name == name && app.suffix == suffix)
        });
        let Some(app) = found.filter(|app| !app.internal_routing) else {
            return Routed::Answer(page(404, "No such app", "no-such-app"));
        };
        let broken = || page(503, "Application error", "application-error");
        if app.maintenance {
            return Routed::Answer(page(503, "Offline for Maintenance", "maintenance-mode"));
        }
        if app.serves {
            let headers = vec![("via".into(), "1.1 heroku-router".into())];
            let (id, app, run) = (app.id.clone(), app.name.clone(), app.run);
            return self.front.pass(Serving { id, app, region: "eu".into(), run, headers });
        }
        if app.quantity("web") == 0 || app.web_is("crashed") || app.quota_exhausted {
            return Routed::Answer(broken());
        }
        if app.web_is("idle") {
            app.eco_wakes += 1;
            app.reboot();
        }
        Routed::Hold(hold, broken())
    }
}

/// A page of the router.
fn page(status: u16, title: &str, name: &str) -> Answer {
    let html = format!(
        "<!DOCTYPE html><html><head><title>{title}</title></head><body><iframe \
         src=\"//www.herokucdn.com/error-pages/{name}.html\"></iframe></body></html>"
    );
    Answer::html(status, &html).header("cache-control", "no-cache, no-store")
}

impl Platform for Heroku {
    fn api(&self) -> &Api {
        &self.0.api
    }

    fn front(&self) -> &Front {
        &self.0.front
    }

    fn entry(&self, name: &str) -> String {
        let token = self.0.world.lock().unwrap().token.clone();
        format!(
            "  - name: {name}\n    type: heroku\n    api_token: {token}\n    api_url: {}\n",
            self.api_url()
        )
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
        self.with(app, |app| app.blocked = Some((402, "delinquent")));
    }

    fn formation(&self, app: &str) -> BTreeMap<String, u32> {
        self.with(app, |app| app.types.iter().map(|one| (one.name.clone(), one.quantity)).collect())
    }

    fn set_formation(&self, app: &str, formation: &[(&str, u32)]) {
        self.with(app, |app| {
            let mut target = app.types.clone();
            for (name, quantity) in formation {
                match target.iter_mut().find(|one| one.name == *name) {
                    Some(one) => one.quantity = *quantity,
                    None => target.push(Type::new(name, *quantity)),
                }
            }
            app.scale(target);
        });
    }

    fn starts(&self, app: &str) -> usize {
        self.with(app, |app| app.starts)
    }

    fn stops(&self, app: &str) -> usize {
        self.with(app, |app| app.stops)
    }

    fn is_running(&self, app: &str) -> bool {
        self.with(app, |app| app.serves && !app.maintenance)
    }

    fn state(&self, app: &str) -> String {
        self.with(app, |app| {
            let web = app.dynos.iter().rfind(|dyno| dyno.kind == "web" && dyno.listed);
            web.map_or("none", |dyno| app.shown_state(dyno)).to_owned()
        })
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
        self.with(app, |app| app.state_word = word.map(str::to_owned));
    }

    fn host(&self, app: &str) -> String {
        let mut world = self.0.world.lock().unwrap();
        let app = world.app(app);
        self.0.host(app)
    }

    fn set_limit(&self, per_minute: Option<u32>) {
        let (size, refill) = per_minute.map_or(Self::REAL_POOL, |limit| (limit, limit));
        self.set_pool(size, refill);
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
