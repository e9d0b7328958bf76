//! `Calls`: how many calls were made to providers, for metrics.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::Priority;

/// Calls since the gateway began, every try counted: by the kind of provider, what the call was for, and the status of the
/// answer, 0 if there was none. As many numbers as there are combinations that have come up; statuses are what providers send.
#[derive(Debug, Default)]
pub struct Calls(Mutex<BTreeMap<(String, &'static str, u16), u64>>);

impl Calls {
    pub(super) fn count(&self, kind: &str, priority: Priority, status: u16) {
        let purpose = match priority {
            Priority::Wake => "wake",
            Priority::Readiness => "readiness",
            Priority::Stop => "stop",
            Priority::List => "list",
        };
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry((kind.to_owned(), purpose, status)).or_default() += 1;
    }

    /// The kind of provider, what for (`wake`, `readiness`, `stop`, `list`), the status, and how many.
    pub fn all(&self) -> Vec<(String, &'static str, u16, u64)> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .iter()
            .map(|((kind, purpose, status), calls)| (kind.clone(), *purpose, *status, *calls))
            .collect()
    }
}
