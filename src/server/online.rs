//! `loir check --online`: what the gateway would find, without touching anything.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::Plan;
use crate::{
    app::{AppId, AppStatus, Endpoint},
    provider::{Accounts, AppInfo, ProviderContext, ProviderError},
};

/// A provider that has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Signs in to every account and lists its apps: nothing is started, stopped or changed. What was found, in words, and
/// whether every account let us in.
pub async fn check_online(plan: &Plan) -> (String, bool) {
    pingora_core::tls::install_default_crypto_provider();
    let accounts: Arc<Accounts> = Arc::default();
    let (events, _) = mpsc::unbounded_channel();
    let lists = plan.providers.iter().map(|(entry, options)| {
        let context = ProviderContext {
            name: entry.name.as_str().into(),
            // Without these, a local provider neither adopts nor ends what an earlier gateway left.
            state_dir: None,
            program: None,
            events: events.clone(),
            accounts: accounts.clone(),
        };
        let options = options.clone();
        tokio::spawn(async move {
            let provider = options.connect(context)?;
            match tokio::time::timeout(PATIENCE, provider.list()).await {
                Ok(listing) => provider.learn(&listing?),
                Err(_) => Err(ProviderError::Unavailable(format!("no answer within {PATIENCE:?}"))),
            }
        })
    });
    let mut answers = Vec::new();
    for list in lists.collect::<Vec<_>>() {
        let answer = list.await;
        answers.push(answer.unwrap_or_else(|error| Err(ProviderError::Failed(error.to_string()))));
    }
    let names = Names::of(plan, &answers);
    let mut text = String::new();
    let mut fine = true;
    for ((entry, _), answer) in plan.providers.iter().zip(answers) {
        match answer {
            Err(error) => {
                fine = false;
                let _ = writeln!(text, "{} ({}): FAILED: {error}", entry.name, entry.kind);
            }
            Ok(apps) => {
                let count = apps.len();
                let plural = if count == 1 { "" } else { "s" };
                let _ = writeln!(text, "{} ({}): {count} app{plural}", entry.name, entry.kind);
                for app in apps {
                    names.tell(&mut text, plan, &AppId::new(entry.name.as_str(), app.name.as_str()), &app);
                }
            }
        }
    }
    (text, fine)
}

/// Who would have which host name.
struct Names(HashMap<String, AppId>);

impl Names {
    /// Of two apps with one name, the one whose entry stands first.
    fn of(plan: &Plan, answers: &[Result<Vec<AppInfo>, ProviderError>]) -> Self {
        let mut names: HashMap<String, AppId> = HashMap::new();
        for ((entry, _), apps) in plan.providers.iter().zip(answers) {
            for app in apps.iter().flatten() {
                for domain in &plan.config.server.domains {
                    names
                        .entry(format!("{}.{domain}", app.name))
                        .or_insert_with(|| AppId::new(entry.name.as_str(), app.name.as_str()));
                }
            }
        }
        Self(names)
    }

    fn tell(&self, text: &mut String, plan: &Plan, id: &AppId, app: &AppInfo) {
        let domain = plan.config.server.domains.first().map_or("localhost", String::as_str);
        let plain = format!("{}.{domain}", app.name);
        let first = self.0.get(&plain).filter(|first| *first != id);
        let host = match first {
            None => plain.clone(),
            Some(_) => format!("{}--{}.{domain}", app.name, id.provider),
        };
        let upstream = app.endpoint.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let _ = writeln!(text, "  {:<28} {:<9} {host} -> {upstream}", app.name, status(&app.status));
        let mut note = |note: String| {
            let _ = writeln!(text, "  {:<28}           {note}", "");
        };
        if let Some(first) = first {
            note(format!("{plain} leads to {first}, which is listed first"));
        }
        let excluded = app.left_alone.clone().or_else(|| plan.config.manage.leaves_alone(id));
        if let Some(reason) = excluded {
            note(format!("left alone: {reason}"));
        }
        if let Some(Endpoint::Origin(origin)) = &app.endpoint
            && origin.connect.is_none()
            && self.0.contains_key(&origin.host)
        {
            note(format!("LOOP: {} leads back to this gateway; it is left alone", origin.host));
        }
    }
}

fn status(status: &AppStatus) -> String {
    match status {
        AppStatus::Running => "running".into(),
        AppStatus::Starting => "starting".into(),
        AppStatus::Stopping => "stopping".into(),
        AppStatus::Stopped => "stopped".into(),
        AppStatus::Crashed(_) => "crashed".into(),
        AppStatus::Unknown(word) => word.clone(),
    }
}
