//! `Fleet`: what gateways that share a registry do together, and tell each other.
//!
//! Nothing of it is on the way of a request to an awake app, and nothing of it decides by itself that an app may be stopped:
//! each gateway answers for the requests that it sees ([`Fleet::agree`]).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Record, RegistryError};
use crate::{app::AppId, provider::api::Pool};

/// What a gateway hears.
#[derive(Clone, Debug)]
pub enum News {
    /// The registry can be used (again). Whatever was heard before may have been changed by others meanwhile.
    Joined,
    /// The registry cannot be used: nobody knows what the others do.
    Lost,
    /// Somebody, perhaps this gateway itself, has changed the record of an app.
    Changed(AppId, Record),
    /// The record of an app was taken out.
    Forgotten(AppId),
    /// The owner of an app's stop is asked to give it up if it still can: somebody wants the app.
    Wanted(AppId),
    /// The leader has read what a provider entry lists.
    Listed(String),
    /// What was listed of a provider entry has turned out to be wrong. For the leader.
    Outdated(String),
}

/// What a provider entry listed, for all gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedList {
    /// The provider's own words.
    pub text: String,
    /// How long ago it was asked.
    pub age: Duration,
}

/// Where all live gateways stand in the matter of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Each of them holds newcomers and has nothing in flight.
    Reached,
    /// These have not said anything yet.
    Missing(Vec<String>),
    /// The stop was given up, or somebody else has the app now.
    Off,
}

/// The gateways that share a registry, as one of them sees them.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// The news, for whoever asks first.
    fn news(&self) -> Option<mpsc::UnboundedReceiver<News>>;

    /// The budgets of provider accounts, which all gateways share.
    fn pool(&self) -> Arc<dyn Pool>;

    /// Returns once joining has been tried, with or without success.
    async fn tried(&self);

    /// Whether the registry can be used right now.
    fn sees(&self) -> bool;

    /// Whether apps may be stopped: the registry can be used, and has been for a lease.
    fn may_stop(&self) -> bool;

    /// Whether this gateway sweeps, repairs and lists for all.
    fn leads(&self) -> bool;

    /// How long a wake or a stop is believed to be under way without a word from its owner, and how long a leader leads.
    fn lease(&self) -> Duration;

    /// How often [`used`](Self::used) is to be told.
    fn flush_interval(&self) -> Duration;

    /// The registry's time: milliseconds since 1970, by its own clock.
    fn now(&self) -> u64;

    /// The latest record of an app that this gateway has seen, also in an earlier run if there is a `state_dir`.
    fn known(&self, app: &AppId) -> Option<Record>;

    /// The records of many apps, in their order.
    async fn read_all(&self, apps: &[AppId]) -> Result<Vec<Option<Record>>, RegistryError>;

    /// Each of these apps may be idle after so long, and not before, as far as this gateway knows. A hint: it tells the
    /// leader when to ask.
    async fn used(&self, apps: &[(AppId, Duration)]) -> Result<(), RegistryError>;

    /// Awake apps that may be idle.
    async fn due(&self) -> Result<Vec<AppId>, RegistryError>;

    /// Apps whose wake or stop was abandoned.
    async fn abandoned(&self) -> Result<Vec<AppId>, RegistryError>;

    /// This gateway holds whoever comes for `app` from now on, and has nothing in flight: for the stop that has `epoch`.
    async fn agree(&self, app: &AppId, epoch: u64) -> Result<(), RegistryError>;

    /// Whether all have agreed to the stop of `app` that has `epoch`.
    async fn agreement(&self, app: &AppId, epoch: u64) -> Result<Agreement, RegistryError>;

    /// Returns when somebody has agreed to something, or after a moment.
    async fn heard(&self);

    /// Asks the owner of the stop of `app` to give it up.
    async fn want(&self, app: &AppId);

    /// What the provider entry listed when it was asked, so long ago, for the others.
    async fn share_list(&self, entry: &str, list: &SharedList) -> Result<(), RegistryError>;

    /// What the leader has read last.
    async fn shared_list(&self, entry: &str) -> Result<Option<SharedList>, RegistryError>;

    /// The list of this entry has turned out to be wrong.
    async fn outdated(&self, entry: &str);

    /// This gateway is about to end: another is to lead.
    async fn resign(&self);

    /// This gateway ends: nobody need wait for it.
    async fn leave(&self);
}
