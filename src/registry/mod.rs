//! What is remembered of apps, and by whom it is shared. One file and one row in [`REGISTRIES`] add a registry.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use crate::{
    app::AppId,
    clock::Clock,
    config::{Environment, RegistryEntry, problem::Problems},
};

pub mod dump;
pub mod fleet;
pub(crate) mod folder;
pub mod memory;
pub mod record;
pub mod redis;
pub mod upkeep;

pub use fleet::{Fleet, News};
pub use record::{Change, Record};
pub use upkeep::Upkeep;

/// Keeps one [`Record`] for each app.
///
/// Guarantees: `apply` compares and sets, so of two callers that race only one gets its change; when it returns, the
/// change survives whatever this registry promises to survive. Never called for a request to an awake app.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The record of `app`, if there is one.
    async fn read(&self, app: &AppId) -> Result<Option<Record>, RegistryError>;

    /// Applies `change` to the record of `app` (a new one, if there is none) and returns what became of it. With a
    /// `basis`, only if the record still has that epoch: nobody else has changed it since the caller did.
    async fn apply(&self, app: &AppId, change: Change, basis: Option<u64>) -> Result<Record, RegistryError>;

    /// Gives the record of `from` to `to`, which is the same app under its new name. Nothing happens if there is none.
    async fn rename(&self, from: &AppId, to: &AppId) -> Result<(), RegistryError>;

    /// Forgets `app`, which was taken out of the configuration by a person.
    async fn forget(&self, app: &AppId) -> Result<(), RegistryError>;

    /// Who this gateway is, in records.
    fn me(&self) -> &str;

    /// The other gateways that use the same registry. `None` if there can be none.
    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// Somebody else was faster, or the change does not fit. This is the record as it is.
    #[error("the app is {}", .0.state)]
    Misfit(Box<Record>),
    /// A newer version of Loir wrote the record. It is not touched.
    #[error("a newer version of Loir (records of version {0}) looks after this app: update this gateway")]
    Newer(u32),
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

/// The validated options of the `registry` block.
#[async_trait]
pub trait RegistryConfig: Send + Sync {
    /// Opens it. Only called within a runtime.
    fn open(&self, context: RegistryContext) -> Result<Arc<dyn Registry>, RegistryError>;

    /// Opens it for people, beside the gateways that use it: nothing is joined, and nothing written yet.
    async fn upkeep(&self, context: RegistryContext) -> Result<Box<dyn Upkeep>, RegistryError>;

    /// Whether several gateways may use it at once.
    fn is_shared(&self) -> bool;

    /// The effective options for `loir config show`, without secrets.
    fn show(&self) -> serde_json::Value;

    /// What would open another registry than `other` does, or the same one in another way.
    fn differs(&self, other: &dyn RegistryConfig) -> bool {
        self.is_shared() != other.is_shared() || self.show() != other.show()
    }
}

/// Reads the options of the block; the environment is where well-known variables may be set.
pub type Configure = fn(&RegistryEntry, &Environment, &mut Problems) -> Option<Arc<dyn RegistryConfig>>;

/// One row for each type of registry.
pub struct RegistryKind {
    /// The word after `type:`.
    pub name: &'static str,
    /// One sentence for the docs and for errors.
    pub summary: &'static str,
    /// Reads the block's options; every problem goes to the list.
    pub configure: Configure,
    /// The JSON Schema of the block's options.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// Every type of registry. The first is the one of a file that names none.
pub const REGISTRIES: &[RegistryKind] = &[
    RegistryKind {
        name: "memory",
        summary: "one gateway; records survive a restart if state_dir is set",
        configure: memory::configure,
        schema: memory::schema,
    },
    RegistryKind {
        name: "redis",
        summary: "any number of gateways that share one Redis or Valkey",
        configure: redis::configure,
        schema: redis::schema,
    },
];
