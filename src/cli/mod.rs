//! The command line.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | what can be typed |
//! | `file` | which configuration is meant |
//! | `local` | what needs a configuration and no gateway that runs |
//! | `remote` | a running gateway: its admin side |
//! | `operate` | `apps`, `wake`, `sleep`, `pin`, `unpin`, `explain` |
//! | `told` | `events`, `report`, `top` |
//! | `shell` | `token`, `completions`, `manpage` |
//! | `table` | tables for people |
//! | `print` | to standard output and standard error |

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::scalar::{Label, Scalar},
    credentials::Scope,
    demo, hooks, provider, server,
};

mod file;
mod local;
mod operate;
mod print;
mod remote;
mod shell;
mod table;
mod told;

use local::{check, healthcheck, hooks, openapi, registry, run, schema, show};
use remote::{Gateway, block_on};

/// Loir is an edge gateway: it stops apps that nobody uses, and wakes them on the first request.
///
/// Without a command it does what `loir run` does.
#[derive(Parser)]
#[command(name = "loir", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    file: File,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  loir demo                          three sleepy apps, nothing to configure
  loir check -c conf/loir.yaml       every mistake at once, before it goes live
  loir run -c conf/loir.yaml         the gateway; SIGHUP reloads, SIGTERM drains
  loir config show -c conf/loir.yaml what is in effect, without secrets
  loir registry repair               what is wrong with what is remembered, and what would be done
  loir apps                          the apps of a running gateway; wake, sleep, pin, explain, events, report, top
  PORT=3000 loir                     ./loir.yaml on another port

Environment:
  LOIR_CONFIG   the configuration file, if there is no ./loir.yaml and no -c
  HOST, PORT    where to listen, if the file does not say (0.0.0.0:8080)
  LOIR_URL      the admin side of a running gateway (http://127.0.0.1:9090)
  LOIR_TOKEN    a token for it, if it wants one
  others        wherever the file says ${NAME} or ${NAME:-default}";

#[derive(Args)]
struct File {
    /// The configuration file [default: ./loir.yaml, else $LOIR_CONFIG, else /etc/loir/loir.yaml]
    // Not `env = "LOIR_CONFIG"`: a file in the working directory comes before the variable.
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    ///
    /// SIGHUP reloads the configuration without dropping a connection; a file with problems changes nothing.
    /// SIGTERM lets requests in flight end, at most `server.drain_timeout`.
    #[command(after_help = "Example:\n  loir run -c /etc/loir/loir.yaml")]
    Run,
    /// Run three sleepy apps behind a gateway, with nothing to configure
    #[command(after_help = "Example:\n  loir demo --port 3000\n  curl http://hello.localhost:3000/")]
    Demo {
        /// Where the demo listens, on this machine only
        #[arg(long, env = "PORT", default_value_t = 8080)]
        port: u16,
    },
    /// Check a configuration and tell every problem at once
    ///
    /// Nothing is opened, asked or started. Exits with 0 if the configuration is fine, else with 1.
    #[command(after_help = "Examples:\n  loir check -c conf/loir.yaml && systemctl reload loir\n  \
                            loir check --online    what is in the accounts, and how it would be reached")]
    Check {
        /// Also sign in to every provider and list its apps: states, host names, collisions. Changes nothing there.
        #[arg(long)]
        online: bool,
    },
    /// Show the configuration in effect, or its JSON Schema
    Config {
        #[command(subcommand)]
        what: Config,
    },
    /// What is remembered of apps: take it away, put it back, mend it
    ///
    /// All of it works while gateways run, and changes nothing without --yes.
    Registry {
        #[command(subcommand)]
        what: Registry,
    },
    /// Try the configured hooks
    Hooks {
        #[command(subcommand)]
        what: hooks::trial::Command,
    },
    /// Ask a running gateway on this machine whether it is well
    ///
    /// For the health check of a container. Exits with 0 if it is, else with 1.
    Healthcheck {
        /// Where the gateway listens [default: 127.0.0.1 and $PORT, else 8080]
        #[arg(long, value_name = "HOST:PORT", env = "LOIR_HEALTHCHECK_ADDRESS")]
        address: Option<SocketAddr>,
    },
    /// The apps of a running gateway, and how they are
    #[command(
        after_help = "Examples:\n  loir apps\n  loir apps 'shop-*' --state awake\n  loir apps --watch\n  \
                            loir apps --json | jq -r '.[] | select(.state == \"failed\") | .id'"
    )]
    Apps {
        /// Only those that fit: `*` stands for anything; with a `/`, it is for provider/name
        pattern: Option<String>,
        /// Only those in this state
        #[arg(long, value_parser = ["asleep", "waking", "awake", "stopping", "failed"])]
        state: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again and again, until Ctrl-C
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Wake an app, and wait for it
    ///
    /// Ctrl-C leaves it waking.
    #[command(after_help = "Example:\n  loir wake shop")]
    Wake {
        /// The app: provider/name, or a name that only one app has
        app: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Stop an app now, if nobody uses it
    Sleep {
        /// The app: provider/name, or a name that only one app has
        app: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Keep an app from being stopped for a while. Does not wake it
    #[command(
        after_help = "Examples:\n  loir pin shop --for 3h\n  loir pin shop --until 2026-12-24T18:00:00Z"
    )]
    Pin {
        /// The app: provider/name, or a name that only one app has
        app: String,
        /// For so long [default: 2h]
        #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
        long: Option<String>,
        /// Until then
        #[arg(long, value_name = "MOMENT")]
        until: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Let a pinned app be stopped again
    Unpin {
        /// The app: provider/name, or a name that only one app has
        app: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Why an app is awake or asleep, when it would sleep, and which rule says so
    Explain {
        /// The app: provider/name, or a name that only one app has
        app: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// What has happened, and what happens
    #[command(
        after_help = "Examples:\n  loir events -f\n  loir events --app shop --since 1d --event wake-failed"
    )]
    Events {
        #[command(flatten)]
        which: told::Which,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// What sleeping was good for: hours, money, energy
    #[command(
        after_help = "Examples:\n  loir report --since 7d\n  loir report --what-if idle_timeout=10m\n  \
                            loir report --format csv > report.csv"
    )]
    Report {
        #[command(flatten)]
        wanted: told::Wanted,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Who wakes what most
    Top {
        /// In so long before now
        #[arg(long, default_value = "7d", value_name = "DURATION")]
        since: String,
        /// Only this app, or all that fit
        #[arg(long)]
        app: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Tokens for the admin side
    Token {
        #[command(subcommand)]
        what: Token,
    },
    /// Completions for a shell
    #[command(after_help = "Example:\n  loir completions bash > /etc/bash_completion.d/loir")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Man pages, one for each command
    Manpage {
        /// The folder that they are written to
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Ends the apps of a gateway that was killed. Started by the gateway itself.
    #[command(hide = true)]
    Keeper,
    /// An app of the demo. Started by the demo itself.
    #[command(hide = true)]
    DemoApp {
        /// Which app, and where.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Registry {
    /// Print every record as one JSON document
    ///
    /// What is remembered of each app (state, epoch, what must come back), who lives and who leads. Changes nothing. The document
    /// goes to standard output, a summary to standard error.
    #[command(after_help = "Examples:\n  loir registry dump -c loir.yaml > dump.json\n  \
                            loir registry dump | jq '.apps[\"paris/shop\"]'")]
    Dump,
    /// Put back what the registry has lost, out of a dump
    ///
    /// Adds what is missing, and leads on what is older in the registry. What is newer there stays. An app that was being woken or
    /// stopped comes back asleep; gateways ask its provider. Without --yes it only says what it would do.
    #[command(after_help = "Examples:\n  loir registry restore dump.json          what would change\n  \
                            loir registry restore dump.json --yes    change it")]
    Restore {
        /// What `loir registry dump` has printed
        file: PathBuf,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Find what is wrong in the registry, and mend it
    ///
    /// A record that cannot be understood is moved aside, never deleted, and gateways make a new one; lists that do not agree with
    /// the records are corrected. Without --yes it only says what it would do, and exits with 1 if anything is wrong.
    #[command(
        after_help = "Examples:\n  loir registry repair          what is wrong; exits with 0 if nothing is\n  \
                            loir registry repair --yes    mend it"
    )]
    Repair {
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum Token {
    /// Make a token: prints it once, and its hash for `admin.tokens`
    #[command(after_help = "Example:\n  loir token new --name ci --scope operate")]
    New {
        /// Who will have it: the cause of what is done with it
        #[arg(long, default_value = "operator", value_parser = name)]
        name: String,
        /// What it gives a right to: read, operate or admin
        #[arg(long, default_value = "read", value_parser = str::parse::<Scope>)]
        scope: Scope,
    },
}

fn name(text: &str) -> Result<String, String> {
    Label::parse(text).map(|label| label.0)
}

#[derive(Subcommand)]
enum Config {
    /// The configuration in effect, defaults filled in and secrets left out, as YAML that loads again
    Show,
    /// The OpenAPI document of the admin side
    #[command(name = "openapi", after_help = "Example:\n  loir config openapi > openapi.json")]
    OpenApi,
    /// The JSON Schema of a configuration, for editors
    #[command(after_help = "Example:\n  loir config schema > schema.json")]
    Schema,
}

/// Does what the command line says. Commands that talk to a gateway exit with 1 if they are refused, 3 if no gateway answers, 4 if
/// the token is missing or too small, 5 if there is no such app, and 130 after Ctrl-C.
///
/// The others: The code to exit with is 0, or 1 for a configuration with problems, or what the
/// command says; a command line that makes no sense ends the process with 2.
pub fn main() -> ExitCode {
    let Cli { file, command } = Cli::parse();
    let env = server::environment();
    match command {
        None | Some(Command::Run) => run(file.config, &env),
        Some(Command::Demo { port }) => demo::run(port),
        Some(Command::Check { online }) => check(file.config, online, &env),
        Some(Command::Config { what: Config::Show }) => show(file.config, &env),
        Some(Command::Config { what: Config::Schema }) => schema(),
        Some(Command::Config { what: Config::OpenApi }) => openapi(),
        Some(Command::Registry { what }) => registry(file.config, &what, &env),
        Some(Command::Hooks { what }) => hooks(file.config, &what, &env),
        Some(Command::Healthcheck { address }) => healthcheck(address, &env),
        Some(Command::Apps { pattern, state, json, watch, gateway }) => {
            block_on(operate::apps(&gateway, pattern, state, json, watch))
        }
        Some(Command::Wake { app, gateway }) => block_on(operate::wake(&gateway, &app)),
        Some(Command::Sleep { app, gateway }) => block_on(operate::sleep(&gateway, &app)),
        Some(Command::Pin { app, long, until, gateway }) => {
            block_on(operate::pin(&gateway, &app, long, until))
        }
        Some(Command::Unpin { app, gateway }) => block_on(operate::unpin(&gateway, &app)),
        Some(Command::Explain { app, json, gateway }) => block_on(operate::explain(&gateway, &app, json)),
        Some(Command::Events { which, gateway }) => block_on(told::events(&gateway, which)),
        Some(Command::Report { wanted, gateway }) => block_on(told::report(&gateway, wanted)),
        Some(Command::Top { since, app, gateway }) => block_on(told::top(&gateway, &since, app)),
        Some(Command::Token { what: Token::New { name, scope } }) => shell::token(&name, scope),
        Some(Command::Completions { shell }) => shell::completions(shell),
        Some(Command::Manpage { output }) => shell::manpage(&output),
        Some(Command::Keeper) => provider::process::keeper::main(),
        Some(Command::DemoApp { args }) => demo::app::main(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_can_be_named_before_and_after_the_command() {
        for line in [["loir", "-c", "x.yaml", "check"], ["loir", "check", "-c", "x.yaml"]] {
            let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(cli.file.config, Some("x.yaml".into()));
        }
    }
}
