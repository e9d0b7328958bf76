use std::collections::{BTreeMap, HashSet};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOSTILE: &str = "</script><script>alert(1)</script>";
const STATUSES: [u16; 9] = [400, 404, 413, 431, 502, 503, 504, 508, 500];

fn pages() -> Pages {
    Pages::new().expect("what is built in parses")
}

fn seconds(list: &[u64]) -> Vec<Duration> {
    list.iter().copied().map(Duration::from_secs).collect()
}

fn waking() -> Wake<'static> {
    Wake {
        app: "notes",
        elapsed: 4 * SECOND,
        usual: Some(Estimate { p50: 12 * SECOND, p90: 20 * SECOND }),
        stage: Stage::Waking(Step::Starting),
        posted: false,
    }
}

fn posted() -> Wake<'static> {
    Wake { posted: true, ..waking() }
}

fn failed() -> Wake<'static> {
    let failure = Failure { reference: "7f3a9c21", retry_after: 30 * SECOND };
    Wake { stage: Stage::Failed(failure), ..waking() }
}

fn on(text: &str) -> jiff::Zoned {
    text.parse().expect("a moment")
}

/// Every reason for which an app is not woken.
fn notices(app: &str) -> [(&'static str, Notice<'_>); 5] {
    let now = on("2026-11-21T12:00[Europe/Paris]");
    let monday = Why::Closed { opens: Some(on("2026-11-23T08:00[Europe/Paris]")), now: now.clone() };
    let plain = |why| Notice { app, why, anyway: None, posted: false };
    [
        ("closed", Notice { anyway: Some("/.loir/wake?to=%22%3E".to_owned()), ..plain(monday.clone()) }),
        ("closed, posted", Notice { posted: true, ..plain(monday) }),
        ("closed for good", plain(Why::Closed { opens: None, now })),
        ("limited", plain(Why::Limited(90 * SECOND))),
        ("not allowed", plain(Why::NotAllowed { token: true, link: true, network: true })),
    ]
}

#[test]
fn a_notice_says_when_or_how_in_the_readers_language() {
    let say = |notice: &Notice<'_>, language| pages().notice(notice, language).body;
    let now = on("2026-11-21T12:00[Europe/Paris]");
    for (opens, en, fr) in [
        ("2026-11-21T20:05[Europe/Paris]", "Notes opens Saturday 20:05", "Notes ouvre samedi à 20:05"),
        ("2026-11-27T23:59[Europe/Paris]", "Notes opens Friday 23:59", "Notes ouvre vendredi à 23:59"),
        (
            "2026-11-28T00:00[Europe/Paris]",
            "opens Saturday 28 November, 00:00",
            "ouvre samedi 28 novembre à 00:00",
        ),
        (
            "2027-11-23T08:00[Europe/Paris]",
            "opens Tuesday 23 November, 08:00",
            "ouvre mardi 23 novembre à 08:00",
        ),
    ] {
        let why = Why::Closed { opens: Some(on(opens)), now: now.clone() };
        let notice = Notice { app: "notes", why, anyway: None, posted: false };
        for (language, words) in [(Language::En, en), (Language::Fr, fr)] {
            let page = say(&notice, language);
            assert!(page.contains(words), "{words}: {page}");
        }
    }
    for (wait, words) in
        [(1, "1\u{a0}min"), (119 * 60, "119\u{a0}min"), (7201, "3\u{a0}h"), (7200, "2\u{a0}h")]
    {
        let why = Why::Limited(wait * SECOND);
        let page = say(&Notice { app: "notes", why, anyway: None, posted: false }, Language::En);
        assert!(page.contains(words), "{words}: {page}");
    }
}

/// Every kind of page in every language, for what must hold for all of them.
fn every_page(app: &str, reference: &str) -> Vec<(String, Page)> {
    let pages = pages();
    let mut all = Vec::new();
    for (language, tag, _) in LANGUAGES {
        for (name, wake) in [("waking", waking()), ("posted", posted()), ("failed", failed())] {
            for (timing, elapsed, usual) in [
                ("usual", 4 * SECOND, wake.usual),
                ("slow", 999 * SECOND, wake.usual),
                ("first", SECOND, None),
            ] {
                let stage = match wake.stage {
                    Stage::Failed(failure) => Stage::Failed(Failure { reference, ..failure }),
                    waking => waking,
                };
                let page = pages.holding(&Wake { app, elapsed, usual, stage, ..wake }, language);
                all.push((format!("{name}, {timing}, {tag}"), page));
            }
        }
        for (name, notice) in notices(app) {
            all.push((format!("{name}, {tag}"), pages.notice(&notice, language)));
        }
        for status in STATUSES {
            all.push((format!("{status}, {tag}"), pages.error(ErrorPage { status, reference }, language)));
        }
    }
    assert_eq!(all.len(), 46);
    all
}

fn nonce_of(page: &Page) -> &str {
    let (_, rest) = page.csp.split_once("style-src 'nonce-").expect("the policy names a nonce");
    rest.split_once('\'').expect("the nonce ends").0
}

#[test]
fn every_page_fits_its_budget() {
    let longest = "\"".repeat(500);
    for name in ["notes", &longest] {
        for (which, page) in every_page(name, "7f3a9c21") {
            assert!(page.body.len() < 14_000, "{which} has {} bytes", page.body.len());
        }
    }
}

#[test]
fn no_page_asks_for_anything_elsewhere() {
    for (which, page) in every_page("notes", "7f3a9c21") {
        for outside in ["http://", "https://", "src=", "@import", "url(", "<link rel=\"stylesheet\""] {
            assert!(!page.body.contains(outside), "{which} contains {outside}");
        }
        assert_eq!(
            page.body.matches("href=").count() - page.body.matches("href=\"\"").count(),
            1,
            "{which}: icon only"
        );
        assert!(page.body.contains("<link rel=\"icon\" href=\"data:image/svg+xml,"), "{which}");
    }
}

#[test]
fn every_page_has_the_bones_of_a_page() {
    for (which, page) in every_page("notes", "7f3a9c21") {
        let tag = which.rsplit(' ').next().unwrap_or_default();
        assert!(page.body.starts_with(&format!("<!doctype html>\n<html lang=\"{tag}\">")), "{which}");
        assert_eq!(page.body.matches("<h1>").count(), 1, "{which}");
        assert_eq!(page.body.matches("<main").count(), 1, "{which}");
        assert!(page.body.contains("<meta name=\"robots\" content=\"noindex\">"), "{which}");
        assert!(page.body.contains("<meta name=\"referrer\" content=\"same-origin\">"), "{which}");
        assert!(
            !page.body.contains("{{") && !page.body.contains("{%") && !page.body.contains("{#-"),
            "{which}"
        );
    }
}

#[test]
fn the_policy_allows_what_carries_the_nonce_and_nothing_else() {
    for (which, page) in every_page("notes", "7f3a9c21") {
        let nonce = nonce_of(&page);
        assert_eq!(nonce.len(), 32, "{which}: 128 bits");
        // Only the button that wakes an app all the same sends a form.
        let form = if page.body.contains("<form") { "'self'" } else { "'none'" };
        let expected = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data:; form-action {form}; base-uri 'none'; frame-ancestors 'self'"
        );
        assert_eq!(page.csp, expected, "{which}");
        for element in ["style", "script"] {
            let with_nonce = page.body.matches(&format!("<{element} nonce=\"{nonce}\">")).count();
            assert_eq!(page.body.matches(&format!("<{element}")).count(), with_nonce, "{which}: {element}");
        }
        assert!(!page.body.contains(" style=\""), "{which} has a style attribute, which the policy blocks");
        assert!(!page.body.contains(" onclick=") && !page.body.contains("javascript:"), "{which}");
    }
}

#[test]
fn no_two_pages_share_a_nonce() {
    let all = every_page("notes", "7f3a9c21");
    let different: HashSet<&str> = all.iter().map(|(_, page)| nonce_of(page)).collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn a_hostile_name_is_only_text() {
    for name in [HOSTILE, "\" autofocus onfocus=alert(1) x=\"", "' x='<b>", "{{ t.lang }}{% raw %}", "<!--"] {
        let harmless = every_page("notes", "7f3a9c21");
        for ((which, page), (_, model)) in every_page(name, name).into_iter().zip(harmless) {
            // The same elements and attributes as with a harmless name: nothing that was handed in became markup.
            for markup in ["<", ">", "\"", "'"] {
                let count = |page: &Page| page.body.matches(markup).count();
                assert_eq!(count(&page), count(&model), "{which} with {name}: {markup}");
            }
            assert!(!page.body.contains(HOSTILE), "{which}");
        }
    }
    let page = pages().holding(&Wake { app: HOSTILE, ..waking() }, Language::En);
    assert!(page.body.contains("<h1>&lt;&#x2f;script&gt;&lt;script&gt;alert(1)"), "shown as it is written");
}

#[test]
fn a_name_is_shown_with_a_capital_and_without_tricks() {
    for (name, shown) in [
        ("notes", "Notes"),
        ("élan", "Élan"),
        ("  my-app\u{202e}\u{200b}\n ", "My-app"),
        ("", ""),
        ("ßtraße", "SStraße"),
        (&"a".repeat(40), &format!("A{}", "a".repeat(39))),
        (&"é".repeat(41), &format!("É{}…", "é".repeat(39))),
    ] {
        assert_eq!(display_name(name), shown);
    }
}

#[test]
fn all_languages_have_the_same_words_and_gaps() {
    let words: Vec<(&str, BTreeMap<String, String>)> = LANGUAGES
        .iter()
        .map(|row| (row.1, serde_json::from_str(row.2).expect("an object of strings")))
        .collect();
    let (_, first) = &words[0];
    assert!(first.len() > 40, "found {} words", first.len());
    for (tag, words) in &words {
        assert_eq!(words.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>(), "{tag}");
        assert_eq!(words["lang"], *tag);
        for (key, text) in words {
            assert!(!text.trim().is_empty(), "{tag}: {key}");
            for gap in ["{app}", "{time}", "{m}", "{s}"] {
                assert_eq!(text.contains(gap), first[key].contains(gap), "{tag}: {gap} in {key}");
            }
        }
    }
}

#[test]
fn french_spaces_do_not_break() {
    let (_, _, json) = LANGUAGES.iter().find(|row| row.0 == Language::Fr).expect("French");
    let words: BTreeMap<String, String> = serde_json::from_str(json).expect("an object of strings");
    for (key, text) in words {
        assert!(!text.contains('\''), "{key}: a typewriter apostrophe");
        for mark in [" :", " ;", " !", " ?", "« ", " »", "{s} s", "{m} min"] {
            assert!(!text.contains(mark), "{key}: a space that may break in {mark:?}");
        }
    }
}

#[test]
fn the_language_is_the_one_liked_best() {
    use Language::{En, Fr};
    for (header, expected) in [
        ("", En),
        ("fr", Fr),
        ("FR-ca", Fr),
        ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", Fr),
        ("en-GB,en;q=0.9,fr;q=0.8", En),
        ("en;q=0.5, fr;q=0.9", Fr),
        ("de,fr;q=0.3", Fr),
        ("de", En),
        ("fr;q=0", En),
        ("*", En),
        ("*;q=0.5, fr", Fr),
        ("fr;q=0.4,*;q=0.5", En),
        ("en,fr", En),
        ("fr,en", Fr),
        ("fr ; q=0.8 , en;Q=0.9", En),
        ("fr;q=2, en;q=0.1", En),
        ("fr;q=nan", En),
        ("fr;level=1", En),
        ("free", En),
        (",;,;q=,fr;q", En),
    ] {
        assert_eq!(Language::from_accept_language(header), expected, "{header:?}");
    }
}

#[test]
fn a_waking_page_comes_back_by_itself_with_and_without_scripts() {
    let page = pages().holding(&waking(), Language::En).body;
    assert_eq!(page.matches("location.replace(").count(), 1);
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"));
    assert!(page.contains("<a href=\"\">Open now</a>"));
    let slow = Estimate { p50: 60 * SECOND, p90: 90 * SECOND };
    let page = pages().holding(&Wake { usual: Some(slow), ..waking() }, Language::En).body;
    assert!(page.contains("content=\"20\"></noscript>"));
}

#[test]
fn a_page_after_a_form_never_reloads() {
    for (language, ..) in LANGUAGES {
        for stage in [waking().stage, failed().stage] {
            let page = pages().holding(&Wake { stage, ..posted() }, language).body;
            for reload in ["http-equiv", "location", "href=\"\"", "<noscript"] {
                assert!(!page.contains(reload), "{language:?} {stage:?}: {reload}");
            }
        }
    }
    let page = pages().holding(&posted(), Language::En).body;
    assert!(page.contains("Nothing was submitted."));
}

#[test]
fn a_failed_wake_says_so_and_does_nothing_by_itself() {
    let page = pages().holding(&failed(), Language::En).body;
    assert!(page.contains("<h1>Notes did not start</h1>"));
    assert!(page.contains("<div id=\"failed\" role=\"alert\">"));
    assert!(page.contains("<code id=\"reference\">7f3a9c21</code>"));
    assert!(page.contains("Please try again in about 30\u{a0}s."));
    assert!(page.contains("<a href=\"\">Try again</a>"));
    for active in ["<script", "http-equiv", "progressbar"] {
        assert!(!page.contains(active), "{active}");
    }
    let now = Failure { reference: "", retry_after: Duration::ZERO };
    let page = pages().holding(&Wake { stage: Stage::Failed(now), ..waking() }, Language::En).body;
    assert!(!page.contains("again in about") && page.contains("id=\"trace\" hidden"));
}

#[test]
fn the_page_joins_a_wake_in_the_middle() {
    let probing = Wake { stage: Stage::Waking(Step::Probing), ..waking() };
    let page = pages().holding(&probing, Language::En).body;
    assert!(
        page.contains("data-elapsed=\"4000\" data-p50=\"12000\" data-p90=\"20000\" data-step=\"probing\"")
    );
    assert!(page.contains("#fill{width:37.2%}</style>"));
    assert!(page.contains("aria-valuenow=\"37\" aria-valuetext=\"about 8\u{a0}s left\""));
    assert!(page.contains("Usually about 12\u{a0}s."));
    assert!(page.contains("<li id=\"starting\" class=\"done\">"));
    assert!(page.contains("<li id=\"probing\" class=\"now\" aria-current=\"step\">"));
    assert!(page.contains("<li id=\"ready\"><span>Ready"));
    assert!(page.contains("role=\"status\" aria-live=\"polite\"></p>"));
}

#[test]
fn the_page_claims_nothing_it_does_not_know() {
    let page = pages().holding(&Wake { usual: None, ..waking() }, Language::En).body;
    assert!(!page.contains("aria-valuenow=") && !page.contains("%}</style>"));
    assert!(page.contains("class=\"bar unsure\"") && page.contains("There is no estimate yet"));

    let page = pages().holding(&Wake { elapsed: 21 * SECOND, ..waking() }, Language::En).body;
    assert!(
        page.contains("id=\"usual\">This is taking longer than usual.") && !page.contains("Usually about")
    );

    let page = pages().holding(&Wake { elapsed: 15 * SECOND, ..waking() }, Language::En).body;
    assert!(page.contains("aria-valuetext=\"any moment now\""));
}

#[test]
fn an_error_has_words_a_status_and_a_reference() {
    let mut titles = HashSet::new();
    for status in STATUSES {
        let page = pages().error(ErrorPage { status, reference: "7f3a9c21" }, Language::En).body;
        let (_, rest) = page.split_once("<h1>").expect("a heading");
        titles.insert(rest.split_once("</h1>").expect("its end").0.to_owned());
        assert!(page.contains(&format!("{status} · Reference <code>7f3a9c21</code>")), "{status}");
        assert_eq!(page.contains("<a href=\"\">Try again</a>"), matches!(status, 502..=504), "{status}");
        assert!(!page.contains("<script"), "{status}");
    }
    assert_eq!(titles.len(), STATUSES.len(), "each has a title of its own: {titles:?}");
    assert!(!titles.contains(""));
    let page = pages().error(ErrorPage { status: 404, reference: "" }, Language::Fr).body;
    assert!(page.contains("Il n’y a rien à cette adresse") && !page.contains("<code>"));
}

#[test]
fn a_page_that_cannot_be_rendered_is_still_a_page() {
    for broken in ["{{ nobody_set_this }}", "{{ t.no_such_word }}"] {
        let mut pages = pages();
        pages.templates.add_template_owned("page", broken).expect("it parses");
        let page = pages.holding(&Wake { app: HOSTILE, ..waking() }, Language::Fr);
        assert!(page.body.contains("<html lang=\"fr\">") && page.body.contains("<a href=\"\">Réessayer</a>"));
        assert!(page.csp.starts_with("default-src 'none';") && !page.body.contains("<script"));
        assert!(
            !pages.holding(&posted(), Language::En).body.contains("href"),
            "no link that would lose the form"
        );
    }
}

#[test]
fn progress_grows_and_never_arrives() {
    for p50 in [0, 1, 300, 12_000, 3_600_000].map(Duration::from_millis) {
        let mut last = 0.0;
        assert_eq!(progress(Duration::ZERO, p50), 0.0);
        for step in 1..=2_000 {
            let now = progress(Duration::from_millis(50 * step), p50);
            assert!(now >= last && now <= 0.9, "{now} after {last}, p50 {p50:?}");
            last = now;
        }
        assert!(progress(Duration::MAX, p50) <= 0.9);
    }
    assert!((progress(12 * SECOND, 12 * SECOND) - 0.7183).abs() < 0.0001, "72 % at p50");
}

#[test]
fn the_script_draws_the_same_curve() {
    assert!(PAGE.contains("fill(90 * (1 - Math.exp(-1.6 * t / p50)))"));
}

#[test]
fn an_estimate_needs_three_boots() {
    assert_eq!(estimate(&[]), None);
    assert_eq!(estimate(&seconds(&[3, 4])), None);
    assert_eq!(estimate(&seconds(&[4, 4, 4])), Some(Estimate { p50: 4 * SECOND, p90: 4 * SECOND }));
}

#[test]
fn an_estimate_believes_recent_boots_more() {
    // Weights 1 to 10: of 55, half is reached at the boot of 7 s (28), nine tenths at that of 10 s (55).
    let growing = estimate(&seconds(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    assert_eq!(growing, Some(Estimate { p50: 7 * SECOND, p90: 10 * SECOND }));
    let shrinking = estimate(&seconds(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]));
    assert_eq!(shrinking, Some(Estimate { p50: 4 * SECOND, p90: 8 * SECOND }));
    // One boot that hung does not move what is usual.
    let hung = estimate(&seconds(&[3, 3, 3, 90, 3, 3, 3]));
    assert_eq!(hung, Some(Estimate { p50: 3 * SECOND, p90: 90 * SECOND }));
}

#[test]
fn a_time_is_said_as_people_say_it() {
    let pages = pages();
    let words = &pages.words[0].1;
    for (milliseconds, said) in [
        (0, "1\u{a0}s"),
        (1_400, "1\u{a0}s"),
        (1_500, "2\u{a0}s"),
        (59_600, "1\u{a0}min"),
        (83_000, "1\u{a0}min 20\u{a0}s"),
        (600_000, "10\u{a0}min"),
    ] {
        assert_eq!(
            words.about("usually", Duration::from_millis(milliseconds)),
            format!("Usually about {said}.")
        );
    }
    assert_eq!(words.clock(Duration::from_millis(83_900)), "1\u{a0}min 23\u{a0}s");
}
