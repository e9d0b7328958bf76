//! What went wrong while decoding, on its way up to the container that knows where.

use std::fmt;

use super::{Entry, Kind, Node, Scalar};
use crate::config::{
    problem::{At, Problems, list, suggest},
    secret,
};

/// One problem on its way up: the innermost container that sees it says where it is. Boxed, since every method of
/// the deserializer returns it.
#[derive(Debug)]
pub(super) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    what: What,
    at: Option<At>,
    /// The sentence to tell, once the place is known.
    message: String,
    help: Option<String>,
    /// Indices from the innermost container outwards.
    path: Vec<usize>,
    /// Whether the value must not be shown.
    hidden: bool,
}

#[derive(Debug)]
pub(super) enum What {
    /// Something else was expected: in serde's words.
    Expected(String),
    /// A key that the type does not have, and those that it has.
    UnknownKey(String, &'static [&'static str]),
    /// A word that is none of these.
    NotOneOf(&'static [&'static str]),
    /// Goes on after the value: "is not a duration".
    Sentence(String),
    /// A whole sentence about a list or a map.
    Missing(&'static str),
}

impl Failure {
    pub(super) fn new(what: What) -> Self {
        let message = String::new();
        Self(Box::new(Details { what, at: None, message, help: None, path: Vec::new(), hidden: false }))
    }

    /// The value must not be shown.
    pub(super) fn hidden(mut self) -> Self {
        self.0.hidden = true;
        self
    }

    /// From the top to the part that is wrong.
    pub(super) fn path(&self) -> Vec<usize> {
        self.0.path.iter().rev().copied().collect()
    }

    /// Only the first call counts: the deepest node.
    pub(super) fn seen_at(mut self, node: &Node, hidden: bool) -> Self {
        if self.0.at.is_some() {
            return self;
        }
        self.0.at = Some(node.at);
        let shown = shown(node, hidden || self.0.hidden);
        self.0.message = match &self.0.what {
            What::Expected(expected) => format!("expected {}, found {shown}", in_words(expected)),
            What::NotOneOf(words) => format!("{shown} is not one of {}", list(words.iter().copied())),
            What::Sentence(text) => match &node.kind {
                Kind::Scalar(scalar) => format!("{shown} {}", without(scalar, text)),
                _ => text.clone(),
            },
            What::Missing(key) => format!("`{key}` is missing"),
            What::UnknownKey(..) => String::new(),
        };
        self
    }

    pub(super) fn seen_at_key(mut self, entry: &Entry) -> Self {
        if self.0.at.is_some() {
            return self;
        }
        self.0.at = Some(entry.key_at);
        self.0.message = match &self.0.what {
            What::UnknownKey(key, known) => match suggest(key, known.iter().copied()) {
                Some(meant) => format!("unknown key `{key}`, did you mean `{meant}`?"),
                None if known.is_empty() => {
                    self.0.help = Some("nothing more can be set here".to_owned());
                    format!("unknown key `{key}`")
                }
                None => {
                    self.0.help = Some(format!("known here: {}", list(known.iter().copied())));
                    format!("unknown key `{key}`")
                }
            },
            What::Sentence(text) => format!("the key `{}` {text}", entry.key),
            _ => format!("`{}` cannot be a key here", entry.key),
        };
        self
    }

    pub(super) fn inside(mut self, index: usize) -> Self {
        self.0.path.push(index);
        self
    }

    /// Tells the problem, and says which key was probably meant by one that is unknown.
    pub(super) fn report(&self, problems: &mut Problems) -> Option<&'static str> {
        let at = self.0.at.unwrap_or_default();
        match &self.0.help {
            Some(help) => problems.push_with_help(at, &self.0.message, help),
            None => problems.push(at, &self.0.message),
        }
        match &self.0.what {
            What::UnknownKey(key, known) => suggest(key, known.iter().copied()),
            _ => None,
        }
    }
}

/// What stands in the file, short enough for a message, and without secrets.
fn shown(node: &Node, hidden: bool) -> String {
    match &node.kind {
        Kind::Sequence { .. } => "a list".into(),
        Kind::Mapping { .. } => "a map".into(),
        Kind::Scalar(scalar) if scalar.is_null() && scalar.filled.is_none() => "nothing".into(),
        Kind::Scalar(_) if hidden => "`***`".into(),
        Kind::Scalar(scalar) => {
            let text = secret::without_userinfo(&scalar.written).replace(char::is_control, " ");
            match text.char_indices().nth(60) {
                Some((cut, _)) => format!("`{}...`", &text[..cut]),
                None => format!("`{text}`"),
            }
        }
    }
}

/// Last line of defence against an error text of somebody else's that repeats what came from the environment.
fn without(scalar: &Scalar, text: &str) -> String {
    match &scalar.filled {
        Some(filled) if filled.len() > 3 => text.replace(&**filled, &scalar.written),
        _ => text.to_owned(),
    }
}

/// serde speaks Rust; this speaks YAML.
fn in_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "a string" => "a text",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Failure {}

/// The standard texts repeat the value; these do not.
impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Sentence(message.to_string()))
    }
    fn invalid_type(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::new(What::Expected(expected.to_string()))
    }
    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::new(What::Expected(expected.to_string()))
    }
    fn invalid_length(_: usize, expected: &dyn serde::de::Expected) -> Self {
        Self::new(What::Expected(expected.to_string()))
    }
    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::NotOneOf(known))
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey(key.to_owned(), known))
    }
    fn missing_field(key: &'static str) -> Self {
        Self::new(What::Missing(key))
    }
}
