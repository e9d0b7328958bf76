//! `Line`: what waits for one hook, in order, off to the side.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};

use super::{
    Hook, Message, Outcome, Shared,
    message::{MOST_APPS, WOULD_SLEEP},
    output::TARGET,
};
use crate::history::Entry;

/// So many messages wait for one hook. More are counted, told in the log, and lost.
const LONGEST: usize = 256;

/// What is stopped within this time is one sweep.
const ONE_SWEEP: Duration = Duration::from_secs(2);

/// One hook and what waits for it.
pub(super) struct Line {
    pub hook: Arc<Hook>,
    shared: Arc<Shared>,
    waiting: Mutex<Option<mpsc::Sender<Message>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    sweep: Mutex<Swept>,
    /// Lost since the line was last not full.
    lost: AtomicU64,
}

#[derive(Default)]
struct Swept {
    apps: Vec<Entry>,
    more: usize,
}

impl Line {
    /// An empty one, and its worker.
    pub fn new(hook: Arc<Hook>, shared: Arc<Shared>) -> Arc<Self> {
        let (sender, mut waiting) = mpsc::channel(LONGEST);
        let (doer, means) = (hook.clone(), shared.clone());
        let worker = shared.tasks.spawn(async move {
            while let Some(message) = waiting.recv().await {
                means.tell(&doer, &message).await;
            }
        });
        Arc::new(Self {
            hook,
            shared,
            waiting: Mutex::new(Some(sender)),
            worker: Mutex::new(Some(worker)),
            sweep: Mutex::default(),
            lost: AtomicU64::new(0),
        })
    }

    /// Queues a message. Never waits.
    pub fn push(&self, message: Message) {
        let Some(sender) = lock(&self.waiting).clone() else { return };
        let (phase, name) = (message.phase, &self.hook.name);
        match sender.try_send(message) {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    log::warn!(target: TARGET, "{name}: {lost} messages were lost while too many waited");
                }
            }
            Err(TrySendError::Full(_)) => {
                self.shared.counts.add(phase, Outcome::Dropped);
                if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::error!(target: TARGET, "{name}: {LONGEST} messages wait already: the next ones are lost");
                }
            }
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Notes what a sweep has done. The message is queued once the sweep is over.
    pub fn swept(self: &Arc<Self>, entry: Entry) {
        let begins = {
            let mut swept = lock(&self.sweep);
            let begins = swept.apps.is_empty();
            // `dry_run` may say the same of an app again and again.
            let again = |other: &Entry| entry.event == WOULD_SLEEP && other.app == entry.app;
            if swept.apps.len() >= MOST_APPS {
                swept.more += 1;
            } else if !swept.apps.iter().any(again) {
                swept.apps.push(entry);
            }
            begins
        };
        if begins {
            let line = self.clone();
            self.shared.tasks.spawn(async move {
                tokio::time::sleep(ONE_SWEEP).await;
                line.end_sweep();
            });
        }
    }

    fn end_sweep(&self) {
        let Swept { apps, more } = std::mem::take(&mut *lock(&self.sweep));
        if let Some(message) = Message::of_sweep(apps, more) {
            self.push(message);
        }
    }

    /// Nothing more is taken. What waits is still told.
    pub fn close(&self) -> Option<JoinHandle<()>> {
        self.end_sweep();
        drop(lock(&self.waiting).take());
        lock(&self.worker).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
