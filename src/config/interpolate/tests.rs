use proptest::prelude::*;

use super::*;

fn env() -> Environment {
    Environment::from_iter([
        ("NAME", "value"),
        ("EMPTY", ""),
        ("ONE", "<${TWO}>"),
        ("TWO", "${THREE:-${NAME}}!"),
        ("A", "${B}"),
        ("B", "x${C:-y}"),
        ("C", "${A}"),
        ("SELF", "${SELF:-x}"),
        ("DANGLING", "${GONE}"),
        ("PASSWORD", "p${a-b}$x${"),
    ])
}

fn fill(text: &str) -> Result<String, Fault> {
    interpolate(text, &env())
}

#[test]
fn every_form_becomes_what_it_says() {
    for (written, becomes) in [
        ("plain", "plain"),
        ("${NAME}", "value"),
        ("a${NAME}b${NAME}c", "avaluebvaluec"),
        ("${GONE:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${GONE:-}", ""),
        ("${NAME:-default}", "value"),
        ("${NAME:?say why}", "value"),
        ("${GONE:-${NAME}}", "value"),
        ("${GONE:-a${GONE:-b${NAME}c}d}e", "abvaluecde"),
        ("${ONE}", "<value!>"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("${GONE:-$${x}}", "${x}"),
        ("5$ $NAME $", "5$ $NAME $"),
        ("h\u{e9} ${NAME} \u{1f9a6}", "h\u{e9} value \u{1f9a6}"),
    ] {
        assert_eq!(fill(written).as_deref(), Ok(becomes), "{written}");
    }
}

#[test]
fn a_value_may_hold_anything() {
    assert_eq!(fill("${PASSWORD}").as_deref(), Ok("p${a-b}$x${"));
}

#[test]
fn what_cannot_be_filled_in_says_why_and_what_to_do() {
    for (written, message, at) in [
        ("${GONE}", "the variable `GONE` is not set", 0),
        ("ab ${GONE}", "the variable `GONE` is not set", 3),
        ("${NAME} ${GONE:-${LOST}}", "the variable `LOST` is not set", 16),
        ("${GONE:?ask Ada for it}", "`GONE`: ask Ada for it", 0),
        ("${EMPTY:?}", "the variable `EMPTY` is not set", 0),
        ("x${NAME", "`${` has no `}`", 1),
        ("${}", "does not name a variable", 0),
        ("${NAME-x}", "does not name a variable", 0),
        ("${1A}", "does not name a variable", 0),
        ("${A}", "in a circle: A -> B -> C -> A", 0),
        ("${SELF}", "in a circle: SELF -> SELF", 0),
    ] {
        let fault = fill(written).unwrap_err();
        assert!(fault.message.contains(message), "{written}: {fault:?}");
        assert_eq!(fault.at, at, "{written}");
        assert!(!fault.help.is_empty());
    }
}

#[test]
fn a_name_that_came_from_the_environment_is_not_told() {
    let fault = fill("${DANGLING}").unwrap_err();
    assert!(fault.message.contains("DANGLING") && !format!("{fault:?}").contains("GONE"), "{fault:?}");
}

/// Twenty variables that double each other would be a megabyte of text, or a million empty steps.
#[test]
fn variables_that_multiply_each_other_are_refused() {
    for leaf in ["ha", ""] {
        let double = |i: usize| (format!("V{i}"), format!("${{V{0}}}${{V{0}}}", i + 1));
        let env: Environment = (0..20).map(double).chain([("V20".to_owned(), leaf.to_owned())]).collect();
        assert!(interpolate("${V0}", &env).is_err());
    }
    let long = Environment::from_iter([("LONG", "x".repeat(40_000))]);
    assert!(interpolate("${LONG}", &long).is_ok());
    assert!(interpolate("${LONG}${LONG}", &long).unwrap_err().message.contains("longer than"));
}

#[test]
fn deep_nesting_is_refused_and_no_stack_overflow() {
    let nested = "${X:-".repeat(10_000) + &"}".repeat(10_000);
    assert!(fill(&nested).unwrap_err().message.contains("too many"));
    let chain: Environment = (0..10_000).map(|i| (format!("V{i}"), format!("${{V{}}}", i + 1))).collect();
    assert!(interpolate("${V0}", &chain).is_err());
}

proptest! {
    #[test]
    fn any_text_is_filled_in_or_refused_without_a_panic(text in "(\\$|\\{|\\}|:-|:\\?|NAME|A|[a-z\u{e9}]){0,24}") {
        let _ = fill(&text);
        let _ = interpolate("${V}", &Environment::from_iter([("V", text)]));
    }

    #[test]
    fn a_text_without_variables_stays_as_it_is(text in "[^$]*") {
        prop_assert_eq!(fill(&text), Ok(text));
    }
}
