//! What a person sees while an app is not awake, and when we answer with an error: plain data in, a page out.
//!
//! Every page is one HTML document that asks for nothing else, in the reader's language, with a nonce of its own. What
//! a page does in a browser (following the wake, one reload when the app is ready) stands in `holding/page.html`, and
//! every word of it in `holding/en.json` and `holding/fr.json`. A third language is one more such file, one more
//! [`Language`] and one more row in the table `LANGUAGES`.

use std::{collections::BTreeMap, time::Duration};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

mod estimate;
mod language;
mod notice;
#[cfg(test)]
mod tests;

use self::language::LANGUAGES;
pub use self::{
    estimate::{Estimate, estimate, progress, refresh_seconds},
    language::Language,
    notice::{Notice, Why},
};

/// What is embedded in the binary.
const PAGE: &str = include_str!("holding/page.html");
const ERROR: &str = include_str!("holding/error.html");
const STYLE: &str = include_str!("holding/style.css");
const ART: &str = include_str!("holding/dormouse.svg");
const ICON: &str = include_str!("holding/icon.html");

/// A longer name is cut: the page has a budget of bytes, and a heading of this length is no heading any more.
const LONGEST_NAME: usize = 40;

/// How far a wake has come. Its words are those of the events under `/.loir/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The provider was asked to start the app.
    Starting,
    /// The app runs as far as the provider can tell, and has not answered yet.
    Probing,
    /// The app has answered.
    Ready,
}

impl Step {
    /// `starting`, `probing` or `ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Probing => "probing",
            Self::Ready => "ready",
        }
    }
}

/// Where a wake stands.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// It is on its way. The page follows it live.
    Waking(Step),
    /// It failed. The page does nothing by itself; a link tries again.
    Failed(Failure<'a>),
}

/// What the public may know of a wake that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// With this the operator finds the cause in the log.
    pub reference: &'a str,
    /// The next start is not tried before; zero when it can be tried at once.
    pub retry_after: Duration,
}

/// A wake, as the person who waits for it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Wake<'a> {
    /// The app's name. It is text and nothing but text, whatever is in it.
    pub app: &'a str,
    /// Since the wake began; so a second visitor, and every reload, joins in the middle.
    pub elapsed: Duration,
    /// What this app usually takes, see [`estimate()`].
    pub usual: Option<Estimate>,
    /// How far the wake has come.
    pub stage: Stage<'a>,
    /// The request carried something (a form): it was not submitted, and the page must not reload by itself, since
    /// that would lose it.
    pub posted: bool,
}

/// An error of our own: the status decides the words.
#[derive(Clone, Copy, Debug)]
pub struct ErrorPage<'a> {
    /// 400, 404, 413, 431, 502, 503 (too many are waiting), 504 or 508; any other status has general words.
    pub status: u16,
    /// With this the operator finds the request in the log; empty for none.
    pub reference: &'a str,
}

/// A page that is ready to be sent as `text/html; charset=utf-8`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The HTML document.
    pub body: String,
    /// The value of its `Content-Security-Policy`, which carries its nonce: without this header the page is bare.
    pub csp: String,
}

/// The templates or the words in the binary cannot be used: a mistake in this room, found when the gateway starts.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// A template has a mistake.
    #[error("a built-in page does not parse: {0}")]
    Template(#[from] minijinja::Error),
    /// The words of a language are not a JSON object of strings.
    #[error("the built-in words for {language} do not parse: {source}")]
    Words {
        /// The language's tag.
        language: &'static str,
        /// What is wrong with them.
        source: serde_json::Error,
    },
}

/// All pages, parsed once. Rendering one needs memory and 128 random bits, nothing that waits.
#[derive(Debug)]
pub struct Pages {
    templates: Environment<'static>,
    words: Vec<(Language, Words)>,
    style: Value,
    art: Value,
    icon: Value,
}

impl Pages {
    /// Parses the templates and the words that are built into the binary.
    ///
    /// # Errors
    ///
    /// Only if one of them has a mistake in it, which the tests of this room would have found.
    pub fn new() -> Result<Self, PagesError> {
        let mut templates = Environment::new();
        // An app's name is anybody's text: everything is escaped, whatever a template is called.
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.add_template_owned("page", slim(PAGE, "\n"))?;
        templates.add_template_owned("error", slim(ERROR, "\n"))?;
        let mut words = Vec::with_capacity(LANGUAGES.len());
        for (language, tag, json) in LANGUAGES {
            let map =
                serde_json::from_str(json).map_err(|source| PagesError::Words { language: tag, source })?;
            words.push((language, Words::new(map)));
        }
        let embedded = |text| Value::from_safe_string(slim(text, ""));
        Ok(Self { templates, words, style: embedded(STYLE), art: embedded(ART), icon: embedded(ICON) })
    }

    /// The page for somebody who waits for an app, or whose wait was in vain.
    pub fn holding(&self, wake: &Wake<'_>, language: Language) -> Page {
        let link = !wake.posted;
        self.finish(language, link, |nonce, words| {
            let context = self.holding_context(wake, nonce, words);
            self.templates.get_template("page")?.render(context)
        })
    }

    /// The page for an error of our own.
    pub fn error(&self, error: ErrorPage<'_>, language: Language) -> Page {
        // Trying again helps with what passes by itself, and only with that.
        let again = matches!(error.status, 502..=504);
        self.finish(language, again, |nonce, words| {
            let key = match error.status {
                known @ (400 | 404 | 413 | 431 | 502 | 503 | 504 | 508) => format!("error_{known}"),
                _ => "error_other".to_owned(),
            };
            self.templates.get_template("error")?.render(context! {
                t => words.all.clone(), style => self.style.clone(), art => self.art.clone(), icon => self.icon.clone(),
                nonce, again,
                posted => false,
                anyway => "",
                title => words.get(&key),
                why => words.get(&format!("{key}_why")),
                status => error.status,
                reference => error.reference,
            })
        })
    }

    /// Everything `page.html` asks for.
    fn holding_context(&self, wake: &Wake<'_>, nonce: &str, words: &Words) -> Value {
        let app = display_name(wake.app);
        let title = words.get(if matches!(wake.stage, Stage::Failed(_)) { "failed" } else { "waking" });
        let (step, failure) = match wake.stage {
            Stage::Waking(step) => (step, None),
            Stage::Failed(failure) => (Step::Starting, Some(failure)),
        };
        let late = wake.usual.is_some_and(|usual| wake.elapsed > usual.p90);
        let remaining = match wake.usual {
            None => words.get("working").to_owned(),
            Some(_) if late => words.get("slow").to_owned(),
            Some(usual) => match usual.p50.saturating_sub(wake.elapsed) {
                left if left > Duration::from_secs(1) => words.about("left", left),
                _ => words.get("soon").to_owned(),
            },
        };
        let usual = match wake.usual {
            None => words.get("no_estimate").to_owned(),
            Some(_) if late => words.get("slow").to_owned(),
            Some(usual) => words.about("usually", usual.p50),
        };
        let wait = failure.map(|failure| failure.retry_after).filter(|wait| !wait.is_zero());
        context! {
            t => words.all.clone(), style => self.style.clone(), art => self.art.clone(), icon => self.icon.clone(),
            nonce, remaining, usual,
            posted => wake.posted,
            failed => failure.is_some(),
            title => title.replace("{app}", &app),
            app,
            step => step.as_str(),
            steps => steps(step, wake.elapsed, words),
            elapsed_ms => millis(wake.elapsed),
            p50_ms => wake.usual.map_or(0, |usual| millis(usual.p50)),
            p90_ms => wake.usual.map_or(0, |usual| millis(usual.p90)),
            // One decimal is enough for a bar of 400 pixels.
            percent => wake.usual.map(|usual| (progress(wake.elapsed, usual.p50) * 1000.0).floor() / 10.0),
            refresh => (failure.is_none() && !wake.posted).then(|| refresh_seconds(wake.usual)),
            retry => wait.map(|wait| words.about("retry_after", wait)).unwrap_or_default(),
            reference => failure.map(|failure| failure.reference).unwrap_or_default(),
        }
    }

    /// Renders with a fresh nonce. Whatever goes wrong, there is a page: a tiny one without style and script.
    fn finish(
        &self,
        language: Language,
        link: bool,
        render: impl FnOnce(&str, &Words) -> Result<String, minijinja::Error>,
    ) -> Page {
        let rendered = match (nonce(), self.words.iter().find(|(known, _)| *known == language)) {
            (Ok(nonce), Some((_, words))) => {
                render(&nonce, words).map(|body| (body, nonce)).map_err(|e| e.to_string())
            }
            (Err(error), _) => Err(format!("no random bits: {error}")),
            (_, None) => Err(format!("no words for {language:?}")),
        };
        match rendered {
            Ok((body, nonce)) => Page { body, csp: policy(&nonce) },
            Err(error) => {
                log::error!("a built-in page cannot be rendered: {error}");
                plain(language, link)
            }
        }
    }
}

/// The words of one language.
#[derive(Debug)]
struct Words {
    map: BTreeMap<String, String>,
    /// The same, as templates read them.
    all: Value,
}

impl Words {
    fn new(map: BTreeMap<String, String>) -> Self {
        let all = Value::from(map.clone());
        Self { map, all }
    }

    /// The words under `key`; a missing one leaves a gap in the page instead of taking the page away.
    fn get(&self, key: &str) -> &str {
        self.map.get(key).map_or("", String::as_str)
    }

    /// `duration` in words, to the second.
    fn clock(&self, duration: Duration) -> String {
        let seconds = duration.as_secs();
        let key = match (seconds / 60, seconds % 60) {
            (0, _) => "seconds",
            (_, 0) => "minutes",
            _ => "minutes_seconds",
        };
        self.get(key).replace("{m}", &(seconds / 60).to_string()).replace("{s}", &(seconds % 60).to_string())
    }

    /// The words under `key` with their `{time}`: whole seconds up to a minute, then tens of them.
    fn about(&self, key: &str, duration: Duration) -> String {
        let unit = if duration > Duration::from_secs(60) { 10 } else { 1 };
        let rounded = (duration.as_secs_f64() / unit as f64).round() as u64 * unit;
        self.get(key).replace("{time}", &self.clock(Duration::from_secs(rounded.max(1))))
    }
}

/// The steps up to `current` are done. A finished step carries no time here: only a page that saw it end knows when.
fn steps(current: Step, elapsed: Duration, words: &Words) -> Vec<Value> {
    let rows = [
        ("received", "step_received", None),
        ("starting", "step_starting", Some(Step::Starting)),
        ("probing", "step_probing", Some(Step::Probing)),
        ("ready", "step_ready", Some(Step::Ready)),
    ];
    let at = rows.iter().position(|row| row.2 == Some(current)).unwrap_or_default();
    let row = |(index, (id, label, _)): (usize, (&'static str, &str, Option<Step>))| {
        let (class, time) = match index.cmp(&at) {
            std::cmp::Ordering::Less => ("done", String::new()),
            std::cmp::Ordering::Equal => ("now", words.clock(elapsed)),
            std::cmp::Ordering::Greater => ("", String::new()),
        };
        context! { id, class, time, label => words.get(label) }
    };
    rows.into_iter().enumerate().map(row).collect()
}

/// The app's name as a heading can carry it: a capital first, no control or direction characters (which could turn the
/// words around it), and not endless. Escaping is the templates' business.
fn display_name(app: &str) -> String {
    let invisible = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    let mut letters = app.trim().chars().filter(invisible);
    let mut name: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    name.extend(letters.by_ref().take(LONGEST_NAME - 1));
    if letters.next().is_some() {
        name.push('…');
    }
    name
}

/// Indentation and empty lines are for us, not for the wire: they are a tenth of the page. A script needs its ends of
/// lines as `separator`; style and drawing need none.
fn slim(source: &str, separator: &str) -> String {
    let lines: Vec<&str> = source.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(separator)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 128 secret random bits, in hexadecimal digits: nothing in them needs escaping anywhere.
fn nonce() -> Result<String, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// Nothing but our own style and script, and the two addresses the script asks.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    )
}

/// What is left when a page cannot be rendered. It contains nothing that was handed in.
fn plain(language: Language, link: bool) -> Page {
    let (text, again) = match language {
        Language::En => ("This is not available right now.", "Try again"),
        Language::Fr => ("Ceci n’est pas disponible pour le moment.", "Réessayer"),
    };
    let again = if link { format!("<p><a href=\"\">{again}</a>") } else { String::new() };
    Page {
        body: format!(
            "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\"><meta name=\"robots\" content=\"noindex\">\
             <title>{text}</title><h1>{text}</h1>{again}",
            language.tag()
        ),
        csp: "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'".to_owned(),
    }
}
