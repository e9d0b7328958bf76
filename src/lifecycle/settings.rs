//! What holds for an app, and who says so: its entry's own words about it, then the rules, then what its entry says of all its
//! apps, then `defaults`.

use std::{sync::Arc, time::Duration};

use super::{Claim, Policy, Settings};
use crate::{
    app::{AppId, StopTypes, Timeouts},
    config::units,
    provider::AppInfo,
    routing::{
        Ruling,
        rules::{self, Source},
    },
};

/// What the configuration says of an app that was listed.
pub(super) fn settings(id: &AppId, info: &AppInfo, policy: &Policy) -> Settings {
    let own = &info.settings;
    let mut ruling = policy.rules.of(id);
    let mut choice = Choice { ruling: &mut ruling, entry: &id.provider, place: own.place.as_deref() };
    let defaults = &policy.defaults;
    let rules = choice.ruling.clone();
    let timeouts = Timeouts {
        idle: choice.of("idle_timeout", own.idle_timeout, rules.idle_timeout, None, defaults.idle),
        wake: choice.of(
            "wake_timeout",
            own.wake_timeout,
            rules.wake_timeout,
            own.entry.wake_timeout,
            defaults.wake,
        ),
        hold: choice.of("hold_timeout", None, rules.hold_timeout, None, defaults.hold),
        hold_before_page: choice.of(
            "hold_before_page",
            None,
            rules.hold_before_page,
            None,
            defaults.hold_before_page,
        ),
    };
    let stop = choice.of("stop", own.stop, rules.stop, own.entry.stop, StopTypes::default());
    Settings {
        hosts: hosts(id, info, policy),
        timeouts,
        ready: own.ready.clone(),
        stop,
        contain: own.contain,
        ruling: Arc::new(ruling),
    }
}

/// Every host name that leads to the app.
fn hosts(id: &AppId, info: &AppInfo, policy: &Policy) -> Vec<(String, Claim)> {
    let mut hosts = Vec::new();
    for domain in &policy.domains {
        hosts.push((format!("{}.{domain}", id.name), Claim::Name));
    }
    for domain in &policy.domains {
        // Always names one app, whatever else is called like it.
        hosts.push((format!("{}--{}.{domain}", id.name, id.provider), Claim::Full));
        hosts.extend(info.aliases.iter().map(|alias| (format!("{alias}.{domain}"), Claim::Alias)));
    }
    hosts.extend(info.settings.hosts.iter().map(|host| (host.clone(), Claim::Written)));
    hosts
}

struct Choice<'a> {
    ruling: &'a mut Ruling,
    entry: &'a str,
    place: Option<&'a str>,
}

impl Choice<'_> {
    /// The value that counts. Who has said it is put down.
    fn of<T: InWords>(
        &mut self,
        key: &'static str,
        own: Option<T>,
        rules: Option<T>,
        entry: Option<T>,
        default: T,
    ) -> T {
        let place = self.place.map(|place| format!(", {place}")).unwrap_or_default();
        let (value, origin) = match (own, rules, entry) {
            (Some(own), ..) => (own, format!("provider entry {}{place}", self.entry)),
            // The rules have put that down already.
            (None, Some(rules), _) => return rules,
            (None, None, Some(entry)) => (entry, format!("provider entry {}", self.entry)),
            (None, None, None) => (default, rules::DEFAULT.to_owned()),
        };
        let sources = &mut self.ruling.sources;
        sources.retain(|source| source.key != key);
        sources.push(Source { key, value: value.in_words(), origin: origin.into() });
        value
    }
}

trait InWords {
    fn in_words(&self) -> String;
}

impl InWords for Duration {
    fn in_words(&self) -> String {
        units::duration(*self)
    }
}

impl InWords for StopTypes {
    fn in_words(&self) -> String {
        self.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::AppStatus,
        config::Manage,
        provider::{AppSettings, EntrySettings},
        routing::{
            Rules,
            rules::{Match, Rule},
        },
    };

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy(rule: impl FnOnce(&mut Rule)) -> Policy {
        let mut one = Rule::new(Match::parse("shop").unwrap(), "rule 1, conf/loir.yaml:7");
        rule(&mut one);
        Policy {
            defaults: Timeouts { idle: MINUTE, wake: MINUTE, hold: MINUTE, hold_before_page: MINUTE },
            domains: vec!["test".to_owned()],
            manage: Manage::default(),
            rules: Arc::new(Rules::new(vec![one], None)),
        }
    }

    fn shop(settings: AppSettings, policy: &Policy) -> Settings {
        let info = AppInfo {
            name: "shop".to_owned(),
            key: None,
            deployed_at: None,
            aliases: Vec::new(),
            status: AppStatus::Stopped,
            endpoint: None,
            left_alone: None,
            settings,
        };
        super::settings(&AppId::new("paris", "shop"), &info, policy)
    }

    fn origin(settings: &Settings, key: &str) -> String {
        settings.ruling.origin_of(key).unwrap_or(rules::DEFAULT.into()).to_string()
    }

    #[test]
    fn the_entrys_own_words_about_an_app_count_most_then_rules_then_the_entry_then_defaults() {
        let rules = policy(|rule| {
            rule.idle_timeout = Some(2 * MINUTE);
            rule.wake_timeout = Some(2 * MINUTE);
            rule.stop = Some(StopTypes::Web);
        });
        let entry = EntrySettings { wake_timeout: Some(3 * MINUTE), stop: Some(StopTypes::All) };
        let own = AppSettings {
            place: Some("conf/loir.yaml:12".into()),
            idle_timeout: Some(4 * MINUTE),
            entry,
            ..AppSettings::default()
        };
        let ruled = shop(own.clone(), &rules);
        assert_eq!((ruled.timeouts.idle, ruled.timeouts.wake), (4 * MINUTE, 2 * MINUTE));
        assert_eq!((ruled.timeouts.hold, ruled.stop), (MINUTE, StopTypes::Web));
        assert_eq!(origin(&ruled, "idle_timeout"), "provider entry paris, conf/loir.yaml:12");
        assert_eq!(origin(&ruled, "wake_timeout"), "rule 1, conf/loir.yaml:7");
        assert_eq!(origin(&ruled, "hold_timeout"), "default");
        assert_eq!(origin(&ruled, "hold_before_page"), "default");
        assert_eq!(origin(&ruled, "stop"), "rule 1, conf/loir.yaml:7");
        let idle: Vec<_> =
            ruled.ruling.sources.iter().filter(|source| source.key == "idle_timeout").collect();
        assert_eq!((idle.len(), idle[0].value.as_str()), (1, "4m"));
        let free = shop(own, &policy(|_| {}));
        assert_eq!((free.timeouts.wake, free.stop), (3 * MINUTE, StopTypes::All));
        assert_eq!(origin(&free, "wake_timeout"), "provider entry paris");
        assert_eq!(origin(&free, "stop"), "provider entry paris");
        assert_eq!(origin(&shop(AppSettings::default(), &policy(|_| {})), "stop"), "default");
    }
}
