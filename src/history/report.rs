//! What sleeping was good for: hours, money, energy, CO2e. docs/savings.md says how, and what is not claimed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    History, Tally, WhatIf,
    factors::{self, ECO, boot_watts, gateway_watts, gigabytes, idle_watts},
    replay::{self, AppReplayed},
    tally::HOUR,
};
use crate::{
    app::{AppId, Formation, StopTypes},
    config::SavingsConfig,
};

/// What is asked.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams,
)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportRequest {
    /// From this moment on: wall-clock milliseconds since 1970. Rounded down to a whole hour. Default: 30 days before the end.
    pub since: Option<u64>,
    /// Before this moment. Rounded down to a whole hour, if it has passed. Default: now.
    pub until: Option<u64>,
    /// Of this app, or of all that fit.
    pub app: Option<String>,
    /// Also what this idle time would have done, in seconds.
    pub what_if_idle_seconds: Option<u64>,
}

/// A figure that is not known, but lies between two others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Range {
    /// It is hardly less.
    pub low: f64,
    /// The best guess.
    pub central: f64,
    /// It is hardly more.
    pub high: f64,
}

impl Range {
    /// One that is known.
    pub const fn exactly(value: f64) -> Self {
        Self { low: value, central: value, high: value }
    }

    /// Made of three assumptions that belong together.
    pub fn of(make: impl Fn(&dyn Fn(&Range) -> f64) -> f64) -> Self {
        Self {
            low: make(&|range| range.low),
            central: make(&|range| range.central),
            high: make(&|range| range.high),
        }
    }

    fn times(self, factor: f64) -> Self {
        Self { low: self.low * factor, central: self.central * factor, high: self.high * factor }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            low: self.low + other.low,
            central: self.central + other.central,
            high: self.high + other.high,
        }
    }

    /// The least of this without the most of that, and so on.
    fn without(self, other: Self) -> Self {
        Self {
            low: self.low - other.high,
            central: self.central - other.central,
            high: self.high - other.low,
        }
    }
}

/// A number that went into the report, and who says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Factor {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: Range,
    /// In what.
    pub unit: String,
    /// Who says so.
    pub source: String,
    /// Of which year it is, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<i16>,
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Money {
    /// So much.
    pub amount: f64,
    /// Of this. Different currencies are never added or converted.
    pub currency: String,
}

/// Energy and what follows from it: an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Footprint {
    /// Watt-hours.
    pub energy_wh: Range,
    /// Grams of CO2e; none without `savings.carbon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub co2e_g: Option<Range>,
}

/// What the sleep of one app was good for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AppSavings {
    /// Which.
    #[schema(value_type = String)]
    pub app: AppId,
    /// Seconds asleep: from each stop that the provider confirmed to the start that was asked for.
    pub asleep_seconds: u64,
    /// Hours in which some gateway watched.
    pub watched_hours: u64,
    /// Wakes.
    pub wakes: u64,
    /// Wakes that failed.
    pub failed_wakes: u64,
    /// Requests.
    pub requests: u64,
    /// What these hours would have cost, where a price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// Where the price comes from, or why there is none.
    pub price: String,
    /// What is attributed to them.
    #[serde(flatten)]
    pub footprint: Footprint,
}

/// All apps together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Totals {
    /// Seconds asleep.
    pub asleep_seconds: u64,
    /// Wakes.
    pub wakes: u64,
    /// Wakes that failed.
    pub failed_wakes: u64,
    /// Requests.
    pub requests: u64,
    /// Money, by currency.
    pub money: Vec<Money>,
    /// What is attributed to the apps' sleep.
    #[serde(flatten)]
    pub footprint: Footprint,
    /// What the gateways drew meanwhile. Left out if only some apps were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Footprint>,
    /// The first without the second. It may be less than nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Footprint>,
}

/// What sleeping was good for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// From this moment on (milliseconds since 1970), a whole hour.
    pub since: u64,
    /// Before this moment.
    pub until: u64,
    /// All apps together.
    pub total: Totals,
    /// App by app, who slept longest first.
    pub apps: Vec<AppSavings>,
    /// What another idle time would have done, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_if: Option<WhatIf>,
    /// How energy and CO2e are reckoned, in one line.
    pub method: String,
    /// Every number that went into it.
    pub factors: Vec<Factor>,
    /// What to know of these figures.
    pub notes: Vec<String>,
}

/// What is known of an app beside its hours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The type of its provider.
    pub provider: String,
    /// What is stopped when it sleeps: how many processes, and of which size.
    pub processes: Vec<(u32, Option<String>)>,
}

impl Facts {
    /// Of an app that runs this, of which so much is stopped.
    pub fn new(provider: &str, formation: &Formation, stop: StopTypes) -> Self {
        let stopped =
            formation.0.iter().filter(|(kind, _)| stop == StopTypes::All || *kind == crate::app::WEB);
        let processes =
            stopped.filter(|(_, it)| it.amount > 0).map(|(_, it)| (it.amount, it.size.clone())).collect();
        Self { provider: provider.to_owned(), processes }
    }
}

/// What a report is made with.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Prices and factors.
    pub savings: SavingsConfig,
    /// The type of each provider entry.
    pub providers: HashMap<String, String>,
}

const METHOD: &str = "attributed energy (an estimate, not a measurement) = PUE x (vCPU x (idle + use x (busy - idle)) + GB x memory) x hours asleep, \
                      less what booting draws on top; low, central and high each use their own assumptions; CO2e = energy x grid";

impl History {
    /// What sleeping was good for.
    pub async fn report(&self, request: &ReportRequest) -> Report {
        let inner = self.inner();
        let now = inner.clock.unix_millis();
        // An hour that is counted is counted as a whole: none may reach beyond the end.
        let until = request.until.filter(|until| *until < now).map_or(now, |until| until - until % HOUR);
        let since = request.since.unwrap_or_else(|| until.saturating_sub(30 * 24 * HOUR));
        let since = since - since % HOUR;
        let answer = self.tallies(request.app.as_deref(), since, until).await;
        let books = inner.books.load();
        let mut facts = HashMap::new();
        if let Some(lifecycle) = inner.lifecycle() {
            for (id, app) in lifecycle.apps().iter() {
                let formation = app.record().and_then(|record| record.formation).unwrap_or_default();
                let provider = books.providers.get(&*id.provider).map_or("", String::as_str);
                facts.insert(id.clone(), Facts::new(provider, &formation, app.settings().stop));
            }
        }
        let mut report = Report::new(request, (since, until), &answer.found, &facts, &books.savings);
        if let Some(error) = answer.incomplete {
            report.notes.insert(
                0,
                format!("the store cannot be asked ({error}): this is only what waits to be written"),
            );
        }
        let (_, kept) = inner.kept();
        if u64::try_from(kept.as_millis()).is_ok_and(|kept| since < now.saturating_sub(kept)) {
            let kept = crate::config::units::duration(kept);
            report.notes.push(format!("hours are kept for {kept} (history.rollup_retention): nothing is known of the time before, which counts as awake"));
        }
        let gap = self.gap();
        if gap.lost_hours > 0 {
            let lost = format!(
                "{} hours of apps were lost while the store was away, and count as awake",
                gap.lost_hours
            );
            report.notes.push(lost);
        }
        report
    }
}

impl Report {
    /// Out of the hours between two moments.
    pub fn new(
        request: &ReportRequest,
        (since, until): (u64, u64),
        hours: &[(AppId, u64, Tally)],
        facts: &HashMap<AppId, Facts>,
        config: &SavingsConfig,
    ) -> Self {
        let mut of: BTreeMap<&AppId, Vec<(u64, Tally)>> = BTreeMap::new();
        for (app, at, tally) in hours {
            of.entry(app).or_default().push((*at, tally.clone()));
        }
        let mut factors = factors::used(config);
        let mut apps: Vec<AppSavings> =
            of.iter().map(|(app, hours)| one(app, hours, facts.get(*app), config, &mut factors)).collect();
        apps.sort_by(|one, other| (other.asleep_seconds, &one.app).cmp(&(one.asleep_seconds, &other.app)));
        let watched: BTreeSet<u64> = hours.iter().map(|(_, at, _)| *at).collect();
        let watched =
            watched.iter().map(|at| until.saturating_sub(*at).min(HOUR)).sum::<u64>() as f64 / HOUR as f64;
        let total =
            totals(&apps, request.app.is_none().then(|| gateway_watts(config).times(watched)), config);
        let what_if = request.what_if_idle_seconds.map(|seconds| {
            let idle = Duration::from_secs(seconds);
            let played = |(app, hours): (&&AppId, &Vec<(u64, Tally)>)| AppReplayed {
                app: (*app).clone(),
                figures: replay::replay(hours, idle, until),
            };
            let mut what_if = WhatIf {
                idle_timeout_seconds: seconds,
                apps: of.iter().map(played).collect(),
                notes: replay::notes(idle),
                ..WhatIf::default()
            };
            what_if.apps.iter().for_each(|app| what_if.total.add(&app.figures));
            what_if
        });
        let mut notes = vec![
            "hours asleep are counted: an hour that no gateway watched, or a state that is not known, counts as awake".to_owned(),
            "databases and add-ons go on running while an app sleeps: nothing is claimed for them, nor for the making of hardware".to_owned(),
            "prices and energy are of the processes that are known now, also for the time before they were changed".to_owned(),
        ];
        if config.carbon.is_none() {
            notes.push("no CO2e without `savings.carbon`: for example `carbon: { country: FR }`".to_owned());
        }
        if request.app.is_some() {
            notes.push(
                "what the gateway itself draws is subtracted only where all apps are asked for".to_owned(),
            );
        }
        Self { since, until, total, apps, what_if, method: METHOD.to_owned(), factors, notes }
    }
}

fn one(
    app: &AppId,
    hours: &[(u64, Tally)],
    facts: Option<&Facts>,
    config: &SavingsConfig,
    factors: &mut Vec<Factor>,
) -> AppSavings {
    let sum = |of: fn(&Tally) -> u64| hours.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    let asleep_seconds = sum(|tally| u64::from(tally.asleep.seconds()));
    let asleep = asleep_seconds as f64 / 3600.0;
    let boots = sum(|tally| tally.boots.iter().map(|boot| u64::from(*boot)).sum()) as f64 / HOUR as f64;
    let nothing = Facts::default();
    let facts = facts.unwrap_or(&nothing);
    let unknown = [(1, None)];
    let processes = if facts.processes.is_empty() { &unknown } else { &facts.processes[..] };
    let mut energy_wh = Range::default();
    for (amount, size) in processes {
        let known = size.as_deref().and_then(|size| factors::size(&facts.provider, size));
        if known.is_some_and(|known| known.size == ECO) {
            continue;
        }
        let memory = known
            .and_then(|known| known.memory)
            .map_or(gigabytes(config.memory), |mib| f64::from(mib) / 1024.0);
        let saved = idle_watts(config, memory).times(asleep).without_each(boot_watts(config).times(boots));
        energy_wh = energy_wh.plus(saved.times(f64::from(*amount)));
    }
    let (money, price) = money(app, facts, asleep, config, factors);
    AppSavings {
        app: app.clone(),
        asleep_seconds,
        watched_hours: hours.len() as u64,
        wakes: sum(|tally| u64::from(tally.wakes)),
        failed_wakes: sum(|tally| u64::from(tally.failed_wakes)),
        requests: sum(|tally| tally.requests),
        money,
        price,
        footprint: footprint(energy_wh, config),
    }
}

impl Range {
    /// Each without the one that rests on the same assumptions.
    fn without_each(self, other: Self) -> Self {
        self.plus(other.times(-1.0))
    }
}

fn footprint(energy_wh: Range, config: &SavingsConfig) -> Footprint {
    let co2e_g = config.carbon.as_ref().map(|carbon| energy_wh.times(carbon.grams_per_kwh / 1000.0));
    Footprint { energy_wh, co2e_g }
}

/// What so many hours would have cost, and where the price comes from.
fn money(
    app: &AppId,
    facts: &Facts,
    hours: f64,
    config: &SavingsConfig,
    factors: &mut Vec<Factor>,
) -> (Option<Money>, String) {
    let mut sum: Option<Money> = None;
    let mut sources = BTreeSet::new();
    let unknown = [(1, None)];
    let processes = if facts.processes.is_empty() { &unknown } else { &facts.processes[..] };
    for (amount, size) in processes {
        let fits = |of: &Option<String>| match (of, size) {
            (None, _) => true,
            (Some(of), Some(size)) => of.eq_ignore_ascii_case(size),
            (Some(_), None) => false,
        };
        let own = config.prices.iter().find(|price| price.pattern.fits(app) && fits(&price.size));
        let known = || size.as_deref().and_then(|size| factors::size(&facts.provider, size));
        let (per_hour, currency, source, year) = if let Some(own) = own {
            (own.per_hour, own.currency.clone(), "the configuration (savings.prices)".to_owned(), None)
        } else if facts.provider == "process" {
            return (None, "0: it runs on your own server, which is paid for anyway".to_owned());
        } else if let Some((price, currency)) = known().and_then(|known| known.price) {
            let (source, year) = factors::price_source(&facts.provider);
            (price, currency.to_owned(), source.to_owned(), Some(year))
        } else {
            let what = size.as_deref().map_or_else(|| "its size".to_owned(), |size| format!("size {size}"));
            return (None, format!("no price is known for {what}: write one under savings.prices"));
        };
        let name = format!("an hour of {} at {}", size.as_deref().unwrap_or("a process"), app.provider);
        let unit = format!("{currency}/h");
        if !factors.iter().any(|factor| factor.name == name && factor.value.central == per_hour) {
            factors.push(Factor {
                name,
                value: Range::exactly(per_hour),
                unit,
                source: source.clone(),
                year,
            });
        }
        sources.insert(source);
        let amount = f64::from(*amount) * per_hour * hours;
        match &mut sum {
            Some(sum) if sum.currency == currency => sum.amount += amount,
            Some(_) => return (None, "its processes have prices in different currencies".to_owned()),
            None => sum = Some(Money { amount, currency }),
        }
    }
    (sum, sources.into_iter().collect::<Vec<_>>().join("; "))
}

fn totals(apps: &[AppSavings], gateway_wh: Option<Range>, config: &SavingsConfig) -> Totals {
    let mut money: BTreeMap<String, f64> = BTreeMap::new();
    for one in apps.iter().filter_map(|app| app.money.as_ref()) {
        *money.entry(one.currency.clone()).or_default() += one.amount;
    }
    let saved = apps.iter().fold(Range::default(), |sum, app| sum.plus(app.footprint.energy_wh));
    Totals {
        asleep_seconds: apps.iter().map(|app| app.asleep_seconds).sum(),
        wakes: apps.iter().map(|app| app.wakes).sum(),
        failed_wakes: apps.iter().map(|app| app.failed_wakes).sum(),
        requests: apps.iter().map(|app| app.requests).sum(),
        money: money.into_iter().map(|(currency, amount)| Money { amount, currency }).collect(),
        footprint: footprint(saved, config),
        gateway: gateway_wh.map(|drawn| footprint(drawn, config)),
        net: gateway_wh.map(|drawn| footprint(saved.without(drawn), config)),
    }
}
