//! A gateway's life in the fleet: it joins, listens and beats, and when the registry goes away it joins again.

use std::{
    sync::{Arc, LazyLock, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use redis::{Msg, Script, aio::PubSubStream, cmd};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Redis,
    copy::WRITE_EVERY,
    link::{Link, in_words},
    wire,
    wire::Message,
};
use crate::{
    app::AppId,
    registry::{News, RegistryError, fleet::Fleet},
};

/// A gateway beats so many times in a lease.
const BEATS: u32 = 3;

/// The first pause after a registry was lost; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// It is said again that the registry is still away, but not more often.
const SAY_EVERY: Duration = Duration::from_secs(60);

static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("beat.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));

/// What a beat is answered.
struct Pulse {
    /// The number of the latest change.
    seq: u64,
    /// Differs if the registry has lost its data.
    word: String,
}

/// Joins, again and again, until the gateway leaves or nobody holds the registry any more.
pub async fn live(redis: Weak<Redis>) {
    let (mut pause, mut said) = (FIRST_PAUSE, None::<(Instant, String)>);
    let mut word = String::new();
    while let Some(redis) = redis.upgrade().filter(|redis| !redis.left.load(Ordering::SeqCst)) {
        match join(&redis).await {
            Ok((news, pulse)) => {
                if !word.is_empty() && word != pulse.word {
                    log::warn!(
                        "the registry has lost its data; records are made anew from what gateways know"
                    );
                }
                word.clone_from(&pulse.word);
                let (prefix, address) = (&redis.config.prefix, &redis.config.address);
                log::info!("joined the fleet `{prefix}` at {address} as {}", redis.me);
                said = None;
                let joined = Instant::now();
                redis.copy.joined(&pulse.word);
                redis.tried.send_replace(true);
                redis.hear(News::Joined);
                let (link, weak) = (redis.link.clone(), Arc::downgrade(&redis));
                drop(redis);
                let reason = stay(&link, weak.clone(), news, pulse).await;
                let Some(redis) = weak.upgrade() else { return };
                // One that is lost again and again is not joined again and again at once.
                if joined.elapsed() >= redis.config.lease {
                    pause = FIRST_PAUSE;
                }
                redis.link.close();
                redis.leads.store(false, Ordering::SeqCst);
                if redis.left.load(Ordering::SeqCst) {
                    return;
                }
                redis.hear(News::Lost);
                log::warn!("the registry is lost ({reason}): running apps are served, nothing is stopped");
            }
            Err(error) => {
                redis.link.close();
                redis.tried.send_replace(true);
                // Once in a while, and whenever it is for another reason.
                if said.as_ref().is_none_or(|(at, before)| at.elapsed() >= SAY_EVERY || *before != error) {
                    log::error!(
                        "the registry at {} cannot be used ({error}): apps are served and woken without it, and none is stopped",
                        redis.config.address
                    );
                    said = Some((Instant::now(), error));
                }
                drop(redis);
            }
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Connects, listens, and says that this gateway lives. Only then is the registry used.
async fn join(redis: &Redis) -> Result<(PubSubStream, Pulse), String> {
    let limit = redis.config.response_timeout;
    let in_time = |error: tokio::time::error::Elapsed| format!("no answer within {limit:?} ({error})");
    let words = |error: redis::RedisError| in_words(&error);
    let client =
        timeout(limit * 2, redis.config.address.client(limit)).await.map_err(in_time)?.map_err(words)?;
    let connection = timeout(limit, redis.link.connect(&client)).await.map_err(in_time)?.map_err(words)?;
    let listening = async {
        let mut pubsub = client.get_async_pubsub().await?;
        pubsub.subscribe(redis.keys.channel()).await?;
        Ok(pubsub.into_on_message())
    };
    // Listens before it reads: nothing is missed in between.
    let news = timeout(limit, listening).await.map_err(in_time)?.map_err(words)?;
    redis.link.open(connection);
    // A call that failed before is not about this connection.
    drop(timeout(Duration::ZERO, redis.link.lost.notified()).await);
    let pulse = beat(redis).await.map_err(|error| error.to_string())?;
    warn_of_eviction(redis).await;
    Ok((news, pulse))
}

/// Returns why the registry was lost. Holds the registry only while there is something to do, so that it can be dropped.
async fn stay(link: &Link, redis: Weak<Redis>, mut news: PubSubStream, joined: Pulse) -> String {
    let mut seq = joined.seq;
    let ends = || "the gateway ends".to_owned();
    let Some(every) = redis.upgrade().map(|redis| redis.config.lease / BEATS) else { return ends() };
    let mut next = Instant::now() + every;
    loop {
        let message = tokio::select! {
            () = link.lost.notified() => return "a command failed".into(),
            message = news.next() => match message {
                Some(message) => Some(message),
                None => return "the server has closed the connection".into(),
            },
            () = sleep_until(next) => None,
        };
        let Some(redis) = redis.upgrade() else { return ends() };
        if let Some(message) = message {
            redis.take(message, &mut seq).await;
            continue;
        }
        next = Instant::now() + every;
        let caught_up = async {
            let pulse = beat(&redis).await?;
            if pulse.word != joined.word || pulse.seq < joined.seq {
                // Joined again, everything is looked at anew.
                return Err(RegistryError::Unavailable("it has lost its data".into()));
            }
            // What was told on the way is still to be read: only what is missing then is.
            drain(&redis, &mut news, &mut seq).await;
            if pulse.seq > seq { redis.catch_up(&mut seq).await } else { Ok(()) }
        };
        if let Err(error) = caught_up.await {
            return error.to_string();
        }
    }
}

/// Takes what has already arrived.
async fn drain(redis: &Redis, news: &mut PubSubStream, seq: &mut u64) {
    while let Ok(Some(message)) = timeout(Duration::ZERO, news.next()).await {
        redis.take(message, seq).await;
    }
}

async fn beat(redis: &Redis) -> Result<Pulse, RegistryError> {
    let lease = redis.config.lease.as_millis().to_string();
    let word = format!("{:016x}", fastrand::u64(..));
    let may_lead = if redis.resigned.load(Ordering::SeqCst) { "0" } else { "1" };
    let args = [redis.me.clone(), lease, may_lead.into(), word];
    let answer = redis.link.script(&BEAT, &[redis.keys.fleet()], &args).await;
    let (now, seq, leads, word): (u64, u64, u8, String) = answer?;
    redis.link.believe_time(now);
    if redis.leads.swap(leads == 1, Ordering::SeqCst) != (leads == 1) {
        log::info!("{}", if leads == 1 { "leads the fleet" } else { "does not lead the fleet any more" });
    }
    Ok(Pulse { seq, word })
}

/// Says that this gateway leads no more, and, if it goes altogether, that it ends.
pub async fn leave(redis: &Redis, altogether: bool) {
    if altogether {
        redis.left.store(true, Ordering::SeqCst);
    }
    redis.leads.store(false, Ordering::SeqCst);
    if redis.sees() {
        let args = [redis.me.clone(), u8::from(altogether).to_string()];
        if let Err(error) = redis.link.script::<()>(&LEAVE, &[redis.keys.fleet()], &args).await {
            log::warn!("the fleet could not be told that this gateway ends: {error}");
        }
    }
    if altogether {
        redis.link.lost.notify_one();
        if let Err(error) = redis.copy.write() {
            log::warn!("what is known of apps could not be written to state_dir: {error}");
        }
    }
}

/// A server that throws records away when its memory is full would forget what must come back.
async fn warn_of_eviction(redis: &Redis) {
    // A managed server may not tell.
    let Ok(info) = redis.link.command::<String>(cmd("INFO").arg("memory")).await else { return };
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    if let (Some(policy), Some(limit)) = (field("maxmemory_policy"), field("maxmemory"))
        && policy != "noeviction"
        && limit != "0"
    {
        log::warn!(
            "the registry may throw records away when it is full (maxmemory-policy {policy}): set it to noeviction"
        );
    }
}

/// Writes what is known to `state_dir`, now and then.
pub async fn write_copies(redis: Weak<Redis>) {
    let mut pause = WRITE_EVERY;
    loop {
        sleep(pause).await;
        let Some(redis) = redis.upgrade() else { return };
        let began = Instant::now();
        match tokio::task::spawn_blocking(move || redis.copy.write()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("what is known of apps could not be written to state_dir: {error}"),
            Err(error) => log::error!("what is known of apps could not be written to state_dir: {error}"),
        }
        // A hundredth of the time at most, however many apps there are.
        pause = WRITE_EVERY.max(began.elapsed() * 100);
    }
}

impl Redis {
    pub(super) fn hear(&self, news: News) {
        // Nobody listens when the gateway ends.
        let _ = self.news.send(news);
    }

    async fn take(&self, message: Msg, seq: &mut u64) {
        let Some(message) = message.get_payload::<String>().ok().and_then(|text| Message::read(&text)) else {
            return;
        };
        match message {
            Message::Changed(number, app, text) => {
                self.follow_number(number, seq).await;
                match wire::read(&app, &text) {
                    Ok(Some(record)) => {
                        self.copy.keep(&app, &record);
                        self.hear(News::Changed(app, record));
                    }
                    Ok(None) => {}
                    Err(error) => log::warn!("{app}: {error}"),
                }
            }
            Message::Forgotten(number, app) => {
                self.follow_number(number, seq).await;
                self.copy.forget(&app);
                self.hear(News::Forgotten(app));
            }
            Message::Agreed => self.heard.notify_waiters(),
            Message::Wanted(app) => self.hear(News::Wanted(app)),
            Message::Listed(entry) => self.hear(News::Listed(entry)),
            Message::Outdated(entry) => self.hear(News::Outdated(entry)),
        }
    }

    /// A number that is left out is a message that was lost.
    async fn follow_number(&self, number: u64, seq: &mut u64) {
        if number > seq.saturating_add(1)
            && let Err(error) = self.catch_up(seq).await
        {
            log::debug!("what was missed cannot be read now: {error}");
        }
        *seq = number.max(*seq);
    }

    /// Reads every record that has changed since `seq`.
    async fn catch_up(&self, seq: &mut u64) -> Result<(), RegistryError> {
        let mut range = cmd("ZRANGEBYSCORE");
        range.arg(self.keys.changed()).arg(format!("({seq}")).arg("+inf").arg("WITHSCORES");
        let changed: Vec<(String, u64)> = self.link.command(&range).await?;
        let apps: Vec<AppId> = changed.iter().filter_map(|(app, _)| app.parse().ok()).collect();
        for (app, record) in apps.iter().zip(self.read_all(&apps).await?) {
            if let Some(record) = record {
                self.hear(News::Changed(app.clone(), record));
            }
        }
        *seq = changed.iter().map(|(_, number)| *number).fold(*seq, u64::max);
        Ok(())
    }
}
