//! Values that are written as one word: read from text, checked at once, described for the schema.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ipnet::IpNet;
use serde_json::{Value, json};

/// A value that is written as one word.
pub trait Scalar: Sized {
    /// Its name in the JSON Schema.
    const NAME: &'static str;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// A text that carries on after the value as it was written ("is not a port") and does not repeat it, since it
    /// may have come from the environment.
    fn parse(text: &str) -> Result<Self, String>;

    /// Its JSON Schema, without variables: those are added everywhere at the end.
    fn schema() -> Value;
}

/// `Deserialize` and `JsonSchema` of a [`Scalar`].
macro_rules! scalar {
    ($($name:ty),*) => { $(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::config::scalar::Word::<Self>::default())
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                false
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <Self as $crate::config::scalar::Scalar>::NAME.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <Self as $crate::config::scalar::Scalar>::schema().try_into().unwrap_or_default()
            }
        }
    )* };
}
pub(crate) use scalar;

/// Reads a [`Scalar`] from the text that a deserializer hands out.
pub struct Word<T>(std::marker::PhantomData<T>);

impl<T> Default for Word<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Scalar> serde::de::Visitor<'_> for Word<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }
}

/// The name of an app or a provider entry: a DNS label, since it becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(pub String);

impl Scalar for Label {
    const NAME: &'static str = "Name";
    fn parse(text: &str) -> Result<Self, String> {
        if is_label(text) && !text.contains(|c: char| c.is_ascii_uppercase()) {
            return Ok(Self(text.to_owned()));
        }
        Err("is not a name: 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end".to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" })
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A host name (RFC 1123), in lower case and without the dot at its end. Not an address, not a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl Scalar for HostName {
    const NAME: &'static str = "HostName";
    fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let why = if name.contains("://") || name.contains('/') {
            "a host name has no scheme and no path"
        } else if name.contains('*') {
            "a pattern is not possible here, name each host"
        } else if name.contains(':') || name.parse::<IpAddr>().is_ok() {
            "a name without port is wanted, not an address"
        } else if !name.is_ascii() {
            "write it as it is sent in HTTP, `xn--...`"
        } else if name.len() > 253 || !name.split('.').all(is_label) {
            "parts of a-z, 0-9 and `-`, at most 63 long, with dots between them"
        } else {
            return Ok(Self(name.to_ascii_lowercase()));
        };
        Err(format!("is not a host name: {why}"))
    }
    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\\.?$",
            "maxLength": 254,
            "examples": ["hello.example.com"]
        })
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u16);

impl Scalar for Port {
    const NAME: &'static str = "Port";
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(port @ 1..) if !text.starts_with('+') => Ok(Self(port)),
            _ => Err("is not a port: a whole number from 1 to 65535".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]+$" }
            ]
        })
    }
}

/// How many threads: more than 1024 are a slip of the finger, and a machine may not bear them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub usize);

impl Scalar for Threads {
    const NAME: &'static str = "Threads";
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count @ 1..=1024) if !text.starts_with('+') => Ok(Self(count)),
            _ => Err("is not a whole number from 1 to 1024".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 1024 },
                { "type": "string", "pattern": "^[0-9]+$" }
            ]
        })
    }
}

/// How many of something there may be: 1 to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl Scalar for Count {
    const NAME: &'static str = "Count";
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count @ 1..=1_000_000) if !text.starts_with('+') => Ok(Self(count)),
            _ => Err("is not a whole number from 1 to 1000000".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
                { "type": "string", "pattern": "^[0-9]+$" }
            ]
        })
    }
}

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080` or `8080`. Port 0 is any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Scalar for Listen {
    const NAME: &'static str = "Listen";
    fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port_is_plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let Some(port) = port.parse().ok().filter(|_| port_is_plain) else {
            return Err(
                "is not an address to listen on: write for example `127.0.0.1:8080` or `:8080`".to_owned()
            );
        };
        let address = match host {
            "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => {
                let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                plain.parse().map_err(|_| {
                    "is not an address to listen on: before the port stands an IP address, for example `0.0.0.0`"
                        .to_owned()
                })?
            }
        };
        if address.is_ipv6() && !host.starts_with('[') {
            return Err("needs brackets around the IPv6 address: `[::1]:8080`".to_owned());
        }
        Ok(Self(SocketAddr::new(address, port)))
    }
    fn schema() -> Value {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": "^(.*:)?[0-9]+$", "examples": ["127.0.0.1:8080", ":8080"] }
            ]
        })
    }
}

/// Whose forwarding headers are believed: a network, an address, or the word `loopback` or `private` for several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

/// RFC 1918 and RFC 4193, and what containers and links use (RFC 6598, RFC 3927, RFC 4291).
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

impl Scalar for Networks {
    const NAME: &'static str = "Networks";
    fn parse(text: &str) -> Result<Self, String> {
        let named = |nets: &[&str]| Ok(Self(nets.iter().filter_map(|net| net.parse().ok()).collect()));
        match text {
            "loopback" => named(&LOOPBACK),
            "private" => named(&PRIVATE),
            _ => {
                let one = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                one.map(|net| Self(vec![net.trunc()])).map_err(|_| {
                    "is not a network: write for example `10.0.0.0/8`, `192.0.2.1`, `loopback` or `private`".to_owned()
                })
            }
        }
    }
    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": "^(loopback|private|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$",
            "examples": ["10.0.0.0/8", "192.0.2.1", "loopback", "private"]
        })
    }
}

/// Status codes that count as ready: `200` or `200-499`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

impl Scalar for StatusRange {
    const NAME: &'static str = "StatusRange";
    fn parse(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low @ 100..=599), Ok(high @ 100..=599)) if low <= high => Ok(Self(low, high)),
            _ => {
                Err("is not a status code or a range of them: write for example `200` or `200-499`"
                    .to_owned())
            }
        }
    }
    fn schema() -> Value {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5][0-9]{2}( *- *[1-5][0-9]{2})?$", "examples": ["200-499"] }
            ]
        })
    }
}

/// A path and query to ask an app for: begins with `/`, visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath(pub String);

impl Scalar for UrlPath {
    const NAME: &'static str = "UrlPath";
    fn parse(text: &str) -> Result<Self, String> {
        let fine = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if fine {
            return Ok(Self(text.to_owned()));
        }
        Err("is not a path: it begins with `/` and has no spaces, for example `/health`".to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/[!-~]*$", "examples": ["/health"] })
    }
}

scalar!(Label, HostName, Port, Threads, Count, Listen, Networks, StatusRange, UrlPath);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_labels() {
        for name in ["a", "hello", "web-2", "0", &"a".repeat(63)] {
            assert!(Label::parse(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "Hello", "a.b", "a_b", "h\u{e9}llo", "a b", &"a".repeat(64)] {
            assert!(Label::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn host_names_are_normal() {
        assert_eq!(HostName::parse("Hello.Example.COM.").unwrap().0, "hello.example.com");
        for name in [
            "",
            ".",
            "a..b",
            "*.a.com",
            "http://a",
            "a.com:80",
            "1.2.3.4",
            "[::1]",
            "a/b",
            "\u{e9}.fr",
            "a_b.c",
            "-a.b",
        ] {
            assert!(HostName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn listening_addresses_in_three_forms() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:0", "[::]:0"),
        ] {
            assert_eq!(Listen::parse(text).unwrap().0, address.parse().unwrap(), "{text}");
        }
        for text in
            ["", ":", "localhost", "example.com:80", "::1:80", "1.2.3.4:99999", "1.2.3.4:+80", "8080x"]
        {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_by_address_and_by_word() {
        assert_eq!(Networks::parse("10.1.2.3/8").unwrap().0, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(Networks::parse("192.0.2.1").unwrap().0, ["192.0.2.1/32".parse().unwrap()]);
        assert_eq!(Networks::parse("loopback").unwrap().0.len(), LOOPBACK.len());
        assert_eq!(Networks::parse("private").unwrap().0.len(), PRIVATE.len());
        assert!(Networks::parse("10.0.0.0/33").is_err());
        assert!(Networks::parse("everybody").is_err());
    }

    #[test]
    fn ports_statuses_and_paths() {
        assert_eq!(Port::parse("8080"), Ok(Port(8080)));
        assert!(["0", "65536", "-1", "+80", "x", ""].iter().all(|port| Port::parse(port).is_err()));
        assert_eq!(Threads::parse("1024"), Ok(Threads(1024)));
        assert!(["0", "1025", "1000000", "+4"].iter().all(|threads| Threads::parse(threads).is_err()));
        assert_eq!(StatusRange::parse("200-499"), Ok(StatusRange(200, 499)));
        assert_eq!(StatusRange::parse("204"), Ok(StatusRange(204, 204)));
        assert!(["499-200", "99", "600", "2xx", ""].iter().all(|range| StatusRange::parse(range).is_err()));
        assert!(UrlPath::parse("/a?b=c").is_ok());
        assert!(["", "a", "/a b", "/a#b", "/\r\n"].iter().all(|path| UrlPath::parse(path).is_err()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".*") {
            let _ = (Label::parse(&text), HostName::parse(&text), Port::parse(&text), Listen::parse(&text));
            let _ = (Networks::parse(&text), StatusRange::parse(&text), UrlPath::parse(&text), Count::parse(&text));
        }
    }
}
