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
//! | `permission` | what the rules say of a request |
//! | `anyway` | the path by which a link or a person wakes an app |
//! | `request_id` | the name of a request |
//! | `forward` | to the app: the peer, and what the app is told |
//! | `origin` | an app at a provider's router: its own name there, the visitor's here |
//! | `hold` | waiting with a client for its app |
//! | `containment` | the app's own host name, kept out of what visitors see |
//! | `turned_away` | a provider's router says that the app does not run |
//! | `respond` | our own answers |
//! | `notice` | the answers to those for whom an app is not woken |
//! | `aside` | a host name that is no app's: the admin side |
//! | `reserved` | the paths under `/.loir/` |
//! | `holding` | the pages |
//! | `access` | the access log |
//! | `tokens` | tokens of the admin side, kept from apps |
//! | `drain` | the end of the gateway |

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::{
    Error, ErrorSource, ErrorType, Result,
    upstreams::peer::{HttpPeer, Peer},
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

mod access;
mod anyway;
mod aside;
mod audience;
mod connection;
mod containment;
mod context;
mod drain;
mod forward;
mod hold;
pub mod holding;
mod host;
mod limits;
mod notice;
mod origin;
mod permission;
mod request_id;
mod reserved;
mod respond;
mod tokens;
mod turned_away;

pub use access::TARGET as ACCESS_TARGET;
pub use aside::Aside;
pub use connection::{Edge, OpenConnections};
pub use context::RequestContext;
pub use drain::{Drain, Draining};
pub use reserved::LIVE;

use access::AccessLog;
use audience::Audience;
use host::HostName;
use respond::{Answer, Problem};

use crate::{
    app::{AppState, Author},
    clock::Clock,
    config::{self, Server},
    credentials::Credentials,
    lifecycle::{Admission, Cause, Demand, Lifecycle, ManagedApp, Refusal, Refused, Replicas},
    routing::{RouteTable, rules::Access},
};

/// The gateway. A handle: clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    lifecycle: Arc<Lifecycle>,
    clock: Clock,
    routes: ArcSwap<RouteTable<Replicas>>,
    settings: ArcSwap<Server>,
    pages: holding::Pages,
    access: AccessLog,
    streams: reserved::EventStreams,
    draining: Draining,
    via: forward::Via,
    credentials: Arc<Credentials>,
    aside: OnceLock<Arc<dyn Aside>>,
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
    pub fn new(
        lifecycle: Arc<Lifecycle>,
        clock: Clock,
        settings: Server,
        credentials: Arc<Credentials>,
    ) -> Result<Self, GatewayError> {
        Ok(Self(Arc::new(Inner {
            lifecycle,
            clock,
            routes: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings),
            pages: holding::Pages::new()?,
            access: AccessLog::start().map_err(GatewayError::AccessLog)?,
            streams: reserved::EventStreams::default(),
            draining: Draining::default(),
            via: forward::Via::new(),
            credentials,
            aside: OnceLock::new(),
        })))
    }

    /// Replaces the routes. Requests in flight go on as they began.
    pub fn set_routes(&self, routes: RouteTable<Replicas>) {
        self.0.routes.store(Arc::new(routes));
    }

    /// Replaces what may change without a restart.
    pub fn set_settings(&self, settings: Server) {
        self.0.settings.store(Arc::new(settings));
    }

    /// The settings of now, for what is no request (that one has its own). Not to be held across an `await`.
    pub fn settings(&self) -> Guard<Arc<Server>> {
        self.0.settings.load()
    }

    /// The clock it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Tokens and signed links: who may wake what is not for everybody to wake.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.0.credentials
    }

    /// Says who answers under a host name that is no app's. Once.
    pub fn set_aside(&self, aside: Arc<dyn Aside>) {
        // A second one would be a mistake of ours, and is not heard.
        let _ = self.0.aside.set(aside);
    }

    /// Writes what the access log still holds. For whoever ends the gateway, once it has.
    pub fn flush_access_log(&self) {
        self.0.access.flush();
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
        RequestContext::new(self.0.clock.now(), self.0.settings.load_full())
    }

    /// Limits that hold whatever the request is for.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
        let timeouts = &ctx.settings.timeouts;
        // Without this a connection stays open for ever once its first request is done (cloudflare/pingora#447).
        let keep_alive = timeouts.keep_alive.as_secs().max(1);
        // Pingora has said no to a client that wants or needs to be closed: HTTP/1.0, or two lengths in one request.
        let goes_on = !session.is_process_shutting_down() && session.get_keepalive().is_some();
        session.set_keepalive(goes_on.then_some(keep_alive));
        session.set_read_timeout(Some(timeouts.client_read));
        session.set_write_timeout(Some(timeouts.client_write));
        Ok(())
    }

    /// Questions with early answers: is it sound, is it ours, whose is it, may it pass.
    ///
    /// Whatever is not forwarded at once is boxed, so that the future of a warm request stays small.
    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
        let unsound = limits::unsound(session.req_header(), &ctx.settings.limits, &self.0.via);
        if let Some(problem) = unsound {
            return Box::pin(self.error(session, ctx, problem)).await;
        }
        if self.is_aside(session.req_header()) && session.req_header().uri.path() != reserved::LIVE {
            return match Box::pin(self.go_aside(session, ctx)).await? {
                Ok(()) => Ok(ANSWERED),
                Err(problem) => Box::pin(self.error(session, ctx, problem)).await,
            };
        }
        if session.req_header().uri.path().starts_with(reserved::PREFIX) {
            return Box::pin(self.reserved(session, ctx)).await;
        }
        match self.admit(session, ctx) {
            Err(problem) => Box::pin(self.error(session, ctx, problem)).await,
            Ok(Admission::Forward(in_flight)) => {
                ctx.in_flight = Some(in_flight);
                ctx.met = Some(AppState::Awake);
                Ok(FORWARD)
            }
            Ok(admission) => Box::pin(self.hold(session, ctx, admission)).await,
        }
    }

    /// The app's own address, which is already resolved.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        if ctx.turned_away {
            Box::pin(self.come_again(session, ctx)).await?;
        }
        if let Some(in_flight) = &ctx.in_flight
            && let Some(reached) = in_flight.app().reached().as_deref()
            && let Some(address) = reached.address()
        {
            ctx.origin = origin::of(reached);
            let peer = forward::peer(reached, address, &ctx.settings, session.req_header());
            return Ok(Box::new(peer));
        }
        Box::pin(self.look_up(session, ctx)).await
    }

    /// What the app is told of the client.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let client = forward::Client::of(session, &ctx.settings);
        tokens::withhold(request, &self.0.credentials)?;
        forward::tell(request, &client, ctx.request_id(session), &self.0.via)?;
        match &ctx.origin {
            Some(origin) => origin::to_origin(request, session, &client, origin, ctx.contains()),
            None => Ok(()),
        }
    }

    /// Whose answer it is: that of a provider's router, for an app that does not run, becomes a wake.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        match &ctx.origin {
            Some(origin) if !ctx.believed => {
                let status = response.status.as_u16();
                match origin.router.author(status, &response.headers) {
                    Author::App => Ok(()),
                    author => Box::pin(self.doubt_answer(session, ctx, author, status)).await,
                }
            }
            _ => Ok(()),
        }
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
        if ctx.body_bytes > ctx.settings.limits.body && !session.was_upgraded() {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is too large").into_down());
        }
        Ok(())
    }

    /// What the client is told of the app: a response that waited says how long.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if let Some(in_flight) = &mut ctx.in_flight {
            in_flight.answered();
        }
        forward::clean(response);
        if let Some(origin) = ctx.origin.as_ref().filter(|_| ctx.contains()) {
            let client = forward::Client::of(session, &ctx.settings);
            origin::contain(response, session, &client, origin)?;
        }
        forward::fit_version(session, response);
        forward::allow_silence(session, response, &ctx.settings);
        match ctx.waited {
            Some(waited) if !response.status.is_informational() => {
                response.insert_header(respond::COLD_START, forward::seconds(waited))
            }
            _ => Ok(()),
        }
    }

    /// Nobody listens where the app should be: perhaps it ended, and we have not heard of it yet. But when we have no
    /// socket left, that says nothing about the app.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(in_flight) = &ctx.in_flight
            && !is_our_own_lack(&error)
        {
            let app = in_flight.app();
            let failed = peer.address().as_inet().map(|address| address.ip());
            let reached = app.reached();
            match failed.zip(reached.as_deref()) {
                // Nothing was sent yet, and the name has another address.
                Some((failed, reached)) if reached.skip(failed) => error.set_retry(true),
                _ => self.0.lifecycle.doubt(app),
            }
        }
        error
    }

    /// The connection was there. A request that a provider's router turned away may come again, if nothing is lost by it.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let whole = !session.as_ref().retry_buffer_truncated();
        if ctx.turned_away {
            // The router has not given it to anybody. But what it was told of a body it may have read.
            let untouched = ctx.certain && ctx.body_bytes == 0;
            error.set_retry(whole && (session.req_header().method.is_idempotent() || untouched));
        } else if whole && session.req_header().method.is_idempotent() {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
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
        if let Some(held) = self.turned_away(session, ctx) {
            session.set_keepalive(None);
            if let Err(error) = Box::pin(self.tell(session, ctx, held)).await {
                log::debug!("an error could not be sent: {error}");
            }
            return FailToProxy { error_code: 503, can_reuse_downstream: false };
        }
        let status = status_of(error);
        if status != 0 && session.response_written().is_none_or(|response| response.status.is_informational())
        {
            let detail = match status {
                502 => "The app cannot be reached, or its answer makes no sense.",
                504 => "The app did not answer in time.",
                413 => "The request's body is larger than this gateway lets through.",
                503 => "The gateway has too much to do to reach the app: try again in a moment.",
                408 => "The request's body did not arrive in time.",
                _ => "The request could not be handled.",
            };
            session.set_keepalive(None);
            if let Err(error) = self.error(session, ctx, Problem::new(status, detail)).await {
                log::debug!("an error could not be sent: {error}");
            }
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// The access log.
    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        if let Some(app) = ctx.app() {
            let status = session.response_written().map_or(0, |response| response.status.as_u16());
            app.traffic().count(status, self.0.clock.now().since(ctx.began));
        }
        if ctx.settings.access_log != config::AccessLog::Off {
            let request_id = ctx.request_id(session).as_str().to_owned();
            let duration = self.0.clock.now().since(ctx.began);
            self.0.access.write(access::Line::of(session, ctx, request_id, duration));
        }
    }

    /// For Pingora's own log lines: never a query, which may hold a secret.
    fn request_summary(&self, session: &Session, ctx: &RequestContext) -> String {
        let request = session.req_header();
        let app = ctx.app().map_or_else(|| "no app".into(), |app| app.id.to_string());
        format!("{} {} for {app}", request.method, request.uri.path())
    }

    /// A request that comes again because a router turned it away is no fault of anybody's.
    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        ctx: &RequestContext,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        ctx.turned_away
    }

    /// A client that goes away is no error of ours.
    fn suppress_error_log(&self, _: &Session, ctx: &RequestContext, error: &Error) -> bool {
        *error.esource() == ErrorSource::Downstream || ctx.turned_away
    }
}

impl Gateway {
    /// Finds the app and asks whether the request may pass.
    fn admit(&self, session: &Session, ctx: &mut RequestContext) -> Result<Admission, Problem> {
        let request = session.req_header();
        let host = HostName::of(request)?;
        let routes = self.0.routes.load();
        let replicas =
            routes.find(host.as_str()).ok_or(Problem::new(404, "No app here has this host name."))?;
        let app = replicas.choose(&self.0.clock);
        ctx.met = Some(app.state());
        let settings = app.glance();
        let mut demand = audience::demand(request);
        if let Some(no_wake) = &settings.ruling.no_wake
            && permission::wakes_nothing(no_wake, request, || forward::asking(session, &ctx.settings))
        {
            demand = Demand::Observe;
        }
        if demand != Demand::Observe {
            app.traffic().asked(self.0.clock.now(), || forward::asker(session, &ctx.settings));
        }
        match &settings.ruling.access {
            Some(access) if demand == Demand::Wake => Ok(self.admit_some(session, ctx, app, access, demand)),
            _ => Ok(self.admit_to(session, ctx, app, demand, permission::Right::Common)),
        }
    }

    /// Asks for an app that not everybody may wake. Only of whoever would wake it a right is wanted.
    fn admit_some(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        app: &Arc<ManagedApp>,
        access: &Access,
        demand: Demand,
    ) -> Admission {
        let admission = self.admit_to(session, ctx, app, Demand::Use, permission::Right::Common);
        if !matches!(&admission, Admission::Refuse(Refused { reason: Refusal::Resting(_), .. })) {
            return admission;
        }
        let client = forward::asking(session, &ctx.settings);
        let (credentials, now) = (&self.0.credentials, self.0.clock.now());
        match permission::right(access, session.req_header(), client, credentials, now) {
            Some(right) => self.admit_to(session, ctx, app, demand, right),
            None => Admission::Refuse(Refused { app: app.clone(), reason: Refusal::NotAllowed }),
        }
    }

    fn admit_to(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        app: &Arc<ManagedApp>,
        demand: Demand,
        right: permission::Right,
    ) -> Admission {
        let (id, settings) = ctx.named(session);
        self.0.lifecycle.admit(app, demand, || match &right {
            permission::Right::Token(name) => Cause::Person { name: name.clone() },
            permission::Right::Common => {
                let (client, agent) = forward::asker(session, settings);
                Cause::Request { id: id.as_str().into(), client, agent }
            }
        })
    }

    /// A path under `/.loir/`, on whatever host.
    async fn reserved(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
        let replicas = match HostName::of(session.req_header()) {
            Ok(host) => self.0.routes.load().find(host.as_str()).cloned(),
            Err(bad) => return self.error(session, ctx, bad.into()).await,
        };
        if let Some(replicas) = replicas.as_ref().filter(|_| session.req_header().uri.path() == anyway::WAKE)
        {
            return self.wake_anyway(session, ctx, replicas).await;
        }
        let app = replicas.map(|replicas| replicas.choose(&self.0.clock).clone());
        let outcome = reserved::answer(self, session, app, ctx.settings.limits.event_streams).await?;
        match outcome {
            Ok(()) => Ok(ANSWERED),
            Err(problem) => self.error(session, ctx, problem).await,
        }
    }

    async fn error(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        Problem { status, detail, allow }: Problem,
    ) -> Result<bool> {
        let audience = audience::audience(session.req_header());
        let reference = ctx.request_id(session).as_str().to_owned();
        let state = ctx.app().map(|app| app.state());
        let answer = Answer { allow, state, ..Answer::error(status, detail, &reference) };
        self.send(session, ctx, audience, answer).await
    }

    async fn send(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        audience: Audience,
        answer: Answer<'_>,
    ) -> Result<bool> {
        let request_id = ctx.request_id(session).as_str().to_owned();
        answer.send(session, &self.0.pages, audience, &request_id).await?;
        Ok(ANSWERED)
    }
}

/// The status for a client when proxying went wrong; 0 if there is nobody to tell.
fn status_of(error: &Error) -> u16 {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, TLSHandshakeTimedout,
        WriteError, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(status)) => *status,
        _ if is_our_own_lack(error) => 503,
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout) => 504,
        (ErrorSource::Upstream, _) => 502,
        (ErrorSource::Downstream, ReadTimedout) => 408,
        (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError | WriteTimedout) => 0,
        (ErrorSource::Downstream, _) => 400,
        (ErrorSource::Internal | ErrorSource::Unset, _) => 500,
    }
}

/// Whether there was no socket left to reach the app with: too many open files, or no free port.
fn is_our_own_lack(error: &Error) -> bool {
    matches!(error.root_etype(), ErrorType::SocketError | ErrorType::BindError)
}
