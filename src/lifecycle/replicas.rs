//! `Replicas`: one app in several places.

use std::sync::Arc;

use super::ManagedApp;
use crate::{
    app::AppState,
    clock::{Clock, Millis},
};

/// Where one host name leads: to one app, or to the same app in several places, the preferred one first. Never empty.
pub struct Replicas {
    first: Arc<ManagedApp>,
    others: Vec<Arc<ManagedApp>>,
}

impl From<Arc<ManagedApp>> for Replicas {
    fn from(app: Arc<ManagedApp>) -> Self {
        Self { first: app, others: Vec::new() }
    }
}

impl Replicas {
    /// `None` if there is none.
    pub fn new(apps: impl IntoIterator<Item = Arc<ManagedApp>>) -> Option<Self> {
        let mut apps = apps.into_iter();
        Some(Self { first: apps.next()?, others: apps.collect() })
    }

    /// Every one of them, the preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ManagedApp>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The one for a request: one that is awake, else one that is on its way, else the first that may be woken. One
    /// whose last start failed is not asked before its back-off has passed, as long as there is another.
    pub fn choose(&self, clock: &Clock) -> &Arc<ManagedApp> {
        if self.others.is_empty() {
            return &self.first;
        }
        let now = clock.now();
        self.iter().min_by_key(|app| rank(app, now)).unwrap_or(&self.first)
    }
}

/// Of equals, `min_by_key` takes the first.
fn rank(app: &ManagedApp, now: Millis) -> u8 {
    match app.state() {
        AppState::Awake => 0,
        AppState::Waking => 1,
        _ if app.is_left_alone() => 4,
        AppState::Asleep | AppState::Stopping => 2,
        AppState::Failed => {
            let failure = app.progress().borrow().failure.clone();
            if failure.is_some_and(|failure| now < failure.retry_at) { 3 } else { 2 }
        }
    }
}
