//! Who is let in. Every request comes by here, before anything else is looked at.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State, connect_info::Connected},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};

use super::{AdminSide, listener::Bounded, problem::Problem};
use crate::credentials::{Denied, Scope};

/// The name of whoever needs no token: it connects from this machine.
const LOCAL: &str = "local";

/// Where a request comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The admin side's own listener.
    Own,
    /// The listener of the clients, under `admin.host`: always with a token.
    Edge,
}

/// The other end of a connection; at [`Door::Edge`] the client that a trusted proxy names.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Who asks. `None` for somebody who is not known, and asks for what everybody may see.
#[derive(Clone, Debug)]
pub struct Person {
    /// The token's name.
    pub name: Arc<str>,
    scope: Scope,
}

/// What a proxy adds, beside `X-Forwarded-*`. Whoever connects through one is not on this machine, whatever the connection says.
const OF_PROXIES: [&str; 3] = ["forwarded", "x-real-ip", "via"];

/// Lets a request in, with the [`Person`] who asks, or not.
pub async fn guard(
    State((side, door)): State<(AdminSide, Door)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.0);
    let mut response = match admit(&side, door, peer, &request) {
        Ok(person) => {
            if let Some(person) = person {
                request.extensions_mut().insert(person);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex"));
    response
}

fn admit(
    side: &AdminSide,
    door: Door,
    peer: Option<SocketAddr>,
    request: &Request,
) -> Result<Option<Person>, Problem> {
    let (headers, authority, path) = (request.headers(), request.uri().authority(), request.uri().path());
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(authority.map(Authority::as_str));
    if is_of_another_site(headers, host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site may not ask this"));
    }
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else {
        return Err(Problem::new(StatusCode::FORBIDDEN, "nobody knows who asks"));
    };
    // For probes of a platform, which have no tokens. They say next to nothing.
    let is_probe = matches!(path, "/livez" | "/readyz");
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "a token is sent as `Authorization: Bearer TOKEN`")
        })?;
        let credentials = side.credentials();
        let admitted = credentials.admit(token, Scope::Read, peer, side.clock().now());
        let scope = || credentials.holder(token).map_or(Scope::Read, |(_, scope)| scope);
        return match admitted {
            Ok(name) => Ok(Some(Person { name, scope: scope() })),
            // A platform that shows its probes' token wrongly, or too often, must not end a gateway that is well.
            Err(_) if is_probe && door == Door::Own => Ok(None),
            Err(Denied::TooOften(wait)) => {
                let detail = "too many wrong tokens came from there";
                Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).after(wait))
            }
            Err(_) => Err(Problem::new(StatusCode::UNAUTHORIZED, "nobody has this token")),
        };
    }
    let refused = match door {
        Door::Edge => "under this host, nothing is said without a token",
        Door::Own if side.credentials().are_configured() => {
            "a token is needed: `Authorization: Bearer TOKEN`"
        }
        Door::Own if !is_direct(peer, request.version(), headers) => {
            "without a token, only this machine itself is answered"
        }
        Door::Own if !host.is_some_and(is_local) => {
            // A page whose name leads to 127.0.0.1 all of a sudden is still a page of somebody else.
            "without a token, the host must be localhost or a loopback address"
        }
        Door::Own => return Ok(Some(Person { name: LOCAL.into(), scope: Scope::Admin })),
    };
    match door {
        Door::Own if is_probe => Ok(None),
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, refused)),
    }
}

/// Whether nothing stands between us and a peer on this machine, as far as that can be known. Nobody but a proxy speaks HTTP/1.0:
/// nginx, which adds no header by itself and puts our own address into `Host`.
fn is_direct(peer: IpAddr, version: Version, headers: &HeaderMap) -> bool {
    let is_of_a_proxy =
        |name: &HeaderName| name.as_str().starts_with("x-forwarded-") || OF_PROXIES.contains(&name.as_str());
    peer.is_loopback() && version >= Version::HTTP_11 && !headers.keys().any(is_of_a_proxy)
}

/// Whether this is what one calls one's own machine, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

/// Whether a browser sends this on behalf of a page that is not of this very origin.
fn is_of_another_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    text(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.split_once("://").map(|(_, origin)| origin);
        origin.is_none() || origin.map(str::to_ascii_lowercase) != host.map(str::to_ascii_lowercase)
    })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Somebody who may see apps, events, reports and metrics.
pub struct Reader;

/// Somebody who may wake, stop and pin apps.
pub struct Operator(pub Person);

/// Somebody who may see the configuration and have it read again.
pub struct Administrator;

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        person(parts, Scope::Read).map(|_| Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        person(parts, Scope::Operate).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        person(parts, Scope::Admin).map(|_| Self)
    }
}

fn person(parts: &Parts, at_least: Scope) -> Result<Person, Problem> {
    match parts.extensions.get::<Person>() {
        None => {
            Err(Problem::new(StatusCode::UNAUTHORIZED, "a token is needed: `Authorization: Bearer TOKEN`"))
        }
        Some(person) if person.scope < at_least => {
            let (has, needs) = (person.scope.as_str(), at_least.as_str());
            let detail = format!("the token {} has the scope {has}, and this needs {needs}", person.name);
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        Some(person) => Ok(person.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_machine_is_local() {
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:9090"] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "[::2]:1",
            "0.0.0.0",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_recognised() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            fields
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        let other = |fields: &[(&'static str, &'static str)]| {
            is_of_another_site(&headers(fields), Some("localhost:9090"))
        };
        assert!(!other(&[]));
        assert!(!other(&[("sec-fetch-site", "none")]));
        assert!(!other(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9090")]));
        for fields in [
            [("sec-fetch-site", "cross-site"), ("x", "")],
            [("sec-fetch-site", "same-site"), ("x", "")],
            [("origin", "null"), ("x", "")],
            [("origin", "http://localhost:3000"), ("x", "")],
            [("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(other(&fields), "{fields:?}");
        }
    }

    #[test]
    fn whoever_comes_through_a_proxy_is_not_on_this_machine() {
        let local = "127.0.0.1".parse().unwrap();
        assert!(is_direct(local, Version::HTTP_11, &HeaderMap::new()));
        assert!(!is_direct(local, Version::HTTP_10, &HeaderMap::new()));
        assert!(!is_direct("192.0.2.1".parse().unwrap(), Version::HTTP_11, &HeaderMap::new()));
        for name in OF_PROXIES.into_iter().chain(["x-forwarded-for", "x-forwarded-host"]) {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static("127.0.0.1"),
            )]);
            assert!(!is_direct(local, Version::HTTP_11, &headers), "{name}");
        }
    }
}
