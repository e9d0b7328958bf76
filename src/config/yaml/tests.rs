use proptest::prelude::*;
use serde::Deserialize;

use super::*;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> (Option<T>, Problems) {
    let mut problems = Problems::new("x", text);
    let value = parse(&mut problems).and_then(|tree| decode(tree, &mut problems));
    (value, problems)
}

fn messages(problems: &Problems) -> Vec<(u32, u32, String)> {
    problems.sorted().iter().map(|p| (p.at.line, p.at.column, p.message.clone())).collect()
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, expecting = "a map of things")]
struct Things {
    text: String,
    port: u16,
    small: i8,
    ratio: f64,
    yes: bool,
    option: Option<u16>,
    list: Vec<u16>,
    words: Option<OneOrMany<String>>,
    inner: Option<Box<Things>>,
    place: Option<Located<String>>,
}

#[test]
fn a_scalar_is_what_the_type_asks_for() {
    for text in ["1.10", "010", "no", "0x1F", "~", "null", "true", "2024-01-01", "off", "+5"] {
        let (things, problems) = read::<Things>(&format!("text: {text}"));
        assert_eq!(things.unwrap().text, text, "{problems}");
        assert!(problems.is_empty());
    }
    let (things, problems) = read::<Things>(
        "{ port: '8080', small: -3, ratio: 1, yes: 'true', option: 7, words: 5, text: \"a\\tb\" }",
    );
    let things = things.unwrap();
    assert!(problems.is_empty(), "{problems}");
    assert_eq!((things.port, things.small, things.ratio, things.yes), (8080, -3, 1.0, true));
    assert_eq!(
        (things.option, things.words, things.text.as_str()),
        (Some(7), Some(OneOrMany(vec!["5".into()])), "a\tb")
    );
}

#[test]
fn nothing_is_none() {
    for nothing in ["", "~", "null"] {
        assert_eq!(read::<Things>(&format!("option: {nothing}")).0, Some(Things::default()));
    }
}

#[test]
fn any_value_follows_the_core_schema() {
    let text = "{ a: 1, b: -1, c: 1.5, d: true, e: no, f: null, g: '1', h: [x], i: 1.2.3, j: 010, k: .inf }";
    let (value, _) = read::<serde_json::Value>(text);
    let expected = serde_json::json!({
        "a": 1, "b": -1, "c": 1.5, "d": true, "e": "no", "f": null, "g": "1", "h": ["x"], "i": "1.2.3", "j": 10,
        "k": ".inf"
    });
    assert_eq!(value, Some(expected));
}

#[test]
fn every_mistake_is_found_in_one_pass_and_the_rest_is_read() {
    let text = "text: [1]\nport: 70000\nprot: 1\nyes: maybe\nlist:\n  - 1\n  - x\n  - 3\ninner:\n  small: 200\n  foo: 1\n  port: 5\n";
    let (things, problems) = read::<Things>(text);
    let expected = [
        (1, 7, "expected a text, found a list"),
        (2, 7, "expected a whole number from 0 to 65535, found `70000`"),
        (3, 1, "unknown key `prot`, did you mean `port`?"),
        (4, 6, "expected `true` or `false`, found `maybe`"),
        (7, 5, "expected a whole number from 0 to 65535, found `x`"),
        (10, 10, "expected a whole number, found `200`"),
        (11, 3, "unknown key `foo`"),
    ];
    let found = messages(&problems);
    assert_eq!(found.iter().map(|(l, c, m)| (*l, *c, m.as_str())).collect::<Vec<_>>(), expected);
    let things = things.unwrap();
    assert_eq!((things.list, things.inner.unwrap().port), (vec![1, 3], 5));
}

#[test]
fn places_and_holes_are_known() {
    #[derive(Deserialize)]
    struct Outer {
        map: Located<Inner>,
        list: Located<Vec<u8>>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        port: Option<u16>,
        path: Option<String>,
    }
    let (outer, problems) = read::<Outer>("map:\n  port: x\n  pth: /\nlist: [1, no]\n");
    let outer = outer.unwrap();
    assert_eq!(problems.len(), 3);
    assert_eq!(outer.map.lost, ["port", "path"]);
    assert!(!outer.map.lacks("port", &outer.map.port) && !outer.map.lacks("path", &outer.map.path));
    assert_eq!((outer.map.at.line, outer.map.at.column), (2, 3));
    assert_eq!(outer.list.lost, ["-"]);
    let (things, _) = read::<Things>("# \u{e9}\ninner: { place: 'h\u{e9} llo' }");
    let place = things.unwrap().inner.unwrap().place.unwrap();
    assert_eq!((place.at.line, place.at.column, place.written.as_str()), (2, 17, "h\u{e9} llo"));
}

#[test]
fn what_is_no_map_is_told_where_it_is() {
    for (text, line, message) in [
        ("", 0, "the file is empty"),
        ("# only words\n", 0, "the file is empty"),
        ("~", 0, "the file is empty"),
        ("- a", 1, "at the top"),
        ("a: [1", 1, "this is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "this is not YAML"),
        ("a: 1\nb: 'x\n", 2, "this is not YAML"),
        ("a: *nowhere", 1, "this is not YAML"),
        ("text: 1\n---\nb: 2\n", 2, "a second YAML document"),
        ("text: 1\nport: 2\ntext: 3\n", 3, "`text` is already set at line 1"),
        ("text: !mine x", 1, "a tag like `!name` means nothing here"),
        ("? [a]\n: 1", 1, "a key must be plain text"),
        ("inner: &a { inner: *a }", 1, "inside the value it is an alias of"),
    ] {
        let (_, problems) = read::<Things>(text);
        let found = messages(&problems);
        assert!(found.len() == 1 && found[0].2.contains(message), "{text:?}: {found:?}");
        assert!(found[0].0.abs_diff(line) <= 1, "{text:?}: {found:?}");
    }
}

#[test]
fn aliases_and_merges_are_filled_in() {
    let text = "inner: &base { port: 1, text: a }\nwords: [b]\nplace: x\n";
    assert!(read::<Things>(text).1.is_empty());
    let (value, problems) =
        read::<serde_json::Value>("base: &b { x: 1, y: 2 }\none: { <<: *b, y: 3 }\ntwo: [*b, *b]\n");
    assert!(problems.is_empty(), "{problems}");
    let base = serde_json::json!({ "x": 1, "y": 2 });
    let expected = serde_json::json!({ "base": base, "one": { "x": 1, "y": 3 }, "two": [base, base] });
    assert_eq!(value, Some(expected));
}

#[test]
fn a_bomb_of_aliases_and_a_deep_tree_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let alias = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![alias; 10].join(", "));
    }
    let (_, problems) = read::<serde_json::Value>(&bomb);
    assert!(problems.to_string().contains("too much"), "{problems}");
    let mut deep = "a0: &a0 [x]\n".to_owned();
    for i in 1..500 {
        deep += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let (_, problems) = read::<serde_json::Value>(&deep);
    assert!(problems.to_string().contains("too deep"), "{problems}");
    let (_, problems) = read::<serde_json::Value>(&format!("a: {}", "[".repeat(100_000)));
    assert_eq!(problems.len(), 1);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "(\\PC|\n|  |: |- |[\\[\\]{}&*!|>'\"#,]|text|port|inner){0,40}") {
        let (_, problems) = read::<Things>(&text);
        let _ = problems.to_string();
        let _ = read::<serde_json::Value>(&text);
    }
}
