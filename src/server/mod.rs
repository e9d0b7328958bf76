//! The composition root: the only room that sees every other room.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | a process: runtimes, signals, the order of things at start and end |
//! | `running` | a gateway that runs: how it is put together, reloaded and ended |
//! | `load` | from a text to a plan |
//! | `logging` | log lines |
//! | `health` | `loir healthcheck` |
//!
//! Pingora's `Server` is not used: it sleeps its whole grace period at every end, panics when a port is taken, and has
//! no reload. What it is made of (`Service`, `HttpProxy`, `BackgroundService`) is, and runs the same here and in tests.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

mod health;
pub mod load;
pub mod logging;
mod running;

pub use health::healthcheck;
pub use load::{Plan, Source, load};
pub use running::{Gear, Running, StartError};

use crate::{clock::Clock, config::Environment};

/// Runs a gateway in the foreground until SIGTERM or SIGINT. SIGHUP reads `path` again.
pub fn run(path: PathBuf, plan: Plan) -> ExitCode {
    logging::init(logging::Style::Operator);
    let again =
        || Source::read(&path).and_then(|source| load(source, &environment()).map_err(|e| e.to_string()));
    run_with(plan, |_| (), again)
}

/// The process's environment, for interpolation. Names and values that are not Unicode cannot be named in YAML.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Runs `plan`; calls `ready` once clients are accepted, and `reload` for each SIGHUP.
pub fn run_with(
    plan: Plan,
    ready: impl FnOnce(SocketAddr),
    reload: impl Fn() -> Result<Plan, String>,
) -> ExitCode {
    match runtimes(plan.config.server.threads) {
        Ok((edge, control)) => {
            let code = control.block_on(serve(&edge, plan, ready, reload));
            // Whatever is left was given its time.
            edge.shutdown_background();
            control.shutdown_background();
            code
        }
        Err(error) => fail(&format!("cannot start threads: {error}")),
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
    ready: impl FnOnce(SocketAddr),
    reload: impl Fn() -> Result<Plan, String>,
) -> ExitCode {
    let address = plan.config.server.listen;
    let (mut signals, listener) = match (Signals::new(), TcpListener::bind(address)) {
        (Ok(signals), Ok(listener)) => (signals, listener),
        (Err(error), _) => return fail(&format!("cannot listen for signals: {error}")),
        (_, Err(error)) => {
            let hint = "set server.listen or PORT to another address, or end what listens there";
            return fail(&format!("cannot listen on {address}: {error} ({hint})"));
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
    while let Wish::Reload = signals.next().await {
        match reload() {
            Ok(plan) => running.reload(plan).await,
            Err(problems) => {
                log::error!("the configuration is not reloaded and the old one stays:\n{problems}")
            }
        }
    }
    tokio::select! {
        () = running.end() => ExitCode::SUCCESS,
        // Somebody is in a hurry. The keeper ends the children.
        () = signals.end() => ExitCode::FAILURE,
    }
}

fn fail(text: &str) -> ExitCode {
    log::error!("{text}");
    // The logger may be set to say nothing at all.
    eprintln!("loir: {text}");
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

    async fn end(&mut self) {
        while !matches!(self.next().await, Wish::End) {}
    }
}

/// Where the state of a gateway is kept, if anywhere: made absolute once, so that nothing depends on where we stand.
fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(&path).unwrap_or(path))
}
