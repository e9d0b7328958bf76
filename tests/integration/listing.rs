//! What one gateway has listed, another may learn: then it wakes and stops apps as if it had listed them itself.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use loir::{
    app::{AppState, AppStatus, Endpoint, Formation},
    lifecycle::Slept,
    provider::{AppInfo, BeforeStop, Listing, Provider, ProviderContext, ProviderError, Turn},
};

use crate::{
    eventually,
    platform::on_every_platform,
    simulators::{CleverCloud, Fault, Heroku, Outage, Platform, REGIONS, Scalingo},
    support::{client, paas::gateway_for, plan},
};

const USUAL: &[(&str, u32)] = &[("web", 2), ("worker", 3)];

/// A provider of its own, as another gateway has one.
fn connect(entry: &str) -> Arc<dyn Provider> {
    // Also makes TLS possible.
    drop(client());
    let context = ProviderContext {
        name: "cloud".into(),
        state_dir: None,
        program: None,
        events: tokio::sync::mpsc::unbounded_channel().0,
        accounts: Arc::default(),
    };
    let yaml = format!("server:\n  listen: 127.0.0.1:1\n  domain: test\nproviders:\n{entry}");
    plan(&yaml).providers[0].1.connect(context).unwrap()
}

fn of(platform: &impl Platform) -> Arc<dyn Provider> {
    connect(&(platform.entry("cloud") + "    budget: { requests_per_minute: 60000 }\n"))
}

/// As it goes from one gateway to another.
fn sent(listing: &Listing) -> Listing {
    let text = serde_json::to_string(listing.text()).unwrap();
    Listing::from(serde_json::from_str::<String>(&text).unwrap())
}

fn names(apps: &[AppInfo]) -> Vec<&str> {
    apps.iter().map(|app| app.name.as_str()).collect()
}

/// Stops an app and wakes it again. Which calls that took: each once, since nobody knows how often one has to look.
async fn night(provider: &Arc<dyn Provider>, platform: &impl Platform, app: &str) -> BTreeSet<String> {
    platform.clear_calls();
    assert_eq!(provider.status(app).await.unwrap(), AppStatus::Running);
    let before = platform.formation(app);
    let mut look = provider.before_stop(app, &Turn::default()).await.unwrap();
    // The end of an earlier start may not have come through yet.
    eventually!({
        if let BeforeStop::Busy(_) = look {
            look = provider.before_stop(app, &Turn::default()).await.unwrap();
        }
        !matches!(look, BeforeStop::Busy(_))
    });
    let BeforeStop::Runs(saved) = look else { panic!("{look:?}") };
    provider.stop(app, &saved, &Turn::default()).await.unwrap();
    assert!(!platform.is_running(app));
    assert_eq!(provider.status(app).await.unwrap(), AppStatus::Stopped);
    let endpoint = provider.start(app, Some(&saved), &Turn::default()).await.unwrap();
    assert!(matches!(&endpoint, Endpoint::Origin(origin) if origin.authority() == platform.host(app)));
    eventually!(platform.is_running(app) && provider.status(app).await.unwrap() == AppStatus::Running);
    assert_eq!(platform.formation(app), before);
    let calls = platform.calls();
    let calls = calls.iter().filter(|call| !call.path.contains("/tokens/")).map(|call| {
        let path = call.path.replace(&platform.id(app), "ID");
        format!("{} {}", call.method, path)
    });
    calls.collect()
}

on_every_platform! {
    async fn whoever_only_learned_wakes_and_stops_with_the_calls_of_one_that_listed(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        platform.add("blog", USUAL, false);
        let (one, other) = (of(platform), of(platform));
        let listing = one.list().await.unwrap();
        let listed = one.learn(&listing).unwrap();
        platform.clear_calls();
        assert!(matches!(other.status("shop").await, Err(ProviderError::NotFound(_))), "not even that it exists");
        let learned = other.learn(&sent(&listing)).unwrap();
        assert_eq!(platform.calls().len(), 0, "{:?}", platform.calls());
        assert_eq!(format!("{learned:?}"), format!("{listed:?}"), "the same listing, the same apps");

        let usual = night(&one, platform, "shop").await;
        let calls = night(&other, platform, "shop").await;
        assert_eq!(calls, usual);
        for list in ["GET /apps", "GET /v1/regions", "applications"] {
            assert!(!calls.iter().any(|call| call.ends_with(list)), "{calls:?}");
        }
        assert_eq!((platform.starts("shop"), platform.stops("shop")), (2, 2));
    }

    async fn what_is_no_listing_of_this_kind_is_refused_and_what_was_learned_stands(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let provider = of(platform);
        let listing = provider.list().await.unwrap();
        provider.learn(&listing).unwrap();
        let refused = |text: &str| match provider.learn(&Listing::from(text.to_owned())) {
            Err(ProviderError::Failed(reason)) => reason,
            other => panic!("{other:?} is what it makes of {text}"),
        };
        for garbage in ["", "{}", "[]", "null", "7", "\u{0}", "shop", r#"{"version":1,"apps":[]}"#] {
            let reason = refused(garbage);
            assert!(reason.starts_with("the listing cannot be read: "), "{reason}");
        }
        for end in (0..listing.text().len()).filter(|end| listing.text().is_char_boundary(*end)) {
            refused(&listing.text()[..end]);
        }
        let whole: serde_json::Value = serde_json::from_str(listing.text()).unwrap();
        let (kind, version) = (whole["kind"].as_str().unwrap(), whole["version"].as_u64().unwrap());
        let with = |key: &str, value: serde_json::Value| {
            let mut other = whole.clone();
            other[key] = value;
            refused(&other.to_string())
        };
        assert!(with("version", (version + 1).into()).contains("a newer Loir"));
        assert!(with("version", (version - 1).into()).contains("an older Loir"));
        let reason = with("kind", "process".into());
        assert!(reason.contains("\"process\"") && reason.contains(kind), "{reason}");
        assert!(with("seen", serde_json::json!({ "apps": [{ "id": 7 }], "regions": [7] })).contains("read"));
        assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Running);
    }

    async fn an_app_is_woken_after_a_start_at_which_the_list_fails(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let setup = gateway_for([platform.entry("cloud")]).option("budget: { requests_per_minute: 60000 }");
        let loir = setup.start().await;
        let left = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(left.path().join("state")).unwrap();
        let kept = |folder: &tempfile::TempDir| folder.path().join("state/apps-cloud.json");
        std::fs::copy(kept(&loir.folder), kept(&left)).unwrap();
        drop(loir);
        for list in ["/apps", "/applications"] {
            platform.fault(Fault::on("GET", list).always().text(501, "away"));
        }
        let again = setup.start_in(left).await;
        assert_eq!(again.app_at("cloud", "shop").state(), AppState::Asleep);
        let answer = again.get("shop", "/hello").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        assert_eq!(platform.starts("shop"), 1);
        platform.clear_faults();
        // Its deployment may end a little later than its first answer comes.
        eventually!(again.stop_at("cloud", "shop").await == Slept::Yes);
    }

    async fn what_an_earlier_version_kept_or_nobody_can_read_is_not_used(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        platform.down(Outage::Refused);
        let setup = gateway_for([platform.entry("cloud")]).option("list_every: 200ms");
        let old = r#"{"version":1,"apps":[{"name":"shop","runs":true,"tls":false,"host":"localhost","port":1}]}"#;
        let folder = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let kept = folder.path().join("state/apps-cloud.json");
        std::fs::write(&kept, old).unwrap();
        let loir = setup.start_in(folder.clone()).await;
        assert!(loir.find("cloud", "shop").is_none());
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), old);
        platform.down(Outage::None);
        eventually!(loir.find("cloud", "shop").is_some());
        eventually!(std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"kind\"")), "and is replaced");
    }
}

/// An entry for all regions of the account.
fn all_regions(platform: &Scalingo) -> String {
    let entry = platform.entry("cloud");
    let own =
        |line: &&str| !line.trim_start().starts_with("region:") && !line.trim_start().starts_with("api_url:");
    entry.lines().filter(own).collect::<Vec<_>>().join("\n")
        + "\n    regions: all\n    budget: { requests_per_minute: 60000 }\n"
}

#[tokio::test]
async fn regions_are_found_by_the_listing_alone() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).stopped().add();
    }
    let (one, other) = (connect(&all_regions(&platform)), connect(&all_regions(&platform)));
    let listing = one.list().await.unwrap();
    let second = format!("shop-{}", REGIONS[1]);
    platform.clear_calls();
    assert_eq!(names(&other.learn(&sent(&listing)).unwrap()), ["shop", &second]);
    other.start(&second, Some(&Formation::single("web")), &Turn::default()).await.unwrap();
    let [first, second] = REGIONS.map(|region| platform.starts(&format!("{region}/shop")));
    assert_eq!((first, second, platform.count("GET", "/v1/regions")), (0, 1, 0));
}

#[tokio::test]
async fn a_listing_does_not_decide_where_a_token_is_sent() {
    let platform = Scalingo::start().await;
    platform.app("shop").add();
    let entry = all_regions(&platform);
    let listing = connect(&entry).list().await.unwrap();
    let elsewhere = |api: &str| Listing::from(listing.text().replace(&platform.api_url(REGIONS[0]), api));
    for api in ["http://localhost:9", "https://api.osc-fr1.example.com", "nowhere"] {
        let Err(ProviderError::Failed(reason)) = connect(&entry).learn(&elsewhere(api)) else {
            panic!("{api}")
        };
        assert!(reason.contains("osc-fr1") && reason.contains("not where"), "{reason}");
    }
    // Where the entry names the region, it also says where that is.
    let named = connect(&platform.entry("cloud"));
    let reason = named.learn(&listing).unwrap_err().to_string();
    assert!(reason.contains(REGIONS[1]) && reason.contains("does not name"), "{reason}");
    let listing = connect(&platform.entry("cloud")).list().await.unwrap();
    let moved = Listing::from(listing.text().replace(&platform.api_url(REGIONS[0]), "http://localhost:9"));
    named.learn(&moved).unwrap();
    assert_eq!(named.status("shop").await.unwrap(), AppStatus::Running);
}

#[tokio::test]
async fn the_apps_of_this_machine_are_those_of_the_configuration_and_no_listing_holds_them() {
    let entry =
        "  - name: cloud\n    type: process\n    apps:\n      - { name: hello, command: [\"true\"] }\n";
    let provider = connect(entry);
    let listing = provider.list().await.unwrap();
    assert!(!listing.text().contains("hello"), "{}", listing.text());
    assert_eq!(names(&provider.learn(&sent(&listing)).unwrap()), ["hello"]);
    let sim = Heroku::start().await;
    let foreign = of(&sim).list().await.unwrap();
    for text in ["", foreign.text()] {
        assert!(provider.learn(&Listing::from(text.to_owned())).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_listings_counts() {
    let sim = Heroku::start().await;
    sim.add("shop", USUAL, true);
    let (one, other) = (of(&sim), of(&sim));
    other.learn(&sent(&one.list().await.unwrap())).unwrap();
    sim.add("blog", USUAL, true);
    sim.delete("shop");
    other.learn(&sent(&one.list().await.unwrap())).unwrap();
    assert_eq!(other.status("blog").await.unwrap(), AppStatus::Running);
    assert!(matches!(other.status("shop").await, Err(ProviderError::NotFound(_))));
    let patience = tokio::time::timeout(Duration::from_secs(20), other.list()).await;
    assert_eq!(names(&other.learn(&patience.unwrap().unwrap()).unwrap()), ["blog"], "and it can list itself");
}
