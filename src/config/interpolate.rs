//! `${NAME}` from the environment, in every value of the file.
//!
//! | written | becomes |
//! |---|---|
//! | `${NAME}` | the variable; a problem if it is not set |
//! | `${NAME:-default}` | the variable, or the default if it is not set or empty |
//! | `${NAME:?message}` | the variable; a problem with this message if it is not set or empty |
//! | `$${` | `${` |
//!
//! A default, or the value of a variable, may name variables again. What comes from the environment is never
//! shown: where a value may hold anything (a password with `${` in it), only a well-formed name counts, and the
//! problems of an inner name are told without it.

use std::collections::BTreeMap;

use super::{
    problem::{At, Problems},
    yaml::{Kind, Node},
};

/// The longest text that one scalar may grow to, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// How many names one scalar may lead to, counted through all levels: variables that double each other are refused.
const MAX_NAMES: usize = 2_000;
/// How deep names may lead to names. Walked by recursion.
const MAX_DEPTH: usize = 64;

/// The variables that a configuration may name. Handed in, so that a test needs no process environment.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Sets a variable.
    pub fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Fills in the variables of every scalar. What cannot be filled in is told and taken out of the tree.
pub(super) fn expand(node: &mut Node, env: &Environment, problems: &mut Problems) -> bool {
    match &mut node.kind {
        Kind::Scalar(scalar) if scalar.written.contains("${") => match interpolate(&scalar.written, env) {
            Ok(text) => {
                scalar.filled = Some(text.into());
                true
            }
            Err(fault) => {
                let at = locate(&scalar.written, fault.at, node.at, problems.text());
                problems.push_with_help(at, fault.message, fault.help);
                false
            }
        },
        Kind::Scalar(_) => true,
        Kind::Sequence { items, incomplete } => {
            let all = items.len();
            items.retain_mut(|item| expand(item, env, problems));
            *incomplete |= items.len() < all;
            true
        }
        Kind::Mapping { entries, lost } => {
            entries.retain_mut(|entry| {
                let fine = expand(&mut entry.value, env, problems);
                if !fine {
                    lost.push(entry.key.clone());
                }
                fine
            });
            true
        }
    }
}

/// Where in the file the reference stands that begins at this byte of the scalar. Quotes and escapes move bytes, so
/// the `${` are counted on both sides; where that does not fit, the whole scalar is the place.
fn locate(written: &str, offset: usize, scalar: At, text: &str) -> At {
    let before = written[..offset].matches("${").count();
    let Some(source) = text.get(scalar.start..scalar.end) else {
        return scalar;
    };
    let Some((start, _)) = source.match_indices("${").nth(before) else {
        return scalar;
    };
    if source[..start].contains('\n') {
        return scalar;
    }
    let end = closing(source, start + 2).map_or(source.len(), |end| end + 1);
    let column = scalar.column + u32::try_from(source[..start].chars().count()).unwrap_or(0);
    At { line: scalar.line, column, start: scalar.start + start, end: scalar.start + end }
}

/// Why a scalar could not be filled in. Carries nothing that came from the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// At which byte of the text the reference begins.
    pub at: usize,
}

/// Fills in the variables of one text.
///
/// # Errors
///
/// When a variable without default is not set, names lead in a circle, a reference is not well formed, or the
/// result is more than a configuration should hold.
pub fn interpolate(text: &str, env: &Environment) -> Result<String, Fault> {
    let mut filling = Filling { env, out: String::new(), via: Vec::new(), names: 0, at: 0 };
    filling.text(text, Some(0))?;
    Ok(filling.out)
}

struct Filling<'e> {
    env: &'e Environment,
    out: String,
    /// The variables that are being filled in, outermost first.
    via: Vec<String>,
    names: usize,
    /// The innermost reference in the file that is being looked at.
    at: usize,
}

impl Filling<'_> {
    /// `base` is the byte of the file's scalar where `text` begins; `None` for text from the environment.
    fn text(&mut self, text: &str, base: Option<usize>) -> Result<(), Fault> {
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            self.push(&rest[..dollar])?;
            rest = &rest[dollar..];
            if rest.starts_with("$${") {
                self.push("${")?;
                rest = &rest[3..];
            } else if rest.starts_with("${") {
                if let Some(base) = base {
                    self.at = base + text.len() - rest.len();
                }
                rest = self.reference(rest, base.map(|base| base + text.len() - rest.len() + 2))?;
            } else {
                self.push("$")?;
                rest = &rest[1..];
            }
        }
        self.push(rest)
    }

    /// Fills in the reference at the beginning of `rest` and returns what follows it. `inner` is where its inside
    /// begins in the file.
    fn reference<'t>(&mut self, rest: &'t str, inner: Option<usize>) -> Result<&'t str, Fault> {
        let from_file = inner.is_some();
        let Some(end) = closing(rest, 2) else {
            if from_file {
                return self.fault("`${` has no `}`", "write `$${` for a plain `${`");
            }
            self.push("${")?;
            return Ok(&rest[2..]);
        };
        let (body, after) = (&rest[2..end], &rest[end + 1..]);
        let name = &body[..body.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(body.len())];
        let tail = &body[name.len()..];
        let well_formed = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && (tail.is_empty() || tail.starts_with(":-") || tail.starts_with(":?"));
        if !well_formed {
            if from_file {
                let help =
                    "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`, and `$${` for a plain `${`";
                return self.fault("this does not name a variable", help);
            }
            self.push("${")?;
            return Ok(&rest[2..]);
        }
        self.names += 1;
        if self.names > MAX_NAMES || self.via.len() >= MAX_DEPTH {
            return self.fault("too many variables that name variables", "name fewer of them");
        }
        let value = self.env.get(name).filter(|value| tail.is_empty() || !value.is_empty());
        match (value, tail.get(..2)) {
            (Some(value), _) => self.variable(name, value)?,
            (None, Some(":-")) => {
                // A default that is nested too deep would end in a stack overflow, so it counts as a level.
                self.via.push(String::new());
                self.text(&tail[2..], inner.map(|inner| inner + name.len() + 2))?;
                self.via.pop();
            }
            (None, _) if !from_file => {
                let outer = self.via.iter().rev().find(|name| !name.is_empty()).cloned().unwrap_or_default();
                let message =
                    format!("the value of the variable `{outer}` names another one that is not set");
                return self.fault(message, format!("look at `{outer}` in the environment"));
            }
            (None, Some(":?")) if tail.len() > 2 => {
                return self
                    .fault(format!("`{name}`: {}", &tail[2..]), format!("set `{name}` in the environment"));
            }
            (None, _) => {
                let help = format!("set it, or write a default: `${{{name}:-default}}`");
                return self.fault(format!("the variable `{name}` is not set in the environment"), help);
            }
        }
        Ok(after)
    }

    fn variable(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        if let Some(first) = self.via.iter().position(|outer| outer == name) {
            let circle: Vec<_> = self.via[first..].iter().filter(|name| !name.is_empty()).cloned().collect();
            let message =
                format!("these variables name each other in a circle: {} -> {name}", circle.join(" -> "));
            return self.fault(message, "give one of them a value of its own");
        }
        self.via.push(name.to_owned());
        self.text(value, None)?;
        self.via.pop();
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), Fault> {
        if self.out.len() + text.len() > MAX_LENGTH {
            return self
                .fault(format!("with its variables this is longer than {MAX_LENGTH} bytes"), "shorten it");
        }
        self.out.push_str(text);
        Ok(())
    }

    fn fault<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { message: message.into(), help: help.into(), at: self.at })
    }
}

/// The `}` that belongs to a `${` whose inside begins at `from`.
fn closing(text: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    let mut at = from;
    loop {
        let found = at + text.get(at..)?.find(['$', '}'])?;
        if text[found..].starts_with("${") {
            depth += 1;
        } else if text[found..].starts_with('}') {
            if depth == 0 {
                return Some(found);
            }
            depth -= 1;
        }
        at = found + 1;
    }
}

#[cfg(test)]
mod tests;
