//! To the app: which peer, and what the app is told of the client.
//!
//! Nothing that a client says of itself is believed: `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and their like are
//! removed or replaced, so are `X-Request-Id` and `traceparent`, unless the client is one of `server.trusted_proxies`,
//! whose words are kept and added to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, AsHeaderName},
};
use pingora_core::{
    protocols::http::authority::{RawTargetAuthority, raw_target_authority},
    upstreams::peer::HttpPeer,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::request_id::RequestId;
use crate::{
    config::Server,
    lifecycle::{Reached, cause::agent_of},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where and how to connect. All timeouts are set: Pingora has none of its own.
pub fn peer(reached: &Reached, address: SocketAddr, server: &Server, request: &RequestHeader) -> HttpPeer {
    let timeouts = &server.timeouts;
    let mut peer = match reached.origin() {
        Some(origin) if origin.tls => HttpPeer::new(address, true, origin.host.clone()),
        _ => HttpPeer::new(address, false, String::new()),
    };
    // A connection belongs to one run of one app: a pooled one never leads to whoever has the port now.
    peer.group_key = reached.run;
    let silence = if may_be_silent(request) { timeouts.stream } else { timeouts.read };
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.total_connection_timeout = Some(timeouts.connect);
    peer.options.read_timeout = Some(silence);
    peer.options.write_timeout = Some(timeouts.write);
    peer.options.idle_timeout = Some(timeouts.upstream_keep_alive);
    peer
}

/// WebSockets and event streams are silent for long and well.
fn may_be_silent(request: &RequestHeader) -> bool {
    let streams = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    request.method == Method::GET
        && (request.headers.get(header::ACCEPT).is_some_and(streams) || is_websocket(request))
}

/// Whether the request asks for a WebSocket (RFC 6455, 4.1). Any client can write `Upgrade: x`: that alone is no reason
/// to lift a limit.
fn is_websocket(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    request.method == Method::GET
        && headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
}

/// From an app's `101` on, the client of a WebSocket may be silent too.
pub fn allow_silence(session: &mut Session, response: &ResponseHeader, server: &Server) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS && is_websocket(session.req_header()) {
        session.set_read_timeout(Some(server.timeouts.stream));
    }
}

/// The address at the other end of the client's connection.
pub fn client(session: &Session) -> Option<SocketAddr> {
    session.client_addr().and_then(|address| address.as_inet()).copied()
}

/// Whether that address is one of ours to believe.
pub fn is_trusted(client: IpAddr, server: &Server) -> bool {
    server.trusted_proxies.iter().any(|net| net.contains(&client))
}

/// Who asks, and with what.
pub fn asker(session: &Session, server: &Server) -> (Option<IpAddr>, Arc<str>) {
    let agent = session.req_header().headers.get(header::USER_AGENT);
    (asking(session, server), agent_of(agent.map_or(&[][..], |agent| agent.as_bytes())))
}

/// Who asks.
pub fn asking(session: &Session, server: &Server) -> Option<IpAddr> {
    client(session).map(|client| real_client(client.ip(), &session.req_header().headers, server))
}

/// Who really asks: the last address in `X-Forwarded-For` that is not a trusted proxy, read from the right, since
/// everything to its left may be invented.
pub fn real_client(client: IpAddr, headers: &HeaderMap, server: &Server) -> IpAddr {
    if !is_trusted(client, server) {
        return client;
    }
    let mut real = client;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            match hop.trim().parse::<IpAddr>() {
                Ok(hop) => real = hop,
                Err(_) => return real,
            }
            if !is_trusted(real, server) {
                return real;
            }
        }
    }
    real
}

/// What we call ourselves in `Via`, to know our own requests when they come back.
pub struct Via {
    name: String,
    hop: HeaderValue,
}

impl Via {
    /// A name that no other gateway has.
    pub fn new() -> Self {
        let number = fastrand::u32(..);
        let hop = HeaderValue::try_from(format!("1.1 loir-{number:08x}"));
        Self {
            name: format!("loir-{number:08x}"),
            hop: hop.unwrap_or_else(|_| HeaderValue::from_static("1.1 loir")),
        }
    }

    /// Whether a request has been here.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::VIA).iter().any(|value| {
            let hops = value.as_bytes().split(|&byte| byte == b',');
            hops.into_iter().any(|hop| hop.trim_ascii().ends_with(self.name.as_bytes()))
        })
    }
}

/// What is known of the client when a request goes to an app.
pub struct Client {
    /// The other end of its connection.
    pub address: IpAddr,
    /// Whether its own words are kept.
    pub trusted: bool,
    /// The port it connected to.
    pub port: u16,
}

impl Client {
    /// The client of this session. One without an address, as over a Unix socket, is nobody we trust.
    pub fn of(session: &Session, server: &Server) -> Self {
        let address = client(session).map(|client| client.ip());
        let port = session.server_addr().and_then(|address| address.as_inet()).map(|address| address.port());
        Self {
            address: address.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()),
            trusted: address.is_some_and(|address| is_trusted(address, server)),
            port: port.unwrap_or(80),
        }
    }
}

/// Tells the app who asks, through which gateway, and under which id.
pub fn tell(
    request: &mut RequestHeader,
    client: &Client,
    request_id: &RequestId,
    via: &Via,
) -> pingora_core::Result<()> {
    to_origin_form(request)?;
    let trusted = client.trusted;
    for name in named(&request.headers, |name| must_not_pass(name, trusted)) {
        request.remove_header(&name);
    }
    let kept = |request: &RequestHeader, name: &str| trusted && request.headers.contains_key(name);

    let host = request.headers.get(header::HOST).cloned();
    let address = client.address.to_string();
    let forwarded = element(&address, host.as_ref().and_then(|host| host.to_str().ok()));
    extend(request, trusted, "Forwarded", &forwarded)?;
    extend(request, trusted, "X-Forwarded-For", &address)?;
    if !kept(request, "x-real-ip") {
        request.insert_header("X-Real-IP", address)?;
    }
    if !kept(request, "x-forwarded-proto") {
        request.insert_header("X-Forwarded-Proto", HeaderValue::from_static("http"))?;
    }
    match host {
        Some(host) if !kept(request, "x-forwarded-host") => {
            request.insert_header("X-Forwarded-Host", host)?;
        }
        _ => {}
    }
    if !kept(request, "x-forwarded-port") {
        request.insert_header("X-Forwarded-Port", HeaderValue::from(client.port))?;
    }
    request.insert_header("X-Request-Id", request_id.as_str())?;
    match request_id.traceparent() {
        Some(parent) if !(trusted && request.headers.contains_key(TRACEPARENT)) => {
            request.insert_header("traceparent", parent)?;
            if request.headers.contains_key(TRACESTATE) {
                request.remove_header(&TRACESTATE);
            }
        }
        _ => {}
    }
    match list(&request.headers, header::VIA) {
        Some(earlier) => {
            let hop = via.hop.to_str().unwrap_or_default();
            request.insert_header(header::VIA, format!("{earlier}, {hop}"))
        }
        None => request.insert_header(header::VIA, via.hop.clone()),
    }
}

/// Our element of `Forwarded`.
fn element(address: &str, host: Option<&str>) -> String {
    // RFC 7239, 6: an IPv6 address is in brackets and so must be quoted.
    let (open, close) = if address.contains(':') { ("for=\"[", "]\"") } else { ("for=", "") };
    match host {
        Some(host) => [open, address, close, ";proto=http;host=\"", host, "\""].concat(),
        None => [open, address, close, ";proto=http"].concat(),
    }
}

/// Sets a field that is a list to `ours`, after what a trusted proxy has put there.
fn extend(
    request: &mut RequestHeader,
    trusted: bool,
    name: &'static str,
    ours: &str,
) -> pingora_core::Result<()> {
    match trusted.then(|| list(&request.headers, name)).flatten() {
        Some(earlier) => request.insert_header(name, format!("{earlier}, {ours}")),
        None => request.insert_header(name, ours),
    }
}

/// The names of these fields; without an allocation if there are none.
fn named(headers: &HeaderMap, unwanted: impl Fn(&str) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect()
}

/// Whether a request's field must not reach the app as it came: words about the client that only a proxy may say, and
/// what a server may take for such a word. CGI, and all that took its names from there, reads `X_Real_IP` as `X-Real-IP`,
/// and `Proxy` as the variable `HTTP_PROXY` (<https://httpoxy.org>).
fn must_not_pass(name: &str, trusted: bool) -> bool {
    if name.contains('_') {
        return is_about_the_client(&name.replace('_', "-"));
    }
    name == "proxy" || name.starts_with("x-loir-") || (!trusted && is_about_the_client(name))
}

fn is_about_the_client(name: &str) -> bool {
    // Most names are told apart by their first letter.
    match name.as_bytes() {
        [b'x', ..] => {
            name.starts_with("x-forwarded")
                || name.starts_with("x-loir-")
                || matches!(
                    name,
                    "x-real-ip"
                        | "x-client-ip"
                        | "x-cluster-client-ip"
                        | "x-original-url"
                        | "x-original-uri"
                        | "x-original-host"
                        | "x-rewrite-url"
                        | "x-request-id"
                )
        }
        [b'f', ..] => name.starts_with("forwarded"),
        [b'c' | b't', ..] => matches!(name, "client-ip" | "cf-connecting-ip" | "true-client-ip"),
        _ => false,
    }
}

/// What an app must not tell a client: what was meant for us alone, and what only we say.
pub fn clean(response: &mut ResponseHeader) {
    let unwanted =
        |name: &str| name.starts_with("x-loir-") || matches!(name, "keep-alive" | "proxy-connection");
    for name in named(&response.headers, unwanted) {
        response.remove_header(&name);
    }
}

/// A field that is a list, whole: each line of it may be another hop's.
fn list(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// HTTP/1.0 knows no chunks (RFC 9112, 6.1): a body without a length ends with the connection.
pub fn fit_version(session: &mut Session, response: &mut ResponseHeader) {
    if session.req_header().version == http::Version::HTTP_10
        && response.remove_header(&header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}

/// `GET http://host/path` becomes `GET /path`: the app, and every check of a path, sees one form only.
fn to_origin_form(request: &mut RequestHeader) -> pingora_core::Result<()> {
    let RawTargetAuthority::Absolute { authority, path_and_query, .. } =
        raw_target_authority(request.raw_path())
    else {
        return Ok(());
    };
    let authority = HeaderValue::from_bytes(authority).ok();
    let path = match path_and_query {
        [] => b"/".to_vec(),
        [b'?', ..] => [b"/", path_and_query].concat(),
        path => path.to_vec(),
    };
    request.set_raw_path(&path)?;
    match authority {
        Some(authority) if !request.headers.contains_key(header::HOST) => {
            request.insert_header(header::HOST, authority)
        }
        _ => Ok(()),
    }
}

/// For the header that says how long a request waited for a wake: seconds, to the millisecond.
pub fn seconds(waited: Duration) -> String {
    format!("{:.3}", waited.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(name: &str) -> Via {
        Via { name: name.to_owned(), hop: HeaderValue::try_from(format!("1.1 {name}")).unwrap() }
    }

    fn told(trusted: bool, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a", None).unwrap();
        request.insert_header("host", "hello.test:8080").unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        let id = RequestId::Given("0af7651916cd43dd8448eb211c80319c".into());
        let client = Client { address: "192.0.2.7".parse().unwrap(), trusted, port: 8080 };
        tell(&mut request, &client, &id, &via("loir-1")).unwrap();
        request
    }

    const LIES: &[(&str, &str)] = &[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.test"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("traceparent", "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-01"),
        ("tracestate", "x=1"),
    ];

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let request = told(false, LIES);
        let text = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("x-forwarded-for"), "192.0.2.7");
        assert_eq!(text("x-forwarded-proto"), "http");
        assert_eq!(text("x-forwarded-host"), "hello.test:8080");
        assert_eq!(text("x-forwarded-port"), "8080");
        assert_eq!(text("x-real-ip"), "192.0.2.7");
        assert_eq!(text("forwarded"), "for=192.0.2.7;proto=http;host=\"hello.test:8080\"");
        assert_eq!(text("x-request-id"), "0af7651916cd43dd8448eb211c80319c");
        assert!(text("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert!(!request.headers.contains_key("tracestate"));
        assert_eq!(text("via"), "1.1 loir-1");
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_added_to() {
        let request = told(true, LIES);
        let text = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("x-forwarded-for"), "6.6.6.6, 192.0.2.7");
        assert_eq!(text("x-forwarded-proto"), "https");
        assert_eq!(text("x-forwarded-host"), "bank.test");
        assert_eq!(text("x-forwarded-port"), "443");
        assert_eq!(text("forwarded"), "for=6.6.6.6, for=192.0.2.7;proto=http;host=\"hello.test:8080\"");
        assert_eq!(text("traceparent"), LIES[6].1);
    }

    #[test]
    fn what_only_a_proxy_may_say_is_removed_in_every_spelling() {
        let spoofed = [
            ("x-forwarded-prefix", "/admin"),
            ("x-forwarded-ssl", "on"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_host", "bank.test"),
            ("x_real_ip", "6.6.6.6"),
            ("forwarded_for", "6.6.6.6"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("proxy", "http://6.6.6.6"),
            ("x-loir-state", "awake"),
        ];
        let harmless =
            [("x-for", "1"), ("my_field", "1"), ("x-forward", "1"), ("proxied", "1"), ("te_st", "1")];
        for trusted in [false, true] {
            let request = told(trusted, &[&spoofed[..], &harmless[..]].concat());
            for (name, _) in spoofed {
                let kept = trusted && !name.contains('_') && !matches!(name, "proxy" | "x-loir-state");
                assert_eq!(request.headers.contains_key(name), kept, "{name}, trusted: {trusted}");
            }
            assert!(harmless.iter().all(|(name, _)| request.headers.contains_key(*name)));
        }
    }

    #[test]
    fn only_a_websocket_or_an_event_stream_may_be_silent() {
        let silent = |line: &str, headers: &[(&'static str, &str)]| {
            let (method, path) = line.split_once(' ').unwrap();
            let mut request = RequestHeader::build(method, path.as_bytes(), None).unwrap();
            for (name, value) in headers {
                request.insert_header(*name, *value).unwrap();
            }
            may_be_silent(&request)
        };
        assert!(silent("GET /", &[("upgrade", "WebSocket")]));
        assert!(silent("GET /", &[("accept", "text/event-stream")]));
        assert!(!silent("GET /", &[("upgrade", "x")]));
        assert!(!silent("GET /", &[]));
        assert!(!silent("POST /", &[("upgrade", "websocket")]));
        assert!(!silent("POST /", &[("accept", "text/event-stream")]));
        assert!(!silent("GET /", &[("upgrade", "websocket"), ("content-length", "5")]));
        assert!(!silent("GET /", &[("upgrade", "websocket"), ("transfer-encoding", "chunked")]));
    }

    #[test]
    fn an_app_cannot_pretend_to_be_the_gateway() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for name in ["X-Loir-State", "X-Loir-Cold-Start", "Keep-Alive", "Proxy-Connection", "X-Other"] {
            response.insert_header(name, "1").unwrap();
        }
        clean(&mut response);
        assert_eq!(response.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other"]);
    }

    #[test]
    fn a_loop_is_recognised_and_a_stranger_is_not() {
        let passed = |via: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::VIA, HeaderValue::from_str(via).unwrap());
            self::via("loir-1f").is_in(&headers)
        };
        assert!(passed("1.1 loir-1f"));
        assert!(passed("1.0 fred, 1.1 loir-1f, 1.1 nginx"));
        assert!(!passed("1.1 loir-2f"));
        assert!(!passed("1.1 varnish"));
    }

    #[test]
    fn absolute_form_becomes_origin_form() {
        for (target, path) in [
            ("http://hello.test:8080/x?y=1", "/x?y=1"),
            ("http://hello.test:8080", "/"),
            ("http://hello.test:8080?y", "/?y"),
            ("/plain", "/plain"),
        ] {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            to_origin_form(&mut request).unwrap();
            assert_eq!(std::str::from_utf8(request.raw_path()).unwrap(), path, "{target}");
        }
    }
}
