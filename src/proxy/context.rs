//! `RequestContext`: what one request carries from phase to phase.

use std::{sync::Arc, time::Duration};

use pingora_proxy::Session;

use super::{connection, forward::Client, hold::Held, request_id::RequestId};
use crate::{
    app::{AppState, Origin},
    clock::Millis,
    config::Server,
    lifecycle::{InFlight, ManagedApp},
};

/// Pingora makes one for each request, as soon as its header is read, and drops it on every way out.
pub struct RequestContext {
    /// The settings when it arrived: a reload is for requests that come after it.
    pub settings: Arc<Server>,
    /// Keeps the app awake until the request has ended. Released by dropping it, never in `logging`, which Pingora
    /// may skip.
    pub in_flight: Option<InFlight>,
    /// The app that it was held for or kept from.
    pub app: Option<Arc<ManagedApp>>,
    /// When its header had been read.
    pub began: Millis,
    /// How long it waited for a wake, if it did.
    pub waited: Option<Duration>,
    /// Bytes of the request's body so far.
    pub body_bytes: u64,
    /// What it met: the app's state when it arrived.
    pub met: Option<AppState>,
    /// The provider's own host for the app, if it is reached at one.
    pub origin: Option<Arc<Origin>>,
    /// The provider's router said that the app does not run, and the provider agrees.
    pub turned_away: bool,
    /// Only the router can have said so, and it has given the request to nobody.
    pub certain: bool,
    /// The provider says that the app runs: its answer is passed on, whatever it looks like.
    pub believed: bool,
    /// What came of waiting again for an app that the router turned away from.
    pub held: Option<Held>,
    request_id: Option<RequestId>,
}

impl RequestContext {
    /// For a request that arrived at `now`.
    pub fn new(now: Millis, settings: Arc<Server>) -> Self {
        Self {
            settings,
            in_flight: None,
            app: None,
            began: now,
            waited: None,
            body_bytes: 0,
            met: None,
            origin: None,
            turned_away: false,
            certain: false,
            believed: false,
            held: None,
            request_id: None,
        }
    }

    /// The app it is for, as far as that is known.
    pub fn app(&self) -> Option<&Arc<ManagedApp>> {
        self.in_flight.as_ref().map(InFlight::app).or(self.app.as_ref())
    }

    /// Whether the app's own host name is kept out of what the visitor sees.
    pub fn contains(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.app().settings().contain)
    }

    /// Its name: a trusted proxy's, or a new one, made when first needed.
    pub fn request_id(&mut self, session: &Session) -> &RequestId {
        self.named(session).0
    }

    /// The same, and the settings.
    pub fn named(&mut self, session: &Session) -> (&RequestId, &Server) {
        let id = self.request_id.get_or_insert_with(|| {
            let trusted = Client::of(session, &self.settings).trusted;
            let given = trusted.then(|| RequestId::given(&session.req_header().headers)).flatten();
            given.unwrap_or_else(RequestId::new)
        });
        (id, &self.settings)
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        connection::request_ended();
    }
}
