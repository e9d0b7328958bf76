//! The host name a request is for, as the route table wants it.

use pingora_core::protocols::http::authority::{RawTargetAuthority, raw_target_authority};
use pingora_http::RequestHeader;

use super::respond::Problem;

/// A DNS name has at most 253 characters (RFC 1035, 2.3.4, less the root's dot and length bytes).
const LONGEST: usize = 253;

/// A host name: lower case, no port, no final dot. On the stack, so that finding a route allocates nothing.
#[derive(Clone, Copy)]
pub struct HostName {
    bytes: [u8; LONGEST],
    length: u8,
}

/// Why a request's host cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHost {
    /// Neither a `Host` header nor a target that names one.
    Missing,
    /// Not a host name with or without a port.
    Malformed,
}

impl From<BadHost> for Problem {
    fn from(bad: BadHost) -> Self {
        match bad {
            BadHost::Missing => Self::new(400, "The request names no host."),
            BadHost::Malformed => Self::new(400, "The Host is not a host name."),
        }
    }
}

impl HostName {
    /// From the `Host` header, else from an absolute-form target (HTTP/1), else from `:authority` (HTTP/2).
    ///
    /// Pingora has refused requests with two `Host` headers, or with a target that contradicts `Host`, before.
    pub fn of(request: &RequestHeader) -> Result<Self, BadHost> {
        if let Some(value) = request.headers.get(http::header::HOST) {
            return Self::parse(value.as_bytes());
        }
        match raw_target_authority(request.raw_path()) {
            RawTargetAuthority::Absolute { authority, .. } => Self::parse(authority),
            RawTargetAuthority::AmbiguousAuthority => Err(BadHost::Malformed),
            RawTargetAuthority::None => match request.uri.authority() {
                Some(authority) => Self::parse(authority.as_str().as_bytes()),
                None => Err(BadHost::Missing),
            },
        }
    }

    /// From `host`, `host:port`, `host.`, or `[v6]:port`.
    pub fn parse(text: &[u8]) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Missing);
        }
        let (name, port) = split_port(text).ok_or(BadHost::Malformed)?;
        let name = name.strip_suffix(b".").unwrap_or(name);
        let port_fits = port.iter().all(u8::is_ascii_digit) && port.len() <= 5;
        // What a URL's host may hold: letters, digits, and what IPv6 and real-world names need.
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._[]:~".contains(byte);
        if name.is_empty() || name.len() > LONGEST || !port_fits || !name.iter().all(fits) {
            return Err(BadHost::Malformed);
        }
        let mut bytes = [0; LONGEST];
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most LONGEST, which fits")]
        Ok(Self { bytes, length: name.len() as u8 })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // ASCII was checked by `parse`.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// The name and the digits of the port, if any. `None` for what is not of that form.
fn split_port(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text[0] == b'[' {
        let end = text.iter().position(|&byte| byte == b']')?;
        let (name, rest) = text.split_at(end + 1);
        return match rest {
            [] => Some((name, b"")),
            [b':', port @ ..] => Some((name, port)),
            _ => None,
        };
    }
    match text.iter().position(|&byte| byte == b':') {
        None => Some((text, b"")),
        Some(colon) => Some((&text[..colon], &text[colon + 1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_whatever_its_case_port_or_final_dot() {
        for (given, expected) in [
            ("hello.localhost", "hello.localhost"),
            ("Hello.LOCALHOST:8080", "hello.localhost"),
            ("hello.localhost.", "hello.localhost"),
            ("hello.localhost.:80", "hello.localhost"),
            ("hello.localhost:", "hello.localhost"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("under_score.test", "under_score.test"),
        ] {
            assert_eq!(
                HostName::parse(given.as_bytes()).map(|h| h.as_str().to_owned()),
                Ok(expected.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(254);
        for given in [
            "[",
            "[::1",
            "[::1]x",
            ".",
            ":80",
            "a:b",
            "a:999999",
            "user@host",
            "a b",
            "a/b",
            "a\\b",
            "h\u{e9}",
            "a%00",
            "<script>",
            "a,b",
            &long,
            "a:1:2",
        ] {
            let parsed = HostName::parse(given.as_bytes()).map(|h| h.as_str().to_owned());
            assert_eq!(parsed, Err(BadHost::Malformed), "{given}");
        }
        assert_eq!(HostName::parse(b"").map(|_| ()), Err(BadHost::Missing));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(text: Vec<u8>) {
            if let Ok(host) = HostName::parse(&text) {
                assert!(!host.as_str().is_empty());
            }
        }
    }
}
