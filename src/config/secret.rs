//! Text that must not be shown: by its type, or by the key it stands under.

use std::{fmt, ops::Range};

use serde::{Deserialize, Deserializer};

use super::yaml::{Kind, Node};

/// A text that never appears in `Debug`, in an error or in `loir config show`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text to be kept out of sight.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself. Whoever calls this keeps it out of logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The name by which our own deserializer knows a [`Secret`].
pub(super) const SECRET: &str = "loir::Secret";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = String;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<String, D::Error> {
                String::deserialize(inner)
            }
        }
        deserializer.deserialize_newtype_struct(SECRET, Visitor).map(Self)
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// Whether what stands under `key` is not for everybody's eyes. `env` is: passwords of databases live there.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "env"
        // Whoever knows the address of a webhook can write to it.
        || key == "webhook"
        || key.ends_with("key")
        || ["token", "secret", "passw", "passphrase", "credential"].iter().any(|word| key.contains(word))
}

/// The bytes of a file that must not be shown, when it could be parsed.
pub(super) fn in_tree(node: &Node, text: &str) -> Vec<Range<usize>> {
    fn walk(node: &Node, secret: bool, text: &str, found: &mut Vec<Range<usize>>) {
        match &node.kind {
            Kind::Scalar(_) if secret => {
                // A password may begin with `&`, or hold ` #`: then a part of it is no value for YAML.
                let rest = text.get(node.at.end..).and_then(|rest| rest.lines().next()).unwrap_or_default();
                let comment = if rest.trim_start().starts_with('#') { rest.len() } else { 0 };
                found.push(node.at.start..node.at.end + comment);
            }
            Kind::Scalar(_) => {}
            Kind::Sequence { items, .. } => items.iter().for_each(|item| walk(item, secret, text, found)),
            Kind::Mapping { entries, .. } => {
                for entry in entries {
                    let of_a_hook = || entries.iter().any(|other| ["on", "preset"].contains(&&*other.key));
                    let secret = secret || looks_secret(&entry.key) || (entry.key == "url" && of_a_hook());
                    let between = text.get(entry.key_at.end..entry.value.at.start).unwrap_or_default();
                    if let (true, Some(property)) = (secret, between.find(['&', '!'])) {
                        found.push(entry.key_at.end + property..entry.value.at.start);
                    }
                    walk(&entry.value, secret, text, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(node, false, text, &mut found);
    found
}

/// The bytes of a file that must not be shown, when it could not be parsed: rather too many than too few. From a
/// key that looks secret to the end of its line, and every deeper line below it.
pub(super) fn in_lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut block) = (0, None);
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let indent = line.len() - line.trim_start().len();
        if line.trim().is_empty() || block.is_some_and(|outer| indent > outer) {
            found.push(start + indent.min(line.trim_end().len())..end);
        } else {
            block = None;
            for (colon, _) in line.match_indices(':') {
                let key = line[..colon].trim_end_matches(['"', '\'', ' ']);
                let word = key.rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
                let of_a_hook = text.contains("preset") && key.ends_with("url");
                if of_a_hook
                    || looks_secret(
                        &key[word.map_or(0, |at| at + key[at..].chars().next().map_or(1, char::len_utf8))..],
                    )
                {
                    let value = line[colon + 1..].len() - line[colon + 1..].trim_start().len();
                    found.push((start + colon + 1 + value).min(end)..end);
                    block = Some(indent);
                    break;
                }
            }
        }
        start += line.len();
    }
    found
}

/// The bytes of `user:password` in every URL of the text, and of what follows `password=` in its query, where PostgreSQL takes one
/// as well.
pub(super) fn in_urls(text: &str) -> Vec<Range<usize>> {
    const PASSWORD: &str = "password=";
    let mut found = Vec::new();
    for (at, mark) in text.match_indices("://") {
        let from = at + mark.len();
        let ends = |c: char| c.is_whitespace() || "\"'".contains(c);
        let url = text[from..].split(ends).next().unwrap_or_default();
        let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
        found.extend(authority.rfind('@').map(|length| from..from + length));
        let Some(query) = url.find('?') else { continue };
        let mut begins = from + query + 1;
        for pair in url[query + 1..].split(['&', '#']) {
            if pair.get(..PASSWORD.len()).is_some_and(|name| name.eq_ignore_ascii_case(PASSWORD)) {
                found.push(begins + PASSWORD.len()..begins + pair.len());
            }
            begins += pair.len() + 1;
        }
    }
    // One URL may stand within another.
    found.sort_by_key(|range| (range.start, usize::MAX - range.end));
    let mut end = 0;
    found.retain(|range| {
        range.start >= end && {
            end = range.end;
            true
        }
    });
    found
}

/// `text` without the users and passwords of its URLs.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut shown = text.to_owned();
    for range in in_urls(text).into_iter().rev() {
        shown.replace_range(range, "***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_look_secret() {
        for key in ["token", "api_token", "client_secret", "Password", "key", "api-key", "env", "credentials"]
        {
            assert!(looks_secret(key), "{key}");
        }
        for key in ["keep_alive", "listen", "environment", "command", "path"] {
            assert!(!looks_secret(key), "{key}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_parsed_hides_by_lines() {
        let text = "a: 1\n- token: one\n  deeper\n  more:\n    two\nb: { x: 1, 'password': three, y: four }\nenv:\n  K: five\nc: 6";
        let hidden: Vec<_> = in_lines(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(hidden, ["one", "deeper", "more:", "two", "three, y: four }", "", "K: five"]);
    }

    #[test]
    fn urls_lose_their_userinfo() {
        assert_eq!(without_userinfo("postgres://me:p@ss@db/x?y=a@b"), "postgres://***@db/x?y=a@b");
        assert_eq!(without_userinfo("http://a/ and redis://:x@b"), "http://a/ and redis://***@b");
        assert_eq!(without_userinfo("user@host"), "user@host");
        let shown = without_userinfo(
            "postgres://a:b@db/x?user=me&password=hunter2&sslmode=require, 'http://y/?Password=hunter2'",
        );
        assert_eq!(
            shown,
            "postgres://***@db/x?user=me&password=***&sslmode=require, 'http://y/?Password=***'"
        );
        assert_eq!(without_userinfo("a://b/?password=c://d:e@f/g"), "a://b/?password=***");
        assert_eq!(without_userinfo("a://b/?x=c://d/?password=e"), "a://b/?x=c://d/?password=***");
    }
}
