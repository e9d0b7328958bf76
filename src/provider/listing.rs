//! `Listing`: what a provider's API said of all its apps, as a text. Whoever did not ask, another gateway or the next one,
//! learns from it what the one that asked has learned.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ProviderError;

/// One list of apps, as JSON: what kind of provider made it, the version of its shape, and in that shape whatever is
/// needed to wake and stop the apps without asking again. It holds no secret.
///
/// Any text can be taken for one; [`Provider::learn`](super::Provider::learn) tells whether it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(String);

/// What the listings of one kind of provider hold.
///
/// Versions begin with 2: 1 is what an earlier gateway kept of its lists.
pub trait Shape: Serialize + DeserializeOwned {
    /// The kind's name in [`PROVIDERS`](super::PROVIDERS).
    const KIND: &'static str;

    /// Another one whenever a gateway of before could not read it, or would read something else.
    const VERSION: u32;
}

#[derive(Serialize)]
struct Written<'a, S> {
    kind: &'static str,
    version: u32,
    seen: &'a S,
}

/// What a listing of any shape says of itself.
#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
}

/// A listing whose shape is known.
#[derive(Deserialize)]
struct Read<S> {
    seen: S,
}

impl Listing {
    /// Of what was seen.
    pub(super) fn of<S: Shape>(seen: &S) -> Result<Self, ProviderError> {
        let text = serde_json::to_string(&Written { kind: S::KIND, version: S::VERSION, seen });
        text.map(Self)
            .map_err(|error| ProviderError::Failed(format!("its apps cannot be written down: {error}")))
    }

    /// What was seen, if it was seen by a provider of this kind and can be read.
    pub(super) fn read<S: Shape>(&self) -> Result<S, ProviderError> {
        let unread = |reason: String| ProviderError::Failed(format!("the listing cannot be read: {reason}"));
        let head: Head = serde_json::from_str(&self.0).map_err(|error| unread(error.to_string()))?;
        if head.kind != S::KIND {
            return Err(unread(format!("it is of a provider of type {:?}, not `{}`", head.kind, S::KIND)));
        }
        if head.version != S::VERSION {
            let (theirs, ours) = (head.version, S::VERSION);
            let whose = if theirs > ours { "a newer" } else { "an older" };
            return Err(unread(format!("it is from {whose} Loir (its version is {theirs}, not {ours})")));
        }
        let Read { seen } = serde_json::from_str(&self.0).map_err(|error| unread(error.to_string()))?;
        Ok(seen)
    }

    /// The JSON.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Listing {
    fn from(text: String) -> Self {
        Self(text)
    }
}
