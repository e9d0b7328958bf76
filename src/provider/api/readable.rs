//! `Readable`: a list of which one odd element does not spoil the others.

use std::{any, fmt};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// The elements of an array that can be read as a `T`. The others are left out, and that is logged.
pub struct Readable<T>(pub Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Readable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Value>::deserialize(deserializer)?;
        let read = |value: Value| match T::deserialize(value) {
            Ok(one) => Some(one),
            Err(error) => {
                let what = any::type_name::<T>().rsplit("::").next().unwrap_or_default();
                log::warn!("a provider's list has a {what} that cannot be read and is left out: {error}");
                None
            }
        };
        Ok(Self(all.into_iter().filter_map(read).collect()))
    }
}

/// Without the elements: there may be secrets in them.
impl<T> fmt::Debug for Readable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.0.len())
    }
}
