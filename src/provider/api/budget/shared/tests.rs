use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::*;
use crate::provider::api::Budget;

/// What a question comes to, and how long after it was asked.
type Answers = Box<dyn FnMut(Priority) -> (Duration, Taken) + Send>;

/// A pool that answers as a test wants it to.
struct Fake {
    answers: Mutex<Answers>,
    asked: AtomicU32,
    back: AtomicU32,
    pauses: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Pool for Fake {
    async fn take(&self, _: &str, _: Limits, priority: Priority) -> Taken {
        self.asked.fetch_add(1, SeqCst);
        let (delay, taken) = (self.answers.lock().unwrap())(priority);
        sleep(delay).await;
        taken
    }

    async fn give_back(&self, _: &str) {
        self.back.fetch_add(1, SeqCst);
    }

    async fn pause(&self, _: &str, pause: Duration) {
        self.pauses.lock().unwrap().push(pause);
    }
}

fn budget(
    limits: Limits,
    answers: impl FnMut(Priority) -> (Duration, Taken) + Send + 'static,
) -> (Arc<Budget>, Arc<Fake>) {
    let (asked, back, pauses) = (AtomicU32::new(0), AtomicU32::new(0), Mutex::default());
    let fake = Arc::new(Fake { answers: Mutex::new(Box::new(answers)), asked, back, pauses });
    (Arc::new(Budget::sharing(limits, fake.clone(), "abc")), fake)
}

/// A pool with one token every ten seconds, the first after the first ten.
fn every_ten_seconds(sharers: u32) -> impl FnMut(Priority) -> (Duration, Taken) + Send + 'static {
    let mut next = Instant::now() + secs(10);
    move |_| {
        let wait = next.saturating_duration_since(Instant::now());
        if wait > Duration::ZERO {
            return (Duration::ZERO, Taken::In { wait, sharers });
        }
        next = Instant::now() + secs(10);
        (Duration::ZERO, Taken::Yes)
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const PLENTY: Limits = Limits { per_minute: 600, burst: 100, reserve_for_wakes: 0 };

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_other_gateways_goes_in_this_ones_order() {
    let (budget, _) = budget(PLENTY, every_ten_seconds(1));
    let start = Instant::now();
    let callers = [(0, Priority::List), (1, Priority::Stop), (2, Priority::Wake), (12, Priority::Wake)];
    let callers = callers.map(|(after, priority)| {
        let budget = budget.clone();
        tokio::spawn(async move {
            sleep(secs(after)).await;
            budget.acquire(priority, None, None).await;
            (start.elapsed().as_secs(), priority)
        })
    });
    let mut went = Vec::new();
    for caller in callers {
        went.push(caller.await.unwrap());
    }
    went.sort();
    use Priority::{List, Stop, Wake};
    assert_eq!(went, [(10, Wake), (20, Wake), (30, Stop), (40, List)]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_comes_while_a_list_asks_goes_first() {
    let (budget, fake) = budget(PLENTY, |_| (ms(100), Taken::Yes));
    let start = Instant::now();
    let list = async {
        budget.acquire(Priority::List, None, None).await;
        start.elapsed()
    };
    let wake = async {
        sleep(ms(50)).await;
        budget.acquire(Priority::Wake, None, None).await;
        start.elapsed()
    };
    let (list, wake) = tokio::join!(list, wake);
    assert!(wake < ms(150) && list >= ms(200), "{wake:?} {list:?}");
    assert_eq!((fake.asked.load(SeqCst), fake.back.load(SeqCst)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_go_with_a_token_of_the_wakes() {
    let (budget, fake) = budget(PLENTY, |_| (ms(100), Taken::Yes));
    let start = Instant::now();
    let wake = tokio::time::timeout(ms(50), budget.acquire(Priority::Wake, None, None));
    let list = async {
        sleep(ms(20)).await;
        budget.acquire(Priority::List, None, None).await;
        start.elapsed()
    };
    let (wake, list) = tokio::join!(wake, list);
    assert!(wake.is_err() && list >= ms(200), "it asked for itself: {list:?}");
    assert_eq!((fake.asked.load(SeqCst), fake.back.load(SeqCst)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_of_other_gateways_too() {
    let (budget, _) = budget(PLENTY, |_| (ms(3), Taken::In { wait: secs(30), sharers: 200 }));
    let told = [0; 3].map(|_| Mutex::new(Vec::new()));
    let callers = told.each_ref().map(|told| {
        let (budget, tell) = (&budget, move |wait: Duration| told.lock().unwrap().push(wait.as_secs()));
        async move { tokio::time::timeout(ms(900), budget.acquire(Priority::Wake, None, Some(&tell))).await }
    });
    let [one, two, three] = callers;
    let went = tokio::join!(one, two, three);
    assert!(went.0.is_err() && went.1.is_err() && went.2.is_err());
    let told = told.each_ref().map(|told| told.lock().unwrap().clone());
    // Two hundred wait for ten tokens a second.
    assert_eq!(told, [[30], [50], [70]]);
}

#[tokio::test(start_paused = true)]
async fn an_estimate_counts_those_ahead_and_the_other_gateways() {
    let (budget, _) = budget(PLENTY, |_| (ms(3), Taken::In { wait: secs(30), sharers: 200 }));
    tokio::time::timeout(ms(900), budget.acquire(Priority::Wake, None, None)).await.unwrap_err();
    assert_eq!(budget.estimate(Priority::Wake).as_secs(), 29);
    assert_eq!(budget.estimate(Priority::List), Duration::ZERO, "nobody asked for one");
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_makes_room_for_the_next() {
    let (budget, _) = budget(PLENTY, every_ten_seconds(1));
    let start = Instant::now();
    let mut impatient: Vec<_> =
        (0..30).map(|_| Box::pin(budget.acquire(Priority::Wake, None, None))).collect();
    for waiting in &mut impatient {
        assert!(tokio::time::timeout(ms(1), waiting).await.is_err());
    }
    let patient = budget.acquire(Priority::Wake, None, None);
    let give_up = async {
        sleep(secs(1)).await;
        drop(impatient);
    };
    tokio::join!(patient, give_up);
    assert!(start.elapsed() < secs(11), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_granted_to_nobody_is_given_back() {
    let (budget, fake) = budget(PLENTY, |_| (ms(10), Taken::Yes));
    let mut unpolled = Box::pin(budget.acquire(Priority::Wake, None, None));
    assert!(tokio::time::timeout(ms(5), &mut unpolled).await.is_err());
    budget.acquire(Priority::List, None, None).await;
    assert_eq!(fake.back.load(SeqCst), 0);
    drop(unpolled);
    tokio::task::yield_now().await;
    assert_eq!(fake.back.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_hangs_holds_everybody_up_once_and_not_for_long() {
    let (budget, fake) = budget(PLENTY, |_| (secs(1000), Taken::Yes));
    let start = Instant::now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let budget = budget.clone();
            tokio::spawn(async move { budget.acquire(Priority::List, None, None).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    budget.acquire(Priority::Wake, None, None).await;
    assert!(start.elapsed() < ms(600), "{:?}", start.elapsed());
    assert_eq!(fake.asked.load(SeqCst), 1);
    sleep(secs(3)).await;
    budget.acquire(Priority::Wake, None, None).await;
    assert_eq!(fake.asked.load(SeqCst), 2, "asked again after a while");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_held_goes_when_the_pool_can_no_longer_be_asked() {
    let mut answers = vec![Taken::Unknown, Taken::In { wait: secs(900), sharers: 2 }];
    let (budget, _) = budget(PLENTY, move |_| (ms(1), answers.pop().unwrap_or(Taken::Unknown)));
    let start = Instant::now();
    let list = budget.acquire(Priority::List, None, None);
    let wake = async {
        sleep(secs(5)).await;
        budget.acquire(Priority::Wake, None, None).await;
    };
    tokio::join!(list, wake);
    assert!(start.elapsed() < secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_altogether_is_one_without_an_answer() {
    let (budget, _) = budget(PLENTY, |_| panic!("a fault in the pool"));
    tokio::time::timeout(secs(1), budget.acquire(Priority::Wake, None, None)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_gateways_hear_of_a_pause_once() {
    let (budget, fake) = budget(PLENTY, |_| (ms(1), Taken::Yes));
    let now = Instant::now();
    for pause in [30, 30, 20, 40] {
        budget.pause_until(now + secs(pause));
    }
    tokio::task::yield_now().await;
    assert_eq!(*fake.pauses.lock().unwrap(), [ms(30_001), ms(40_001)]);
    budget.acquire(Priority::Wake, None, None).await;
    assert!(now.elapsed() > secs(40));
}
