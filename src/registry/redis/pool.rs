//! `RedisPool`: the budgets of provider accounts that several gateways share, in Redis.
//!
//! One hash for each account, `PREFIX:v1:budget:ACCOUNT`, and one script (`take.lua`) that is all there is to it: it counts
//! by the clock of Redis, so that gateways need not agree on the time. Nothing in there is needed to stop or wake an app: a
//! bucket that is lost is full again.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::Script;

use super::{keys::Keys, link::Link};
use crate::{
    provider::api::{Limits, Pool, Priority, Taken},
    registry::RegistryError,
};

#[cfg(test)]
mod tests;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// Whatever runs scripts on a Redis.
#[async_trait]
pub trait Eval: Send + Sync {
    /// Runs `script`, which answers with whole numbers. It may be dropped at any time.
    async fn eval(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<Vec<i64>, RegistryError>;
}

#[async_trait]
impl Eval for Arc<Link> {
    async fn eval(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<Vec<i64>, RegistryError> {
        self.script(script, keys, args).await
    }
}

/// A [`Pool`] in a Redis.
pub struct RedisPool<E> {
    redis: E,
    keys: Keys,
    /// What this gateway is called there: another name each time it starts.
    gateway: String,
    /// Whether the last answer was one. That it is not is said once.
    well: AtomicBool,
}

impl<E: Eval> RedisPool<E> {
    /// The budgets of this fleet.
    pub fn new(redis: E, keys: Keys) -> Self {
        let gateway = format!("{:016x}", fastrand::u64(..));
        Self { redis, keys, gateway, well: AtomicBool::new(true) }
    }

    async fn ask(&self, account: &str, args: &[String]) -> Option<Vec<i64>> {
        let answer = self.redis.eval(&TAKE, &[self.keys.budget(account)], args).await;
        let well = answer.is_ok();
        match answer {
            Ok(answer) => {
                if !self.well.swap(well, Ordering::Relaxed) {
                    log::info!("budgets are shared with other gateways again");
                }
                Some(answer)
            }
            Err(error) => {
                if self.well.swap(well, Ordering::Relaxed) {
                    log::warn!(
                        "budgets are not shared with other gateways, as Redis does not do its part: {error}"
                    );
                }
                None
            }
        }
    }
}

#[async_trait]
impl<E: Eval> Pool for RedisPool<E> {
    async fn take(&self, account: &str, limits: Limits, priority: Priority) -> Taken {
        let numbers = [
            priority as u64,
            u64::try_from(priority.slack().as_millis()).unwrap_or(u64::MAX),
            u64::from(limits.per_minute.max(1)),
            u64::from(limits.burst.max(1)),
            u64::from(limits.reserve_for_wakes),
        ];
        let args: Vec<_> = ["take".to_owned(), self.gateway.clone()]
            .into_iter()
            .chain(numbers.map(|number| number.to_string()))
            .collect();
        match self.ask(account, &args).await.as_deref() {
            Some([0, ..]) => Taken::Yes,
            Some([wait, sharers]) => Taken::In {
                wait: Duration::from_millis(wait.unsigned_abs()),
                sharers: u32::try_from(*sharers).unwrap_or(1),
            },
            _ => Taken::Unknown,
        }
    }

    async fn give_back(&self, account: &str) {
        self.ask(account, &["back".to_owned()]).await;
    }

    async fn pause(&self, account: &str, pause: Duration) {
        self.ask(account, &["pause".to_owned(), pause.as_millis().to_string()]).await;
    }
}
