//! `type: redis`: the records of any number of gateways that share one Redis or Valkey.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `Redis`: records are compared and set, and what gateways do together |
//! | `member` | joining, living and leaving: connecting, listening, beating |
//! | `link` | the connection for commands |
//! | `address` | where the server is, with or without Sentinels |
//! | `config` | the options |
//! | `keys`, `wire` | the names of keys, and what is written under them |
//! | `pool` | the budgets of provider accounts |
//! | `upkeep` | a look from outside, and mending: `loir registry` |
//! | `copy` | what this gateway has seen, for when the registry loses it |
//! | `*.lua` | what must happen in one step |
//!
//! Guarantees: a record is only ever replaced by what was decided on exactly that record; epochs grow; no key that is needed
//! to stop an app has a time to live; nothing outside `PREFIX:v1:` is read or written. While the server cannot be used, every
//! call fails at once.

use std::{
    io,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::{Script, cmd, pipe};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    Change, Record, Registry, RegistryContext, RegistryError,
    fleet::{Agreement, Fleet, News, SharedList},
};
use crate::{app::AppId, provider::api::Pool};

mod address;
pub mod config;
mod copy;
mod keys;
mod link;
mod member;
mod pool;
mod upkeep;
mod wire;

pub use config::{RedisConfig, configure, schema};
use copy::Copy;
use keys::Keys;
use link::Link;
use pool::RedisPool;
use wire::Message;

/// A gateway that has not been heard of for so many leases is dead, and nobody waits for its agreement.
const GONE_AFTER: u32 = 4;

/// Tries to change a record that others change at the same time.
const TRIES: usize = 16;

/// Records read with one command.
const READ_AT_ONCE: usize = 500;

/// Candidates taken from the registry at once.
const DUE_AT_ONCE: usize = 1_000;

/// How long an agreement is kept: much longer than a stop waits for it.
const AGREED_FOR: Duration = Duration::from_secs(120);

/// A stop looks so often who has agreed, should it not be told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget.lua")));
static AGREEMENT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("agreement.lua")));

/// One gateway of a fleet.
pub struct Redis {
    config: RedisConfig,
    me: String,
    keys: Keys,
    link: Arc<Link>,
    copy: Copy,
    leads: AtomicBool,
    heard: Notify,
    /// It is about to end, and leads no more.
    resigned: AtomicBool,
    /// It has said goodbye.
    left: AtomicBool,
    /// Whether joining has been tried.
    tried: watch::Sender<bool>,
    news: mpsc::UnboundedSender<News>,
    listener: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
}

impl Redis {
    /// Begins to join the fleet, in the background: a registry that is away keeps nobody from starting.
    ///
    /// Fails if `state_dir` cannot be used, or another gateway uses it.
    pub fn open(config: RedisConfig, context: RegistryContext) -> io::Result<Arc<Self>> {
        let (news, listener) = mpsc::unbounded_channel();
        let redis = Arc::new(Self {
            me: format!("{:012x}", fastrand::u64(..1 << 48)),
            keys: Keys::new(&config.prefix),
            link: Arc::new(Link::new(config.response_timeout)),
            copy: Copy::open(context.state_dir.as_deref())?,
            leads: AtomicBool::new(false),
            heard: Notify::new(),
            resigned: AtomicBool::new(false),
            left: AtomicBool::new(false),
            tried: watch::Sender::new(false),
            news,
            listener: Mutex::new(Some(listener)),
            config,
        });
        tokio::spawn(member::live(Arc::downgrade(&redis)));
        tokio::spawn(member::write_copies(Arc::downgrade(&redis)));
        Ok(redis)
    }

    /// Compares and sets, until the change is made or does not fit.
    async fn change(
        &self,
        app: &AppId,
        basis: Option<u64>,
        change: &Change,
    ) -> Result<Record, RegistryError> {
        let known = self.copy.get(app);
        // What we know is most often what is there; else we are told what is.
        let mut written = known.as_ref().map(wire::write).transpose()?.unwrap_or_default();
        let mut certain = false;
        for _ in 0..TRIES {
            let now = self.now();
            let record = wire::read(app, &written)?.unwrap_or_else(|| Record::new(now));
            let lost = known.as_ref().filter(|known| known.epoch > record.epoch);
            let restored = lost.and_then(|known| restored(&record, known, now));
            let next = match (restored, basis) {
                // What the registry has lost comes first, and then the change on top of it.
                (Some(restored), _) if !matches!(change, Change::Restore { .. }) => Some((restored, false)),
                (_, Some(epoch)) if epoch != record.epoch => None,
                _ => record.apply(change, now).ok().map(|next| (next, true)),
            };
            let Some((next, done)) = next else {
                if certain {
                    self.copy.keep(app, &record);
                    return Err(RegistryError::Misfit(Box::new(record)));
                }
                written = self.get(app).await?;
                certain = true;
                continue;
            };
            match self.replace(app, &written, &next).await? {
                None if done => {
                    self.copy.keep(app, &next);
                    return Ok(next);
                }
                None => (written, certain) = (wire::write(&next)?, true),
                Some(other) => (written, certain) = (other, true),
            }
        }
        Err(RegistryError::Unavailable("the record changes faster than it can be read".into()))
    }

    /// Writes `next` if the record still is what is `written`; else returns what it is.
    async fn replace(
        &self,
        app: &AppId,
        written: &str,
        next: &Record,
    ) -> Result<Option<String>, RegistryError> {
        let (keys, args) = write_of(&self.keys, &self.config, app, written, next)?;
        let (done, answer, now): (u8, redis::Value, u64) = self.link.script(&APPLY, &keys, &args).await?;
        self.link.believe_time(now);
        match done {
            1 => Ok(None),
            _ => redis::from_redis_value(answer)
                .map(Some)
                .map_err(|error| RegistryError::Unavailable(error.to_string())),
        }
    }

    /// The record as it is written.
    async fn get(&self, app: &AppId) -> Result<String, RegistryError> {
        let text: Option<String> = self.link.command(cmd("GET").arg(self.keys.record(app))).await?;
        Ok(text.unwrap_or_default())
    }

    async fn tell(&self, message: &Message) {
        let mut publish = cmd("PUBLISH");
        publish.arg(self.keys.channel()).arg(message.text());
        if let Err(error) = self.link.command::<()>(&publish).await {
            log::debug!("a message to the other gateways is lost: {error}");
        }
    }

    async fn up_to_now(&self, key: String) -> Result<Vec<AppId>, RegistryError> {
        let mut range = cmd("ZRANGEBYSCORE");
        range.arg(key).arg("-inf").arg(self.now()).arg("LIMIT").arg(0).arg(DUE_AT_ONCE);
        let apps: Vec<String> = self.link.command(&range).await?;
        Ok(apps.iter().filter_map(|app| app.parse().ok()).collect())
    }
}

/// What `apply.lua` is given to replace what is `written` by `next`.
fn write_of(
    keys: &Keys,
    config: &RedisConfig,
    app: &AppId,
    written: &str,
    next: &Record,
) -> Result<([String; 5], [String; 6]), RegistryError> {
    let (due, deadline) = places(config, next);
    let args = [written.to_owned(), wire::write(next)?, app.to_string(), due, deadline, keys.channel()];
    Ok(([keys.record(app), keys.fleet(), keys.changed(), keys.due(), keys.deadlines()], args))
}

/// Where a record belongs in the indexes: in how many milliseconds the app may be idle, and its deadline; nothing for nowhere.
fn places(config: &RedisConfig, record: &Record) -> (String, String) {
    let due = match record.state {
        // Whoever uses it will say better.
        crate::app::AppState::Awake => (config.flush_interval * 2).as_millis().to_string(),
        _ => String::new(),
    };
    (due, record.deadline.map(|deadline| deadline.to_string()).unwrap_or_default())
}

/// What the registry is to have again of what this gateway has `known`, unless somebody has the app in hand.
fn restored(record: &Record, known: &Record, now: u64) -> Option<Record> {
    let running = known.state == crate::app::AppState::Awake;
    record.apply(&Change::Restore { known: Box::new(known.clone()), running }, now).ok()
}

#[async_trait]
impl Registry for Redis {
    async fn read(&self, app: &AppId) -> Result<Option<Record>, RegistryError> {
        let record = wire::read(app, &self.get(app).await?)?;
        if let Some(record) = &record {
            self.copy.keep(app, record);
        }
        Ok(record)
    }

    async fn apply(&self, app: &AppId, change: Change, basis: Option<u64>) -> Result<Record, RegistryError> {
        self.change(app, basis, &change).await
    }

    async fn rename(&self, from: &AppId, to: &AppId) -> Result<(), RegistryError> {
        let keys = &self.keys;
        let keys =
            [keys.record(from), keys.fleet(), keys.changed(), keys.due(), keys.deadlines(), keys.record(to)];
        let args = [from.to_string(), self.keys.channel(), to.to_string()];
        self.link.script(&FORGET, &keys, &args).await
    }

    async fn forget(&self, app: &AppId) -> Result<(), RegistryError> {
        let keys = &self.keys;
        let keys = [keys.record(app), keys.fleet(), keys.changed(), keys.due(), keys.deadlines()];
        self.copy.forget(app);
        self.link.script(&FORGET, &keys, &[app.to_string(), self.keys.channel()]).await
    }

    fn me(&self) -> &str {
        &self.me
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }
}

#[async_trait]
impl Fleet for Redis {
    fn news(&self) -> Option<mpsc::UnboundedReceiver<News>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn pool(&self) -> Arc<dyn Pool> {
        Arc::new(RedisPool::new(self.link.clone(), self.keys.clone()))
    }

    async fn tried(&self) {
        // The sender is ours.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    fn sees(&self) -> bool {
        self.link.open_for().is_some()
    }

    fn may_stop(&self) -> bool {
        self.link.open_for().is_some_and(|since| since >= self.config.lease)
    }

    fn leads(&self) -> bool {
        self.sees() && self.leads.load(Ordering::SeqCst)
    }

    fn lease(&self) -> Duration {
        self.config.lease
    }

    fn flush_interval(&self) -> Duration {
        self.config.flush_interval
    }

    fn now(&self) -> u64 {
        self.link.now()
    }

    fn known(&self, app: &AppId) -> Option<Record> {
        self.copy.get(app)
    }

    async fn read_all(&self, apps: &[AppId]) -> Result<Vec<Option<Record>>, RegistryError> {
        let mut records = Vec::with_capacity(apps.len());
        for apps in apps.chunks(READ_AT_ONCE) {
            let mut get = cmd("MGET");
            get.arg(apps.iter().map(|app| self.keys.record(app)).collect::<Vec<_>>());
            let texts: Vec<Option<String>> = self.link.command(&get).await?;
            for (app, text) in apps.iter().zip(texts) {
                let record = wire::read(app, &text.unwrap_or_default()).unwrap_or_else(|error| {
                    log::warn!("{app}: {error}");
                    None
                });
                if let Some(record) = &record {
                    self.copy.keep(app, record);
                }
                records.push(record);
            }
        }
        Ok(records)
    }

    async fn used(&self, apps: &[(AppId, Duration)]) -> Result<(), RegistryError> {
        let now = self.now();
        for apps in apps.chunks(READ_AT_ONCE) {
            let mut add = cmd("ZADD");
            add.arg(self.keys.due()).arg("XX");
            for (app, idle) in apps {
                add.arg(now.saturating_add(idle.as_millis().try_into().unwrap_or(u64::MAX)))
                    .arg(app.to_string());
            }
            self.link.command::<()>(&add).await?;
        }
        Ok(())
    }

    async fn due(&self) -> Result<Vec<AppId>, RegistryError> {
        self.up_to_now(self.keys.due()).await
    }

    async fn abandoned(&self) -> Result<Vec<AppId>, RegistryError> {
        self.up_to_now(self.keys.deadlines()).await
    }

    async fn agree(&self, app: &AppId, epoch: u64) -> Result<(), RegistryError> {
        let key = self.keys.agreed(app);
        let mut agree = pipe();
        agree.hset(&key, &self.me, epoch).ignore();
        agree.pexpire(&key, AGREED_FOR.as_millis().try_into().unwrap_or(i64::MAX)).ignore();
        agree.publish(self.keys.channel(), Message::Agreed.text()).ignore();
        self.link.commands(&agree).await
    }

    async fn agreement(&self, app: &AppId, epoch: u64) -> Result<Agreement, RegistryError> {
        let keys = [self.keys.fleet(), self.keys.record(app), self.keys.agreed(app)];
        let [gone, old] = [GONE_AFTER, 1].map(|leases| (self.config.lease * leases).as_millis().to_string());
        let args = [epoch.to_string(), gone, old];
        let mut answer: Vec<String> = self.link.script(&AGREEMENT, &keys, &args).await?;
        if answer.is_empty() {
            return Err(RegistryError::Unavailable("an answer without a record".into()));
        }
        let record = wire::read(app, &answer.remove(0))?;
        answer.retain(|gateway| *gateway != self.me);
        Ok(match record {
            Some(record) if record.epoch == epoch && answer.is_empty() => Agreement::Reached,
            Some(record) if record.epoch == epoch => Agreement::Missing(answer),
            _ => Agreement::Off,
        })
    }

    async fn heard(&self) {
        let _ = tokio::time::timeout(LOOK_EVERY, self.heard.notified()).await;
    }

    async fn want(&self, app: &AppId) {
        self.tell(&Message::Wanted(app.clone())).await;
    }

    async fn share_list(&self, entry: &str, list: &SharedList) -> Result<(), RegistryError> {
        let at = self.now().saturating_sub(list.age.as_millis().try_into().unwrap_or(u64::MAX));
        let mut share = pipe();
        share.hset_multiple(self.keys.list(entry), &[("text", &list.text), ("at", &at.to_string())]).ignore();
        share.publish(self.keys.channel(), Message::Listed(entry.to_owned()).text()).ignore();
        self.link.commands(&share).await
    }

    async fn shared_list(&self, entry: &str) -> Result<Option<SharedList>, RegistryError> {
        let mut get = cmd("HMGET");
        get.arg(self.keys.list(entry)).arg("text").arg("at");
        let (text, at): (Option<String>, Option<u64>) = self.link.command(&get).await?;
        let age = |at| Duration::from_millis(self.now().saturating_sub(at));
        Ok(text.zip(at).map(|(text, at)| SharedList { text, age: age(at) }))
    }

    async fn outdated(&self, entry: &str) {
        self.tell(&Message::Outdated(entry.to_owned())).await;
    }

    async fn resign(&self) {
        self.resigned.store(true, Ordering::SeqCst);
        member::leave(self, false).await;
    }

    async fn leave(&self) {
        member::leave(self, true).await;
    }
}
