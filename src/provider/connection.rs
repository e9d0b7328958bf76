//! `Connection`: an account at a platform, as it is used now; and the provider around it, whose connection a reload may
//! replace.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{
    Accounts, AppInfo, BeforeStop, Listing, NeedsRestart, Provider, ProviderConfig, ProviderContext,
    ProviderError, Turn, api::Account, listing::Shape, paas::PaasConfig,
};
use crate::app::{AppStatus, Endpoint, Formation};

/// One credential at one place, and what was seen with it. What its methods promise stands at [`Provider`].
#[async_trait]
pub trait Connection: Send + Sync + Sized + 'static {
    /// The options of an entry.
    type Config: PaasConfig;

    /// What a listing of such a provider holds.
    type Seen: Shape;

    /// For the entry `name`. Nothing is asked yet. `before` is the connection that this one replaces, for what is true
    /// whoever asks.
    fn open(
        config: Self::Config,
        name: Arc<str>,
        accounts: &Accounts,
        before: Option<&Self>,
    ) -> Result<Self, ProviderError>;

    /// The same credential at the same place, with new options.
    fn with(&self, config: Self::Config) -> Self;

    /// Its options.
    fn config(&self) -> &Self::Config;

    /// What its calls are charged to.
    fn account(&self) -> &Account;

    /// See [`Provider::list`].
    async fn list(self: Arc<Self>) -> Result<Self::Seen, ProviderError>;

    /// See [`Provider::learn`].
    fn learn(&self, seen: Self::Seen) -> Result<Vec<AppInfo>, ProviderError>;

    /// See [`Provider::changed_elsewhere`].
    fn changed_elsewhere(&self, _app: &str) {}

    /// See [`Provider::status`].
    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError>;

    /// See [`Provider::start`].
    async fn start(
        &self,
        app: &str,
        saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError>;

    /// See [`Provider::before_stop`].
    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError>;

    /// See [`Provider::stop`].
    async fn stop(&self, app: &str, formation: &Formation, turn: &Turn) -> Result<(), ProviderError>;
}

/// A provider with a `C`.
pub fn connect<C: Connection>(
    config: &C::Config,
    context: ProviderContext,
) -> Result<Arc<dyn Provider>, ProviderError> {
    let ProviderContext { name, accounts, .. } = context;
    let connection = C::open(config.clone(), name.clone(), &accounts, None)?;
    Ok(Arc::new(Reloadable { name, accounts, connection: ArcSwap::from_pointee(connection) }))
}

/// Whatever is asked of it is asked of the connection of now.
struct Reloadable<C> {
    name: Arc<str>,
    accounts: Arc<Accounts>,
    connection: ArcSwap<C>,
}

#[async_trait]
impl<C: Connection> Provider for Reloadable<C> {
    async fn list(&self) -> Result<Listing, ProviderError> {
        Listing::of(&self.connection.load_full().list().await?)
    }

    fn learn(&self, listing: &Listing) -> Result<Vec<AppInfo>, ProviderError> {
        self.connection.load_full().learn(listing.read()?)
    }

    fn changed_elsewhere(&self, app: &str) {
        self.connection.load().changed_elsewhere(app);
    }

    fn list_every(&self) -> Option<Duration> {
        Some(self.connection.load().config().paas().list_every)
    }

    async fn status(&self, app: &str) -> Result<AppStatus, ProviderError> {
        self.connection.load_full().status(app).await
    }

    async fn start(
        &self,
        app: &str,
        saved: Option<&Formation>,
        turn: &Turn,
    ) -> Result<Endpoint, ProviderError> {
        self.connection.load_full().start(app, saved, turn).await
    }

    async fn before_stop(&self, app: &str, turn: &Turn) -> Result<BeforeStop, ProviderError> {
        self.connection.load_full().before_stop(app, turn).await
    }

    async fn stop(&self, app: &str, formation: &Formation, turn: &Turn) -> Result<(), ProviderError> {
        self.connection.load_full().stop(app, formation, turn).await
    }

    async fn reconfigure(&self, config: &dyn ProviderConfig) -> Result<(), NeedsRestart> {
        let name = &self.name;
        let Some(config) = config.as_any().downcast_ref::<C::Config>() else {
            return Err(NeedsRestart(format!("the type of provider {name}")));
        };
        let old = self.connection.load_full();
        let next = if config.reaches_like(old.config()) {
            // Whatever was refused may be allowed by now: the operator says so.
            old.account().forgive();
            old.account().budget().limit(config.paas().limits);
            old.with(config.clone())
        } else {
            C::open(config.clone(), name.clone(), &self.accounts, Some(&old))
                .map_err(|error| NeedsRestart(format!("provider {name} ({error})")))?
        };
        self.connection.store(Arc::new(next));
        Ok(())
    }
}
