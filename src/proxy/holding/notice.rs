//! Why an app that sleeps is not woken: what a person is told.

use std::time::Duration;

use jiff::Zoned;
use minijinja::context;

use super::{Language, Page, Pages, Words, display_name};

/// Why an app sleeps on, as the person who wants it sees it.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// The app's name. It is text and nothing but text, whatever is in it.
    pub app: &'a str,
    /// Why.
    pub why: Why,
    /// Where a button leads that wakes it all the same: a path. No button, if not set.
    pub anyway: Option<String>,
    /// The request carried something (a form): it was not submitted.
    pub posted: bool,
}

/// Why an app is not woken.
#[derive(Clone, Debug)]
pub enum Why {
    /// Its schedule keeps it asleep until then, by the clock that the schedule goes by; now by the same clock.
    Closed {
        /// When it opens, if it does.
        opens: Option<Zoned>,
        /// Now.
        now: Zoned,
    },
    /// It was woken often enough, or was awake long enough. It may be woken again after this time.
    Limited(Duration),
    /// Only some may wake it: those who have or are one of these.
    NotAllowed {
        /// A token.
        token: bool,
        /// A signed link.
        link: bool,
        /// In a network.
        network: bool,
    },
}

impl Pages {
    /// The page for somebody who wants an app that is not woken.
    pub fn notice(&self, notice: &Notice<'_>, language: Language) -> Page {
        let mut page = self.finish(language, false, |nonce, words| {
            let app = display_name(notice.app);
            let (title, why) = told(&notice.why, words);
            self.templates.get_template("error")?.render(context! {
                t => words.all.clone(), style => self.style.clone(), art => self.art.clone(), icon => self.icon.clone(),
                nonce, why,
                title => title.replace("{app}", &app),
                again => false,
                status => "",
                reference => "",
                posted => notice.posted,
                anyway => notice.anyway.clone().unwrap_or_default(),
            })
        });
        if notice.anyway.is_some() {
            page.csp = page.csp.replace("form-action 'none'", "form-action 'self'");
        }
        page
    }
}

fn told(why: &Why, words: &Words) -> (String, String) {
    match why {
        Why::Closed { opens: None, .. } => {
            (words.get("closed").to_owned(), words.get("closed_why").to_owned())
        }
        Why::Closed { opens: Some(opens), now } => {
            let zone = opens.time_zone().iana_name().unwrap_or("UTC").replace('_', " ");
            let why = words.get("opens_why").replace("{zone}", &zone);
            (words.get("opens").replace("{when}", &when(opens, now, words)), why)
        }
        Why::Limited(wait) => {
            let wait = words.long(*wait);
            (words.get("limited").to_owned(), words.get("limited_why").replace("{time}", &wait))
        }
        Why::NotAllowed { token, link, network } => {
            let ways = [(token, "by_token"), (link, "by_link"), (network, "by_network")];
            let ways: Vec<&str> =
                ways.into_iter().filter(|(may, _)| **may).map(|(_, key)| words.get(key)).collect();
            let ways = ways.join(words.get("or"));
            (words.get("not_allowed").to_owned(), words.get("not_allowed_why").replace("{ways}", &ways))
        }
    }
}

/// `Monday 08:00`, with the date if that is not within the week.
fn when(opens: &Zoned, now: &Zoned, words: &Words) -> String {
    let nth = |key: &str, number: i8| {
        let number = usize::try_from(number).unwrap_or_default();
        words.get(key).split(' ').nth(number).unwrap_or_default().to_owned()
    };
    let day = nth("weekdays", opens.weekday().to_monday_zero_offset());
    let time = format!("{:02}:{:02}", opens.hour(), opens.minute());
    let days = now.date().until(opens.date()).map_or(i32::MAX, |span| span.get_days());
    if days < 7 {
        return words.get("on_day").replace("{day}", &day).replace("{time}", &time);
    }
    let date = format!("{} {}", opens.day(), nth("months", opens.month() - 1));
    words.get("on_date").replace("{day}", &day).replace("{date}", &date).replace("{time}", &time)
}

impl Words {
    /// Hours, from two of them on; else minutes, rounded up.
    fn long(&self, duration: Duration) -> String {
        let minutes = duration.as_secs().div_ceil(60).max(1);
        match minutes {
            0..120 => self.get("minutes").replace("{m}", &minutes.to_string()),
            _ => self.get("hours").replace("{h}", &minutes.div_ceil(60).to_string()),
        }
    }
}
