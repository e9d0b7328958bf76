//! Medians, percentiles, and how to write them.

use std::time::Duration;

/// The value below which `share` (0 to 1) of the values lie: the nearest rank. 0 of none.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The largest value, 0 of none.
pub fn largest(values: &[f64]) -> f64 {
    percentile(values, 1.0)
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// With thousands apart: 12 345.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((median(&hundred), percentile(&hundred, 0.99), largest(&hundred)), (50.0, 99.0, 100.0));
        assert_eq!((median(&[]), median(&[7.0])), (0.0, 7.0));
        assert_eq!(
            (whole(1_234_567.4), whole(-1000.0), whole(999.0)),
            ("1 234 567".into(), "-1 000".into(), "999".into())
        );
    }
}
