//! What the rules say of a request: whether it is one that wakes nothing, and whether whoever asks may wake the app.

use std::{net::IpAddr, sync::Arc};

use http::header;
use pingora_http::RequestHeader;

use super::audience;
use crate::{
    clock::Millis,
    credentials::{Credentials, Scope},
    routing::rules::{Access, NoWake},
};

/// Where whoever may wake an app says so. It never reaches an app, like all that begins so.
pub const TOKEN: &str = "x-loir-token";

/// By what right an app is woken.
#[derive(Debug, PartialEq, Eq)]
pub enum Right {
    /// Anybody's, or that of a network.
    Common,
    /// That of the token with this name.
    Token(Arc<str>),
}

/// Whether the request is one of those that neither wake the app nor count as activity. `client` is only asked if it matters.
pub fn wakes_nothing(
    no_wake: &NoWake,
    request: &RequestHeader,
    client: impl FnOnce() -> Option<IpAddr>,
) -> bool {
    let NoWake { paths, user_agents, monitors, methods, cidrs } = no_wake;
    let path = request.uri.path();
    let agent = || request.headers.get(header::USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    };
    paths.iter().any(fits)
        || methods.iter().any(|method| request.method.as_str() == method)
        || (!user_agents.is_empty() && user_agents.iter().any(|part| has(agent(), part.as_bytes())))
        || (*monitors && audience::is_monitor_or_preview(agent()))
        || (!cidrs.is_empty()
            && client().is_some_and(|client| cidrs.iter().any(|net| net.contains(&client.to_canonical()))))
}

/// Whether `part`, in lower case, is in `text`, in any case.
fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// By what right whoever sends this may wake an app that not everybody may wake; `None` if they may not. A wrong token counts
/// against the client.
pub fn right(
    access: &Access,
    request: &RequestHeader,
    client: Option<IpAddr>,
    credentials: &Credentials,
    now: Millis,
) -> Option<Right> {
    let client = client?;
    if access.networks.iter().any(|net| net.contains(&client.to_canonical())) {
        return Some(Right::Common);
    }
    let token = request.headers.get(TOKEN).filter(|_| access.token)?.to_str().ok()?;
    credentials.admit(token.trim(), Scope::Operate, client, now).ok().map(Right::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, agent: &str) -> RequestHeader {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = RequestHeader::build(method, path.as_bytes(), None).unwrap();
        if !agent.is_empty() {
            request.insert_header("User-Agent", agent).unwrap();
        }
        request
    }

    #[test]
    fn a_request_that_fits_any_part_wakes_nothing() {
        let rule = NoWake {
            paths: vec!["/healthz".to_owned(), "/status/*".to_owned()],
            user_agents: vec!["nightly-check".to_owned()],
            monitors: true,
            methods: vec!["OPTIONS".to_owned()],
            cidrs: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let quiet =
            |line, agent, client: &str| wakes_nothing(&rule, &request(line, agent), || client.parse().ok());
        for (line, agent, client) in [
            ("GET /healthz", "", ""),
            ("POST /healthz?deep=1", "", ""),
            ("GET /status/", "", ""),
            ("GET /status/db", "", ""),
            ("GET /", "Acme Nightly-Check/2", ""),
            ("POST /", "UptimeRobot/2.0", ""),
            ("OPTIONS /", "", ""),
            ("GET /", "", "192.0.2.9"),
            ("GET /", "", "::ffff:192.0.2.9"),
        ] {
            assert!(quiet(line, agent, client), "{line} {agent} {client}");
        }
        for (line, agent, client) in [
            ("GET /healthz/", "", ""),
            ("GET /a/healthz", "", ""),
            ("GET /status", "", ""),
            ("GET /", "Mozilla/5.0", "198.51.100.1"),
            ("GET /", "", ""),
        ] {
            assert!(!quiet(line, agent, client), "{line} {agent} {client}");
        }
        assert!(!wakes_nothing(&NoWake::default(), &request("GET /", ""), || None));
    }

    #[test]
    fn a_client_is_not_looked_for_if_no_rule_asks() {
        let rule = NoWake { paths: vec!["/a".to_owned()], ..NoWake::default() };
        assert!(!wakes_nothing(&rule, &request("GET /", ""), || panic!("nobody asked")));
    }
}
