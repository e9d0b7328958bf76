//! `Reply`: what a provider answered, and `Quirks`: how this provider says it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiError;

/// The longest excerpt, in characters.
const EXCERPT: usize = 200;

/// What a provider answered.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most 16 MiB.
    pub body: Bytes,
}

impl Reply {
    /// The body as what it should be. The error says where it is not, and never what is there.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let what = match error.classify() {
                _ if self.body.trim_ascii_start().starts_with(b"<") => "HTML in place of JSON",
                serde_json::error::Category::Data => "unexpected JSON",
                serde_json::error::Category::Eof => "JSON that ends too early",
                _ => "no JSON",
            };
            ApiError::Malformed(format!("{what}, line {} column {}", error.line(), error.column()))
        })
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The beginning of the body as text for operators: one line of at most 200 characters, without HTML.
    pub fn text_excerpt(&self) -> String {
        let beginning = self.body.get(..64 * 1024).unwrap_or(&self.body);
        excerpt(&without_tags(&String::from_utf8_lossy(beginning)))
    }

    /// `Retry-After`: seconds or a date, which is compared with the provider's own clock if it tells it.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header(header::RETRY_AFTER.as_str())?.trim();
        if let Ok(secs) = value.parse() {
            return Some(Duration::from_secs(secs));
        }
        let date = |text: &str| rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
        let then = date(value)?;
        let now = self.header(header::DATE.as_str()).and_then(date).unwrap_or_else(Timestamp::now);
        Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
    }
}

impl fmt::Debug for Reply {
    /// Without headers and body: there may be secrets in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status.as_u16(), self.body.len())
    }
}

/// One line of at most 200 characters, none of which controls anything.
pub(super) fn excerpt(text: &str) -> String {
    let harmless = |c: char| {
        // Marks that change the direction or cannot be seen.
        !c.is_control()
            && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = (!line.is_empty()).then_some(' ');
        line.extend(gap.into_iter().chain(word.chars().filter(|c| harmless(*c))));
    }
    match line.char_indices().nth(EXCERPT) {
        Some(_) => line.chars().take(EXCERPT - 1).chain(['…']).collect(),
        None => line,
    }
}

/// `text` without the tags of HTML and what stands in `<style>` and `<script>`.
fn without_tags(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        kept.push_str(&rest[..open]);
        rest = &rest[open + 1..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            kept.push('<');
            continue;
        }
        let silent = ["style", "script"].into_iter().find(|name| {
            rest.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name))
        });
        let end =
            silent.map_or(Some(0), |_| rest.find("</")).and_then(|from| Some(from + rest[from..].find('>')?));
        kept.push(' ');
        rest = end.map_or("", |end| &rest[end + 1..]);
    }
    kept.push_str(rest);
    kept
}

/// How a provider says what HTTP has its own words for. The defaults fit one that keeps to HTTP.
pub trait Quirks: Send + Sync {
    /// Whether this means that we call too often, other than by status 429.
    fn throttled(&self, _reply: &Reply) -> bool {
        false
    }

    /// Why the credential is of no use, if this means that, other than by status 401.
    fn misconfigured(&self, _reply: &Reply) -> Option<String> {
        None
    }

    /// Calls left in the provider's own pool.
    fn remaining(&self, _headers: &HeaderMap) -> Option<u32> {
        None
    }

    /// While fewer calls than this are left in the provider's pool, only wakes go.
    fn pool_reserve(&self) -> u32 {
        0
    }

    /// The provider's words for an error. They are shortened and cleaned by the caller.
    fn message(&self, reply: &Reply) -> String {
        message(reply)
    }

    /// The provider's code for an error.
    fn code(&self, reply: &Reply) -> Option<String> {
        code(reply)
    }
}

/// No quirks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Quirks for Plain {}

/// The words in an error's body, in the shapes that are in use: `{"error": ".."}`, `{"message": ".."}`,
/// `{"errors": {"field": [".."]}}` (with `"resource"` if it is there), or text.
pub fn message(reply: &Reply) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
        return reply.text_excerpt();
    };
    let mut words: Vec<String> = Vec::new();
    if let Some(Value::Object(fields)) = body.get("errors") {
        for (field, complaints) in fields.iter().take(5) {
            let complaints: Vec<_> = match complaints {
                Value::Array(all) => all.iter().filter_map(Value::as_str).take(5).collect(),
                one => one.as_str().into_iter().collect(),
            };
            words.push(format!("{field} {}", complaints.join(", ")));
        }
    }
    let text = |key: &str| body.get(key)?.as_str();
    if let Some(said) = text("message").or_else(|| text("error")) {
        let resource = text("resource").map(|resource| format!("{resource} ")).unwrap_or_default();
        words.push(resource + said);
    }
    words.join("; ")
}

/// The code in an error's body: `code` or `id`, a word or a number.
pub fn code(reply: &Reply) -> Option<String> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    ["code", "id"].into_iter().find_map(|key| match body.get(key)? {
        Value::String(word) => Some(word.chars().take(64).collect()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}
