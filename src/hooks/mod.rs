//! Commands and webhooks that are run, or asked, when an app is started or stopped.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Hooks`: the witness that tells them, and the guard that asks them |
//! | `hook` | `Hook`: when, for whom, and what is done |
//! | `message` | `Message`: what a hook is told |
//! | `line` | `Line`: what waits for one hook, in order, off to the side |
//! | `command` | a command: a process group of its own, bounded in time and in what it prints |
//! | `output` | what commands print |
//! | `groups` | the process groups that run now |
//! | `webhook` | a webhook: sent by HTTP, signed, and sent again |
//! | `preset` | the forms that Slack, Discord and Healthchecks expect |
//! | `counts` | `Counts`: what has come of it all |
//! | `trial` | `loir hooks test` |
//!
//! What is asked (`before_start`, `before_stop`) is a part of the wake or the stop that asks. All else waits in a bounded line of
//! its own for each hook: no wake, no stop and no request ever waits for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

use crate::{
    clock::Clock,
    history::Entry,
    lifecycle::{Cause, Event, Happening, ManagedApp, Run, Witness, guard::Guard},
    routing::Rules,
};

mod command;
mod counts;
mod groups;
mod hook;
mod line;
mod message;
mod output;
mod preset;
pub mod trial;
pub mod webhook;

pub use counts::{Counts, Outcome};
use groups::Groups;
pub use hook::{Action, Fit, Hook, Phase, Preset, Whom};
use line::Line;
pub use message::Message;
pub use output::TARGET;

/// So many commands that are only told something run at once.
const AT_ONCE: usize = 4;

/// So many commands that are asked about starts run at once, and as many about stops: neither waits for the other.
const ASKED_AT_ONCE: usize = 16;

/// How long what waits may still be told when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The hooks of a gateway. A handle: clones are the same.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    lines: ArcSwap<Vec<Arc<Line>>>,
    rules: ArcSwap<Rules>,
}

/// What every hook needs.
struct Shared {
    tasks: Handle,
    clock: Clock,
    gateway: Arc<str>,
    groups: Arc<Groups>,
    client: reqwest::Client,
    counts: Counts,
    told: Semaphore,
    starts: Semaphore,
    stops: Semaphore,
}

/// A hook has not done its work.
#[derive(Debug)]
struct Failed {
    /// Why, for operators. Names no address and no secret of ours.
    reason: String,
    timed_out: bool,
}

impl Hooks {
    /// Runs `hooks` on `tasks`, for the apps that they, or `rules`, say. `gateway` is what this one is called in events, and `program` the `loir` program, for the keeper
    /// that ends commands if this process is killed.
    ///
    /// # Errors
    ///
    /// In words, if no HTTP client can be had.
    pub fn new(
        hooks: Vec<Hook>,
        rules: Arc<Rules>,
        tasks: Handle,
        clock: Clock,
        gateway: &str,
        program: Option<PathBuf>,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            tasks,
            clock,
            gateway: gateway.into(),
            groups: Groups::new(program),
            client: webhook::client()?,
            counts: Counts::default(),
            told: Semaphore::new(AT_ONCE),
            starts: Semaphore::new(ASKED_AT_ONCE),
            stops: Semaphore::new(ASKED_AT_ONCE),
        });
        let these = Self(Arc::new(Inner { shared, lines: ArcSwap::default(), rules: ArcSwap::default() }));
        these.set(hooks, rules);
        Ok(these)
    }

    /// Takes over other hooks. What waits for one that stays as it was goes on to wait; what waits for one that is gone is
    /// still told.
    pub fn set(&self, hooks: Vec<Hook>, rules: Arc<Rules>) {
        self.0.rules.store(rules);
        let old = self.0.lines.load();
        let next: Vec<_> = hooks
            .into_iter()
            .map(|hook| match old.iter().find(|line| *line.hook == hook) {
                Some(line) => line.clone(),
                None => Line::new(Arc::new(hook), self.0.shared.clone()),
            })
            .collect();
        for gone in old.iter().filter(|line| !next.iter().any(|next| Arc::ptr_eq(line, next))) {
            drop(gone.close());
        }
        self.0.lines.store(Arc::new(next));
    }

    /// What has come of them, since the gateway began.
    pub fn counts(&self) -> &Counts {
        &self.0.shared.counts
    }

    /// How many commands run now.
    pub fn running(&self) -> usize {
        self.0.shared.groups.count()
    }

    /// Nothing more is taken. What waits has two seconds to be told, then whatever still runs is killed.
    pub async fn end(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let workers: Vec<_> =
            self.0.lines.swap(Arc::default()).iter().filter_map(|line| line.close()).collect();
        for mut worker in workers {
            if tokio::time::timeout_at(deadline, &mut worker).await.is_err() {
                worker.abort();
            }
        }
        self.0.shared.groups.close();
    }

    /// Asks every command that is due, one after the other.
    async fn ask(&self, phase: Phase, app: &ManagedApp, run: &Run) -> Result<(), String> {
        let (lines, rules) = (self.0.lines.load_full(), self.0.rules.load_full());
        let shared = &self.0.shared;
        let mut message = None;
        for line in lines.iter().filter(|line| line.hook.is_due(phase, &app.id, &rules)) {
            let Action::Command { .. } = &line.hook.action else { continue };
            let message = message.get_or_insert_with(|| {
                Message::before(phase, app, run, shared.clock.unix_millis(), &shared.gateway)
            });
            let places = if phase == Phase::BeforeStart { &shared.starts } else { &shared.stops };
            let _place = places.acquire().await;
            shared
                .run(&line.hook, message)
                .await
                .map_err(|failed| format!("hook {}: {}", line.hook.name, failed.reason))?;
        }
        Ok(())
    }
}

impl Shared {
    /// Tells a hook, and the log if that failed.
    async fn tell(&self, hook: &Hook, message: &Message) {
        let _place = match hook.action {
            Action::Command { .. } => Some(self.told.acquire().await),
            Action::Webhook { .. } => None,
        };
        if let Err(Failed { reason, .. }) = self.run(hook, message).await {
            let (phase, app) = (message.phase.name(), &message.entry.app);
            log::warn!(target: TARGET, hook = &*hook.name, phase = phase; "{}: {phase} of {app}: {reason}", hook.name);
        }
    }

    async fn run(&self, hook: &Hook, message: &Message) -> Result<(), Failed> {
        let mut counted = Counted { counts: &self.counts, phase: message.phase, outcome: Outcome::GivenUp };
        let label = format!("{}: {}", hook.name, message.entry.app);
        let result = match &hook.action {
            Action::Command { command, env } => {
                command::run(command, env, hook.timeout, &label, message, &self.groups).await
            }
            Action::Webhook { url, preset, secret, retries, backoff } => {
                let target = webhook::Target {
                    url,
                    preset: *preset,
                    secret: secret.as_ref(),
                    timeout: hook.timeout,
                    retries: *retries,
                    backoff: *backoff,
                };
                webhook::deliver(&self.client, &target, message, &self.clock, &label).await
            }
        };
        counted.outcome = match &result {
            Ok(()) => Outcome::Ok,
            Err(failed) if failed.timed_out => Outcome::TimedOut,
            Err(_) => Outcome::Failed,
        };
        result
    }
}

/// Counts a run when it is over, or nobody waits for it any more.
struct Counted<'a> {
    counts: &'a Counts,
    phase: Phase,
    outcome: Outcome,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counts.add(self.phase, self.outcome);
    }
}

impl Witness for Hooks {
    fn see(&self, happening: &Happening) {
        let lines = self.0.lines.load();
        // The gateway that does it has its own hooks.
        if lines.is_empty() || matches!(happening.cause(), Cause::Fleet) {
            return;
        }
        let phase = match &happening.event {
            // Healthchecks want to know when something begins; commands are asked before that, as a part of the wake.
            Event::Waking => Some(Phase::BeforeStart),
            event => Phase::after(event),
        };
        let rules = self.0.rules.load();
        if let Some(phase) = phase {
            let mut message = None;
            for line in lines.iter().filter(|line| line.hook.is_due(phase, &happening.app, &rules)) {
                if phase.asks() && matches!(line.hook.action, Action::Command { .. }) {
                    continue;
                }
                let message =
                    message.get_or_insert_with(|| Message::new(phase, Entry::from(happening))).clone();
                line.push(message);
            }
        }
        if is_of_a_sweep(happening) {
            for line in lines.iter().filter(|line| line.hook.is_due(Phase::Sweep, &happening.app, &rules)) {
                line.swept(Entry::from(happening));
            }
        }
    }
}

/// Whether the gateway has done it by itself, or would have.
fn is_of_a_sweep(happening: &Happening) -> bool {
    match &happening.event {
        Event::WouldSleep(_) => true,
        Event::Asleep(_) => matches!(
            happening.cause(),
            Cause::Idle { .. } | Cause::Schedule { .. } | Cause::Group { .. } | Cause::Limit { .. }
        ),
        _ => false,
    }
}

#[async_trait]
impl Guard for Hooks {
    async fn before_start(&self, app: &ManagedApp, run: &Run) -> Result<(), String> {
        self.ask(Phase::BeforeStart, app, run).await
    }

    async fn before_stop(&self, app: &ManagedApp, run: &Run) -> Result<(), String> {
        self.ask(Phase::BeforeStop, app, run).await
    }
}
