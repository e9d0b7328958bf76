//! `loir healthcheck`: for a container's health check, where there is no curl.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use crate::proxy::LIVE;

/// Asks the gateway at `address` whether it lives. Success means that it accepts connections and answers HTTP.
pub fn healthcheck(address: SocketAddr) -> ExitCode {
    match ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("loir: {address} is not healthy: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn ask(address: SocketAddr) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    // One that listens everywhere answers here.
    let address = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
        ip if ip.is_unspecified() => SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, address.port())),
        _ => address,
    };
    pingora_core::tls::install_default_crypto_provider();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let client = client.map_err(|error| error.to_string())?;
        let answer =
            client.get(format!("http://{address}{LIVE}")).send().await.map_err(|error| error.to_string())?;
        answer.error_for_status().map(|_| ()).map_err(|error| error.to_string())
    })
}
