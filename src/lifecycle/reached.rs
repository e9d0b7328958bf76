//! `Reached`: where the run of now of an app is reached.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::resolver::Addresses;
use crate::app::{Endpoint, Origin};

/// Where an awake app is reached.
#[derive(Clone)]
pub struct Reached {
    /// As the provider says.
    pub endpoint: Endpoint,
    addresses: Option<Arc<Addresses>>,
    /// Differs for every run of every app: pooled connections of one are never used for another.
    pub run: u64,
}

impl Reached {
    pub(super) fn new(endpoint: Endpoint, addresses: Option<Arc<Addresses>>, run: u64) -> Self {
        Self { endpoint, addresses, run }
    }

    /// The address to connect to. `None` if DNS has never known the origin.
    pub fn address(&self) -> Option<SocketAddr> {
        match (&self.endpoint, &self.addresses) {
            (Endpoint::Address(address), _) => Some(*address),
            (Endpoint::Origin(origin), Some(addresses)) => {
                addresses.pick().map(|ip| SocketAddr::new(ip, origin.port))
            }
            (Endpoint::Origin(_), None) => None,
        }
    }

    /// The origin, for an app at a provider's router.
    pub fn origin(&self) -> Option<&Origin> {
        match &self.endpoint {
            Endpoint::Address(_) => None,
            Endpoint::Origin(origin) => Some(origin),
        }
    }

    /// `failed` cannot be connected to: another address is picked from now on. Whether there is one.
    pub fn skip(&self, failed: IpAddr) -> bool {
        self.addresses.as_ref().is_some_and(|addresses| addresses.skip(failed))
    }

    /// Returns once DNS has been asked, for an app that was reached a moment ago.
    pub async fn looked_up(&self) {
        if let Some(addresses) = &self.addresses {
            addresses.asked().await;
        }
    }
}
