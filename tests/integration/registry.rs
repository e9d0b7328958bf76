//! What every registry promises, told of each; and what only a shared one can.

use std::{path::Path, sync::Arc, time::Duration};

use loir::{
    app::{AppId, AppState, Formation},
    clock::Clock,
    registry::{Change, News, Record, Registry, RegistryContext, RegistryError, fleet::Agreement},
};

use crate::{
    eventually,
    support::{plan, redis::Redis},
};

const LONG: Duration = Duration::from_secs(1_000);

fn shop() -> AppId {
    AppId::new("cloud", "shop")
}

fn begin_wake(by: &dyn Registry) -> Change {
    Change::BeginWake { by: by.me().into(), lease: LONG }
}

fn ready() -> Change {
    Change::WakeReady { boot: Duration::from_secs(3) }
}

/// From anything to asleep, with a formation to remember.
async fn put_to_sleep(registry: &dyn Registry, app: &AppId) -> Record {
    for change in [
        begin_wake(registry),
        ready(),
        Change::BeginStop { by: registry.me().into(), idle: Duration::ZERO, lease: LONG },
        Change::Save { formation: Formation::single("web") },
    ] {
        registry.apply(app, change, None).await.unwrap();
    }
    registry.apply(app, Change::Stopped, None).await.unwrap()
}

/// A registry of the block in YAML.
async fn open(block: &str, folder: &Path) -> Arc<dyn Registry> {
    let plan = plan(&format!("providers: []\nregistry: {block}"));
    let context = RegistryContext { state_dir: Some(folder.into()), clock: Clock::system() };
    let registry = plan.registry.open(context).unwrap();
    if let Some(fleet) = registry.fleet() {
        fleet.tried().await;
        assert!(fleet.sees());
    }
    registry
}

fn block(redis: &Redis) -> String {
    format!("{{ type: redis, url: '{}', lease: 1s, response_timeout: 500ms }}", redis.url())
}

/// One gateway's registry, and what it lives on.
struct Place {
    registry: Arc<dyn Registry>,
    block: String,
    folder: tempfile::TempDir,
    _redis: Option<Redis>,
}

impl Place {
    async fn memory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let block = "{ type: memory }".to_owned();
        Self { registry: open(&block, folder.path()).await, block, folder, _redis: None }
    }

    async fn redis() -> Self {
        let (folder, redis) = (tempfile::tempdir().unwrap(), Redis::start().await);
        let block = block(&redis);
        Self { registry: open(&block, folder.path()).await, block, folder, _redis: Some(redis) }
    }

    async fn again(self) -> Self {
        let Self { registry, block, folder, _redis } = self;
        drop(registry);
        Self { registry: open(&block, folder.path()).await, block, folder, _redis }
    }
}

/// Tells the story of each kind of registry.
macro_rules! of_every_registry {
    ($($story:ident),* $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread")] async fn $story() { super::$story(super::Place::memory().await).await })* }
        mod redis { $(#[tokio::test(flavor = "multi_thread")] async fn $story() { super::$story(super::Place::redis().await).await })* }
    };
}

of_every_registry! {
    of_a_hundred_that_race_one_begins_the_wake,
    a_change_on_an_epoch_that_is_gone_is_refused,
    records_survive_a_restart,
    a_renamed_app_keeps_its_record_and_a_forgotten_one_has_none,
    what_does_not_fit_is_refused_with_the_record_as_it_is,
}

async fn of_a_hundred_that_race_one_begins_the_wake(place: Place) {
    let wakes = (0..100).map(|_| {
        let registry = place.registry.clone();
        tokio::spawn(async move { registry.apply(&shop(), begin_wake(&*registry), None).await.is_ok() })
    });
    let mut won = 0;
    for wake in wakes.collect::<Vec<_>>() {
        won += usize::from(wake.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(place.registry.read(&shop()).await.unwrap().unwrap().epoch, 1);
}

async fn a_change_on_an_epoch_that_is_gone_is_refused(place: Place) {
    let registry = &place.registry;
    let begun = registry.apply(&shop(), begin_wake(&**registry), None).await.unwrap();
    let late = registry.apply(&shop(), ready(), Some(begun.epoch - 1)).await;
    assert!(matches!(late, Err(RegistryError::Misfit(record)) if *record == begun));
    assert!(registry.apply(&shop(), ready(), Some(begun.epoch)).await.is_ok());
}

async fn records_survive_a_restart(place: Place) {
    let before = put_to_sleep(&*place.registry, &shop()).await;
    let after = place.again().await.registry.read(&shop()).await.unwrap().unwrap();
    assert_eq!(after, before);
    assert_eq!((after.state, after.epoch, &*after.boots), (AppState::Asleep, 5, &[3000][..]));
    assert_eq!(after.formation, Some(Formation::single("web")));
}

async fn a_renamed_app_keeps_its_record_and_a_forgotten_one_has_none(place: Place) {
    let before = put_to_sleep(&*place.registry, &shop()).await;
    let store = AppId::new("cloud", "store");
    place.registry.rename(&shop(), &store).await.unwrap();
    assert_eq!(place.registry.read(&shop()).await.unwrap(), None);
    assert_eq!(place.registry.read(&store).await.unwrap(), Some(before));
    place.registry.forget(&store).await.unwrap();
    assert_eq!(place.registry.read(&store).await.unwrap(), None);
    let anew = place.registry.apply(&store, begin_wake(&*place.registry), None).await.unwrap();
    assert_eq!((anew.epoch, anew.formation), (1, None), "and nothing of it comes back");
}

async fn what_does_not_fit_is_refused_with_the_record_as_it_is(place: Place) {
    let asleep = put_to_sleep(&*place.registry, &shop()).await;
    let misfit = place.registry.apply(&shop(), ready(), None).await;
    assert!(matches!(misfit, Err(RegistryError::Misfit(record)) if *record == asleep));
    assert_eq!(place.registry.read(&shop()).await.unwrap(), Some(asleep));
}

/// Two gateways at one Redis.
async fn two() -> (Redis, Arc<dyn Registry>, Arc<dyn Registry>, tempfile::TempDir) {
    let (redis, folders) = (Redis::start().await, tempfile::tempdir().unwrap());
    let block = block(&redis);
    let (one, other) = (folders.path().join("1"), folders.path().join("2"));
    (redis, open(&block, &one).await, open(&block, &other).await, folders)
}

fn key() -> String {
    format!("loir:v1:app:{}", shop())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_changes_the_other_hears() {
    let (_redis, one, other, _folders) = two().await;
    let mut news = other.fleet().unwrap().news().unwrap();
    assert!(matches!(news.recv().await, Some(News::Joined)));
    let begun = one.apply(&shop(), begin_wake(&*one), None).await.unwrap();
    assert!(
        matches!(news.recv().await, Some(News::Changed(app, record)) if app == shop() && record == begun)
    );
    one.forget(&shop()).await.unwrap();
    assert!(matches!(news.recv().await, Some(News::Forgotten(app)) if app == shop()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_lost_is_made_up_for() {
    let (redis, one, other, _folders) = two().await;
    put_to_sleep(&*one, &shop()).await;
    let mut news = other.fleet().unwrap().news().unwrap();
    while !matches!(news.recv().await, Some(News::Changed(_, record)) if record.state == AppState::Asleep) {}
    // As if it had been changed, and nobody been told.
    let text = redis.text(&["GET", &key()]).await.unwrap().replace(r#""epoch":5"#, r#""epoch":6"#);
    redis.text(&["SET", &key(), &text]).await;
    let seq: u64 =
        ::redis::from_redis_value(redis.command(&["HINCRBY", "loir:v1:fleet", "seq", "1"]).await.unwrap())
            .unwrap();
    redis.command(&["ZADD", "loir:v1:changed", &seq.to_string(), &shop().to_string()]).await.unwrap();
    let heard =
        async { while !matches!(news.recv().await, Some(News::Changed(_, record)) if record.epoch == 6) {} };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("at the next beat");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_not_touched() {
    let (redis, one, _other, _folders) = two().await;
    put_to_sleep(&*one, &shop()).await;
    let newer = redis.text(&["GET", &key()]).await.unwrap().replace(r#""v":1"#, r#""v":2,"dreams":true"#);
    redis.text(&["SET", &key(), &newer]).await;
    let refused = one.apply(&shop(), begin_wake(&*one), None).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Newer(2)), "{refused}");
    assert!(refused.to_string().contains("update this gateway"), "{refused}");
    assert_eq!(redis.text(&["GET", &key()]).await, Some(newer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nobody_can_have_written_is_left_as_it_is_and_named() {
    let (redis, one, other, _folders) = two().await;
    redis.text(&["SET", &key(), "rubbish"]).await;
    for registry in [&one, &other] {
        let refused = registry.apply(&shop(), begin_wake(&**registry), None).await.unwrap_err().to_string();
        assert!(refused.contains("cloud/shop") && refused.contains("loir registry repair"), "{refused}");
    }
    assert_eq!(redis.text(&["GET", &key()]).await.as_deref(), Some("rubbish"));
    redis.text(&["DEL", &key()]).await;
    redis.command(&["RPUSH", &key(), "a list"]).await.unwrap();
    assert!(matches!(one.read(&shop()).await, Err(RegistryError::Unavailable(_))));
    redis.text(&["DEL", &key()]).await;
    assert!(
        one.apply(&shop(), begin_wake(&*one), None).await.is_ok(),
        "one wrong key is not the connection's fault"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_go_on_where_they_were_when_redis_comes_back_empty() {
    let (mut redis, one, other, _folders) = two().await;
    put_to_sleep(&*one, &shop()).await;
    eventually!(other.fleet().unwrap().known(&shop()).is_some_and(|record| record.epoch == 5));
    redis.restart_empty().await;
    eventually!(other.read(&shop()).await.is_ok_and(|record| record.is_none()), "both are back");
    let begun = other.apply(&shop(), begin_wake(&*other), None).await.unwrap();
    assert_eq!(begun.formation, Some(Formation::single("web")));
    assert!(begun.epoch > 5, "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_every_call_fails_at_once_and_nothing_may_be_stopped() {
    let (mut redis, one, _other, _folders) = two().await;
    let fleet = one.fleet().unwrap();
    eventually!(fleet.may_stop(), "a lease after it has joined");
    redis.kill().await;
    eventually!(!fleet.sees());
    assert!(!fleet.may_stop() && !fleet.leads());
    assert!(matches!(one.read(&shop()).await, Err(RegistryError::Unavailable(_))));
    redis.restart().await;
    eventually!(fleet.sees());
    assert!(!fleet.may_stop(), "not at once");
    eventually!(fleet.may_stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_when_it_ends_another_does_at_its_next_beat() {
    let (_redis, one, other, _folders) = two().await;
    let leads = |registry: &Arc<dyn Registry>| registry.fleet().unwrap().leads();
    assert!(leads(&one) && !leads(&other));
    one.fleet().unwrap().leave().await;
    drop(one);
    eventually!(leads(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_no_more_rights_than_the_docs_name_is_enough() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let docs = std::fs::read_to_string("docs/fleet.md").unwrap();
    let rights = docs.split("a user with `").nth(1).unwrap().split('`').next().unwrap();
    let mut words = vec!["ACL", "SETUSER", "loir", "on", ">secret"];
    words.extend(rights.split(' '));
    redis.command(&words).await.unwrap();
    let url = redis.url().replace("redis://", "redis://loir:secret@");
    let registry = open(&format!("{{ type: redis, url: '{url}' }}"), folder.path()).await;
    put_to_sleep(&*registry, &shop()).await;
    let fleet = registry.fleet().unwrap();
    fleet.used(&[(shop(), Duration::ZERO)]).await.unwrap();
    assert_eq!(fleet.due().await.unwrap().len() + fleet.abandoned().await.unwrap().len(), 0);
    fleet.agree(&shop(), 5).await.unwrap();
    fleet.agreement(&shop(), 5).await.unwrap();
    fleet.want(&shop()).await;
    let list = loir::registry::fleet::SharedList { text: "{}".into(), age: Duration::ZERO };
    fleet.share_list("cloud", &list).await.unwrap();
    assert!(fleet.shared_list("cloud").await.unwrap().is_some());
    let limits = loir::provider::api::Limits { per_minute: 60, burst: 5, reserve_for_wakes: 1 };
    let taken = fleet.pool().take("abc", limits, loir::provider::api::Priority::Wake).await;
    assert_eq!(taken, loir::provider::api::Taken::Yes);
    registry.forget(&shop()).await.unwrap();
    assert!(fleet.sees());
    fleet.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_about_to_end_leads_no_more_and_is_still_asked() {
    let (_redis, one, other, _folders) = two().await;
    assert!(one.fleet().unwrap().leads());
    one.fleet().unwrap().resign().await;
    eventually!(other.fleet().unwrap().leads());
    assert!(!one.fleet().unwrap().leads());
    one.apply(&shop(), begin_wake(&*one), None).await.unwrap();
    let awake = one.apply(&shop(), ready(), None).await.unwrap();
    let begin = Change::BeginStop { by: other.me().into(), idle: Duration::ZERO, lease: LONG };
    let begun = other.apply(&shop(), begin, None).await.unwrap();
    assert!(begun.epoch > awake.epoch);
    let fleet = other.fleet().unwrap();
    let missing = Agreement::Missing(vec![one.me().to_owned()]);
    assert_eq!(fleet.agreement(&shop(), begun.epoch).await.unwrap(), missing);
    one.fleet().unwrap().agree(&shop(), begun.epoch).await.unwrap();
    assert_eq!(fleet.agreement(&shop(), begun.epoch).await.unwrap(), Agreement::Reached);
    assert_eq!(fleet.agreement(&shop(), begun.epoch - 1).await.unwrap(), Agreement::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_servers_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), signed.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), signed.signing_key.serialize_pem()).unwrap();
    let port = crate::support::leash::lasting_port();
    let options = format!(
        "--tls-port {port} --tls-cert-file {} --tls-key-file {} --tls-auth-clients no --tls-ca-cert-file {}",
        path("cert.pem"),
        path("key.pem"),
        path("cert.pem")
    );
    let _redis = Redis::with().option(&options).start().await;
    let trusting =
        format!("{{ type: redis, url: 'rediss://127.0.0.1:{port}', tls: {{ ca: {} }} }}", path("cert.pem"));
    let registry = open(&trusting, &folder.path().join("1")).await;
    put_to_sleep(&*registry, &shop()).await;
    let plan = plan(&format!("providers: []\nregistry: {{ type: redis, url: 'rediss://127.0.0.1:{port}' }}"));
    let context = RegistryContext { state_dir: None, clock: Clock::system() };
    let strange = plan.registry.open(context).unwrap();
    strange.fleet().unwrap().tried().await;
    assert!(!strange.fleet().unwrap().sees(), "a certificate that nobody vouches for");
}
