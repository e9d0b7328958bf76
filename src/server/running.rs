//! `Running`: a gateway that runs. The listener, the clock and the end are handed in, so that many run in one test.

use std::{
    collections::HashMap,
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

use super::{Plan, absolute};
use crate::{
    app::AppId,
    clock::Clock,
    config::{Config, ProviderEntry},
    lifecycle::{HoldLimits, Lifecycle, Sweeper, readiness::Prober},
    provider::{Provider, ProviderConfig, ProviderContext, ProviderError, ProviderEvent},
    proxy::{Edge, Gateway, GatewayError, OpenConnections},
    registry::{REGISTRIES, RegistryContext, RegistryError},
    routing::RouteTable,
};

/// Tries of one request to reach an app, the first included. More would only hide a broken app.
const TRIES: usize = 2;

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
    /// The proxy cannot be built.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The HTTP client of the readiness probe cannot be built.
    #[error("the readiness probe cannot be built: {0}")]
    Prober(#[from] reqwest::Error),
}

/// A gateway that accepts clients.
pub struct Running {
    address: SocketAddr,
    config: Config,
    gateway: Gateway,
    lifecycle: Arc<Lifecycle>,
    providers: HashMap<String, Connected>,
    events: mpsc::UnboundedSender<ProviderEvent>,
    program: Option<PathBuf>,
    shutdown: watch::Sender<bool>,
    services: Vec<JoinHandle<()>>,
    open: OpenConnections,
}

struct Connected {
    name: Arc<str>,
    kind: String,
    provider: Arc<dyn Provider>,
}

impl Running {
    /// Puts a gateway together and starts it. Everything that can fail fails here, before a client is accepted.
    pub async fn start(listener: TcpListener, plan: Plan, gear: Gear) -> Result<Self, StartError> {
        pingora_core::tls::install_default_crypto_provider();
        let address = listener.local_addr()?;
        let Plan { config, providers: entries, .. } = plan;
        let registry = open_registry(&config, &gear.clock)?;
        let limits = hold_limits(&config);
        let lifecycle =
            Lifecycle::new(registry, Prober::new()?, gear.clock.clone(), Handle::current(), limits);
        let gateway = Gateway::new(lifecycle.clone(), gear.clock, config.server.clone())?;
        let (events, happened) = mpsc::unbounded_channel();
        let (shutdown, watch) = watch::channel(false);
        let (service, open) = edge(&gateway, listener, address, config.server.threads)?;
        let mut running = Self {
            address,
            config,
            gateway,
            lifecycle: lifecycle.clone(),
            providers: HashMap::new(),
            events,
            program: gear.program,
            shutdown,
            services: Vec::new(),
            open,
        };
        for (entry, options) in entries {
            running.connect(&entry, options.as_ref()).await?;
        }
        running.rebuild_routes();
        running.services.push(tokio::spawn(listen_to_providers(lifecycle.clone(), happened)));
        let (sweeper, seen) = (Sweeper(lifecycle), watch.clone());
        running.services.push(tokio::spawn(async move { sweeper.start(seen).await }));
        running.services.push(gear.edge.spawn(service(watch)));
        Ok(running)
    }

    /// Where clients are accepted.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What decides every start and stop.
    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// How many clients are connected.
    pub fn open_connections(&self) -> usize {
        self.open.count()
    }

    /// Takes over a new plan without dropping a connection. What needs a restart is logged and stays as it was.
    pub async fn reload(&mut self, plan: Plan) {
        let Plan { config, providers: entries, .. } = plan;
        for what in self.fixed_differences(&config) {
            log::warn!("{what} has changed and needs restart; until then the old value stays");
        }
        let mut next = config;
        next.server.listen = self.config.server.listen;
        next.server.threads = self.config.server.threads;
        next.state_dir = self.config.state_dir.clone();
        next.registry = self.config.registry.clone();
        self.config = next;
        self.gateway.set_settings(self.config.server.clone());
        self.lifecycle.set_limits(hold_limits(&self.config));

        let gone: Vec<String> = self
            .providers
            .keys()
            .filter(|name| !entries.iter().any(|(e, _)| e.name == **name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(old) = self.providers.remove(&name) {
                self.lifecycle.remove_provider(&old.name, &old.provider, &self.config.defaults).await;
            }
        }
        for (entry, options) in entries {
            if let Err(error) = self.connect(&entry, options.as_ref()).await {
                log::error!("{error}; its apps stay as they were");
            }
        }
        self.rebuild_routes();
        log::info!("the configuration is reloaded");
    }

    /// Ends the gateway: no new connections, what is in flight may finish within `server.drain_timeout`, what is held
    /// is answered, and the apps that must not outlive us are stopped.
    pub async fn end(self) {
        let limit = self.config.server.drain_timeout;
        log::info!("shutting down: {} connections may finish within {limit:?}", self.open.count());
        self.shutdown.send_replace(true);
        self.gateway.draining().begin();
        if tokio::time::timeout(limit, self.drained()).await.is_err() {
            self.gateway.draining().over();
            // Time for the answers to those that were held, and no more.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.drained()).await;
        }
        let left = self.open.count();
        if left > 0 {
            log::warn!("{left} connections are cut");
        }
        let providers = self.providers.values().map(|connected| connected.provider.clone());
        let mut stops: JoinSet<()> =
            providers.map(|provider| async move { provider.shutdown().await }).collect();
        while stops.join_next().await.is_some() {}
        for service in &self.services {
            service.abort();
        }
        self.gateway.flush_access_log();
        log::info!("done");
    }

    async fn drained(&self) {
        while self.open.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a running gateway cannot change.
    fn fixed_differences(&self, new: &Config) -> Vec<&'static str> {
        let old = &self.config;
        [
            ("server.listen", old.server.listen != new.server.listen),
            ("server.threads", old.server.threads != new.server.threads),
            ("state_dir", old.state_dir != new.state_dir),
            ("registry.type", old.registry.kind != new.registry.kind),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }

    /// Connects a new provider entry, or gives a known one its new options, and takes over the apps it lists.
    async fn connect(
        &mut self,
        entry: &ProviderEntry,
        options: &dyn ProviderConfig,
    ) -> Result<(), StartError> {
        let failed = |error| StartError::Provider { name: entry.name.clone(), error };
        let (name, provider) = match self.providers.get(&entry.name) {
            Some(known) => {
                let changed = if known.kind == entry.kind {
                    known.provider.reconfigure(options).await
                } else {
                    Err(crate::provider::NeedsRestart(format!("the type of provider {}", entry.name)))
                };
                if let Err(needs_restart) = changed {
                    log::warn!("{needs_restart}; until then the old value stays");
                }
                (known.name.clone(), known.provider.clone())
            }
            None => {
                let name: Arc<str> = entry.name.as_str().into();
                let context = ProviderContext {
                    name: name.clone(),
                    state_dir: absolute(self.config.state_dir.clone()),
                    program: self.program.clone(),
                    events: self.events.clone(),
                };
                let provider = options.connect(context).map_err(failed)?;
                let connected =
                    Connected { name: name.clone(), kind: entry.kind.clone(), provider: provider.clone() };
                self.providers.insert(entry.name.clone(), connected);
                (name, provider)
            }
        };
        let list = provider.list().await.map_err(failed)?;
        let (defaults, domains) = (&self.config.defaults, &self.config.server.domains);
        self.lifecycle.sync(&name, &provider, list, defaults, domains).await;
        Ok(())
    }

    fn rebuild_routes(&self) {
        let apps = self.lifecycle.apps();
        let mut apps: Vec<_> = apps.values().collect();
        apps.sort_by(|a, b| a.id.cmp(&b.id));
        let claims = apps.into_iter().flat_map(|app| {
            let hosts = app.settings().hosts.clone();
            hosts.into_iter().map(|host| (host, app.clone()))
        });
        let (routes, refused) = RouteTable::new(claims);
        for (host, app) in refused {
            log::warn!("{host} is claimed by {} too, and leads to another app", app.id);
        }
        self.gateway.set_routes(routes);
    }
}

fn open_registry(config: &Config, clock: &Clock) -> Result<Arc<dyn crate::registry::Registry>, StartError> {
    let known = REGISTRIES.iter().find(|kind| kind.name == config.registry.kind);
    // `load` has refused an unknown type before.
    let kind =
        known.ok_or_else(|| RegistryError::Unavailable(format!("no type {}", config.registry.kind)))?;
    let context = RegistryContext { state_dir: absolute(config.state_dir.clone()), clock: clock.clone() };
    Ok((kind.open)(&config.registry, context)?)
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
