//! A client that writes bytes as they are, and reads answers piece by piece.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Nothing takes so long but a thing that never comes, however busy the machine is.
const NEVER: Duration = Duration::from_secs(20);

/// One connection, or the near half of one.
pub struct Wire<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
}

/// The header of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub text: String,
}

impl Head {
    /// The field's value; several fields of one name are joined with commas.
    pub fn field(&self, name: &str) -> Option<String> {
        let fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let values: Vec<_> =
            fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

impl Wire {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::reading(stream)
    }

    /// A connection that has already sent this.
    pub async fn with(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Self {
        let mut wire = Self::open(address).await;
        wire.send(bytes).await;
        wire
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub fn reading(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Reads once more; `false` when the other side has closed.
    async fn more(&mut self) -> bool {
        let read = timeout(NEVER, self.stream.read_buf(&mut self.received)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing more came after {:?}", self.so_far()));
        matches!(read, Ok(1..))
    }

    /// For messages: the beginning is enough.
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.received[..self.received.len().min(300)]).into_owned()
    }

    /// Everything up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < NEVER, "{end:?} never came, but {:?}", self.so_far());
            if let Some(at) = self.received.windows(end.len()).position(|part| part == end.as_bytes()) {
                let text = self.exactly(at + end.len()).await;
                return String::from_utf8_lossy(&text).into_owned();
            }
            assert!(self.more().await, "closed before {end:?}, after {:?}", self.so_far());
        }
    }

    /// The header of the next answer, `100 Continue` included.
    pub async fn head(&mut self) -> Head {
        let text = self.until("\r\n\r\n").await;
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        Head { status: status.unwrap_or_else(|| panic!("no status in {text:?}")), text }
    }

    /// The header of the next answer, or `None` if the connection is closed first, politely or not.
    pub async fn head_or_end(&mut self) -> Option<Head> {
        while self.received.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// The body that belongs to the header.
    pub async fn body(&mut self, head: &Head) -> Vec<u8> {
        if let Some(length) = head.field("content-length") {
            let length = length.parse().unwrap();
            return self.exactly(length).await;
        }
        assert_eq!(head.field("transfer-encoding").as_deref(), Some("chunked"), "{}", head.text);
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }

    /// One chunk of a chunked body; empty at its end.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let size = self.until("\r\n").await;
        let size =
            usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        let mut chunk = self.exactly(size + 2).await;
        chunk.truncate(size);
        chunk
    }

    /// So many bytes of a body that was announced to have them.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.more().await, "closed after {} of {length} bytes", self.received.len());
        }
        let rest = self.received.split_off(length);
        std::mem::replace(&mut self.received, rest)
    }

    /// A whole answer as header and text.
    pub async fn answer(&mut self) -> (Head, String) {
        let head = self.head().await;
        let body = self.body(&head).await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Waits for the other side's end, and gives what still came before it.
    pub async fn end(&mut self) -> String {
        while self.more().await {}
        std::mem::take(&mut self.received).iter().map(|&byte| char::from(byte)).collect()
    }
}
