//! `type: process`: apps as child processes of the gateway.
//!
//! Each app is a process group of its own with a free port of its own. A stop is SIGTERM to the group, a grace time,
//! then SIGKILL. A second small process, the [`keeper`], ends whatever is left when the gateway itself is killed.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | the provider |
//! | `config` | its options |
//! | `child` | one running process group |
//! | `keeper` | no orphan survives the gateway |
//! | `port` | ports, one app each |
//! | `output` | what apps print |
//! | `census` | which processes run, on disk, for the next gateway |

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    AppInfo, BeforeStop, Listing, NeedsRestart, Provider, ProviderConfig, ProviderContext, ProviderError,
    Turn, api::Waits, listing::Shape,
};
use crate::app::{AppStatus, Endpoint, Formation, WEB};

mod census;
mod child;
pub mod config;
pub mod keeper;
mod output;
mod port;

use child::Child;
pub(crate) use child::INHERITED;
pub use config::{ProcessApp, ProcessConfig, configure, schema};
use keeper::Keeper;
use port::Port;

fn connect(config: &ProcessConfig, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
    let keeper = match &context.program {
        Some(program) if !config.leave_running => Some(Keeper::start(program.clone())?),
        _ => None,
    };
    let census = context.state_dir.as_ref().map(|dir| census::Census::new(dir, &context.name));
    let provider = Arc::new(Processes {
        config: ArcSwap::from_pointee(config.clone()),
        children: Mutex::default(),
        busy: Mutex::default(),
        keeper,
        closed: AtomicBool::new(false),
        census,
        context,
    });
    provider.adopt();
    Ok(Arc::new(ProcessProvider(provider)))
}

struct Processes {
    config: ArcSwap<ProcessConfig>,
    children: Mutex<HashMap<String, Entry>>,
    /// One lock per app, held for the whole of a start or stop, so that the two never overlap.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    keeper: Option<Arc<Keeper>>,
    /// The gateway is about to end: nothing is started any more.
    closed: AtomicBool,
    census: Option<census::Census>,
    context: ProviderContext,
}

enum Entry {
    Running(Arc<Child>),
    Crashed(String),
}

impl Processes {
    fn children(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, app: &str) -> Option<Arc<Child>> {
        match self.children().get(app) {
            Some(Entry::Running(child)) if child.exit().is_none() => Some(child.clone()),
            _ => None,
        }
    }

    fn turn(&self, app: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(app.to_owned()).or_default().clone()
    }

    fn status_now(&self, app: &str) -> (AppStatus, Option<Endpoint>) {
        match self.children().get(app) {
            None => (AppStatus::Stopped, None),
            Some(Entry::Crashed(reason)) => (AppStatus::Crashed(reason.clone()), None),
            Some(Entry::Running(child)) => match child.exit() {
                None => (AppStatus::Running, Some(Endpoint::Address(child.address()))),
                Some(reason) => (AppStatus::Crashed(reason), None),
            },
        }
    }

    /// Takes over what an earlier gateway left running on purpose, as long as it is still configured. All else is
    /// stopped (what it left because it was killed, its keeper is about to end as well), and must be gone before the
    /// app is started anew: it may hold a fixed port.
    fn adopt(self: &Arc<Self>) {
        let Some(census) = &self.census else { return };
        let config = self.config.load();
        for survivor in census.survivors() {
            let child = Child::adopted(survivor.group, survivor.port);
            if config.leave_running && config.apps.contains_key(&survivor.app) {
                self.watch(survivor.app, child);
            } else {
                let name = &self.context.name;
                log::info!("{name}/{}: stopping what an earlier gateway left of it", survivor.app);
                let turn = self.turn(&survivor.app).try_lock_owned();
                let grace = config.stop_grace;
                tokio::spawn(async move {
                    child.stop(grace).await;
                    drop(turn);
                });
            }
        }
    }

    /// Notes that `child` runs `app`, and when it ends by itself, says so.
    fn watch(self: &Arc<Self>, app: String, child: Arc<Child>) {
        if let Some(keeper) = &self.keeper {
            keeper.watch(child.group());
        }
        self.children().insert(app.clone(), Entry::Running(child.clone()));
        self.write_census();
        let provider = self.clone();
        tokio::spawn(async move {
            let reason = child.ended().await;
            if let Some(keeper) = &provider.keeper {
                keeper.forget(child.group());
            }
            if child.is_stopping() {
                return;
            }
            // Whatever the leader left behind in its group must not keep the port.
            child.kill();
            {
                let mut children = provider.children();
                match children.get(&app) {
                    Some(Entry::Running(current)) if Arc::ptr_eq(current, &child) => {
                        children.insert(app.clone(), Entry::Crashed(reason.clone()));
                    }
                    _ => return,
                }
            }
            provider.write_census();
            let event = super::ProviderEvent { provider: provider.context.name.clone(), app, exited: reason };
            let _ = provider.context.events.send(event);
        });
    }

    fn write_census(&self) {
        let Some(census) = &self.census else { return };
        census.write(|| {
            let children = self.children();
            let running = children.iter().filter_map(|(app, entry)| match entry {
                Entry::Running(child) => Some((app.clone(), child.group(), child.address().port())),
                Entry::Crashed(_) => None,
            });
            running.collect()
        });
    }

    async fn port(&self, config: &ProcessConfig, app: &ProcessApp) -> Result<Port, ProviderError> {
        if let Some(port) = app.port {
            return Port::fixed(port).await;
        }
        let spoken_for: Vec<_> = config.apps.values().filter_map(|app| app.port).collect();
        Port::free(&spoken_for).ok_or_else(|| ProviderError::Failed("no free port is left for it".into()))
    }

    fn log_file(&self, app: &str) -> Option<PathBuf> {
        let keep = self.config.load().leave_running;
        let dir = self.context.state_dir.as_ref().filter(|_| keep)?;
        Some(dir.join("logs").join(format!("{}-{app}.log", self.context.name)))
    }

    async fn stop_child(&self, app: &str) {
        let Some(child) = self.running(app) else { return };
        child.stop(self.config.load().stop_grace).await;
        self.children().remove(app);
        self.write_census();
    }
}

/// What a listing holds: nothing. Who may run what on this machine is no other gateway's business.
#[derive(Serialize, Deserialize)]
struct Seen {}

impl Shape for Seen {
    const KIND: &'static str = "process";

    const VERSION: u32 = 2;
}

/// The provider: a handle, because each running child is watched by a task that shares the rest.
struct ProcessProvider(Arc<Processes>);

#[async_trait]
impl Provider for ProcessProvider {
    async fn list(&self) -> Result<Listing, ProviderError> {
        Listing::of(&Seen {})
    }

    /// The apps are those of the configuration.
    fn learn(&self, listing: &Listing) -> Result<Vec<AppInfo>, ProviderError> {
        let Seen {} = listing.read()?;
        let config = self.0.config.load();
        let info = config.apps.iter().map(|(name, app)| {
            let (status, endpoint) = self.0.status_now(name);
            AppInfo {
                deployed_at: None,
                name: name.clone(),
                key: None,
                aliases: Vec::new(),
                status,
                endpoint,
                left_alone: None,
                settings: app.settings.clone(),
            }
        });
        Ok(info.collect())
    }

    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError> {
        Ok(self.0.status_now(app).0)
    }

    async fn start(&self, app: &str, _: Option<&Formation>, _: &Turn) -> Result<Endpoint, ProviderError> {
        let turn = self.0.turn(app);
        let _turn = turn.lock().await;
        if let Some(child) = self.0.running(app) {
            return Ok(Endpoint::Address(child.address()));
        }
        let config = self.0.config.load_full();
        let spec = config.apps.get(app).ok_or_else(|| ProviderError::NotFound(app.to_owned()))?;
        let port = self.0.port(&config, spec).await?;
        if self.0.closed.load(Ordering::SeqCst) {
            return Err(ProviderError::Refused("the gateway is shutting down".into()));
        }
        let marker = self.0.keeper.as_ref().map(|keeper| keeper.marker());
        let child = Child::spawn(app, spec, port, marker, self.0.log_file(app).as_deref())?;
        let address = child.address();
        self.0.watch(app.to_owned(), child);
        Ok(Endpoint::Address(address))
    }

    async fn before_stop(&self, app: &str, _: &Turn) -> Result<BeforeStop, ProviderError> {
        match self.0.running(app) {
            Some(_) => Ok(BeforeStop::Runs(Formation::single(WEB))),
            None => Ok(BeforeStop::Stopped),
        }
    }

    async fn stop(&self, app: &str, _: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        turn.come();
        let turn = self.0.turn(app);
        let _turn = turn.lock().await;
        self.0.stop_child(app).await;
        Ok(())
    }

    async fn give_up(&self, app: &str) -> Result<(), ProviderError> {
        self.stop(app, &Formation::default(), &Turn::default()).await
    }

    async fn reconfigure(&self, config: &dyn ProviderConfig) -> Result<(), NeedsRestart> {
        let name = &self.0.context.name;
        let Some(config) = config.as_any().downcast_ref::<ProcessConfig>() else {
            return Err(NeedsRestart(format!("the type of provider {name}")));
        };
        let old = self.0.config.load();
        if config.leave_running != old.leave_running {
            return Err(NeedsRestart(format!("leave_running of provider {name}")));
        }
        for (app, new) in &config.apps {
            let differs = old.apps.get(app).is_some_and(|old| !old.starts_like(new));
            if differs && self.0.running(app).is_some() {
                log::info!("{name}/{app} runs on as it was started until it next sleeps");
            }
        }
        self.0.config.store(Arc::new(config.clone()));
        Ok(())
    }

    async fn shutdown(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        if self.0.config.load().leave_running {
            return;
        }
        let apps: Vec<String> = self.0.children().keys().cloned().collect();
        let stops = apps.into_iter().map(|app| {
            let provider = self.0.clone();
            tokio::spawn(async move {
                let turn = provider.turn(&app);
                let _turn = turn.lock().await;
                provider.stop_child(&app).await;
            })
        });
        for stop in stops.collect::<Vec<_>>() {
            let _ = stop.await;
        }
    }
}
