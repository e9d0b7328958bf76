//! `Seen`: what a listing of a Clever Cloud account holds: each app as the summary has it, and what else is known of it.

use serde::{Deserialize, Serialize};

use super::{inventory, wire};
use crate::provider::listing::Shape;

/// All apps, by id.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    pub apps: Vec<App>,
}

/// One app.
#[derive(Serialize, Deserialize)]
pub struct App {
    pub app: inventory::App,
    /// Its domains, its zone and its instances, if they are known.
    pub more: Option<wire::Application>,
}

impl Shape for Seen {
    const KIND: &'static str = "clever_cloud";

    const VERSION: u32 = 2;
}
