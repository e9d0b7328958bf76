//! The platform's router: finds an app by the Host header, or answers itself, as the real one does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{HeaderName, HeaderValue, header::HOST},
    response::Response,
};
use tokio::time::Instant;

use super::{
    api::Answer,
    door::{Cord, Door},
    traffic::{Passage, Traffic},
    upstream,
};

/// Where a request goes.
pub enum Routed {
    /// To a running app, where it is in flight from now on.
    App(Serving, Passage),
    /// Nowhere: the router answers.
    Answer(Answer),
    /// The router waits for the app, so long at most, and then answers this.
    Hold(Duration, Answer),
}

/// A running app, as a request finds it.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The provider's id of the app.
    pub id: String,
    /// Its name.
    pub app: String,
    pub region: String,
    /// Counts the starts of the app, from 1.
    pub run: usize,
    /// What the router adds to the app's answer.
    pub headers: Vec<(String, String)>,
}

/// The provider's own part of a router.
pub trait Routes: Send + Sync + 'static {
    /// Where a request goes that came to this port for this host (lower case, without port).
    fn route(&self, door: &str, host: &str, path: &str) -> Routed;
}

/// One request at a router.
#[derive(Clone, Debug)]
pub struct Visit {
    pub at: Instant,
    /// The region (Scalingo) or `router`.
    pub door: String,
    pub host: String,
    pub method: String,
    /// With the query.
    pub path: String,
    /// The app as it was found; `None` if the router itself answered.
    pub app: Option<Serving>,
    /// What was answered.
    pub status: u16,
}

/// The ports of a platform's routers.
pub struct Front {
    doors: Mutex<Vec<Door>>,
    visits: Mutex<Vec<Visit>>,
    /// What is in flight at the apps behind.
    pub traffic: Arc<Traffic>,
}

impl Front {
    /// Without a port yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { doors: Mutex::default(), visits: Mutex::default(), traffic: Arc::default() })
    }

    /// Serves on a further port and returns which.
    pub fn open(self: &Arc<Self>, name: &str, port: u16, routes: Arc<impl Routes>) -> u16 {
        let (front, name) = (self.clone(), name.to_owned());
        let router = Router::new().fallback(move |_: ConnectInfo<Cord>, request: Request| {
            let (front, routes, name) = (front.clone(), routes.clone(), name.clone());
            async move { front.handle(&name, &*routes, request).await }
        });
        let door = Door::open(port, router);
        let port = door.port();
        self.doors.lock().unwrap().push(door);
        port
    }

    /// To a running app.
    pub fn pass(&self, serving: Serving) -> Routed {
        let passage = self.traffic.enter(&serving.id);
        Routed::App(serving, passage)
    }

    /// Every answered request, oldest first.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// Forgets the visits until now.
    pub fn clear_visits(&self) {
        self.visits.lock().unwrap().clear();
    }

    async fn handle(&self, door: &str, routes: &impl Routes, request: Request) -> Response {
        let arrived = Instant::now();
        let host = host_of(&request);
        let method = request.method().to_string();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let routed = loop {
            match routes.route(door, &host, &path) {
                Routed::Hold(limit, _) if arrived.elapsed() < limit => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Routed::Hold(_, answer) => break Routed::Answer(answer),
                routed => break routed,
            }
        };
        let (response, app) = match routed {
            Routed::App(serving, passage) => {
                let mut response = upstream::answer(&serving, &passage, request).await;
                for (name, value) in &serving.headers {
                    let name = HeaderName::try_from(name).unwrap();
                    response.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
                }
                (passage.until_sent(response), Some(serving))
            }
            Routed::Answer(answer) | Routed::Hold(_, answer) => (answer.response(), None),
        };
        let status = response.status().as_u16();
        let visit = Visit { at: arrived, door: door.into(), host, method, path, app, status };
        self.visits.lock().unwrap().push(visit);
        response
    }
}

/// The host a request is for: from the target or the Host header, in lower case, without port and last dot.
fn host_of(request: &Request) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().host().or(header).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.trim_end_matches('.').to_ascii_lowercase()
}
