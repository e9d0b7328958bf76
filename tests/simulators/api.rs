//! What the control APIs share: calls are noted, faults strike, outages happen; then the provider's own part answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    door::{Cord, Door},
    fault::{Fault, Harm, matches},
};

/// One call of the control API.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived.
    pub at: Instant,
    /// The port's name: `auth` or the region (Scalingo), `bridge` or `oauth` (Clever Cloud), `api` (Heroku).
    pub door: String,
    /// As `GET`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// What was answered; 0 while nothing was, or never.
    pub status: u16,
    /// The body that was sent, as text.
    pub body: String,
    id: u64,
}

/// A call as the provider's part sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub door: String,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    /// The parts of the path.
    pub fn segments(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; `{}` if there is none.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&self.body)
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    /// No body, no content type.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// A body of this content type.
    pub fn of(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::empty(status) }.header("content-type", content_type)
    }

    /// `application/json; charset=utf-8`.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json; charset=utf-8", body.to_string())
    }

    /// `text/plain`.
    pub fn text(status: u16, body: &str) -> Self {
        Self::of(status, "text/plain", body.to_owned())
    }

    /// `text/html; charset=utf-8`.
    pub fn html(status: u16, body: &str) -> Self {
        Self::of(status, "text/html; charset=utf-8", body.to_owned())
    }

    /// With a further header.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    fn head(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).unwrap();
            response.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
        }
        response
    }

    /// As axum sends it.
    pub fn response(self) -> Response {
        let head = self.head();
        head.map(|_| Body::from(self.body))
    }

    /// With the half of its body, in a complete message.
    fn half_body(mut self) -> Response {
        self.body.truncate(self.body.len() / 2);
        self.response()
    }

    /// With the half of its body, where the head promises all of it.
    fn half_message(mut self) -> Response {
        let length = self.body.len();
        self = self.header("content-length", length);
        let half = self.body.slice(..self.body.len() / 2);
        let cut = async {
            // Head and half shall be on their way before the end comes.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(std::io::Error::other("cut"))
        };
        let parts = stream::once(async { Ok(half) }).chain(stream::once(cut));
        let head = self.head();
        head.map(|_| Body::from_stream(parts))
    }
}

/// How the control API can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It is there.
    None,
    /// Connections are refused, and those that were open end.
    Refused,
    /// Every call is answered 503.
    Unavailable,
}

/// The provider's own part: all routes. It does not wait, so an executed call is executed whole.
pub trait Control: Send + Sync + 'static {
    /// Executes the call.
    fn answer(&self, asked: &Asked) -> Answer;
}

/// The front of a control API: its ports, its journal, its faults.
pub struct Api {
    doors: Mutex<Vec<Door>>,
    state: Mutex<State>,
}

struct State {
    calls: Vec<Call>,
    next_id: u64,
    faults: Vec<Fault>,
    outage: Outage,
}

impl Api {
    /// Without a port yet.
    pub fn new() -> Arc<Self> {
        let state = State { calls: Vec::new(), next_id: 0, faults: Vec::new(), outage: Outage::None };
        Arc::new(Self { doors: Mutex::default(), state: Mutex::new(state) })
    }

    /// Serves `control` on a further port and returns which.
    pub fn open(self: &Arc<Self>, name: &str, port: u16, control: Arc<impl Control>) -> u16 {
        let (api, name) = (self.clone(), name.to_owned());
        let router = Router::new().fallback(move |cord: ConnectInfo<Cord>, request: Request| {
            let (api, control, name) = (api.clone(), control.clone(), name.clone());
            async move { Ok::<_, Infallible>(api.handle(name, control, cord.0, request).await) }
        });
        let door = Door::open(port, router);
        let port = door.port();
        self.doors.lock().unwrap().push(door);
        port
    }

    async fn handle(
        &self,
        door: String,
        control: Arc<impl Control>,
        cord: Cord,
        request: Request,
    ) -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let method = head.method.to_string();
        let id = self.note(&door, &method, &path, &body);
        let (outage, fault) = {
            let mut state = self.state.lock().unwrap();
            let fault = state
                .faults
                .iter_mut()
                .find_map(|fault| fault.strikes(&door, &method, &path).then(|| fault.clone()));
            state.faults.retain(|fault| !fault.is_spent());
            (state.outage, fault)
        };
        if outage == Outage::Unavailable {
            return self.give(
                id,
                Answer::html(503, "<html><body>503 Service Temporarily Unavailable</body></html>"),
            );
        }
        let query = head.uri.query().map(decode_query).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let asked = Asked { door, method, path, query, headers: head.headers, body };
        let Some(fault) = fault else { return self.give(id, control.answer(&asked)) };
        if !fault.delay.is_zero() {
            tokio::time::sleep(fault.delay).await;
        }
        match fault.harm {
            Harm::Late => self.give(id, control.answer(&asked)),
            Harm::Instead(answer) => self.give(id, answer),
            Harm::Pretends(answer) => {
                control.answer(&asked);
                self.give(id, answer)
            }
            Harm::Drops => cut(&cord),
            Harm::DropsAfter => {
                control.answer(&asked);
                cut(&cord)
            }
            Harm::Hangs => std::future::pending().await,
            Harm::HangsAfter => {
                control.answer(&asked);
                std::future::pending().await
            }
            Harm::HalfBody => self.noted(id, control.answer(&asked)).half_body(),
            Harm::HalfMessage => self.noted(id, control.answer(&asked)).half_message(),
        }
    }

    fn note(&self, door: &str, method: &str, path: &str, body: &[u8]) -> u64 {
        let mut state = self.state.lock().unwrap();
        let id = state.next_id;
        state.next_id += 1;
        state.calls.push(Call {
            at: Instant::now(),
            door: door.into(),
            method: method.into(),
            path: path.into(),
            status: 0,
            body: String::from_utf8_lossy(body).into_owned(),
            id,
        });
        id
    }

    fn noted(&self, id: u64, answer: Answer) -> Answer {
        if let Some(call) = self.state.lock().unwrap().calls.iter_mut().rfind(|call| call.id == id) {
            call.status = answer.status;
        }
        answer
    }

    fn give(&self, id: u64, answer: Answer) -> Response {
        self.noted(id, answer).response()
    }

    /// See `Platform::calls`.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// See `Platform::count`.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|call| matches(method, path, &call.method, &call.path)).count()
    }

    /// See `Platform::clear_calls`.
    pub fn clear_calls(&self) {
        self.state.lock().unwrap().calls.clear();
    }

    /// See `Platform::fault`.
    pub fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push(fault);
    }

    /// See `Platform::clear_faults`.
    pub fn clear_faults(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// See `Platform::down`.
    pub fn down(&self, outage: Outage) {
        self.state.lock().unwrap().outage = outage;
        for door in self.doors.lock().unwrap().iter() {
            if outage == Outage::Refused { door.shut() } else { door.reopen() }
        }
    }
}

fn cut(cord: &Cord) -> Response {
    cord.pull();
    Response::new(Body::empty())
}

/// The pairs of a query, percent-decoded.
pub fn decode_query(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A random UUID.
pub fn uuid() -> String {
    let (high, low) = (fastrand::u64(..), fastrand::u64(..));
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!("{a:08x}-{b:04x}-4{c:03x}-8{:03x}-{:012x}", (low >> 48) & 0xfff, low & 0xffff_ffff_ffff)
}
