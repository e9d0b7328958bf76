//! The app behind a router: says who it is and what it was sent, and behaves as the path wants.
//!
//! `/status/404`, `/redirect?to=URL`, `/cookie` (with the `Domain` of its host), `/echo-origin`, `/slow?ms=N`,
//! `/stream?chunks=N&ms=N`, `/ws` (sends back what it is sent). Everything else is answered 200: with HTML at `/` if the
//! client prefers it, with JSON otherwise. Each of its answers carries `X-App: <name>`; a router's own never does.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Json, RequestExt,
    body::{Body, Bytes, to_bytes},
    extract::{Request, WebSocketUpgrade, ws::Message},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{api::decode_query, router::Serving, traffic::Passage};

/// The app's answer.
pub async fn answer(app: &Serving, passage: &Passage, request: Request) -> Response {
    let mut response = behave(app, passage, request).await;
    let name = HeaderValue::try_from(&app.app).unwrap();
    response.headers_mut().insert(HeaderName::from_static("x-app"), name);
    response
}

async fn behave(app: &Serving, passage: &Passage, mut request: Request) -> Response {
    let query = request.uri().query().map(decode_query).unwrap_or_default();
    let number = |name: &str, usual: u64| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let [host, origin, accept] =
        [header::HOST, header::ORIGIN, header::ACCEPT].map(|name| text(&request, name));
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/redirect" => {
            let to = query.get("to").cloned().unwrap_or_else(|| "/".into());
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        "/cookie" => {
            let domain = host.split(':').next().unwrap_or_default();
            let cookie = format!("sid=1; Domain={domain}; Path=/");
            ([(header::SET_COOKIE, cookie)], "a cookie\n").into_response()
        }
        "/echo-origin" => ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)], "an origin\n").into_response(),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms", 1000))).await;
            mirror(app, &host, request).await
        }
        "/stream" => {
            let pause = Duration::from_millis(number("ms", 20));
            let chunks = stream::iter(1..=number("chunks", 5)).then(move |count| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, Infallible>(Bytes::from(format!("chunk {count}\n")))
            });
            Body::from_stream(chunks).into_response()
        }
        "/ws" => match request.extract_parts::<WebSocketUpgrade>().await {
            Ok(upgrade) => upgrade.on_upgrade({
                let passage = passage.clone();
                async move |mut socket| {
                    let _in_flight = passage;
                    while let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) =
                        socket.recv().await
                    {
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                }
            }),
            Err(no) => no.into_response(),
        },
        "/" if prefers_html(&accept) => {
            Html(format!("<!DOCTYPE html><title>{0}</title><h1>{0}, run {1}</h1>\n", app.app, app.run))
                .into_response()
        }
        path => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
            Some(code) => StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST).into_response(),
            None => mirror(app, &host, request).await,
        },
    }
}

fn text(request: &Request, name: HeaderName) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Who answers, and what it was sent.
async fn mirror(app: &Serving, host: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut headers = BTreeMap::<&str, String>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let all = headers.entry(name.as_str()).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(&value);
    }
    Json(json!({
        "app": app.app,
        "region": app.region,
        "run": app.run,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
        "host": host,
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}

fn prefers_html(accept: &str) -> bool {
    match (accept.find("text/html"), accept.find("json")) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}
