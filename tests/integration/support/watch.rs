//! Everything that is said to a Redis, by MONITOR.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use redis::{Client, Value, from_redis_value};

use super::redis::Redis;

/// What nobody may ever say.
const FORBIDDEN: [&str; 4] = ["KEYS", "FLUSHALL", "FLUSHDB", "SWAPDB"];

/// Commands whose first words are channels, which belong to a fleet as keys do.
const CHANNELS: [&str; 7] =
    ["SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "PUBLISH", "SPUBLISH"];

/// One command as Redis got it, from a client or from a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `127.0.0.1:PORT`, or `lua`.
    pub by: String,
    /// The command and what follows it.
    pub words: Vec<Vec<u8>>,
}

impl Said {
    /// The command in upper case.
    pub fn verb(&self) -> String {
        String::from_utf8_lossy(&self.words[0]).to_uppercase()
    }

    /// As it would be typed.
    pub fn text(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        words.join(" ")
    }
}

/// Listens until it is asked for what it heard.
pub struct Watch {
    heard: Arc<Mutex<Vec<Said>>>,
    mark: String,
    listens: tokio::task::JoinHandle<()>,
}

impl Redis {
    /// Listens from now on to everything that is said to it.
    pub async fn watch(&self) -> Watch {
        let monitor = Client::open(self.url()).unwrap().get_async_monitor().await.unwrap();
        let heard = Arc::<Mutex<Vec<Said>>>::default();
        let (writes, mut lines) = (heard.clone(), monitor.into_on_message::<String>());
        let listens = tokio::spawn(async move {
            while let Some(line) = lines.next().await {
                writes.lock().unwrap().extend(parse(&line));
            }
        });
        Watch { heard, mark: format!("the end of watch {:x}", fastrand::u64(..)), listens }
    }
}

impl Watch {
    /// What was said until now, nothing missing.
    pub async fn end(self, redis: &Redis) -> Vec<Said> {
        redis.text(&["ECHO", &self.mark]).await;
        let marks = |said: &Said| said.words.last().is_some_and(|word| word == self.mark.as_bytes());
        crate::eventually!(self.heard.lock().unwrap().iter().any(marks), "MONITOR tells everything");
        self.listens.abort();
        let mut heard = std::mem::take(&mut *self.heard.lock().unwrap());
        heard.truncate(heard.iter().position(marks).unwrap());
        heard
    }

    /// The same, where nothing may have been said that one fleet of several must not say: no command that looks at or empties
    /// everything, no key and no channel outside `prefix:`. Returns what was said, never nothing.
    pub async fn end_within(self, redis: &Redis, prefix: &str) -> Vec<Said> {
        let heard = self.end(redis).await;
        assert!(!heard.is_empty(), "nobody said anything");
        let strays = strays(redis, &heard, prefix).await;
        assert!(strays.is_empty(), "said outside of {prefix}: {strays:#?}");
        heard
    }
}

/// The commands that are forbidden, or touch what does not begin with `prefix:`.
pub async fn strays(redis: &Redis, heard: &[Said], prefix: &str) -> Vec<String> {
    let within = format!("{prefix}:");
    let mut connection = redis.connect().await.unwrap();
    let mut seen = BTreeSet::new();
    let mut strays = Vec::new();
    for said in heard {
        let verb = said.verb();
        let touched = if FORBIDDEN.contains(&verb.as_str()) {
            strays.push(said.text());
            continue;
        } else if CHANNELS.contains(&verb.as_str()) {
            let count = if verb.ends_with("PUBLISH") { 1 } else { said.words.len() - 1 };
            said.words[1..=count].to_vec()
        } else if seen.insert(said.words.clone()) {
            // Redis itself knows best which words of a command are keys; it says so of scripts as well.
            let ask = redis::cmd("COMMAND").arg("GETKEYS").arg(&said.words).to_owned();
            match ask.query_async::<Value>(&mut connection).await {
                Ok(keys) => from_redis_value(keys).unwrap(),
                Err(_) => Vec::new(),
            }
        } else {
            Vec::new()
        };
        if touched.iter().any(|key: &Vec<u8>| !key.starts_with(within.as_bytes())) {
            strays.push(said.text());
        }
    }
    strays
}

/// A line as `1339518083.107412 [0 127.0.0.1:60866] "set" "x" "a \"word\""`.
fn parse(line: &str) -> Option<Said> {
    let (_, rest) = line.split_once('[')?;
    let (from, rest) = rest.split_once("] ")?;
    let by = from.split_once(' ')?.1.to_owned();
    let mut words = Vec::new();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'"' {
            words.push(word(&mut bytes)?);
        }
    }
    (!words.is_empty()).then_some(Said { by, words })
}

/// The rest of a quoted word.
fn word(bytes: &mut std::str::Bytes<'_>) -> Option<Vec<u8>> {
    let mut word = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(word),
            b'\\' => word.push(match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                plain => plain,
            }),
            plain => word.push(plain),
        }
    }
}

#[test]
fn a_line_of_monitor_is_read_back() {
    let said = parse(r#"1339518083.107412 [0 127.0.0.1:60866] "set" "a \"b\" [c] \\" "\x01\n""#).unwrap();
    assert_eq!((said.by.as_str(), said.verb().as_str()), ("127.0.0.1:60866", "SET"));
    assert_eq!(said.words[1..], [b"a \"b\" [c] \\".to_vec(), b"\x01\n".to_vec()]);
    assert_eq!(parse(r#"1.2 [0 lua] "hget" "x""#).unwrap().by, "lua");
}
