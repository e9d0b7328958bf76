//! `Seen`: what a listing of a Scalingo account holds: each region, and its apps as its API told them.

use serde::{Deserialize, Serialize};

use super::wire;
use crate::provider::listing::Shape;

/// All regions of the entry.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    pub regions: Vec<Region>,
}

/// One region.
#[derive(Serialize, Deserialize)]
pub struct Region {
    pub name: String,
    /// Where its API is.
    pub api: String,
    pub apps: Vec<wire::App>,
}

impl Shape for Seen {
    const KIND: &'static str = "scalingo";

    const VERSION: u32 = 2;
}
