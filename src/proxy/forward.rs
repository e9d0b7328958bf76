//! To the app: which peer, and what the app is told of the client.
//!
//! Nothing that a client says of itself is believed: `X-Forwarded-*`, `Forwarded`, `X-Real-IP`, `X-Request-Id` and
//! `traceparent` are replaced, unless the client is one of `server.trusted_proxies`, whose words are kept and added to.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header};
use pingora_core::{
    protocols::http::authority::{RawTargetAuthority, raw_target_authority},
    upstreams::peer::HttpPeer,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::{config::Server, lifecycle::Reached};

/// Where and how to connect. All timeouts are set: Pingora has none of its own.
pub fn peer(reached: Reached, server: &Server, request: &RequestHeader) -> HttpPeer {
    let timeouts = &server.timeouts;
    let mut peer = HttpPeer::new(reached.endpoint.address, false, String::new());
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
    request.headers.contains_key(header::UPGRADE) || request.headers.get(header::ACCEPT).is_some_and(streams)
}

/// The address at the other end of the client's connection.
pub fn client(session: &Session) -> Option<SocketAddr> {
    session.client_addr().and_then(|address| address.as_inet()).copied()
}

/// Whether that address is one of ours to believe.
pub fn is_trusted(client: IpAddr, server: &Server) -> bool {
    server.trusted_proxies.iter().any(|net| net.contains(&client))
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

/// What is known of the client when a request goes to an app.
pub struct Client<'a> {
    /// The other end of its connection.
    pub address: IpAddr,
    /// Whether its own words are kept.
    pub trusted: bool,
    /// The port it connected to.
    pub port: u16,
    /// This request's id.
    pub request_id: &'a str,
}

/// Tells the app who asks, through which gateway, and under which id.
pub fn tell(request: &mut RequestHeader, client: &Client<'_>, via: &str) -> pingora_core::Result<()> {
    to_origin_form(request)?;
    let host = request.headers.get(header::HOST).cloned();
    let address = client.address.to_string();
    let said = |name: &str| client.trusted.then(|| list(&request.headers, name)).flatten();
    let (for_, forwarded) = (said("x-forwarded-for"), said("forwarded"));
    let kept = |name: &str| client.trusted && request.headers.contains_key(name);
    let (keeps_proto, keeps_host) = (kept("x-forwarded-proto"), kept("x-forwarded-host"));
    let (keeps_port, keeps_real) = (kept("x-forwarded-port"), kept("x-real-ip"));
    let keeps_trace = kept("traceparent");

    let mut element = String::with_capacity(96);
    if let Some(earlier) = forwarded {
        element.push_str(&earlier);
        element.push_str(", ");
    }
    let _ = match client.address {
        IpAddr::V4(v4) => write!(element, "for={v4};proto=http"),
        // RFC 7239, 6: an IPv6 address is in brackets and so must be quoted.
        IpAddr::V6(v6) => write!(element, "for=\"[{v6}]\";proto=http"),
    };
    if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
        let _ = write!(element, ";host=\"{host}\"");
    }
    request.insert_header("Forwarded", element)?;

    let chain = match for_ {
        Some(earlier) => format!("{earlier}, {address}"),
        None => address.clone(),
    };
    request.insert_header("X-Forwarded-For", chain)?;
    if !keeps_real {
        request.insert_header("X-Real-IP", address)?;
    }
    if !keeps_proto {
        request.insert_header("X-Forwarded-Proto", HeaderValue::from_static("http"))?;
    }
    match host {
        Some(host) if !keeps_host => request.insert_header("X-Forwarded-Host", host)?,
        _ => {}
    }
    if !keeps_port {
        request.insert_header("X-Forwarded-Port", HeaderValue::from(client.port))?;
    }
    request.insert_header("X-Request-Id", client.request_id)?;
    if !keeps_trace {
        request.insert_header("traceparent", traceparent(client.request_id))?;
        request.remove_header("tracestate");
    }
    let hops = match list(&request.headers, "via") {
        Some(earlier) => format!("{earlier}, 1.1 {via}"),
        None => format!("1.1 {via}"),
    };
    request.insert_header(header::VIA, hops)
}

/// A field that is a list, whole: each line of it may be another hop's.
fn list(headers: &HeaderMap, name: &str) -> Option<String> {
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

/// Whether the request has been through the gateway that calls itself `via`.
pub fn has_passed(headers: &HeaderMap, via: &str) -> bool {
    headers.get_all(header::VIA).iter().any(|value| {
        let hops = value.as_bytes().split(|&byte| byte == b',');
        hops.into_iter().any(|hop| hop.trim_ascii().ends_with(via.as_bytes()))
    })
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

/// A new id: 32 hexadecimal digits, unique but not secret.
pub fn new_request_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(..))
}

/// An id from a trusted proxy is kept if it is one.
pub fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let fits = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| id.to_owned())
}

/// W3C Trace Context, level 1: the request's id is the trace's, when it has the form of one.
fn traceparent(request_id: &str) -> String {
    let is_trace_id =
        request_id.len() == 32 && request_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let span = fastrand::u64(1..);
    if is_trace_id {
        format!("00-{request_id}-{span:016x}-01")
    } else {
        format!("00-{}-{span:016x}-01", new_request_id())
    }
}

/// For the header that says how long a request waited for a wake: seconds, to the millisecond.
pub fn seconds(waited: Duration) -> String {
    format!("{:.3}", waited.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trusted: bool, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a", None).unwrap();
        request.insert_header("host", "hello.test:8080").unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        let id = "0af7651916cd43dd8448eb211c80319c";
        let client = Client { address: "192.0.2.7".parse().unwrap(), trusted, port: 8080, request_id: id };
        tell(&mut request, &client, "loir-1").unwrap();
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
    fn a_loop_is_recognised_and_a_stranger_is_not() {
        let passed = |via: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::VIA, HeaderValue::from_str(via).unwrap());
            has_passed(&headers, "loir-1f")
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
