//! wrk, and what it says.

use crate::{Outcome, client::HOST, process::said, subject::which};

/// What one run of wrk has seen.
pub struct Seen {
    /// Requests that were answered.
    pub requests: f64,
    /// In a second.
    pub rate: f64,
    /// Latency in milliseconds: half of the requests were faster.
    pub p50: f64,
    /// 99 of 100 were.
    pub p99: f64,
}

/// Says what to do where wrk is missing.
pub fn check() -> Outcome<()> {
    which("wrk").map(|_| ()).ok_or_else(|| "wrk is missing: apt-get install wrk".into())
}

/// Asks `path` over `connections` that stay open, for so many seconds.
pub async fn run(port: u16, path: &str, connections: usize, seconds: u64) -> Outcome<Seen> {
    let (connections, seconds) = (connections.to_string(), format!("{seconds}s"));
    let (url, host) = (format!("http://127.0.0.1:{port}{path}"), format!("Host: {HOST}"));
    let text =
        said("wrk", &["-t1", "-c", &connections, "-d", &seconds, "--latency", "-H", &host, &url]).await?;
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return Err(format!("wrk met errors:\n{text}").into());
    }
    read(&text).ok_or_else(|| format!("wrk said something new:\n{text}").into())
}

fn read(text: &str) -> Option<Seen> {
    let after = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let requests = text.lines().find_map(|line| line.split_once(" requests in "))?.0.trim().parse().ok()?;
    Some(Seen {
        requests,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50: millis(after("50%")?)?,
        p99: millis(after("99%")?)?,
    })
}

fn millis(text: &str) -> Option<f64> {
    let unit = text.find(char::is_alphabetic)?;
    let value: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(value / 1e3),
        "ms" => Some(value),
        "s" => Some(value * 1e3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_understood() {
        let seen = read(
            "Running 4s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  Latency Distribution\n     50%    1.30ms\n     \
             75%    1.60ms\n     90%    2.00ms\n     99%    1.20s\n  89000 requests in 4.00s, 14.00MB read\nRequests/sec:  22250.50\n",
        )
        .unwrap();
        assert_eq!((seen.requests, seen.rate, seen.p50, seen.p99), (89000.0, 22250.5, 1.3, 1200.0));
        assert_eq!(millis("950.00us"), Some(0.95));
    }
}
