//! A small HTTP/1.1 client: one connection, one request at a time, the answer's body by its `Content-Length`.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Outcome, app::field};

/// The host name of the app, whatever stands in front of it.
pub const HOST: &str = "app.localhost";

/// Nothing that is measured takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the fields.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A field that the app (or Loir) must have set.
    pub fn field(&self, name: &str) -> Outcome<&str> {
        field(&self.head, name).ok_or_else(|| format!("no {name} in an answer: {}", self.head).into())
    }

    /// Whether the app itself gave it, whole.
    pub fn is_the_apps(&self) -> bool {
        self.status == 200 && field(&self.head, "x-app").is_some()
    }
}

impl Client {
    /// Connects.
    pub async fn connect(port: u16) -> Outcome<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(1024) })
    }

    /// A GET, as a program sends it.
    pub async fn get(&mut self, path: &str) -> Outcome<Answer> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await
    }

    /// A POST.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Outcome<Answer> {
        let length = body.len();
        let mut request =
            format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        request.extend_from_slice(body);
        self.ask(&request).await
    }

    async fn ask(&mut self, request: &[u8]) -> Outcome<Answer> {
        tokio::time::timeout(PATIENCE, async {
            self.stream.write_all(request).await?;
            self.answer().await
        })
        .await?
    }

    async fn answer(&mut self) -> Outcome<Answer> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive().await?;
        };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        let length: usize = field(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while self.received.len() < end + length {
            self.receive().await?;
        }
        let body = self.received[end..end + length].to_vec();
        self.received.drain(..end + length);
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or("no status line")?;
        Ok(Answer { status, head, body })
    }

    async fn receive(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the connection was closed before the answer".into()),
            _ => Ok(()),
        }
    }
}

/// `connections` that stay open, for any number of rounds.
pub struct Crowd(Vec<Client>);

impl Crowd {
    /// Connects them all.
    pub async fn connect(port: u16, connections: usize) -> Outcome<Self> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Client::connect(port).await?);
        }
        Ok(Self(clients))
    }

    /// `requests` GETs over all of them, each connection one after another.
    pub async fn ask(&mut self, path: &'static str, requests: usize) -> Outcome<()> {
        let each = requests / self.0.len();
        let mut tasks = JoinSet::new();
        for mut client in self.0.drain(..) {
            tasks.spawn(async move {
                for _ in 0..each {
                    if !client.get(path).await?.is_the_apps() {
                        return Err("an answer that is not the app's".into());
                    }
                }
                Ok::<_, crate::Error>(client)
            });
        }
        while let Some(client) = tasks.join_next().await {
            self.0.push(client??);
        }
        Ok(())
    }
}
