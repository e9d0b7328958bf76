//! The composition root: the only room that sees every other room.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | a process: runtimes, signals, the order of things at start and end |
//! | `running` | a gateway that runs: how it is put together, reloaded and ended |
//! | `roster` | who is there: asks providers for their apps, and builds the routes |
//! | `allowance` | which apps are beyond the plan |
//! | `recollection` | what providers listed last, for when one cannot be asked |
//! | `load` | from a text to a plan |
//! | `logging` | log lines |
//! | `health` | `loir healthcheck` |
//! | `notify` | what systemd is told |
//! | `online` | `loir check --online` |
//! | `upkeep` | `loir registry dump`, `restore`, `repair` |
//!
//! Pingora's `Server` is not used: it sleeps its whole grace period at every end, panics when a port is taken, and has
//! no reload. What it is made of (`Service`, `HttpProxy`, `BackgroundService`) is, and runs the same here and in tests.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

mod allowance;
mod health;
pub mod load;
pub mod logging;
mod notify;
mod online;
mod recollection;
mod roster;
mod running;
mod upkeep;
mod usage;

pub use health::healthcheck;
pub use load::{Plan, Source, load};
pub use online::check_online;
pub use running::{Gear, Running, StartError};
pub use upkeep::{Chore, Outcome, tend};

use crate::{
    clock::Clock,
    config::{self, Environment},
};

/// Runs a gateway in the foreground until SIGTERM or SIGINT. SIGHUP reads `path` again.
pub fn run(path: PathBuf, plan: Plan) -> ExitCode {
    logging::init(logging::Style::Operator);
    let again =
        || Source::read(&path).and_then(|source| load(source, &environment()).map_err(|e| e.to_string()));
    run_with(plan, "set server.listen or PORT to another address, or end what listens there", |_| (), again)
}

/// The process's environment, for interpolation. Names and values that are not Unicode cannot be named in YAML.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Runs `plan`; calls `ready` once clients are accepted, and `reload` for each SIGHUP. `other_address` says what to do
/// if the address is taken.
pub fn run_with(
    plan: Plan,
    other_address: &str,
    ready: impl FnOnce(SocketAddr),
    reload: impl Fn() -> Result<Plan, String>,
) -> ExitCode {
    raise_open_files(plan.config.server.limits.connections);
    match runtimes(plan.config.server.threads) {
        Ok((edge, control)) => {
            let code = control.block_on(serve(&edge, plan, other_address, ready, reload));
            // Whatever is left was given its time.
            edge.shutdown_background();
            control.shutdown_background();
            code
        }
        Err(error) => fail(&format!("cannot start threads: {error}")),
    }
}

/// Raises the soft limit of open files to the hard one: the usual 1024 is a few hundred clients. Each may need two, its
/// own connection and that to the app.
fn raise_open_files(connections: usize) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    let limit = match raised {
        Ok((soft, hard)) => {
            log::debug!("the limit of open files is {hard}; it was {soft}");
            hard
        }
        Err(error) => {
            log::warn!("the limit of open files cannot be raised: {error}");
            getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
        }
    };
    let needed = connections.saturating_mul(2);
    if limit < needed as u64 {
        log::warn!(
            "{limit} open files are allowed, and server.limits.connections: {connections} may need {needed}: raise the              limit (`ulimit -n {needed}`, in a systemd unit LimitNOFILE={needed}), or allow fewer connections"
        );
    }
}

/// Requests run on one runtime; wakes, stops and children on another, so that neither waits for the other.
fn runtimes(threads: usize) -> std::io::Result<(Runtime, Runtime)> {
    let edge =
        Builder::new_multi_thread().worker_threads(threads).thread_name("edge").enable_all().build()?;
    let control =
        Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    Ok((edge, control))
}

async fn serve(
    edge: &Runtime,
    plan: Plan,
    other_address: &str,
    ready: impl FnOnce(SocketAddr),
    reload: impl Fn() -> Result<Plan, String>,
) -> ExitCode {
    let address = plan.config.server.listen;
    let (mut signals, listener) = match (Signals::new(), TcpListener::bind(address)) {
        (Ok(signals), Ok(listener)) => (signals, listener),
        (Err(error), _) => return fail(&format!("cannot listen for signals: {error}")),
        (_, Err(error)) => {
            return fail(&format!("cannot listen on {address}: {error} ({other_address})"));
        }
    };
    let gear =
        Gear { clock: Clock::system(), edge: edge.handle().clone(), program: std::env::current_exe().ok() };
    let mut running = match Running::start(listener, plan, gear).await {
        Ok(running) => running,
        Err(error) => return fail(&error.to_string()),
    };
    log::info!("listening on {}", running.address());
    ready(running.address());
    if let Err(error) = running.serve_admin_as_usual() {
        let address = config::admin::DEFAULT;
        log::warn!("no admin side: {address}: {error} (set admin.listen to another address, or to off)");
    }
    notify::ready(&format!("listening on {}", running.address()));
    let _pings = notify::watchdog(edge.handle().clone());
    loop {
        let (wish, tell) = tokio::select! {
            wish = signals.next() => (wish, None),
            tell = running.reload_wanted() => (Wish::Reload, Some(tell)),
        };
        if matches!(wish, Wish::End) {
            break;
        }
        notify::reloading();
        let outcome = match reload() {
            Ok(plan) => tokio::select! {
                () = running.reload(plan) => Ok(()),
                // What is left of the reload does not matter any more.
                () = signals.end() => break,
            },
            Err(problems) => {
                log::error!("the configuration is not reloaded and the old one stays:\n{problems}");
                Err(problems)
            }
        };
        notify::ready(match &outcome {
            Ok(()) => "the configuration is reloaded",
            Err(_) => "the configuration has problems, and the old one stays: see the log",
        });
        running.reloaded(outcome.is_ok());
        if let Some(tell) = tell {
            // Whoever asked may be gone.
            let _ = tell.send(outcome);
        }
    }
    notify::stopping();
    tokio::select! {
        () = running.end() => ExitCode::SUCCESS,
        // Somebody is in a hurry. The keeper ends the children.
        () = signals.end() => ExitCode::FAILURE,
    }
}

fn fail(text: &str) -> ExitCode {
    if log::log_enabled!(log::Level::Error) {
        log::error!("{text}");
    } else {
        eprintln!("loir: {text}");
    }
    ExitCode::FAILURE
}

enum Wish {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
        }
    }

    /// A SIGHUP that comes meanwhile is kept for [`next`](Self::next).
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where the state of a gateway is kept, if anywhere: made absolute once, so that nothing depends on where we stand.
fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(&path).unwrap_or(path))
}
