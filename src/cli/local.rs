//! What needs a configuration and no gateway that runs.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use super::{
    Registry,
    file::{load, look_up},
    print::{complain, print, say},
};
use crate::{
    config::Environment,
    hooks,
    server::{self, Chore, Outcome, Plan},
};

pub(super) fn run(config: Option<PathBuf>, env: &Environment) -> ExitCode {
    match look_up(config, env).and_then(|path| Ok((load(&path, env)?, path))) {
        Ok((plan, path)) => server::run(path, plan),
        Err(complaint) => complain(&complaint),
    }
}

pub(super) fn check(config: Option<PathBuf>, online: bool, env: &Environment) -> ExitCode {
    match look_up(config, env).and_then(|path| Ok((load(&path, env)?, path))) {
        Ok((plan, path)) => {
            let fine = say(&format!("{}: fine: {}", path.display(), plan.summary()));
            if online { check_online(&plan) } else { fine }
        }
        Err(complaint) => complain(&complaint),
    }
}

fn check_online(plan: &Plan) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}")),
    };
    let (found, fine) = runtime.block_on(server::check_online(plan));
    say(found.trim_end());
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(super) fn show(config: Option<PathBuf>, env: &Environment) -> ExitCode {
    match look_up(config, env).and_then(|path| load(&path, env)).and_then(|plan| plan.show()) {
        Ok(yaml) => say(yaml.trim_end()),
        Err(complaint) => complain(&complaint),
    }
}

pub(super) fn registry(config: Option<PathBuf>, what: &Registry, env: &Environment) -> ExitCode {
    let chore = match what {
        Registry::Dump => Chore::Dump,
        Registry::Restore { file, yes } => Chore::Restore { file, yes: *yes },
        Registry::Repair { yes } => Chore::Repair { yes: *yes },
    };
    let plan = match look_up(config, env).and_then(|path| load(&path, env)) {
        Ok(plan) => plan,
        Err(complaint) => return complain(&complaint),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}")),
    };
    match runtime.block_on(server::tend(&plan, chore)) {
        Ok(Outcome { text, summary, fine }) => {
            // Half a dump must not look like a whole one.
            if !text.is_empty()
                && let Err(error) = print(text.trim_end())
            {
                return complain(&format!("what was to be printed could not be written: {error}"));
            }
            complain(&summary);
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(complaint) => complain(&complaint),
    }
}

pub(super) fn hooks(config: Option<PathBuf>, what: &hooks::trial::Command, env: &Environment) -> ExitCode {
    let plan = look_up(config, env).and_then(|path| load(&path, env));
    match plan.and_then(|plan| what.run(&plan.config)) {
        Ok((text, fine)) => {
            say(&text);
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(complaint) => complain(&complaint),
    }
}

pub(super) fn schema() -> ExitCode {
    match serde_json::to_string_pretty(&server::load::schema()) {
        Ok(schema) => say(&schema),
        Err(error) => complain(&error.to_string()),
    }
}

pub(super) fn openapi() -> ExitCode {
    match serde_json::to_string_pretty(&crate::admin::openapi::json()) {
        Ok(document) => say(&document),
        Err(error) => complain(&error.to_string()),
    }
}

pub(super) fn healthcheck(address: Option<SocketAddr>, env: &Environment) -> ExitCode {
    let port = || env.get("PORT").and_then(|port| port.trim().parse().ok()).unwrap_or(8080);
    server::healthcheck(address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port()))))
}
