//! Loir is an edge gateway: it stands in front of many apps, stops the ones nobody uses and wakes them on the first
//! request. This page is the map of the house; each room says more about itself.
//!
//! | room | what is in it |
//! |---|---|
//! | [`app`] | the nouns everyone shares: `AppId`, `AppState`, `AppStatus`, `Formation`, `Endpoint`, `Origin` |
//! | [`clock`] | the only way to read time |
//! | [`config`] | what was typed (YAML) becomes what is needed; all problems are found in between, at once |
//! | [`routing`] | host name to app, and what rules say of an app |
//! | [`history`] | what has happened: events, hours, savings |
//! | [`hooks`] | commands and webhooks that are told, or asked, when an app is started or stopped |
//! | [`proxy`] | `impl ProxyHttp for Gateway`: **start reading here**, one request from top to bottom |
//! | [`lifecycle`] | the one object that decides every start and stop |
//! | [`provider`] | where apps run: the trait, the `PROVIDERS` table, one file for each |
//! | [`registry`] | what is remembered of apps: the trait, the `REGISTRIES` table, one file for each |
//! | [`server`] | the composition root: the only room that sees every other room |
//! | [`admin`] | what operators see and do: the API, metrics |
//! | [`cli`] | the command line |
//! | [`credentials`] | tokens, signed links, failed attempts: who may do what |
//! | [`demo`] | `loir demo`: a gateway with three sleepy apps and nothing to configure |
//!
//! Dependencies point downward only:
//!
//! ```text
//! main -> cli -> { demo, server } -> { proxy, lifecycle::Sweeper }
//!                                      proxy -> { routing, lifecycle } -> { provider, registry }   (traits)
//!                                      everything -> { app, clock, config }                        (plain data)
//! ```

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod history;
pub mod hooks;
pub mod lifecycle;
pub mod provider;
pub mod proxy;
pub mod registry;
pub mod routing;
pub mod server;
