//! A pin: until then an app is not stopped because it is idle, by a schedule, with its group or for a limit. It is kept in the
//! app's record, so that every gateway knows it, also after a restart.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Cause, Event, Lifecycle, ManagedApp};
use crate::registry::{Change, RegistryError};

/// A wake or a stop that is under way is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why an app was not pinned, or its pin not taken out.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It is being woken or stopped, and that takes longer than anybody waits here.
    #[error("it is {0} right now: try again when that is over")]
    Busy(crate::app::AppState),
    /// The registry cannot keep it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Lifecycle {
    /// Keeps `app` from being stopped until then, in milliseconds since 1970 by the clock on the wall. It is not woken by that.
    ///
    /// # Errors
    ///
    /// If the app stays in the middle of a wake or a stop for some seconds, or the registry is away.
    pub async fn pin(
        self: &Arc<Self>,
        app: &Arc<ManagedApp>,
        until: u64,
        cause: Cause,
    ) -> Result<(), PinError> {
        self.set_pin(app, Some(until)).await?;
        self.happened(app, Event::Pinned { until, by: cause });
        Ok(())
    }

    /// Takes the pin out. Whether there was one is all the same.
    ///
    /// # Errors
    ///
    /// As for [`pin`](Self::pin).
    pub async fn unpin(self: &Arc<Self>, app: &Arc<ManagedApp>, cause: Cause) -> Result<(), PinError> {
        self.set_pin(app, None).await?;
        self.happened(app, Event::Unpinned(cause));
        Ok(())
    }

    async fn set_pin(self: &Arc<Self>, app: &Arc<ManagedApp>, until: Option<u64>) -> Result<(), PinError> {
        let limit = Instant::now() + PATIENCE;
        loop {
            // Its order is held for as long as it is being stopped here.
            if let Ok(_order) = app.order.try_lock() {
                match self.registry.apply(&app.id, Change::Pin { until }, None).await {
                    Ok(record) if self.fleet().is_some() => {
                        // The cell may have yet to follow what came before.
                        app.hear(&record);
                        self.catch_up_in_order(app).await;
                        return Ok(());
                    }
                    Ok(record) => {
                        app.remember(&record);
                        return Ok(());
                    }
                    Err(RegistryError::Misfit(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if Instant::now() >= limit {
                return Err(PinError::Busy(app.state()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
