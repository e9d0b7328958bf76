//! How long an app will take, from its own history, and how full the bar is meanwhile.

use std::time::Duration;

/// How long an app usually takes from the start to its first answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Half of the boots are done by then.
    pub p50: Duration,
    /// Nine of ten boots are done by then.
    pub p90: Duration,
}

/// What an app's own boots (oldest first) say about its next one; nothing with fewer than three of them.
///
/// These are weighted percentiles: the oldest boot counts once, the next twice, and so on, so that an app that was
/// made faster or slower is believed after a few boots. Each answer is a boot that really happened.
pub fn estimate(boots: &[Duration]) -> Option<Estimate> {
    if boots.len() < 3 {
        return None;
    }
    let mut weighted: Vec<(Duration, usize)> = boots.iter().copied().zip(1..).collect();
    weighted.sort_unstable();
    let total: usize = weighted.iter().map(|(_, weight)| weight).sum();
    let percentile = |percent: usize| {
        let mut seen = 0;
        weighted.iter().find_map(|&(boot, weight)| {
            seen += weight;
            (seen * 100 >= total * percent).then_some(boot)
        })
    };
    Some(Estimate { p50: percentile(50)?, p90: percentile(90)? })
}

/// How far the bar is after `elapsed`, from 0 to 0.9: `0.9 * (1 - exp(-1.6 * t / p50))`.
///
/// It never goes backwards, it keeps moving when a boot takes longer than usual, and it is never full before the app
/// has answered. At `p50` it stands at 72 %. `page.html` draws the same curve between two messages.
pub fn progress(elapsed: Duration, p50: Duration) -> f64 {
    let p50 = p50.max(Duration::from_millis(1));
    0.9 * (1.0 - (-1.6 * elapsed.as_secs_f64() / p50.as_secs_f64()).exp())
}

/// After how many seconds a browser without scripts asks again: a third of the usual boot, and at least five.
pub fn refresh_seconds(usual: Option<Estimate>) -> u64 {
    usual.map_or(5, |usual| (usual.p50 / 3).as_secs().max(5))
}
