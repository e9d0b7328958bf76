//! `RequestContext`: what one request carries from phase to phase.

use std::time::Duration;

use super::connection;
use crate::{app::AppState, clock::Millis, lifecycle::InFlight};

/// Pingora makes one for each request, as soon as its header is read, and drops it on every way out.
pub struct RequestContext {
    /// Keeps the app awake until the request has ended. Released by dropping it, never in `logging`, which Pingora
    /// may skip.
    pub in_flight: Option<InFlight>,
    /// When its header had been read.
    pub began: Millis,
    /// How long it waited for a wake, if it did.
    pub waited: Option<Duration>,
    /// Bytes of the request's body so far.
    pub body_bytes: u64,
    /// What it met: the app's state when it arrived.
    pub met: Option<AppState>,
    /// Names the request in logs, in the app's log and on our own answers. Made when first needed.
    pub request_id: Option<String>,
}

impl RequestContext {
    /// For a request that arrived at `now`.
    pub fn new(now: Millis) -> Self {
        Self { in_flight: None, began: now, waited: None, body_bytes: 0, met: None, request_id: None }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        connection::request_ended();
    }
}
