//! `loir hooks test`: tells hooks an example, as if something had happened, and says what came of it.

use clap::{Args, Subcommand};
use tokio::runtime::{Builder, Handle};

use super::{Action, Hooks, Message, Phase};
use crate::{app::AppId, clock::Clock, config::Config};

/// `loir hooks`.
#[derive(Subcommand)]
pub enum Command {
    /// Tell the configured hooks an example, and say what came of it
    ///
    /// Commands are run and webhooks are sent, as if it had really happened; nothing is started or stopped, and nothing is sent
    /// again. Exits with 0 if every hook did its work, else with 1.
    #[command(
        after_help = "Examples:\n  loir hooks test -c loir.yaml                   every hook, in each of its phases\n  \
                            loir hooks test --on after_stop --app local/hello\n  \
                            loir hooks test slack                           the hook called slack"
    )]
    Test(Trial),
}

/// Which hooks are tried, and with what.
#[derive(Args)]
pub struct Trial {
    /// The hook's name [default: all that are for the app]
    name: Option<String>,
    /// The phase, as `after_stop` [default: each of the hook's phases]
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    on: Option<Phase>,
    /// The app that the example is about
    #[arg(long, value_name = "PROVIDER/NAME", default_value = "local/example")]
    app: AppId,
}

fn phase(text: &str) -> Result<Phase, String> {
    let known = Phase::ALL.map(Phase::name).join(", ");
    Phase::ALL.into_iter().find(|phase| phase.name() == text).ok_or(format!("phases are {known}"))
}

impl Command {
    /// Does it with the hooks of `config`. Returns what to print, and whether every hook did its work.
    ///
    /// # Errors
    ///
    /// In words, if there is nothing to try, or nothing can be.
    pub fn run(&self, config: &Config) -> Result<(String, bool), String> {
        let Self::Test(trial) = self;
        pingora_core::tls::install_default_crypto_provider();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        runtime.block_on(trial.attempt(config))
    }
}

impl Trial {
    async fn attempt(&self, config: &Config) -> Result<(String, bool), String> {
        let clock = Clock::system();
        let means = Hooks::new(
            Vec::new(),
            config.rules.clone(),
            Handle::current(),
            clock.clone(),
            "test",
            std::env::current_exe().ok(),
        )?;
        let (mut lines, mut fine) = (Vec::new(), true);
        for hook in &config.hooks {
            let wanted = match &self.name {
                Some(name) => *hook.name == **name,
                None => hook.on.iter().any(|&phase| hook.is_due(phase, &self.app, &config.rules)),
            };
            for &phase in hook.on.iter().filter(|phase| wanted && self.on.is_none_or(|on| on == **phase)) {
                let mut hook = hook.clone();
                if let Action::Webhook { retries, .. } = &mut hook.action {
                    *retries = 0;
                }
                let message = Message::example(phase, self.app.clone(), clock.unix_millis());
                let result = means.0.shared.run(&hook, &message).await;
                fine &= result.is_ok();
                let what = result.map_or_else(|failed| failed.reason, |()| "fine".into());
                lines.push(format!("{}: {}: {what}", hook.name, phase.name()));
            }
        }
        means.end().await;
        match lines.is_empty() {
            true => Err("there is no such hook: see `hooks` in the configuration".into()),
            false => Ok((lines.join("\n"), fine)),
        }
    }
}
