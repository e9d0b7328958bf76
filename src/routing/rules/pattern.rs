//! Which apps a rule is for, and the names it makes out of theirs.

use regex::{Captures, Regex, RegexBuilder};

use crate::app::AppId;

/// A compiled pattern may take so many bytes: nobody needs more for a name, and a counted repetition of a repetition takes
/// gigabytes.
const LARGEST: usize = 1 << 20;

/// A pattern for whole names, with captures.
///
/// A text of letters, digits, `-`, `_`, `/`, `*` and `?` alone is a glob: `*` stands for anything and `?` for one
/// character, and each of them is a capture. Any other text is a regular expression. With a `/` in it, either is for
/// `provider/name`, else for the name.
#[derive(Clone, Debug)]
pub struct Match {
    regex: Regex,
    full: bool,
}

impl Match {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that do not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let glob = text.chars().all(|it| it.is_ascii_alphanumeric() || "-_/*?".contains(it));
        let inner = match glob {
            true => text.replace('?', "(.)").replace('*', "(.*)"),
            false => {
                // By itself first: `a)(b` must not become two groups between our own brackets.
                compile(text)?;
                text.to_owned()
            }
        };
        let regex = compile(&format!("\\A(?:{inner})\\z"))?;
        Ok(Self { regex, full: text.contains('/') })
    }

    /// What it has captured of `app`, if it is for that app.
    pub fn captures<'a>(&self, text: &'a Names) -> Option<Captures<'a>> {
        self.regex.captures(if self.full { &text.full } else { &text.name })
    }

    /// How many captures there are, by number from 1.
    pub fn count(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// Whether a capture has this name.
    pub fn has(&self, name: &str) -> bool {
        self.regex.capture_names().flatten().any(|known| known == name)
    }
}

/// What patterns are held against.
pub struct Names {
    full: String,
    name: String,
}

impl From<&AppId> for Names {
    fn from(app: &AppId) -> Self {
        Self { full: app.to_string(), name: app.name.to_string() }
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(LARGEST).nest_limit(50).build().map_err(|error| match error {
        // Its last line says what is wrong; those before it repeat the pattern.
        regex::Error::Syntax(text) => {
            let why = text.lines().last().unwrap_or_default();
            why.strip_prefix("error: ").unwrap_or("it cannot be read").to_owned()
        }
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        _ => "it cannot be compiled".to_owned(),
    })
}

/// A name with captures in it: `shop-pr$1-back`.
///
/// `$1` (as many digits as follow) is a capture by its number, `$name` (letters, digits and `_`) by its name, `${1}` and
/// `${name}` are the same where more letters follow (in the file they are written `$${name}`, since `${name}` is a variable of the
/// environment there), and `$$` is a plain `$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number(usize),
    Named(String),
}

impl Template {
    /// Reads a template for what `pattern` captures.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str, pattern: &Match) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            push(&mut parts, &rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                push(&mut parts, "$");
                rest = after;
                continue;
            }
            let (word, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or("has a `${` without its `}`")?,
                None => rest.split_at(word_at(rest)),
            };
            parts.push(reference(word, pattern)?);
            rest = after;
        }
        push(&mut parts, rest);
        Ok(Self(parts))
    }

    /// The name. A capture that took no part is empty.
    pub fn expand(&self, captures: &Captures<'_>) -> String {
        let mut name = String::new();
        for part in &self.0 {
            let captured = match part {
                Part::Text(text) => {
                    name.push_str(text);
                    continue;
                }
                Part::Number(number) => captures.get(*number),
                Part::Named(capture) => captures.name(capture),
            };
            name.push_str(captured.map_or("", |captured| captured.as_str()));
        }
        name
    }
}

fn push(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// Where the word that begins `text` ends: digits only, or a name.
fn word_at(text: &str) -> usize {
    let digits = text.starts_with(|it: char| it.is_ascii_digit());
    let belongs = |it: char| it.is_ascii_digit() || !digits && (it.is_ascii_alphabetic() || it == '_');
    text.find(|it: char| !belongs(it)).unwrap_or(text.len())
}

fn reference(word: &str, pattern: &Match) -> Result<Part, String> {
    if word.is_empty() {
        return Err("has a `$` that names no capture: write `$1`, or `$$` for a plain `$`".to_owned());
    }
    if !word.bytes().all(|it| it.is_ascii_digit()) {
        return match pattern.has(word) {
            true => Ok(Part::Named(word.to_owned())),
            false => Err("names a capture that `match` does not have".to_owned()),
        };
    }
    let many = match pattern.count() {
        0 => "no captures".to_owned(),
        1 => "one capture, `$1`".to_owned(),
        count => format!("the captures `$1` to `${count}`"),
    };
    match word.parse() {
        Ok(number) if number <= pattern.count() => Ok(Part::Number(number)),
        _ => Err(format!("names a capture that `match` does not have: it has {many}")),
    }
}

#[cfg(test)]
mod tests;
