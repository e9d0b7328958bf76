//! What holds for a client's connection as a whole: how many there are, and how long a header may take.
//!
//! Pingora bounds each read, not a whole header: a client that sends one byte every 59 seconds would keep a connection
//! for hours (cloudflare/pingora#447). So each connection has a watch beside it. It costs a request two atomic writes
//! and a timer that fires every few seconds, no allocation.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::{apps::ServerApp, protocols::Stream, server::ShutdownWatch};
use pingora_proxy::HttpProxy;
use tokio::time::Instant;

use super::Gateway;
use crate::clock::{Clock, Millis};

tokio::task_local! {
    static CONNECTION: Arc<Connection>;
}

/// No header is awaited: a request is being answered.
const ANSWERING: u64 = u64::MAX;

struct Connection {
    clock: Clock,
    /// Since when a header is awaited, in [`Millis`], or [`ANSWERING`].
    awaiting_since: AtomicU64,
    /// Whether an earlier request came over this connection, so that it may first be idle.
    reused: std::sync::atomic::AtomicBool,
}

/// The request's header has been read: its deadline is over.
pub(super) fn header_read() {
    let _ = CONNECTION.try_with(|connection| connection.awaiting_since.store(ANSWERING, Relaxed));
}

/// The request has ended: the next header is awaited.
pub(super) fn request_ended() {
    let _ = CONNECTION.try_with(|connection| {
        connection.reused.store(true, Relaxed);
        connection.awaiting_since.store(connection.clock.now().0, Relaxed);
    });
}

impl Connection {
    /// Returns when a header has been awaited for too long.
    async fn overdue(&self, header: Duration, keep_alive: Duration) {
        let mut timer = pin!(tokio::time::sleep(header));
        let mut told: Option<Waker> = None;
        poll_fn(|context| {
            // The connection's task is polled several times for each request. A timer that already knows whom to wake
            // is left alone until it has fired: to ask it costs as much as a good part of the request.
            let waits = told.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if waits && !timer.is_elapsed() {
                return Poll::Pending;
            }
            told = Some(context.waker().clone());
            while timer.as_mut().poll(context).is_ready() {
                match self.left(header, keep_alive) {
                    Some(left) => timer.as_mut().reset(Instant::now() + left),
                    None => return Poll::Ready(()),
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// How long until it is worth to look again; `None` if the deadline has passed.
    fn left(&self, header: Duration, keep_alive: Duration) -> Option<Duration> {
        let since = match self.awaiting_since.load(Relaxed) {
            ANSWERING => return Some(header),
            since => Millis(since),
        };
        let idle = if self.reused.load(Relaxed) { keep_alive } else { Duration::ZERO };
        let left = since.after(header + idle).since(self.clock.now());
        (!left.is_zero()).then_some(left)
    }
}

/// The gateway as an application of Pingora's listening service: counts and watches connections, and leaves the rest
/// to [`HttpProxy`].
pub struct Edge {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
    open: OpenConnections,
}

/// How many connections are open right now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

struct Counted(OpenConnections);

impl OpenConnections {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn enter(&self) -> (usize, Counted) {
        (self.0.fetch_add(1, Relaxed), Counted(self.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

impl Edge {
    /// Wraps `proxy`, which runs `gateway`.
    pub fn new(proxy: HttpProxy<Gateway>, gateway: Gateway) -> Self {
        Self { proxy: Arc::new(proxy), gateway, open: OpenConnections::default() }
    }

    /// The count of this edge's connections.
    pub fn open_connections(&self) -> OpenConnections {
        self.open.clone()
    }
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let settings = self.gateway.settings();
        let (others, _counted) = self.open.enter();
        if others >= settings.limits.connections {
            return None;
        }
        let clock = self.gateway.clock().clone();
        let connection = Arc::new(Connection {
            awaiting_since: AtomicU64::new(clock.now().0),
            clock,
            reused: std::sync::atomic::AtomicBool::new(false),
        });
        let (header, keep_alive) = (settings.timeouts.header, settings.timeouts.keep_alive);
        drop(settings);
        let serve = CONNECTION.scope(connection.clone(), self.proxy.process_new(stream, shutdown));
        first_of(serve, connection.overdue(header, keep_alive)).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.proxy).await;
    }
}

async fn first_of<T>(serve: impl Future<Output = Option<T>>, overdue: impl Future<Output = ()>) -> Option<T> {
    tokio::select! {
        biased;
        reusable = serve => reusable,
        () = overdue => None,
    }
}
