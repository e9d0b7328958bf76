//! Host name to app, and what rules say of an app.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `RouteTable`: host name to app |
//! | `groups` | which apps are woken together, and in which order |
//! | `rules` | `Rules`: what holds for which apps |
//! | `schedule` | when an app is kept awake or asleep |

pub mod groups;
pub mod rules;
pub mod schedule;

pub use groups::Groups;
pub use rules::{Rules, Ruling};

use std::{collections::HashMap, sync::Arc};

/// Which host name leads where. Built whole and swapped: never changed while requests read it.
pub struct RouteTable<T> {
    hosts: HashMap<Box<str>, Arc<T>>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { hosts: HashMap::new() }
    }
}

impl<T> RouteTable<T> {
    /// Builds a table of `(host, target)`, hosts in lower case. Of two claims to one host the first one stands; the
    /// others are returned, to be reported.
    pub fn new(claims: impl IntoIterator<Item = (String, Arc<T>)>) -> (Self, Vec<(String, Arc<T>)>) {
        let mut hosts = HashMap::new();
        let mut refused = Vec::new();
        for (host, target) in claims {
            match hosts.entry(host.into_boxed_str()) {
                std::collections::hash_map::Entry::Occupied(taken) => {
                    refused.push((taken.key().to_string(), target))
                }
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(target);
                }
            }
        }
        (Self { hosts }, refused)
    }

    /// Where `host` leads: lower case, without port or final dot. One look-up, no allocation.
    pub fn find(&self, host: &str) -> Option<&Arc<T>> {
        self.hosts.get(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_claims_to_one_host_the_first_stands_and_the_second_is_reported() {
        let claims =
            [("a.test", 1), ("b.test", 2), ("a.test", 3)].map(|(host, n)| (host.to_owned(), Arc::new(n)));
        let (table, refused) = RouteTable::new(claims);
        assert_eq!(table.find("a.test").map(|n| **n), Some(1));
        assert_eq!(table.find("b.test").map(|n| **n), Some(2));
        assert_eq!(table.find("c.test"), None);
        assert_eq!(refused.iter().map(|(host, n)| (host.as_str(), **n)).collect::<Vec<_>>(), [("a.test", 3)]);
    }
}
