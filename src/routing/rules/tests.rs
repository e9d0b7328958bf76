use proptest::prelude::*;

use super::*;

fn rule(number: usize, pattern: &str) -> Rule {
    Rule::new(Match::parse(pattern).unwrap(), format!("rule {number}, conf/loir.yaml:{}", number * 10))
}

fn templates(rule: &Rule, texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| Template::parse(text, &rule.pattern).unwrap()).collect()
}

fn app(id: &str) -> AppId {
    id.parse().unwrap()
}

fn apps(ids: &[&str]) -> Vec<AppId> {
    ids.iter().map(|id| app(id)).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn of_each_key_the_first_rule_counts_that_fits_and_has_it() {
    let mut one = rule(1, "shop-*");
    one.idle_timeout = Some(MINUTE);
    let mut two = rule(2, "*");
    two.idle_timeout = Some(2 * MINUTE);
    two.stop = Some(StopTypes::Web);
    let rules = Rules::new(vec![one, two], None);
    let shop = rules.of(&app("paris/shop-1"));
    assert_eq!((shop.idle_timeout, shop.stop), (Some(MINUTE), Some(StopTypes::Web)));
    assert_eq!(shop.origin_of("idle_timeout").as_deref(), Some("rule 1, conf/loir.yaml:10"));
    assert_eq!(shop.origin_of("stop").as_deref(), Some("rule 2, conf/loir.yaml:20"));
    assert_eq!(shop.origin_of("wake_timeout"), None);
    let values: Vec<_> = shop.sources.iter().map(|source| (source.key, source.value.as_str())).collect();
    assert_eq!(values, [("idle_timeout", "1m"), ("stop", "web")]);
    assert_eq!(rules.of(&app("paris/blog")).idle_timeout, Some(2 * MINUTE));
    assert_eq!(rules.index_of(&app("paris/blog"), "idle_timeout"), Some(1));
}

#[test]
fn what_is_listed_is_added_only_by_rules_that_say_merge() {
    let listing = |number, merge, names: &[&str], path: &str, token: bool| {
        let mut rule = rule(number, "*");
        rule.merge = merge;
        rule.wakes_with = Some(templates(&rule, names));
        rule.no_wake = Some(Arc::new(NoWake { paths: vec![path.to_owned()], ..NoWake::default() }));
        rule.access = Some(Arc::new(Access { token, link: !token, networks: Vec::new() }));
        rule
    };
    let mut three = listing(3, true, &["c", "a"], "/c", false);
    three.idle_timeout = Some(MINUTE);
    let mut four = listing(4, true, &[], "/a", false);
    four.idle_timeout = Some(2 * MINUTE);
    let rules = Rules::new(
        vec![listing(1, false, &["a"], "/a", true), listing(2, false, &["b"], "/b", false), three, four],
        None,
    );
    let shop = rules.of(&app("paris/shop"));
    assert_eq!(shop.wakes_with, apps(&["paris/a", "paris/c"]));
    assert_eq!(shop.no_wake.as_ref().unwrap().paths, ["/a", "/c"]);
    assert_eq!(
        shop.access.as_deref(),
        Some(&Access { token: true, link: true, ..Access::default() }),
        "of the first and the third"
    );
    assert_eq!(shop.idle_timeout, Some(MINUTE), "a single value is not added to anything");
    let origin = "rule 1, conf/loir.yaml:10 and rule 3, conf/loir.yaml:30 and rule 4, conf/loir.yaml:40";
    assert_eq!(shop.origin_of("wakes_with").as_deref(), Some(origin));
}

#[test]
fn limits_are_one_key_and_merge_fills_in_what_is_not_limited_yet() {
    let limiting = |number, merge, wakes_per_hour, awake_per_day| {
        let mut rule = rule(number, "*");
        rule.merge = merge;
        rule.limits = Some(WakeLimits { wakes_per_hour, awake_per_day });
        rule
    };
    let rules =
        Rules::new(vec![limiting(1, false, Some(6), None), limiting(2, false, None, Some(MINUTE))], None);
    assert_eq!(rules.of(&app("p/a")).limits, WakeLimits { wakes_per_hour: Some(6), awake_per_day: None });
    let rules =
        Rules::new(vec![limiting(1, false, Some(6), None), limiting(2, true, Some(7), Some(MINUTE))], None);
    let both = rules.of(&app("p/a"));
    assert_eq!(both.limits, WakeLimits { wakes_per_hour: Some(6), awake_per_day: Some(MINUTE) });
    assert_eq!(both.sources[0].value, "6 wakes per hour, 1m awake per day");
}

#[test]
fn captures_name_the_group_and_neither_the_app_itself_nor_an_empty_name() {
    let mut pr = rule(1, r"shop-pr(\d+)-(front|back)(-x)?");
    pr.wakes_with = Some(templates(&pr, &["shop-pr$1-back", "$3", "$3/back", "heroku/$2"]));
    let after = templates(&pr, &["shop-pr$1-back"]).remove(0);
    pr.after = Some(vec![(after, Until::Ready)]);
    let rules = Rules::new(vec![pr], None);
    let front = rules.of(&app("paris/shop-pr7-front"));
    assert_eq!(front.wakes_with, apps(&["paris/shop-pr7-back", "heroku/front"]));
    assert_eq!(front.after, [(app("paris/shop-pr7-back"), Until::Ready)]);
    let back = rules.of(&app("paris/shop-pr7-back"));
    assert_eq!(back.wakes_with, apps(&["heroku/back"]));
    assert_eq!(back.after, []);
    assert_eq!(rules.of(&app("paris/shop-prx-front")), Ruling::default());
}

#[test]
fn whoever_is_waited_for_is_woken_too() {
    let mut front = rule(1, "front");
    let after = templates(&front, &["back"]).remove(0);
    front.after = Some(vec![(after, Until::Started)]);
    let ruling = Rules::new(vec![front], None).of(&app("p/front"));
    assert_eq!(ruling.wakes_with, apps(&["p/back"]));
    assert_eq!(ruling.origin_of("wakes_with"), ruling.origin_of("after"));
    assert_eq!(ruling.sources[0].value, "p/back started");
}

#[test]
fn a_rule_cannot_take_back_that_nothing_is_stopped_at_all() {
    let mut one = rule(1, "live");
    one.dry_run = Some(false);
    let mut two = rule(2, "*");
    two.dry_run = Some(true);
    let rules = Rules::new(vec![one.clone(), two.clone()], None);
    assert!(!rules.of(&app("p/live")).dry_run);
    assert!(rules.of(&app("p/other")).dry_run);
    let rules = Rules::new(vec![one, two], Some("conf/loir.yaml:3".into()));
    for name in ["p/live", "p/other"] {
        let ruling = rules.of(&app(name));
        assert!(ruling.dry_run);
        assert_eq!(ruling.origin_of("dry_run").as_deref(), Some("conf/loir.yaml:3"));
        assert_eq!(ruling.sources.len(), 1);
    }
}

proptest! {
    /// Whatever the order and whoever fits: of a key the earliest fitting rule counts.
    #[test]
    fn order_decides(fits in prop::collection::vec((any::<bool>(), prop::option::of(1u64..100)), 0..8)) {
        let rules = fits.iter().enumerate().map(|(number, (fits, idle))| {
            let mut rule = rule(number, if *fits { "a" } else { "b" });
            rule.idle_timeout = idle.map(Duration::from_secs);
            rule
        });
        let ruling = Rules::new(rules.collect(), None).of(&app("p/a"));
        let expected = fits.iter().position(|(fits, idle)| *fits && idle.is_some());
        prop_assert_eq!(ruling.idle_timeout, expected.and_then(|at| fits[at].1).map(Duration::from_secs));
        let origin = expected.map(|at| format!("rule {at}, conf/loir.yaml:{}", at * 10));
        let told = ruling.origin_of("idle_timeout").map(|told| told.to_string());
        prop_assert_eq!(told, origin);
    }
}
