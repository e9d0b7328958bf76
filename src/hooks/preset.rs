//! The forms of what is sent: our own, and those that others expect.

use reqwest::Url;
use serde_json::json;

use super::{Message, Phase, Preset};

/// Longer texts are cut: Discord takes 2000 characters.
const LONGEST: usize = 1_800;

/// What is sent: where to, of which type, and its bytes.
pub(super) struct Form {
    pub url: Url,
    pub content_type: &'static str,
    pub body: String,
}

/// The form of one message.
pub(super) fn form(preset: Option<Preset>, mut url: Url, message: &Message) -> Form {
    const JSON: &str = "application/json";
    match preset {
        None => Form { url, content_type: JSON, body: message.for_others().json() },
        Some(Preset::Slack) => {
            let text =
                cut(&in_words(message)).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Form { url, content_type: JSON, body: json!({ "text": text }).to_string() }
        }
        Some(Preset::Discord) => {
            // Nobody is called by a name that happens to be in an app's words.
            let mentions = json!({ "parse": [] });
            let body = json!({ "content": cut(&in_words(message)), "allowed_mentions": mentions });
            Form { url, content_type: JSON, body: body.to_string() }
        }
        Some(Preset::Healthchecks) => {
            let suffix = match message.phase {
                Phase::WakeFailed => Some("fail"),
                Phase::BeforeStart => Some("start"),
                _ => None,
            };
            if let (Some(suffix), Ok(mut path)) = (suffix, url.path_segments_mut()) {
                path.pop_if_empty().push(suffix);
            }
            Form { url, content_type: "text/plain; charset=utf-8", body: cut(&message.line()) }
        }
    }
}

fn in_words(message: &Message) -> String {
    let sign = match message.phase {
        Phase::BeforeStart | Phase::AfterStart => "\u{2600}\u{fe0f}",
        Phase::BeforeStop | Phase::AfterStop | Phase::Sweep => "\u{1f4a4}",
        Phase::WakeFailed => "\u{26a0}\u{fe0f}",
    };
    format!("{sign} {}", message.line())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(preset: Option<Preset>, phase: Phase, url: &str) -> Form {
        let mut message = Message::example(phase, "paris/shop".parse().unwrap(), 0);
        message.entry.text = "a <b> & @everyone".into();
        form(preset, url.parse().unwrap(), &message)
    }

    #[test]
    fn slack_and_discord_get_a_text_in_which_nobody_is_called() {
        let slack = sent(Some(Preset::Slack), Phase::AfterStop, "https://hooks.test/x");
        let slack: serde_json::Value = serde_json::from_str(&slack.body).unwrap();
        let text = slack["text"].as_str().unwrap();
        assert!(text.contains("paris/shop: a &lt;b&gt; &amp; @everyone (because: nobody used it)"), "{text}");
        let discord = sent(Some(Preset::Discord), Phase::WakeFailed, "https://hooks.test/x");
        let discord: serde_json::Value = serde_json::from_str(&discord.body).unwrap();
        assert!(discord["content"].as_str().unwrap().contains("a <b> & @everyone"));
        assert_eq!(discord["allowed_mentions"], json!({ "parse": [] }));
    }

    #[test]
    fn healthchecks_are_pinged_where_they_expect_it() {
        let urls = [
            (Phase::AfterStart, "https://hc.test/uuid?x=1"),
            (Phase::Sweep, "https://hc.test/uuid?x=1"),
            (Phase::WakeFailed, "https://hc.test/uuid/fail?x=1"),
            (Phase::BeforeStart, "https://hc.test/uuid/start?x=1"),
        ];
        for (phase, expected) in urls {
            let form = sent(Some(Preset::Healthchecks), phase, "https://hc.test/uuid?x=1");
            assert_eq!(form.url.as_str(), expected);
        }
        let slash = sent(Some(Preset::Healthchecks), Phase::WakeFailed, "https://hc.test/uuid/");
        assert_eq!(slash.url.as_str(), "https://hc.test/uuid/fail");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(cut(&"\u{e9}".repeat(LONGEST)).chars().count(), LONGEST);
        assert_eq!(cut(&"\u{e9}".repeat(LONGEST * 2)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn who_the_client_was_is_told_to_nobody_outside() {
        let mut message = Message::example(Phase::AfterStart, "paris/shop".parse().unwrap(), 0);
        message.entry.cause = crate::lifecycle::Cause::Request {
            id: "request-1".into(),
            client: Some("192.0.2.7".parse().unwrap()),
            agent: "Firefox".into(),
        };
        for preset in [None, Some(Preset::Slack), Some(Preset::Discord), Some(Preset::Healthchecks)] {
            let body = form(preset, "https://x.test".parse().unwrap(), &message).body;
            assert!(!body.contains("192.0.2.7") && !body.contains("Firefox"), "{body}");
        }
        assert!(message.json().contains("192.0.2.7"), "a command of ours is told");
    }
}
