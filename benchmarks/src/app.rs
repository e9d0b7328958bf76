//! The app behind every proxy: one thread, no framework, as little work as an HTTP/1.1 server can do.
//!
//! `/` answers 13 bytes, `/64k` answers 64 KiB, `/slow/MILLIS` answers late; a POST answers the length and a sum of its
//! body. Every answer says which process gave it (`X-App`), and when that process began to listen (`X-Listening`, in
//! nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share).

use std::{fs::File, io::Write, net::Ipv4Addr, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::{Outcome, number, option};

/// The answers, made once.
struct Answers {
    marks: String,
    small: Vec<u8>,
    large: Vec<u8>,
}

/// Nanoseconds of the clock that all processes of a machine share.
pub fn monotonic() -> Outcome<u64> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())?)
}

/// A sum over a body, so that both ends know that it arrived once and whole.
pub fn sum(body: &[u8]) -> u64 {
    body.iter().fold(0, |sum: u64, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// `serve app --port PORT [--boot-min MILLIS] [--boot-max MILLIS] [--backlog N] [--journal FILE]`: adds a line to the file,
/// boots for a random time between the two, and then listens.
pub fn serve(options: &[&str]) -> Outcome<()> {
    let port = u16::try_from(number(options, "--port", 0)?)?;
    let least = number(options, "--boot-min", 0)?;
    let boot = fastrand::u64(least..=number(options, "--boot-max", least)?.max(least));
    // Long enough for any crowd: whoever wants a short one says so.
    let backlog = u32::try_from(number(options, "--backlog", 4096)?)?;
    if let Some(path) = option(options, "--journal") {
        let mut journal = File::options().create(true).append(true).open(path)?;
        writeln!(journal, "{} start", std::process::id())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(boot)).await;
        let listener = listen(port, backlog)?;
        let answers = Arc::new(Answers::new(monotonic()?));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(converse(stream, answers.clone()));
        }
    })
}

fn listen(port: u16, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(backlog)
}

impl Answers {
    fn new(listening: u64) -> Self {
        let marks = format!("X-App: {}\r\nX-Listening: {listening}\r\n", std::process::id());
        Self { small: answer(&marks, b"Hello, world!"), large: answer(&marks, &[b'x'; 64 * 1024]), marks }
    }
}

fn answer(marks: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{marks}\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn converse(mut stream: TcpStream, answers: Arc<Answers>) -> std::io::Result<()> {
    let mut received = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let length = field(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while received.len() < end + length {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or("/");
        if head.starts_with("POST ") {
            let body = &received[end..end + length];
            let text = format!("{length} {}", sum(body));
            stream.write_all(&answer(&answers.marks, text.as_bytes())).await?;
        } else if path == "/64k" {
            stream.write_all(&answers.large).await?;
        } else {
            if let Some(millis) = path.strip_prefix("/slow/").and_then(|text| text.parse().ok()) {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            stream.write_all(&answers.small).await?;
        }
        received.drain(..end + length);
    }
}

/// The value of a field in a header.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
