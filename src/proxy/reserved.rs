//! `/.loir/`: what the holding page asks, and whether the gateway lives. Never forwarded, never a reason to wake.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    Gateway,
    respond::{self, Problem},
};
use crate::{app::AppState, lifecycle::ManagedApp};

/// Paths that begin so are ours on every host.
pub const PREFIX: &str = "/.loir/";
/// The app's state, as JSON.
pub const STATUS: &str = "/.loir/status";
/// The app's way up, as server-sent events.
const EVENTS: &str = "/.loir/events";
/// Whether the gateway lives, on any host.
pub const LIVE: &str = "/.loir/livez";

/// Proxies between us and the browser close a silent connection, most of them after 30 or 60 seconds.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream is not a promise: after this the page asks again.
const LONGEST_STREAM: Duration = Duration::from_secs(300);

/// How many event streams are open.
#[derive(Clone, Default)]
pub struct EventStreams(Arc<AtomicUsize>);

struct Open(EventStreams);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Answers a request for one of these paths, or says why not.
pub async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    app: Option<Arc<ManagedApp>>,
    most_streams: usize,
) -> Result<Result<(), Problem>> {
    let allowed = match (session.req_header().uri.path(), &app) {
        (LIVE, _) | (STATUS, Some(_)) => "GET, HEAD",
        (EVENTS, Some(_)) => "GET",
        _ => return Ok(Err(Problem::new(404, "There is nothing here."))),
    };
    if !allowed.split(", ").any(|method| session.req_header().method == method) {
        return Ok(Err(Problem::new(405, "This can only be read.").allowing(allowed)));
    }
    match (session.req_header().uri.path(), app) {
        (STATUS, Some(app)) => status(gateway, session, &app).await?,
        (EVENTS, Some(app)) => {
            if !events(gateway, session, &app, &gateway.0.streams, most_streams).await? {
                let detail = "Too many pages listen already: ask /.loir/status now and then instead.";
                return Ok(Err(Problem::new(503, detail)));
            }
        }
        _ => small(session, "text/plain; charset=utf-8", "none", "live\n".into()).await?,
    }
    Ok(Ok(()))
}

/// Sends `200` with a small body that no cache keeps.
async fn small(session: &mut Session, kind: &'static str, state: &'static str, body: String) -> Result<()> {
    let mut head = ResponseHeader::build(200, Some(10))?;
    respond::never_cached(&mut head)?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(kind))?;
    head.insert_header(respond::STATE, HeaderValue::from_static(state))?;
    respond::send(session, head, body.into()).await
}

/// The app's state, once.
async fn status(gateway: &Gateway, session: &mut Session, app: &ManagedApp) -> Result<()> {
    let progress = app.progress().borrow().clone();
    let status = respond::status(&progress, gateway.clock().now());
    small(session, "application/json", progress.state.as_str(), status.to_string()).await
}

/// The app's state, and every change of it, until it is awake, has failed, or the gateway shuts down. `false` if too
/// many listen already.
async fn events(
    gateway: &Gateway,
    session: &mut Session,
    app: &ManagedApp,
    streams: &EventStreams,
    limit: usize,
) -> Result<bool> {
    let others = streams.0.fetch_add(1, Relaxed);
    let _open = Open(streams.clone());
    if others >= limit {
        return Ok(false);
    }
    let mut progress = app.progress();
    let mut head = ResponseHeader::build(200, Some(10))?;
    respond::never_cached(&mut head)?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))?;
    // nginx buffers what it proxies unless told not to.
    head.insert_header("X-Accel-Buffering", HeaderValue::from_static("no"))?;
    head.insert_header(respond::STATE, HeaderValue::from_static(app.state().as_str()))?;
    session.set_keepalive(None);
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(Bytes::from_static(b"retry: 2000\n\n")), false).await?;

    let mut drain = gateway.drain();
    let stop = tokio::time::sleep(LONGEST_STREAM);
    tokio::pin!(stop);
    loop {
        let now = progress.borrow_and_update().clone();
        let data = respond::status(&now, gateway.clock().now());
        // The last event has a name of its own, so that a page needs no logic to know that it may go on.
        let (event, last) = match now.state {
            AppState::Awake => ("ready", true),
            AppState::Failed => ("failed", true),
            AppState::Waking | AppState::Asleep | AppState::Stopping => ("state", false),
        };
        let text = format!("event: {event}\ndata: {data}\n\n");
        session.write_response_body(Some(text.into()), last).await?;
        if last {
            return Ok(true);
        }
        let goes_on = tokio::select! {
            changed = progress.changed() => changed.is_ok(),
            // The same state once more, so that neither a proxy nor the page takes silence for the end.
            () = tokio::time::sleep(HEARTBEAT) => true,
            gone = session.as_downstream_mut().read_body_or_idle(true) => return gone.map(|_| true),
            () = drain.began() => false,
            () = &mut stop => false,
        };
        if !goes_on {
            session.write_response_body(None, true).await?;
            return Ok(true);
        }
    }
}
