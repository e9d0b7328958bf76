//! `/.loir/wake`: by a link that was signed, and by the button "Wake anyway" of an app that its schedule keeps asleep. It only
//! wakes: whoever asks is sent on to the app, and what they see there is the answer.

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use percent_encoding::percent_decode_str;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{
    ANSWERED, Gateway, RequestContext, audience, forward, permission,
    respond::{self, Problem},
};
use crate::{
    credentials::Link,
    lifecycle::{Admission, Cause, Demand, Refusal, Refused, Replicas},
};

/// The path.
pub const WAKE: &str = "/.loir/wake";

/// Whoever has a link is called so where it is said who has woken an app.
const BY_LINK: &str = "a signed link";

impl Gateway {
    /// Wakes the app of this host for whoever may, and sends them on to it.
    pub(super) async fn wake_anyway(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        replicas: &Replicas,
    ) -> Result<bool> {
        let outcome =
            match session.req_header().method {
                Method::GET | Method::HEAD => self.wake_by_link(session, replicas),
                Method::POST => self.wake_by_button(session, ctx, replicas),
                _ => Err(Problem::new(405, "A link is opened, and a button sends POST.")
                    .allowing("GET, HEAD, POST")),
            };
        match outcome {
            Ok(to) => {
                let mut head = ResponseHeader::build(303, Some(8))?;
                respond::never_cached(&mut head)?;
                head.insert_header(header::LOCATION, to)?;
                // The link itself is nobody else's business.
                head.insert_header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))?;
                let state = replicas.choose(&self.0.clock).state();
                head.insert_header(respond::STATE, HeaderValue::from_static(state.as_str()))?;
                respond::send(session, head, Bytes::new()).await?;
                Ok(ANSWERED)
            }
            Err(problem) => self.error(session, ctx, problem).await,
        }
    }

    fn wake_by_link(&self, session: &Session, replicas: &Replicas) -> Result<HeaderValue, Problem> {
        let request = session.req_header();
        let Some(text) = parameter(request, "t") else {
            return Err(Problem::new(403, "This link is not complete."));
        };
        let (credentials, wall) = (&self.0.credentials, self.0.clock.unix_millis());
        // The app that the link was signed for, of those that have this host.
        let mut outcome = Err(Problem::new(403, "This link is not one that was signed for this app."));
        for app in replicas.iter() {
            match credentials.read_link(&app.id, &text, wall) {
                Link::Good => outcome = Ok(app),
                Link::RunOut => {
                    outcome =
                        outcome.or(Err(Problem::new(410, "This link has run out: ask for another one.")));
                }
                Link::Wrong => {}
            }
        }
        let app = outcome?;
        if app.settings().ruling.access.as_ref().is_some_and(|access| !access.link) {
            return Err(Problem::new(403, "This app is not woken by links."));
        }
        // Whatever looks at a link to show a preview of it does not want the app.
        let looks = request.method == Method::HEAD || audience::demand(request) == Demand::Observe;
        if !looks {
            // If it is not woken now, the page that they are sent to says why. Nobody waits here.
            let admission =
                self.0.lifecycle.admit(app, Demand::Insist, || Cause::Person { name: BY_LINK.into() });
            if let Admission::Hold(waking) = admission {
                waking.goes_on();
            }
        }
        Ok(HeaderValue::from_static("/"))
    }

    fn wake_by_button(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        replicas: &Replicas,
    ) -> Result<HeaderValue, Problem> {
        let request = session.req_header();
        if !is_same_origin(request) {
            return Err(Problem::new(403, "Only a page of this very site may ask for that."));
        }
        let app = replicas.choose(&self.0.clock);
        let access = app.settings().ruling.access.clone();
        let right = match access {
            None => Some(permission::Right::Common),
            Some(access) => {
                let client = forward::asking(session, &ctx.settings);
                let (credentials, now) = (&self.0.credentials, self.0.clock.now());
                permission::right(&access, request, client, credentials, now)
            }
        };
        let Some(right) = right else {
            return Err(Problem::new(403, "The app sleeps, and this request may not wake it."));
        };
        match self.admit_to(session, ctx, app, Demand::Insist, right) {
            Admission::Refuse(Refused { reason: Refusal::Closed { .. }, .. }) => {
                Err(Problem::new(403, "The app's schedule keeps it asleep, whoever asks."))
            }
            // The page that they are sent to says how it goes on.
            Admission::Hold(waking) => {
                waking.goes_on();
                Ok(back(request))
            }
            Admission::Forward(_) | Admission::Refuse(_) => Ok(back(request)),
        }
    }
}

/// Whether a page of the same site has sent this. Browsers say so of every POST; what does not say it is not believed.
fn is_same_origin(request: &RequestHeader) -> bool {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    // The scheme is not compared: TLS may end before us.
    let origin = text("origin").and_then(|origin| origin.split_once("://"));
    let host = text("host").or_else(|| request.uri.authority().map(|authority| authority.as_str()));
    origin.zip(host).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
}

/// The page that the button was on: a path of this site and nothing else.
fn back(request: &RequestHeader) -> HeaderValue {
    let to = parameter(request, "to").unwrap_or_default();
    let plain = to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    // `//host` would be another site.
    let here = to.starts_with('/') && !to.starts_with("//") && !to.starts_with(super::reserved::PREFIX);
    let to = if plain && here { HeaderValue::from_str(&to).ok() } else { None };
    to.unwrap_or(HeaderValue::from_static("/"))
}

/// A parameter of the query, decoded.
fn parameter(request: &RequestHeader, name: &str) -> Option<String> {
    let pairs = request.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(known, _)| *known == name)?;
    percent_decode_str(value).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn only_a_page_of_the_same_site_may_ask() {
        let host = ("host", "shop.test:8080");
        for (headers, same) in [
            (&[("sec-fetch-site", "same-origin"), host][..], true),
            (&[("sec-fetch-site", "cross-site"), host], false),
            (&[("sec-fetch-site", "same-site"), host], false),
            (&[("sec-fetch-site", "none"), host], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://shop.test:8080"), host], false),
            (&[("origin", "https://shop.test:8080"), host], true),
            (&[("origin", "https://evil.test"), host], false),
            (&[("origin", "https://shop.test:8080.evil.test"), host], false),
            (&[("origin", "null"), host], false),
            (&[host], false),
        ] {
            assert_eq!(is_same_origin(&request(WAKE, headers)), same, "{headers:?}");
        }
    }

    #[test]
    fn the_way_back_is_a_path_of_this_site() {
        for (to, back_to) in [
            ("%2Fdeep%2Fpage%3Fx%3D1%26y", "/deep/page?x=1&y"),
            ("/plain", "/plain"),
            ("", "/"),
            ("%2F%2Fevil.test", "/"),
            ("https%3A%2F%2Fevil.test", "/"),
            ("%2F%5Cevil.test", "/"),
            ("%2Fa%0D%0Ab", "/"),
            ("%2F.loir%2Fwake", "/"),
            ("%2F%FF", "/"),
        ] {
            assert_eq!(back(&request(&format!("{WAKE}?to={to}"), &[])), back_to, "{to}");
        }
        assert_eq!(back(&request(WAKE, &[])), "/");
    }
}
