//! `Resolver`: host names to addresses, in the background, with the last good answer kept.
//!
//! No request waits for DNS: an app's addresses are looked up when it is first heard of and again every
//! [`REFRESH_EVERY`] for as long as somebody uses them. A look-up that fails changes nothing.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::app::{Origin, is_this_machine};

/// Below the 60 s that the routers of the large platforms give their records.
pub const REFRESH_EVERY: Duration = Duration::from_secs(30);

/// Longer than a resolver's own first retry (5 s: resolv.conf(5), `timeout`).
const ONE_LOOKUP: Duration = Duration::from_secs(8);

/// Look-ups at once: each may block a thread of the runtime (`getaddrinfo`).
const AT_ONCE: usize = 8;

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Asks DNS for the addresses of a name.
pub type Lookup = fn(String) -> Found;

/// The addresses of the names in use. A handle: clones share them.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    names: Mutex<HashMap<String, Weak<Addresses>>>,
    lookup: Lookup,
    tasks: Handle,
}

/// The addresses of one name, as of the last look-up that worked.
pub struct Addresses {
    /// What is looked up.
    name: String,
    known: ArcSwap<Vec<IpAddr>>,
    /// Which one of them is in use; grows when one does not answer.
    turn: AtomicUsize,
    /// Whether the first look-up has ended, well or not.
    asked: watch::Sender<bool>,
}

impl Addresses {
    fn new(name: String, known: Vec<IpAddr>) -> Self {
        let asked = watch::Sender::new(!known.is_empty());
        Self { name, known: ArcSwap::from_pointee(known), turn: AtomicUsize::new(0), asked }
    }

    /// The address to use now. `None` if no look-up has ever worked.
    pub fn pick(&self) -> Option<IpAddr> {
        let known = self.known.load();
        let turn = self.turn.load(Ordering::Relaxed);
        known.get(turn.checked_rem(known.len())?).copied()
    }

    /// `failed` does not answer: the next one's turn. Whether there is another one.
    pub fn skip(&self, failed: IpAddr) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        let others = self.known.load().len() > 1;
        if others && self.pick() == Some(failed) {
            // Of many that meet the same dead address, one moves on.
            let _ =
                self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        others
    }

    /// Returns once the first look-up has ended, well or not.
    pub async fn asked(&self) {
        // The sender lives as long as we do.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }
}

impl Resolver {
    /// Looks up with the system's resolver, on `tasks`.
    pub fn system(tasks: Handle) -> Self {
        Self::with(tasks, |name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }

    /// Looks up with `lookup`.
    pub fn with(tasks: Handle, lookup: Lookup) -> Self {
        Self(Arc::new(Inner { names: Mutex::default(), lookup, tasks }))
    }

    /// The addresses where `origin` is reached, kept fresh for as long as they are held.
    pub fn addresses(&self, origin: &Origin) -> Arc<Addresses> {
        let mut names = self.names();
        if let Some(known) = names.get(&origin.host).and_then(Weak::upgrade) {
            return known;
        }
        let name = origin.connect.as_ref().unwrap_or(&origin.host).clone();
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let fixed = literal.or(is_this_machine(&name).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let addresses = Arc::new(Addresses::new(name, fixed.into_iter().collect()));
        if fixed.is_none() {
            let (inner, addresses) = (self.0.clone(), addresses.clone());
            self.0.tasks.spawn(async move { inner.look_up(&addresses).await });
        }
        names.retain(|_, addresses| addresses.strong_count() > 0);
        names.insert(origin.host.clone(), Arc::downgrade(&addresses));
        addresses
    }

    /// Looks every name in use up again.
    pub async fn refresh(&self) {
        let in_use: Vec<_> = self.names().values().filter_map(Weak::upgrade).collect();
        let mut running = JoinSet::new();
        for addresses in in_use {
            if running.len() >= AT_ONCE {
                running.join_next().await;
            }
            let inner = self.0.clone();
            running.spawn_on(async move { inner.look_up(&addresses).await }, &self.0.tasks);
        }
        while running.join_next().await.is_some() {}
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Weak<Addresses>>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    async fn look_up(&self, addresses: &Addresses) {
        let name = &addresses.name;
        if !is_this_machine(name) && name.parse::<IpAddr>().is_err() {
            match tokio::time::timeout(ONE_LOOKUP, (self.lookup)(name.clone())).await {
                Ok(Ok(found)) if !found.is_empty() => addresses.known.store(Arc::new(found)),
                Ok(Ok(_)) => log::warn!("{name} has no address; the last known ones stay"),
                Ok(Err(error)) => {
                    log::warn!("{name} cannot be looked up: {error}; the last known addresses stay")
                }
                Err(_) => log::warn!(
                    "{name} cannot be looked up within {ONE_LOOKUP:?}; the last known addresses stay"
                ),
            }
        }
        addresses.asked.send_replace(true);
    }
}

/// The readiness probe finds apps where the proxy does.
impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let known = self.names().get(name.as_str()).and_then(Weak::upgrade);
        Box::pin(async move {
            let Some(addresses) = known else {
                return Err(format!("{} is not a name in use", name.as_str()).into());
            };
            addresses.asked().await;
            let found: Vec<_> = addresses.pick().into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            if found.is_empty() {
                return Err(format!("{} has no known address", addresses.name).into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::RouterPage;

    static NO_PAGE: RouterPage = RouterPage { status: &[], fields: &[], certain: true };
    static ANSWERS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    fn answers(answers: &[&'static str]) {
        *ANSWERS.lock().unwrap() = answers.to_vec();
    }

    fn resolver() -> Resolver {
        Resolver::with(Handle::current(), |name| {
            Box::pin(async move {
                assert_eq!(name, "router.example.com");
                let found: Vec<_> = ANSWERS.lock().unwrap().iter().map(|ip| ip.parse().unwrap()).collect();
                if found.is_empty() { Err(io::Error::other("no such name")) } else { Ok(found) }
            })
        })
    }

    // One test, since a look-up carries no state of its own.
    #[tokio::test]
    async fn addresses_follow_dns_and_the_last_good_answer_is_kept() {
        let resolver = resolver();
        let mut origin = Origin::parse("https://shop.example.com", &NO_PAGE).unwrap();
        origin.connect = Some("router.example.com".into());
        let is = |ip: &str| Some(ip.parse::<IpAddr>().unwrap());

        answers(&[]);
        let addresses = resolver.addresses(&origin);
        addresses.asked().await;
        assert_eq!(addresses.pick(), None, "no answer yet");
        answers(&["192.0.2.1", "192.0.2.2"]);
        resolver.refresh().await;
        assert_eq!(addresses.pick(), is("192.0.2.1"));

        assert!(addresses.skip("192.0.2.1".parse().unwrap()), "there is another one");
        assert_eq!(addresses.pick(), is("192.0.2.2"));
        addresses.skip("192.0.2.1".parse().unwrap());
        assert_eq!(addresses.pick(), is("192.0.2.2"), "who met the dead one late moves nobody on");

        answers(&[]);
        resolver.refresh().await;
        assert_eq!(addresses.pick(), is("192.0.2.2"), "a failed look-up changes nothing");
        answers(&["192.0.2.9"]);
        resolver.refresh().await;
        assert_eq!(addresses.pick(), is("192.0.2.9"));
        assert!(!addresses.skip("192.0.2.9".parse().unwrap()), "there is no other");
        assert_eq!(addresses.pick(), is("192.0.2.9"));

        assert!(Arc::ptr_eq(&addresses, &resolver.addresses(&origin)), "one look-up for all who use a name");
        drop(addresses);
        assert!(resolver.names().values().all(|addresses| addresses.upgrade().is_none()));
    }

    #[tokio::test]
    async fn names_of_this_machine_and_addresses_need_no_dns() {
        let resolver = resolver();
        for host in ["http://shop.localhost:4000", "http://127.0.0.1:4000", "https://127.0.0.1"] {
            let origin = Origin::parse(host, &NO_PAGE).unwrap();
            assert_eq!(resolver.addresses(&origin).pick(), Some(Ipv4Addr::LOCALHOST.into()), "{host}");
        }
    }
}
