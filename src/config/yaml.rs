//! YAML as a tree that knows where each value stands, and serde over that tree.
//!
//! The parser is the one that serde-saphyr (Cargo key `serde_yaml`) brings and shows. We read its events into a tree
//! of our own for three reasons: a scalar keeps the text that was typed until a type asks for it (`1.10`, `010` and
//! `no` stay what they are where a text is wanted); variables can be filled in between parsing and reading; and
//! decoding can go on after a mistake, so that all mistakes are told at once.

use std::{collections::HashMap, sync::Arc};

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::problem::{At, Problems};

mod decode;
mod failure;
mod located;

pub(super) use self::decode::decode;
pub use self::{
    decode::Options,
    located::{Located, OneOrMany},
};

/// More nodes than this are refused. A file of 10,000 apps has a third of it; aliases of aliases have more.
const MAX_NODES: usize = 200_000;
/// Deeper trees are refused, since trees are walked by recursion.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Clone)]
pub struct Node {
    /// Of a map, the first key.
    pub at: At,
    /// What it is.
    pub kind: Kind,
}

/// The three kinds of YAML values. What could not be used is removed, and the hole is remembered.
#[derive(Clone)]
pub enum Kind {
    /// Everything that is not one of the others, null included.
    Scalar(Scalar),
    /// A list.
    Sequence {
        /// In order.
        items: Vec<Node>,
        /// Whether an item was removed because of a problem.
        incomplete: bool,
    },
    /// A map.
    Mapping {
        /// In order, each key once.
        entries: Vec<Entry>,
        /// Keys of entries that were removed because of a problem, which has been told.
        lost: Vec<String>,
    },
}

/// A key and its value.
#[derive(Clone)]
pub struct Entry {
    /// The key. Variables are not filled in here.
    pub key: String,
    /// Where the key stands.
    pub key_at: At,
    /// What it is set to.
    pub value: Node,
}

/// A scalar: text, until a type asks for something else.
#[derive(Clone)]
pub struct Scalar {
    /// As in the file: `${TOKEN}`.
    pub written: Arc<str>,
    /// With variables filled in, if there were any. Never to be shown.
    pub filled: Option<Arc<str>>,
    /// Not quoted, so that it may be a number, a boolean or null.
    pub plain: bool,
}

impl Scalar {
    /// The text to use.
    pub fn text(&self) -> &str {
        self.filled.as_deref().unwrap_or(&self.written)
    }

    /// Empty, `~` or `null`, and not quoted.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping { entries, .. } => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// As in the file, for `loir config show`: texts, with the names of variables and not what they are set to.
    pub(super) fn as_written(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.is_null() => serde_json::Value::Null,
            Kind::Scalar(scalar) if scalar.plain && matches!(scalar.text(), "true" | "false") => {
                (scalar.text() == "true").into()
            }
            Kind::Scalar(scalar) => super::secret::without_userinfo(&scalar.written).into(),
            Kind::Sequence { items, .. } => items.iter().map(Self::as_written).collect(),
            Kind::Mapping { entries, .. } => {
                let entries = entries.iter();
                entries.map(|entry| (entry.key.clone(), entry.value.as_written())).collect()
            }
        }
    }

    /// Removes an entry that was read or found wrong.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        match &mut self.kind {
            Kind::Mapping { entries, .. } => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at))
            }
            _ => None,
        }
    }

    fn size(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.kind {
            Kind::Scalar(_) => return (1, 1),
            Kind::Sequence { items, .. } => Box::new(items.iter()),
            Kind::Mapping { entries, .. } => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        let (nodes, depth) =
            children.map(Node::size).fold((1, 0), |sum, size| (sum.0 + size.0, sum.1.max(size.1)));
        (nodes, depth + 1)
    }
}

/// Reads the text that `problems` carries. A syntax error ends it, since what follows cannot be trusted; everything
/// else (a key that is written twice) is told, and the tree goes on without it.
pub fn parse(problems: &mut Problems) -> Option<Node> {
    let text = problems.text().to_owned();
    let mut builder = Builder { problems, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0 };
    let mut documents = 0;
    for event in Parser::new_from_str(&text) {
        let (event, span) = match event {
            Ok((event, span)) => (event, at(span)),
            Err(error) => {
                let here = at(Span::empty(*error.marker()));
                builder.problems.push(here, format!("this is not YAML: {}", error.info()));
                return None;
            }
        };
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                builder.problems.push(span, "a second YAML document starts here: only one is read");
                break;
            }
        }
        builder.take(event, span)?;
    }
    let Some(root) = builder.root else {
        problems.push(At::default(), "the file is empty");
        return None;
    };
    match &root.kind {
        Kind::Mapping { .. } => Some(root),
        Kind::Scalar(scalar) if scalar.is_null() => {
            problems.push(At::default(), "the file is empty");
            None
        }
        _ => {
            problems.push(root.at, "expected keys like `server:` and `providers:` at the top");
            None
        }
    }
}

fn at(span: Span) -> At {
    let byte = |marker: Marker| marker.byte_offset().unwrap_or_else(|| marker.index());
    At {
        line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
        column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
        start: byte(span.start),
        end: byte(span.end),
    }
}

/// A collection whose end has not been seen yet.
enum Open {
    Sequence { at: At, anchor: usize, items: Vec<Node> },
    Mapping { at: At, anchor: usize, entries: Vec<Entry>, key: Option<Key> },
}

enum Key {
    Text(String, At),
    /// A list or a map as a key: told, and its value is dropped.
    Unusable,
}

struct Builder<'p> {
    problems: &'p mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder<'_> {
    /// `None` when there is no point in going on.
    fn take(&mut self, event: Event<'_>, at: At) -> Option<()> {
        if let Some(tag) = event.tag()
            && tag.is_custom()
        {
            // It is not repeated: it may be a password that begins with `!`.
            self.problems.push(at, "a tag like `!name` means nothing here: put quotes around the value");
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let scalar =
                    Scalar { written: text.into(), filled: None, plain: style == ScalarStyle::Plain };
                self.place(Node { at, kind: Kind::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(Open::Sequence { at, anchor, items: Vec::new() })
            }
            Event::MappingStart(_, anchor, _) => {
                self.begin(Open::Mapping { at, anchor, entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop()? {
                Open::Sequence { at, anchor, items } => {
                    self.place(Node { at, kind: Kind::Sequence { items, incomplete: false } }, anchor)
                }
                Open::Mapping { at, anchor, entries, .. } => {
                    let mut node = Node { at, kind: Kind::Mapping { entries, lost: Vec::new() } };
                    self.merge(&mut node);
                    if let Kind::Mapping { entries, .. } = &node.kind {
                        node.at = entries.first().map_or(at, |entry| entry.key_at);
                    }
                    self.place(node, anchor)
                }
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    self.problems.push(at, "this alias stands inside the value it is an alias of");
                    return None;
                };
                let (nodes, depth) = node.size();
                self.nodes += nodes;
                self.check_size(at, depth)?;
                self.place(node, 0)
            }
            _ => Some(()),
        }
    }

    fn begin(&mut self, collection: Open) -> Option<()> {
        let (Open::Sequence { at, .. } | Open::Mapping { at, .. }) = collection;
        self.open.push(collection);
        self.check_size(at, 0)
    }

    fn check_size(&mut self, at: At, depth: usize) -> Option<()> {
        if self.nodes > MAX_NODES {
            self.problems.push(at, format!("too much: more than {MAX_NODES} values"));
            return None;
        }
        if self.open.len() + depth > MAX_DEPTH {
            self.problems.push(at, format!("too deep: more than {MAX_DEPTH} levels"));
            return None;
        }
        Some(())
    }

    /// Puts a finished value where it belongs: as a key, under a key, into a list, or at the top.
    fn place(&mut self, node: Node, anchor: usize) -> Option<()> {
        self.nodes += 1;
        self.check_size(node.at, 0)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match (key.take(), node) {
                (None, Node { at, kind: Kind::Scalar(scalar) }) => {
                    *key = Some(Key::Text(scalar.written.to_string(), at));
                }
                (None, node) => {
                    self.problems.push(node.at, "a key must be plain text");
                    *key = Some(Key::Unusable);
                }
                (Some(Key::Unusable), _) => {}
                (Some(Key::Text(key, key_at)), value) => {
                    match entries.iter().find(|entry| entry.key == key) {
                        Some(first) => {
                            let message = format!("`{key}` is already set at line {}", first.key_at.line);
                            self.problems.push(key_at, message);
                        }
                        None => entries.push(Entry { key, key_at, value }),
                    }
                }
            },
        }
        Some(())
    }

    /// `<<: *base` takes over the entries of `base` that are not set beside it.
    fn merge(&mut self, node: &mut Node) {
        let Some(merge) = node.take("<<") else { return };
        let sources = match merge.value.kind {
            Kind::Sequence { items, .. } => items,
            _ => vec![merge.value],
        };
        let Kind::Mapping { entries, .. } = &mut node.kind else {
            return;
        };
        for source in sources {
            match source.kind {
                Kind::Mapping { entries: more, .. } => {
                    for entry in more {
                        if entries.iter().all(|known| known.key != entry.key) {
                            entries.push(entry);
                        }
                    }
                }
                _ => self.problems.push(merge.key_at, "only a map can be merged with `<<`"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
