//! `/metrics`: what is measured, in the OpenMetrics text format. Read when it is asked for: nothing is counted here on the way of a
//! request.
//!
//! Label values come from the configuration and from lists of providers, never from a request.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    AdminSide,
    counters::{self, Tally},
    door::Reader,
    problem::Problem,
};
use crate::{
    app::{AppId, AppState},
    config::admin::PerApp,
    history::Gap,
    hooks::{Outcome, Phase},
    lifecycle::traffic::{self, Counts},
};

/// With `per_app: auto`, more apps than this are not told apart.
const APPS: usize = 500;

/// The value of the label `app` when apps are not told apart.
const ALL: &str = "all";

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const STATES: [AppState; 5] =
    [AppState::Asleep, AppState::Waking, AppState::Awake, AppState::Stopping, AppState::Failed];

/// How reloads went.
#[derive(Debug)]
pub struct Reloads {
    fine: AtomicBool,
    at: AtomicU64,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { fine: AtomicBool::new(true), at: AtomicU64::new(0) }
    }
}

impl Reloads {
    /// One has ended at this moment (wall-clock milliseconds since 1970).
    pub fn reloaded(&self, fine: bool, at: u64) {
        self.fine.store(fine, Relaxed);
        if fine {
            self.at.store(at, Relaxed);
        }
    }

    /// Whether the latest one did not fail.
    pub fn is_fine(&self) -> bool {
        self.fine.load(Relaxed)
    }
}

/// What is measured, for a server that collects it.
#[utoipa::path(get, path = "/metrics", tag = "gateway", responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
))]
pub async fn scrape(_: Reader, State(side): State<AdminSide>) -> Result<Response, Problem> {
    let mut registry = Registry::with_prefix("loir");
    registry.register_collector(Box::new(Scrape::of(&side)));
    let mut text = String::new();
    // Writing to a `String` does not fail.
    text::encode(&mut text, &registry).map_err(|_| Problem::conflict("nothing can be measured now"))?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

/// All that is measured, at one moment.
#[derive(Debug)]
struct Scrape {
    apps: Vec<Measured>,
    tells_apart: bool,
    states: [u64; STATES.len()],
    held: usize,
    left_alone: u64,
    beyond_plan: u64,
    hooks: Vec<(Phase, Outcome, u64)>,
    reload_fine: bool,
    reloaded_at: u64,
    sees_registry: bool,
    gap: Gap,
    calls: Vec<(String, &'static str, u16, u64)>,
    hooks_running: usize,
    listeners: usize,
    open_files: Option<u64>,
}

/// An app, or all of them together.
#[derive(Debug)]
struct Measured {
    name: String,
    /// `None` for all together.
    state: Option<AppState>,
    in_flight: u64,
    counts: Counts,
    tally: Tally,
}

impl Measured {
    fn add(&mut self, other: &Self) {
        self.in_flight += other.in_flight;
        for (sum, more) in self.counts.classes.iter_mut().zip(other.counts.classes) {
            *sum += more;
        }
        for (sum, more) in self.counts.durations.iter_mut().zip(other.counts.durations) {
            *sum += more;
        }
        self.counts.total_millis += other.counts.total_millis;
        self.tally.add(&other.tally);
    }
}

impl Scrape {
    fn of(side: &AdminSide) -> Self {
        let lifecycle = side.lifecycle();
        let all = lifecycle.apps();
        let mut ids: Vec<&AppId> = all.keys().collect();
        ids.sort();
        let states = |id: &AppId| all.get(id).map_or(AppState::Asleep, |app| app.state());
        let tallies =
            side.0.parts.counters.of(ids.into_iter().map(|id| (id, states(id))), side.clock().unix_millis());
        let mut apps: Vec<Measured> = tallies
            .into_iter()
            .filter_map(|(id, tally)| {
                let app = all.get(id)?;
                Some(Measured {
                    name: id.to_string(),
                    state: Some(app.state()),
                    in_flight: app.in_flight(),
                    counts: app.traffic().counts(),
                    tally,
                })
            })
            .collect();
        let states = STATES.map(|state| apps.iter().filter(|app| app.state == Some(state)).count() as u64);
        let tells_apart = match side.0.settings.load().admin.per_app {
            PerApp::On => true,
            PerApp::Off => false,
            PerApp::Auto => apps.len() <= APPS,
        };
        if !tells_apart {
            let mut sum = Measured {
                name: ALL.to_owned(),
                state: None,
                in_flight: 0,
                counts: Counts::default(),
                tally: Tally::default(),
            };
            apps.iter().for_each(|app| sum.add(app));
            apps = vec![sum];
        }
        Self {
            apps,
            tells_apart,
            states,
            held: lifecycle.held(),
            left_alone: all.values().filter(|app| app.is_left_alone()).count() as u64,
            beyond_plan: all.values().filter(|app| app.beyond_plan().is_some()).count() as u64,
            hooks: side.0.parts.hooks.counts().all().collect(),
            reload_fine: side.0.metrics.is_fine(),
            reloaded_at: side.0.metrics.at.load(Relaxed),
            sees_registry: lifecycle.fleet().is_none_or(|fleet| fleet.sees()),
            gap: side.history().gap(),
            calls: side.0.parts.calls.all(),
            hooks_running: side.0.parts.hooks.running(),
            listeners: super::events::LISTENERS - side.0.listeners.available_permits(),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        }
    }

    /// A counter of each app.
    fn each(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Measured) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for app in &self.apps {
            count(&mut metric, &[("app", app.name.as_str())], value(app))?;
        }
        Ok(())
    }

    /// Seconds of each app.
    fn seconds(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        millis: impl Fn(&Measured) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for app in &self.apps {
            let labels = [("app", app.name.as_str())];
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, f64, u64>(&in_seconds(millis(app)), None)?;
        }
        Ok(())
    }

    /// How long something of each app took.
    fn histogram<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        bounds: &[u64],
        value: impl Fn(&Measured) -> ([u64; N], u64),
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for app in &self.apps {
            let (counts, millis) = value(app);
            let bounds = bounds.iter().map(|bound| in_seconds(*bound)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let labels = [("app", app.name.as_str())];
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(in_seconds(millis), counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
    }

    fn of_apps(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "requests",
            "Requests that have ended, by the first digit of the status that was sent; none for those whose client was gone before",
            None,
            MetricType::Counter,
        )?;
        for app in &self.apps {
            for (class, value) in
                ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(app.counts.classes)
            {
                count(&mut metric, &[("app", app.name.as_str()), ("code_class", class)], value)?;
            }
        }
        let durations = (
            "request_duration_seconds",
            "From the header of a request to the end of its answer, waiting for a wake included",
        );
        self.histogram(encoder, durations, &traffic::BOUNDS, |app| {
            (app.counts.durations, app.counts.total_millis)
        })?;
        let mut metric =
            encoder.encode_descriptor("wakes", "Wakes that have ended here", None, MetricType::Counter)?;
        for app in &self.apps {
            for (result, value) in [("ready", app.tally.woken), ("failed", app.tally.failed)] {
                count(&mut metric, &[("app", app.name.as_str()), ("result", result)], value)?;
            }
        }
        let durations = ("wake_duration_seconds", "From the wish to wake an app to its answer to our probe");
        self.histogram(encoder, durations, &counters::BOUNDS, |app| {
            (app.tally.wakes, app.tally.wake_millis)
        })?;
        let mut metric =
            encoder.encode_descriptor("sleeps", "Stops that have ended here", None, MetricType::Counter)?;
        for app in &self.apps {
            let results =
                [("asleep", app.tally.slept), ("kept", app.tally.kept), ("withheld", app.tally.withheld)];
            for (result, value) in results {
                count(&mut metric, &[("app", app.name.as_str()), ("result", result)], value)?;
            }
        }
        self.each(encoder, "app_crashes", "How often an app ended by itself", |app| app.tally.crashed)?;
        self.each(encoder, "sweep_idle", "How often an app was found idle", |app| app.tally.idle)?;
        self.seconds(
            encoder,
            "app_awake_seconds",
            "Time awake, as far as this gateway has seen it",
            |app| app.tally.awake,
        )?;
        let help =
            "Time asleep from the stop that the provider confirmed, as far as this gateway has seen it";
        self.seconds(encoder, "app_asleep_seconds", help, |app| app.tally.asleep)?;
        let mut metric = encoder.encode_descriptor(
            "requests_in_flight",
            "Requests that are being proxied now",
            None,
            MetricType::Gauge,
        )?;
        for app in &self.apps {
            metric.encode_family(&[("app", app.name.as_str())])?.encode_gauge(&app.in_flight)?;
        }
        if self.tells_apart {
            let help = "1 for the state that an app is in";
            let mut metric = encoder.encode_descriptor("app_state", help, None, MetricType::Gauge)?;
            for app in &self.apps {
                for state in STATES {
                    let labels = [("app", app.name.as_str()), ("state", state.as_str())];
                    metric.encode_family(&labels)?.encode_gauge(&u64::from(app.state == Some(state)))?;
                }
            }
        }
        Ok(())
    }

    fn of_the_gateway(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric =
            encoder.encode_descriptor("apps", "How many apps are in each state", None, MetricType::Gauge)?;
        for (state, apps) in STATES.into_iter().zip(self.states) {
            metric.encode_family(&[("state", state.as_str())])?.encode_gauge(&apps)?;
        }
        let reload = "Whether the configuration could be read when it was read the last time";
        let reloaded = "When the configuration was read again, in seconds since 1970; 0 if it never was";
        let lost = "Hours of apps that were lost because the history's store was away too long";
        for (name, help, value) in [
            ("requests_held", "Requests that wait for an app now", self.held as u64),
            ("apps_left_alone", "How many apps are neither woken nor stopped", self.left_alone),
            (
                "apps_beyond_plan",
                "How many apps are not stopped because the plan has no more room",
                self.beyond_plan,
            ),
            ("config_last_reload_successful", reload, u64::from(self.reload_fine)),
            ("config_last_reload_success_timestamp_seconds", reloaded, self.reloaded_at / 1000),
            ("registry_reachable", "Whether the registry can be used", u64::from(self.sees_registry)),
            ("history_waiting_events", "Events that wait to be written", self.gap.waiting),
            (
                "history_store_reachable",
                "Whether the history's store can be used",
                u64::from(self.gap.since.is_none()),
            ),
            ("hooks_running", "Commands of hooks that run now", self.hooks_running as u64),
            ("event_listeners", "Who listens to events at the admin side", self.listeners as u64),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        if let Some(files) = self.open_files {
            let help = "Open files of the process";
            encoder.encode_descriptor("open_files", help, None, MetricType::Gauge)?.encode_gauge(&files)?;
        }
        for (name, help, value) in [
            (
                "history_lost_events",
                "Events that were lost because the history's store was away too long",
                self.gap.lost,
            ),
            ("history_lost_hours", lost, self.gap.lost_hours),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        let help = "Calls to providers, by the type of provider, what for, and the status of the answer, none if there was no answer";
        let mut metric = encoder.encode_descriptor("provider_requests", help, None, MetricType::Counter)?;
        for (kind, purpose, status, calls) in &self.calls {
            let code = if *status == 0 { "none".to_owned() } else { status.to_string() };
            count(
                &mut metric,
                &[("provider", kind.as_str()), ("op", purpose), ("code", code.as_str())],
                *calls,
            )?;
        }
        let help = "Hooks that were run, by when and by what has come of it";
        let mut metric = encoder.encode_descriptor("hook_runs", help, None, MetricType::Counter)?;
        for (phase, outcome, runs) in &self.hooks {
            count(&mut metric, &[("phase", phase.name()), ("result", outcome.name())], *runs)?;
        }
        let mut metric =
            encoder.encode_descriptor("build_info", "1, with the version", None, MetricType::Gauge)?;
        metric.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?.encode_gauge(&1u64)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.of_apps(&mut encoder)?;
        self.of_the_gateway(&mut encoder)
    }
}

fn count<S: EncodeLabelSet>(metric: &mut MetricEncoder<'_>, labels: &S, value: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a number of milliseconds that f64 cannot hold is 285,000 years"
)]
fn in_seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
