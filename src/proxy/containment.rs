//! A visitor stays at the gateway: headers that name the app's own host are translated to the visitor's, and back.
//!
//! The visitor knows the app as `shop.gateway.example.com`; the app believes it is `shop.osc-fr1.scalingo.io`, because
//! that is the `Host` its platform must see. Untranslated, its redirects lead off the gateway (where nothing wakes
//! it), browsers refuse its cookies, and its CSRF check refuses the visitor's forms.
//!
//! | header | what is done |
//! |---|---|
//! | `Location`, `Content-Location`, `Refresh`, `Link` | the app's origin in the URL becomes the visitor's |
//! | `Access-Control-Allow-Origin` | the app's origin becomes the visitor's |
//! | `Set-Cookie` | a `Domain` that covers the app is dropped: the cookie is the visitor's host's alone |
//! | `Alt-Svc` | removed: it names the platform's own HTTP/3 endpoint |
//! | `Strict-Transport-Security` | `max-age` stays, `includeSubDomains` and `preload` go |
//! | `Origin`, `Referer`, `Destination` (to the app) | the visitor's origin becomes the app's |
//!
//! What is left alone, and why:
//!
//! - Whatever names a third host, even with the app's URL in its query (an OAuth `redirect_uri`): that is between them.
//! - What is not UTF-8, or not a plain URL (user info, a backslash, a control character): readers disagree about where
//!   such a URL leads, so it is not ours to lend the visitor's origin to.
//! - Bodies, and so `Content-Security-Policy`: a page that loads from the app's own host by name must stay allowed to.
//!   And `Timing-Allow-Origin`: behind one origin nobody needs its leave.
//! - `Access-Control-Request-*`: they name methods and headers, not origins.
//! - A cookie `Domain` that does not cover the app's host, be it one that covers the gateway's.
//!
//! If the app is told the visitor's own `Host`, both names are the same and no name is translated.

use std::{cell::LazyCell, fmt, ops::Range};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALT_SVC, CONTENT_LOCATION, LINK, LOCATION, ORIGIN, REFERER, REFRESH,
        SET_COOKIE, STRICT_TRANSPORT_SECURITY,
    },
};

/// Where WebDAV's COPY and MOVE go (RFC 4918, 10.3).
const DESTINATION: HeaderName = HeaderName::from_static("destination");

/// The two names of one app. If any of the four is malformed, no name is translated.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// `http` or `https`: how the gateway reaches the app.
    pub app_scheme: &'a str,
    /// `host` or `host:port`: the `Host` that the app is told.
    pub app_authority: &'a str,
    /// `http` or `https`: how the visitor's browser sees it, also behind a TLS terminator before the gateway. An
    /// `Origin` of the other scheme is a stranger's.
    pub visitor_scheme: &'a str,
    /// `host` or `host:port`: the `Host` that the visitor sent.
    pub visitor_authority: &'a str,
}

/// What is to be done with all values of one header. A header occurs in one change at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These, in this order, instead of those there are.
    Replace(HeaderName, Vec<HeaderValue>),
    /// None any more.
    Remove(HeaderName),
}

/// What to change in a request to the app. Allocates nothing if that is nothing, and never fails.
pub fn inward(headers: &HeaderMap, names: &Names<'_>) -> Vec<Change> {
    // Most requests have none of these headers: then not even the names are looked at.
    let way = LazyCell::new(|| Way::inward(names));
    let mut changes = Vec::new();
    revise(headers, ORIGIN, &mut changes, |text| way.as_ref()?.origin(text));
    revise(headers, REFERER, &mut changes, |text| way.as_ref()?.url(text));
    revise(headers, DESTINATION, &mut changes, |text| way.as_ref()?.url(text));
    changes
}

/// What to change in a response of the app, before the gateway adds headers of its own. Allocates nothing if that is
/// nothing, and never fails.
pub fn outward(headers: &HeaderMap, names: &Names<'_>) -> Vec<Change> {
    let way = LazyCell::new(|| Way::outward(names));
    let mut changes = Vec::new();
    if headers.contains_key(ALT_SVC) {
        changes.push(Change::Remove(ALT_SVC));
    }
    revise(headers, STRICT_TRANSPORT_SECURITY, &mut changes, narrowed);
    revise(headers, LOCATION, &mut changes, |text| way.as_ref()?.url(text));
    revise(headers, CONTENT_LOCATION, &mut changes, |text| way.as_ref()?.url(text));
    revise(headers, REFRESH, &mut changes, |text| way.as_ref()?.urls(text, refresh_target(text)));
    revise(headers, LINK, &mut changes, |text| way.as_ref()?.urls(text, link_targets(text)));
    revise(headers, ACCESS_CONTROL_ALLOW_ORIGIN, &mut changes, |text| way.as_ref()?.origin(text));
    revise(headers, SET_COOKIE, &mut changes, |text| host_only(text, way.as_ref()?.from.host));
    changes
}

/// Asks for each value of a header whether there is a new one instead, and notes the change if there is any.
fn revise(
    headers: &HeaderMap,
    name: HeaderName,
    changes: &mut Vec<Change>,
    new: impl Fn(&str) -> Option<String>,
) {
    // `to_str` would refuse UTF-8 outside of ASCII, which sloppy but well-meant paths hold.
    let new = |old: &HeaderValue| {
        let text = new(std::str::from_utf8(old.as_bytes()).ok()?)?;
        HeaderValue::try_from(text).ok()
    };
    let all = headers.get_all(&name);
    if all.iter().any(|old| new(old).is_some()) {
        let values = all.iter().map(|old| new(old).unwrap_or_else(|| old.clone())).collect();
        changes.push(Change::Replace(name, values));
    }
}

/// The translation in one direction.
struct Way<'a> {
    from: Origin<'a>,
    to: Origin<'a>,
    /// Whether a URL's origin is `from`.
    is_from: fn(&Origin<'a>, &Named<'_>) -> bool,
}

impl<'a> Way<'a> {
    fn inward(names: &Names<'a>) -> Option<Self> {
        let (app, visitor) = names.origins()?;
        Some(Self { from: visitor, to: app, is_from: Origin::is_exactly })
    }

    fn outward(names: &Names<'a>) -> Option<Self> {
        let (app, visitor) = names.origins()?;
        Some(Self { from: app, to: visitor, is_from: Origin::is_meant_by })
    }

    /// The URL with its origin translated and its rest as it was, byte for byte.
    fn url(&self, url: &str) -> Option<String> {
        let (named, rest) = Named::split(url)?;
        (self.is_from)(&self.from, &named).then(|| format!("{}{rest}", self.to))
    }

    /// The same for an origin alone (RFC 6454, 6.1), not a whole URL.
    fn origin(&self, origin: &str) -> Option<String> {
        let (named, rest) = Named::split(origin)?;
        if named.scheme.is_some() && rest.is_empty() { self.url(origin) } else { None }
    }

    /// The text with the URLs in these places translated.
    fn urls(&self, text: &str, places: impl IntoIterator<Item = Range<usize>>) -> Option<String> {
        let mut translated = String::new();
        let mut done = 0;
        for place in places {
            if let Some(url) = self.url(&text[place.clone()]) {
                translated += &text[done..place.start];
                translated += &url;
                done = place.end;
            }
        }
        (done > 0).then(|| translated + &text[done..])
    }
}

impl<'a> Names<'a> {
    /// The app's and the visitor's origin, if both are sound and there is anything to translate.
    fn origins(&self) -> Option<(Origin<'a>, Origin<'a>)> {
        if self.app_authority.eq_ignore_ascii_case(self.visitor_authority) {
            return None;
        }
        let app = Origin::new(self.app_scheme, self.app_authority)?;
        Some((app, Origin::new(self.visitor_scheme, self.visitor_authority)?))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        let schemes = [("http", Self::Http), ("https", Self::Https)];
        schemes.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, scheme)| scheme)
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What makes an origin (RFC 6454, 4).
struct Origin<'a> {
    scheme: Scheme,
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    fn new(scheme: &str, authority: &'a str) -> Option<Self> {
        let scheme = Scheme::parse(scheme)?;
        let (host, port) = split_authority(authority)?;
        Some(Self { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }

    /// What a browser says of itself is exact; and a page on `http` is a stranger to the same host on `https`.
    fn is_exactly(&self, named: &Named<'_>) -> bool {
        named.scheme == Some(self.scheme)
            && named.port.unwrap_or(self.scheme.default_port()) == self.port
            && named.host.eq_ignore_ascii_case(self.host)
    }

    /// What an app says of itself is not: behind TLS terminators many say `http`, and forget their port. Another port
    /// is another app.
    fn is_meant_by(&self, named: &Named<'_>) -> bool {
        let default = named.scheme.unwrap_or(self.scheme).default_port();
        named.port.is_none_or(|port| port == default || port == self.port)
            && named.host.eq_ignore_ascii_case(self.host)
    }
}

/// As browsers write an origin, and apps compare it: in lower case, without a port that goes without saying.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.host.to_ascii_lowercase())?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// The origin as a URL names it: `https://host:port`, or without a scheme (`//host`), or without a port.
struct Named<'a> {
    scheme: Option<Scheme>,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Named<'a> {
    /// The origin and the rest. `None` if the URL is relative, of another scheme, or strange.
    fn split(url: &'a str) -> Option<(Self, &'a str)> {
        // Browsers read a backslash as a slash and skip control characters, other clients do neither.
        if url.contains(|c: char| c == '\\' || c.is_control()) {
            return None;
        }
        let (scheme, after) = url.split_once("//")?;
        let scheme = match scheme.strip_suffix(':') {
            Some(scheme) => Some(Scheme::parse(scheme)?),
            None if scheme.is_empty() => None,
            None => return None,
        };
        let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        let (host, port) = split_authority(authority)?;
        Some((Self { scheme, host, port }, rest))
    }
}

/// The host, and the port if there is one. `None` for what is neither `host[:port]` nor `[v6][:port]`: with user info,
/// for instance.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let v6 = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    let end = authority[v6..].find(':').map_or(authority.len(), |colon| v6 + colon);
    let (host, port) = authority.split_at(end);
    let digits = port.strip_prefix(':').unwrap_or_default();
    // What `HostName` lets pass.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let fits_v6 = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    let is_host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.bytes().all(fits_v6),
        None => !host.is_empty() && host.bytes().all(fits),
    };
    if !is_host || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
    Some((host, port))
}

/// Where the URL stands in a `Refresh`, as browsers find it: `5; url="..."`, `5,URL=...`, `5; ...` (HTML, "shared
/// declarative refresh steps").
fn refresh_target(refresh: &str) -> Option<Range<usize>> {
    let seconds = refresh.trim_ascii_start();
    let after = seconds.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let separated = after.trim_ascii_start();
    let separated = separated.strip_prefix([';', ',']).unwrap_or(separated).trim_ascii_start();
    if after.len() == seconds.len() || separated.len() == after.len() {
        return None;
    }
    let url = after_url_equals(separated).unwrap_or(separated);
    let quote = url.chars().next().filter(|first| "\"'".contains(*first));
    let url = &url[quote.map_or(0, char::len_utf8)..];
    let length = quote.and_then(|quote| url.find(quote)).unwrap_or(url.len());
    let start = refresh.len() - url.len();
    Some(start..start + length)
}

/// What follows `url=`.
fn after_url_equals(text: &str) -> Option<&str> {
    let (url, after) = text.split_at_checked("url".len())?;
    let after = after.trim_ascii_start().strip_prefix('=')?;
    url.eq_ignore_ascii_case("url").then(|| after.trim_ascii_start())
}

/// Where the targets stand in a `Link`: `<target>; rel="next", <target>` (RFC 8288, 3). What looks like one inside of a
/// quoted parameter is none.
fn link_targets(link: &str) -> impl Iterator<Item = Range<usize>> {
    enum Place {
        Between,
        Target(usize),
        Parameters,
        Quoted,
        Escaped,
    }
    let mut place = Place::Between;
    link.bytes().enumerate().filter_map(move |(at, byte)| {
        let (next, found) = match (&place, byte) {
            (Place::Target(start), b'>') => (Place::Parameters, Some(*start..at)),
            (Place::Target(start), _) => (Place::Target(*start), None),
            (Place::Between, b'<') => (Place::Target(at + 1), None),
            (Place::Between, b' ' | b'\t') | (Place::Between | Place::Parameters, b',') => {
                (Place::Between, None)
            }
            (Place::Parameters, b'"') => (Place::Quoted, None),
            (Place::Quoted, b'\\') => (Place::Escaped, None),
            (Place::Between | Place::Parameters, _) | (Place::Quoted, b'"') => (Place::Parameters, None),
            (Place::Quoted | Place::Escaped, _) => (Place::Quoted, None),
        };
        place = next;
        found
    })
}

/// A `Set-Cookie` without the `Domain` by which it would be the app's host's or a parent domain's (RFC 6265, 5.2.3).
///
/// `__Secure-` promises nothing about the domain, so such a cookie is treated like any. A `__Host-` cookie has none:
/// browsers refuse one that has, and it is not for us to make it pass.
fn host_only(cookie: &str, host: &str) -> Option<String> {
    let prefix = cookie.trim_ascii_start().as_bytes().get(.."__Host-".len());
    if prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"__Host-")) {
        return None;
    }
    let (pair, attributes) = cookie.split_at(end_of_pair(cookie));
    let attributes = without(attributes, |name, value| {
        name.eq_ignore_ascii_case("domain") && covers(value.strip_prefix('.').unwrap_or(value), host)
    })?;
    Some(format!("{pair}{attributes}"))
}

/// Where a cookie's name and value end and its attributes begin: at the first semicolon. To some clients one inside of
/// a quoted value does not count: what is an attribute to browsers is part of the value to them, so it stays.
fn end_of_pair(cookie: &str) -> usize {
    quoted_end(cookie).or_else(|| cookie.find(';')).unwrap_or(cookie.len())
}

/// Where a cookie's value ends, if all of it is quoted.
fn quoted_end(cookie: &str) -> Option<usize> {
    let (name, value) = cookie.split_once('=')?;
    let quoted = value.trim_ascii_start().strip_prefix('"').filter(|_| !name.contains(';'))?;
    let mut escaped = false;
    let closing = quoted.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let after = quoted[closing + 1..].trim_ascii_start();
    (after.is_empty() || after.starts_with(';')).then(|| cookie.len() - after.len())
}

/// Whether a host is in a domain, or is the domain.
fn covers(domain: &str, host: &str) -> bool {
    let Some(labels) = host.len().checked_sub(domain.len()) else { return false };
    let (below, end) = host.as_bytes().split_at(labels);
    end.eq_ignore_ascii_case(domain.as_bytes()) && (below.is_empty() || below.ends_with(b"."))
}

/// A `Strict-Transport-Security` (RFC 6797) for the visitor's host alone.
///
/// An app under `example.com` itself must not force HTTPS on every other app below it, nor have browsers ship that
/// (`preload`), which takes months to undo. So it is on plain HTTP too, where browsers ignore the header: the gateway
/// may be wrong about a TLS terminator before it.
fn narrowed(policy: &str) -> Option<String> {
    let policy = without(policy, |name, _| {
        name.eq_ignore_ascii_case("includeSubDomains") || name.eq_ignore_ascii_case("preload")
    })?;
    Some(policy.trim_ascii_start().to_owned())
}

/// `a; b=c; d` without the parts whose name and value are unwanted. `None` if none is.
fn without(parts: &str, unwanted: impl Fn(&str, &str) -> bool) -> Option<String> {
    let wanted = |part: &&str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        !unwanted(name.trim_ascii(), value.trim_ascii())
    };
    if parts.split(';').all(|part| wanted(&part)) {
        return None;
    }
    Some(parts.split(';').filter(wanted).collect::<Vec<_>>().join(";"))
}

#[cfg(test)]
mod tests;
