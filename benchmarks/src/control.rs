//! The control: the same Pingora proxy (versions, features, profile, threads, keep-alive pool, tries, timeouts of the
//! peer) without Loir in it. Two things can be added, so that their cost can be told from the cost of the rest.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderValue, header};
use pingora::{
    http::RequestHeader,
    prelude::{HttpPeer, Opt, Result, Server},
    protocols::l4::socket::SocketAddr as SocketAddress,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::configuration::ServerConf,
};

use crate::{Outcome, number};

struct Control {
    app: SocketAddr,
    /// Tell the app about the client, in the same fields as Loir.
    headers: bool,
    /// Bound the client's connection, as Loir does.
    limits: bool,
}

/// `serve control --port PORT --app PORT --threads N [--headers] [--limits]`
pub fn serve(options: &[&str]) -> Outcome<()> {
    let (port, app) = (number(options, "--port", 0)?, number(options, "--app", 0)?);
    let threads = usize::try_from(number(options, "--threads", 1)?)?;
    // As `loir::server` sets it; all else is Pingora's default in both.
    let conf = ServerConf { threads, max_retries: 2, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None::<Opt>, conf);
    server.bootstrap();
    let control = Control {
        app: SocketAddr::from(([127, 0, 0, 1], u16::try_from(app)?)),
        headers: options.contains(&"--headers"),
        limits: options.contains(&"--limits"),
    };
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), control);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever()
}

#[async_trait]
impl ProxyHttp for Control {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(&self, session: &mut Session, (): &mut ()) -> Result<()> {
        if self.limits {
            session.set_keepalive(Some(60));
            session.set_read_timeout(Some(Duration::from_secs(60)));
            session.set_write_timeout(Some(Duration::from_secs(60)));
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.app, false, String::new());
        // Loir's defaults.
        peer.options.connection_timeout = Some(Duration::from_secs(5));
        peer.options.total_connection_timeout = Some(Duration::from_secs(5));
        peer.options.read_timeout = Some(Duration::from_secs(60));
        peer.options.write_timeout = Some(Duration::from_secs(60));
        peer.options.idle_timeout = Some(Duration::from_secs(4));
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        if self.headers { tell(session, request) } else { Ok(()) }
    }
}

/// The fields that Loir sets, without a thought about whom to believe.
fn tell(session: &Session, request: &mut RequestHeader) -> Result<()> {
    let inet = |address: Option<&SocketAddress>| address.and_then(|address| address.as_inet()).copied();
    let client = inet(session.client_addr()).map(|address| address.ip().to_string()).unwrap_or_default();
    let port = inet(session.server_addr()).map_or(80, |address| address.port());
    let host = request.headers.get(header::HOST).cloned().unwrap_or(HeaderValue::from_static(""));
    let id = format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(..));
    let forwarded = format!("for={client};proto=http;host=\"{}\"", host.to_str().unwrap_or_default());
    request.insert_header("Forwarded", forwarded)?;
    request.insert_header("X-Forwarded-For", client.as_str())?;
    request.insert_header("X-Real-IP", client)?;
    request.insert_header("X-Forwarded-Proto", HeaderValue::from_static("http"))?;
    request.insert_header("X-Forwarded-Host", host)?;
    request.insert_header("X-Forwarded-Port", HeaderValue::from(port))?;
    request.insert_header("traceparent", format!("00-{id}-{:016x}-01", fastrand::u64(1..)))?;
    request.insert_header("X-Request-Id", id)?;
    request.insert_header(header::VIA, HeaderValue::from_static("1.1 control-00000000"))
}
