use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;

fn limits(per_minute: u32, burst: u32, reserve_for_wakes: u32) -> Limits {
    Limits { per_minute, burst, reserve_for_wakes }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// When each of `callers` went and what it was, in the order in which they went, by the pure half alone.
fn play(bucket: &mut Bucket, callers: &[(u64, Priority)], until: u64) -> Vec<(u64, Priority)> {
    let mut callers = callers.to_vec();
    callers.sort_by_key(|(at, _)| *at);
    let mut went = Vec::new();
    let mut now = 0;
    loop {
        while callers.first().is_some_and(|(at, _)| *at <= now) {
            bucket.enqueue(callers.remove(0).1, now);
        }
        went.extend(bucket.settle(now).into_iter().map(|(priority, _)| (now, priority)));
        let next = bucket.next(now).map(|(at, _)| at);
        match next.into_iter().chain(callers.first().map(|(at, _)| *at)).min() {
            Some(at) if at <= until => now = at,
            _ => return went,
        }
    }
}

fn most_in_a_minute(went: &[(u64, Priority)]) -> usize {
    let within = |from: u64| went.iter().filter(|(at, _)| (from..from + MINUTE).contains(at)).count();
    went.iter().map(|(from, _)| within(*from)).max().unwrap_or(0)
}

fn any_priority() -> impl Strategy<Value = Priority> {
    (0..4usize).prop_map(|index| Priority::ALL[index])
}

proptest! {
    #[test]
    fn never_more_than_the_burst_and_a_minutes_worth_in_any_minute(
        per_minute in 1..120u32,
        burst in 0..30u32,
        reserve in 0..40u32,
        callers in prop::collection::vec((0..3 * MINUTE, any_priority()), 1..200),
    ) {
        let mut bucket = Bucket::new(limits(per_minute, burst, reserve));
        let went = play(&mut bucket, &callers, u64::MAX);
        prop_assert_eq!(went.len(), callers.len(), "everybody goes in the end");
        prop_assert!(most_in_a_minute(&went) <= (burst.max(1) + per_minute) as usize);
    }

    #[test]
    fn an_estimate_holds_if_nobody_comes_after(
        reserve in 0..10u32,
        callers in prop::collection::vec(any_priority(), 0..60),
        mine in any_priority(),
    ) {
        let mut bucket = Bucket::new(limits(40, 10, reserve));
        for priority in callers {
            bucket.enqueue(priority, 0);
        }
        bucket.settle(0);
        let estimate = millis(bucket.estimate(mine, 0));
        let id = bucket.enqueue(mine, 0).id;
        let mut now = 0;
        while !bucket.settle(now).iter().any(|(_, waiter)| waiter.id == id) {
            now = bucket.next(now).unwrap().0;
        }
        prop_assert_eq!(now, estimate);
    }
}

#[test]
fn wakes_go_before_lists_that_came_earlier() {
    let mut bucket = Bucket::new(limits(60, 1, 0));
    use Priority::{List, Readiness, Stop, Wake};
    let callers = [(0, List), (1, List), (2, Stop), (3, Readiness), (4, Wake), (5, Wake)];
    let went: Vec<_> =
        play(&mut bucket, &callers, MINUTE).into_iter().map(|(_, priority)| priority).collect();
    assert_eq!(went, [List, Wake, Wake, Readiness, Stop, List], "the first found nobody there");
}

#[test]
fn a_list_has_its_turn_though_wakes_never_cease() {
    for reserve in [0, 5] {
        let mut bucket = Bucket::new(limits(60, 10, reserve));
        // Two wakes each second, where one is allowed.
        let mut callers: Vec<_> = (0..2000).map(|n| (n * 500, Priority::Wake)).collect();
        callers.extend([(20_000, Priority::List), (20_000, Priority::Stop), (20_000, Priority::Readiness)]);
        let went = play(&mut bucket, &callers, 1_000_000);
        for priority in [Priority::List, Priority::Stop, Priority::Readiness] {
            let at = went.iter().find(|(_, who)| *who == priority).unwrap().0;
            let due = 20_000 + millis(priority.slack());
            // Wakes that came before it was due are still ahead of it: up to as many again as went.
            assert!(at <= 2 * due + 20_000, "{priority:?} with a reserve of {reserve} went at {at}");
        }
    }
}

#[test]
fn only_wakes_take_the_reserve_and_nobody_stands_in_their_way() {
    let mut bucket = Bucket::new(limits(6, 5, 3));
    for _ in 0..9 {
        bucket.enqueue(Priority::List, 0);
    }
    assert_eq!(bucket.settle(0).len(), 2, "three are spared");
    assert!(bucket.estimate(Priority::Stop, 0) >= secs(10));
    assert_eq!(bucket.estimate(Priority::Wake, 0), Duration::ZERO);
    // Long overdue, the lists still do not stand in the way.
    for _ in 0..3 {
        bucket.enqueue(Priority::Wake, 1);
    }
    let went = bucket.settle(1);
    assert!(went.len() == 3 && went.iter().all(|(priority, _)| *priority == Priority::Wake));
    assert_eq!(bucket.next(1).unwrap().1, Priority::List, "when the reserve is full again");
}

#[test]
fn after_a_pause_wakes_go_first_and_one_at_a_time() {
    for reserve in [0, 2] {
        let mut bucket = Bucket::new(limits(60, 10, reserve));
        for _ in 0..3 {
            bucket.enqueue(Priority::List, 0);
        }
        // The lists are overdue by far when the wakes come.
        bucket.pause(400_000, 0);
        for _ in 0..3 {
            bucket.enqueue(Priority::Wake, 399_000);
        }
        assert!(bucket.settle(400_000).is_empty(), "the bucket is empty");
        let went = play(&mut bucket, &[], u64::MAX);
        let each_second = |from, who| (from..from + 3).map(move |n| (400_000 + n * 1000, who));
        // Before the lists, the reserve fills up.
        let lists = 4 + u64::from(reserve);
        let expected = each_second(1, Priority::Wake).chain(each_second(lists, Priority::List));
        assert_eq!(went, expected.collect::<Vec<_>>());
    }
}

#[test]
fn the_longer_of_two_pauses_stands() {
    let mut bucket = Bucket::new(limits(60, 10, 2));
    bucket.pause(90_000, 0);
    bucket.pause(30_000, 0);
    assert_eq!(bucket.estimate(Priority::Wake, 0), secs(91));
}

#[test]
fn only_wakes_go_while_the_provider_has_little_left_and_that_belief_wears_off() {
    let mut bucket = Bucket::new(limits(60, 10, 0));
    bucket.believe(490, 500, 0);
    assert_eq!(bucket.estimate(Priority::Wake, 0), Duration::ZERO);
    assert_eq!(bucket.estimate(Priority::List, 0), secs(10), "ten are believed to come back in ten seconds");
    assert_eq!(bucket.estimate(Priority::List, 10_000), Duration::ZERO);
    bucket.believe(500, 500, 10_000);
    assert_eq!(bucket.estimate(Priority::List, 10_000), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_who_can_go_at_once_is_told_to_wait() {
    let budget = Budget::new(limits(60, 2, 1));
    budget.acquire(Priority::List, None, Some(&|_| panic!("told to wait"))).await;
    budget.acquire(Priority::Wake, None, Some(&|_| panic!("told to wait"))).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_how_long_and_again_when_that_changes() {
    let budget = Budget::new(limits(60, 1, 0));
    let start = Instant::now();
    budget.pause_until(start + secs(59));
    let told = Mutex::new(Vec::new());
    let tell = |wait: Duration| told.lock().unwrap().push((start.elapsed().as_secs(), wait.as_secs()));
    let waits = budget.acquire(Priority::Wake, None, Some(&tell));
    let worse = async {
        tokio::time::sleep(secs(3)).await;
        budget.pause_until(start + secs(179));
    };
    tokio::join!(waits, worse);
    let told = told.into_inner().unwrap();
    assert_eq!(told[0], (0, 60));
    assert!(told[1].0 <= 4 && told[1].1 > 170, "{told:?}");
    assert!(told.len() < 25 && told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    assert_eq!(start.elapsed().as_secs(), 180);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_made_while_paused() {
    let budget = Arc::new(Budget::new(limits(600, 10, 0)));
    let start = Instant::now();
    let until = start + secs(30);
    budget.pause_until(until);
    let callers = Priority::ALL.map(|priority| {
        let budget = budget.clone();
        tokio::spawn(async move {
            budget.acquire(priority, None, None).await;
            (Instant::now(), priority)
        })
    });
    let mut went = Vec::new();
    for caller in callers {
        went.push(caller.await.unwrap());
    }
    assert!(went.iter().all(|(at, _)| *at > until), "{went:?}");
    assert!(went.is_sorted(), "wakes first");
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_even_those_who_were_let_go_and_did_not_notice_yet() {
    let budget = Budget::new(limits(60, 1, 0));
    budget.acquire(Priority::Wake, None, None).await;
    let mut unpolled = Box::pin(budget.acquire(Priority::Wake, None, None));
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut unpolled).await.is_err());
    let start = Instant::now();
    tokio::time::timeout(secs(2), budget.acquire(Priority::List, None, None)).await.unwrap_err();
    assert_eq!(budget.0.lock().granted.len(), 1, "the one behind it has let it go");
    budget.pause_until(start + secs(30));
    unpolled.await;
    assert!(start.elapsed() > secs(30));
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_makes_room_for_the_next() {
    let budget = Budget::new(limits(60, 1, 0));
    budget.acquire(Priority::Wake, None, None).await;
    let start = Instant::now();
    let mut impatient: Vec<_> =
        (0..30).map(|_| Box::pin(budget.acquire(Priority::Wake, None, None))).collect();
    for waiting in &mut impatient {
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    }
    let patient = budget.acquire(Priority::Wake, None, None);
    let give_up = async {
        tokio::task::yield_now().await;
        assert!(budget.estimate(Priority::Wake) > secs(30));
        drop(impatient);
    };
    tokio::join!(patient, give_up);
    assert!(start.elapsed() <= secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_granted_to_nobody_goes_to_the_next() {
    let budget = Budget::new(limits(1, 1, 0));
    budget.acquire(Priority::Wake, None, None).await;
    let start = Instant::now();
    let mut unpolled = Box::pin(budget.acquire(Priority::Wake, None, None));
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut unpolled).await.is_err());
    // Lets the other one go after a minute, which does not notice.
    tokio::time::timeout(secs(70), budget.acquire(Priority::List, None, None)).await.unwrap_err();
    assert_eq!(budget.0.lock().granted.len(), 1);
    drop(unpolled);
    budget.acquire(Priority::List, None, None).await;
    assert!(start.elapsed() < secs(71));
}
