//! `Groups`: the process groups of hooks that run, so that none is left when it should have ended.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::provider::process::keeper::{Keeper, MARKER};

/// What runs now, and the keeper that ends it should this process be killed.
pub struct Groups {
    /// The `loir` program.
    program: Option<PathBuf>,
    keeper: OnceLock<Option<Arc<Keeper>>>,
    running: Mutex<BTreeSet<i32>>,
    closed: AtomicBool,
}

impl Groups {
    /// None so far. The keeper is started with the first one.
    pub fn new(program: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            program,
            keeper: OnceLock::new(),
            running: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The variable by which the keeper knows its own.
    pub(super) fn marker(&self) -> Option<(&'static str, String)> {
        self.keeper().map(|keeper| (MARKER, keeper.marker().to_owned()))
    }

    /// A group that was started. It is killed when the result is dropped.
    pub(super) fn watch(self: &Arc<Self>, group: i32) -> Group {
        self.running().insert(group);
        if let Some(keeper) = self.keeper() {
            keeper.watch(group);
        }
        let watched = Group { groups: self.clone(), group };
        if self.is_closed() {
            watched.signal(Signal::SIGKILL);
        }
        watched
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running().len()
    }

    /// Whether nothing is started any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Kills all that run. Nothing is started any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for &group in self.running().iter() {
            kill(group, Signal::SIGKILL);
        }
    }

    fn keeper(&self) -> Option<&Arc<Keeper>> {
        let start = || {
            let started = Keeper::start(self.program.clone()?);
            started.inspect_err(|error| log::error!("hooks would survive this gateway: {error}")).ok()
        };
        self.keeper.get_or_init(start).as_ref()
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process group. Whatever is left of it is killed when this is dropped.
pub(super) struct Group {
    groups: Arc<Groups>,
    group: i32,
}

impl Group {
    pub fn signal(&self, signal: Signal) {
        kill(self.group, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(keeper) = self.groups.keeper() {
            keeper.forget(self.group);
        }
        self.groups.running().remove(&self.group);
    }
}

fn kill(group: i32, signal: Signal) {
    // ESRCH: it has ended already.
    let _ = killpg(Pid::from_raw(group), signal);
}
