//! Who may object to a start or a stop that is about to be made.

use async_trait::async_trait;

use super::{ManagedApp, Run};

/// Is asked before a provider is told to start or stop an app. An error, in words for operators, keeps it from being done.
///
/// The answer may take its time; a stop is given up meanwhile if somebody wants the app, and a wake goes on to its timeout.
/// Whoever waits for the answer may stop waiting at any moment: the future is dropped then.
#[async_trait]
pub trait Guard: Send + Sync {
    /// Whether the app may be started.
    async fn before_start(&self, app: &ManagedApp, run: &Run) -> Result<(), String>;
    /// Whether the app may be stopped.
    async fn before_stop(&self, app: &ManagedApp, run: &Run) -> Result<(), String>;
}

/// Objects to nothing.
pub struct Unguarded;

#[async_trait]
impl Guard for Unguarded {
    async fn before_start(&self, _: &ManagedApp, _: &Run) -> Result<(), String> {
        Ok(())
    }
    async fn before_stop(&self, _: &ManagedApp, _: &Run) -> Result<(), String> {
        Ok(())
    }
}
