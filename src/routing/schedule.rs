//! When an app is kept awake or asleep, by the clock on the wall.

/// What a schedule says of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the app sleeps when it is idle, and is woken when it is wanted.
    Free,
    /// It is kept warm: it is not stopped, however idle it is.
    Awake,
    /// It is kept asleep, and this becomes of whoever asks for it.
    Asleep(WhileAsleep),
}

/// What becomes of a request for an app that its schedule keeps asleep.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WhileAsleep {
    /// It is told when the app will be awake again.
    Never,
    /// A person is asked whether it is to be woken all the same; programs are told when it will be awake again.
    Ask,
    /// It wakes the app as always.
    #[default]
    Allow,
}

/// When an app is kept awake or asleep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {}

impl Schedule {
    /// What holds at `at`, in milliseconds since 1970.
    pub fn standing(&self, at: u64) -> Standing {
        let _ = at;
        Standing::Free
    }

    /// The first moment after `at` at which something else holds, and what; `None` if nothing ever will (or not within a year).
    pub fn next(&self, at: u64) -> Option<(u64, Standing)> {
        let _ = at;
        None
    }
}
