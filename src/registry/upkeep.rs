//! `Upkeep`: what people do with a registry at night, beside the gateways that use it and without joining them.

use async_trait::async_trait;

use super::{
    Record, RegistryError,
    dump::{Dump, Intent},
};
use crate::app::AppId;

/// Looks at what is kept, and mends it. Whatever it changes, it changes in one step with a last look at what is there: gateways
/// may run meanwhile.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Everything that is kept. Changes nothing.
    async fn dump(&self) -> Result<Dump, RegistryError>;

    /// Whether records can be put back and mended while gateways run; the error says what to do instead.
    fn mends(&self) -> Result<(), RegistryError>;

    /// Puts back what a dump has of `app`, if that is still missing or older; what was done.
    async fn restore(&self, app: &AppId, dumped: &Record) -> Result<Intent, RegistryError>;

    /// Everything that is wrong. Changes nothing.
    async fn examine(&self) -> Result<Examination, RegistryError>;

    /// Mends one thing, if it is still as it was found. Whether it was.
    async fn mend(&self, ailment: &Ailment) -> Result<bool, RegistryError>;
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// How many records there are.
    pub records: usize,
    /// Who leads the gateways, if anybody does.
    pub leader: Option<String>,
    /// What is wrong.
    pub ailments: Vec<Ailment>,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Ailment {
    /// The app or gateway.
    pub of: String,
    /// In words.
    pub wrong: String,
    /// What will become of it, in words.
    pub cure: String,
    /// What it takes, for whoever found it. `None` for what is not to be mended by hand.
    pub remedy: Option<Remedy>,
}

/// How something is mended.
#[derive(Clone, Debug)]
pub enum Remedy {
    /// What stands under the app's name is moved aside, if it still has this type and is this text.
    SetAside {
        /// The type of the value.
        kind: String,
        /// The text, if it is one.
        text: Option<Vec<u8>>,
    },
    /// The indexes are made to tell what the record tells, if it still is this text.
    Index {
        /// The record as written; nothing for none.
        text: Vec<u8>,
    },
    /// These fields of the fleet are taken out, if they still have these values.
    TakeOut(Vec<(String, String)>),
}
