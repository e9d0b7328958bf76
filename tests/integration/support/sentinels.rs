//! A primary, a replica and three Sentinels, which fail over within a few seconds.

use std::fs;

use redis::RedisResult;

use super::{
    leash::{Leash, lasting_port},
    redis::{Redis, command, read, server},
};

/// The name by which the Sentinels know the primary.
pub const NAME: &str = "mymaster";

/// Three Sentinels and what they look after.
pub struct Sentinels {
    pub first: Redis,
    pub second: Redis,
    sentinels: Vec<(u16, Leash)>,
    _folder: tempfile::TempDir,
}

impl Sentinels {
    /// Starts everything and waits until a failover would succeed.
    pub async fn start() -> Self {
        let first = Redis::start().await;
        let (user, replica_of) = ("--masteruser link --masterauth link", first.port);
        first.text(&["ACL", "SETUSER", "link", "on", ">link", "+psync", "+replconf", "+ping"]).await;
        let second =
            Redis::with().option(user).option(&format!("--replicaof 127.0.0.1 {replica_of}")).start().await;
        let folder = tempfile::tempdir().unwrap();
        let sentinels = (0..3)
            .map(|_| {
                let port = lasting_port();
                let file = folder.path().join(format!("{port}.conf"));
                let text = format!(
                    "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {:?}\nsentinel monitor {NAME} 127.0.0.1 {} 2\n\
                     sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 5000\n",
                    folder.path(),
                    first.port,
                );
                fs::write(&file, text).unwrap();
                let log = folder.path().join(format!("{port}.log"));
                (port, server(&[file.to_str().unwrap(), "--sentinel"], &log))
            })
            .collect();
        let all = Self { first, second, sentinels, _folder: folder };
        crate::eventually!(all.second.info_text("master_link_status").await == "up", "the replica follows");
        for (port, _) in &all.sentinels {
            crate::eventually!(all.is_ready(*port).await, "Sentinel {port} knows everybody");
        }
        all
    }

    async fn is_ready(&self, port: u16) -> bool {
        let ask =
            async |what: &str| command(&format!("redis://127.0.0.1:{port}"), &["SENTINEL", what, NAME]).await;
        let (quorum, replicas, others) =
            (ask("CKQUORUM").await, ask("REPLICAS").await, ask("SENTINELS").await);
        quorum.is_ok() && count(replicas) == 1 && count(others) == 2
    }

    /// `redis+sentinel://127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3/mymaster`.
    pub fn url(&self) -> String {
        let all: Vec<_> = self.sentinels.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/{NAME}", all.join(","))
    }

    /// The port of the primary, as the Sentinels say.
    pub async fn primary(&self) -> u16 {
        let url = format!("redis://127.0.0.1:{}", self.sentinels[0].0);
        let (_, port): (String, u16) =
            read(command(&url, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await);
        port
    }

    /// From now on nothing that is written reaches the second; both go on.
    pub async fn cut_replication(&self) {
        self.first.text(&["ACL", "SETUSER", "link", "off"]).await;
        self.first.command(&["CLIENT", "KILL", "TYPE", "replica"]).await.unwrap();
        crate::eventually!(self.second.info_text("master_link_status").await == "down", "the link is cut");
    }

    /// Kills the first and waits until the second is the primary and takes writes.
    pub async fn fail_over(&mut self) {
        self.first.kill().await;
        crate::eventually!(self.primary().await == self.second.port, "the Sentinels take the second");
        crate::eventually!(self.second.info_text("role").await == "master", "the second is promoted");
    }
}

fn count(answer: RedisResult<redis::Value>) -> usize {
    match answer {
        Ok(redis::Value::Array(all)) => all.len(),
        _ => 0,
    }
}

impl Redis {
    /// A text of `INFO`.
    pub async fn info_text(&self, name: &str) -> String {
        let all = self.text(&["INFO", "everything"]).await.unwrap();
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }
}
