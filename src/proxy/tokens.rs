//! Tokens of the admin side are nobody else's: whatever header a client puts one into, the app does not get it.

use std::sync::LazyLock;

use http::{HeaderValue, header::HeaderName};
use memchr::memmem::Finder;
use pingora_core::Result;
use pingora_http::RequestHeader;

use crate::credentials::{Credentials, TOKEN_LENGTH, TOKEN_PREFIX};

/// The field that carries a token for the gateway itself. Never passed on.
pub const TOKEN: HeaderName = HeaderName::from_static("x-loir-token");

/// Looks for one of ours: in every long value of every request.
static PREFIX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(TOKEN_PREFIX));

/// Takes out every field that holds a token which somebody has: as `Authorization: Bearer TOKEN`, or anywhere in any value if it was
/// made by `loir token new`.
pub fn withhold(request: &mut RequestHeader, credentials: &Credentials) -> Result<()> {
    request.remove_header(&TOKEN);
    if !credentials.has_any() {
        return Ok(());
    }
    // Does not allocate unless there is one.
    let mut found: Vec<HeaderName> = Vec::new();
    for (name, value) in &request.headers {
        if holds(value, name, credentials) {
            found.push(name.clone());
        }
    }
    for name in found {
        request.remove_header(&name);
    }
    Ok(())
}

fn holds(value: &HeaderValue, name: &HeaderName, credentials: &Credentials) -> bool {
    let bytes = value.as_bytes();
    let known = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| credentials.holder(text).is_some());
    if *name == http::header::AUTHORIZATION {
        let token =
            bytes.iter().position(|&byte| byte == b' ').map_or(bytes, |space| bytes[space..].trim_ascii());
        if known(token) {
            return true;
        }
    }
    // Where one of ours may stand among other things, as in a cookie.
    let mut rest = bytes;
    while rest.len() >= TOKEN_LENGTH {
        let Some(at) = PREFIX.find(rest) else { return false };
        rest = &rest[at..];
        if rest.get(..TOKEN_LENGTH).is_some_and(known) {
            return true;
        }
        rest = &rest[TOKEN_PREFIX.len()..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Admin,
        credentials::{NamedToken, Scope, TokenHash, new_token},
    };

    #[test]
    fn a_token_is_taken_out_wherever_it_stands_and_nothing_else_is() {
        let (ours, own) = (new_token().unwrap(), "made-up-by-somebody");
        let mut admin = Admin::default();
        for (name, token) in [("a", ours.as_str()), ("b", own)] {
            admin.tokens.push(NamedToken {
                name: name.into(),
                hash: TokenHash::of(token),
                scope: Scope::Read,
            });
        }
        let (credentials, _) = Credentials::open(&admin, None).unwrap();
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let nobodys = new_token().unwrap();
        for (name, value, stays) in [
            ("authorization", format!("Bearer {ours}"), false),
            ("authorization", format!("bearer  {own}"), false),
            ("authorization", format!("Token token=\"{ours}\""), false),
            ("authorization", "Bearer somebody-elses".to_owned(), true),
            ("authorization", format!("Bearer {nobodys}"), true),
            ("x-loir-token", "anything".to_owned(), false),
            ("cookie", format!("a=1; t={ours}; b=2"), false),
            ("x-own", format!("loir_loir_{ours}"), false),
            ("x-own", format!("loir_{nobodys}"), true),
            ("x-own", "loir_".to_owned(), true),
        ] {
            request.insert_header(name, &value).unwrap();
            withhold(&mut request, &credentials).unwrap();
            assert_eq!(request.remove_header(name).is_some(), stays, "{name}: {value}");
        }
    }
}
