//! Values that remember where they were written.

use std::{fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::config::problem::At;

/// A value, where it stands, and how it was written.
///
/// Only our own deserializer knows positions; from any other one the place is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: At,
    /// A scalar as it is in the file, `${NAME}` for what came from the environment: the form to show to people.
    pub written: String,
    /// Keys of a map (or `-` for items of a list) that were dropped because of problems that have been told.
    pub lost: Vec<String>,
}

impl<T> Located<T> {
    /// A value that was not written anywhere.
    pub fn nowhere(value: T) -> Self {
        Self { value, at: At::default(), written: String::new(), lost: Vec::new() }
    }

    /// Whether `key` is missing, and nobody has been told yet.
    pub fn lacks<V>(&self, key: &str, value: &Option<V>) -> bool {
        value.is_none() && self.lost.iter().all(|lost| lost != key)
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The name by which our own deserializer knows a [`Located`].
pub(super) const LOCATED: &str = "loir::Located";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Located<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Located<T>, D::Error> {
                T::deserialize(inner).map(Located::nowhere)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Located<T>, A::Error> {
                let missing = || A::Error::custom("a part of a place is missing");
                let (line, column, start, end) = parts.next_element()?.ok_or_else(missing)?;
                let written = parts.next_element()?.ok_or_else(missing)?;
                let lost = parts.next_element()?.ok_or_else(missing)?;
                let value = parts.next_element()?.ok_or_else(missing)?;
                Ok(Located { value, at: At { line, column, start, end }, written, lost })
            }
        }
        deserializer.deserialize_newtype_struct(LOCATED, Parts(PhantomData))
    }
}

/// Where a list is expected, a single value is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

/// The name by which our own deserializer knows a [`OneOrMany`].
pub(super) const ONE_OR_MANY: &str = "loir::OneOrMany";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Vec<T>, D::Error> {
                Ok(vec![T::deserialize(inner)?])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, Values(PhantomData)).map(Self)
    }
}

macro_rules! same_schema {
    ($wrapper:ident, |$inner:ident| $schema:expr) => {
        impl<T: schemars::JsonSchema> schemars::JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                T::schema_name()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let $inner = generator.subschema_for::<T>();
                $schema
            }
        }
    };
}

same_schema!(Located, |inner| inner);
same_schema!(
    OneOrMany,
    |inner| schemars::json_schema!({ "anyOf": [inner, { "type": "array", "items": inner }] })
);
