//! Simulators of three platforms: their control APIs, their routers, and the apps behind them, in this process.
//!
//! Each handle is cheap to clone and lives as long as the runtime that started it. Everything a platform would do later
//! (containers that boot, operations that end) is due at a tokio `Instant` and takes effect when somebody looks, so no
//! task of a simulator ever lags behind what it answers. Delays are short unless a test sets them.
//!
//! What is simulated and from which source stands in the notes of each provider; unknowns have a mode for each
//! possibility. By default there is no call limit except Heroku's pool: `set_limit` brings one.

#![allow(dead_code, unused_imports, missing_docs, reason = "not everyone who includes this uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the tests may end loudly")]

mod api;
mod clever_cloud;
mod clever_cloud_api;
mod clever_cloud_app;
mod clever_cloud_builder;
mod door;
mod due;
mod fault;
mod heroku;
mod heroku_api;
mod heroku_app;
mod heroku_builder;
mod limit;
mod platform;
mod router;
mod scalingo;
mod scalingo_api;
mod scalingo_app;
mod scalingo_builder;
#[cfg(test)]
mod tests;
mod traffic;
mod upstream;

pub use api::{Answer, Call, Outage};
pub use clever_cloud::{CleverCloud, OAuth, ORGANISATION, USER};
pub use clever_cloud_app::{Ending, SecondStart};
pub use clever_cloud_builder::CleverCloudApp;
pub use due::Timing;
pub use fault::{Fault, matches};
pub use heroku::Heroku;
pub use heroku_builder::HerokuApp;
pub use platform::Platform;
pub use router::{Serving, Visit};
pub use scalingo::{REGIONS, Scalingo};
pub use scalingo_builder::ScalingoApp;
pub use traffic::Order;
