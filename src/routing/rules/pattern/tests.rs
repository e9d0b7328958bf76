use proptest::prelude::*;

use super::*;

fn fits(pattern: &str, app: &str) -> bool {
    Match::parse(pattern).unwrap().captures(&Names::from(&app.parse::<AppId>().unwrap())).is_some()
}

fn made(pattern: &str, template: &str, app: &str) -> Option<String> {
    let pattern = Match::parse(pattern).unwrap();
    let template = Template::parse(template, &pattern).unwrap();
    let names = Names::from(&app.parse::<AppId>().unwrap());
    pattern.captures(&names).map(|captures| template.expand(&captures))
}

#[test]
fn a_pattern_is_for_the_whole_name_and_knows_case() {
    assert!(fits("demo-*", "paris/demo-1"));
    assert!(!fits("demo-*", "paris/my-demo-1"));
    assert!(!fits("demo-?", "paris/demo-12"));
    assert!(!fits("demo-*", "paris/Demo-1"));
    assert!(fits(r"shop-pr(\d+)-(front|back)", "paris/shop-pr12-back"));
    assert!(!fits(r"shop-pr(\d+)-(front|back)", "paris/shop-pr12-back2"));
    assert!(!fits("a|ab", "paris/abc"));
    assert!(fits("a|ab", "paris/ab"), "alternatives are whole names, too");
    assert!(fits("(?i)DEMO", "paris/demo"), "unless the expression says otherwise");
}

#[test]
fn with_a_slash_a_pattern_is_for_the_provider_and_the_name() {
    assert!(fits("paris/*", "paris/shop"));
    assert!(!fits("paris/*", "heroku/shop"));
    assert!(!fits("paris", "paris/shop"), "the entry's name is no part of the app's");
    assert!(fits("(paris|heroku)/shop", "heroku/shop"));
}

#[test]
fn captures_make_names_and_those_that_took_no_part_are_empty() {
    let pr = r"shop-pr(\d+)-(front|back)";
    assert_eq!(made(pr, "shop-pr$1-back", "paris/shop-pr12-front").unwrap(), "shop-pr12-back");
    assert_eq!(made(pr, "$2_$1x$$", "paris/shop-pr12-front").unwrap(), "front_12x$");
    assert_eq!(made(pr, "${1}0", "paris/shop-pr12-front").unwrap(), "120");
    assert_eq!(made("(?<who>[a-z]+)-front", "$who-back", "paris/shop-front").unwrap(), "shop-back");
    assert_eq!(made("(?<who>[a-z]+)-front", "${who}s", "paris/shop-front").unwrap(), "shops");
    assert_eq!(made("a(b)?", "$1", "paris/a").unwrap(), "");
    assert_eq!(made("shop-*-front", "shop-$1-back", "paris/shop-pr1-front").unwrap(), "shop-pr1-back");
    assert_eq!(made("*/front", "$1/back", "paris/front").unwrap(), "paris/back");
}

#[test]
fn what_cannot_be_read_says_why() {
    for (pattern, why) in [
        ("shop-(", "unclosed group"),
        ("a)(b", "unopened group"),
        ("[z-a]", "invalid character class range"),
        ("(a{1000}){1000}", "too large"),
        (r"\p{Nothing}", "Unicode property not found"),
        (r"a(?=b)", "look-around"),
    ] {
        let error = Match::parse(pattern).unwrap_err();
        assert!(error.contains(why) && !error.contains(pattern), "{pattern}: {error}");
    }
    let pattern = Match::parse("(a)(b)").unwrap();
    for (template, why) in [
        ("$3", "the captures `$1` to `$2`"),
        ("$name", "does not have"),
        ("x$", "names no capture"),
        ("x$-", "names no capture"),
        ("${1", "without its `}`"),
        ("$99999999999999999999", "does not have"),
    ] {
        let error = Template::parse(template, &pattern).unwrap_err();
        assert!(error.contains(why), "{template}: {error}");
    }
    assert!(Template::parse("$1", &Match::parse("a").unwrap()).unwrap_err().contains("no captures"));
}

proptest! {
    #[test]
    fn a_plain_name_fits_itself_and_no_longer_one(name in "[a-zA-Z0-9_-]{1,20}", more in "[a-z-]{1,3}") {
        let (same, longer, before) =
            (format!("p/{name}"), format!("p/{name}{more}"), format!("p/{more}{name}"));
        prop_assert!(fits(&name, &same));
        prop_assert!(!fits(&name, &longer));
        prop_assert!(!fits(&name, &before));
    }

    #[test]
    fn a_glob_fits_what_the_patterns_of_manage_fit(glob in "[ab?*-]{1,8}", name in "[ab-]{0,8}") {
        let app = AppId::new("p", name.as_str());
        prop_assert_eq!(
            Match::parse(&glob).unwrap().captures(&Names::from(&app)).is_some(),
            crate::config::Pattern::new(&glob).fits(&app)
        );
    }

    #[test]
    fn what_was_captured_stands_where_its_number_does(one in "[a-z]{0,5}", two in "[0-9]{0,5}", text in "[a-z-]{0,5}") {
        let made = made(r"([a-z]*)-(\d*)", &format!("$2{text}-$1"), &format!("p/{one}-{two}"));
        prop_assert_eq!(made.unwrap(), format!("{two}{text}-{one}"));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in ".*", template in ".*") {
        if let Ok(pattern) = Match::parse(&text) {
            let _ = Template::parse(&template, &pattern);
        }
        let _ = Template::parse(&template, &Match::parse("(a)").unwrap());
    }
}
