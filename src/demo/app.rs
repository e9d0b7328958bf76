//! `loir demo-app`: an app that boots slowly, and says so.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::fd::IntoRawFd,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use clap::Parser;
use http::Response;
use pingora_core::{
    apps::http_app::ServeHttp,
    protocols::http::ServerSession,
    server::Fds,
    services::{Service as _, listening::Service},
};

/// A small web app for trying Loir.
#[derive(Parser)]
#[command(name = "loir demo-app")]
struct Options {
    /// What it calls itself.
    #[arg(long)]
    name: String,
    /// How many seconds it takes to boot.
    #[arg(long, default_value_t = 0.0)]
    boot: f64,
    /// If this file does not exist, make it and fail.
    #[arg(long)]
    fail_once: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, env = "PORT")]
    port: u16,
}

/// Runs the app until it is ended.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let name = std::iter::once("loir demo-app".to_owned());
    let options = match Options::try_parse_from(name.chain(arguments)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", options.name);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let boot = Duration::try_from_secs_f64(options.boot).unwrap_or_default();
        tokio::time::sleep(boot).await;
        if let Some(marker) = options.fail_once.as_ref().filter(|marker| !marker.exists()) {
            std::fs::write(marker, "once is enough\n")?;
            return Err(std::io::Error::other(
                "the database was not there yet (this failure is part of the demo)",
            ));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let mut fds = Fds::new();
        fds.add(address.clone(), listener.into_raw_fd());
        let page = Page { name: options.name.clone(), boot };
        let mut service =
            Service::new("demo".into(), pingora_core::apps::http_app::HttpServer::new_app(page));
        service.add_tcp(&address);
        let (_never, watch) = tokio::sync::watch::channel(false);
        service.start_service(Some(Arc::new(parking_lot::Mutex::new(fds))), watch, 1).await;
        Ok(())
    })
}

struct Page {
    name: String,
    boot: Duration,
}

#[async_trait]
impl ServeHttp for Page {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let seconds = self.boot.as_secs_f64();
        let body = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{0}</title><style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.6 system-ui;max-width:34rem;\
             margin:15vh auto;padding:0 1.5rem}}h1{{font-size:2rem}}</style><h1>{0} is awake</h1>\
             <p>This is the app itself: a process of its own that took {seconds} s to boot. Leave it alone for 30 s and \
             it goes back to sleep; watch the terminal.</p><p>You asked for <code>{1}</code>.</p>",
            escape(&self.name),
            escape(session.req_header().uri.path()),
        );
        let mut response = Response::new(body.into_bytes());
        let html = http::HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, html);
        let length = http::HeaderValue::from(response.body().len());
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
        response
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
