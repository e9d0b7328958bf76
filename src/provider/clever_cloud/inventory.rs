//! What apps there are, what they are called here and where they are reached.
//!
//! The summary tells every app's state in one call, and neither its domains nor its zone. Those are read once for each
//! owner, and again after hours: they hardly ever change.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};

use super::wire;
use crate::{
    app::{Endpoint, Origin, RouterPage},
    provider::{
        ProviderError,
        api::{Api, ApiError, Call, Priority, Readable, segment},
        latest::Latest,
    },
};

/// The load balancer answers for an app that does not run with a page of its own. It marks every answer with its id, the
/// app's own too, so such an answer may be the app's (github.com/sozu-proxy/sozu, default answers).
pub static ROUTER: RouterPage = RouterPage {
    status: &[404, 503],
    fields: &[("sozu-id", ""), ("cache-control", "no-cache")],
    certain: false,
};

/// How long domains and zones are believed.
const BELIEVED: Duration = Duration::from_secs(6 * 60 * 60);

/// How long they are believed if one of the owner's apps is not among them, or has no domain.
const BELIEVED_INCOMPLETE: Duration = Duration::from_secs(10 * 60);

/// The longest label of a host name.
const LONGEST: usize = 63;

/// An app, as the summary has it. Also part of listings: see [`Seen`](super::seen::Seen).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct App {
    pub id: String,
    pub owner: String,
    pub name: String,
    pub state: String,
}

/// The apps of one owner.
struct Details {
    asked: Instant,
    /// Those that the summary had then.
    expected: HashSet<String>,
    apps: HashMap<String, wire::Application>,
}

/// One account's apps.
#[derive(Default)]
pub struct Inventory {
    summaries: Latest<Vec<App>>,
    details: Mutex<HashMap<String, Details>>,
}

impl Inventory {
    /// All apps by id, as of `since` or later; of `organisation` only, if there is one.
    pub async fn apps(
        &self,
        api: &Api,
        organisation: Option<&str>,
        since: Instant,
        call: Call<'_>,
        priority: Priority,
    ) -> Result<Arc<Vec<App>>, ProviderError> {
        let ask = async || -> Result<_, ProviderError> {
            let summary: wire::Summary = api.call(call).await?.json().map_err(ProviderError::from)?;
            of(summary, organisation)
        };
        self.summaries.since(since, priority, ask).await
    }

    /// What is known of each of these apps beside its state. Fails only if an owner's apps were never read.
    pub async fn details(
        &self,
        api: &Api,
        apps: &[App],
    ) -> Result<HashMap<String, wire::Application>, ProviderError> {
        let mut by_owner: BTreeMap<&String, Vec<&App>> = BTreeMap::new();
        for app in apps {
            by_owner.entry(&app.owner).or_default().push(app);
        }
        let mut known = self.details.lock().await;
        known.retain(|owner, _| by_owner.contains_key(owner));
        for (owner, apps) in by_owner {
            if known.get(owner).is_some_and(|details| details.are_fresh(&apps)) {
                continue;
            }
            let asked = Instant::now();
            match read(api, owner).await {
                Ok(found) => {
                    let expected = apps.iter().map(|app| app.id.clone()).collect();
                    known.insert(owner.clone(), Details { asked, expected, apps: found });
                }
                Err(error) if known.contains_key(owner) => {
                    log::warn!("the domains of {owner} cannot be read anew: {error}");
                }
                Err(error) => return Err(told_of(owner, error.into())),
            }
        }
        let all = known.values().flat_map(|details| &details.apps);
        Ok(all.map(|(id, app)| (id.clone(), app.clone())).collect())
    }
}

impl Details {
    fn are_fresh(&self, apps: &[&App]) -> bool {
        let is_new = |app: &&App| !self.apps.contains_key(&app.id) && !self.expected.contains(&app.id);
        let complete = |app: &&App| self.apps.get(&app.id).is_some_and(|found| endpoint(found).is_some());
        let believed = match apps.iter().all(complete) {
            true => BELIEVED,
            false => BELIEVED_INCOMPLETE,
        };
        self.asked.elapsed() < believed && !apps.iter().any(is_new)
    }
}

async fn read(api: &Api, owner: &str) -> Result<HashMap<String, wire::Application>, ApiError> {
    let call = Call::get(format!("{}/applications", path(owner)), Priority::List);
    let Readable::<wire::Application>(apps) = api.call(call).await?.json()?;
    Ok(apps.into_iter().map(|app| (app.id.clone(), app)).collect())
}

fn told_of(owner: &str, error: ProviderError) -> ProviderError {
    let told = |reason: String| format!("the apps of {owner} cannot be read: {reason}");
    match error {
        ProviderError::Refused(reason) => ProviderError::Refused(told(reason)),
        ProviderError::Failed(reason) => ProviderError::Failed(told(reason)),
        ProviderError::Unavailable(reason) => ProviderError::Unavailable(told(reason)),
        error @ (ProviderError::Misconfigured(_) | ProviderError::NotFound(_)) => error,
    }
}

/// Each app once: the personal space is among the organisations too. Sorted by id.
fn of(summary: wire::Summary, organisation: Option<&str>) -> Result<Vec<App>, ProviderError> {
    let owners: Vec<wire::Owner> = [summary.user].into_iter().chain(summary.organisations).collect();
    if let Some(wanted) = organisation
        && owners.iter().all(|owner| owner.id != wanted)
    {
        return Err(ProviderError::Misconfigured(format!(
            "the credential does not see `organisation: {wanted}`: is it a member's?"
        )));
    }
    let mut apps: BTreeMap<String, App> = BTreeMap::new();
    for owner in owners.into_iter().filter(|owner| organisation.is_none_or(|wanted| owner.id == wanted)) {
        let id = owner.id;
        for app in owner.applications.0.into_iter().filter(|app| app.archived != Some(true)) {
            let wire::Listed { id: app, name, state, .. } = app;
            apps.entry(app.clone()).or_insert_with(|| App { id: app, owner: id.clone(), name, state });
        }
    }
    Ok(apps.into_values().collect())
}

/// What the paths of an owner's apps begin with. The personal space has one of its own.
pub fn path(owner: &str) -> String {
    match owner.starts_with("user_") {
        true => "/v2/self".to_owned(),
        false => format!("/v2/organisations/{}", segment(owner)),
    }
}

/// What stands in an app's default host name, and never changes.
pub fn dashed(id: &str) -> String {
    id.replace('_', "-").to_ascii_lowercase()
}

/// A name for each app, in the same order: its own as far as a host name can hold it, else its id.
pub fn names(apps: &[App]) -> Vec<String> {
    let mut taken: HashSet<String> = apps.iter().map(|app| dashed(&app.id)).collect();
    let name = |app: &App| {
        let slug = slug(&app.name);
        match !slug.is_empty() && taken.insert(slug.clone()) {
            true => slug,
            false => dashed(&app.id),
        }
    };
    apps.iter().map(name).collect()
}

/// `Acme's Shop (2)` is `acme-s-shop-2`.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() == LONGEST {
            break;
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// Where an app is reached: at the host that the platform gave it, since a custom domain may lead to this very gateway.
/// If it has none but custom domains: at one of those, by way of the load balancer of its zone.
pub fn endpoint(app: &wire::Application) -> Option<Endpoint> {
    let default = format!("{}.", dashed(&app.id));
    let origins: Vec<(bool, Origin)> = app.vhosts.iter().flatten().filter_map(origin).collect();
    let rank = |(prefixed, origin): &&(bool, Origin)| {
        let kind = match is_given(&origin.host) {
            true if origin.host.starts_with(&default) => 0,
            true => 1,
            false => 2,
        };
        (*prefixed, kind)
    };
    let usable = |(_, origin): &&(bool, Origin)| is_given(&origin.host) || balancer(app).is_some();
    let (_, mut origin) = origins.iter().filter(usable).min_by_key(rank)?.clone();
    if !is_given(&origin.host) {
        origin.connect = balancer(app);
    }
    Some(Endpoint::Origin(Arc::new(origin)))
}

/// Its host, and whether it is only reached below a path.
fn origin(vhost: &wire::Vhost) -> Option<(bool, Origin)> {
    let fqdn = vhost.fqdn.as_deref()?;
    let prefixed = fqdn.split_once('/').is_some_and(|(_, path)| !path.is_empty());
    Some((prefixed, Origin::parse(fqdn, &ROUTER)?))
}

/// Whether a host is one that the platform gives; `localhost` is for simulators.
fn is_given(host: &str) -> bool {
    host.ends_with(".cleverapps.io") || host.ends_with(".cleverapps.localhost")
}

/// Where custom domains of a zone are to point (clever-cloud.com, "Domain names").
fn balancer(app: &wire::Application) -> Option<String> {
    let zone = app.zone.as_deref()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!zone.is_empty() && zone.chars().all(plain)).then(|| format!("domain.{zone}.clever-cloud.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "app_3333aaaa-0000-4000-8000-000000000001";

    fn app(zone: Option<&str>, vhosts: &[&str]) -> wire::Application {
        let vhost = |fqdn: &&str| wire::Vhost { fqdn: Some((*fqdn).into()) };
        let vhosts = Some(vhosts.iter().map(vhost).collect());
        wire::Application { id: ID.into(), zone: zone.map(str::to_owned), vhosts, instance: None }
    }

    #[test]
    fn an_app_is_reached_where_no_domain_leads_back_to_the_gateway() {
        let default = "app-3333aaaa-0000-4000-8000-000000000001.cleverapps.io/";
        let (given, at_zone) =
            ("https://app-3333aaaa-0000-4000-8000-000000000001.cleverapps.io", "domain.par.clever-cloud.com");
        for (what, vhosts, expected) in [
            (
                "the default, if it is listed",
                &["shop.example.com", "shop.cleverapps.io", default][..],
                Some((given, None)),
            ),
            (
                "another that was given",
                &["shop.example.com/", "shop.cleverapps.io/"],
                Some(("https://shop.cleverapps.io", None)),
            ),
            (
                "a domain, by way of its zone",
                &["shop.example.com"],
                Some(("https://shop.example.com", Some(at_zone))),
            ),
            (
                "the one without a path",
                &["shop.cleverapps.io/api", "b.example.com/x/", "Shop.Example.com/"],
                Some(("https://shop.example.com", Some(at_zone))),
            ),
            (
                "the default even so",
                &["x.cleverapps.io/api", "app-3333aaaa-0000-4000-8000-000000000001.cleverapps.io/v1"],
                Some((given, None)),
            ),
            ("no pattern", &["*.example.com", "*.cleverapps.io/"], None),
            ("nothing that is no host", &["", "/", "a b", "ftp://x"], None),
            (
                "not the name of another",
                &["evilcleverapps.io"],
                Some(("https://evilcleverapps.io", Some(at_zone))),
            ),
            (
                "a simulator",
                &["shop.example.com", "app-3333aaaa-0000-4000-8000-000000000001.cleverapps.localhost:4000/"],
                Some(("http://app-3333aaaa-0000-4000-8000-000000000001.cleverapps.localhost:4000", None)),
            ),
            ("nowhere", &[], None),
        ] {
            let found = endpoint(&app(Some("par"), vhosts)).map(|endpoint| match endpoint {
                Endpoint::Origin(origin) => (origin.to_string(), origin.connect.clone()),
                Endpoint::Address(address) => panic!("{address}"),
            });
            let expected = expected.map(|(url, connect)| (url.to_owned(), connect.map(str::to_owned)));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn without_a_zone_a_custom_domain_is_not_reached_since_it_may_be_ours() {
        for zone in [None, Some(""), Some("par.evil.com/")] {
            assert_eq!(endpoint(&app(zone, &["shop.example.com"])), None, "{zone:?}");
            assert!(endpoint(&app(zone, &["shop.example.com", "shop.cleverapps.io"])).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn domains_are_believed_for_hours_unless_an_app_is_new_or_has_none() {
        let one =
            |id: &str| App { id: id.into(), owner: "orga_1".into(), name: id.into(), state: String::new() };
        let details = |apps: &[wire::Application], expected: &[&str]| Details {
            asked: Instant::now(),
            expected: expected.iter().map(|id| (*id).to_owned()).collect(),
            apps: apps.iter().map(|app| (app.id.clone(), app.clone())).collect(),
        };
        let (shop, other) = (one(ID), one("app_2"));
        let complete = details(&[app(None, &["shop.cleverapps.io"])], &[ID]);
        let bare = details(&[app(None, &[])], &[ID]);
        let missing = details(&[app(None, &["shop.cleverapps.io"])], &[ID, "app_2"]);
        let fresh = || {
            [
                complete.are_fresh(&[&shop]),
                complete.are_fresh(&[&shop, &other]),
                bare.are_fresh(&[&shop]),
                missing.are_fresh(&[&shop, &other]),
            ]
        };
        assert_eq!(fresh(), [true, false, true, true]);
        tokio::time::advance(BELIEVED_INCOMPLETE).await;
        assert_eq!(fresh(), [true, false, false, false]);
        tokio::time::advance(BELIEVED).await;
        assert_eq!(fresh(), [false; 4]);
    }

    #[test]
    fn an_apps_name_is_made_fit_for_a_host_name() {
        for (name, expected) in [
            ("shop", "shop"),
            ("Acme's  Shop (2)", "acme-s-shop-2"),
            ("--Éclair_--", "clair"),
            ("日本", ""),
            (&"a-".repeat(40), &format!("{}a", "a-".repeat(31))),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
    }

    #[test]
    fn of_two_apps_of_one_name_the_second_goes_by_its_id() {
        let one = |id: &str, name: &str| App {
            id: id.into(),
            owner: "orga_1".into(),
            name: name.into(),
            state: "SHOULD_BE_UP".into(),
        };
        let apps = [one("app_1", "Shop"), one("app_2", "shop"), one("app_3", "!"), one("app_4", "app 1")];
        assert_eq!(names(&apps), ["shop", "app-2", "app-3", "app-4"]);
    }
}
