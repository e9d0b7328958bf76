//! One request, from top to bottom. Start reading at [`Gateway`]'s `ProxyHttp` methods: they stand in the order in
//! which Pingora calls them.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Gateway: impl ProxyHttp` |
//! | `context` | what one request carries |
//! | `connection` | what holds for a client's connection |
//! | `limits` | what is refused whoever it is for |
//! | `host` | which host it is for |
//! | `audience` | who asks, and what they understand |
//! | `forward` | to the app: the peer, and what the app is told |
//! | `hold` | waiting with a client for its app |
//! | `respond` | our own answers |
//! | `reserved` | the paths under `/.loir/` |
//! | `holding` | the pages |
//! | `access` | the access log |
//! | `drain` | the end of the gateway |

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use pingora_core::{Error, ErrorSource, ErrorType, Result, upstreams::peer::HttpPeer};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

mod access;
mod audience;
mod connection;
mod context;
mod drain;
mod forward;
mod hold;
pub mod holding;
mod host;
mod limits;
mod reserved;
mod respond;

pub use access::TARGET as ACCESS_TARGET;
pub use connection::{Edge, OpenConnections};
pub use context::RequestContext;
pub use drain::{Drain, Draining};
pub use reserved::LIVE;

use access::AccessLog;
use audience::Audience;
use host::{BadHost, HostName};
use respond::Answer;

use crate::{
    app::AppState,
    clock::Clock,
    config::{self, Server},
    lifecycle::{Admission, Lifecycle, ManagedApp},
    routing::RouteTable,
};

/// The gateway. A handle: clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    lifecycle: Arc<Lifecycle>,
    clock: Clock,
    routes: ArcSwap<RouteTable<ManagedApp>>,
    settings: ArcSwap<Server>,
    pages: holding::Pages,
    access: AccessLog,
    streams: reserved::EventStreams,
    draining: Draining,
    /// What we call ourselves in `Via`, to know our own requests when they come back.
    via: String,
}

/// The gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A built-in page is broken.
    #[error(transparent)]
    Pages(#[from] holding::PagesError),
    /// The thread of the access log cannot be started.
    #[error("cannot start the access log: {0}")]
    AccessLog(std::io::Error),
}

impl Gateway {
    /// A gateway without routes.
    pub fn new(lifecycle: Arc<Lifecycle>, clock: Clock, settings: Server) -> Result<Self, GatewayError> {
        Ok(Self(Arc::new(Inner {
            lifecycle,
            clock,
            routes: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings),
            pages: holding::Pages::new()?,
            access: AccessLog::start().map_err(GatewayError::AccessLog)?,
            streams: reserved::EventStreams::default(),
            draining: Draining::default(),
            via: format!("loir-{:08x}", fastrand::u32(..)),
        })))
    }

    /// Replaces the routes. Requests in flight go on as they began.
    pub fn set_routes(&self, routes: RouteTable<ManagedApp>) {
        self.0.routes.store(Arc::new(routes));
    }

    /// Replaces what may change without a restart.
    pub fn set_settings(&self, settings: Server) {
        self.0.settings.store(Arc::new(settings));
    }

    /// The settings of now. Not to be held across an `await`.
    pub fn settings(&self) -> Guard<Arc<Server>> {
        self.0.settings.load()
    }

    /// The clock it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// For a request that waits.
    pub fn drain(&self) -> Drain {
        self.0.draining.listen()
    }

    /// For whoever ends the gateway.
    pub fn draining(&self) -> &Draining {
        &self.0.draining
    }
}

/// What `request_filter` answers to Pingora: whether we have answered the client ourselves.
const ANSWERED: bool = true;
const FORWARD: bool = false;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        connection::header_read();
        RequestContext::new(self.0.clock.now())
    }

    /// Limits that hold whatever the request is for.
    async fn early_request_filter(&self, session: &mut Session, _: &mut RequestContext) -> Result<()> {
        let settings = self.settings();
        // Without this a connection stays open for ever once its first request is done (cloudflare/pingora#447).
        let keep_alive = settings.timeouts.keep_alive.as_secs().max(1);
        // Pingora has said no to a client that wants or needs to be closed: HTTP/1.0, or two lengths in one request.
        let goes_on = !session.is_process_shutting_down() && session.get_keepalive().is_some();
        session.set_keepalive(goes_on.then_some(keep_alive));
        // After an upgrade this bounds the silence of a WebSocket.
        let upgrade = session.is_upgrade_req();
        session.set_read_timeout(Some(if upgrade {
            settings.timeouts.stream
        } else {
            settings.timeouts.client_read
        }));
        session.set_write_timeout(Some(settings.timeouts.client_write));
        Ok(())
    }

    /// Questions with early answers: is it sound, is it ours, whose is it, may it pass.
    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
        let unsound = limits::unsound(session.req_header(), &self.settings().limits, &self.0.via);
        if let Some((status, detail)) = unsound {
            return self.error(session, ctx, status, detail).await;
        }
        let host = match HostName::of(session.req_header()) {
            Ok(host) => host,
            Err(BadHost::Missing) => {
                return self.error(session, ctx, 400, "The request names no host.").await;
            }
            Err(BadHost::Malformed) => {
                return self.error(session, ctx, 400, "The Host is not a host name.").await;
            }
        };
        if session.req_header().uri.path().starts_with(reserved::PREFIX) {
            return self.reserved(session, ctx, &host).await;
        }
        match self.admit(&host, session.req_header()) {
            None => self.error(session, ctx, 404, "No app here has this host name.").await,
            Some(Admission::Forward(in_flight)) => {
                ctx.in_flight = Some(in_flight);
                ctx.met = Some(AppState::Awake);
                Ok(FORWARD)
            }
            Some(Admission::Hold(waking)) => {
                ctx.met = Some(waking.app().state());
                self.hold(session, ctx, waking).await
            }
            Some(Admission::Refuse(refused)) => {
                ctx.met = Some(refused.app.state());
                self.refuse(session, ctx, refused).await
            }
        }
    }

    /// The app's own address, which is already resolved.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let reached = ctx.in_flight.as_ref().and_then(|in_flight| in_flight.app().reached());
        match reached {
            Some(reached) => Ok(Box::new(forward::peer(reached, &self.settings(), session.req_header()))),
            // It crashed between its admission and now.
            None => Error::e_explain(ErrorType::HTTPStatus(502), "the app is gone"),
        }
    }

    /// What the app is told of the client.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(address) = forward::client(session).map(|client| client.ip()) else {
            return forward::tell(request, &unknown_client(self.request_id(session, ctx)), &self.0.via);
        };
        let trusted = forward::is_trusted(address, &self.settings());
        let port =
            session.server_addr().and_then(|address| address.as_inet()).map_or(80, |address| address.port());
        let request_id = self.request_id(session, ctx);
        forward::tell(request, &forward::Client { address, trusted, port, request_id }, &self.0.via)
    }

    /// Counts a body that did not say how long it is.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        // What flows after an upgrade is no body, and `is_upgrade_req` would be true for any client that says so.
        if ctx.body_bytes > self.settings().limits.body && !session.was_upgraded() {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is too large").into_down());
        }
        Ok(())
    }

    /// A response that waited says how long.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        forward::fit_version(session, response);
        match ctx.waited {
            Some(waited) if !response.status.is_informational() => {
                response.insert_header(respond::COLD_START, forward::seconds(waited))
            }
            _ => Ok(()),
        }
    }

    /// Nobody listens where the app should be: perhaps it ended, and we have not heard of it yet.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        if let Some(in_flight) = &ctx.in_flight {
            self.0.lifecycle.doubt(in_flight.app());
        }
        error
    }

    /// Something went wrong, and nothing has been sent yet, or too much.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let status = status_of(error);
        if status != 0 && session.response_written().is_none_or(|response| response.status.is_informational())
        {
            let detail = match status {
                502 => "The app cannot be reached, or its answer makes no sense.",
                504 => "The app did not answer in time.",
                413 => "The request's body is larger than this gateway lets through.",
                408 => "The request's body did not arrive in time.",
                _ => "The request could not be handled.",
            };
            session.set_keepalive(None);
            if let Err(error) = self.error(session, ctx, status, detail).await {
                log::debug!("an error could not be sent: {error}");
            }
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// The access log.
    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        let settings = self.settings();
        if settings.access_log != config::AccessLog::Off {
            let request_id = self.request_id(session, ctx).to_owned();
            let duration = self.0.clock.now().since(ctx.began);
            self.0.access.write(access::Line::of(session, ctx, &settings, request_id, duration));
        }
    }

    /// For Pingora's own log lines: never a query, which may hold a secret.
    fn request_summary(&self, session: &Session, ctx: &RequestContext) -> String {
        let request = session.req_header();
        let app = ctx
            .in_flight
            .as_ref()
            .map_or_else(|| "no app".into(), |in_flight| in_flight.app().id.to_string());
        format!("{} {} for {app}", request.method, request.uri.path())
    }

    /// A client that goes away is no error of ours.
    fn suppress_error_log(&self, _: &Session, _: &RequestContext, error: &Error) -> bool {
        *error.esource() == ErrorSource::Downstream
    }
}

impl Gateway {
    /// Finds the app and asks whether the request may pass. `None` if nobody here has that name.
    fn admit(&self, host: &HostName, request: &RequestHeader) -> Option<Admission> {
        let routes = self.0.routes.load();
        let app = routes.find(host.as_str())?;
        Some(self.0.lifecycle.admit(app, audience::demand(request)))
    }

    async fn reserved(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        host: &HostName,
    ) -> Result<bool> {
        let app = self.0.routes.load().find(host.as_str()).cloned();
        let reads = matches!(session.req_header().method, Method::GET | Method::HEAD);
        let path = session.req_header().uri.path();
        match (path, app) {
            (LIVE, _) if reads => {
                reserved::small(session, "text/plain; charset=utf-8", "none", "live\n".into()).await?;
            }
            (reserved::STATUS, Some(app)) if reads => reserved::status(self, session, &app).await?,
            (reserved::EVENTS, Some(app)) if session.req_header().method == Method::GET => {
                let limit = self.settings().limits.event_streams;
                if !reserved::events(self, session, &app, &self.0.streams, limit).await? {
                    let detail = "Too many pages listen already: ask /.loir/status now and then instead.";
                    return self.error(session, ctx, 503, detail).await;
                }
            }
            _ => return self.error(session, ctx, 404, "There is nothing here.").await,
        }
        Ok(ANSWERED)
    }

    async fn error(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        status: u16,
        detail: &'static str,
    ) -> Result<bool> {
        let audience = audience::audience(session.req_header());
        let reference = self.request_id(session, ctx).to_owned();
        let answer = Answer { state: ctx.met, ..Answer::error(status, detail, &reference) };
        self.send(session, ctx, audience, answer).await
    }

    async fn send(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        audience: Audience,
        answer: Answer<'_>,
    ) -> Result<bool> {
        let request_id = self.request_id(session, ctx).to_owned();
        answer.send(session, &self.0.pages, audience, &request_id).await?;
        Ok(ANSWERED)
    }

    /// The request's id: a trusted proxy's, or a new one.
    fn request_id<'a>(&self, session: &Session, ctx: &'a mut RequestContext) -> &'a str {
        ctx.request_id.get_or_insert_with(|| {
            let client = forward::client(session).map(|client| client.ip());
            let trusted = client.is_some_and(|client| forward::is_trusted(client, &self.settings()));
            let given = trusted.then(|| forward::given_request_id(&session.req_header().headers)).flatten();
            given.unwrap_or_else(forward::new_request_id)
        })
    }
}

/// A client without an address, as over a Unix socket.
fn unknown_client(request_id: &str) -> forward::Client<'_> {
    forward::Client { address: std::net::Ipv4Addr::LOCALHOST.into(), trusted: false, port: 80, request_id }
}

/// The status for a client when proxying went wrong; 0 if there is nobody to tell.
fn status_of(error: &Error) -> u16 {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, TLSHandshakeTimedout,
        WriteError, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(status)) => *status,
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout) => 504,
        (ErrorSource::Upstream, _) => 502,
        (ErrorSource::Downstream, ReadTimedout) => 408,
        (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError | WriteTimedout) => 0,
        (ErrorSource::Downstream, _) => 400,
        (ErrorSource::Internal | ErrorSource::Unset, _) => 502,
    }
}
