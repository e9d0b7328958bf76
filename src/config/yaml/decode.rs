//! serde over the tree: types decide what a scalar is, and every mistake is found in one pass.

use std::{fmt, sync::Arc};

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::SeqDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    Entry, Kind, Node,
    failure::{Failure, What},
    located::{LOCATED, ONE_OR_MANY},
};
use crate::config::{
    problem::{At, Problems},
    secret::{self, SECRET},
};

/// What an entry says beside the keys that everyone knows: for the room that it belongs to.
#[derive(Clone)]
pub struct Options {
    node: Arc<Node>,
}

impl Options {
    /// The options in `node`, a map.
    pub fn new(node: Node) -> Self {
        Self { node: Arc::new(node) }
    }

    /// Where the entry stands.
    pub fn at(&self) -> At {
        self.node.at
    }

    /// Reads the options as a `T`.
    ///
    /// Every problem goes to the list; what is wrong is left out, and the rest is read all the same, so `Some` does
    /// not mean that nothing was wrong. Give `T` optional fields, and `deny_unknown_fields`.
    ///
    /// The error text of a scalar's own `Deserialize` carries on a sentence that starts with the value as it was
    /// written: "is not a host name". It must not repeat the value, which may have come from the environment.
    pub fn decode<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        decode(Node::clone(&self.node), problems)
    }
}

/// Values may be secrets: only the keys are shown.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node.kind {
            Kind::Mapping { entries, .. } => f.debug_set().entries(entries.iter().map(|e| &e.key)).finish(),
            _ => f.write_str("Options"),
        }
    }
}

/// Reads the tree as a `T`. On a problem the smallest part that holds it is taken out, and reading starts again; that
/// ends, since each round has less to read. `None` if nothing was left.
pub(in crate::config) fn decode<T: DeserializeOwned>(mut tree: Node, problems: &mut Problems) -> Option<T> {
    loop {
        let failure = match T::deserialize(Decoder { node: &tree, hidden: false }) {
            Ok(value) => return Some(value),
            Err(failure) => failure.seen_at(&tree, false),
        };
        let lost = failure.report(problems);
        if !remove(&mut tree, &failure.path(), lost) {
            return None;
        }
    }
}

/// Takes out what the path leads to, and remembers the hole.
fn remove(node: &mut Node, path: &[usize], lost_key: Option<&'static str>) -> bool {
    let Some((&first, rest)) = path.split_first() else {
        return false;
    };
    match &mut node.kind {
        Kind::Scalar(_) => false,
        Kind::Sequence { items, .. } if first >= items.len() => false,
        Kind::Mapping { entries, .. } if first >= entries.len() => false,
        Kind::Sequence { items, incomplete } if rest.is_empty() => {
            items.remove(first);
            *incomplete = true;
            true
        }
        Kind::Mapping { entries, lost } if rest.is_empty() => {
            let key = entries.remove(first).key;
            lost.push(lost_key.map_or(key, str::to_owned));
            true
        }
        Kind::Sequence { items, .. } => remove(&mut items[first], rest, lost_key),
        Kind::Mapping { entries, .. } => remove(&mut entries[first].value, rest, lost_key),
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    hidden: bool,
}

impl Decoder<'_> {
    /// The scalar's text as a number, if it is one; else the type's own complaint.
    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Kind::Scalar(scalar) = &self.node.kind else {
            return self.deserialize_any(visitor);
        };
        let text = scalar.text().trim();
        if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
            visitor.visit_f64(number)
        } else {
            Err(Failure::new(What::Expected(expectation(&visitor))))
        }
    }
}

/// What a visitor says it wants.
fn expectation<'de, V: Visitor<'de>>(visitor: &V) -> String {
    struct Wish<'a, V>(&'a V);
    impl<'de, V: Visitor<'de>> fmt::Display for Wish<'_, V> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.expecting(f)
        }
    }
    Wish(visitor).to_string()
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Failure;

    /// By the core schema of YAML 1.2, where `no` is a text and `010` is ten.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Sequence { items, .. } => {
                visitor.visit_seq(Items { items: items.iter().enumerate(), hidden: self.hidden })
            }
            Kind::Mapping { entries, .. } => visitor.visit_map(Entries {
                entries: entries.iter().enumerate(),
                open: None,
                hidden: self.hidden,
            }),
            Kind::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            Kind::Scalar(scalar) if !scalar.plain => visitor.visit_str(scalar.text()),
            Kind::Scalar(scalar) => match scalar.text() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                text if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    if let Ok(number) = text.parse() {
                        visitor.visit_u64(number)
                    } else if let Ok(number) = text.parse() {
                        visitor.visit_i64(number)
                    } else if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
                        visitor.visit_f64(number)
                    } else {
                        visitor.visit_str(text)
                    }
                }
                text => visitor.visit_str(text),
            },
        }
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i8 deserialize_i16
        deserialize_i32 deserialize_i64 deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Scalar(scalar) => match scalar.text() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                _ => Err(Failure::new(What::Expected(expectation(&visitor)))),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_str(scalar.text()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.is_null() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match name {
            LOCATED => visitor.visit_seq(Located { decoder: self, part: 0 }),
            ONE_OR_MANY => match &self.node.kind {
                Kind::Sequence { .. } => self.deserialize_any(visitor),
                _ => visitor.visit_newtype_struct(self),
            },
            SECRET => visitor.visit_newtype_struct(self).map_err(Failure::hidden),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct seq tuple tuple_struct map struct ignored_any
    }
}

/// Only enums of plain words are used here.
impl<'de> EnumAccess<'de> for Decoder<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        Ok((seed.deserialize(self)?, self))
    }
}

impl<'de> VariantAccess<'de> for Decoder<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Failure> {
        Err(Failure::new(What::Expected("a word".into())))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Failure> {
        Err(Failure::new(What::Expected("a word".into())))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Failure> {
        Err(Failure::new(What::Expected("a word".into())))
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    hidden: bool,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let value = seed.deserialize(Decoder { node, hidden: self.hidden });
        value.map(Some).map_err(|failure| failure.seen_at(node, self.hidden).inside(index))
    }
}

struct Entries<'a> {
    entries: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    open: Option<(usize, &'a Entry)>,
    hidden: bool,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, entry)) = self.entries.next() else {
            return Ok(None);
        };
        self.open = Some((index, entry));
        let key = seed.deserialize(entry.key.as_str().into_deserializer());
        key.map(Some).map_err(|failure: Failure| failure.seen_at_key(entry).inside(index))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let Some((index, entry)) = self.open.take() else {
            return Err(Failure::new(What::Sentence("was asked for before its key".into())));
        };
        let hidden = self.hidden || secret::looks_secret(&entry.key);
        seed.deserialize(Decoder { node: &entry.value, hidden })
            .map_err(|failure| failure.seen_at(&entry.value, hidden).inside(index))
    }
}

/// The parts of a [`Located`](super::Located): place, text, what was lost, value.
struct Located<'a> {
    decoder: Decoder<'a>,
    part: u8,
}

impl<'de> SeqAccess<'de> for Located<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.part += 1;
        let Decoder { node, hidden } = self.decoder;
        match self.part {
            1 => {
                let At { line, column, start, end } = node.at;
                let place = [u64::from(line), u64::from(column), start as u64, end as u64];
                seed.deserialize(SeqDeserializer::new(place.into_iter())).map(Some)
            }
            2 => {
                let written = match &node.kind {
                    Kind::Scalar(_) if hidden => "***",
                    Kind::Scalar(scalar) => &scalar.written,
                    _ => "",
                };
                seed.deserialize(written.into_deserializer()).map(Some)
            }
            3 => {
                let lost = match &node.kind {
                    Kind::Mapping { lost, .. } => lost.clone(),
                    Kind::Sequence { incomplete: true, .. } => vec!["-".to_owned()],
                    _ => Vec::new(),
                };
                seed.deserialize(SeqDeserializer::new(lost.into_iter())).map(Some)
            }
            4 => seed.deserialize(self.decoder).map(Some),
            _ => Ok(None),
        }
    }
}
