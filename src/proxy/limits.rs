//! What is refused whoever it is for.

use http::{Method, header};
use pingora_http::RequestHeader;

use super::{forward::Via, respond::Problem};
use crate::config::Limits;

/// What is wrong with a request whoever it is for, if anything.
pub fn unsound(request: &RequestHeader, limits: &Limits, via: &Via) -> Option<Problem> {
    let headers = &request.headers;
    if headers.len() > limits.header_fields {
        return Some(Problem::new(431, "The request has too many header fields."));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes + request.raw_path().len() > limits.header_bytes {
        return Some(Problem::new(431, "The request's header is too large."));
    }
    if request.method == Method::CONNECT {
        let problem = Problem::new(405, "This is a gateway, not a forward proxy.");
        return Some(problem.allowing("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.body) {
        return Some(Problem::new(413, "The request's body is larger than this gateway lets through."));
    }
    if headers.contains_key(header::VIA) && via.is_in(headers) {
        let detail = "The request has been here before: the app's address leads back to this gateway.";
        return Some(Problem::new(508, detail));
    }
    None
}
