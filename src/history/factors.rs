//! The numbers that energy, CO2e and money are reckoned with, each with who says so. docs/savings.md says how.

use serde::{Deserialize, Serialize};

use super::report::{Factor, Range};
use crate::config::SavingsConfig;

const CCF: &str = "Cloud Carbon Footprint, constants for AWS (from SPECpower)";

/// Watts of a processor that does nothing.
pub const IDLE_WATTS: f64 = 0.74;

/// Watts of a processor that does all it can.
pub const BUSY_WATTS: f64 = 3.5;

/// Watts of a gigabyte of memory.
pub const MEMORY_WATTS: f64 = 0.392;

/// The share of a processor that an idle app occupies.
pub const VCPU: Range = Range { low: 0.05, central: 0.25, high: 1.0 };

/// How busy that share is.
pub const USE: Range = Range { low: 0.0, central: 0.02, high: 0.05 };

/// What the building draws for each watt of its machines.
pub const PUE: Range = Range { low: 1.135, central: 1.35, high: 1.6 };

/// Processors of a gateway.
pub const GATEWAY_VCPU: Range = Range { low: 1.0, central: 1.5, high: 2.0 };

/// How busy they are.
pub const GATEWAY_USE: f64 = 0.05;

/// Grams of CO2e that a kilowatt-hour stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensity {
    /// So many.
    pub grams_per_kwh: f64,
    /// Who says so.
    pub source: String,
    /// Of which year it is.
    pub year: i16,
    /// Of which country, if it is one of [`COUNTRIES`].
    pub place: Option<&'static str>,
}

/// A country's code and name, its grams of CO2e for a kilowatt-hour, of which year, and who says so.
pub type Country = (&'static str, &'static str, f64, i16, &'static str);

const EMBER: &str = "Ember, yearly electricity data (CC BY 4.0), lifecycle, location-based";
const OWID: &str = "Ember by Our World in Data (CC BY 4.0), lifecycle, location-based";

/// Yearly averages, all of one family: lifecycle and location-based. Direct emissions, which are lower, are not mixed in.
pub const COUNTRIES: &[Country] = &[
    ("AT", "Austria", 111.0, 2023, OWID),
    ("BE", "Belgium", 138.0, 2023, OWID),
    ("DE", "Germany", 330.0, 2025, EMBER),
    ("DK", "Denmark", 152.0, 2023, OWID),
    ("EE", "Estonia", 417.0, 2023, OWID),
    ("FI", "Finland", 79.0, 2023, OWID),
    ("FR", "France", 41.0, 2025, EMBER),
    ("HU", "Hungary", 204.0, 2023, OWID),
    ("IE", "Ireland", 291.0, 2023, OWID),
    ("PL", "Poland", 662.0, 2023, OWID),
    ("SE", "Sweden", 41.0, 2023, OWID),
];

impl Intensity {
    /// That of a country.
    pub fn of((_, name, grams, year, source): &Country) -> Self {
        Self { grams_per_kwh: *grams, source: (*source).to_owned(), year: *year, place: Some(name) }
    }
}

/// A size of a process, as a provider's type has it.
pub struct KnownSize {
    /// The type of provider.
    pub provider: &'static str,
    /// In the provider's words; upper and lower case are one.
    pub size: &'static str,
    /// Its memory in MiB, if that is known.
    pub memory: Option<u32>,
    /// What an hour costs, and in which currency, if that is known.
    pub price: Option<(f64, &'static str)>,
}

const fn known(
    provider: &'static str,
    size: &'static str,
    memory: Option<u32>,
    price: Option<(f64, &'static str)>,
) -> KnownSize {
    KnownSize { provider, size, memory, price }
}

/// Where the prices of a type of provider come from, and what to know of them.
pub fn price_source(provider: &str) -> (&'static str, i16) {
    match provider {
        "clever_cloud" => (
            "Clever Cloud's price system in CleverCloud/clever-components, as of 2026; may be outdated",
            2026,
        ),
        _ => ("Heroku's help pages of 2019 to 2024, monthly price divided by 730 h; may be outdated", 2024),
    }
}

const EUR: &str = "EUR";
const USD: &str = "USD";

/// Hours of a month, where a price is by the month and billed by the second.
const MONTH: f64 = 730.0;

/// What is known of sizes. No price of Scalingo is: its price list was not at hand when this was written. Those of Clever Cloud
/// and Heroku are billed by the second.
pub const SIZES: &[KnownSize] = &[
    known("clever_cloud", "pico", Some(256), Some((0.006_25, EUR))),
    known("clever_cloud", "nano", Some(512), Some((0.008_33, EUR))),
    known("clever_cloud", "XS", Some(1024), Some((0.02, EUR))),
    known("clever_cloud", "S", Some(2048), Some((0.04, EUR))),
    known("clever_cloud", "M", Some(4096), Some((0.1, EUR))),
    known("clever_cloud", "L", Some(8192), Some((0.2, EUR))),
    known("clever_cloud", "XL", None, Some((0.4, EUR))),
    known("scalingo", "S", Some(256), None),
    known("scalingo", "M", Some(512), None),
    known("scalingo", "L", Some(1024), None),
    known("scalingo", "XL", Some(2048), None),
    known("scalingo", "2XL", Some(4096), None),
    known("heroku", ECO, None, Some((0.0, USD))),
    known("heroku", "Basic", None, Some((7.0 / MONTH, USD))),
    known("heroku", "Standard-1X", None, Some((25.0 / MONTH, USD))),
    known("heroku", "Standard-2X", None, Some((50.0 / MONTH, USD))),
    known("heroku", "Performance-M", None, Some((250.0 / MONTH, USD))),
    known("heroku", "Performance-L", None, Some((500.0 / MONTH, USD))),
];

/// Heroku puts these to sleep by itself: what Loir does about them saves nothing.
pub const ECO: &str = "Eco";

/// What is known of this size.
pub fn size(provider: &str, size: &str) -> Option<&'static KnownSize> {
    SIZES.iter().find(|known| known.provider == provider && known.size.eq_ignore_ascii_case(size))
}

/// Watts of an idle process with so many gigabytes, at the plug of the building.
pub fn idle_watts(config: &SavingsConfig, gigabytes: f64) -> Range {
    let (vcpu, pue) = (fixed(config.vcpu, VCPU), fixed(config.pue, PUE));
    Range::of(|pick| pick(&pue) * (pick(&vcpu) * processor(pick(&USE)) + gigabytes * MEMORY_WATTS))
}

/// Watts that a process which boots draws more than an idle one.
pub fn boot_watts(config: &SavingsConfig) -> Range {
    let (vcpu, pue) = (fixed(config.vcpu, VCPU), fixed(config.pue, PUE));
    Range::of(|pick| pick(&pue) * pick(&vcpu) * (BUSY_WATTS - processor(pick(&USE))))
}

/// Watts of all gateways.
pub fn gateway_watts(config: &SavingsConfig) -> Range {
    let count = config.gateways as f64;
    if let Some(watts) = config.gateway_watts {
        return Range::exactly(watts * count);
    }
    let (vcpu, pue) = (fixed(config.gateway_vcpu, GATEWAY_VCPU), fixed(config.pue, PUE));
    let memory = gigabytes(config.gateway_memory) * MEMORY_WATTS;
    Range::of(|pick| count * pick(&pue) * (pick(&vcpu) * processor(GATEWAY_USE) + memory))
}

/// Watts of a processor that is so busy.
fn processor(busy: f64) -> f64 {
    IDLE_WATTS + busy * (BUSY_WATTS - IDLE_WATTS)
}

fn fixed(set: Option<f64>, usual: Range) -> Range {
    set.map_or(usual, Range::exactly)
}

/// Bytes as gigabytes, of 2^30 bytes.
pub fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Everything that went into energy and CO2e.
pub fn used(config: &SavingsConfig) -> Vec<Factor> {
    let own = "the configuration (savings)";
    let or_own = |set: Option<f64>, usual: &'static str| if set.is_some() { own } else { usual };
    let assumed =
        "assumption of Loir for an idle app: a small share, a typical one, a whole reserved processor";
    let factor = |name: &str, value: Range, unit: &str, source: &str, year: Option<i16>| Factor {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        source: source.to_owned(),
        year,
    };
    let vcpu = or_own(config.vcpu, assumed);
    let pue =
        or_own(config.pue, "Cloud Carbon Footprint for AWS (low); typical of a colocation (central, high)");
    let mut factors = vec![
        factor("processor, idle", Range::exactly(IDLE_WATTS), "W", CCF, None),
        factor("processor, busy", Range::exactly(BUSY_WATTS), "W", CCF, None),
        factor("memory", Range::exactly(MEMORY_WATTS), "W/GB", CCF, None),
        factor("processors of an idle process", fixed(config.vcpu, VCPU), "vCPU", vcpu, None),
        factor("how busy they are", USE, "", "assumption of Loir for an idle app", None),
        factor("PUE", fixed(config.pue, PUE), "", pue, None),
        factor(
            "memory of a process whose size is not known",
            Range::exactly(gigabytes(config.memory)),
            "GB",
            "the configuration, or its default",
            None,
        ),
        match config.gateway_watts {
            Some(watts) => factor("a gateway", Range::exactly(watts), "W", own, None),
            None => {
                let vcpu = or_own(config.gateway_vcpu, "assumption of Loir: a small server");
                factor(
                    "processors of a gateway",
                    fixed(config.gateway_vcpu, GATEWAY_VCPU),
                    "vCPU",
                    vcpu,
                    None,
                )
            }
        },
    ];
    if let Some(carbon) = &config.carbon {
        let name = carbon.place.map_or("grid".to_owned(), |place| format!("grid, {place}"));
        let grams = Range::exactly(carbon.grams_per_kwh);
        factors.push(factor(&name, grams, "g CO2e/kWh", &carbon.source, Some(carbon.year)));
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the method's page: 512 MB, asleep for 720 h.
    #[test]
    fn the_worked_example_of_the_docs() {
        let watts = idle_watts(&SavingsConfig::default(), 0.5);
        let about = |value: f64, wanted: f64| (value - wanted).abs() < 0.005 * wanted.max(1.0);
        assert!(
            about(watts.low, 0.264) && about(watts.central, 0.533) && about(watts.high, 1.718),
            "{watts:?}"
        );
        let gateway = gateway_watts(&SavingsConfig::default());
        assert!(about(gateway.low, 1.441) && about(gateway.high, 3.437), "{gateway:?}");
        let mut measured = SavingsConfig::default();
        (measured.gateway_watts, measured.gateways) = (Some(4.0), 2);
        assert_eq!(gateway_watts(&measured), Range::exactly(8.0));
    }

    #[test]
    fn a_size_is_known_in_whatever_case_and_none_has_an_invented_price() {
        assert_eq!(size("heroku", "standard-1x").unwrap().size, "Standard-1X");
        assert!(size("heroku", "M").is_none() && size("process", "M").is_none());
        assert!(SIZES.iter().filter(|size| size.provider == "scalingo").all(|size| size.price.is_none()));
    }
}
