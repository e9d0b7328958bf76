//! The access log: one line for each request, written by a thread of its own.
//!
//! Standard error may be a slow pipe, and no worker may wait for it. So a request only hands its line over; when the
//! writer cannot keep up, lines are dropped and their number is logged.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread::Thread,
    time::Duration,
};

use http::{
    Version,
    header::{self, HeaderName},
};
use pingora_proxy::Session;

use super::{RequestContext, forward};
use crate::{app::AppState, config::AccessLog as Format};

/// The `target` of the log lines.
pub const TARGET: &str = "access";

/// About two megabytes of lines.
const WAITING: usize = 8192;

/// What is known of a request when it has ended.
pub struct Line {
    /// How to write it.
    pub format: Format,
    /// The request's id.
    pub request_id: String,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: String,
    /// The `Host` header as it was sent.
    pub host: String,
    /// The path, with its query only if `server.log_queries` says so.
    pub path: String,
    /// As in `HTTP/1.1`.
    pub version: &'static str,
    /// The status sent; 0 if the client was gone before.
    pub status: u16,
    /// Bytes of body received from the client.
    pub bytes_in: u64,
    /// Bytes of body sent to the client.
    pub bytes_out: u64,
    /// From the header read to the last byte sent.
    pub duration: Duration,
    /// Which app, as `provider/name`.
    pub app: Option<String>,
    /// The app's state when the request came.
    pub state: Option<&'static str>,
    /// How long it waited for a wake.
    pub waited: Option<Duration>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// The `Referer`, without its query.
    pub referer: String,
}

/// The writer looks for lines so often, and writes all there are. To wake it for each one would cost every request a
/// system call or two.
const PAUSE: Duration = Duration::from_millis(20);

/// Nobody may be reading the log: a flush waits no longer than this.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// The near end of the log. Dropping it ends the writer.
pub struct AccessLog {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    writer: Thread,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are lines, and a box is an allocation for each")]
enum Message {
    Line(Line),
    /// Everything before it has been written when its channel closes.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Starts the writer.
    pub fn start() -> std::io::Result<Self> {
        let (messages, received) = sync_channel(WAITING);
        let dropped = Arc::<AtomicU64>::default();
        let lost = dropped.clone();
        let write = move || {
            // Sleeps in `recv` while nothing happens, and in `park_timeout` while much does.
            while let Ok(first) = received.recv() {
                for message in std::iter::once(first).chain(received.try_iter()) {
                    match message {
                        Message::Line(line) => line.write(),
                        Message::Flush(done) => drop(done),
                    }
                }
                let lost = lost.swap(0, Relaxed);
                if lost > 0 {
                    log::warn!(
                        "{lost} lines of the access log were dropped: they came faster than they could be written"
                    );
                }
                std::thread::park_timeout(PAUSE);
            }
        };
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(write)?;
        Ok(Self { messages, dropped, writer: writer.thread().clone() })
    }

    /// Hands a line over. Never waits.
    pub fn write(&self, line: Line) {
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Returns when all lines so far have been written.
    pub fn flush(&self) {
        let (done, written) = sync_channel(0);
        // With a full channel there is no hurry: the writer is at work, or stuck.
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            self.writer.unpark();
            let _ = written.recv_timeout(LONGEST_FLUSH);
        }
    }
}

impl Line {
    /// What is known of a request that has just ended.
    pub fn of(session: &Session, ctx: &RequestContext, request_id: String, duration: Duration) -> Self {
        let (request, settings) = (session.req_header(), &*ctx.settings);
        let text = |name: HeaderName| {
            request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let target = String::from_utf8_lossy(request.raw_path());
        let client = forward::client(session).map(|client| client.ip());
        Self {
            format: settings.access_log,
            request_id,
            client: client.map(|client| forward::real_client(client, &request.headers, settings)),
            method: request.method.to_string(),
            host: text(header::HOST).unwrap_or_default(),
            path: if settings.log_queries { target.into_owned() } else { without_query(&target).to_owned() },
            version: if request.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            status: session.response_written().map_or(0, |response| response.status.as_u16()),
            bytes_in: ctx.body_bytes,
            bytes_out: session.body_bytes_sent() as u64,
            duration,
            app: ctx.app().map(|app| app.id.to_string()),
            state: ctx.met.map(AppState::as_str),
            waited: ctx.waited,
            user_agent: text(header::USER_AGENT).unwrap_or_default(),
            referer: without_query(&text(header::REFERER).unwrap_or_default()).to_owned(),
        }
    }

    fn write(&self) {
        match self.format {
            Format::Off => {}
            Format::Json => log::info!(target: TARGET, "{}", self.json()),
            Format::Combined => log::info!(target: TARGET, "{}", self.combined()),
        }
    }

    fn json(&self) -> serde_json::Value {
        let millis = |duration: Duration| (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0;
        serde_json::json!({
            "ts": jiff::Timestamp::now().to_string(),
            "request_id": self.request_id,
            "client_ip": self.client.map(|ip| ip.to_string()),
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "proto": self.version,
            "status": self.status,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "duration_ms": millis(self.duration),
            "app": self.app,
            "app_state": self.state,
            "wake_wait_ms": self.waited.map(millis),
            "user_agent": self.user_agent,
            "referer": self.referer,
        })
    }

    /// The combined format, as Apache and nginx write it.
    fn combined(&self) -> String {
        let client = self.client.map_or_else(|| "-".into(), |ip| ip.to_string());
        let time = jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S %z");
        let dash = |text: &str| {
            if text.is_empty() { "-".to_owned() } else { quoted(text) }
        };
        format!(
            "{client} - - [{time}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
            quoted(&self.method),
            quoted(&self.path),
            self.version,
            self.status,
            self.bytes_out,
            dash(&self.referer),
            dash(&self.user_agent),
        )
    }
}

/// Text of a client inside quotes: it must not end them, nor the line.
fn quoted(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec!['?'],
            c => vec![c],
        })
        .collect()
}

/// The text up to its query.
fn without_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            format: Format::Combined,
            request_id: "id".into(),
            client: "192.0.2.1".parse().ok(),
            method: "GET".into(),
            host: "hello.test".into(),
            path: "/a\"b\\".into(),
            version: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 42,
            duration: Duration::from_micros(1234),
            app: Some("local/hello".into()),
            state: Some("asleep"),
            waited: Some(Duration::from_millis(3100)),
            user_agent: "evil\" agent\r\nX: y".into(),
            referer: String::new(),
        }
    }

    #[test]
    fn a_client_cannot_break_out_of_its_line() {
        let text = line().combined();
        assert!(text.starts_with("192.0.2.1 - - ["));
        assert!(text.ends_with(r#"] "GET /a\"b\\ HTTP/1.1" 200 42 "-" "evil\" agent??X: y""#), "{text}");
        let json = line().json().to_string();
        assert!(!json.contains('\n') && json.contains("\"duration_ms\":1.234"), "{json}");
        assert!(json.contains("\"wake_wait_ms\":3100.0"), "{json}");
    }

    #[test]
    fn queries_go() {
        assert_eq!(without_query("/login?token=secret#x"), "/login");
        assert_eq!(without_query("https://a.test/b?c=d"), "https://a.test/b");
    }
}
