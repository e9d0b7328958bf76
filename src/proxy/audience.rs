//! Who is asking, and so what they can understand. Pure, from the request header alone.
//!
//! An answer of ours that the client cannot understand does harm: HTML in place of a script breaks a page, and a
//! cached one breaks it for days. So the choice is made by what the client says of itself, not by one switch.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use http::{
    HeaderMap, Method,
    header::{self, HeaderName},
};
use pingora_http::RequestHeader;

use crate::lifecycle::Demand;

/// Who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A person who opens a page: soon sees the holding page.
    Visitor,
    /// A person who submitted a form: the page must not reload by itself, which would lose the form.
    Submitter,
    /// A browser that loads a part of a page: never HTML, an empty answer.
    Subresource,
    /// A program: a problem document (RFC 9457).
    Program,
    /// A gRPC client: a status in trailers.
    Grpc,
}

/// The request's audience.
pub fn audience(request: &RequestHeader) -> Audience {
    let headers = &request.headers;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text("content-type").starts_with("application/grpc") {
        return Audience::Grpc;
    }
    if headers.contains_key(header::UPGRADE) {
        return Audience::Program;
    }
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let navigates = match text("sec-fetch-mode") {
        "" => prefers_html(headers),
        mode => mode == "navigate",
    };
    match (navigates, reads) {
        (true, true) => return Audience::Visitor,
        (true, false) if request.method == Method::POST => return Audience::Submitter,
        _ => {}
    }
    // `empty` is fetch() and XMLHttpRequest: a program.
    match text("sec-fetch-dest") {
        "" | "empty" if reads && text("sec-fetch-mode").is_empty() && is_asset(request.uri.path()) => {
            Audience::Subresource
        }
        "" | "empty" | "document" | "iframe" | "frame" => Audience::Program,
        _ => Audience::Subresource,
    }
}

/// Whether HTML is asked for by name, and no JSON more so. `*/*` alone is a program (curl and most libraries send it).
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| quality(q).unwrap_or(0.0));
        match kind.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(quality),
            kind if kind.ends_with("/json") || kind.ends_with("+json") => json = json.max(quality),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

/// A weight, from 0 to 1 (RFC 9110, 12.4.2). `NaN` is a number for Rust, and none for HTTP.
fn quality(text: &str) -> Option<f32> {
    text.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))
}

/// Whether the request is a reason to wake an app, or to keep it awake.
pub fn demand(request: &RequestHeader) -> Demand {
    let headers = &request.headers;
    // Whoever sends something, or wants to talk, wants the app.
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if !reads || headers.contains_key(header::UPGRADE) {
        return Demand::Wake;
    }
    let path = request.uri.path();
    let quiet_path = matches!(path, "/favicon.ico" | "/robots.txt") || path.starts_with("/apple-touch-icon");
    let ahead = PREFETCH.iter().filter_map(|name| headers.get(name)?.to_str().ok());
    let ahead = ahead.into_iter().any(|value| value.contains("prefetch") || value.contains("prerender"));
    let robot = || headers.get(header::USER_AGENT).is_some_and(|it| is_monitor_or_preview(it.as_bytes()));
    if quiet_path || ahead || robot() { Demand::Observe } else { Demand::Wake }
}

/// Where browsers say that they only fetch ahead. Parsed once: this is on the path of every request.
static PREFETCH: [HeaderName; 3] = [
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("purpose"),
    HeaderName::from_static("x-moz"),
];

/// Programs that look at sites without anybody waiting for the answer: uptime monitors, and link previews of chats
/// and social networks. Lower case, by the product names that they publish. Not those whose people use the same name:
/// Mattermost's own app calls itself `Mattermost`.
const MONITORS_AND_PREVIEWS: &[&str] = &[
    "uptimerobot",
    "uptime-kuma",
    "better uptime",
    "betterstack",
    "pingdom",
    "statuscake",
    "site24x7",
    "updown.io",
    "hetrixtools",
    "freshping",
    "nodeping",
    "datadogsynthetics",
    "newrelicpinger",
    "google-cloud-uptimechecks",
    "amazon-route53-health-check",
    "zabbix",
    "check_http",
    "blackbox-exporter",
    "gatus",
    "oh dear",
    "slackbot-linkexpanding",
    "slack-imgproxy",
    "twitterbot",
    "facebookexternalhit",
    "linkedinbot",
    "discordbot",
    "telegrambot",
    "whatsapp/",
    "skypeuripreview",
    "mattermost-bot",
    "redditbot",
    "bluesky cardyb",
];

/// Whether a `User-Agent` is that of such a program.
pub fn is_monitor_or_preview(agent: &[u8]) -> bool {
    // One pass over the text, whatever the number of names: this is on the path of every request.
    static NAMES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA));
        builder
            .build(MONITORS_AND_PREVIEWS)
            .inspect_err(|error| log::error!("no monitor is known: {error}"))
            .ok()
    });
    NAMES.as_ref().is_some_and(|names| names.is_match(agent))
}

/// Paths that end like a part of a page, for clients that send no fetch metadata.
fn is_asset(path: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "js",
        "mjs",
        "css",
        "map",
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "avif",
        "svg",
        "ico",
        "woff",
        "woff2",
        "ttf",
        "otf",
        "mp3",
        "mp4",
        "webm",
        "wasm",
        "webmanifest",
    ];
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    const CHROME: &str =
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

    fn request(line: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = RequestHeader::build(method, path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn every_client_gets_what_it_can_understand() {
        use Audience::{Grpc, Program, Submitter, Subresource, Visitor};
        let table: &[(&str, Headers, Audience)] = &[
            (
                "GET /",
                &[("accept", CHROME), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                Visitor,
            ),
            ("HEAD /", &[("accept", CHROME), ("sec-fetch-mode", "navigate")], Visitor),
            ("GET /", &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], Visitor),
            ("GET /", &[("accept", CHROME)], Visitor),
            ("GET /logo.png", &[("accept", CHROME)], Visitor),
            ("GET /", &[("accept", "*/*")], Program),
            ("GET /", &[], Program),
            ("GET /", &[("accept", "application/json")], Program),
            ("GET /", &[("accept", "application/json, text/html;q=0.5")], Program),
            ("GET /", &[("accept", "text/html;q=0")], Program),
            ("GET /", &[("accept", "text/html;q=NaN")], Program),
            ("GET /", &[("accept", "application/json, text/html;q=9")], Program),
            ("GET /", &[("accept", "TEXT/HTML")], Visitor),
            ("POST /form", &[("accept", CHROME), ("sec-fetch-mode", "navigate")], Submitter),
            ("POST /form", &[("accept", CHROME)], Submitter),
            (
                "POST /api",
                &[("sec-fetch-mode", "cors"), ("accept", "*/*"), ("sec-fetch-dest", "empty")],
                Program,
            ),
            ("DELETE /x", &[("accept", CHROME)], Program),
            (
                "GET /app.js",
                &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script"), ("accept", "*/*")],
                Subresource,
            ),
            ("GET /x", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], Subresource),
            (
                "GET /sw.js",
                &[("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "serviceworker")],
                Subresource,
            ),
            ("GET /app.css", &[("accept", "text/css,*/*;q=0.1")], Subresource),
            (
                "GET /api",
                &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")],
                Program,
            ),
            (
                "OPTIONS /api",
                &[("access-control-request-method", "POST"), ("sec-fetch-mode", "cors")],
                Program,
            ),
            (
                "GET /chat",
                &[("upgrade", "websocket"), ("connection", "upgrade"), ("sec-fetch-mode", "websocket")],
                Program,
            ),
            ("POST /svc/Method", &[("content-type", "application/grpc+proto")], Grpc),
        ];
        for (line, headers, expected) in table {
            assert_eq!(audience(&request(line, headers)), *expected, "{line} {headers:?}");
        }
    }

    #[test]
    fn what_nobody_waits_for_wakes_nothing() {
        const ROBOT: &str = "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)";
        const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36";
        let table: &[(&str, Headers, Demand)] = &[
            ("GET /", &[("user-agent", BROWSER)], Demand::Wake),
            ("GET /", &[("user-agent", "curl/8")], Demand::Wake),
            ("GET /", &[], Demand::Wake),
            ("GET /favicon.ico", &[], Demand::Observe),
            ("GET /robots.txt", &[], Demand::Observe),
            ("GET /apple-touch-icon-precomposed.png", &[], Demand::Observe),
            ("GET /my/favicon.ico", &[], Demand::Wake),
            ("GET /", &[("sec-purpose", "prefetch;prerender")], Demand::Observe),
            ("GET /", &[("purpose", "prefetch")], Demand::Observe),
            ("GET /", &[("user-agent", ROBOT)], Demand::Observe),
            ("GET /", &[("user-agent", "Slackbot-LinkExpanding 1.0")], Demand::Observe),
            ("GET /", &[("user-agent", "WhatsApp/2.23.20.0")], Demand::Observe),
            ("HEAD /", &[("user-agent", ROBOT)], Demand::Observe),
            ("POST /", &[("user-agent", ROBOT)], Demand::Wake),
            ("GET /", &[("user-agent", ROBOT), ("upgrade", "websocket")], Demand::Wake),
            ("GET /", &[("user-agent", "Mattermost-Bot/1.1")], Demand::Observe),
            (
                "GET /",
                &[("user-agent", "Mozilla/5.0 Chrome/120.0 Electron/28.0 Mattermost/5.9")],
                Demand::Wake,
            ),
            ("POST /inbox", &[("user-agent", "http.rb/5.1 (Mastodon/4.2; +https://a.test/)")], Demand::Wake),
        ];
        for (line, headers, expected) in table {
            assert_eq!(demand(&request(line, headers)), *expected, "{line} {headers:?}");
        }
    }
}
