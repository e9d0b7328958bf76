//! What a sleep is worth is reckoned with these: `savings` in the file.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    manage::Pattern,
    problem::{Problems, list},
    scalar::{Count, Scalar, scalar},
    show::as_written,
    units::{self, Size},
    yaml::Located,
};
use crate::history::factors::{COUNTRIES, Intensity};

/// A number that is not negative: watts, grams, an amount of money.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount(pub f64);

impl Scalar for Amount {
    const NAME: &'static str = "Amount";
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(number) if (0.0..=1e9).contains(&number) => Ok(Self(number)),
            _ => Err("is not a number from 0 to 1000000000".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1_000_000_000 },
            { "type": "string", "pattern": "^\\s*[0-9.]" }
        ] })
    }
}

/// Three letters, as ISO 4217 has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency(pub String);

impl Scalar for Currency {
    const NAME: &'static str = "Currency";
    fn parse(text: &str) -> Result<Self, String> {
        let plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let upper = plain.then(|| Self(text.to_ascii_uppercase()));
        upper.ok_or_else(|| "is not a currency: write three letters, for example `EUR`".to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z]{3}$", "examples": ["EUR", "USD"] })
    }
}

scalar!(Amount, Currency);

/// What a sleep is worth is reckoned with these: docs/savings.md.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `savings`")]
#[schemars(rename = "Savings")]
pub(super) struct Savings {
    /// What an hour of one process costs. Of several that fit, the first counts; where none does, what Loir knows of the
    /// provider, if anything.
    prices: Option<Vec<Located<Price>>>,
    /// How much CO2e a kilowatt-hour stands for. Without it, none is reckoned.
    carbon: Option<Located<Carbon>>,
    /// What an app draws while it is idle. What is not set is a range.
    energy: Option<Energy>,
    /// What the gateway itself draws: it is subtracted.
    gateway: Option<Gateway>,
}

/// What an hour of one process costs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `match`, `per_hour` and `currency`")]
#[schemars(rename = "Price")]
struct Price {
    /// For the apps that this fits: `paris/*`, `*-staging`. Default: all.
    #[serde(rename = "match")]
    pattern: Option<Located<Pattern>>,
    /// Only for processes of this size, in the provider's words. Default: of every size.
    size: Option<Located<String>>,
    /// So much for an hour.
    #[schemars(required)]
    per_hour: Option<Amount>,
    /// In this currency. Nothing is ever converted.
    #[schemars(required)]
    currency: Option<Currency>,
}

/// How much CO2e a kilowatt-hour stands for.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `country`, or with `intensity_g_per_kwh`, `source` and `year`"
)]
#[schemars(rename = "Carbon")]
struct Carbon {
    /// Where the apps run, if Loir knows the country's yearly average: two letters.
    country: Option<Located<String>>,
    /// Grams of CO2e for a kilowatt-hour, instead of the country's.
    intensity_g_per_kwh: Option<Amount>,
    /// Who says so.
    source: Option<Located<String>>,
    /// Of which year it is.
    year: Option<Count>,
}

/// What an app draws while it is idle.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `vcpu`, `memory` and `pue`")]
#[schemars(rename = "Energy")]
struct Energy {
    /// The share of a processor that a process occupies. Default: 0.05 to 1, 0.25 in the middle.
    vcpu: Option<Amount>,
    /// The memory of a process whose size is not known. Default: `512MiB`.
    memory: Option<Size>,
    /// What the building draws for each watt of its machines. Default: 1.135 to 1.6, 1.35 in the middle.
    pue: Option<Located<Amount>>,
}

/// What the gateway itself draws.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `watts`, or `vcpu` and `memory`")]
#[schemars(rename = "GatewaySavings")]
struct Gateway {
    /// How many gateways there are. Default: 1.
    count: Option<Count>,
    /// Watts of each, as measured at the plug, instead of the estimate.
    watts: Option<Amount>,
    /// Processors of each. Default: 1 to 2.
    vcpu: Option<Amount>,
    /// Memory of each. Default: `1GiB`.
    memory: Option<Size>,
}

/// What a sleep is worth is reckoned with these: validated.
#[derive(Clone, Debug, PartialEq)]
pub struct SavingsConfig {
    /// The first that fits counts.
    pub prices: Vec<KnownPrice>,
    /// How much CO2e a kilowatt-hour stands for.
    pub carbon: Option<Intensity>,
    /// The share of a processor that a process occupies.
    pub vcpu: Option<f64>,
    /// Bytes of memory of a process whose size is not known.
    pub memory: u64,
    /// What the building draws for each watt of its machines.
    pub pue: Option<f64>,
    /// How many gateways there are.
    pub gateways: usize,
    /// Watts of each.
    pub gateway_watts: Option<f64>,
    /// Processors of each.
    pub gateway_vcpu: Option<f64>,
    /// Bytes of memory of each.
    pub gateway_memory: u64,
    /// The country as it may be shown, if it was written.
    pub country: Option<String>,
}

/// What an hour of one process costs, as the configuration says.
#[derive(Clone, PartialEq)]
pub struct KnownPrice {
    /// For these apps.
    pub pattern: Pattern,
    /// Only for processes of this size.
    pub size: Option<String>,
    /// So much for an hour.
    pub per_hour: f64,
    /// In this currency.
    pub currency: String,
    size_shown: Option<String>,
}

/// The size as it may be shown: it may come from the environment.
impl fmt::Debug for KnownPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, size_shown: size, per_hour, currency, .. } = self;
        write!(f, "{pattern:?} {size:?}: {per_hour} {currency}")
    }
}

impl KnownPrice {
    /// For these apps, and processes of this size or of all.
    pub fn new(pattern: &str, size: Option<&str>, per_hour: f64, currency: &str) -> Self {
        let size = size.map(str::to_owned);
        Self {
            pattern: Pattern::new(pattern),
            size_shown: size.clone(),
            size,
            per_hour,
            currency: currency.to_owned(),
        }
    }
}

impl Default for SavingsConfig {
    fn default() -> Self {
        Self {
            prices: Vec::new(),
            carbon: None,
            vcpu: None,
            memory: 512 << 20,
            pue: None,
            gateways: 1,
            gateway_watts: None,
            gateway_vcpu: None,
            gateway_memory: 1 << 30,
            country: None,
        }
    }
}

impl SavingsConfig {
    /// The effective options.
    pub(super) fn show(&self) -> Value {
        let price = |price: &KnownPrice| {
            let mut shown = json!({
                "match": price.pattern.text, "per_hour": price.per_hour, "currency": price.currency,
            });
            if let Some(size) = &price.size_shown {
                shown["size"] = size.clone().into();
            }
            shown
        };
        let map = |all: Vec<(&str, Option<Value>)>| {
            all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>()
        };
        let number = |number: Option<f64>| number.map(Value::from);
        let carbon = self.carbon.as_ref().map(|carbon| match &self.country {
            Some(country) => json!({ "country": country }),
            None => json!({
                "intensity_g_per_kwh": carbon.grams_per_kwh, "source": carbon.source, "year": carbon.year,
            }),
        });
        let energy = map(vec![
            ("vcpu", number(self.vcpu)),
            ("memory", Some(units::size(self.memory).into())),
            ("pue", number(self.pue)),
        ]);
        let gateway = map(vec![
            ("count", Some(self.gateways.into())),
            ("watts", number(self.gateway_watts)),
            ("vcpu", number(self.gateway_vcpu)),
            ("memory", Some(units::size(self.gateway_memory).into())),
        ]);
        let mut shown = json!({ "energy": energy, "gateway": gateway });
        if !self.prices.is_empty() {
            shown["prices"] = self.prices.iter().map(price).collect();
        }
        if let Some(carbon) = carbon {
            shown["carbon"] = carbon;
        }
        shown
    }
}

/// Reads the block.
pub(super) fn validate(typed: Option<Savings>, problems: &mut Problems) -> SavingsConfig {
    let typed = typed.unwrap_or_default();
    let usual = SavingsConfig::default();
    let (energy, gateway) = (typed.energy.unwrap_or_default(), typed.gateway.unwrap_or_default());
    if let Some(pue) = energy.pue.as_ref().filter(|pue| pue.value.0 < 1.0) {
        problems.push(pue.at, "`pue` is at least 1: a building draws no less than its machines");
    }
    let (carbon, country) = typed.carbon.map_or((None, None), |carbon| self::carbon(&carbon, problems));
    let prices = typed.prices.unwrap_or_default();
    SavingsConfig {
        prices: prices.into_iter().filter_map(|price| self::price(price, problems)).collect(),
        carbon,
        country,
        vcpu: energy.vcpu.map(|amount| amount.0),
        memory: energy.memory.map_or(usual.memory, |size| size.0),
        pue: energy.pue.map(|amount| amount.value.0),
        gateways: gateway.count.map_or(usual.gateways, |count| count.0),
        gateway_watts: gateway.watts.map(|amount| amount.0),
        gateway_vcpu: gateway.vcpu.map(|amount| amount.0),
        gateway_memory: gateway.memory.map_or(usual.gateway_memory, |size| size.0),
    }
}

fn price(typed: Located<Price>, problems: &mut Problems) -> Option<KnownPrice> {
    for (key, missing) in [
        ("per_hour", typed.lacks("per_hour", &typed.per_hour)),
        ("currency", typed.lacks("currency", &typed.currency)),
    ] {
        if missing {
            problems.push(typed.at, format!("`{key}` is missing: a price needs one"));
        }
    }
    let Price { pattern, size, per_hour, currency } = typed.value;
    let pattern = pattern.map_or_else(
        || Pattern::new("*"),
        |typed| {
            let text = as_written(&typed, &typed.text);
            typed.value.shown_as(text)
        },
    );
    Some(KnownPrice {
        pattern,
        size_shown: size.as_ref().map(|size| as_written(size, size)),
        size: size.map(|size| size.value),
        per_hour: per_hour?.0,
        currency: currency?.0,
    })
}

fn carbon(typed: &Located<Carbon>, problems: &mut Problems) -> (Option<Intensity>, Option<String>) {
    let own = (&typed.intensity_g_per_kwh, &typed.source, &typed.year);
    if let Some(country) = &typed.country {
        if own.0.is_some() || own.1.is_some() || own.2.is_some() {
            let message = "`carbon` has a `country` and a figure of its own: write one of them";
            problems.push(country.at, message);
        }
        let found = COUNTRIES.iter().find(|(code, ..)| code.eq_ignore_ascii_case(&country.value));
        if found.is_none() {
            let help = format!(
                "known: {}; for another, write `intensity_g_per_kwh`, `source` and `year`",
                list(COUNTRIES.iter().map(|(code, ..)| *code))
            );
            problems.push_with_help(
                country.at,
                format!("no figure is known for `{}`", country.written),
                help,
            );
        }
        return (found.map(Intensity::of), Some(as_written(country, country)));
    }
    let (Some(grams), Some(source), Some(year)) = own else {
        let lost = ["intensity_g_per_kwh", "source", "year"]
            .iter()
            .any(|key| typed.lost.iter().any(|lost| lost == key));
        if !lost {
            let help = "write for example `carbon: { country: FR }`, or all three of `intensity_g_per_kwh`, `source` and `year`";
            problems.push_with_help(
                typed.at,
                "`carbon` does not say how much, who says so, and for which year",
                help,
            );
        }
        return (None, None);
    };
    let this_year = Timestamp::now().to_zoned(TimeZone::UTC).year();
    let year = i16::try_from(year.0).ok().filter(|year| (1990..=this_year).contains(year));
    if year.is_none() {
        problems.push(typed.at, "`year` is not one that can have been measured");
    }
    let source = as_written(source, source);
    let intensity =
        Intensity { grams_per_kwh: grams.0, source, year: year.unwrap_or(this_year), place: None };
    (Some(intensity), None)
}
