//! Ports for apps, one app each.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{self, Instant};

use crate::provider::ProviderError;

/// Below the range from which Linux takes the local ports of outgoing connections (32768 and up by default), so that
/// no connection of somebody takes the port between our look and the app's `bind`.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// How long a fixed port is waited for: what used it last may be about to end, at worst by the keeper of a gateway
/// that was killed.
const PATIENCE: Duration = Duration::from_secs(super::keeper::GRACE.as_secs() + 1);

/// Ports of children that start, run or end. One list for all entries of this process, since a machine has each port
/// only once. Needed because an app binds its port long after it was chosen.
static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// A port that no other child is given as long as this lives.
pub(super) struct Port(u16);

impl Port {
    /// One that nobody listens on now, and that is not in `avoid`. `None` if all are taken.
    pub fn free(avoid: &[u16]) -> Option<Self> {
        let count = RANGE.end - RANGE.start;
        // A random start, so that a port that was just given out is not given out again at once.
        let first = fastrand::u16(..count);
        let mut given = given();
        (0..count)
            .map(|step| RANGE.start + (first + step) % count)
            .find(|port| !given.contains(port) && !avoid.contains(port) && !in_use(*port))
            .map(|port| Self::give(&mut given, port))
    }

    /// This very one. Refused if somebody else has it: our probe would take a stranger's pages for the app's.
    pub async fn fixed(port: u16) -> Result<Self, ProviderError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::fixed_now(port) {
                Err(_) if Instant::now() < deadline => time::sleep(Duration::from_millis(20)).await,
                result => return result.map_err(ProviderError::Refused),
            }
        }
    }

    fn fixed_now(port: u16) -> Result<Self, String> {
        let mut given = given();
        if given.contains(&port) {
            return Err(format!("port {port} is in use by another app"));
        }
        if in_use(port) {
            return Err(format!("port {port} is in use by another program"));
        }
        Ok(Self::give(&mut given, port))
    }

    /// That of a child which runs already.
    pub fn adopted(port: u16) -> Self {
        Self::give(&mut given(), port)
    }

    fn give(given: &mut Vec<u16>, port: u16) -> Self {
        given.push(port);
        Self(port)
    }

    pub fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut given = given();
        if let Some(index) = given.iter().position(|&port| port == self.0) {
            given.swap_remove(index);
        }
    }
}

fn given() -> MutexGuard<'static, Vec<u16>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel says so. Any other refusal (a port below 1024) is for the app itself to run into, and to explain.
fn in_use(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice_as_long_as_it_is_needed() {
        let ports: Vec<_> = (0..2_000).map(|_| Port::free(&[]).unwrap()).collect();
        let numbers: HashSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        let one = ports[0].number();
        drop(ports);
        assert!(!given().contains(&one), "it may be given again");
    }

    #[test]
    fn a_fixed_port_is_refused_as_long_as_somebody_has_it() {
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let refused = || Port::fixed_now(port).err();
        assert_eq!(refused(), Some(format!("port {port} is in use by another program")));
        drop(stranger);
        let ours = Port::fixed_now(port).unwrap();
        assert_eq!(refused(), Some(format!("port {port} is in use by another app")));
        drop(ours);
        assert_eq!(refused(), None);
    }
}
