//! The tests' own Redis: what the stories about a fleet rely on.

use std::time::Duration;

use crate::{
    eventually,
    support::{redis::Redis, sentinels::Sentinels, watch::strays},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_is_hurt_and_comes_back() {
    let mut redis = Redis::with().lasting().start().await;
    redis.text(&["SET", "loir:v1:x", "1"]).await;
    assert!(redis.info("total_commands_processed").await >= 1);
    redis.restart().await;
    assert_eq!(redis.text(&["GET", "loir:v1:x"]).await.as_deref(), Some("1"));
    redis.freeze();
    let (hangs, url) = (tokio::spawn(super::support::redis::ping(redis.url())), redis.url());
    tokio::time::timeout(Duration::from_millis(300), super::support::redis::ping(url)).await.unwrap_err();
    redis.thaw();
    assert!(hangs.await.unwrap());
    redis.restart_empty().await;
    assert_eq!(redis.keys().await, Vec::<String>::new());
    redis.kill().await;
    assert!(redis.command(&["PING"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_and_one_with_a_password_refuse() {
    let full = Redis::start().await;
    full.text(&["SET", "x", "1"]).await;
    full.is_full(true).await;
    let refused = full.command(&["SET", "x", "2"]).await.unwrap_err().to_string();
    assert!(refused.contains("OOM"), "{refused}");
    full.is_full(false).await;
    assert!(full.text(&["SET", "x", "2"]).await.is_some());
    let secret = Redis::with().password("open-sesame").start().await;
    assert!(secret.text(&["SET", "x", "1"]).await.is_some());
    let wrong = secret.url().replace("open-sesame", "abracadabra");
    assert!(!super::support::redis::ping(wrong).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_hears_commands_and_those_of_scripts_and_finds_strays() {
    let redis = Redis::start().await;
    let watch = redis.watch().await;
    let script = "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', 'elsewhere')";
    redis.command(&["EVAL", script, "1", "loir:v1:x", "a \"b\"\r\n"]).await.unwrap();
    redis.command(&["PUBLISH", "loir:v1:news", "hello"]).await.unwrap();
    redis.command(&["PUBLISH", "news", "hello"]).await.unwrap();
    redis.command(&["KEYS", "loir:*"]).await.unwrap();
    let heard = watch.end(&redis).await;
    assert!(
        heard.iter().any(|said| said.by == "lua" && said.text() == "SET loir:v1:x a \"b\"\r\n"),
        "{heard:#?}"
    );
    let strays = strays(&redis, &heard, "loir").await;
    assert_eq!(strays, ["GET elsewhere", "PUBLISH news hello", "KEYS loir:*"]);
    let watch = redis.watch().await;
    redis.text(&["SET", "loir:v1:x", "1"]).await;
    assert!(!watch.end_within(&redis, "loir").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_fail_over_and_what_was_not_replicated_is_lost() {
    let mut all = Sentinels::start().await;
    all.first.text(&["SET", "early", "1"]).await;
    eventually!(all.second.text(&["GET", "early"]).await.is_some());
    all.cut_replication().await;
    all.first.text(&["SET", "late", "1"]).await;
    all.fail_over().await;
    assert_eq!(all.second.text(&["GET", "late"]).await, None);
    assert!(all.second.text(&["SET", "later", "1"]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_reads_its_disk_says_so() {
    let mut redis = Redis::with().slow_to_load().start().await;
    for number in 0..20 {
        redis.text(&["SET", &number.to_string(), &"x".repeat(2000)]).await;
    }
    redis.text(&["SAVE"]).await;
    redis.begin_again().await;
    eventually!(redis.command(&["GET", "1"]).await.is_err_and(|error| error.to_string().contains("load")));
    redis.answers().await;
    assert!(redis.text(&["GET", "1"]).await.is_some());
}
