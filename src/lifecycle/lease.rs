//! For as long as this gateway wakes or stops an app, it says so again and again: else another takes over.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, sleep};

use super::{Lifecycle, ManagedApp};
use crate::registry::{Change, RegistryError};

impl Lifecycle {
    /// Renews the lease on `app` for as long as this gateway is at it. Returns once another has it.
    pub(super) async fn keep(&self, app: &ManagedApp) {
        self.keep_since(app, &Mutex::new(Instant::now())).await;
    }

    /// The same, and notes when the lease was asked for that it holds.
    pub(super) async fn keep_since(&self, app: &ManagedApp, held: &Mutex<Instant>) {
        let Some(fleet) = self.fleet() else { return std::future::pending().await };
        let lease = fleet.lease();
        loop {
            sleep(lease / 3).await;
            let (renew, sent) = (Change::Renew { by: self.me(), lease }, Instant::now());
            match self.registry.apply(&app.id, renew, None).await {
                Ok(_) => *held.lock().unwrap_or_else(PoisonError::into_inner) = sent,
                Err(RegistryError::Misfit(record)) => {
                    app.hear(&record);
                    return;
                }
                // A registry that is away keeps nobody from ending a wake that was begun.
                Err(_) => {}
            }
        }
    }
}

/// When the lease was asked for that this gateway holds.
pub(super) fn held_since(held: &Mutex<Instant>) -> Instant {
    *held.lock().unwrap_or_else(PoisonError::into_inner)
}
