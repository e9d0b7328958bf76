//! `loir demo`: a gateway with three sleepy apps and nothing to configure.
//!
//! It is the real gateway with `conf/demo.yaml`; only the log is calmer.

use std::{fs::DirBuilder, net::SocketAddr, os::unix::fs::DirBuilderExt, process::ExitCode};

use crate::server::{self, Plan, Source, load, logging};

pub mod app;

const CONFIG: &str = include_str!("../../conf/demo.yaml");

/// Runs the demo on `port` of the loopback interface until Ctrl-C.
pub fn run(port: u16) -> ExitCode {
    logging::init(logging::Style::Demo);
    // Where the app that fails once remembers that it has. Fresh for each demo, so that the page can be seen again.
    // Nobody else's: with a name that cannot be foreseen, in a place where everybody may write.
    let folder = std::env::temp_dir().join(format!("loir-demo-{:016x}", fastrand::u64(..)));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&folder) {
        eprintln!("loir: cannot make {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let code = match plan(port, &folder) {
        Ok(plan) => {
            let names = names(&plan);
            let other = "choose another port: loir demo --port 3000";
            server::run_with(plan, other, |address| greet(address, &names), || self::plan(port, &folder))
        }
        Err(problem) => {
            eprintln!("loir: {problem}");
            ExitCode::FAILURE
        }
    };
    let _ = std::fs::remove_dir_all(&folder);
    code
}

fn plan(port: u16, folder: &std::path::Path) -> Result<Plan, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))?;
    let mut environment = server::environment();
    environment.insert("LOIR_PROGRAM".into(), program.display().to_string());
    environment.insert("LOIR_DEMO_PORT".into(), port.to_string());
    environment.insert("LOIR_DEMO_DIR".into(), folder.display().to_string());
    let source = Source { name: "conf/demo.yaml".into(), text: CONFIG.into() };
    load(source, &environment).map_err(|problems| problems.to_string())
}

fn names(plan: &Plan) -> Vec<String> {
    plan.providers.iter().flat_map(|(_, options)| options.declared()).map(|app| app.name).collect()
}

fn greet(address: SocketAddr, names: &[String]) {
    let port = address.port();
    println!("\n  Loir is up. Three apps are asleep behind it; open one and watch it wake:\n");
    for name in names {
        let note = match name.as_str() {
            "hello" => "boots in 3 s",
            "atelier" => "boots in 8 s",
            "moody" => "fails once, then recovers",
            _ => "",
        };
        let url = format!("http://{name}.localhost:{port}");
        println!("    {url:<32} {note}");
    }
    println!("\n  An app that nobody uses for 30 s goes back to sleep. Ctrl-C ends everything.\n");
}
