//! What systemd is told: the real program, and a socket that listens as systemd does.

use std::{collections::BTreeMap, fs, os::unix::net::UnixDatagram, path::Path};

use nix::sys::signal::Signal;

use crate::{
    eventually,
    support::{
        App, gateway,
        program::{Program, free_address},
    },
};

/// Stands where systemd does.
struct Manager {
    socket: UnixDatagram,
    said: Vec<String>,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, said: Vec::new() }
    }

    /// The next message that begins with `first`, as a map. Others are passed over.
    async fn hears(&mut self, first: &str) -> BTreeMap<String, String> {
        let mut found = None;
        eventually!(
            {
                let mut bytes = [0; 4096];
                while let Ok(length) = self.socket.recv(&mut bytes) {
                    self.said.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
                    if self.said.last().unwrap().starts_with(first) {
                        found = self.said.last().cloned();
                        break;
                    }
                }
                found.is_some()
            },
            "{first} after {:?}",
            self.said
        );
        let pairs = found.unwrap();
        pairs.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }
}

#[tokio::test]
async fn systemd_is_told_when_we_are_ready_reload_and_end_and_that_we_are_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut systemd = Manager::at(&path);
    let (address, config) = (free_address(), folder.path().join("loir.yaml"));
    let setup = gateway([App::named("hello")]);
    fs::write(&config, setup.yaml(folder.path(), address)).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut loir = Program::run_with(&config, address, &env).await;
    assert_eq!(systemd.hears("READY=1").await["STATUS"], format!("listening on {address}"));
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1").await;
    }

    loir.reload(&setup);
    let first = when(&systemd.hears("RELOADING=1").await);
    assert_eq!(systemd.hears("READY=1").await["STATUS"], "the configuration is reloaded");

    fs::write(&config, "nonsense: true").unwrap();
    loir.signal(Signal::SIGHUP);
    assert!(when(&systemd.hears("RELOADING=1").await) > first);
    assert!(systemd.hears("READY=1").await["STATUS"].contains("the old one stays"), "a reload always ends");

    let app = loir.wake("hello").await;
    let environment = fs::read(format!("/proc/{app}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"), "no app speaks for us");
    loir.signal(Signal::SIGTERM);
    systemd.hears("STOPPING=1").await;
    assert!(loir.ended().await.success());
}

/// In microseconds of the machine's own clock: by this systemd knows an answer from an old message.
fn when(reloading: &BTreeMap<String, String>) -> u64 {
    reloading["MONOTONIC_USEC"].parse().unwrap()
}
