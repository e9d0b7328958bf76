//! A host name that is no app's: whatever comes in under it is answered inside this process, and never reaches an app.

use std::net::SocketAddr;

use async_trait::async_trait;
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderValue, Request, Response, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{Gateway, RequestContext, forward, host::HostName, respond::Problem};

/// No request to it has a longer body.
const LONGEST_BODY: usize = 64 << 10;

/// Answers under a host name that is no app's.
#[async_trait]
pub trait Aside: Send + Sync {
    /// Whether there is such a host at all. Asked for every request.
    fn is_open(&self) -> bool;

    /// Whether this is it: in lower case, without port or final dot.
    fn is_at(&self, host: &str) -> bool;

    /// The answer to a request of this client.
    async fn answer(&self, client: SocketAddr, request: Request<Bytes>) -> Response<Body>;
}

impl Gateway {
    /// Whether this request is for a host that is no app's.
    pub(super) fn is_aside(&self, request: &RequestHeader) -> bool {
        self.0.aside.get().is_some_and(|aside| {
            aside.is_open() && HostName::of(request).is_ok_and(|host| aside.is_at(host.as_str()))
        })
    }

    /// Answers it, or says why not.
    pub(super) async fn go_aside(
        &self,
        session: &mut Session,
        ctx: &RequestContext,
    ) -> Result<Result<(), Problem>> {
        let (Some(aside), Some(peer)) = (self.0.aside.get(), forward::client(session)) else {
            return Ok(Err(Problem::new(404, "There is nothing here.")));
        };
        let mut body = BytesMut::new();
        while let Some(bytes) = session.read_request_body().await? {
            if body.len() + bytes.len() > LONGEST_BODY {
                return Ok(Err(Problem::new(413, "The body is too large.")));
            }
            body.extend_from_slice(&bytes);
        }
        let client = forward::real_client(peer.ip(), &session.req_header().headers, &ctx.settings);
        let mut request = Request::new(body.freeze());
        *request.method_mut() = session.req_header().method.clone();
        *request.uri_mut() = session.req_header().uri.clone();
        *request.headers_mut() = session.req_header().headers.clone();
        let response = aside.answer(SocketAddr::new(client, peer.port()), request).await;
        send(session, response).await.map(Ok)
    }
}

/// Sends the answer, piece by piece if it goes on, until it ends or the client is gone.
async fn send(session: &mut Session, response: Response<Body>) -> Result<()> {
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 1))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    match body.size_hint().exact() {
        Some(length) => {
            if !head.headers.contains_key(header::CONTENT_LENGTH) && parts.status.as_u16() != 204 {
                head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?;
            }
        }
        None => {
            // nginx buffers what it proxies unless told not to.
            head.insert_header("X-Accel-Buffering", HeaderValue::from_static("no"))?;
            session.set_keepalive(None);
        }
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    let empty = is_head || body.size_hint().exact() == Some(0);
    session.write_response_header(Box::new(head), empty).await?;
    if empty {
        return Ok(());
    }
    let mut pieces = body.into_data_stream();
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Nobody is left to be told.
            _ = session.as_downstream_mut().read_body_or_idle(true) => return Ok(()),
        };
        match piece {
            Some(Ok(bytes)) => session.write_response_body(Some(bytes), false).await?,
            // Nothing of ours fails half way.
            Some(Err(_)) | None => return session.write_response_body(None, true).await,
        }
    }
}
