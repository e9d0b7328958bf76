//! `Turn`: how a start or a stop tells whoever asked for it that it has to wait for its turn in the account's budget, and
//! what the provider calls what it does then.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::api::Waits;

/// The turn of one start or stop.
#[derive(Clone, Debug)]
pub struct Turn {
    queue: watch::Sender<Queue>,
    since: Instant,
    operation: Arc<Mutex<Option<Arc<str>>>>,
    /// Milliseconds since 1970; 0 if it was not told.
    deployed: Arc<AtomicU64>,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nothing was asked of the provider yet.
    Ahead,
    /// It will take about so long until it can be asked.
    Waiting(Duration),
    /// It was asked.
    Through,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            queue: watch::Sender::new(Queue::Ahead),
            since: Instant::now(),
            operation: Arc::default(),
            deployed: Arc::default(),
        }
    }
}

impl Turn {
    /// Another turn of something that began with this one.
    pub fn next(&self) -> Self {
        Self { since: self.since, ..Self::default() }
    }

    /// The provider calls what it does now by this name: people find it there.
    pub fn operates(&self, operation: impl Into<Arc<str>>) {
        *self.operation.lock().unwrap_or_else(PoisonError::into_inner) = Some(operation.into());
    }

    /// What the provider calls what it does, if it has told.
    pub fn operation(&self) -> Option<Arc<str>> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The app was deployed last at this moment, as the provider has just said.
    pub fn was_deployed(&self, at: Option<u64>) {
        self.deployed.fetch_max(at.unwrap_or(0), Relaxed);
    }

    /// When the app was deployed last, in milliseconds since 1970, if the provider has told.
    pub fn deployed(&self) -> Option<u64> {
        Some(self.deployed.load(Relaxed)).filter(|at| *at > 0)
    }

    /// How far it has come, with every change from now on.
    pub fn watch(&self) -> watch::Receiver<Queue> {
        self.queue.subscribe()
    }
}

impl Waits for Turn {
    fn since(&self) -> Instant {
        self.since
    }

    fn wait(&self, estimate: Duration) {
        self.queue.send_replace(Queue::Waiting(estimate));
    }

    fn come(&self) {
        self.queue.send_if_modified(|queue| std::mem::replace(queue, Queue::Through) != Queue::Through);
    }
}

/// The first of two calls that a start takes: each of those who are before it makes two as well.
pub struct FirstOfTwo<'a>(pub &'a Turn);

impl Waits for FirstOfTwo<'_> {
    fn since(&self) -> Instant {
        self.0.since()
    }

    fn wait(&self, estimate: Duration) {
        self.0.wait(2 * estimate);
    }

    fn come(&self) {
        self.0.come();
    }
}
