//! What has happened: every event with its cause, kept by retention and rolled up by the hour.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | the trait `Store`, the table `HISTORIES` |
//! | `handle` | `History`, the one that everybody tells and asks |
//! | `waiting` | what is not written yet, up to a bound, and what was lost beyond it |
//! | `writer` | the task that writes, again and again while the store is away |
//! | `sampler` | once a minute: who was used, and who sleeps |
//! | `entry` | an event, as it is kept and shown |
//! | `tally` | what is counted in an hour of an app |
//! | `pack` | a day of such hours in few bytes |
//! | `query` | what is asked |
//! | `report` | what sleeping was good for: hours, money, energy, CO2e; `factors` has the numbers, `text` the words |
//! | `replay` | what another idle time would have done |
//! | `memory`, `sqlite`, `postgres` | the stores; `sql` is what the last two share |
//!
//! Nothing here is on the way of a request to an awake app: its counters are read once a minute. Nothing that tells the history
//! something waits for the store.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use crate::{
    app::AppId,
    config::{HistoryConfig, Pattern},
};

pub mod entry;
pub mod factors;
mod handle;
pub mod memory;
pub mod pack;
pub mod postgres;
pub mod query;
pub mod replay;
pub mod report;
mod sampler;
mod sql;
pub mod sqlite;
pub mod tally;
mod text;
mod waiting;
mod writer;

pub use entry::{Entry, EventId};
pub use handle::History;
pub use query::{Answer, Query};
pub use replay::WhatIf;
pub use report::{Report, ReportRequest};
pub use tally::{Hour, Tally};
pub use waiting::Gap;

/// What is written at once: all of it, or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The gateway's run.
    pub writer: i64,
    /// One more than that of the batch before. One that was written already, though nobody was told so, is not written again.
    pub number: i64,
    /// In the order in which they happened.
    pub entries: Vec<Arc<Entry>>,
    /// What is to be added to the hour that begins then (milliseconds since 1970) of an app.
    pub tallies: Vec<(AppId, u64, Tally)>,
}

impl Batch {
    /// When the last thing in it happened: milliseconds since 1970.
    pub fn at(&self) -> u64 {
        let entries = self.entries.iter().map(|entry| entry.at);
        entries.chain(self.tallies.iter().map(|(_, hour, _)| *hour)).max().unwrap_or(0)
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, read or written now. The same may succeed later.
    #[error("{0}")]
    Away(String),
    /// It will never take this.
    #[error("{0}")]
    Refused(String),
}

/// Keeps events, and hours of apps.
///
/// Guarantees: [`record`](Store::record) takes a batch whole or not at all, and one that is told twice counts once. Several gateways may
/// use one store if it is shared; then their hours add up. A store that is not there yet is opened by the first call that finds
/// it; opening never blocks.
#[async_trait]
pub trait Store: Send + Sync {
    /// The word after `type:`.
    fn name(&self) -> &'static str;

    /// Keeps a batch.
    async fn record(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Finds events, the newest first, at most as many as [`Query::limit`] says.
    async fn events(&self, query: &Query) -> Result<Vec<Entry>, StoreError>;

    /// The hours that begin from `from` on and before `to`, of the apps that fit: by app, and then by time.
    async fn hours(
        &self,
        apps: Option<&Pattern>,
        from: u64,
        to: u64,
    ) -> Result<Vec<(AppId, u64, Tally)>, StoreError>;

    /// Forgets events before one moment, and hours that began before another. Whole days of hours go at once.
    async fn prune(&self, events: u64, hours: u64) -> Result<(), StoreError>;
}

/// What a store is given to live with.
#[derive(Clone, Debug, Default)]
pub struct HistoryContext {
    /// Where it may keep files, if anywhere.
    pub state_dir: Option<PathBuf>,
}

/// One row for each type of store.
pub struct HistoryKind {
    /// The word after `type:`.
    pub name: &'static str,
    /// One sentence for the docs and for errors.
    pub summary: &'static str,
    /// Makes it ready to be opened by its first call.
    pub open: fn(&HistoryConfig, &HistoryContext) -> Arc<dyn Store>,
}

/// Every type of store.
pub const HISTORIES: &[HistoryKind] = &[
    HistoryKind {
        name: "memory",
        summary: "the latest events and the hours of each app, gone when the gateway ends",
        open: |_, _| Arc::new(memory::Memory::default()),
    },
    HistoryKind {
        name: "sqlite",
        summary: "a file of this gateway's own",
        open: |config, context| Arc::new(sqlite::SqliteStore::open(config, context)),
    },
    HistoryKind {
        name: "postgres",
        summary: "a database that several gateways may share",
        open: |config, _| Arc::new(postgres::PostgresStore::open(config)),
    },
];
