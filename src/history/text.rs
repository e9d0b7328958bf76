//! A report in words and as a table. An estimate is rounded to two figures and never stands without its range.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::report::{Factor, Footprint, Money, Range, Report};

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let total = &self.total;
        let asleep = hours(total.asleep_seconds);
        let _ = writeln!(
            text,
            "From {} to {}: {} asleep (counted)",
            moment(self.since),
            moment(self.until),
            asleep
        );
        let _ = writeln!(
            text,
            "{} wakes, {} failed, {} requests",
            total.wakes, total.failed_wakes, total.requests
        );
        let money: Vec<_> = total.money.iter().map(self::money).collect();
        let money = if money.is_empty() {
            "none known: see the price of each app".to_owned()
        } else {
            money.join(" + ")
        };
        let _ = writeln!(text, "\nMoney not spent (price x hours):  {money}");
        let _ = writeln!(text, "Attributed to it (estimates):     {}", footprint(&total.footprint));
        if let (Some(gateway), Some(net)) = (&total.gateway, &total.net) {
            let _ = writeln!(text, "The gateway itself (estimate):    - {}", footprint(gateway));
            let _ = writeln!(text, "Net (estimate):                   {}", footprint(net));
        }
        text.push('\n');
        let rows = self.apps.iter().map(|app| {
            let money = app.money.as_ref().map_or_else(|| "-".to_owned(), self::money);
            [
                app.app.to_string(),
                hours(app.asleep_seconds),
                app.wakes.to_string(),
                money,
                energy(&app.footprint.energy_wh),
            ]
        });
        let head = ["APP", "ASLEEP", "WAKES", "MONEY", "ENERGY (estimate)"].map(str::to_owned);
        table(&mut text, std::iter::once(head).chain(rows).collect());
        let unpriced = self.apps.iter().filter(|app| app.money.is_none());
        for app in unpriced {
            let _ = writeln!(text, "  {}: {}", app.app, app.price);
        }
        if let Some(what_if) = &self.what_if {
            let minutes =
                crate::config::units::duration(std::time::Duration::from_secs(what_if.idle_timeout_seconds));
            let total = &what_if.total;
            let _ = writeln!(text, "\nWith idle_timeout {minutes}, replayed by the minute (an estimate):");
            let rows = what_if.apps.iter().map(|app| (app.app.to_string(), app.figures));
            let rows = rows.chain([("all".to_owned(), *total)]).map(|(name, it)| {
                [
                    name,
                    hours(it.asleep_seconds),
                    hours(it.asleep_seconds_then),
                    it.wakes.to_string(),
                    it.wakes_then.to_string(),
                ]
            });
            let head = ["APP", "ASLEEP", "THEN", "WAKES", "THEN"].map(str::to_owned);
            table(&mut text, std::iter::once(head).chain(rows).collect());
            for note in &what_if.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
        let _ = writeln!(text, "\nMethod: {}", self.method);
        for factor in &self.factors {
            let _ = writeln!(text, "  {}", self::factor(factor));
        }
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}");
        }
        text
    }

    /// For spreadsheets: one line for each app and one for all of them, with every figure as it was reckoned.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "app,asleep_seconds,watched_hours,wakes,failed_wakes,requests,money,currency,price,energy_wh_low,energy_wh_central,\
             energy_wh_high,co2e_g_low,co2e_g_central,co2e_g_high\n",
        );
        for app in &self.apps {
            let counts = [app.asleep_seconds, app.watched_hours, app.wakes, app.failed_wakes, app.requests];
            let counts = counts.map(|count| count.to_string());
            let money = app
                .money
                .as_ref()
                .map_or(["".into(), "".into()], |it| [it.amount.to_string(), it.currency.clone()]);
            let name = app.app.to_string();
            line(
                &mut text,
                [vec![name], counts.into(), money.into(), vec![app.price.clone()], figures(&app.footprint)]
                    .concat(),
            );
        }
        let total = &self.total;
        let counts =
            [total.asleep_seconds, total.wakes, total.failed_wakes, total.requests].map(|it| it.to_string());
        let [asleep, wakes, failed, requests] = counts;
        let row = |name: &str, counts: [String; 5], of: &Footprint| {
            let blank = vec![String::new(), String::new(), "estimate".to_owned()];
            [vec![name.to_owned()], counts.into(), blank, figures(of)].concat()
        };
        line(&mut text, row("(all)", [asleep, String::new(), wakes, failed, requests], &total.footprint));
        for (name, of) in [("(gateway)", &total.gateway), ("(net)", &total.net)] {
            if let Some(of) = of {
                line(&mut text, row(name, Default::default(), of));
            }
        }
        text
    }
}

fn figures(of: &Footprint) -> Vec<String> {
    let of_range = |range: Option<Range>| {
        range.map_or(vec![String::new(); 3], |it| {
            [it.low, it.central, it.high].map(|it| it.to_string()).into()
        })
    };
    [of_range(Some(of.energy_wh)), of_range(of.co2e_g)].concat()
}

fn line(text: &mut String, fields: Vec<String>) {
    let quoted = fields.into_iter().map(|field| {
        // A field that begins so would be a formula to a spreadsheet.
        let numeric = field.parse::<f64>().is_ok();
        let field =
            if field.starts_with(['=', '+', '-', '@']) && !numeric { format!("'{field}") } else { field };
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field
        }
    });
    text.push_str(&quoted.collect::<Vec<_>>().join(","));
    text.push('\n');
}

fn moment(millis: u64) -> String {
    let at = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.map_or_else(|| millis.to_string(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn hours(seconds: u64) -> String {
    format!("{:.1} h", seconds as f64 / 3600.0)
}

fn money(money: &Money) -> String {
    match money.amount {
        amount if amount > 0.0 && amount < 0.01 => format!("less than 0.01 {}", money.currency),
        amount => format!("{amount:.2} {}", money.currency),
    }
}

fn footprint(of: &Footprint) -> String {
    let energy = energy(&of.energy_wh);
    match &of.co2e_g {
        None => energy,
        Some(grams) => {
            format!("{energy}; {}", range(grams, &[(1e6, "t CO2e"), (1e3, "kg CO2e"), (1.0, "g CO2e")]))
        }
    }
}

fn energy(wh: &Range) -> String {
    range(wh, &[(1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh")])
}

/// In the largest of these units that makes more than one of it. Below the smallest, an estimate says nothing.
fn range(of: &Range, units: &[(f64, &str)]) -> String {
    let most = of.low.abs().max(of.central.abs()).max(of.high.abs());
    let Some((unit, name)) = units.iter().find(|(unit, _)| of.central.abs() >= *unit || most >= *unit * 10.0)
    else {
        return "too small to estimate".to_owned();
    };
    let shown = |value: f64| figure(value / unit);
    match (shown(of.low), shown(of.central), shown(of.high)) {
        (low, central, high) if low == high => format!("\u{2248} {central} {name}"),
        (low, central, high) => format!("\u{2248} {central} {name} ({low} to {high})"),
    }
}

/// With two figures that count.
fn figure(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let places = 1 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(places);
    let rounded = (value * scale).round() / scale;
    let text = format!("{rounded:.*}", usize::try_from(places).unwrap_or(0));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn factor(factor: &Factor) -> String {
    let Range { low, central, high } = factor.value;
    let value = if low == high {
        plain(central)
    } else {
        format!("{} ({} to {})", plain(central), plain(low), plain(high))
    };
    let year = factor.year.map(|year| format!(", {year}")).unwrap_or_default();
    format!("{}: {value} {} [{}{year}]", factor.name, factor.unit, factor.source).replace("  ", " ")
}

/// A number as it was given.
fn plain(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn table<const N: usize>(text: &mut String, rows: Vec<[String; N]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_have_two_figures_and_their_range() {
        for (value, shown) in
            [(0.384, "0.38"), (123.4, "120"), (3.0, "3"), (0.0999, "0.1"), (9.96, "10"), (-45.6, "-46")]
        {
            assert_eq!(figure(value), shown, "{value}");
        }
        let wh = |low, central, high| energy(&Range { low, central, high });
        assert_eq!(wh(190.0, 384.0, 1240.0), "\u{2248} 380 Wh (190 to 1200)");
        assert_eq!(wh(1_900.0, 3_840.0, 12_400.0), "\u{2248} 3.8 kWh (1.9 to 12)");
        assert_eq!(wh(0.1, 0.5, 0.9), "too small to estimate");
        assert_eq!(wh(-2_000.0, -900.0, 500.0), "\u{2248} -900 Wh (-2000 to 500)");
    }

    #[test]
    fn a_field_is_no_formula_and_breaks_no_line() {
        let mut text = String::new();
        line(&mut text, vec!["=1+1".into(), "a,\"b\"\nc".into(), "-3.5".into()]);
        assert_eq!(text, "'=1+1,\"a,\"\"b\"\"\nc\",-3.5\n");
    }
}
