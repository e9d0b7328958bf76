//! The admin side where clients connect, under a host name of its own: for platforms with a single port. The same endpoints, and
//! always with a token.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use bytes::Bytes;
use tower_service::Service;

use super::{
    AdminSide,
    door::{Door, Peer},
};
use crate::proxy::Aside;

/// The admin side as the proxy sees it.
pub struct EdgeSide {
    router: Router,
    host: ArcSwap<Option<Box<str>>>,
}

impl EdgeSide {
    /// For the proxy.
    pub fn new(side: &AdminSide) -> Arc<Self> {
        let edge = Self { router: side.router(Door::Edge), host: ArcSwap::default() };
        edge.configure(side.0.settings.load().admin.host.as_deref());
        Arc::new(edge)
    }

    /// Under which host from now on, if under any.
    pub fn configure(&self, host: Option<&str>) {
        self.host.store(Arc::new(host.map(Into::into)));
    }
}

#[async_trait]
impl Aside for EdgeSide {
    fn is_open(&self) -> bool {
        self.host.load().is_some()
    }

    fn is_at(&self, host: &str) -> bool {
        self.host.load().as_deref() == Some(host)
    }

    async fn answer(&self, client: SocketAddr, request: Request<Bytes>) -> Response<Body> {
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(ConnectInfo(Peer(client)));
        match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
