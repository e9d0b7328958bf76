//! How often a client may be wrong. Memory is bounded: whoever has many addresses only makes us forget the oldest.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Millis;

/// So many wrong tokens in [`WINDOW`] are an accident.
const ALLOWED: u32 = 10;

/// From the first wrong token of a row until it is forgotten.
const WINDOW: Duration = Duration::from_secs(60);

/// So many clients are remembered.
const CLIENTS: usize = 4096;

#[derive(Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, Row>>);

/// Wrong tokens of one client.
#[derive(Clone, Copy)]
struct Row {
    began: Millis,
    failed: u32,
}

impl Row {
    fn ends(self) -> Millis {
        self.began.after(WINDOW)
    }
}

impl Attempts {
    /// How long this client is not heard; `None` if it is.
    pub fn wait(&self, client: IpAddr, now: Millis) -> Option<Duration> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.get(&network(client)).filter(|row| row.failed >= ALLOWED && now < row.ends())?;
        Some(row.ends().since(now))
    }

    /// This client was wrong.
    pub fn failed(&self, client: IpAddr, now: Millis) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let client = network(client);
        if rows.len() >= CLIENTS && !rows.contains_key(&client) {
            rows.retain(|_, row| now < row.ends());
            // All of them are new: the oldest goes.
            if rows.len() >= CLIENTS
                && let Some(oldest) = rows.iter().min_by_key(|(_, row)| row.began).map(|(client, _)| *client)
            {
                rows.remove(&oldest);
            }
        }
        let row = rows.entry(client).or_insert(Row { began: now, failed: 0 });
        if now >= row.ends() {
            *row = Row { began: now, failed: 0 };
        }
        row.failed += 1;
    }
}

/// An IPv6 client is given a whole network of at least this size.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_a_minute_are_heard_and_the_eleventh_waits_for_the_rest_of_it() {
        let (attempts, client) = (Attempts::default(), "192.0.2.1".parse().unwrap());
        for second in 0..ALLOWED {
            let now = Millis(u64::from(second) * 1000);
            assert_eq!(attempts.wait(client, now), None);
            attempts.failed(client, now);
        }
        assert_eq!(attempts.wait(client, Millis(20_000)), Some(Duration::from_secs(40)));
        assert_eq!(
            attempts.wait("::ffff:192.0.2.1".parse().unwrap(), Millis(59_999)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(attempts.wait(client, Millis(60_000)), None);
        attempts.failed(client, Millis(60_000));
        assert_eq!(attempts.wait(client, Millis(60_001)), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let attempts = Attempts::default();
        for host in 0..ALLOWED {
            attempts.failed(format!("2001:db8::{host:x}").parse().unwrap(), Millis(0));
        }
        assert!(attempts.wait("2001:db8::ffff".parse().unwrap(), Millis(1)).is_some());
        assert!(attempts.wait("2001:db8:0:1::1".parse().unwrap(), Millis(1)).is_none());
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for() {
        let attempts = Attempts::default();
        for client in 0..CLIENTS + 100 {
            attempts
                .failed(IpAddr::from(u32::try_from(client).unwrap().to_be_bytes()), Millis(client as u64));
        }
        assert_eq!(attempts.0.lock().unwrap().len(), CLIENTS);
    }
}
