//! `Running`: a gateway that runs. The listener, the clock and the end are handed in, so that many run in one test.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pingora_core::{
    apps::HttpServerOptions,
    server::{Fds, configuration::ServerConf},
    services::{Service as _, background::BackgroundService as _, listening::Service},
};
use pingora_proxy::HttpProxy;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{Plan, absolute, roster::Roster, usage};
use crate::{
    admin::{self, AdminSide, counters::Counters, edge::EdgeSide},
    app::AppId,
    clock::Clock,
    config::{self, Config},
    credentials::Credentials,
    history::{History, HistoryContext, report::Books},
    hooks::Hooks,
    lifecycle::{HoldLimits, Lifecycle, ListNews, Surroundings, Sweeper, event, resolver::Resolver},
    provider::{Calls, ProviderError, ProviderEvent},
    proxy::{Edge, Gateway, GatewayError, OpenConnections},
    registry::{RegistryConfig, RegistryContext, RegistryError},
};

/// Tries of one request to reach an app, the first included. More would only hide a broken app.
const TRIES: usize = 2;

/// How long the end waits for a store of the history that does not answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a gateway is given to run with.
pub struct Gear {
    /// The clock that idle times go by.
    pub clock: Clock,
    /// Where requests run. Wakes and stops run where [`Running::start`] is called.
    pub edge: Handle,
    /// The `loir` program, for the keeper of child processes.
    pub program: Option<PathBuf>,
}

/// A gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener is not usable.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// The registry cannot be opened.
    #[error("the registry cannot be opened: {0}")]
    Registry(#[from] RegistryError),
    /// A provider cannot be used.
    #[error("provider {name}: {error}")]
    Provider {
        /// The entry's name.
        name: String,
        /// Why.
        error: ProviderError,
    },
    /// The admin side cannot listen where it should.
    #[error("{0}")]
    Admin(String),
    /// The key of signed links or the first token cannot be kept.
    #[error("what the admin side keeps cannot be used: {0}")]
    Credentials(std::io::Error),
    /// The proxy cannot be built.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The HTTP client of the hooks cannot be built.
    #[error("hooks cannot be used: {0}")]
    Hooks(String),
    /// The HTTP client of the readiness probe cannot be built.
    #[error("the readiness probe cannot be built: {0}")]
    Prober(#[from] reqwest::Error),
}

/// A gateway that accepts clients.
pub struct Running {
    address: SocketAddr,
    config: Config,
    registry: Arc<dyn RegistryConfig>,
    gateway: Gateway,
    lifecycle: Arc<Lifecycle>,
    history: History,
    roster: Roster,
    hooks: Hooks,
    shutdown: watch::Sender<bool>,
    services: Vec<JoinHandle<()>>,
    open: OpenConnections,
    admin: AdminSide,
    edge_side: Arc<EdgeSide>,
    admin_address: Option<SocketAddr>,
    wanted: mpsc::Receiver<admin::Reload>,
}

impl Running {
    /// Puts a gateway together and starts it. Everything that can fail fails here, before a client is accepted.
    pub async fn start(listener: TcpListener, plan: Plan, gear: Gear) -> Result<Self, StartError> {
        pingora_core::tls::install_default_crypto_provider();
        let (address, began) = (listener.local_addr()?, gear.clock.unix_millis());
        let shown = plan.show().unwrap_or_default();
        let admin_listener = admin::bind(&plan.config.admin).map_err(StartError::Admin)?;
        let Plan { config, registry: options, providers: entries, .. } = plan;
        let context =
            RegistryContext { state_dir: absolute(config.state_dir.clone()), clock: gear.clock.clone() };
        let kept = HistoryContext { state_dir: context.state_dir.clone() };
        let registry = options.open(context)?;
        let history = History::open(config.history.clone(), &kept, gear.clock.clone());
        if let Some(fleet) = registry.fleet() {
            // Who leads lists first, and the others take that list.
            fleet.tried().await;
        }
        let limits = hold_limits(&config);
        let hooks = Hooks::new(
            config.hooks.clone(),
            config.rules.clone(),
            Handle::current(),
            gear.clock.clone(),
            registry.me(),
            gear.program.clone(),
        )
        .map_err(StartError::Hooks)?;
        let resolver = Resolver::system(Handle::current());
        let (surprises, surprised) = mpsc::unbounded_channel();
        let tasks = Handle::current();
        let counters = Arc::new(Counters::default());
        let lifecycle = Lifecycle::new(Surroundings {
            registry,
            resolver,
            surprises,
            clock: gear.clock.clone(),
            tasks,
            limits,
            witnesses: vec![
                Arc::new(event::Log),
                Arc::new(history.clone()),
                Arc::new(hooks.clone()),
                counters.clone(),
            ],
            guard: Arc::new(hooks.clone()),
        })?;
        history.attach(&lifecycle);
        history.set_books(books(&config));
        let credentials = Credentials::open(&config.admin, kept.state_dir.as_deref());
        let (credentials, first_token) = credentials.map_err(StartError::Credentials)?;
        let credentials = Arc::new(credentials);
        let gateway =
            Gateway::new(lifecycle.clone(), gear.clock.clone(), config.server.clone(), credentials.clone())?;
        if let Some(token) = first_token {
            // Once. Not a log line, though systemd and Docker keep standard error as well.
            eprintln!("loir: a token for the admin side, shown only now: {token}");
        }
        let (events, happened) = mpsc::unbounded_channel();
        let (shutdown, watch) = watch::channel(false);
        let (reloads, wanted) = mpsc::channel(1);
        let calls = Arc::new(Calls::default());
        let parts = admin::Parts {
            lifecycle: lifecycle.clone(),
            calls: calls.clone(),
            hooks: hooks.clone(),
            credentials,
            clock: gear.clock.clone(),
            history: history.clone(),
            counters,
            reloads,
            shutdown: watch.clone(),
        };
        let admin = AdminSide::new(parts, admin::Settings { admin: config.admin.clone(), shown });
        let edge_side = EdgeSide::new(&admin);
        gateway.set_aside(edge_side.clone());
        let (service, open) = edge(&gateway, listener, address, config.server.threads)?;
        let roster = Roster::new(
            lifecycle.clone(),
            gateway.clone(),
            gear.clock,
            config.clone(),
            gear.program,
            events,
            calls,
        );
        let (news, lists) = mpsc::unbounded_channel();
        let services = vec![
            tokio::spawn(lifecycle.clone().follow_fleet(news)),
            tokio::spawn(follow_lists(roster.clone(), lists)),
        ];
        if let Some((name, error)) = roster.take(config.clone(), entries).await.pop() {
            return Err(StartError::Provider { name, error });
        }
        let mut running = Self {
            address,
            config,
            registry: options,
            gateway,
            lifecycle: lifecycle.clone(),
            history: history.clone(),
            roster,
            hooks,
            shutdown,
            services,
            open,
            admin,
            edge_side,
            admin_address: None,
            wanted,
        };
        if let Some((listener, address)) = admin_listener {
            running.serve_admin(listener, address)?;
        }
        running.services.push(tokio::spawn(list_again(running.roster.clone(), surprised)));
        let addresses = lifecycle.clone();
        running.services.push(tokio::spawn(async move { addresses.refresh_addresses().await }));
        running.services.push(tokio::spawn(listen_to_providers(lifecycle.clone(), happened)));
        running.services.push(tokio::spawn(lifecycle.clone().tell_what_is_used()));
        let (counted, known) = (lifecycle.clone(), history.clone());
        running.services.push(tokio::spawn(async move { usage::recall(&counted, &known, began).await }));
        running.services.push(tokio::spawn(history.watch()));
        let (sweeper, seen) = (Sweeper(lifecycle), watch.clone());
        running.services.push(tokio::spawn(async move { sweeper.start(seen).await }));
        running.services.push(gear.edge.spawn(service(watch)));
        Ok(running)
    }

    /// Where clients are accepted.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin side listens, if it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Opens the admin side where it is looked for if nobody has said where, or not at all.
    ///
    /// # Errors
    ///
    /// The address cannot be had: no reason not to run.
    pub fn serve_admin_as_usual(&mut self) -> std::io::Result<()> {
        if self.config.admin.listen == config::admin::Bind::Usual && self.admin_address.is_none() {
            self.serve_admin(TcpListener::bind(config::admin::DEFAULT)?, config::admin::DEFAULT)?;
        }
        Ok(())
    }

    fn serve_admin(&mut self, listener: TcpListener, address: SocketAddr) -> std::io::Result<()> {
        self.services.push(tokio::spawn(self.admin.serve(listener)?));
        self.admin_address = Some(address);
        log::info!("the admin side listens on {address}");
        Ok(())
    }

    /// Returns when somebody at the admin side wants the configuration to be read again; whoever does that tells what came of it.
    pub async fn reload_wanted(&mut self) -> admin::Reload {
        self.admin.reads_again();
        match self.wanted.recv().await {
            Some(wanted) => wanted,
            // Cannot happen: the sender lives in the admin side that we hold.
            None => std::future::pending().await,
        }
    }

    /// The configuration was read again: whether it could be used.
    pub fn reloaded(&self, fine: bool) {
        self.admin.reloaded(fine);
    }

    /// What decides every start and stop.
    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// What is done when apps are started or stopped.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// What has happened.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How many clients are connected.
    pub fn open_connections(&self) -> usize {
        self.open.count()
    }

    /// Takes over a new plan without dropping a connection. What needs a restart is logged and stays as it was.
    pub async fn reload(&mut self, plan: Plan) {
        let shown = plan.show().unwrap_or_default();
        let Plan { config, registry, providers: entries, .. } = plan;
        for what in self.fixed_differences(&config, registry.as_ref()) {
            log::warn!("{what} has changed and needs restart; until then the old value stays");
        }
        let mut next = config;
        next.server.listen = self.config.server.listen;
        next.server.threads = self.config.server.threads;
        next.state_dir = self.config.state_dir.clone();
        next.registry = self.config.registry.clone();
        next.history = self.history.configure(&next.history);
        self.history.set_books(books(&next));
        next.admin.listen = self.config.admin.listen;
        self.config = next;
        self.gateway.set_settings(self.config.server.clone());
        self.lifecycle.set_limits(hold_limits(&self.config));
        self.hooks.set(self.config.hooks.clone(), self.config.rules.clone());
        if let Err(error) = self.gateway.credentials().configure(&self.config.admin) {
            log::error!("the tokens of the admin side stay as they were: {error}");
        }

        self.edge_side.configure(self.config.admin.host.as_deref());
        self.admin.configure(admin::Settings { admin: self.config.admin.clone(), shown });
        for (name, error) in self.roster.take(self.config.clone(), entries).await {
            log::error!("provider {name} cannot be used: {error}");
        }
        log::info!("the configuration is reloaded");
    }

    /// Ends the gateway: no new connections, what is in flight may finish within `server.drain_timeout`, what is held
    /// is answered, and the apps that must not outlive us are stopped.
    pub async fn end(self) {
        let limit = self.config.server.drain_timeout;
        log::info!("shutting down: {} connections may finish within {limit:?}", self.open.count());
        self.shutdown.send_replace(true);
        self.gateway.draining().begin();
        if let Some(fleet) = self.lifecycle.fleet() {
            fleet.resign().await;
        }
        if tokio::time::timeout(limit, self.drained()).await.is_err() {
            self.gateway.draining().over();
            // Time for the answers to those that were held, and no more.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.drained()).await;
        }
        let left = self.open.count();
        if left > 0 {
            log::warn!("{left} connections are cut");
        }
        self.hooks.end().await;
        let providers = self.roster.providers().await.into_iter();
        let mut stops: JoinSet<()> =
            providers.map(|provider| async move { provider.shutdown().await }).collect();
        while stops.join_next().await.is_some() {}
        for service in &self.services {
            service.abort();
        }
        if let Some(fleet) = self.lifecycle.fleet() {
            self.lifecycle.hand_over().await;
            fleet.leave().await;
        }
        self.history.flush(LAST_WORDS).await;
        self.gateway.flush_access_log();
        log::info!("done");
    }

    async fn drained(&self) {
        while self.open.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a running gateway cannot change.
    fn fixed_differences(&self, new: &Config, registry: &dyn RegistryConfig) -> Vec<&'static str> {
        let old = &self.config;
        [
            ("server.listen", old.server.listen != new.server.listen),
            ("server.threads", old.server.threads != new.server.threads),
            ("admin.listen", old.admin.listen != new.admin.listen),
            ("state_dir", old.state_dir != new.state_dir),
            ("registry", self.registry.differs(registry)),
            ("history", old.history.differs(&new.history)),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }
}

fn books(config: &Config) -> Books {
    let types = config.providers.iter().map(|entry| (entry.name.clone(), entry.kind.clone()));
    Books { savings: config.savings.clone(), providers: types.collect() }
}

fn hold_limits(config: &Config) -> HoldLimits {
    HoldLimits { per_app: config.server.limits.held_per_app, total: config.server.limits.held }
}

/// Pingora's listening service around the gateway, ready to be spawned.
fn edge(
    gateway: &Gateway,
    listener: TcpListener,
    address: SocketAddr,
    threads: usize,
) -> Result<(impl FnOnce(watch::Receiver<bool>) -> ServiceFuture + use<>, OpenConnections), StartError> {
    listener.set_nonblocking(true)?;
    let mut fds = Fds::new();
    fds.add(address.to_string(), listener.into_raw_fd());
    let conf = ServerConf { threads, max_retries: TRIES, ..ServerConf::default() };
    let mut proxy = HttpProxy::new(gateway.clone(), Arc::new(conf));
    // CONNECT reaches `request_filter`, which refuses it in our own words.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    proxy.handle_init_modules();
    let edge = Edge::new(proxy, gateway.clone());
    let open = edge.open_connections();
    let mut service = Service::new("edge".into(), edge);
    service.add_tcp(&address.to_string());
    let fds = Arc::new(parking_lot::Mutex::new(fds));
    let start = move |watch| -> ServiceFuture {
        Box::pin(async move { service.start_service(Some(fds), watch, 1).await })
    };
    Ok((start, open))
}

type ServiceFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn list_again(roster: Roster, mut surprised: mpsc::UnboundedReceiver<Arc<str>>) {
    while let Some(entry) = surprised.recv().await {
        roster.list_soon(&entry).await;
    }
}

/// What other gateways have listed, or found to be wrong.
async fn follow_lists(roster: Roster, mut news: mpsc::UnboundedReceiver<ListNews>) {
    while let Some(news) = news.recv().await {
        match news {
            ListNews::Listed(entry) => roster.take_shared(&entry).await,
            ListNews::Outdated(entry) => roster.is_outdated(&entry).await,
        }
    }
}

async fn listen_to_providers(
    lifecycle: Arc<Lifecycle>,
    mut happened: mpsc::UnboundedReceiver<ProviderEvent>,
) {
    while let Some(event) = happened.recv().await {
        let id = AppId::new(event.provider, event.app);
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move { lifecycle.exited(&id, &event.exited).await });
    }
}
