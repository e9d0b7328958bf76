//! `Latest`: one answer for all who ask at the same time.

use std::sync::Arc;

use tokio::{sync::Mutex, time::Instant};

use super::api::Priority;

/// The latest answer to a question that costs a call, and when it was asked: one for each priority, since whoever waits for
/// a start must not stand behind a list that waits for its turn.
pub struct Latest<T>([Mutex<Answer<T>>; Priority::ALL.len()]);

/// When it was asked, and what was answered.
type Answer<T> = Option<(Instant, Arc<T>)>;

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Priority::ALL.map(|_| Mutex::new(None)))
    }
}

impl<T> Latest<T> {
    /// An answer to a question that was asked at `since` or later, with this `priority`: `ask` is only called if there is
    /// none, and by one caller at a time, so those who come meanwhile share the next answer.
    pub async fn since<E>(
        &self,
        since: Instant,
        priority: Priority,
        ask: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut latest = self.0[priority as usize].lock().await;
        if let Some((asked, answer)) = &*latest
            && *asked >= since
        {
            return Ok(answer.clone());
        }
        let asked = Instant::now();
        let answer = Arc::new(ask().await?);
        *latest = Some((asked, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_at_once_share_one_answer_and_nobody_gets_an_old_one() {
        let (latest, asked) = (Latest::default(), AtomicU32::new(0));
        let ask = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, ()>(asked.fetch_add(1, Ordering::SeqCst))
        };
        let now = Instant::now();
        let (a, b, c) = tokio::join!(
            latest.since(now, Priority::List, ask),
            latest.since(now, Priority::List, ask),
            latest.since(now, Priority::List, ask)
        );
        assert_eq!((*a.unwrap(), *b.unwrap(), *c.unwrap()), (0, 0, 0));
        // While the second question is on its way, a third comes: its answer must not be older than itself.
        let (d, e) = tokio::join!(latest.since(Instant::now(), Priority::List, ask), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            latest.since(Instant::now(), Priority::List, ask).await
        });
        assert_eq!((*d.unwrap(), *e.unwrap()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_of_another_priority_does_not_wait() {
        let latest = Latest::default();
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, ()>(1)
        };
        let now = Instant::now();
        let list = latest.since(now, Priority::List, slow);
        let wake = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let answer = latest.since(now, Priority::Wake, async || Ok::<_, ()>(2)).await;
            (answer, now.elapsed())
        };
        let (list, (wake, waited)) = tokio::join!(list, wake);
        assert_eq!((*list.unwrap(), *wake.unwrap(), waited), (1, 2, Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_question_that_failed_is_asked_again() {
        let latest = Latest::<u32>::default();
        let now = Instant::now();
        assert_eq!(latest.since(now, Priority::List, async || Err("down")).await.unwrap_err(), "down");
        assert_eq!(*latest.since(now, Priority::List, async || Ok::<_, &str>(7)).await.unwrap(), 7);
    }
}
