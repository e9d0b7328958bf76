//! What is wrong, where, and what to do: all of it at once, in the style of a compiler.

use std::{fmt, ops::Range};

/// Where something stands in the configuration's text. `At::default()` is nowhere, for what comes from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// From 1; 0 is nowhere.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where to look.
    pub at: At,
    /// What is wrong. Carries no text that came out of the environment.
    pub message: String,
    /// What to do about it, where the message alone does not tell.
    pub help: Option<String>,
}

/// Everything that is wrong with one configuration, and its text, so that it can be shown.
///
/// `Display` renders all problems in the order of their positions. Lines are shown as written in the file, never
/// with variables filled in, and secrets that were written into the file itself are blanked.
#[derive(Clone)]
pub struct Problems {
    name: String,
    text: String,
    secrets: Vec<Range<usize>>,
    found: Vec<Problem>,
}

impl Problems {
    /// None so far in `text`, which is called `name` when it is shown.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), secrets: Vec::new(), found: Vec::new() }
    }

    /// Adds a problem.
    pub fn push(&mut self, at: At, message: impl Into<String>) {
        self.add(Problem { at, message: message.into(), help: None });
    }

    /// Adds a problem that needs a word about what to do.
    pub fn push_with_help(&mut self, at: At, message: impl Into<String>, help: impl Into<String>) {
        self.add(Problem { at, message: message.into(), help: Some(help.into()) });
    }

    /// One mistake in a YAML anchor is found again at each alias: it is told once.
    fn add(&mut self, problem: Problem) {
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The problems in the order of their positions.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<_> = self.found.iter().collect();
        sorted.sort_by_key(|problem| (problem.at.line, problem.at.column));
        sorted
    }

    /// What the configuration is called, mostly the path of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Never shows these bytes of the text.
    pub(super) fn hide(&mut self, secrets: impl IntoIterator<Item = Range<usize>>) {
        self.secrets.extend(secrets);
    }

    /// What stands at a place of the file, to be shown instead of `value`, which may come from the environment.
    pub fn written(&self, at: At, value: &str) -> String {
        let written = self.text.get(at.start..at.end).filter(|_| at.line > 0).unwrap_or(value);
        written.trim().trim_matches(['"', '\'']).to_owned()
    }

    /// The text, for the places that need to look something up in it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line around `at`, its secrets blanked, and which of its columns (from 0) are marked.
    fn line(&self, at: At) -> (String, Range<usize>) {
        let start = at.start.min(self.text.len());
        let from = self.text.as_bytes()[..start].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let line = self.text.get(from..).unwrap_or_default().lines().next().unwrap_or_default();
        let (mut shown, mut columns, mut blanked) = (String::new(), Vec::new(), usize::MAX);
        let mut width = 0;
        for (offset, char) in line.char_indices() {
            let byte = from + offset;
            match self.secrets.iter().position(|range| range.contains(&byte)) {
                Some(secret) if secret == blanked => columns.push((byte, width - 3)),
                Some(secret) => {
                    columns.push((byte, width));
                    shown.push_str("***");
                    (blanked, width) = (secret, width + 3);
                }
                None => {
                    columns.push((byte, width));
                    shown.push(char);
                    width += 1;
                }
            }
        }
        let column = |byte| columns.iter().find(|(b, _)| *b >= byte).map_or(width, |(_, column)| *column);
        let first = column(start);
        let last = column(at.end.max(start)).max(first + 1);
        (shown, first..last)
    }

    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { line: number, column, .. } = problem.at;
        if number == 0 {
            writeln!(f, "{}: {}", self.name, problem.message)?;
        } else {
            let (line, marked) = self.line(problem.at);
            // A tab in the line is a tab under it, so that the caret stands where it should at any tab width.
            let indent: String =
                line.chars().take(marked.start).map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
            let number = number.to_string();
            let gutter = " ".repeat(number.len());
            writeln!(f, "{}:{number}:{column}: {}", self.name, problem.message)?;
            writeln!(f, "  {number} | {line}")?;
            writeln!(f, "  {gutter} | {indent}{}", "^".repeat(marked.len()))?;
        }
        match &problem.help {
            Some(help) => writeln!(f, "    = help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            self.show(problem, f)?;
            writeln!(f)?;
        }
        let plural = if self.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in {}", self.len(), self.name)
    }
}

/// The text itself may hold secrets, so it is left out.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problems")
            .field("name", &self.name)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Problems {}

/// The word of `known` that `typed` was probably meant to be.
pub fn suggest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: `listn` is `listen`, but `port` is not `path`.
    let length = typed.chars().count();
    if length > 40 {
        return None;
    }
    let bound = (length / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (distance(&typed.to_lowercase().replace('-', "_"), word), word))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to turn one word into the
/// other (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

/// `a, b, c`, each in backquotes.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, part: &str) -> At {
        let start = text.find(part).unwrap();
        let line = text[..start].matches('\n').count() + 1;
        let column = text[..start].chars().rev().take_while(|c| *c != '\n').count() + 1;
        At { line: line as u32, column: column as u32, start, end: start + part.len() }
    }

    #[test]
    fn all_problems_are_shown_in_order_with_a_caret_under_the_exact_place() {
        let text = "server:\n  listn: 1\r\n\t\u{e9}\u{e9}: wrong # tail\n";
        let mut problems = Problems::new("conf/x.yaml", text);
        problems.push_with_help(at(text, "wrong"), "second", "do this");
        problems.push(at(text, "listn"), "first");
        problems.push(At::default(), "nowhere");
        assert_eq!(
            problems.to_string(),
            "conf/x.yaml: nowhere\n\n\
             conf/x.yaml:2:3: first\n  2 |   listn: 1\n    |   ^^^^^\n\n\
             conf/x.yaml:3:6: second\n  3 | \t\u{e9}\u{e9}: wrong # tail\n    | \t    ^^^^^\n    = help: do this\n\n\
             3 problems in conf/x.yaml"
        );
    }

    #[test]
    fn a_secret_is_blanked_and_the_caret_moves_with_what_follows() {
        let text = "{ token: abcdefgh, listn: 1 }";
        let mut problems = Problems::new("x", text);
        let secret = at(text, "abcdefgh");
        problems.hide(std::iter::once(secret.start..secret.end));
        problems.push(at(text, "listn"), "unknown");
        problems.push(secret, "bad");
        let shown = problems.to_string();
        assert!(shown.contains("  1 | { token: ***, listn: 1 }\n    |          ^^^\n"), "{shown}");
        assert!(shown.contains("  1 | { token: ***, listn: 1 }\n    |               ^^^^^\n"), "{shown}");
        assert!(!shown.contains("abc"));
    }

    #[test]
    fn a_place_beyond_the_text_is_no_panic() {
        let mut problems = Problems::new("x", "a");
        problems.push(At { line: 9, column: 9, start: 99, end: 100 }, "end");
        problems.push(At { line: 1, column: 1, start: 1, end: 0 }, "end");
        assert!(problems.to_string().ends_with("2 problems in x"));
    }

    #[test]
    fn a_suggestion_is_near_or_none() {
        let known = ["listen", "domain", "threads", "idle_timeout"];
        assert_eq!(suggest("listn", known), Some("listen"));
        assert_eq!(suggest("nmae", ["name", "type"]), Some("name"));
        assert_eq!(suggest("Listen", known), Some("listen"));
        assert_eq!(suggest("idle-timeout", known), Some("idle_timeout"));
        assert_eq!(suggest("thread", known), Some("threads"));
        assert_eq!(suggest("nothing", known), None);
        assert_eq!(suggest("", known), None);
    }
}
