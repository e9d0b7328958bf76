//! The configuration: a bad one is refused with every mistake at its place, a good one loads, nothing secret is shown.
//!
//! A fixture in `invalid/` says what is wrong with it in comments: `#~ COLUMN: part of the message` on the line of the
//! problem (the column may be left out), or `#~@LINE` where no comment can stand on that line; line 0 is the whole
//! file. There must be no other problem.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use loir::{
    config::{Environment, problem::Problems},
    server::{Plan, Source, load},
};

/// Counted, so that a filter that matches nothing is noticed.
const INVALID: usize = 54;
const VALID: usize = 13;
const SHIPPED: [&str; 2] = ["loir.yaml", "production.yaml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> = fs::read_dir(root().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The variables that fixtures name.
fn env() -> Environment {
    Environment::from_iter([
        ("NAME", "value"),
        ("NESTED", "${NAME}"),
        ("NUMBER", "7"),
        ("CIRCLE", "${AROUND}"),
        ("AROUND", "${CIRCLE}"),
        ("GARBAGE", "hunter2"),
    ])
}

fn read(name: &str, text: &str, env: &Environment) -> Result<Plan, Problems> {
    load(Source { name: name.to_owned(), text: text.to_owned() }, env)
}

fn problems(text: &str, env: &Environment) -> String {
    read("x.yaml", text, env).err().map(|problems| problems.to_string()).unwrap_or_default()
}

/// Line, column if it is given, and a part of the message.
fn expected(text: &str) -> Vec<(u32, Option<u32>, &str)> {
    let mut expected = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for mark in line.split("#~").skip(1) {
            let (line, rest) = match mark.strip_prefix('@') {
                Some(rest) => {
                    let (line, rest) = rest.split_once(' ').unwrap();
                    (line.parse().unwrap(), rest)
                }
                None => (number, mark),
            };
            let column = rest.split_once(": ").and_then(|(column, _)| column.trim().parse().ok());
            let message = if column.is_some() { rest.split_once(": ").unwrap().1 } else { rest };
            assert!(!message.trim().is_empty());
            expected.push((line, column, message.trim()));
        }
    }
    expected.sort();
    expected
}

#[test]
fn every_mistake_of_every_invalid_file_is_told_at_its_place_and_nothing_else() {
    let files = files("tests/fixtures/config/invalid");
    assert_eq!(files.len(), INVALID);
    let mut wrong = Vec::new();
    for (path, text) in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        let Err(found) = read(&name, text, &env()) else {
            wrong.push(format!("{name} was accepted"));
            continue;
        };
        let expected = expected(text);
        let mut rest = found.sorted();
        let mut missing = expected.clone();
        missing.retain(|(line, column, message)| {
            let fits = rest.iter().position(|problem| {
                *line == problem.at.line
                    && column.is_none_or(|column| column == problem.at.column)
                    && problem.message.contains(message)
            });
            fits.map(|fits| rest.remove(fits)).is_none()
        });
        if expected.is_empty() || !missing.is_empty() || !rest.is_empty() {
            wrong.push(format!(
                "{name}: not found {missing:?}\nnot expected {rest:#?}\nall that was found\n{found}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn six_mistakes_are_six_problems_each_at_its_line() {
    let path = "tests/fixtures/config/invalid/six_mistakes.yaml";
    let text = fs::read_to_string(root().join(path)).unwrap();
    let output = loir(&["check", "-c", path], &[]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<String> = expected(&text).iter().map(|(line, ..)| line.to_string()).collect();
    let told: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix(path)?.strip_prefix(':')?.split(':').next())
        .collect();
    assert_eq!(told, lines, "{shown}");
    assert_eq!(told.len(), 6);
    let first = "six_mistakes.yaml:2:3: unknown key `listn`, did you mean `listen`?\n  2 |   listn: 127.0.0.1:8080 #~";
    assert!(shown.contains(first), "{shown}");
    assert!(shown.contains("\n    |   ^^^^^\n"), "{shown}");
    assert!(shown.ends_with("6 problems in tests/fixtures/config/invalid/six_mistakes.yaml\n"), "{shown}");
}

#[test]
fn every_valid_file_loads_and_what_is_shown_of_it_loads_to_the_same() {
    let files = files("tests/fixtures/config/valid");
    assert_eq!(files.len(), VALID);
    for (path, text) in &files {
        shown_loads_again(path, text, &env());
    }
}

#[test]
fn every_configuration_that_is_shipped_loads() {
    let files = files("conf");
    let names: Vec<_> = files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert!(SHIPPED.iter().all(|shipped| names.contains(shipped)), "{names:?}");
    for (path, text) in &files {
        assert!(text.starts_with("# yaml-language-server: $schema=./schema.json\n"), "{}", path.display());
        shown_loads_again(path, text, &Environment::default());
    }
}

fn shown_loads_again(path: &Path, text: &str, env: &Environment) {
    let name = path.display().to_string();
    let plan = read(&name, text, env).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = plan.show().unwrap();
    let again = read("shown", &shown, env).unwrap_or_else(|problems| panic!("{name}:\n{shown}\n{problems}"));
    assert_eq!(again.show().unwrap(), shown, "{name}");
    assert_eq!(again.summary(), plan.summary(), "{name}");
    assert_eq!(format!("{:?}", again.config.server), format!("{:?}", plan.config.server), "{name}");
    assert_eq!(again.config.defaults, plan.config.defaults, "{name}");
}

/// A default is written three times: in the code, in the comment of the schema, and in the file that shows every key.
#[test]
fn the_file_that_shows_every_key_shows_the_defaults() {
    let text = fs::read_to_string(root().join("conf/loir.yaml")).unwrap();
    let all = read("conf/loir.yaml", &text, &Environment::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let none =
        read("none", "server: {}", &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(format!("{:?}", all.config.server), format!("{:?}", none.config.server));
    assert_eq!(all.config.defaults, none.config.defaults);
    assert_eq!(all.config.registry.kind, none.config.registry.kind);
    let schema: serde_json::Value = serde_json::from_str(&schema_file()).unwrap();
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    let missing: Vec<_> = keys.iter().filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "conf/loir.yaml does not show {missing:?}");
    assert!(keys.len() > 40, "{keys:?}");
}

#[test]
fn the_address_of_redis_comes_from_the_environment_of_a_paas_and_its_password_is_not_shown() {
    let text = "registry: { type: redis }\nproviders: []\n";
    for name in ["REDIS_URL", "SCALINGO_REDIS_URL"] {
        let env = Environment::from_iter([(name, "redis://:hunter2@localhost:6380")]);
        let shown =
            read("x.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}")).show().unwrap();
        assert!(shown.contains(&format!("url: ${{{name}}}")) && !shown.contains("hunter2"), "{shown}");
        let again =
            read("x.yaml", &shown, &env).unwrap_or_else(|problems| panic!("{problems}")).show().unwrap();
        assert_eq!(again, shown);
    }
    let missing = problems(text, &Environment::default());
    assert!(missing.contains("needs a `url`") && missing.contains("REDIS_URL"), "{missing}");
    let written = "registry: { type: redis, url: 'redis://user:hunter2@localhost' }\nproviders: []\n";
    let shown =
        read("x.yaml", written, &Environment::default()).unwrap_or_else(|p| panic!("{p}")).show().unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    let wrong = problems(&written.replace("redis://", "http://"), &Environment::default());
    assert!(wrong.contains("no address of a Redis") && !wrong.contains("hunter2"), "{wrong}");
}

fn collect_keys(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect_keys(value, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

fn schema_file() -> String {
    fs::read_to_string(root().join("conf/schema.json")).unwrap()
}

#[test]
fn the_committed_schema_is_the_one_of_the_code() {
    let output = loir(&["config", "schema"], &[]);
    assert!(output.status.success());
    let fresh = String::from_utf8(output.stdout).unwrap();
    assert!(
        fresh == schema_file(),
        "run `cargo run -- config schema > conf/schema.json` and commit the file"
    );
}

#[test]
fn host_and_port_of_the_environment_count_only_where_the_file_says_nothing() {
    let listen = |text: &str, variables: &[(&str, &str)]| {
        let env = variables.iter().copied().collect();
        read("x", text, &env)
            .map(|plan| plan.config.server.listen.to_string())
            .map_err(|problems| problems.to_string())
    };
    assert_eq!(listen("server: {}", &[]).unwrap(), "0.0.0.0:8080");
    assert_eq!(listen("server: {}", &[("PORT", "3000")]).unwrap(), "0.0.0.0:3000");
    assert_eq!(listen("server: {}", &[("PORT", "3000"), ("HOST", "127.0.0.1")]).unwrap(), "127.0.0.1:3000");
    assert_eq!(listen("server: {}", &[("HOST", "::1")]).unwrap(), "[::1]:8080");
    assert_eq!(listen("server: {}", &[("HOST", ""), ("PORT", "")]).unwrap(), "0.0.0.0:8080");
    assert_eq!(
        listen("server: { listen: ':1' }", &[("PORT", "3000"), ("HOST", "127.0.0.1")]).unwrap(),
        "0.0.0.0:1"
    );
    for (name, value) in [("PORT", "hunter2"), ("PORT", "1.2.3.4:80"), ("PORT", "99999"), ("HOST", "hunter2")]
    {
        let error = listen("server: {}", &[(name, value)]).unwrap_err();
        assert!(error.contains(name) && !error.contains(value), "{error}");
    }
}

/// The environment's secret is put where every kind of value is expected; then where texts are, and shown.
#[test]
fn a_secret_of_the_environment_is_in_no_error_and_in_nothing_shown() {
    let secret = "hunter2-S3cr3t";
    let env =
        Environment::from_iter([("TOKEN", secret), ("OUTER", "${TOKEN}"), ("PARTLY", "a${TOKEN}b${GONE}")]);
    let (_, every_key) = files("conf").into_iter().find(|(path, _)| path.ends_with("loir.yaml")).unwrap();
    let mut errors = 0;
    for variable in [
        "${TOKEN}",
        "${OUTER}",
        "x${TOKEN}",
        "${PARTLY}",
        "'${TOKEN}'",
        "[\"${TOKEN}\"]",
        "{ \"${TOKEN}\": 1 }",
    ] {
        for (number, line) in every_key.lines().enumerate() {
            let Some((key, _)) = line.split_once(": ").filter(|(key, _)| !key.trim_start().starts_with('#'))
            else {
                continue;
            };
            let lines = every_key.lines().enumerate();
            let text: String = lines
                .map(
                    |(i, line)| {
                        if i == number { format!("{key}: {variable}\n") } else { format!("{line}\n") }
                    },
                )
                .collect();
            match read("x.yaml", &text, &env) {
                Ok(plan) => {
                    let shown = plan.show().unwrap();
                    assert!(!shown.contains("hunter2"), "{text}\n{shown}");
                    assert!(
                        !format!("{:?}", plan.config).contains(secret) || key.trim() == "state_dir",
                        "{key}"
                    );
                }
                Err(problems) => {
                    errors += 1;
                    assert!(!format!("{problems}{problems:?}").contains("hunter2"), "{text}\n{problems}");
                }
            }
        }
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn hosts_and_names_of_the_environment_are_told_as_they_are_written() {
    let env = Environment::from_iter([("H", "hunter2.example.com"), ("N", "hunter2"), ("D", "example.com")]);
    let text = "server: { domain: ['${D}', '${D}'] }\nproviders:\n  - name: ${N}\n    type: process\n    apps:\n      \
                - { name: '${N}', command: [a], hosts: ['${H}', 'x.${H}', 'x.${H}'] }\n      \
                - { name: '${N}', command: [a], hosts: '${H}' }\n  - name: ${N}\n    type: ${N}\n";
    let told = problems(text, &env);
    assert!(told.contains("the host `x.${H}` is already claimed"), "{told}");
    assert!(told.contains("unknown provider type `${N}`"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("example.com"), "{told}");
    assert!(told.ends_with("6 problems in x.yaml"), "{told}");
}

#[test]
fn a_secret_that_is_written_into_the_file_is_blanked_where_its_line_is_shown() {
    for text in [
        "registry: { type: memory, token: hunter2 }",
        "registry:\n  type: memory\n  api_key: 'hunter2'\n",
        "providers:\n  - name: a\n    type: process\n    apps:\n      - { name: x, comand: [y], env: { A: hunter2 } }\n",
        "providers:\n  - name: a\n    type: process\n    apps:\n      - name: x\n        command: [y]\n        env: { A: [hunter2] }\n",
        "state_dir: [redis://user:hunter2@host/0]",
        "password: hunter2\nserver: [",
        "password: |\n  hunter2\n\tx: [",
        "server: { domain: redis://user:hunter2@host/0 }",
        "token: hunter2: 1",
        "token: *hunter2",
        "token: &hunter2 x",
        "token: !hunter2 x",
        "token: !hunter2",
        "token: x #hunter2",
        "token: |\n  hunter2\n",
        "env:\n  A: \"hunter2\n",
    ] {
        let told = problems(text, &Environment::default());
        assert!(!told.is_empty() && !told.contains("hunter2"), "{text}\n{told}");
    }
}

#[test]
fn what_is_shown_keeps_variables_and_hides_values() {
    let env = Environment::from_iter([("HOST_NAME", "a.example.com"), ("WAIT", "5s"), ("KEY", "hunter2")]);
    let text = "server: { drain_timeout: '${WAIT}' }\nproviders:\n  - name: local\n    type: process\n    apps:\n      \
                - { name: a, command: [run, '--key=${KEY}', '$${x}', 'redis://u:hunter2@h'], hosts: '${HOST_NAME}', \
                env: { TOKEN: hunter2 } }\n";
    let plan = read("x", text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = plan.show().unwrap();
    for part in ["drain_timeout: 5s", "--key=${KEY}", "$${x}", "redis://***@h", "${HOST_NAME}", "***"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{:?}", plan.config).contains("hunter2"));
}

fn loir(args: &[&str], variables: &[(&str, &str)]) -> Output {
    loir_at(root(), args, variables)
}

fn loir_at(directory: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loir"))
        .args(args)
        .current_dir(directory)
        .env_remove("LOIR_CONFIG")
        .env_remove("HOST")
        .env_remove("PORT")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_says_that_a_file_is_fine_in_one_line() {
    let output = loir(&["check", "-c", "conf/loir.yaml"], &[]);
    let line = "conf/loir.yaml: fine: 2 apps at 5 providers, listens on 0.0.0.0:8080\n";
    assert_eq!((output.status.code(), printed(&output.stdout).as_str()), (Some(0), line));
    assert!(output.stderr.is_empty());
}

#[test]
fn config_show_of_the_command_is_what_is_in_effect() {
    let output = loir(&["config", "show", "-c", "conf/production.yaml"], &[("PORT", "3000")]);
    let shown = printed(&output.stdout);
    assert!(
        output.status.success() && shown.contains(":3000") && shown.contains("${LOIR_DOMAIN:-"),
        "{shown}"
    );
}

#[test]
fn a_file_that_is_not_named_is_looked_for_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let check = |variables: &[(&str, &str)]| {
        let output = loir_at(at, &["check"], variables);
        printed(&output.stdout) + &printed(&output.stderr)
    };
    let nothing = check(&[]);
    for part in ["./loir.yaml", "LOIR_CONFIG", "/etc/loir/loir.yaml", "loir demo"] {
        assert!(nothing.contains(part), "{nothing}");
    }
    let run = loir_at(at, &[], &[]);
    assert_eq!((run.status.code(), printed(&run.stderr)), (Some(1), nothing));
    fs::write(at.join("named.yaml"), "server: {}").unwrap();
    assert!(check(&[("LOIR_CONFIG", "named.yaml")]).starts_with("named.yaml: fine"));
    assert!(check(&[("LOIR_CONFIG", "gone.yaml")]).contains("names gone.yaml"));
    fs::write(at.join("loir.yaml"), "server: {}").unwrap();
    assert!(check(&[("LOIR_CONFIG", "named.yaml")]).starts_with("./loir.yaml: fine"));
    let named = loir_at(at, &["check", "-c", "gone.yaml"], &[]);
    assert!(printed(&named.stderr).contains("gone.yaml: cannot be read"));
    fs::write(at.join("loir.yaml"), b"a: 1\nb: \xff").unwrap();
    assert!(check(&[]).contains("loir.yaml:2: this line is not UTF-8"));
}

#[test]
fn help_and_version_are_there() {
    let help = printed(&loir(&["--help"], &[]).stdout);
    for part in ["run", "demo", "check", "config", "healthcheck", "Examples:", "LOIR_CONFIG", "PORT"] {
        assert!(help.contains(part), "{help}");
    }
    assert!(!help.contains("keeper") && !help.contains("demo-app"), "{help}");
    assert!(printed(&loir(&["--version"], &[]).stdout).starts_with("loir "));
}
