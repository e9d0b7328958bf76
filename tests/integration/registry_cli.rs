//! `loir registry dump`, `restore` and `repair`, beside gateways that run and without any.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use loir::registry::RegistryContext;

use crate::{
    clock::Clock,
    eventually,
    fleet::{all_joined, gateways, record},
    simulators::Platform,
    support::{App, fleet::Fleet, gateway, plan, program::Program, redis::Redis},
};

/// What a command printed: standard output, standard error, and the code it ended with.
type Said = (String, String, i32);

async fn loir(config: &Path, words: &[&str]) -> Said {
    let mut args = vec!["registry"];
    args.extend(words);
    args.extend(["-c", config.to_str().unwrap()]);
    let output = Program::command(&args).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// A folder with a configuration for this Redis, and no gateway.
struct Desk(tempfile::TempDir);

impl Desk {
    fn at(url: &str) -> Self {
        Self::of(&format!("registry: {{ type: redis, url: {url:?}, lease: 2s, response_timeout: 500ms }}\n"))
    }

    fn of(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("loir.yaml"), yaml).unwrap();
        Self(folder)
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("loir.yaml")
    }

    fn file(&self, text: &str) -> String {
        let path = self.0.path().join("dump.json");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn loir(&self, words: &[&str]) -> Said {
        loir(&self.config(), words).await
    }
}

/// Everything that Redis has, as DUMP writes it.
async fn everything(redis: &Redis) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for key in redis.keys().await {
        let value = redis.command(&["DUMP", &key]).await.unwrap();
        all.insert(key, redis::from_redis_value(value).unwrap());
    }
    all
}

fn dump_of(apps: Value) -> String {
    json!({ "format": "loir-registry-dump", "version": 1, "taken": "2026-01-01T00:00:00Z", "apps": apps })
        .to_string()
}

/// A fleet of one whose app was woken and stopped, with what it ran before.
async fn used(redis: &Redis) -> Fleet {
    let plan = gateways(1, redis).await.apps(["shop", "blog"]).defaults("idle_timeout: 300ms");
    let fleet = plan.start().await;
    all_joined(&fleet).await;
    assert_eq!(fleet.status(0, "shop", "/").await, 200);
    eventually!(
        fleet.agrees("shop", "asleep").await && fleet.platform.stops("shop") == 1,
        "{}",
        fleet.logs()
    );
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_brings_back_what_an_emptied_registry_lost_while_a_gateway_runs() {
    let redis = Redis::with().password("hush-hush").start().await;
    let mut fleet = used(&redis).await;
    let config = fleet.home(0).join("loir.yaml");
    let before = record(&redis, "shop").await.unwrap();
    assert!(before["formation"].is_object(), "{before}");
    let (text, summary, code) = loir(&config, &["dump"]).await;
    assert_eq!(code, 0, "{summary}");
    assert!(!text.contains("hush") && !summary.contains("hush"), "{text}{summary}");
    let dump: Value = serde_json::from_str(&text).unwrap();
    let shop = &dump["apps"]["cloud/shop"];
    for field in ["state", "epoch", "formation", "boots", "failures"] {
        assert_eq!(shop[field], before[field], "{field} in\n{text}");
    }
    let since: jiff::Timestamp = shop["since"].as_str().unwrap().parse().unwrap();
    assert_eq!(u64::try_from(since.as_millisecond()).unwrap(), before["since"]);
    assert_eq!(dump["fleet"]["last_heard_of"].as_object().unwrap().len(), 1, "{text}");
    assert!(dump["fleet"]["last_heard_of"][dump["fleet"]["leader"].as_str().unwrap()].is_string(), "{text}");
    assert!(text.lines().count() > 20 && summary.contains("of the fleet `loir` at 127.0.0.1:"), "{summary}");

    // The gateway must not be the one that remembers.
    fleet.end(0).await;
    std::fs::remove_dir_all(fleet.home(0).join("state")).ok();
    redis.text(&["FLUSHALL"]).await;
    let desk = Desk::at(&redis.url());
    let file = desk.file(&text);
    let (said, summary, code) = desk.loir(&["restore", &file]).await;
    assert_eq!(code, 0, "{summary}");
    assert!(
        said.contains("cloud/shop: would come back at epoch") && summary.contains("add --yes"),
        "{said}{summary}"
    );
    assert_eq!(redis.keys().await, [""; 0], "a dry run changes nothing");
    fleet.restart(0).await;
    let (said, summary, code) = desk.loir(&["restore", &file, "--yes"]).await;
    assert_eq!(code, 0, "{said}{summary}");
    let after = record(&redis, "shop").await.unwrap();
    assert_eq!(after["formation"], before["formation"]);
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{after}");
    assert_eq!(after["state"], "asleep");
    // Running gateways go on with what came back.
    assert_eq!(fleet.status(0, "shop", "/").await, 200, "{}", fleet.logs());
    eventually!(fleet.platform.stops("shop") == 2, "{}", fleet.logs());
    assert_eq!(fleet.starts_asked("shop").len(), 2);
    let (said, _, code) = desk.loir(&["restore", &file, "--yes"]).await;
    assert!(code == 0 && said.contains("cloud/shop: kept: the registry is at epoch"), "{said}");
    eventually!(desk.loir(&["repair"]).await.2 == 0, "all is well: {:?}", desk.loir(&["repair"]).await);
    let (said, summary, _) = desk.loir(&["repair"]).await;
    assert!(
        said.is_empty() && summary.contains("All is well: ") && summary.contains(" leads"),
        "{said}{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_adds_what_is_missing_and_leads_on_what_is_older_and_never_goes_back() {
    let redis = Redis::start().await;
    let desk = Desk::at(&redis.url());
    let web = json!({ "web": { "amount": 2 } });
    let put =
        async |app: &str, text: &str| redis.text(&["SET", &format!("loir:v1:app:cloud/{app}"), text]).await;
    put("newer", r#"{"v":1,"state":"awake","epoch":9,"since":5}"#).await;
    put("same", r#"{"v":1,"state":"awake","epoch":7,"since":5}"#).await;
    put("older", r#"{"v":1,"state":"awake","epoch":2,"since":1900000000000}"#).await;
    put("strange", "what").await;
    put("busy", r#"{"v":1,"state":"waking","epoch":2,"since":5,"owner":"g","deadline":9900000000000}"#).await;
    let one = |state: &str| json!({ "state": state, "epoch": 7, "since": "2026-01-01T00:00:00Z", "formation": web });
    let file = desk.file(&dump_of(json!({
        "cloud/missing": one("awake"), "cloud/newer": one("asleep"), "cloud/same": one("asleep"),
        "cloud/older": one("asleep"), "cloud/strange": one("asleep"), "cloud/busy": one("asleep"),
        "cloud/halfway": { "state": "stopping", "epoch": 3, "since": 5, "owner": "g", "deadline": 6 },
        "cloud/raw": { "problem": "a newer version", "raw": "{}" },
    })));
    let before = everything(&redis).await;
    let (said, summary, code) = desk.loir(&["restore", &file]).await;
    assert_eq!(code, 0, "{summary}");
    assert_eq!(everything(&redis).await, before, "a dry run changes nothing");
    for line in [
        "cloud/missing: would come back at epoch 7",
        "cloud/halfway: would come back at epoch 3",
        "cloud/older: would be led on from epoch 7",
        "cloud/newer: kept: the registry is at epoch 9, the dump at the older 7",
        "cloud/busy: kept: it is waking right now",
        "cloud/strange: kept: its record is not understood",
        "cloud/raw: left out",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
    assert!(
        !said.contains("cloud/same") && summary.contains("3 apps would be restored, 1 at the epoch"),
        "{summary}"
    );
    let (_, summary, code) = desk.loir(&["restore", &file, "--yes"]).await;
    assert!(code == 0 && summary.contains("3 apps restored"), "{summary}");
    let after = everything(&redis).await;
    for app in ["newer", "same", "strange", "busy"] {
        let key = format!("loir:v1:app:cloud/{app}");
        assert_eq!(after[&key], before[&key], "{app}");
    }
    for (app, state, epoch) in [("missing", "awake", 8), ("older", "awake", 8), ("halfway", "awake", 4)] {
        let record = record(&redis, app).await.unwrap();
        assert_eq!((&record["state"], &record["epoch"]), (&json!(state), &json!(epoch)), "{app}");
        assert!(redis.text(&["ZSCORE", "loir:v1:changed", &format!("cloud/{app}")]).await.is_some(), "{app}");
        let due = redis.text(&["ZSCORE", "loir:v1:due", &format!("cloud/{app}")]).await;
        assert_eq!(due.is_some(), state == "awake", "{app}");
    }
    assert_eq!(record(&redis, "older").await.unwrap()["formation"], web);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_dump_is_named_and_writes_nothing() {
    let redis = Redis::start().await;
    let desk = Desk::at(&redis.url());
    let good = json!({ "state": "asleep", "epoch": 7, "since": 5 });
    for (text, said) in [
        (dump_of(json!({ "a/a": good, "b/b": { "state": "asleep", "epoch": "x", "since": 5 } })), "\"b/b\""),
        (dump_of(json!({ "a/a": good, "b/b": { "state": "dreaming", "epoch": 1, "since": 5 } })), "dreaming"),
        (dump_of(json!({ "a/a": good, "nameless": good })), "\"nameless\": an app is written provider/name"),
        (dump_of(json!({ "a/a": good }))[..90].to_owned(), "damaged"),
        ("{}".to_owned(), "no dump"),
        (String::new(), "no dump"),
    ] {
        let file = desk.file(&text);
        let (out, error, code) = desk.loir(&["restore", &file, "--yes"]).await;
        assert_eq!((code, &*out), (1, ""), "{error}");
        assert!(error.contains(said) && error.contains("Nothing was changed"), "{said}: {error}");
    }
    let (_, error, code) = desk.loir(&["restore", "/nowhere/dump.json", "--yes"]).await;
    assert!(code == 1 && error.contains("/nowhere/dump.json: cannot be read"), "{error}");
    assert_eq!(redis.keys().await, [""; 0]);
    assert_eq!(desk.loir(&["restore"]).await.2, 2, "a command line that makes no sense");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found_in_a_dry_run_and_mended_beside_a_gateway() {
    let redis = Redis::start().await;
    let fleet = used(&redis).await;
    let config = fleet.home(0).join("loir.yaml");
    eventually!(record(&redis, "blog").await.is_some());
    let formation = record(&redis, "shop").await.unwrap()["formation"].clone();
    let newer = r#"{"v":99,"state":"dreaming"}"#;
    let awake = r#"{"v":1,"state":"awake","epoch":4,"since":5}"#;
    for damage in [
        &["SET", "loir:v1:app:cloud/shop", "gar\"bage"][..],
        &["RPUSH", "loir:v1:app:cloud/list", "x"],
        &["SET", "loir:v1:app:nameless", awake],
        &["SET", "loir:v1:app:cloud/newer", newer],
        &["SET", "loir:v1:app:cloud/unlisted", awake],
        &["ZADD", "loir:v1:due", "9900000000000", "cloud/blog"],
        &["ZADD", "loir:v1:changed", "1", "cloud/ghost"],
        &["ZADD", "loir:v1:deadlines", "9900000000000", "cloud/ghost"],
        &["HSET", "loir:v1:fleet", "at:dead", "1700000000000"],
        &["HSET", "loir:v1:fleet", "at:garbled", "soon"],
    ] {
        redis.command(damage).await.unwrap();
    }
    let (said, summary, code) = loir(&config, &["dump"]).await;
    assert_eq!(code, 0, "{summary}");
    let dump: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(dump["apps"]["cloud/shop"]["raw"], "gar\"bage");
    assert_eq!(dump["apps"]["cloud/newer"]["raw"], newer);
    assert!(summary.contains("4 not understood") && summary.contains("cloud/shop"), "{summary}");

    let (said, summary, code) = loir(&config, &["repair"]).await;
    assert_eq!(code, 1, "{said}{summary}");
    for part in [
        "cloud/shop: its record cannot be understood",
        "moved aside, to loir:v1:aside:cloud/shop:",
        "cloud/list: its record cannot be understood: it is a list",
        "nameless: its record cannot be understood: no app has such a name",
        "cloud/newer: missing in `changed`",
        "cloud/unlisted: missing in `changed`; awake, and missing in `due`",
        "cloud/blog: asleep, and listed in `due`",
        "cloud/ghost: listed in `changed`, `deadlines`, and has no record",
        "gateway dead: not heard of since 2023-11-14T22:13:20Z",
        "gateway garbled: when it was last heard of is no number",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert!(summary.contains("9 problems") && summary.contains("Nothing was changed"), "{summary}");
    assert_eq!(redis.text(&["GET", "loir:v1:app:cloud/shop"]).await.unwrap(), "gar\"bage", "a dry run");
    assert!(redis.text(&["HGET", "loir:v1:fleet", "at:dead"]).await.is_some(), "a dry run");
    assert!(!redis.keys().await.iter().any(|key| key.contains(":aside:")), "a dry run");

    let (said, summary, code) = loir(&config, &["repair", "--yes"]).await;
    assert!(code == 0 && summary.contains("9 mended, 0 changed meanwhile"), "{said}{summary}");
    let aside: Vec<_> = redis.keys().await.into_iter().filter(|key| key.contains(":aside:")).collect();
    assert_eq!(aside.len(), 3, "{aside:?}");
    let kept = aside.iter().find(|key| key.starts_with("loir:v1:aside:cloud/shop:20")).unwrap();
    assert_eq!(redis.text(&["GET", kept]).await.unwrap(), "gar\"bage", "never deleted");
    assert_eq!(redis.text(&["GET", "loir:v1:app:cloud/newer"]).await.unwrap(), newer);
    assert!(redis.text(&["ZSCORE", "loir:v1:due", "cloud/unlisted"]).await.is_some());
    assert_eq!(redis.text(&["HGET", "loir:v1:fleet", "at:garbled"]).await, None);
    let (said, summary, code) = loir(&config, &["repair"]).await;
    assert!(code == 0 && summary.contains("All is well"), "{said}{summary}");
    // The gateway makes the record anew, with what must come back.
    assert_eq!(fleet.status(0, "shop", "/").await, 200, "{}", fleet.logs());
    eventually!(fleet.platform.stops("shop") == 2, "{}", fleet.logs());
    eventually!(record(&redis, "shop").await.is_some_and(|record| record["formation"] == formation));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_it_was_found_is_not_mended() {
    let redis = Redis::start().await;
    let text = format!("registry: {{ type: redis, url: {:?} }}\n", redis.url());
    let context = RegistryContext { state_dir: None, clock: Clock::system() };
    let upkeep = plan(&text).registry.upkeep(context).await.unwrap();
    let awake = r#"{"v":1,"state":"awake","epoch":4,"since":5}"#;
    let asleep = r#"{"v":1,"state":"asleep","epoch":5,"since":5}"#;
    for damage in [
        &["SET", "loir:v1:app:cloud/strange", "what"][..],
        &["RPUSH", "loir:v1:app:cloud/list", "what"],
        &["SET", "loir:v1:app:cloud/unlisted", awake],
        &["ZADD", "loir:v1:due", "1", "cloud/ghost"],
        &["HSET", "loir:v1:fleet", "at:dead", "1700000000000"],
    ] {
        redis.command(damage).await.unwrap();
    }
    let found = upkeep.examine().await.unwrap().ailments;
    assert_eq!(found.len(), 5, "{found:?}");
    for change in [
        &["SET", "loir:v1:app:cloud/strange", asleep][..],
        &["SET", "loir:v1:app:cloud/list", asleep],
        &["SET", "loir:v1:app:cloud/unlisted", asleep],
        &["SET", "loir:v1:app:cloud/ghost", awake],
        &["HSET", "loir:v1:fleet", "at:dead", "1700000000001"],
    ] {
        redis.command(change).await.unwrap();
    }
    let before = everything(&redis).await;
    for ailment in &found {
        assert!(!upkeep.mend(ailment).await.unwrap(), "{ailment:?}");
    }
    assert_eq!(everything(&redis).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_gateways_can_end_is_said_and_left_and_a_stuck_leader_is_taken_out() {
    let redis = Redis::start().await;
    let desk = Desk::at(&redis.url());
    let waking =
        r#"{"v":1,"state":"waking","epoch":4,"since":1700000000000,"owner":"g","deadline":1700000015000}"#;
    for words in [
        &["SET", "loir:v1:app:cloud/shop", waking][..],
        &["ZADD", "loir:v1:changed", "1", "cloud/shop"],
        &["ZADD", "loir:v1:deadlines", "1700000015000", "cloud/shop"],
    ] {
        redis.command(words).await.unwrap();
    }
    let before = everything(&redis).await;
    let (said, summary, code) = desk.loir(&["repair"]).await;
    assert!(
        code == 1 && said.contains("cloud/shop: waking since 2023-11-14T22:13:20Z, and abandoned"),
        "{said}"
    );
    assert!(said.contains("no gateway runs") && summary.contains("nobody leads"), "{said}{summary}");
    assert_eq!(desk.loir(&["repair", "--yes"]).await.2, 0);
    assert_eq!(everything(&redis).await, before, "it is the gateways' to end");
    redis.command(&["HSET", "loir:v1:fleet", "leader", "anna", "until", "9900000000000"]).await.unwrap();
    let (said, summary, code) = desk.loir(&["repair"]).await;
    assert!(
        code == 1 && said.contains("anna leads, and ends it") && summary.contains("anna leads"),
        "{said}"
    );
    redis.command(&["HSET", "loir:v1:fleet", "until", "tomorrow"]).await.unwrap();
    let (said, _, _) = desk.loir(&["repair", "--yes"]).await;
    assert!(said.contains("the leader: until when it leads is no number"), "{said}");
    assert_eq!(redis.text(&["HGET", "loir:v1:fleet", "leader"]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_cannot_be_reached_is_said_in_time_and_without_its_password() {
    let absent = Redis::with().password("hush-hush").absent();
    let hangs = Redis::with().start().await;
    let locked = Redis::with().password("hush-hush").start().await;
    hangs.freeze();
    let wrong = format!("redis://:guess-guess@127.0.0.1:{}", locked.port);
    for (url, said) in [
        (absent.url(), "refused"),
        (hangs.url(), "no answer within 500ms"),
        (wrong, "check the user name and password"),
    ] {
        let desk = Desk::at(&url);
        let file = desk.file(&dump_of(json!({ "a/a": { "state": "asleep", "epoch": 7, "since": 5 } })));
        for words in [&["dump"][..], &["restore", &file, "--yes"], &["repair", "--yes"]] {
            let began = Instant::now();
            let (out, error, code) = desk.loir(words).await;
            assert_eq!((code, &*out), (1, ""), "{words:?}: {error}");
            assert!(
                error.contains("the registry at 127.0.0.1:") && error.contains(said),
                "{words:?}: {error}"
            );
            assert!(error.contains("Nothing was changed"), "{error}");
            assert!(!error.contains("hush") && !error.contains("guess"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(10), "{words:?} took {:?}", began.elapsed());
        }
    }
    hangs.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_of_a_single_gateway_are_dumped_while_it_runs_and_not_mended() {
    let folder = tempfile::tempdir().unwrap();
    let setup = gateway([App::named("hello")]).keeps_state().top("history: { type: memory }");
    let program = Program::start(&setup, folder.path()).await;
    program.wake("hello").await;
    let config = folder.path().join("loir.yaml");
    let kept = || {
        let files = std::fs::read_dir(folder.path().join("state")).unwrap();
        let mut files: Vec<_> =
            files.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let file = folder.path().join("state/registry.json");
    eventually!(std::fs::read_to_string(&file).unwrap().contains("awake"), "{}", program.log());
    let before = kept();
    let (text, summary, code) = loir(&config, &["dump"]).await;
    assert_eq!(code, 0, "{summary}");
    let dump: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dump["registry"]["type"], "memory");
    let apps = dump["apps"].as_object().unwrap();
    assert!(apps.values().any(|app| app["state"] == "awake"), "{text}");
    let file = folder.path().join("dump.json");
    std::fs::write(&file, &text).unwrap();
    for words in
        [&["restore", file.to_str().unwrap(), "--yes"][..], &["restore", file.to_str().unwrap()], &["repair"]]
    {
        let (_, error, code) = loir(&config, words).await;
        assert!(
            code == 1 && error.contains("stop the gateway") && error.contains("registry.json"),
            "{error}"
        );
    }
    assert_eq!(kept(), before, "nothing is written");
    let bare = Desk::of("registry: { type: memory }\n");
    let (_, error, code) = bare.loir(&["dump"]).await;
    assert!(code == 1 && error.contains("state_dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_rights_that_the_docs_name_can_dump_restore_and_repair() {
    let redis = Redis::start().await;
    let docs = include_str!("../../docs/fleet.md");
    let rights =
        docs.lines().find_map(|line| line.strip_prefix("| a user with `")?.split('`').next()).unwrap();
    let mut user = vec!["ACL", "SETUSER", "anna", "on", ">secret"];
    user.extend(rights.split_whitespace());
    redis.command(&user).await.unwrap();
    redis.command(&["SET", "loir:v1:app:cloud/shop", "what"]).await.unwrap();
    let desk = Desk::at(&redis.url().replace("redis://", "redis://anna:secret@"));
    let file = desk.file(&dump_of(json!({ "a/a": { "state": "asleep", "epoch": 7, "since": 5 } })));
    for words in [&["dump"][..], &["restore", &file, "--yes"], &["repair", "--yes"], &["repair"]] {
        let (_, summary, code) = desk.loir(words).await;
        assert_eq!(code, 0, "{words:?}: {summary}");
    }
}
