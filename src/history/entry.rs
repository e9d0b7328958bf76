//! An event as it is kept, and shown to whoever asks; and an hour of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    app::AppId,
    lifecycle::{Cause, Event, Happening},
};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When: wall-clock milliseconds since 1970.
    pub at: u64,
    /// To which app.
    pub app: AppId,
    /// What, in one word: `ready`, `asleep` and so on.
    pub event: String,
    /// In words, for people.
    pub text: String,
    /// Why.
    pub cause: Cause,
    /// The wake or the stop that it belongs to: all of its events have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Arc<str>>,
    /// How long it took, in milliseconds: a boot, a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
    /// The gateway that saw it.
    pub gateway: Arc<str>,
    /// What the provider calls what it did about it, where it has a name for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Arc<str>>,
}

impl From<&Happening> for Entry {
    fn from(happening: &Happening) -> Self {
        let took = match &happening.event {
            Event::Ready(took) | Event::Asleep(took) => u64::try_from(took.as_millis()).ok(),
            _ => None,
        };
        Self {
            at: happening.at,
            app: happening.app.clone(),
            event: happening.event.name().to_owned(),
            text: happening.event.to_string(),
            cause: happening.cause(),
            run: happening.run.as_ref().map(|run| run.id.clone()),
            took,
            gateway: happening.gateway.clone(),
            operation: happening.operation.clone(),
        }
    }
}

/// An hour of an app, by the clock in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// When it began: wall-clock milliseconds since 1970, a whole hour.
    pub at: u64,
    /// How many seconds of it the app was awake, from the start that was asked for to the stop that its provider confirmed.
    pub awake_seconds: u32,
    /// How often it was woken.
    pub wakes: u32,
    /// How many of these failed.
    pub failed_wakes: u32,
    /// The median of its boots, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_p50: Option<u64>,
    /// What 95 of 100 boots took at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_p95: Option<u64>,
    /// Requests, of all gateways together.
    pub requests: u64,
}
