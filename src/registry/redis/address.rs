//! `Address`: where the Redis is, or who knows where it is.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    TlsCertificates, cmd,
};

use super::config::server;

/// The port of a Sentinel, if the address names none.
const SENTINEL_PORT: u16 = 26379;

/// Where the Redis is.
#[derive(Clone)]
pub struct Address {
    /// The server; with Sentinel, all of it but the host and port.
    server: ConnectionInfo,
    sentinels: Option<Sentinels>,
    certificates: Option<TlsCertificates>,
}

/// Who knows which server is the primary.
#[derive(Clone)]
struct Sentinels {
    nodes: Vec<(String, u16)>,
    primary: String,
}

impl Address {
    /// Reads `redis://`, `rediss://`, `redis+sentinel://` and `rediss+sentinel://`. The error never repeats the text.
    pub fn parse(url: &str, certificates: Option<TlsCertificates>) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err("it does not begin with redis://".into());
        };
        let (server, sentinels) = match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" => (self::server(url)?, None),
            "redis+sentinel" | "rediss+sentinel" => {
                let scheme = scheme.trim_end_matches("+sentinel");
                let (userinfo, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
                let (hosts, path) = rest.split_once('/').ok_or("the name of the primary is missing")?;
                let (primary, db) = path.split_once('/').unwrap_or((path, "0"));
                if primary.is_empty() {
                    return Err("the name of the primary is missing".into());
                }
                let nodes = hosts.split(',').map(node).collect::<Result<Vec<_>, _>>()?;
                let at = if userinfo.is_empty() { String::new() } else { format!("{userinfo}@") };
                let server = self::server(&format!("{scheme}://{at}localhost:6379/{db}"))?;
                (server, Some(Sentinels { nodes, primary: primary.to_owned() }))
            }
            _ => return Err("it does not begin with redis://, rediss:// or redis+sentinel://".into()),
        };
        Ok(Self { server, sentinels, certificates })
    }

    /// A client for the server that is the primary now.
    pub async fn client(&self, timeout: Duration) -> Result<Client, RedisError> {
        let mut server = self.server.clone();
        if let Some(sentinels) = &self.sentinels {
            let (host, port) = sentinels.primary(timeout).await?;
            let addr = match server.addr() {
                ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                    ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
                }
                _ => ConnectionAddr::Tcp(host, port),
            };
            server = server.set_addr(addr);
        }
        match (&self.certificates, server.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(server, certificates.clone())
            }
            _ => Client::open(server),
        }
    }
}

/// Where it is, without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sentinels {
            Some(sentinels) => {
                write!(f, "the primary {} of {} Sentinels", sentinels.primary, sentinels.nodes.len())
            }
            None => self.server.addr().fmt(f),
        }
    }
}

fn node(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| "a Sentinel's port is no number".to_owned())?),
        None => (text, SENTINEL_PORT),
    };
    if host.is_empty() { Err("a Sentinel has no host".into()) } else { Ok((host.to_owned(), port)) }
}

impl Sentinels {
    /// Asks one after the other.
    async fn primary(&self, timeout: Duration) -> Result<(String, u16), RedisError> {
        let mut last = None;
        for (host, port) in &self.nodes {
            match ask(host, *port, &self.primary, timeout).await {
                Ok(Some(primary)) => return Ok(primary),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        let unknown =
            || (redis::ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel knows this primary").into();
        Err(last.unwrap_or_else(unknown))
    }
}

async fn ask(
    host: &str,
    port: u16,
    primary: &str,
    timeout: Duration,
) -> Result<Option<(String, u16)>, RedisError> {
    let client = Client::open((host, port).into_connection_info()?)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    cmd("SENTINEL").arg("get-master-addr-by-name").arg(primary).query_async(&mut connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_understood() {
        for (url, shown) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://:secret@10.0.0.1:7000/3", "10.0.0.1:7000"),
            ("rediss://user:secret@cache.example.com", "cache.example.com:6379"),
            ("redis+sentinel://a:1,b:2/main", "the primary main of 2 Sentinels"),
            ("redis+sentinel://user:secret@a,b,c/main/3", "the primary main of 3 Sentinels"),
        ] {
            assert_eq!(
                Address::parse(url, None).map(|address| address.to_string()).as_deref(),
                Ok(shown),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "",
            "secret",
            "http://secret",
            "redis://:secret@h:port",
            "redis+sentinel://:secret@a:b/x",
            "redis+sentinel://secret",
        ] {
            let error = Address::parse(url, None).map(|_| ()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
