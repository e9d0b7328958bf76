use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{Client, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::provider::api::Budget;

/// Longer than any machine is busy.
const LONG: Duration = Duration::from_secs(60);

const KEY: &str = "loir:v1:budget:abc";

/// A Redis of the test's own.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let start = async {
            loop {
                // Somebody else may be faster to take the port: then again.
                if let Some(server) = Self::try_start().await {
                    return server;
                }
            }
        };
        timeout(LONG, start).await.expect("redis-server starts")
    }

    async fn try_start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port, _dir: dir };
        while server.child.try_wait().unwrap().is_none() {
            if server.try_connect().await.is_ok() && server.child.try_wait().unwrap().is_none() {
                return Some(server);
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        client.get_multiplexed_async_connection().await
    }

    async fn connection(&self) -> Connection {
        Connection(self.try_connect().await.unwrap())
    }

    /// A gateway's way to the budgets.
    async fn pool(&self) -> Arc<RedisPool<Connection>> {
        Arc::new(RedisPool::new(self.connection().await, Keys::new("loir")))
    }

    async fn budget(&self, limits: Limits) -> Arc<Budget> {
        Arc::new(Budget::sharing(limits, self.pool().await, "abc"))
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut run = redis::cmd(command[0]);
        run.arg(&command[1..]);
        run.query_async(&mut self.connection().await.0).await.unwrap()
    }

    /// What time it is there, in milliseconds.
    async fn time(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.run(&["TIME"]).await;
        seconds * 1000 + micros / 1000
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Connection(MultiplexedConnection);

#[async_trait]
impl Eval for Connection {
    async fn eval(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<Vec<i64>, RegistryError> {
        let answer = script.prepare_invoke().key(keys).arg(args).invoke_async(&mut self.0.clone()).await;
        answer.map_err(|error| RegistryError::Unavailable(error.to_string()))
    }
}

fn limits(per_minute: u32, burst: u32, reserve_for_wakes: u32) -> Limits {
    Limits { per_minute, burst, reserve_for_wakes }
}

/// How long this priority would have to wait.
async fn wait(pool: &RedisPool<Connection>, limits: Limits, priority: Priority) -> Duration {
    match pool.take("abc", limits, priority).await {
        Taken::In { wait, .. } => wait,
        Taken::Yes => Duration::ZERO,
        Taken::Unknown => panic!("no answer"),
    }
}

/// Comes back as it is told, until it may go.
async fn go(pool: &RedisPool<Connection>, limits: Limits, priority: Priority) {
    loop {
        match wait(pool, limits, priority).await {
            Duration::ZERO => return,
            told => sleep(told).await,
        }
    }
}

#[tokio::test]
async fn all_gateways_together_never_go_more_often_than_one_may() {
    let server = Server::start().await;
    let limits = limits(6000, 10, 3);
    let went = [0; 3].map(|_| Arc::new(AtomicUsize::new(0)));
    let begin = server.time().await;
    let mut callers = Vec::new();
    for went in &went {
        let budget = server.budget(limits).await;
        for n in 0..40 {
            let (budget, went) = (budget.clone(), went.clone());
            callers.push(tokio::spawn(async move {
                loop {
                    budget.acquire(Priority::ALL[n % 4], None, None).await;
                    went.fetch_add(1, SeqCst);
                }
            }));
        }
    }
    sleep(Duration::from_millis(1500)).await;
    callers.iter().for_each(|caller| caller.abort());
    let went = went.map(|went| went.load(SeqCst) as u64);
    let elapsed = server.time().await - begin;
    assert!(went.iter().sum::<u64>() <= 10 + elapsed / 10, "{went:?} in {elapsed} ms");
    assert!(went.iter().all(|went| *went > 0), "{went:?}");
}

#[tokio::test]
async fn wakes_of_one_gateway_go_before_lists_of_another() {
    let server = Server::start().await;
    let (one, two) = (server.pool().await, server.pool().await);
    let limits = limits(120, 1, 0);
    go(&one, limits, Priority::Wake).await;
    let list = wait(&one, limits, Priority::List).await;
    assert!(list > Duration::ZERO);
    let wake = wait(&two, limits, Priority::Wake).await;
    assert!(wake < wait(&one, limits, Priority::List).await, "the list waits for the wake");
    let went = Mutex::new(Vec::new());
    let lists = async {
        go(&one, limits, Priority::List).await;
        went.lock().unwrap().push(Priority::List);
    };
    let wakes = async {
        go(&two, limits, Priority::Wake).await;
        went.lock().unwrap().push(Priority::Wake);
    };
    tokio::join!(lists, wakes);
    assert_eq!(*went.lock().unwrap(), [Priority::Wake, Priority::List]);
}

#[tokio::test]
async fn only_wakes_take_the_reserve_whichever_gateway_they_come_from() {
    let server = Server::start().await;
    let (one, two) = (server.pool().await, server.pool().await);
    let limits = limits(1, 5, 3);
    assert_eq!(one.take("abc", limits, Priority::List).await, Taken::Yes);
    assert_eq!(two.take("abc", limits, Priority::Stop).await, Taken::Yes);
    assert!(wait(&one, limits, Priority::List).await > Duration::ZERO, "three are spared");
    assert!(wait(&two, limits, Priority::Readiness).await > Duration::ZERO, "three are spared");
    for pool in [&one, &two, &one] {
        assert_eq!(pool.take("abc", limits, Priority::Wake).await, Taken::Yes);
    }
    assert!(wait(&two, limits, Priority::Wake).await > Duration::ZERO);
    assert_eq!(
        one.take("other", limits, Priority::List).await,
        Taken::Yes,
        "another account is another matter"
    );
}

#[tokio::test]
async fn a_token_that_is_given_back_is_for_whoever_asks_next() {
    let server = Server::start().await;
    let (one, two) = (server.pool().await, server.pool().await);
    let limits = limits(1, 1, 0);
    assert_eq!(one.take("abc", limits, Priority::Wake).await, Taken::Yes);
    assert!(wait(&two, limits, Priority::Wake).await > Duration::ZERO);
    one.give_back("abc").await;
    assert_eq!(two.take("abc", limits, Priority::Wake).await, Taken::Yes);
    for _ in 0..9 {
        one.give_back("abc").await;
    }
    assert_eq!(two.take("abc", limits, Priority::Wake).await, Taken::Yes);
    assert!(
        wait(&two, limits, Priority::Wake).await > Duration::ZERO,
        "the bucket holds no more than its burst"
    );
}

#[tokio::test]
async fn a_pause_that_one_gateway_is_told_holds_for_all() {
    let server = Server::start().await;
    let (one, two) = (server.budget(limits(600, 10, 0)).await, server.budget(limits(600, 10, 0)).await);
    one.acquire(Priority::Wake, None, None).await;
    one.pause_until(Instant::now() + 10 * LONG);
    // It takes a moment until Redis has heard of it.
    let pool = server.pool().await;
    let known = async {
        while wait(&pool, limits(600, 10, 0), Priority::Stop).await < LONG {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, known).await.unwrap();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |wait: Duration| told.send(wait).unwrap();
    tokio::select! {
        () = two.acquire(Priority::Wake, None, Some(&tell)) => panic!("goes within the pause"),
        told = timeout(LONG, hears.recv()) => assert!(told.unwrap().unwrap() > LONG),
    }
    assert!(two.estimate(Priority::Wake) > LONG);
    pool.pause("abc", Duration::from_millis(1)).await;
    pool.give_back("abc").await;
    assert!(wait(&pool, limits(600, 10, 0), Priority::Wake).await > LONG, "the longer of two pauses stands");
}

#[tokio::test]
async fn one_caller_has_its_turn_though_fifty_wait_in_another_gateway() {
    let server = Server::start().await;
    let limits = limits(120, 1, 0);
    let (many, few) = (server.budget(limits).await, server.budget(limits).await);
    let (went, mut goes) = tokio::sync::mpsc::unbounded_channel();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (many, went) = (many.clone(), went.clone());
        callers.spawn(async move {
            many.acquire(Priority::Wake, None, None).await;
            went.send(()).unwrap();
        });
    }
    goes.recv().await.unwrap();
    timeout(LONG, few.acquire(Priority::Wake, None, None)).await.unwrap();
    let before = std::iter::from_fn(|| goes.try_recv().ok()).count();
    assert!(before <= 4, "{before} went before it");
}

#[tokio::test]
async fn a_gateway_that_asks_all_the_time_gets_no_more_than_its_share() {
    let server = Server::start().await;
    let limits = limits(600, 1, 0);
    let (greedy, polite) = (server.pool().await, server.pool().await);
    go(&greedy, limits, Priority::Wake).await;
    wait(&polite, limits, Priority::Wake).await;
    let went = AtomicUsize::new(0);
    let grabs = async {
        loop {
            if greedy.take("abc", limits, Priority::Wake).await == Taken::Yes {
                went.fetch_add(1, SeqCst);
            }
        }
    };
    let goes = async {
        for _ in 0..4 {
            go(&polite, limits, Priority::Wake).await;
        }
    };
    tokio::select! {
        () = grabs => {}
        done = timeout(LONG, goes) => done.unwrap(),
    }
    let went = went.load(SeqCst);
    assert!(went <= 5, "the greedy one went {went} times, the polite one 4 times");
}

#[tokio::test]
async fn a_list_that_is_overdue_goes_though_wakes_of_others_never_cease() {
    let server = Server::start().await;
    let limits = limits(1200, 3, 2);
    let wakes = Arc::new(AtomicUsize::new(0));
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (pool, wakes) = (server.pool().await, wakes.clone());
        others.spawn(async move {
            while wakes.fetch_add(1, SeqCst) < 400 {
                go(&pool, limits, Priority::Wake).await;
            }
        });
    }
    let pool = server.pool().await;
    // A list that is due when it comes: nobody has to wait for five minutes.
    let args = ["take", &pool.gateway, "3", "0", "1200", "3", "2"].map(str::to_owned);
    let list = async {
        while let Some([told @ 1..=i64::MAX, _]) = pool.ask("abc", &args).await.as_deref() {
            sleep(Duration::from_millis(told.unsigned_abs())).await;
        }
    };
    timeout(LONG, list).await.unwrap();
    let wakes = wakes.load(SeqCst);
    assert!((5..200).contains(&wakes), "{wakes} wakes went before");
}

#[tokio::test]
async fn of_limits_that_disagree_the_stricter_count() {
    let server = Server::start().await;
    let (loose, strict) = (server.pool().await, server.pool().await);
    let (more, less) = (limits(60, 10, 0), limits(1, 2, 1));
    assert_eq!(loose.take("abc", more, Priority::List).await, Taken::Yes);
    assert_eq!(strict.take("abc", less, Priority::List).await, Taken::Yes, "two are left of nine");
    assert!(wait(&loose, more, Priority::List).await > Duration::from_secs(2), "the last is for wakes");
    assert_eq!(loose.take("abc", more, Priority::Wake).await, Taken::Yes);
    assert!(wait(&loose, more, Priority::Wake).await > Duration::from_secs(2), "one a minute");
    // The same gateway may believe something else from now on.
    assert!(wait(&strict, more, Priority::Wake).await <= Duration::from_secs(2));
}

#[tokio::test]
async fn without_redis_everybody_minds_their_own_budget() {
    let mut server = Server::start().await;
    let (pool, budget) = (server.pool().await, server.budget(limits(60, 5, 0)).await);
    budget.acquire(Priority::Wake, None, None).await;
    server.kill();
    let calls = async {
        for _ in 0..4 {
            budget.acquire(Priority::List, None, None).await;
        }
        assert_eq!(pool.take("abc", limits(60, 5, 0), Priority::Wake).await, Taken::Unknown);
        pool.pause("abc", LONG).await;
        pool.give_back("abc").await;
    };
    timeout(LONG, calls).await.unwrap();
    assert!(!pool.well.load(SeqCst));
}

#[tokio::test]
async fn a_redis_that_hangs_holds_nobody_up_for_long() {
    let server = Server::start().await;
    let budget = server.budget(limits(6000, 50, 0)).await;
    budget.acquire(Priority::Wake, None, None).await;
    let pool = server.pool().await;
    server.signal(Signal::SIGSTOP);
    let calls = async {
        for _ in 0..49 {
            budget.acquire(Priority::List, None, None).await;
        }
    };
    // Were each of them to wait for an answer, it would take about as long.
    timeout(Duration::from_secs(20), calls).await.unwrap();
    server.signal(Signal::SIGCONT);
    let again = async {
        while pool.take("abc", limits(6000, 50, 0), Priority::Wake).await == Taken::Unknown {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn garbage_in_the_key_is_no_answer_and_does_no_harm() {
    let server = Server::start().await;
    let pool = server.pool().await;
    let limits = limits(60, 5, 0);
    server.run::<()>(&["SET", KEY, "garbage"]).await;
    for _ in 0..3 {
        assert_eq!(pool.take("abc", limits, Priority::Wake).await, Taken::Unknown);
        assert!(!pool.well.load(SeqCst));
    }
    timeout(LONG, server.budget(limits).await.acquire(Priority::List, None, None)).await.unwrap();
    server.run::<()>(&["DEL", KEY]).await;
    let fields = ["tokens", "x", "counted", "-", "resumes", "nan", "passed", "", "owed", "w:0:nobody"];
    let places =
        ["w:", "1 2", "w:0:somebody", "1", "g:", "?", "w:9", "99999999999999999999 99999999999999999999"];
    server.run::<()>(&[&["HSET", KEY][..], &fields, &places].concat()).await;
    assert_eq!(pool.take("abc", limits, Priority::Wake).await, Taken::Yes);
    assert!(pool.well.load(SeqCst), "said once more, should it happen again");
}

#[tokio::test]
async fn there_is_one_key_for_an_account_and_not_for_ever() {
    let server = Server::start().await;
    let pool = server.pool().await;
    for _ in 0..3 {
        pool.take("abc", limits(60, 2, 0), Priority::Wake).await;
    }
    pool.give_back("abc").await;
    pool.pause("abc", LONG).await;
    assert_eq!(server.run::<i64>(&["DBSIZE"]).await, 1);
    assert!((3600..10_000).contains(&server.run::<i64>(&["TTL", KEY]).await));
}
