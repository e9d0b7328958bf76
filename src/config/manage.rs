//! Which apps are looked after: `manage` in the file.

use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::scalar::Scalar;
use crate::app::AppId;

/// Which apps are woken and stopped. The others are proxied while they run, and else left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Manage {
    /// Only what one of these fits.
    pub include: Vec<Pattern>,
    /// And none of these.
    pub exclude: Vec<Pattern>,
}

impl Default for Manage {
    fn default() -> Self {
        Self { include: vec![Pattern::new("*")], exclude: Vec::new() }
    }
}

impl Manage {
    /// Why `app` is left alone, if it is.
    pub fn leaves_alone(&self, app: &AppId) -> Option<String> {
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.fits(app)) {
            return Some(format!("`manage.exclude` has `{}`", pattern.text));
        }
        let included = self.include.iter().any(|pattern| pattern.fits(app));
        (!included).then(|| "nothing in `manage.include` fits it".to_owned())
    }
}

/// A pattern for names: `*` stands for anything, `?` for one character. With a `/` in it, it is for `provider/name`.
#[derive(Clone, PartialEq)]
pub struct Pattern {
    /// As written in the file, for people: parts of it may come from the environment.
    pub text: String,
    matcher: WildMatch,
    full: bool,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), matcher: WildMatch::new(text), full: text.contains('/') }
    }

    /// The same, with the text to show to people.
    #[must_use]
    pub fn shown_as(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// The only app that it fits, if it can fit no other.
    pub fn exact(&self) -> Option<AppId> {
        let plain = self.full && !self.text.contains(['*', '?']);
        plain.then(|| self.text.parse().ok()).flatten()
    }

    /// Whether it is for `app`.
    pub fn fits(&self, app: &AppId) -> bool {
        match self.full {
            true => self.matcher.matches(&app.to_string()),
            false => self.matcher.matches(&app.name),
        }
    }
}

impl Scalar for Pattern {
    const NAME: &'static str = "Pattern";
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is not a pattern: write for example `*-production`, or `paris/*`".to_owned());
        }
        Ok(Self::new(text.trim()))
    }
    fn schema() -> Value {
        json!({ "type": "string", "examples": ["loir*", "*-production", "paris/*"] })
    }
}

super::scalar::scalar!(Pattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_left_alone_by_its_name_or_by_its_full_name() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
        let manage = |include: &[&str], exclude: &[&str]| Manage {
            include: patterns(include),
            exclude: patterns(exclude),
        };
        let alone = |manage: &Manage, app: &str| manage.leaves_alone(&app.parse().unwrap()).is_some();
        let usual = manage(&["*"], &["loir*", "*-production"]);
        assert!(alone(&usual, "paris/loir"));
        assert!(alone(&usual, "paris/loir-2"));
        assert!(alone(&usual, "heroku/shop-production"));
        assert!(!alone(&usual, "paris/shop"));
        assert!(!alone(&usual, "paris/my-loir"), "anchored at both ends");
        assert!(!alone(&usual, "loir/shop"), "the entry's name is no part of the app's");
        let only_paris = manage(&["paris/*"], &["paris/shop"]);
        assert!(!alone(&only_paris, "paris/blog"));
        assert!(alone(&only_paris, "paris/shop"));
        assert!(alone(&only_paris, "heroku/blog"));
        assert!(!alone(&Manage::default(), "any/thing"));
        assert!(alone(&manage(&["*"], &["shop-pr?"]), "paris/shop-pr1"));
        assert!(!alone(&manage(&["*"], &["shop-pr?"]), "paris/shop-pr12"));
    }

    #[test]
    fn a_pattern_is_trimmed_and_an_empty_one_is_refused() {
        assert_eq!(Pattern::parse(" foo ").unwrap(), Pattern::new("foo"));
        assert!(Pattern::parse("  ").is_err());
    }
}
