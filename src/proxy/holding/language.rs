//! Which of our languages a reader likes best.

/// The languages we speak: which, its tag, its words. The first one is for everybody else.
pub(super) const LANGUAGES: [(Language, &str, &str); 2] =
    [(Language::En, "en", include_str!("en.json")), (Language::Fr, "fr", include_str!("fr.json"))];

/// A language we have all words in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English, for everybody we have no better language for.
    #[default]
    En,
    /// French.
    Fr,
}

impl Language {
    /// The language the client likes best of those we speak, by the q-values of its `Accept-Language`
    /// (RFC 9110, 12.5.4). Of two that are liked alike the first wins. Ranges that cannot be read count for nothing.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (0, Self::default());
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default();
            let quality = match parts.next() {
                None => Some(1000),
                Some(weight) => thousandths(weight),
            };
            let language = match primary {
                "*" => Some(Self::default()),
                _ => LANGUAGES
                    .iter()
                    .find(|(_, known, _)| known.eq_ignore_ascii_case(primary))
                    .map(|row| row.0),
            };
            if let (Some(quality), Some(language)) = (quality, language)
                && quality > best.0
            {
                best = (quality, language);
            }
        }
        best.1
    }

    /// The language tag, as in `lang` and `Content-Language`.
    pub fn tag(self) -> &'static str {
        LANGUAGES.iter().find(|row| row.0 == self).map_or("en", |row| row.1)
    }
}

/// `q=0.8` as 800. Nothing but `q=` with a number from 0 to 1 is a weight.
fn thousandths(weight: &str) -> Option<u32> {
    let (name, value) = weight.split_once('=')?;
    let value: f64 = value.trim().parse().ok()?;
    let valid = name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&value);
    valid.then_some((value * 1000.0) as u32)
}
