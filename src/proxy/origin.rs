//! An app at a provider's router: it is told its own name there, and what names the visitor's is translated, both ways
//! (`containment` decides what becomes of which field).

use std::sync::Arc;

use http::header;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{
    containment::{self, Change, Names},
    forward::Client,
};
use crate::{
    app::{Endpoint, Origin},
    lifecycle::Reached,
};

/// Pingora's two kinds of headers have the same methods and no trait for them.
macro_rules! apply {
    ($changes:expr, $headers:expr) => {
        for change in $changes {
            match change {
                Change::Remove(name) => drop($headers.remove_header(&name)),
                Change::Replace(name, values) => {
                    $headers.remove_header(&name);
                    for value in values {
                        $headers.append_header(name.clone(), value)?;
                    }
                }
            }
        }
    };
}

/// The provider's own host for the app, if it is reached at one.
pub fn of(reached: &Reached) -> Option<Arc<Origin>> {
    match &reached.endpoint {
        Endpoint::Address(_) => None,
        Endpoint::Origin(origin) => Some(origin.clone()),
    }
}

/// To a provider's router: it finds the app by the name that it has there.
pub fn to_origin(
    request: &mut RequestHeader,
    session: &Session,
    client: &Client,
    origin: &Origin,
    contain: bool,
) -> pingora_core::Result<()> {
    if contain {
        let visitor = Visitor::of(session, client);
        let changes = containment::inward(&request.headers, &visitor.names(origin, &origin.authority()));
        apply!(changes, request);
    }
    request.insert_header(header::HOST, origin.authority())
}

/// From a provider's router: the app's name there is none of the visitor's business.
pub fn contain(
    response: &mut ResponseHeader,
    session: &Session,
    client: &Client,
    origin: &Origin,
) -> pingora_core::Result<()> {
    let visitor = Visitor::of(session, client);
    let changes = containment::outward(&response.headers, &visitor.names(origin, &origin.authority()));
    apply!(changes, response);
    Ok(())
}

/// How the visitor has come: what the gateway is called in the browser's address bar.
struct Visitor<'a> {
    scheme: &'static str,
    authority: &'a str,
}

impl<'a> Visitor<'a> {
    fn of(session: &'a Session, client: &Client) -> Self {
        let field = |name: &str| session.get_header(name).and_then(|value| value.to_str().ok());
        let told = |name: &str| field(name).filter(|_| client.trusted);
        // Of a list, the first is what the visitor typed.
        let first = |list: &'a str| list.split(',').next().unwrap_or(list).trim();
        let https = told("x-forwarded-proto").is_some_and(|proto| first(proto).eq_ignore_ascii_case("https"));
        let authority = told("x-forwarded-host").map(first).or(field("host")).unwrap_or_default();
        Self { scheme: if https { "https" } else { "http" }, authority }
    }

    fn names<'b>(&'b self, origin: &Origin, app_authority: &'b str) -> Names<'b> {
        Names {
            app_scheme: origin.scheme(),
            app_authority,
            visitor_scheme: self.scheme,
            visitor_authority: self.authority,
        }
    }
}
