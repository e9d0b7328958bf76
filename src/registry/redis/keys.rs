//! `Keys`: every key that is ever used. All begin with the prefix and the version of their layout.

use crate::app::AppId;

/// The names of keys in one fleet.
#[derive(Clone, Debug)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// Those of the fleet with this prefix.
    pub fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}:v1") }
    }

    /// The record of an app: a text, see [`super::wire`].
    pub fn record(&self, app: &AppId) -> String {
        format!("{}{app}", self.records())
    }

    /// What stands under a name, which need not be an app's.
    pub fn record_named(&self, name: &str) -> String {
        format!("{}{name}", self.records())
    }

    /// How the keys of all records begin.
    pub fn records(&self) -> String {
        format!("{}:app:", self.root)
    }

    /// Where what nobody understands is moved to: how that key begins. When it was moved follows.
    pub fn aside(&self, name: &str) -> String {
        format!("{}:aside:{name}:", self.root)
    }

    /// Who lives, who leads, and the number of the latest change: a hash.
    pub fn fleet(&self) -> String {
        format!("{}:fleet", self.root)
    }

    /// Every app that has a record, by the number of its latest change: a sorted set.
    pub fn changed(&self) -> String {
        format!("{}:changed", self.root)
    }

    /// Awake apps, by when they may be idle: a sorted set.
    pub fn due(&self) -> String {
        format!("{}:due", self.root)
    }

    /// Apps that are being woken or stopped, by when that counts as abandoned: a sorted set.
    pub fn deadlines(&self) -> String {
        format!("{}:deadlines", self.root)
    }

    /// Who has agreed to the stop of an app: a hash from gateways to epochs.
    pub fn agreed(&self, app: &AppId) -> String {
        format!("{}:agreed:{app}", self.root)
    }

    /// What a provider entry listed last: a hash.
    pub fn list(&self, entry: &str) -> String {
        format!("{}:list:{entry}", self.root)
    }

    /// An account's budget: a hash.
    pub fn budget(&self, account: &str) -> String {
        format!("{}:budget:{account}", self.root)
    }

    /// The channel on which all gateways listen.
    pub fn channel(&self) -> String {
        format!("{}:news", self.root)
    }
}
