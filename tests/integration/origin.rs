//! Apps at their own host: names, certificates and addresses.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use crate::{
    simulators::{Answer, Fault, Platform, Scalingo},
    support::{
        paas::gateway_for,
        program::{Program, free_address},
    },
};

/// An HTTPS server whose certificate is for one name. Notes the SNI and the `Host` of each request.
struct Https {
    port: u16,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Https {
    async fn start(name: &str, issuer: &Issuer<'_, KeyPair>) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private.into())
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let sni = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                    let mut head = vec![0; 8192];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
                    noted.lock().unwrap().push((sni, host.to_owned()));
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { port, seen }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_reached_by_its_own_name_over_tls_and_its_certificate_is_verified() {
    pingora_core::tls::install_default_crypto_provider();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let good = Https::start("shop.localhost", &issuer).await;
    let other = Https::start("somebody-else.localhost", &issuer).await;

    let platform = Scalingo::start().await;
    let app = |name: &str, port: u16| {
        serde_json::json!({
            "id": format!("id-{name}"), "name": name, "status": "running",
            "base_url": format!("https://{name}.localhost:{port}"),
        })
    };
    let apps = serde_json::json!({ "apps": [app("shop", good.port), app("forged", other.port)] });
    platform.fault(Fault::on("GET", "/v1/apps").always().answers(Answer::json(200, &apps)));
    let setup = gateway_for([platform.entry("cloud")]);
    let folder = tempfile::tempdir().unwrap();
    let (config, roots, address) =
        (folder.path().join("loir.yaml"), folder.path().join("roots.pem"), free_address());
    fs::write(&config, setup.yaml(folder.path(), address)).unwrap();
    fs::write(&roots, root.pem()).unwrap();
    let loir = Program::run_with(&config, address, &[("SSL_CERT_FILE", roots.to_str().unwrap())]).await;

    let answer = loir.get("shop", "/").send().await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}\n{}", answer.text().await, loir.log());
    let (sni, host) = good.seen.lock().unwrap()[0].clone();
    assert_eq!((sni.as_str(), host), ("shop.localhost", format!("shop.localhost:{}", good.port)));
    let answer = loir.get("forged", "/").send().await.unwrap();
    assert_eq!(answer.status(), 502, "a certificate for another name");
    assert!(other.seen.lock().unwrap().is_empty(), "nothing was sent to it");
}
