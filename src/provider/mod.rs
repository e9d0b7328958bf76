//! Where apps run. One file and one row in [`PROVIDERS`] add a provider.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    app::{AppStatus, Endpoint, Formation, Readiness, StopTypes},
    config::{
        Environment, ProviderEntry,
        problem::{At, Problems},
    },
};

pub mod api;
pub mod clever_cloud;
mod connection;
pub mod heroku;
mod latest;
mod listing;
mod paas;
pub mod process;
mod restore;
pub mod scalingo;
mod settings;
mod stopping;
mod turn;

pub use api::{Accounts, Calls};
pub use listing::Listing;
pub use turn::{FirstOfTwo, Queue, Turn};

/// What runs apps: an account at a PaaS, or this machine.
///
/// Guarantees every implementation gives: `start` and `stop` are safe to repeat; a failed or partial `list` is an
/// error, never a shorter list, and so is one that `learn` cannot read; a word that is not understood is
/// [`AppStatus::Unknown`]. No error text and no listing carries a secret. All `async` methods may take seconds; none is
/// ever called for a request to an app that answers.
///
/// Apps of an account are known by the listing that was learned last, not by one that was only asked for; before, they are
/// [`NotFound`](ProviderError::NotFound).
#[async_trait]
pub trait Provider: Send + Sync {
    /// Asks for every app, in one pass. Who wants to know what the answer says, here or elsewhere, learns it.
    async fn list(&self) -> Result<Listing, ProviderError>;

    /// Takes a listing for what there is, whoever asked for it: this provider, that of another gateway with the same
    /// entry, or an earlier one that left it on the disk. Asks nobody. What the other methods need to know of the apps
    /// is remembered, and what apps there are is said: the same listing, the same apps.
    fn learn(&self, listing: &Listing) -> Result<Vec<AppInfo>, ProviderError>;

    /// How long until the next `list`. `None` where the configuration is the list: then it only changes by a reload,
    /// and an app that is taken out of it is stopped.
    fn list_every(&self) -> Option<Duration> {
        None
    }

    /// What the provider says of one app right now.
    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError>;

    /// Starts the app as `formation` says (as the provider sees fit, if none is known), unless it runs already, and
    /// returns where it will answer. Returning means "asked for", not "ready": our own probe tells that.
    async fn start(
        &self,
        app: &str,
        formation: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError>;

    /// The last look before a stop: what must come back at the next start, or why the app must not be stopped now. Says on `turn`
    /// when the app was deployed last, if the look has told.
    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError>;

    /// Stops the types of `formation` (what [`before_stop`](Self::before_stop) saw, and has been kept), and returns
    /// when the provider has confirmed it. May be given up for as long as `turn` is not through.
    async fn stop(&self, app: &str, formation: &Formation, turn: &Turn) -> Result<(), ProviderError>;

    /// Another gateway has started or stopped the app, or has seen that it runs or does not: what is remembered of it may be
    /// wrong.
    fn changed_elsewhere(&self, _app: &str) {}

    /// A start has failed. What must not go on running is stopped: by default nothing, since a PaaS goes on trying by
    /// itself, and whoever looks at a half-started app there wants to find it.
    async fn give_up(&self, _app: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Takes the new options of the same entry after a reload. The next `list` tells the difference.
    async fn reconfigure(&self, config: &dyn ProviderConfig) -> Result<(), NeedsRestart>;

    /// The gateway is about to end: stops what must not outlive it.
    async fn shutdown(&self) {}
}

/// What the last look before a stop has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeforeStop {
    /// It runs like this: what must come back.
    Runs(Formation),
    /// It does not run, so there is nothing to stop.
    Stopped,
    /// It must not be stopped now (a deployment, a one-off command), for this reason.
    Busy(String),
}

/// An app as its provider lists it.
#[derive(Clone, Debug)]
pub struct AppInfo {
    /// The app's name at the provider, as it stands in host names: `NAME.DOMAIN`.
    pub name: String,
    /// What never changes at the provider, also when the app is renamed.
    pub key: Option<String>,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// What the provider says of it.
    pub status: AppStatus,
    /// Where it is reached. A local app has no address while it does not run.
    pub endpoint: Option<Endpoint>,
    /// When it was deployed last, in milliseconds since 1970, where the list tells.
    pub deployed_at: Option<u64>,
    /// Why it is neither woken nor stopped, for operators: never deployed, blocked, in maintenance.
    pub left_alone: Option<String>,
    /// What the entry says of this app beside the defaults.
    pub settings: AppSettings,
}

/// What a provider entry may say of one app, beside the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSettings {
    /// Where the entry says something of this very app, as `conf/loir.yaml:12`, if it does.
    pub place: Option<Arc<str>>,
    /// Host names beside `NAME.DOMAIN`.
    pub hosts: Vec<String>,
    /// Overrides the rules.
    pub idle_timeout: Option<Duration>,
    /// Overrides the rules.
    pub wake_timeout: Option<Duration>,
    /// Which answer to our probe counts as ready.
    pub ready: Readiness,
    /// Which process types are stopped. Overrides the rules.
    pub stop: Option<StopTypes>,
    /// Whether the app's own host name is kept out of what visitors see.
    pub contain: bool,
    /// What holds for all apps of the entry about which neither they themselves nor the rules say something.
    pub entry: EntrySettings,
}

/// What a provider entry says of all its apps, beside the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntrySettings {
    /// Overrides `defaults.wake_timeout`.
    pub wake_timeout: Option<Duration>,
    /// Which process types are stopped, if it says so.
    pub stop: Option<StopTypes>,
}

/// A moment that an API tells as RFC 3339, in milliseconds since 1970.
pub(crate) fn instant(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}

/// Something happened to an app that nobody asked for.
#[derive(Clone, Debug)]
pub struct ProviderEvent {
    /// The provider entry's name.
    pub provider: Arc<str>,
    /// The app's name there.
    pub app: String,
    /// It ended by itself; the reason is for the operator.
    pub exited: String,
}

/// What a provider is given to live with.
#[derive(Clone)]
pub struct ProviderContext {
    /// The entry's name.
    pub name: Arc<str>,
    /// Where it may keep files of its own, if anywhere.
    pub state_dir: Option<PathBuf>,
    /// The `loir` program, for a provider that needs a second process. `None` where Loir is used as a library.
    pub program: Option<PathBuf>,
    /// Where it reports what happened.
    pub events: mpsc::UnboundedSender<ProviderEvent>,
    /// The accounts of all entries, since several may use one.
    pub accounts: Arc<Accounts>,
}

/// The validated options of one provider entry.
pub trait ProviderConfig: Send + Sync {
    /// The apps that are written down in the entry. Empty where the provider's API lists them.
    fn declared(&self) -> Vec<DeclaredApp> {
        Vec::new()
    }

    /// The ports of this machine that the entry claims, and where it says so.
    fn ports(&self) -> Vec<(u16, At)> {
        Vec::new()
    }

    /// If the entry cannot do without `state_dir`: where it says what needs it, and why.
    fn needs_state_dir(&self) -> Option<(At, &'static str)> {
        None
    }

    /// Whether its apps run on the gateway's own machine, so that no other gateway can reach or stop them.
    fn is_of_this_machine(&self) -> bool {
        false
    }

    /// Signs in, as it were. Nothing is started or stopped by it.
    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError>;

    /// The effective options for `loir config show`, without secrets.
    fn show(&self) -> serde_json::Value;

    /// For [`Provider::reconfigure`].
    fn as_any(&self) -> &dyn std::any::Any;
}

/// An app that is written down, with where it stands in the file.
#[derive(Clone, Debug)]
pub struct DeclaredApp {
    /// The app's name.
    pub name: String,
    /// Where the name stands.
    pub at: At,
    /// Each further host name, and where it stands.
    pub hosts: Vec<(String, At)>,
}

/// Reads the options of an entry; the environment is where the names of the platform's own tools may be set.
pub type Configure = fn(&ProviderEntry, &Environment, &mut Problems) -> Option<Arc<dyn ProviderConfig>>;

/// One row for each type of provider: its name, its documentation, and how its options are read.
pub struct ProviderKind {
    /// The word after `type:`.
    pub name: &'static str,
    /// One sentence for the docs and for errors.
    pub summary: &'static str,
    /// Reads the options of an entry; every problem goes to the list, and then the result is only
    /// good for finding more of them.
    pub configure: Configure,
    /// The JSON Schema of an entry of this type.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// Every type of provider. The text "unknown provider type", the JSON Schema and the docs come from here.
pub const PROVIDERS: &[ProviderKind] = &[
    ProviderKind {
        name: "process",
        summary: "child processes of the gateway on this machine",
        configure: process::configure,
        schema: process::schema,
    },
    ProviderKind {
        name: "scalingo",
        summary: "apps of a Scalingo account in one region, or in all",
        configure: scalingo::configure,
        schema: scalingo::schema,
    },
    ProviderKind {
        name: "clever_cloud",
        summary: "apps that a Clever Cloud credential sees, or those of one organisation",
        configure: clever_cloud::configure,
        schema: clever_cloud::schema,
    },
    ProviderKind {
        name: "heroku",
        summary: "apps of a Heroku account, or of one of its teams",
        configure: heroku::configure,
        schema: heroku::schema,
    },
];

/// What a provider answers when it cannot do what it was asked. Shown to operators, never to the public.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// The provider has no such app.
    #[error("there is no app {0} at this provider")]
    NotFound(String),
    /// The account cannot be used until somebody changes the configuration: a wrong or expired credential.
    #[error("{0}")]
    Misconfigured(String),
    /// It was refused, with the reason. Trying again changes nothing.
    #[error("{0}")]
    Refused(String),
    /// The provider cannot be asked right now, or does not want to be: it is down, or the account's quota is used up.
    #[error("{0}")]
    Unavailable(String),
    /// It did not work this time.
    #[error("{0}")]
    Failed(String),
}

/// What a running gateway cannot change about itself, in words: "server.listen".
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0} needs a restart")]
pub struct NeedsRestart(pub String);
