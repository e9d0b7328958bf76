//! What is shipped to run Loir with: each file says what is true of the program, as far as that can be seen without the platform.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Duration,
};

use loir::{
    app::AppId,
    config::Environment,
    routing::schedule::Standing,
    server::{Plan, Source, load},
};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn plan(path: &str, env: &Environment) -> Plan {
    load(Source { name: path.into(), text: text(path) }, env).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Whether the command line is one that the program understands.
fn is_understood(arguments: &[&str]) {
    let help = Command::new(env!("CARGO_BIN_EXE_loir")).args(arguments).arg("--help").output().unwrap();
    assert!(help.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&help.stderr));
}

/// The file as it stands in `section`: every key with its values.
fn unit(path: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut section, mut keys) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for line in text(path).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            assert!(!section.is_empty() && key.trim() == key, "{path}: {line}");
            keys.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        }
    }
    keys
}

fn seconds(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap());
    let number: u64 = number.parse().unwrap();
    Duration::from_secs(match unit {
        "s" => number,
        "min" | "m" => number * 60,
        _ => panic!("{text}"),
    })
}

const UNIT: &str = "deploy/systemd/loir.service";

#[test]
fn the_unit_runs_what_there_is_and_gives_it_its_time() {
    let unit = unit(UNIT);
    let one = |section: &str, key: &str| {
        let values = &unit[&(section.to_owned(), key.to_owned())];
        assert_eq!(values.len(), 1, "{key}");
        values[0].clone()
    };
    let command = one("Service", "ExecStart");
    let words: Vec<_> = command.split(' ').collect();
    assert_eq!(words[0], "/usr/local/bin/loir");
    is_understood(&words[1..]);
    assert_eq!(one("Service", "Type"), "notify-reload");
    assert!(seconds(&one("Service", "WatchdogSec")) >= Duration::from_secs(10));
    let production = plan("conf/production.yaml", &Environment::default());
    let drain = production.config.server.drain_timeout;
    // stop_grace of its apps.
    let grace = Duration::from_secs(30);
    assert!(seconds(&one("Service", "TimeoutStopSec")) > drain + grace);
    assert_eq!(one("Service", "StateDirectory"), "loir");
    assert_eq!(production.config.state_dir.as_deref(), Some(Path::new("/var/lib/loir")));
    let files = production.config.server.limits.connections * 2;
    assert!(one("Service", "LimitNOFILE").parse::<usize>().unwrap() >= files, "two for each client");
}

/// The keys that systemd 253 knows, of those that matter here: `man systemd.unit`, `systemd.service`, `systemd.exec`, `systemd.kill`.
#[test]
fn the_unit_has_no_key_that_systemd_would_pass_over() {
    let known = |section: &str| -> &[&str] {
        match section {
            "Unit" => &["Description", "Documentation", "Wants", "After"],
            "Service" => &[
                "Type",
                "NotifyAccess",
                "ExecStart",
                "EnvironmentFile",
                "WatchdogSec",
                "Restart",
                "RestartSec",
                "TimeoutStartSec",
                "TimeoutStopSec",
                "KillMode",
                "StateDirectory",
                "StateDirectoryMode",
                "WorkingDirectory",
                "LimitNOFILE",
                "DynamicUser",
                "AmbientCapabilities",
                "CapabilityBoundingSet",
                "NoNewPrivileges",
                "ProtectSystem",
                "ProtectHome",
                "PrivateTmp",
                "PrivateDevices",
                "ProtectClock",
                "ProtectControlGroups",
                "ProtectHostname",
                "ProtectKernelLogs",
                "ProtectKernelModules",
                "ProtectKernelTunables",
                "ProtectProc",
                "RestrictAddressFamilies",
                "RestrictNamespaces",
                "RestrictRealtime",
                "RestrictSUIDSGID",
                "LockPersonality",
                "RemoveIPC",
                "SystemCallArchitectures",
                "SystemCallFilter",
                "SystemCallErrorNumber",
                "UMask",
            ],
            "Install" => &["WantedBy"],
            _ => &[],
        }
    };
    for ((section, key), values) in unit(UNIT) {
        assert!(known(&section).contains(&&*key), "[{section}] {key}");
        assert_eq!(values.len(), 1, "{key} stands there twice");
        if key.starts_with("Protect") || key.starts_with("Restrict") || key.starts_with("Private") {
            assert!(!["no", "false", "0"].contains(&&*values[0]), "{key}");
        }
    }
}

#[test]
fn systemd_itself_finds_nothing_wrong_with_the_unit() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        // The tests above have read every key.
        eprintln!("NOT CHECKED: there is no systemd-analyze on this machine");
        return;
    };
    let version = String::from_utf8(version.stdout).unwrap();
    let version: u32 = version.split(' ').nth(1).unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("loir.service");
    fs::write(&here, text(UNIT).replace("/usr/local/bin/loir", env!("CARGO_BIN_EXE_loir"))).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&here).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // notify-reload came with 253.
    let about_us = said.lines().filter(|line| line.contains("loir"));
    let wrong: Vec<_> = about_us
        .filter(|line| version >= 253 || !line.contains("service type, ignoring: notify-reload"))
        .collect();
    assert!(output.status.success() && wrong.is_empty(), "{said}");
}

/// Every `${NAME}` of a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let names = text.split("${").skip(1);
    names.map(|rest| rest.split([':', '}']).next().unwrap()).collect()
}

#[test]
fn the_compose_file_names_only_what_there_is() {
    let compose: Value = serde_yaml::from_str(&text("deploy/docker-compose.yml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["fleet", "gateway", "postgres", "redis"]);
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            match from.starts_with('.') {
                true => assert!(root().join("deploy").join(from).is_file(), "{name}: {from}"),
                false => assert!(compose["volumes"].get(from).is_some(), "{name}: {from}"),
            }
        }
        for needed in service["depends_on"].as_object().into_iter().flat_map(|needed| needed.keys()) {
            assert!(services.contains_key(needed), "{name}: {needed}");
        }
        if let Some(build) = service["build"].as_str() {
            assert!(root().join("deploy").join(build).join("Dockerfile").is_file());
        }
    }
    let gateway = plan("deploy/compose/loir.yaml", &Environment::default());
    assert_eq!(gateway.config.server.listen.port(), 8080);
    assert!(services["gateway"]["ports"][0].as_str().unwrap().ends_with(":8080"));
    assert_eq!(gateway.summary(), "2 apps at 1 provider, listens on 0.0.0.0:8080");
    let state = format!("state:{}", gateway.config.state_dir.as_ref().unwrap().display());
    assert!(services["gateway"]["volumes"].as_array().unwrap().iter().any(|volume| *volume == state));

    let command: Vec<_> =
        services["fleet"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    is_understood(&command);
    let given = services["fleet"]["environment"].as_object().unwrap();
    let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let mut env: Environment = given.filter(|(_, value)| !value.contains("${")).collect();
    env.insert("LOIR_DOMAIN".into(), "apps.example.com".into());
    for secret in ["SCALINGO_API_TOKEN", "LOIR_ADMIN_TOKEN", "LOIR_SIGNING_KEY"] {
        assert!(services["fleet"]["environment"].get(secret).is_some(), "{secret} can be given");
        env.insert(secret.into(), SECRET.into());
    }
    env.insert("DATABASE_URL".into(), "postgres://loir@postgres/loir".into());
    assert_eq!(plan("conf/paas.yaml", &env).config.server.listen.port(), 8080);
}

#[test]
fn the_image_starts_the_program_with_words_that_it_understands() {
    let dockerfile = text("Dockerfile");
    let words = |instruction: &str| -> Vec<String> {
        let line = dockerfile.lines().find(|line| line.starts_with(instruction)).unwrap();
        serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
    };
    assert_eq!(words("ENTRYPOINT"), ["tini", "--", "loir"]);
    is_understood(&words("CMD").iter().map(String::as_str).collect::<Vec<_>>());
    let health: Vec<String> = words("HEALTHCHECK");
    is_understood(&health[1..].iter().map(String::as_str).collect::<Vec<_>>());
}

/// What a platform makes up by itself.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Variables that a platform sets by itself.
type Given = [(&'static str, &'static str); 3];

/// What each platform is told, and what it gives to the gateway by itself.
fn manifests() -> [(&'static str, Value, Given); 2] {
    let read = |path| serde_json::from_str(&text(path)).unwrap();
    [
        (
            "app.json",
            read("app.json"),
            [("HEROKU_API_KEY", "x"), ("REDIS_URL", "redis://x"), ("DATABASE_URL", "postgres://x/y")],
        ),
        (
            "scalingo.json",
            read("scalingo.json"),
            [
                ("SCALINGO_API_TOKEN", "x"),
                ("SCALINGO_REDIS_URL", "redis://x"),
                ("SCALINGO_POSTGRESQL_URL", "postgres://x/y"),
            ],
        ),
    ]
}

#[test]
fn on_a_platform_the_gateway_listens_where_it_is_told_and_leaves_itself_alone() {
    let procfile = text("Procfile");
    let command = procfile.strip_prefix("web: ").unwrap().trim();
    let words: Vec<_> = command.split(' ').collect();
    assert_eq!(words[0], "./target/release/loir");
    is_understood(&words[1..]);
    assert_eq!(words[1..], ["run", "-c", "conf/paas.yaml"]);
    for (name, manifest, given) in manifests() {
        let own = manifest["env"].as_object().unwrap().iter();
        let own = own.filter_map(|(name, variable)| {
            let made_up = variable["generator"].as_str().map(|_| SECRET);
            Some((name.as_str(), variable["value"].as_str().or(made_up)?))
        });
        let mut env: Environment =
            own.chain(given).chain([("PORT", "5123"), ("LOIR_DOMAIN", "apps.example.com")]).collect();
        let config = plan("conf/paas.yaml", &env).config;
        assert_eq!(config.server.listen, "0.0.0.0:5123".parse().unwrap(), "{name}");
        assert_eq!(config.registry.kind, "redis");
        assert_eq!(config.admin.host.as_deref(), Some("loir-admin.apps.example.com"), "{name}");
        for app in ["loir", "loir-staging", "shop-production"] {
            assert!(config.manage.leaves_alone(&AppId::new("platform", app)).is_some(), "{name}: {app}");
        }
        assert!(config.manage.leaves_alone(&AppId::new("platform", "shop")).is_none());
        env.insert("LOIR_OWN_APP".into(), "sleeper".into());
        let manage = plan("conf/paas.yaml", &env).config.manage;
        assert!(manage.leaves_alone(&AppId::new("platform", "sleeper")).is_some());
    }
}

#[test]
fn the_manifests_have_the_keys_that_their_platforms_know_and_every_variable_that_is_needed() {
    type Keys = &'static [&'static str];
    let known: BTreeMap<&str, (Keys, Keys, Keys)> = BTreeMap::from([
        // https://devcenter.heroku.com/articles/app-json-schema
        (
            "app.json",
            (
                &[
                    "name",
                    "description",
                    "keywords",
                    "website",
                    "repository",
                    "logo",
                    "success_url",
                    "scripts",
                    "env",
                    "formation",
                    "image",
                    "addons",
                    "buildpacks",
                    "stack",
                    "environments",
                ][..],
                &["quantity", "size"][..],
                &["plan", "as", "options"][..],
            ),
        ),
        // https://developers.scalingo.com/scalingo-json-schema/index
        (
            "scalingo.json",
            (
                &[
                    "name",
                    "description",
                    "logo",
                    "repository",
                    "ref",
                    "stack",
                    "website",
                    "env",
                    "addons",
                    "scripts",
                    "formation",
                    "copy_parent_database_urls",
                ],
                &["amount", "size"],
                &["plan", "options"],
            ),
        ),
    ]);
    let needed = text("conf/paas.yaml");
    for (name, manifest, _) in manifests() {
        let (top, formation, addon) = known[name];
        let keys = |value: &Value, known: &[&str]| {
            for key in value.as_object().unwrap().keys() {
                assert!(known.contains(&key.as_str()), "{name}: {key}");
            }
        };
        keys(&manifest, top);
        keys(&manifest["formation"]["web"], formation);
        for one in manifest["addons"].as_array().unwrap().iter().filter(|one| one.is_object()) {
            keys(one, addon);
        }
        for variable in manifest["env"].as_object().unwrap().values() {
            keys(variable, &["description", "value", "generator", "required"]);
        }
        for variable in variables(&needed).into_iter().filter(|name| name.starts_with("LOIR_")) {
            assert!(manifest["env"].get(variable).is_some(), "{name} lacks {variable}");
        }
        // The process types of Procfile, and nothing else.
        let types: Vec<_> = manifest["formation"].as_object().unwrap().keys().collect();
        assert_eq!(types, ["web"], "{name}");
    }
}

#[test]
fn what_compiles_on_a_platform_finds_what_it_needs() {
    assert_eq!(
        text("Aptfile").trim(),
        "cmake",
        "as the Dockerfile, for the compression that Pingora compiles"
    );
    assert!(text("Dockerfile").contains("cmake"));
    let buildpacks: Value = serde_json::from_str(&text("app.json")).unwrap();
    let rust = "https://github.com/emk/heroku-buildpack-rust";
    assert_eq!(buildpacks["buildpacks"][1]["url"], rust);
    assert!(text(".buildpacks").lines().any(|line| line == rust));
}

/// What `cat > FILE` and `cat >> FILE` of a page have written, in their order.
fn files_of(page: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::<String, String>::new();
    for block in page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for here in block.split("cat >").skip(1) {
            let (first, rest) = here.split_once('\n').unwrap();
            let (appends, name) = match first.strip_prefix('>') {
                Some(name) => (true, name),
                None => (false, first),
            };
            let name = name.split(" <<").next().unwrap().trim().to_owned();
            let text = rest.split("\nEOF").next().unwrap();
            let file = files.entry(name).or_default();
            if !appends {
                file.clear();
            }
            file.push_str(text);
            file.push('\n');
        }
    }
    files
}

#[test]
fn what_the_tutorial_writes_loads_and_does_what_it_says() {
    let page = text("docs/tutorial.md");
    let files = files_of(&page);
    let yaml = &files["loir.yaml"];
    let source = Source { name: "docs/tutorial.md".into(), text: yaml.clone() };
    let plan = load(source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
    let said = "fine: 1 app at 1 provider, listens on 127.0.0.1:8080";
    assert!(page.contains(said) && said.ends_with(&plan.summary()), "{}", plan.summary());
    let app = AppId::new("local", "hello");
    assert_eq!(&*plan.config.hooks[0].name, "slack");
    let schedule = plan.config.rules.of(&app).schedule.expect("the night");
    // 23:00 and 13:00 in Paris.
    let at = |hour: u64| (1_768_435_200 + hour * 3600) * 1000;
    assert!(matches!(schedule.standing(at(22)), Standing::Asleep(_)));
    assert_eq!(schedule.standing(at(12)), Standing::Free);
    for name in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(root().join("docs").join(name).exists(), "{name}");
    }
}

#[test]
fn every_file_that_the_page_on_deployment_names_is_there() {
    let page = text("docs/deploy.md");
    let mut links = 0;
    for name in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(root().join("docs").join(name).exists(), "{name}");
        links += 1;
    }
    assert!(links > 8, "{links}");
}
