//! Simulated platforms to try a gateway by hand, without an account anywhere.
//!
//! ```sh
//! cargo run --example simulate -- all --apps 5 --config /tmp/loir.yaml
//! cargo run -- run --config /tmp/loir.yaml    # in another terminal
//! ```
//!
//! Prints the provider entries for a configuration, then each call of the control APIs, until Ctrl-C.

#![allow(clippy::unwrap_used, reason = "a tool for the hand may end loudly")]

#[path = "../simulators/mod.rs"]
mod simulators;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use simulators::{CleverCloud, Heroku, Platform, REGIONS, Scalingo};

#[derive(Parser)]
#[command(about = "Simulated platforms to try a gateway by hand")]
struct Options {
    /// Which platform; `all` has two regions of Scalingo, Clever Cloud, Heroku, and one app name that two of them know
    platform: Which,
    /// How many apps each provider entry has, every other one running
    #[arg(long, default_value_t = 6)]
    apps: usize,
    /// The first of the ports to listen on; free ones without it
    #[arg(long)]
    port: Option<u16>,
    /// Writes a whole configuration here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long an app boots
    #[arg(long, default_value_t = 3000)]
    boot_ms: u64,
    /// How long an app takes to stop
    #[arg(long, default_value_t = 1000)]
    stop_ms: u64,
    /// Takes any number of calls, instead of as many as the real API
    #[arg(long)]
    no_limit: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Which {
    Scalingo,
    CleverCloud,
    Heroku,
    All,
}

/// What is to be started, and where.
struct Stage {
    options: Options,
    /// The next free one of the asked ports.
    port: u16,
    entries: String,
    platforms: Vec<(&'static str, Box<dyn Platform>)>,
}

/// The formations that apps get in turn.
const FORMATIONS: [&[(&str, u32)]; 4] =
    [&[("web", 1)], &[("web", 2), ("worker", 1)], &[("web", 1), ("clock", 0)], &[("web", 3), ("worker", 2)]];

impl Stage {
    fn wants(&self, which: Which) -> bool {
        [which, Which::All].contains(&self.options.platform)
    }

    /// So many ports from the asked ones; 0 for free ones.
    fn ports(&mut self, count: u16) -> u16 {
        let first = self.port;
        if first != 0 {
            self.port += count;
        }
        first
    }

    /// The apps of one provider entry. `entry` names them when there are several entries.
    fn fill(&self, platform: &dyn Platform, entry: &str, mut add: impl FnMut(&str, &[(&str, u32)], bool)) {
        let prefix = if self.options.platform == Which::All { entry } else { "app" };
        for number in 1..=self.options.apps {
            let name = format!("{prefix}-{number}");
            add(&name, FORMATIONS[number % FORMATIONS.len()], number % 2 == 0);
            platform.set_boot(&name, Duration::from_millis(self.options.boot_ms));
            platform.set_stop(&name, Duration::from_millis(self.options.stop_ms));
        }
    }

    fn keep(&mut self, entries: &[String], label: &'static str, platform: impl Platform) {
        self.entries.extend(entries.iter().map(String::as_str));
        self.platforms.push((label, Box::new(platform)));
    }

    fn limit(&self, limit: u32) -> Option<u32> {
        (!self.options.no_limit).then_some(limit)
    }

    async fn scalingo(&mut self) {
        let sim = Scalingo::start_at(self.ports(5)).await;
        sim.set_limit(self.limit(Scalingo::REAL_LIMIT));
        self.fill(&sim, "paris", |name, formation, running| sim.add(name, formation, running));
        let mut entries = vec![sim.entry_in("paris", REGIONS[0])];
        if self.options.platform == Which::All {
            self.fill(&sim, "secnum", |name, formation, running| {
                let app = sim.app(name).region(REGIONS[1]).formation(formation);
                if running { app.add() } else { app.stopped().add() }
            });
            sim.add("shop", FORMATIONS[1], false);
            entries.push(sim.entry_in("secnum", REGIONS[1]));
        }
        self.keep(&entries, "scalingo", sim);
    }

    async fn clever_cloud(&mut self) {
        let sim = CleverCloud::start_at(self.ports(3)).await;
        sim.set_limit(self.limit(CleverCloud::REAL_LIMIT));
        self.fill(&sim, "clever", |name, formation, running| sim.add(name, formation, running));
        self.keep(&[sim.entry("clever")], "clever_cloud", sim);
    }

    async fn heroku(&mut self) {
        let sim = Heroku::start_at(self.ports(2)).await;
        self.fill(&sim, "heroku", |name, formation, running| sim.add(name, formation, running));
        if self.options.platform == Which::All {
            sim.add("shop", FORMATIONS[0], false);
        }
        self.keep(&[sim.entry("heroku")], "heroku", sim);
    }

    fn configuration(&self) -> String {
        format!(
            "# Written by `cargo run --example simulate`: apps are at http://<app>.localhost:8080.\nserver:\n  listen: \
             127.0.0.1:8080\n  domain: localhost\ndefaults:\n  idle_timeout: 30s\nproviders:\n{}",
            self.entries
        )
    }

    /// Prints each call once, as soon as it is answered or has waited for a second.
    async fn print_calls(&self) {
        let begun = tokio::time::Instant::now();
        let mut printed = vec![0; self.platforms.len()];
        loop {
            for (at, (label, platform)) in self.platforms.iter().enumerate() {
                for call in platform.calls().into_iter().skip(printed[at]) {
                    if call.status == 0 && call.at.elapsed() < Duration::from_secs(1) {
                        break;
                    }
                    printed[at] += 1;
                    let seconds = (call.at - begun).as_secs_f64();
                    let status = if call.status == 0 { "---".into() } else { call.status.to_string() };
                    let (door, method, path, body) = (call.door, call.method, call.path, call.body);
                    println!("{seconds:9.3} {label}/{door} {status} {method} {path} {body}");
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let port = options.port.unwrap_or(0);
    let mut stage = Stage { options, port, entries: String::new(), platforms: Vec::new() };
    if stage.wants(Which::Scalingo) {
        stage.scalingo().await;
    }
    if stage.wants(Which::CleverCloud) {
        stage.clever_cloud().await;
    }
    if stage.wants(Which::Heroku) {
        stage.heroku().await;
    }
    println!("providers:\n{}", stage.entries);
    if let Some(path) = &stage.options.config {
        std::fs::write(path, stage.configuration()).unwrap();
        println!("# The whole configuration is in {}.", path.display());
    }
    tokio::select! {
        () = stage.print_calls() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
