//! One binary for all integration tests. Each module's tests read like sentences of what Loir promises.
//!
//! Every test has a gateway of its own on a port of its own, and real child processes behind it (`tests/app`), so
//! they run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]

#[path = "../simulators/mod.rs"]
mod simulators;
mod support;

mod access;
mod account;
mod bad_input;
mod cell;
mod clever_cloud;
mod config;
mod dry_run;
mod fleet;
mod fleet_faults;
mod fleet_rules;
mod formation;
mod group;
mod heroku;
mod holding;
mod limits;
mod listing;
mod model;
mod origin;
mod paas;
mod pin;
mod platform;
mod process;
mod proxying;
mod records;
mod redis_itself;
mod registry;
mod registry_cli;
mod reload;
mod restart;
mod rules;
mod schedule;
mod shutdown;
mod sleep;
mod telling;
mod wake;

// Named here because `cell` runs the production source of `AppCell` inside this crate.
use loir::{app, clock};
