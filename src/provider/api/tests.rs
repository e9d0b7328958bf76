use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// The one line that differs between crates: a crypto provider for TLS.
fn install_crypto() {
    pingora_core::tls::install_default_crypto_provider();
}

/// Somebody who waits and is told by a closure.
struct Told<F>(F);

impl<F: Fn(Duration) + Send + Sync> Waits for Told<F> {
    fn since(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, estimate: Duration) {
        (self.0)(estimate);
    }

    fn come(&self) {}
}

const FAST: Limits = Limits { per_minute: 600_000, burst: 1000, reserve_for_wakes: 10 };
const TOKEN: &str = "tk-us-0123456789abcdef";

/// A server that answers the n-th request with what `answer` says, raw; with none, it drops the connection.
struct Server {
    base: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, requests) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), requests.clone()));
            }
        });
        Self { base, seen }
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn account(&self) -> Arc<Account> {
        Arc::new(Account::new("test", FAST))
    }

    fn api(&self) -> Api {
        self.api_with(Fixed::bearer(TOKEN).unwrap(), Plain)
    }

    fn api_with(&self, credential: impl Credential + 'static, quirks: impl Quirks + 'static) -> Api {
        api_at(&self.base, self.account(), Arc::new(credential), Arc::new(quirks))
    }
}

fn api_at(
    base: &str,
    account: Arc<Account>,
    credential: Arc<dyn Credential>,
    quirks: Arc<dyn Quirks>,
) -> Api {
    install_crypto();
    let mut api = Api::new(base, account, credential, quirks, OPERATION_TIMEOUT).unwrap();
    api.pace = Pace { repeat: Duration::from_millis(1), pause: Duration::from_millis(20) };
    api
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(usize, &str) -> Option<String>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
        let length = text
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap_or_default().parse::<usize>().unwrap());
        while read.len() < head + length {
            stream.read_buf(&mut read).await.unwrap();
        }
        let request = String::from_utf8(read.drain(..head + length).collect()).unwrap();
        let n = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        match answer(n, &request) {
            Some(raw) if raw == "silence" => std::future::pending().await,
            Some(raw) if raw.ends_with("cut off") => return stream.write_all(raw.as_bytes()).await.unwrap(),
            Some(raw) => stream.write_all(raw.as_bytes()).await.unwrap(),
            None => return,
        }
    }
}

fn answer(status: u16, headers: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

fn cut_off() -> Option<String> {
    Some("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"apps\":[ cut off".into())
}

fn get() -> Call<'static> {
    Call::get("/v1/apps", Priority::List)
}

fn post() -> Call<'static> {
    Call::post("/v1/apps/shop/scale", Priority::Wake).json(&json!({"containers": []}))
}

#[tokio::test]
async fn a_call_says_what_it_wants_and_who_asks() {
    let server = Server::start(|_, _| answer(202, "location: /op\r\n", "{}")).await;
    let accept = HeaderValue::from_static("application/vnd.heroku+json; version=3");
    let api = server.api().header(header::ACCEPT, accept);
    let reply = api.call(post()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("location")), (202, Some("/op")));
    api.call(get()).await.unwrap();
    let seen = server.seen.lock().unwrap().clone();
    assert!(seen[0].starts_with("POST /v1/apps/shop/scale HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with("\r\n\r\n{\"containers\":[]}"), "{}", seen[0]);
    for line in [
        "accept: application/vnd.heroku+json; version=3",
        "content-type: application/json",
        &format!("authorization: Bearer {TOKEN}"),
        "user-agent: loir/",
    ] {
        assert!(seen[0].contains(line), "{line} in {}", seen[0]);
    }
    assert!(!seen[1].contains("content-type"), "only with a body: {}", seen[1]);
}

#[tokio::test]
async fn a_get_is_repeated_after_an_error_of_the_server_and_when_it_breaks_off() {
    let server = Server::start(|n, _| match n {
        0 => answer(500, "", ""),
        1 => None,
        2 => cut_off(),
        _ => answer(206, "", "[]"),
    })
    .await;
    let api = server.api();
    assert_eq!(api.call(get()).await.unwrap().status, StatusCode::PARTIAL_CONTENT);
    assert_eq!((server.seen(), api.account().calls()), (4, 4));
}

#[tokio::test]
async fn a_get_is_given_up_after_four_tries() {
    let server = Server::start(|_, _| answer(503, "", r#"{"error":"maintenance"}"#)).await;
    let error = server.api().call(get()).await.unwrap_err();
    assert!(matches!(&error, ApiError::Unavailable(_)) && error.is_down());
    assert!(error.to_string().ends_with("answered 503: maintenance"), "{error}");
    assert_eq!(server.seen(), 4);
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_not_repeated() {
    for broken in [None, cut_off(), answer(500, "", ""), answer(503, "", ""), answer(501, "", "")] {
        let server = Server::start(move |_, _| broken.clone()).await;
        let error = server.api().call(post()).await.unwrap_err();
        assert!(matches!(error, ApiError::Ambiguous(_)) && error.is_down(), "{error:?}");
        assert_eq!(server.seen(), 1);
    }
}

#[tokio::test]
async fn a_post_that_says_it_may_is_repeated() {
    let server = Server::start(|n, _| if n == 0 { None } else { answer(200, "", "") }).await;
    server.api().call(post().repeatable()).await.unwrap();
    assert_eq!(server.seen(), 2);
}

#[tokio::test]
async fn a_post_that_found_nobody_listening_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let account = Arc::new(Account::new("test", FAST));
    let api = api_at(&base, account, Arc::new(Fixed::bearer(TOKEN).unwrap()), Arc::new(Plain));
    let error = api.call(post()).await.unwrap_err();
    assert!(matches!(error, ApiError::Unavailable(_)), "{error:?}");
    assert_eq!(api.account().calls(), u64::from(TRIES));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_waited_for_only_so_long() {
    let server = Server::start(|_, _| Some("silence".into())).await;
    install_crypto();
    let credential = Arc::new(Fixed::bearer(TOKEN).unwrap());
    let timeout = Duration::from_millis(100);
    let mut api = Api::new(&server.base, server.account(), credential, Arc::new(Plain), timeout).unwrap();
    api.pace.repeat = Duration::from_millis(1);
    assert!(matches!(api.call(post()).await, Err(ApiError::Ambiguous(_))));
    assert!(matches!(api.call(get()).await, Err(ApiError::Unavailable(_))));
}

#[tokio::test]
async fn a_provider_that_is_called_too_often_is_left_in_peace_and_asked_again() {
    for (headers, pause) in [("", Duration::from_millis(20)), ("retry-after: 1\r\n", Duration::from_secs(1))]
    {
        let server = Server::start(move |n, _| match n {
            0 => answer(429, headers, "Retry later"),
            _ => answer(200, "", ""),
        })
        .await;
        let api = server.api();
        let start = Instant::now();
        let told = AtomicUsize::new(0);
        let tell = |_| {
            told.fetch_add(1, Ordering::Relaxed);
        };
        api.call(post().waiting(&Told(tell))).await.unwrap();
        assert!(start.elapsed() >= pause && told.into_inner() > 0);
        assert_eq!(server.seen(), 2, "a POST too: it was not carried out");
    }
}

#[tokio::test]
async fn a_call_that_is_throttled_again_and_again_gives_up() {
    let server = Server::start(|_, _| answer(429, "retry-after: 0\r\n", "")).await;
    let error = server.api().call(get()).await.unwrap_err();
    assert!(matches!(error, ApiError::Throttled { .. }) && error.is_down(), "{error:?}");
    assert_eq!(server.seen(), 5);
}

/// As Clever Cloud and Heroku speak.
struct Odd;

impl Quirks for Odd {
    fn throttled(&self, reply: &Reply) -> bool {
        reply.status == StatusCode::FORBIDDEN && code(reply).as_deref() == Some("403")
    }

    fn misconfigured(&self, reply: &Reply) -> Option<String> {
        (code(reply).as_deref() == Some("1504")).then(|| format!("the token is refused: {}", message(reply)))
    }

    fn remaining(&self, headers: &HeaderMap) -> Option<u32> {
        headers.get("ratelimit-remaining")?.to_str().ok()?.parse().ok()
    }

    fn pool_reserve(&self) -> u32 {
        500
    }
}

#[tokio::test]
async fn a_provider_may_have_its_own_words_for_too_often_and_for_a_bad_token() {
    let server = Server::start(|n, request| match n {
        0 => answer(403, "", r#"{"id":403,"message":"slow down","type":"error"}"#),
        1 => answer(403, "", r#"{"id":4711,"message":"not yours","type":"error"}"#),
        _ => answer(403, "", &json!({"id": 1504, "message": request}).to_string()),
    })
    .await;
    let api = server.api_with(Fixed::bearer(TOKEN).unwrap(), Odd);
    let error = api.call(post()).await.unwrap_err();
    assert_eq!(error.to_string(), "the provider answered 403 (4711): not yours");
    assert_eq!((error.status(), error.is_down()), (Some(StatusCode::FORBIDDEN), false));
    let error = api.call(get()).await.unwrap_err();
    assert!(matches!(error, ApiError::Misconfigured(_)), "{error:?}");
    assert!(!error.to_string().contains(TOKEN), "{error}");
    assert_eq!(api.account().state(), AccountState::Misconfigured(error.to_string()));
}

#[tokio::test]
async fn little_left_in_the_providers_pool_is_kept_for_wakes() {
    let server = Server::start(|_, _| answer(200, "RateLimit-Remaining: 3\r\n", "")).await;
    let limits = Limits { per_minute: 60, burst: 20, reserve_for_wakes: 2 };
    let account = Arc::new(Account::new("heroku", limits));
    let api = api_at(&server.base, account, Arc::new(Fixed::bearer(TOKEN).unwrap()), Arc::new(Odd));
    api.call(get()).await.unwrap();
    assert!(api.account().budget().estimate(Priority::List) > Duration::from_secs(400));
    api.call(post()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_json_is_said_without_showing_it() {
    let server = Server::start(|n, _| match n {
        0 => answer(200, "", "{\"apps\":[{\"secret\":\"hunter2"),
        1 => answer(200, "", "{\"apps\":\"hunter2\"}"),
        _ => answer(200, "", "<!DOCTYPE html><html><style>b{}</style>\n<b>hunter2</b>"),
    })
    .await;
    let api = server.api();
    #[derive(Debug, serde::Deserialize)]
    struct Page {
        #[expect(dead_code, reason = "never read")]
        apps: Vec<serde_json::Value>,
    }
    for what in
        ["JSON that ends too early, line 1", "unexpected JSON, line 1", "HTML in place of JSON, line 1"]
    {
        let error = api.call(get()).await.unwrap().json::<Page>().unwrap_err();
        assert!(matches!(error, ApiError::Malformed(_)));
        assert!(error.to_string().contains(what) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let server = Server::start(|_, _| answer(200, "", &"x".repeat(BODY_CAP + 1))).await;
    assert!(matches!(server.api().call(get()).await, Err(ApiError::Malformed(_))));
    assert!(matches!(server.api().call(post()).await, Err(ApiError::Ambiguous(_))));
    assert_eq!(server.seen(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|_, _| answer(302, "location: /elsewhere\r\n", "")).await;
    let error = server.api().call(get()).await.unwrap_err();
    assert_eq!((error.status(), server.seen()), (Some(StatusCode::FOUND), 1));
}

/// Tokens `token-number-1`, `-2` ... after some trouble, if there is any.
#[derive(Clone, Default)]
struct Mint {
    fetched: Arc<AtomicUsize>,
    trouble: Arc<Mutex<Option<ApiError>>>,
    life: Duration,
}

#[async_trait]
impl Fetch for Mint {
    async fn fetch(&self) -> Result<Token, ApiError> {
        let n = self.fetched.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        match self.trouble.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Token::bearer(&format!("token-number-{n}"), SystemTime::now() + self.life),
        }
    }
}

impl Mint {
    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn twenty_callers_with_a_rejected_token_cause_one_renewal() {
    let server = Server::start(|_, request| match request.contains("token-number-2") {
        true => answer(200, "", ""),
        false => answer(401, "", r#"{"error":"expired"}"#),
    })
    .await;
    let mint = Mint { life: HOUR, ..Mint::default() };
    let api = server.api_with(Renewed::new(mint.clone()), Plain);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.call(post()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(mint.fetched(), 2, "the first, and one renewal");
    assert_eq!(api.account().state(), AccountState::Fine);
}

#[tokio::test]
async fn a_token_that_is_rejected_even_when_new_is_renewed_only_once() {
    let server = Server::start(|_, _| answer(401, "", r#"{"error":"no"}"#)).await;
    let mint = Mint { life: HOUR, ..Mint::default() };
    let api = server.api_with(Renewed::new(mint.clone()), Plain);
    assert!(matches!(api.call(get()).await, Err(ApiError::Misconfigured(_))));
    assert_eq!((mint.fetched(), server.seen()), (2, 2));
}

#[tokio::test]
async fn a_misconfigured_account_makes_no_call_until_it_is_forgiven() {
    let server = Server::start(|n, _| match n {
        0 => answer(401, "", r#"{"id":"unauthorized","message":"Invalid credentials provided."}"#),
        _ => answer(200, "", ""),
    })
    .await;
    let limits = Limits { per_minute: 1, burst: 2, reserve_for_wakes: 1 };
    let account = Arc::new(Account::new("heroku", limits));
    let api = api_at(&server.base, account, Arc::new(Fixed::bearer(TOKEN).unwrap()), Arc::new(Plain));
    let waits = AtomicUsize::new(0);
    let tell = |_| {
        waits.fetch_add(1, Ordering::Relaxed);
    };
    // The second has to wait for minutes for its turn, and hears of it.
    let told = Told(tell);
    let (first, second) = tokio::join!(api.call(get()), api.call(get().waiting(&told)));
    let words = "the provider answered 401 (unauthorized): Invalid credentials provided.";
    for result in [first, second, api.call(post()).await] {
        let error = result.unwrap_err();
        assert!(matches!(&error, ApiError::Misconfigured(reason) if reason == words), "{error:?}");
    }
    assert_eq!((server.seen(), api.account().calls(), waits.into_inner()), (1, 1, 1));
    api.account().forgive();
    api.call(post()).await.unwrap();
}

#[tokio::test]
async fn a_token_that_cannot_be_fetched_makes_no_call_ambiguous() {
    let server = Server::start(|_, _| answer(200, "", "")).await;
    let mint = Mint { life: HOUR, ..Mint::default() };
    let api = server.api_with(Renewed::new(mint.clone()), Plain);
    *mint.trouble.lock().unwrap() = Some(ApiError::Ambiguous("reset".into()));
    let calls = [(); 5].map(|()| {
        let api = api.clone();
        tokio::spawn(async move { api.call(post()).await })
    });
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(ApiError::Unavailable(_))));
    }
    assert_eq!(mint.fetched(), 1, "all share the one failure");
    *mint.trouble.lock().unwrap() = Some(ApiError::Misconfigured("no such token".into()));
    assert!(matches!(api.call(post()).await, Err(ApiError::Misconfigured(_))));
    assert!(matches!(api.account().state(), AccountState::Misconfigured(_)));
    assert_eq!(server.seen(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_ahead_of_time_and_the_old_one_used_if_that_fails() {
    let url = Url::parse("https://api.osc-fr1.scalingo.com/v1/apps").unwrap();
    let mint = Mint { life: HOUR, ..Mint::default() };
    let credential = Renewed::new(mint.clone());
    let value = async || {
        Ok::<_, ApiError>(credential.authorize(&Method::GET, &url).await?.to_str().unwrap().to_owned())
    };
    let minutes = |n: u64| tokio::time::sleep(Duration::from_secs(60 * n));
    assert_eq!(value().await.unwrap(), "Bearer token-number-1");
    minutes(54).await;
    assert_eq!((value().await.unwrap().as_str(), mint.fetched()), ("Bearer token-number-1", 1));
    minutes(2).await;
    *mint.trouble.lock().unwrap() = Some(ApiError::Unavailable("503".into()));
    for _ in 0..3 {
        assert_eq!(value().await.unwrap(), "Bearer token-number-1", "nobody waits for the renewal");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    value().await.unwrap();
    minutes(1).await;
    assert_eq!(mint.fetched(), 2, "the next try is not at once");
    minutes(4).await;
    assert!(matches!(value().await, Err(ApiError::Unavailable(_))), "it has ended");
    *mint.trouble.lock().unwrap() = None;
    assert_eq!(value().await.unwrap(), "Bearer token-number-4");
    minutes(56).await;
    assert_eq!(value().await.unwrap(), "Bearer token-number-4");
    minutes(1).await;
    assert_eq!(value().await.unwrap(), "Bearer token-number-5");
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    // A server that repeats all it was told.
    let server = Server::start(|n, request| {
        let body = json!({"message": request, "id": TOKEN}).to_string();
        answer([422, 500, 401][n % 3], "", &body)
    })
    .await;
    let basic = Fixed::basic("", TOKEN).unwrap();
    let oauth = oauth1::Oauth1 {
        consumer_key: "consumer-key".into(),
        consumer_secret: TOKEN.into(),
        token: "token-of-oauth".into(),
        secret: "query-secret".into(),
        signature: oauth1::Signature::Plaintext,
    };
    let mut shown = format!("{basic:?} {oauth:?} {:?}", Fixed::bearer(TOKEN).unwrap());
    let credentials: [Arc<dyn Credential>; 3] =
        [Arc::new(basic), Arc::new(oauth), Arc::new(Fixed::bearer(TOKEN).unwrap())];
    for credential in credentials {
        let api = api_at(&server.base, server.account(), credential, Arc::new(Plain));
        for _ in 0..3 {
            let call = Call::post("/v1/apps?key=hunter2", Priority::Wake).json(&json!("hunter2"));
            shown += &format!("{call:?}");
            let error = api.call(call).await.unwrap_err();
            shown += &format!("{error} {error:?} {api:?} {:?}", api.account());
        }
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let api = api_at(&base, server.account(), Arc::new(Fixed::bearer(TOKEN).unwrap()), Arc::new(Plain));
    let error = api.call(Call::get("/v1/apps?key=hunter2", Priority::List)).await.unwrap_err();
    shown += &format!("{error} {error:?}");
    let encoded = BASE64_STANDARD.encode(format!(":{TOKEN}"));
    for secret in [TOKEN, "query-secret", &encoded, "key=hunter2\""] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn calls_stay_on_the_bases_host() {
    let account = Arc::new(Account::new("test", FAST));
    let base = "https://api.osc-fr1.scalingo.com/v1/";
    let api = api_at(base, account, Arc::new(Fixed::bearer(TOKEN).unwrap()), Arc::new(Plain));
    let url = |path: &str| api.url(path).map(|url| url.to_string()).map_err(|error| error.to_string());
    let operation = "https://api.osc-fr1.scalingo.com/v1/apps/shop/operations/1?a=../b";
    assert_eq!(url("/apps/shop/operations/1?a=../b").unwrap(), operation);
    assert_eq!(url(operation).unwrap(), operation);
    assert_eq!(
        url(&format!("/apps/{}", segment("a/../b?c"))).unwrap(),
        "https://api.osc-fr1.scalingo.com/v1/apps/a%2F..%2Fb%3Fc"
    );
    for path in [
        "https://evil.example/v1/apps",
        "http://api.osc-fr1.scalingo.com/v1/apps",
        "https://api.osc-fr1.scalingo.com:444/v1/apps",
        "https://me:hunter2@api.osc-fr1.scalingo.com/v1/apps",
        "@evil.example/",
        "apps",
        "",
        "/apps/../../v2/users",
        "/apps/%2E./users",
    ] {
        let error = url(path).unwrap_err();
        assert!(error.contains("a path") && !error.contains("hunter2"), "{path}: {error}");
    }
    assert!(url("//evil.example/apps").unwrap().starts_with(base));
    for base in ["ftp://host/", "host", "https://me:hunter2@host/", "https://host/?key=hunter2", ""] {
        let error = api.at(base).unwrap_err();
        assert!(matches!(error, ApiError::Misconfigured(_)) && !error.to_string().contains("hunter2"));
    }
}

fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Reply {
    let headers =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn retry_after_is_a_number_or_a_date_by_the_providers_own_clock() {
    let after = |headers: &[_]| reply(429, headers, "").retry_after();
    assert_eq!(after(&[("retry-after", "120")]), Some(Duration::from_secs(120)));
    let then = ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT");
    assert_eq!(after(&[then, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::from_secs(60)));
    assert_eq!(after(&[then]), Some(Duration::ZERO), "long ago");
    for odd in ["", "-1", "soon", "1e9"] {
        assert_eq!(after(&[("retry-after", odd)]), None, "{odd}");
    }
    assert_eq!(after(&[]), None);
}

#[test]
fn the_providers_words_are_found_in_every_shape_of_error() {
    for (body, words) in [
        (r#"{"error":"no change in containers formation"}"#, "no change in containers formation"),
        (r#"{"errors":{"app":["is booting"],"size":["a","b"]}}"#, "app is booting; size a, b"),
        (r#"{"resource":"app","error":"not found"}"#, "app not found"),
        (r#"{"id":2001,"message":"Not connected","type":"error"}"#, "Not connected"),
        (r#"{"id":"rate_limit","message":"too\nmany","url":"https://x"}"#, "too\nmany"),
        (r#"{"errors":[1],"error":{"x":1}}"#, ""),
        ("[1]", ""),
        ("Retry later", "Retry later"),
        ("<html><head><STYLE>a{b:c}</STYLE></head><p>Not\n found</p> 1 < 2 <br", "Not found 1 < 2"),
    ] {
        assert_eq!(message(&reply(400, &[], body)), words, "{body}");
    }
    assert_eq!(code(&reply(403, &[], r#"{"id":1504}"#)).as_deref(), Some("1504"));
    assert_eq!(code(&reply(403, &[], r#"{"code":"a.b","id":7}"#)).as_deref(), Some("a.b"));
}

#[test]
fn an_excerpt_is_one_short_line_that_controls_nothing() {
    let text = format!("a\u{1b}[31m\tb\u{0}\u{202e}\r\nc {}", "é".repeat(500));
    let excerpt = reply(500, &[], &text).text_excerpt();
    assert!(excerpt.starts_with("a[31m b c éé") && excerpt.ends_with('…'), "{excerpt}");
    assert_eq!(excerpt.chars().count(), 200);
    for odd in ["<", "<style", "<style></", "<script>é", "</é", "<styé"] {
        reply(500, &[], odd).text_excerpt();
    }
}
