//! What each app has in flight, and what was ordered for it meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, HttpBody},
    response::Response,
};
use futures_util::StreamExt;
use tokio::time::Instant;

/// A call that would start or stop an app, as it arrived.
#[derive(Clone, Debug)]
pub struct Order {
    pub at: Instant,
    /// The app's name.
    pub app: String,
    /// Whether containers are to run after it.
    pub start: bool,
    /// What was answered.
    pub status: u16,
    /// How many of the app's requests and WebSockets were not yet over.
    pub in_flight: usize,
    /// Whether an earlier start of the app had not ended yet.
    pub booting: bool,
}

/// Requests that are not over, by the provider's id of the app, and all orders.
#[derive(Default)]
pub struct Traffic {
    in_flight: Mutex<HashMap<String, usize>>,
    orders: Mutex<Vec<Order>>,
}

impl Traffic {
    /// A request finds its app.
    pub fn enter(self: &Arc<Self>, id: &str) -> Passage {
        *self.in_flight.lock().unwrap().entry(id.into()).or_default() += 1;
        Passage(Arc::new(Inside { traffic: self.clone(), id: id.into() }))
    }

    /// How many of the app's requests are not over.
    pub fn in_flight(&self, id: &str) -> usize {
        self.in_flight.lock().unwrap().get(id).copied().unwrap_or_default()
    }

    /// Notes an order.
    pub fn ordered(&self, order: Order) {
        self.orders.lock().unwrap().push(order);
    }

    /// All orders, oldest first.
    pub fn orders(&self) -> Vec<Order> {
        self.orders.lock().unwrap().clone()
    }

    /// Forgets the orders until now.
    pub fn clear_orders(&self) {
        self.orders.lock().unwrap().clear();
    }
}

/// A request at an app: in flight until the last clone is dropped.
#[derive(Clone)]
pub struct Passage(#[allow(dead_code, reason = "kept for its end")] Arc<Inside>);

struct Inside {
    traffic: Arc<Traffic>,
    id: String,
}

impl Drop for Inside {
    fn drop(&mut self) {
        *self.traffic.in_flight.lock().unwrap().get_mut(&self.id).unwrap() -= 1;
    }
}

impl Passage {
    /// The request is over when its answer has been sent.
    pub fn until_sent(self, response: Response) -> Response {
        let (mut head, body) = response.into_parts();
        let length = body.size_hint().exact();
        if length == Some(0) {
            return Response::from_parts(head, body);
        }
        if let Some(length) = length {
            head.headers.insert("content-length", length.into());
        }
        let chunks = body.into_data_stream().map(move |chunk| {
            let _ = &self;
            chunk
        });
        Response::from_parts(head, Body::from_stream(chunks))
    }
}
