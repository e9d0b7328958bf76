//! `Account`: one credential at one provider, with one [`Budget`], shared by all regions and entries that use it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ring::digest::{SHA256, digest};
use tokio::{sync::watch, time::Instant};

use super::{
    ApiError, Calls, Priority,
    budget::{Budget, Limits},
    pool::Pool,
};

/// No pause is longer, whatever the provider asks for: one odd header must not silence an account for days.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Without `Retry-After`, pauses double up to this.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// Whether an account can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// As far as we know.
    Fine,
    /// The provider refused the credential, with the reason for operators. No call is made until [`Account::forgive`].
    Misconfigured(String),
}

/// One credential at one provider. The credential itself is not in here.
#[derive(Debug)]
pub struct Account {
    kind: String,
    budget: Budget,
    state: watch::Sender<AccountState>,
    calls: AtomicU64,
    answers: Arc<Calls>,
    throttle: Mutex<Throttle>,
}

#[derive(Debug)]
struct Throttle {
    /// Pauses in a row without a call that went well in between.
    pauses: u32,
    until: Instant,
}

impl Account {
    /// An account of a provider of this kind that shares with nobody (see [`Accounts::open`]).
    pub fn new(kind: &str, limits: Limits) -> Self {
        Self::with(kind, Budget::new(limits), Arc::default())
    }

    fn with(kind: &str, budget: Budget, answers: Arc<Calls>) -> Self {
        Self {
            kind: kind.to_owned(),
            budget,
            state: watch::Sender::new(AccountState::Fine),
            calls: AtomicU64::new(0),
            answers,
            throttle: Mutex::new(Throttle { pauses: 0, until: Instant::now() }),
        }
    }

    /// The kind of provider, as it is named in the configuration.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// How often it may be called.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether it can be used.
    pub fn state(&self) -> AccountState {
        self.state.borrow().clone()
    }

    /// Calls sent to the provider so far, every try counted.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Makes calls possible again: the configuration was read anew, or somebody has seen to it at the provider.
    pub fn forgive(&self) {
        self.state.send_replace(AccountState::Fine);
    }

    /// Fails all calls from now on, and those that wait in the queue.
    pub(super) fn refuse(&self, reason: &str) -> ApiError {
        let next = AccountState::Misconfigured(reason.to_owned());
        let news = self.state.send_if_modified(|state| {
            let news = *state == AccountState::Fine;
            if news {
                *state = next;
            }
            news
        });
        if news {
            log::error!("{}: no more calls with this credential: {reason}", self.kind);
        }
        ApiError::Misconfigured(reason.to_owned())
    }

    /// An error as soon as the account is misconfigured, else never.
    pub(super) async fn refused(&self) -> ApiError {
        let mut states = self.state.subscribe();
        // The sender is ours: it is not gone while we wait.
        if let Ok(state) = states.wait_for(|state| *state != AccountState::Fine).await
            && let AccountState::Misconfigured(reason) = &*state
        {
            return ApiError::Misconfigured(reason.clone());
        }
        std::future::pending().await
    }

    pub(super) fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has come to this status, 0 if it has come to no answer.
    pub(super) fn answered(&self, priority: Priority, status: u16) {
        self.answers.count(&self.kind, priority, status);
    }

    /// The provider wants a pause: of `asked`, else of `first`, doubling. Of many calls that were under way together only
    /// the first counts. Returns how long the pause still is.
    pub(super) fn throttled(&self, sent: Instant, asked: Option<Duration>, first: Duration) -> Duration {
        let now = Instant::now();
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if sent >= throttle.until {
            let factor = 2u32.saturating_pow(throttle.pauses);
            throttle.pauses = throttle.pauses.saturating_add(1);
            let wait = asked
                .unwrap_or_else(|| first.saturating_mul(factor).min(LONGEST_BACK_OFF).mul_f64(jitter(0.2)));
            throttle.until = now + wait.min(LONGEST_PAUSE);
            log::warn!("{}: the provider wants fewer calls: none for {wait:.1?}", self.kind);
        } else if let Some(asked) = asked {
            throttle.until = throttle.until.max(now + asked.min(LONGEST_PAUSE));
        }
        self.budget.pause_until(throttle.until);
        throttle.until.saturating_duration_since(now)
    }

    /// A call that was sent at `sent` was not throttled.
    pub(super) fn not_throttled(&self, sent: Instant) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if sent >= throttle.until {
            throttle.pauses = 0;
        }
    }
}

/// Between 1 and `1 + most`.
pub(super) fn jitter(most: f64) -> f64 {
    1.0 + fastrand::f64() * most
}

/// All accounts in use. Two entries with the same credential share one account, and so its budget.
#[derive(Default)]
pub struct Accounts {
    used: Mutex<HashMap<[u8; 32], Weak<Account>>>,
    pool: Option<Arc<dyn Pool>>,
    answers: Arc<Calls>,
}

impl Accounts {
    /// All calls are counted here.
    #[must_use]
    pub fn counting(self, answers: Arc<Calls>) -> Self {
        Self { answers, ..self }
    }

    /// No accounts yet. Other gateways use the same ones: how often each may be called is a matter of this pool.
    pub fn sharing(pool: Arc<dyn Pool>) -> Self {
        Self { pool: Some(pool), ..Self::default() }
    }

    /// The account of this secret at this kind of provider. The secret is not kept, only its hash. The latest limits stand.
    pub fn open(&self, kind: &str, secret_key: &str, limits: Limits) -> Arc<Account> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, format!("{kind}\0{secret_key}").as_bytes()).as_ref());
        let mut accounts = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, account| account.strong_count() > 0);
        if let Some(account) = accounts.get(&key).and_then(Weak::upgrade) {
            account.budget.limit(limits);
            return account;
        }
        let budget = match &self.pool {
            Some(pool) => Budget::sharing(limits, pool.clone(), &hex(&key)),
            None => Budget::new(limits),
        };
        let account = Arc::new(Account::with(kind, budget, self.answers.clone()));
        accounts.insert(key, Arc::downgrade(&account));
        account
    }

    /// Forgives every account.
    pub fn forgive(&self) {
        let accounts = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.values().filter_map(Weak::upgrade).for_each(|account| account.forgive());
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounts({:?}, shared: {})", self.used, self.pool.is_some())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_minute: 60, burst: 5, reserve_for_wakes: 1 };

    #[test]
    fn entries_with_the_same_credential_share_one_account_while_it_is_used() {
        let accounts = Accounts::default();
        let one = accounts.open("scalingo", "tk-us-secret", LIMITS);
        one.refuse("expired");
        assert!(Arc::ptr_eq(&one, &accounts.open("scalingo", "tk-us-secret", LIMITS)));
        assert!(!Arc::ptr_eq(&one, &accounts.open("heroku", "tk-us-secret", LIMITS)));
        assert!(!Arc::ptr_eq(&one, &accounts.open("scalingo", "other", LIMITS)));
        assert!(!format!("{accounts:?} {one:?}").contains("tk-us-secret"));
        accounts.forgive();
        assert_eq!(one.state(), AccountState::Fine);
        drop(one);
        let two = accounts.open("scalingo", "tk-us-secret", LIMITS);
        assert_eq!((two.calls(), accounts.used.lock().unwrap().len()), (0, 1));
    }

    #[test]
    fn an_account_that_gateways_share_is_known_by_a_hash_of_its_secret() {
        let accounts = Accounts::sharing(Arc::new(Nothing));
        let account = accounts.open("scalingo", "tk-us-secret", LIMITS);
        let same = Accounts::sharing(Arc::new(Nothing)).open("scalingo", "tk-us-secret", LIMITS);
        let name = format!("{:?}", account.budget());
        let name = name.split_once("Shared(").unwrap().1.split_once(')').unwrap().0;
        assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert!(format!("{:?}", same.budget()).contains(name));
        let other = accounts.open("heroku", "tk-us-secret", LIMITS);
        assert!(!format!("{:?}", other.budget()).contains(name));
        assert!(!format!("{accounts:?} {account:?}").contains("tk-us-secret"));
    }

    /// A pool that knows nothing.
    struct Nothing;

    #[async_trait::async_trait]
    impl Pool for Nothing {
        async fn take(&self, _: &str, _: Limits, _: super::super::Priority) -> super::super::Taken {
            super::super::Taken::Unknown
        }

        async fn give_back(&self, _: &str) {}

        async fn pause(&self, _: &str, _: Duration) {}
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_but_calls_under_way_together_count_as_one() {
        let account = Account::new("clever", LIMITS);
        let first = Duration::from_secs(10);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let sent = Instant::now();
            let waits: Vec<_> = (0..20).map(|_| account.throttled(sent, None, first)).collect();
            let expected = Duration::from_secs(expected);
            assert!(waits[0] >= expected && waits[0] <= expected.mul_f64(1.2), "{waits:?}");
            assert!(waits.iter().all(|wait| *wait == waits[0]), "{waits:?}");
            assert!(account.budget().estimate(super::super::Priority::Wake) >= expected);
            tokio::time::advance(waits[0]).await;
        }
        account.not_throttled(Instant::now());
        assert!(account.throttled(Instant::now(), None, first) < first * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_provider_may_ask_for_a_pause_but_not_for_years() {
        let account = Account::new("heroku", LIMITS);
        let ask = |secs| account.throttled(Instant::now(), Some(Duration::from_secs(secs)), LONGEST_BACK_OFF);
        assert_eq!(ask(7).as_secs(), 7);
        assert_eq!(ask(u64::MAX), LONGEST_PAUSE, "of two at once the longer stands");
        tokio::time::advance(LONGEST_PAUSE).await;
        assert_eq!(ask(u64::MAX), LONGEST_PAUSE);
    }
}
