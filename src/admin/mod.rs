//! The admin side: what operators see and do, and what is measured. On a listener of its own, and for platforms with one port
//! under a host name of its own on the main one.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `AdminSide`, and the table of endpoints |
//! | `door` | who is let in |
//! | `listener` | the listener of its own |
//! | `edge` | the same under `admin.host` |
//! | `apps` | `/v1/apps`: which there are |
//! | `acts` | wake, sleep, pin, unpin, wake-link |
//! | `events` | `/v1/events`: what has happened, and what happens |
//! | `report` | `/v1/report`: what sleeping was good for |
//! | `gateway` | the configuration, a reload, whether all is well |
//! | `metrics` | `/metrics` |
//! | `counters` | what is counted of events |
//! | `openapi` | the document that says all this to programs |
//! | `problem` | what is answered when something is wrong |
//!
//! It has no client: nothing that is sent here can be passed on to an app. And the proxy answers nothing under `admin.host` itself.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use axum::{Router, extract::DefaultBodyLimit, middleware, routing};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

mod acts;
mod apps;
pub mod counters;
mod door;
pub mod edge;
mod events;
mod gateway;
mod listener;
pub mod metrics;
pub mod openapi;
mod problem;
mod report;

use counters::Counters;
use door::{Door, Peer};
use listener::Bounded;

use crate::{
    clock::Clock, config, credentials::Credentials, history::History, hooks::Hooks, lifecycle::Lifecycle,
    provider::Calls,
};

/// No request has more to say.
const LONGEST_BODY: usize = 64 << 10;

/// What the admin side shows and does. A handle: clones are the same.
#[derive(Clone)]
pub struct AdminSide(Arc<Inner>);

struct Inner {
    parts: Parts,
    settings: ArcSwap<Settings>,
    metrics: metrics::Reloads,
    listeners: Arc<Semaphore>,
    reads_again: AtomicBool,
}

/// What it lives by.
pub struct Parts {
    /// All apps.
    pub lifecycle: Arc<Lifecycle>,
    /// Who may do what.
    pub credentials: Arc<Credentials>,
    /// The gateway's clock.
    pub clock: Clock,
    /// What has happened.
    pub history: History,
    /// What was counted of events.
    pub counters: Arc<Counters>,
    /// What was counted of calls to providers.
    pub calls: Arc<Calls>,
    /// What is done around starts and stops.
    pub hooks: Hooks,
    /// Whoever reads the configuration again, when it is asked for.
    pub reloads: mpsc::Sender<Reload>,
    /// Turns true when the gateway ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Somebody asks for the configuration to be read again, and waits for what comes of it: the problems, if there are any.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// What a reload changes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The block `admin`.
    pub admin: config::Admin,
    /// The configuration in effect, without secrets.
    pub shown: String,
}

impl AdminSide {
    /// Answers nobody yet.
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let settings = ArcSwap::from_pointee(settings);
        Self(Arc::new(Inner {
            parts,
            settings,
            metrics: metrics::Reloads::default(),
            listeners: Arc::new(Semaphore::new(events::LISTENERS)),
            reads_again: AtomicBool::new(false),
        }))
    }

    /// Takes over what a reload has changed.
    pub fn configure(&self, settings: Settings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// Somebody waits for wishes to read the configuration again.
    pub fn reads_again(&self) {
        self.0.reads_again.store(true, Relaxed);
    }

    /// A reload has succeeded, or not.
    pub fn reloaded(&self, fine: bool) {
        self.0.metrics.reloaded(fine, self.clock().unix_millis());
    }

    fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.0.parts.lifecycle
    }

    fn credentials(&self) -> &Credentials {
        &self.0.parts.credentials
    }

    fn history(&self) -> &History {
        &self.0.parts.history
    }

    fn clock(&self) -> &Clock {
        &self.0.parts.clock
    }

    /// The table of endpoints; `openapi` has the same.
    fn router(&self, door: Door) -> Router {
        Router::new()
            .route("/v1/apps", routing::get(apps::list))
            .route("/v1/apps/{provider}/{name}", routing::get(apps::one))
            .route("/v1/apps/{provider}/{name}/wake", routing::post(acts::wake))
            .route("/v1/apps/{provider}/{name}/sleep", routing::post(acts::sleep))
            .route("/v1/apps/{provider}/{name}/pin", routing::post(acts::pin))
            .route("/v1/apps/{provider}/{name}/unpin", routing::post(acts::unpin))
            .route("/v1/events", routing::get(events::find))
            .route("/v1/events/live", routing::get(events::live))
            .route("/v1/apps/{provider}/{name}/wake-link", routing::post(acts::wake_link))
            .route("/v1/report", routing::get(report::report))
            .route("/v1/config", routing::get(gateway::config))
            .route("/v1/reload", routing::post(gateway::reload))
            .route("/livez", routing::get(gateway::live))
            .route("/readyz", routing::get(gateway::ready))
            .route("/metrics", routing::get(metrics::scrape))
            .route("/openapi.json", routing::get(openapi::document))
            .fallback(problem::nothing_here)
            .method_not_allowed_fallback(problem::wrong_method)
            .layer(DefaultBodyLimit::max(LONGEST_BODY))
            .layer(middleware::from_fn_with_state((self.clone(), door), door::guard))
            .with_state(self.clone())
    }

    /// Answers on this listener until the gateway ends.
    ///
    /// # Errors
    ///
    /// The listener cannot be used.
    pub fn serve(&self, listener: TcpListener) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let listener = Bounded::new(listener)?;
        let router = self.router(Door::Own).into_make_service_with_connect_info::<Peer>();
        let mut shutdown = self.0.parts.shutdown.clone();
        let end = async move {
            // The sender lives as long as the gateway does.
            let _ = shutdown.wait_for(|ends| *ends).await;
        };
        Ok(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                log::error!("the admin side has ended: {error}");
            }
        })
    }
}

/// Where the admin side is to listen, if anywhere: what is written, or nothing for [`config::admin::DEFAULT`].
///
/// # Errors
///
/// In words, if a written address cannot be had.
pub fn bind(admin: &config::Admin) -> Result<Option<(TcpListener, SocketAddr)>, String> {
    let config::admin::Bind::At(address) = admin.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address} for the admin side: {error} (set admin.listen to another address, or to off)")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(Some((listener, address)))
}
