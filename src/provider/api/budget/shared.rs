//! `Shared`: the bucket behind a [`Budget`](super::Budget), where several gateways share an account.
//!
//! One question is under way at a time, asked for whoever is the next here, in a task of its own: that a caller goes away,
//! or that nobody polls it, neither loses the answer nor holds up the others. The token is then for whoever is the next by
//! that time. Refused, those of that priority wait as long as they were told; somebody who matters more may ask meanwhile.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::timeout};

use super::{
    super::pool::{Pool, Taken},
    Asking, Grant, Limits, Priority, Queue, TELL_EVERY,
    bucket::millis,
};

/// The longest that an answer is waited for.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// Nobody asks for so long after there was no answer: a pool that hangs would hold up every call.
const ALONE_FOR: Duration = Duration::from_secs(2);

/// A pool, and what the account is called there.
#[derive(Clone)]
pub struct Shared {
    pool: Arc<dyn Pool>,
    account: Arc<str>,
}

impl Shared {
    pub fn new(pool: Arc<dyn Pool>, account: &str) -> Self {
        Self { pool, account: account.into() }
    }

    /// Asks, and tells the queue the answer. The queue must not be locked.
    pub fn ask(&self, queue: Arc<Queue>, limits: Limits, priority: Priority) {
        let (shared, question) = (self.clone(), Question { queue, priority, answer: Taken::Unknown });
        spawn(async move {
            let asked = shared.pool.take(&shared.account, limits, priority);
            question.end(timeout(ANSWERS_WITHIN, asked).await.unwrap_or(Taken::Unknown));
        });
    }

    /// A token that was taken is not used.
    pub fn give_back(&self) {
        let shared = self.clone();
        spawn(async move {
            let _ = timeout(ANSWERS_WITHIN, shared.pool.give_back(&shared.account)).await;
        });
    }

    /// The provider wants no calls for so long.
    pub fn pause(&self, pause: Duration) {
        let shared = self.clone();
        spawn(async move {
            let _ = timeout(ANSWERS_WITHIN, shared.pool.pause(&shared.account, pause)).await;
        });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({})", self.account)
    }
}

/// Outside of a runtime there is nobody to do it, as while one shuts down.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}

/// A question that is under way. However it ends, the queue hears of it: else nobody would ever go again.
struct Question {
    queue: Arc<Queue>,
    priority: Priority,
    answer: Taken,
}

impl Question {
    fn end(mut self, answer: Taken) {
        self.answer = answer;
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.queue.answered(self.priority, self.answer);
    }
}

impl Queue {
    fn answered(self: &Arc<Self>, priority: Priority, answer: Taken) {
        let now = self.now();
        let mut unused = false;
        {
            let mut state = self.lock();
            state.asking = Asking::From(now);
            match answer {
                Taken::Yes => match state.bucket.settle_one(priority, now) {
                    Some((priority, waiter)) => state.grant(Grant { priority, waiter, shared: true }),
                    None => unused = true,
                },
                Taken::In { wait, sharers } => {
                    // At least a millisecond, or there would be no end of asking.
                    let wait = millis(wait).max(1);
                    let news = wait > state.bucket.pace().saturating_add(millis(TELL_EVERY));
                    state.bucket.hold(priority, now.saturating_add(wait), sharers);
                    if news {
                        state.everybody_waits_anew();
                    }
                }
                Taken::Unknown => {
                    state.bucket.release();
                    state.asking = Asking::From(now.saturating_add(millis(ALONE_FOR)));
                }
            }
        }
        if let (true, Some(shared)) = (unused, &self.shared) {
            shared.give_back();
        }
        self.settle(now);
        self.lock().ring_next(now);
    }
}

#[cfg(test)]
mod tests;
