//! `Seen`: what a listing of a Heroku account holds: each app as the API told it, and what was last seen of its formation.

use serde::{Deserialize, Serialize};

use super::{memory::Sight, wire};
use crate::provider::listing::Shape;

/// All apps.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    pub apps: Vec<App>,
}

/// One app.
#[derive(Serialize, Deserialize)]
pub struct App {
    pub app: wire::App,
    pub sight: Option<Sight>,
}

impl Shape for Seen {
    const KIND: &'static str = "heroku";

    const VERSION: u32 = 2;
}
