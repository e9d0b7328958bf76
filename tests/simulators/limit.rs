//! How many calls a provider takes.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// So many calls in any span of a minute; a refused call does not count.
#[derive(Debug)]
pub struct Window {
    limit: Option<u32>,
    span: Duration,
    taken: VecDeque<Instant>,
}

impl Window {
    /// No limit.
    pub fn open() -> Self {
        Self { limit: None, span: Duration::from_secs(60), taken: VecDeque::new() }
    }

    /// From now on; what was taken before counts.
    pub fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// Another span than a minute, so that a test sees a limit come to its end.
    pub fn set_span(&mut self, span: Duration) {
        self.span = span;
    }

    /// Takes one call, or says how long until one is free.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        while self.taken.front().is_some_and(|at| now.duration_since(*at) >= self.span) {
            self.taken.pop_front();
        }
        match (self.limit, self.taken.front()) {
            (Some(limit), Some(first)) if self.taken.len() >= limit as usize => {
                Err(self.span.saturating_sub(now.duration_since(*first)))
            }
            (Some(0), None) => Err(self.span),
            _ => {
                self.taken.push_back(now);
                Ok(())
            }
        }
    }
}

/// A pool of calls that fills up again drop by drop.
#[derive(Debug)]
pub struct Pool {
    size: f64,
    per_minute: f64,
    level: f64,
    at: Instant,
}

impl Pool {
    /// A full pool.
    pub fn full(size: u32, per_minute: u32) -> Self {
        Self { size: size.into(), per_minute: per_minute.into(), level: size.into(), at: Instant::now() }
    }

    /// How many calls are left.
    pub fn remaining(&mut self, now: Instant) -> u32 {
        let minutes = now.duration_since(self.at).as_secs_f64() / 60.0;
        self.level = (self.level + minutes * self.per_minute).min(self.size);
        self.at = now;
        self.level as u32
    }

    /// Takes one call if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let some = self.remaining(now) >= 1;
        if some {
            self.level -= 1.0;
        }
        some
    }
}
