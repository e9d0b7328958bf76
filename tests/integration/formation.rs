//! What ran before comes back, whatever happens in between: random formations, sleeps, wakes, crashes of the gateway in the
//! middle of a stop, and people who rescale meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastrand::Rng;
use loir::{app::AppState, lifecycle::Slept};

use crate::{
    eventually,
    simulators::{Fault, Platform, Scalingo},
    support::{
        Gateway,
        paas::{Setup, gateway_for},
    },
};

type Amounts = BTreeMap<String, u32>;

const TYPES: [&str; 4] = ["web", "worker", "clock", "mailer"];

/// One app's life, with what ought to run while it is awake.
struct Life {
    seed: u64,
    rng: Rng,
    platform: Scalingo,
    setup: Setup,
    loir: Gateway,
    expected: Amounts,
    story: Vec<String>,
}

impl Life {
    async fn begin(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let platform = Scalingo::start().await;
        let types = &TYPES[..rng.usize(1..=TYPES.len())];
        let formation: Vec<_> = types
            .iter()
            .map(|name| (*name, if *name == "web" { rng.u32(1..=4) } else { rng.u32(0..=4) }))
            .collect();
        platform.add("shop", &formation, true);
        let setup = gateway_for([platform.entry("cloud")]);
        let (loir, expected) = (setup.start().await, platform.formation("shop"));
        let story = vec![format!("runs {formation:?}")];
        Self { seed, rng, platform, setup, loir, expected, story }
    }

    fn awake(&self) -> bool {
        self.loir.app_at("cloud", "shop").state() == AppState::Awake
    }

    fn check(&self, what: &str) {
        let runs = self.platform.formation("shop");
        assert_eq!(runs, self.expected, "{what}; seed {}: {}", self.seed, self.story.join(", "));
    }

    async fn wake(&mut self) {
        self.story.push("wake".into());
        let answer = self.loir.get("shop", "/").send().await.unwrap();
        assert_eq!(answer.status(), 200, "seed {}: {}", self.seed, self.story.join(", "));
        self.check("after a wake");
    }

    async fn sleep(&mut self) {
        self.story.push("sleep".into());
        assert_eq!(self.loir.stop_at("cloud", "shop").await, Slept::Yes, "seed {}", self.seed);
        assert!(self.platform.formation("shop").values().all(|amount| *amount == 0));
    }

    /// Another gateway, with what this one has on its disk at this moment.
    async fn die(&mut self) {
        let left = Arc::new(tempfile::tempdir().unwrap());
        let records = |folder: &tempfile::TempDir| folder.path().join("state/registry.json");
        std::fs::create_dir(left.path().join("state")).unwrap();
        std::fs::copy(records(&self.loir.folder), records(&left)).unwrap();
        self.loir = self.setup.start_in(left).await;
    }

    async fn die_between_saving_and_stopping(&mut self) {
        self.story.push("crash between save and stop".into());
        self.platform.clear_calls();
        self.platform.fault(Fault::on("POST", "*/scale").hangs());
        let (lifecycle, app) = (self.loir.running.lifecycle().clone(), self.loir.app_at("cloud", "shop"));
        let stop = tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
        eventually!(self.platform.count("POST", "*/scale") == 1);
        self.die().await;
        stop.abort();
    }

    /// In the dashboard.
    fn rescale(&mut self) {
        let awake = self.platform.formation("shop")["web"] > 0;
        let names: Vec<String> = self.expected.keys().cloned().collect();
        let name = names[self.rng.usize(..names.len())].clone();
        let amount = self.rng.u32(1..=5);
        self.story.push(format!("{name}={amount} by hand"));
        self.platform.set_formation("shop", &[(&name, amount)]);
        if !awake && name == "web" {
            // Whoever starts it knows what runs.
            self.expected = self.platform.formation("shop");
        } else {
            self.expected.insert(name, amount);
        }
    }

    async fn step(&mut self) {
        // An app that is being scaled by somebody is left alone until that is over.
        eventually!(self.platform.state("shop") != "scaling");
        // Workers that somebody started are theirs, and never stopped for want of visitors.
        let serves = self.awake() && self.platform.formation("shop")["web"] > 0;
        match (self.rng.u8(..6), serves) {
            (0 | 1, true) => self.sleep().await,
            (0 | 1, false) => self.wake().await,
            (2, true) => self.die_between_saving_and_stopping().await,
            (2 | 3, _) => {
                self.story.push("crash".into());
                self.die().await;
            }
            _ => self.rescale(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_the_end_is_what_ran_at_the_start_or_what_somebody_asked_for() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let lives = (first..first + 16).map(|seed| {
        tokio::spawn(async move {
            let mut life = Life::begin(seed).await;
            for _ in 0..6 {
                life.step().await;
            }
            life.wake().await;
        })
    });
    for life in lives.collect::<Vec<_>>() {
        life.await.unwrap();
    }
}
