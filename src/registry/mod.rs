//! What is remembered of apps, and by whom it is shared. One file and one row in [`REGISTRIES`] add a registry.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use crate::{
    app::AppId,
    clock::Clock,
    config::{RegistryEntry, problem::Problems},
};

pub mod memory;
pub mod record;

pub use record::{Change, Misfit, Record};

/// Keeps one [`Record`] for each app.
///
/// Guarantees: `apply` compares and sets, so of two callers that race only one gets its change; when it returns, the
/// change survives whatever this registry promises to survive. Never called for a request to an awake app.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The record of `app`, if there is one.
    async fn read(&self, app: &AppId) -> Result<Option<Record>, RegistryError>;

    /// Applies `change` to the record of `app` (a new one, if there is none) and returns what became of it.
    async fn apply(&self, app: &AppId, change: Change) -> Result<Record, RegistryError>;

    /// Gives the record of `from` to `to`, which is the same app under its new name. Nothing happens if there is none.
    async fn rename(&self, from: &AppId, to: &AppId) -> Result<(), RegistryError>;

    /// Forgets `app`, which was taken out of the configuration by a person.
    async fn forget(&self, app: &AppId) -> Result<(), RegistryError>;
}

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// Somebody else was faster, or the change does not fit.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The registry cannot be reached or written. No app may be stopped while that lasts.
    #[error("{0}")]
    Unavailable(String),
}

/// What a registry is given to live with.
pub struct RegistryContext {
    /// Where it may keep files, if anywhere.
    pub state_dir: Option<PathBuf>,
    /// For the times in records.
    pub clock: Clock,
}

/// Opens a registry from its block in the configuration.
pub type Open = fn(&RegistryEntry, RegistryContext) -> Result<Arc<dyn Registry>, RegistryError>;

/// One row for each type of registry.
pub struct RegistryKind {
    /// The word after `type:`.
    pub name: &'static str,
    /// One sentence for the docs and for errors.
    pub summary: &'static str,
    /// Finds every problem in the block's options.
    pub check: fn(&RegistryEntry, &mut Problems),
    /// Opens it.
    pub open: Open,
}

/// Every type of registry.
pub const REGISTRIES: &[RegistryKind] = &[RegistryKind {
    name: "memory",
    summary: "one gateway; records survive a restart if state_dir is set",
    check: memory::check,
    open: memory::open,
}];
