use proptest::prelude::*;

use super::*;

/// The app at a platform, on HTTPS.
const PLATFORM: Names<'static> = Names {
    app_scheme: "https",
    app_authority: "shop.osc-fr1.scalingo.io",
    visitor_scheme: "https",
    visitor_authority: "shop.gateway.example.com",
};

/// The app on this machine, the gateway on plain HTTP, both on ports of their own.
const MACHINE: Names<'static> = Names {
    app_scheme: "http",
    app_authority: "127.0.0.1:3000",
    visitor_scheme: "http",
    visitor_authority: "shop.localhost:8080",
};

type Direction = fn(&HeaderMap, &Names<'_>) -> Vec<Change>;

fn headers<'a>(name: &HeaderName, values: impl IntoIterator<Item = &'a [u8]>) -> HeaderMap {
    let values = values.into_iter().filter_map(|value| HeaderValue::from_bytes(value).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// What becomes of the values of a header, as text.
fn after(direction: Direction, names: &Names<'_>, name: &HeaderName, values: &[&str]) -> Vec<String> {
    let headers = headers(name, values.iter().map(|value| value.as_bytes()));
    assert_eq!(headers.get_all(name).iter().count(), values.len(), "{values:?} are header values");
    match direction(&headers, names).as_slice() {
        [] => values.iter().map(ToString::to_string).collect(),
        [Change::Replace(of, new)] if of == name => {
            new.iter().map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()).collect()
        }
        [Change::Remove(of)] if of == name => vec![],
        other => panic!("{other:?} is more than was asked for"),
    }
}

fn each_becomes(direction: Direction, names: &Names<'_>, name: &HeaderName, table: &[(&str, &str)]) {
    for (given, expected) in table {
        assert_eq!(after(direction, names, name, &[given]), [*expected], "{name}: {given}");
    }
}

fn each_stays(direction: Direction, names: &Names<'_>, name: &HeaderName, values: &[&str]) {
    for value in values {
        let headers = headers(name, [value.as_bytes()]);
        assert_eq!(headers.len(), 1, "{value} is a header value");
        assert_eq!(direction(&headers, names), [], "{name}: {value}");
    }
}

#[test]
fn a_redirect_to_the_app_leads_to_the_visitors_host() {
    let table = [
        ("https://shop.osc-fr1.scalingo.io/login", "https://shop.gateway.example.com/login"),
        ("http://shop.osc-fr1.scalingo.io/login", "https://shop.gateway.example.com/login"),
        ("//shop.osc-fr1.scalingo.io/login", "https://shop.gateway.example.com/login"),
        ("HTTPS://Shop.OSC-fr1.Scalingo.IO/Login", "https://shop.gateway.example.com/Login"),
        ("https://shop.osc-fr1.scalingo.io:443/", "https://shop.gateway.example.com/"),
        ("http://shop.osc-fr1.scalingo.io:80/", "https://shop.gateway.example.com/"),
        ("http://shop.osc-fr1.scalingo.io:443/", "https://shop.gateway.example.com/"),
        ("https://shop.osc-fr1.scalingo.io:/", "https://shop.gateway.example.com/"),
        ("https://shop.osc-fr1.scalingo.io", "https://shop.gateway.example.com"),
        ("https://shop.osc-fr1.scalingo.io?a=b", "https://shop.gateway.example.com?a=b"),
        ("https://shop.osc-fr1.scalingo.io#top", "https://shop.gateway.example.com#top"),
        (
            "https://shop.osc-fr1.scalingo.io/%2F//a/../?u=https://shop.osc-fr1.scalingo.io/&e=\u{e9} @:#x",
            "https://shop.gateway.example.com/%2F//a/../?u=https://shop.osc-fr1.scalingo.io/&e=\u{e9} @:#x",
        ),
    ];
    each_becomes(outward, &PLATFORM, &LOCATION, &table);
    each_becomes(outward, &PLATFORM, &CONTENT_LOCATION, &table);
}

#[test]
fn a_redirect_to_anywhere_else_stays_as_it_is() {
    let values = [
        "/login",
        "login",
        "",
        "?a=https://shop.osc-fr1.scalingo.io/",
        "/x//shop.osc-fr1.scalingo.io/",
        "https://id.example.org/auth?redirect_uri=https%3A%2F%2Fshop.osc-fr1.scalingo.io%2Fback",
        "https://id.example.org/auth?redirect_uri=https://shop.osc-fr1.scalingo.io/back",
        "https://shop.gateway.example.com/",
        "https://osc-fr1.scalingo.io/",
        "https://other.shop.osc-fr1.scalingo.io/",
        "https://xshop.osc-fr1.scalingo.io/",
        "https://shop.osc-fr1.scalingo.io:8443/",
        "https://shop.osc-fr1.scalingo.io:80/",
        "ftp://shop.osc-fr1.scalingo.io/",
        "javascript://shop.osc-fr1.scalingo.io/%0aalert(1)",
        "mailto:shop@osc-fr1.scalingo.io",
    ];
    each_stays(outward, &PLATFORM, &LOCATION, &values);
    each_stays(outward, &PLATFORM, &CONTENT_LOCATION, &values);
}

#[test]
fn a_redirect_that_only_looks_like_the_apps_stays_as_it_is() {
    let values = [
        "https://shop.osc-fr1.scalingo.io.evil.com/",
        "https://shop.osc-fr1.scalingo.io@evil.com/",
        "https://shop.osc-fr1.scalingo.io:443@evil.com/",
        "https://user:password@shop.osc-fr1.scalingo.io/",
        "https://@shop.osc-fr1.scalingo.io/",
        "https://shop.osc-fr1.scalingo.io\\@evil.com/",
        "https://shop.osc-fr1.scalingo.io\\.evil.com/",
        "https://shop.osc-fr1.scalingo.io/\\evil.com/",
        "https:\\\\shop.osc-fr1.scalingo.io/",
        "\\\\shop.osc-fr1.scalingo.io/",
        "/\\shop.osc-fr1.scalingo.io/",
        "https://shop.osc-fr1.scalingo.io\t.evil.com/",
        "https://shop.osc-fr1.scalingo.io/\t/evil.com",
        "https://shop.osc-fr1.scalingo.io/\u{85}",
        "https://shop.osc-fr1.scalingo.io .evil.com/",
        "https://shop.osc-fr1.scalingo.io%00.evil.com/",
        "https://shop.osc-fr1.scalingo.io%2eevil.com/",
        "https://shop%2eosc-fr1.scalingo.io/",
        "https://[shop.osc-fr1.scalingo.io]/",
        "https://shop.osc-fr1.scalingo.io:443:443/",
        "https://shop.osc-fr1.scalingo.io:+443/",
        "https://shop.osc-fr1.scalingo.io:65979/",
        "https://shop.osc-fr1.scalingo.io:x/",
        "https:///shop.osc-fr1.scalingo.io/",
        "///shop.osc-fr1.scalingo.io/",
        "https:/shop.osc-fr1.scalingo.io/",
        "https:shop.osc-fr1.scalingo.io/",
        "https//shop.osc-fr1.scalingo.io/",
        "://shop.osc-fr1.scalingo.io/",
        "https ://shop.osc-fr1.scalingo.io/",
        "view-source:https://shop.osc-fr1.scalingo.io/",
    ];
    each_stays(outward, &PLATFORM, &LOCATION, &values);
}

#[test]
fn an_app_with_a_port_is_meant_by_that_port_or_by_none() {
    each_becomes(
        outward,
        &MACHINE,
        &LOCATION,
        &[
            ("http://127.0.0.1:3000/a", "http://shop.localhost:8080/a"),
            ("https://127.0.0.1:3000/a", "http://shop.localhost:8080/a"),
            ("//127.0.0.1:3000/a", "http://shop.localhost:8080/a"),
            ("//127.0.0.1:80/a", "http://shop.localhost:8080/a"),
            ("http://127.0.0.1/a", "http://shop.localhost:8080/a"),
        ],
    );
    each_stays(outward, &MACHINE, &LOCATION, &["http://127.0.0.1:3001/", "//127.0.0.1:443/"]);

    let v6 = Names { app_authority: "[::1]:3000", visitor_authority: "[fe80::1]:8080", ..MACHINE };
    each_becomes(
        outward,
        &v6,
        &LOCATION,
        &[("http://[::1]:3000/", "http://[fe80::1]:8080/"), ("http://[::1]", "http://[fe80::1]:8080")],
    );
    each_stays(
        outward,
        &v6,
        &LOCATION,
        &["http://[::1/", "http://[::1]x/", "http://::1:3000/", "http://[::2]/"],
    );
}

#[test]
fn an_origin_is_written_as_browsers_write_it() {
    let names = Names {
        app_scheme: "HTTPS",
        app_authority: "Shop.Example.ORG:443",
        visitor_scheme: "http",
        visitor_authority: "SHOP.localhost:80",
    };
    let there = [("https://shop.example.org/A", "http://shop.localhost/A")];
    each_becomes(outward, &names, &LOCATION, &there);
    let back = [("http://shop.localhost/A", "https://shop.example.org/A")];
    each_becomes(inward, &names, &REFERER, &back);
}

#[test]
fn a_refresh_leads_to_the_visitors_host_however_it_is_written() {
    each_becomes(
        outward,
        &PLATFORM,
        &REFRESH,
        &[
            ("5; url=https://shop.osc-fr1.scalingo.io/a", "5; url=https://shop.gateway.example.com/a"),
            ("0;URL=http://shop.osc-fr1.scalingo.io/a", "0;URL=https://shop.gateway.example.com/a"),
            (
                "5 ; Url = \"//shop.osc-fr1.scalingo.io/a\"",
                "5 ; Url = \"https://shop.gateway.example.com/a\"",
            ),
            ("5; url='https://shop.osc-fr1.scalingo.io'", "5; url='https://shop.gateway.example.com'"),
            (
                "5; url='https://shop.osc-fr1.scalingo.io/\"' x",
                "5; url='https://shop.gateway.example.com/\"' x",
            ),
            ("5; url=\"https://shop.osc-fr1.scalingo.io/a", "5; url=\"https://shop.gateway.example.com/a"),
            ("1.5,url=https://shop.osc-fr1.scalingo.io/;,", "1.5,url=https://shop.gateway.example.com/;,"),
            ("5; https://shop.osc-fr1.scalingo.io/a", "5; https://shop.gateway.example.com/a"),
            ("5 https://shop.osc-fr1.scalingo.io/a", "5 https://shop.gateway.example.com/a"),
        ],
    );
    each_stays(
        outward,
        &PLATFORM,
        &REFRESH,
        &[
            "5",
            "",
            "5;",
            "5; url",
            "5; url=",
            "5; url=\"",
            "5; url=/a",
            "5; url=https://example.org/?u=https://shop.osc-fr1.scalingo.io/",
            "5; url=https://shop.osc-fr1.scalingo.io.evil.com/",
            "5; url=\"https://shop.osc-fr1.scalingo.io@evil.com/\"",
            "5; url=\\https://shop.osc-fr1.scalingo.io/",
            "5; \u{e9}\u{e9}https://shop.osc-fr1.scalingo.io/",
            "5; uri=https://shop.osc-fr1.scalingo.io/",
            "url=https://shop.osc-fr1.scalingo.io/",
            "; url=https://shop.osc-fr1.scalingo.io/",
            "https://shop.osc-fr1.scalingo.io/",
            "5https://shop.osc-fr1.scalingo.io/",
        ],
    );
}

#[test]
fn every_target_of_a_link_that_is_the_apps_is_translated() {
    each_becomes(
        outward,
        &PLATFORM,
        &LINK,
        &[
            (
                "<https://shop.osc-fr1.scalingo.io/?page=2>; rel=\"next\"",
                "<https://shop.gateway.example.com/?page=2>; rel=\"next\"",
            ),
            (
                "</a.css>; rel=preload,<//shop.osc-fr1.scalingo.io/b,c;d.js>; rel=preload , <https://example.org/>, \
                 <http://shop.osc-fr1.scalingo.io>",
                "</a.css>; rel=preload,<https://shop.gateway.example.com/b,c;d.js>; rel=preload , \
                 <https://example.org/>, <https://shop.gateway.example.com>",
            ),
            (
                "<https://shop.osc-fr1.scalingo.io/>; title=\"a \\\", <https://shop.osc-fr1.scalingo.io/>\"; rel=x, \
                 <https://shop.osc-fr1.scalingo.io/\u{e9}>",
                "<https://shop.gateway.example.com/>; title=\"a \\\", <https://shop.osc-fr1.scalingo.io/>\"; rel=x, \
                 <https://shop.gateway.example.com/\u{e9}>",
            ),
        ],
    );
    each_stays(
        outward,
        &PLATFORM,
        &LINK,
        &[
            "",
            "<",
            "<>",
            "</a>; rel=preload",
            "<https://shop.osc-fr1.scalingo.io/",
            "<https://shop.osc-fr1.scalingo.io@evil.com/>",
            "<https://example.org/?u=<https://shop.osc-fr1.scalingo.io/>>",
            "</a>; anchor=\"https://shop.osc-fr1.scalingo.io/\"",
            "</a>; title=\", <https://shop.osc-fr1.scalingo.io/>",
            "</a>; x=<https://shop.osc-fr1.scalingo.io/>",
            "x <https://shop.osc-fr1.scalingo.io/>",
        ],
    );
}

#[test]
fn who_may_read_a_response_is_said_by_the_visitors_origin() {
    each_becomes(
        outward,
        &PLATFORM,
        &ACCESS_CONTROL_ALLOW_ORIGIN,
        &[
            ("https://shop.osc-fr1.scalingo.io", "https://shop.gateway.example.com"),
            ("http://shop.osc-fr1.scalingo.io:80", "https://shop.gateway.example.com"),
        ],
    );
    each_stays(
        outward,
        &PLATFORM,
        &ACCESS_CONTROL_ALLOW_ORIGIN,
        &[
            "*",
            "null",
            "",
            "https://example.org",
            "https://shop.osc-fr1.scalingo.io.evil.com",
            "https://shop.osc-fr1.scalingo.io/",
            "//shop.osc-fr1.scalingo.io",
            "shop.osc-fr1.scalingo.io",
            "https://shop.osc-fr1.scalingo.io, https://example.org",
        ],
    );
}

#[test]
fn a_cookie_for_the_apps_domain_becomes_the_visitors_hosts_own() {
    each_becomes(
        outward,
        &PLATFORM,
        &SET_COOKIE,
        &[
            ("sid=1; Domain=shop.osc-fr1.scalingo.io; Path=/; Secure", "sid=1; Path=/; Secure"),
            ("sid=1; Domain=.shop.osc-fr1.scalingo.io", "sid=1"),
            ("sid=1;DOMAIN = .Osc-FR1.scalingo.IO ;HttpOnly", "sid=1;HttpOnly"),
            ("sid=1; domain=scalingo.io; SameSite=None; Secure", "sid=1; SameSite=None; Secure"),
            ("sid=1; Domain=scalingo.io; Domain=.scalingo.io;", "sid=1;"),
            ("domain=scalingo.io; Domain=scalingo.io", "domain=scalingo.io"),
            ("flag; Domain=scalingo.io", "flag"),
            ("; Domain=scalingo.io", ""),
            ("sid=\u{e9}; Domain=scalingo.io", "sid=\u{e9}"),
            ("sid=\"a b\" ; Domain=scalingo.io; Path=/", "sid=\"a b\" ; Path=/"),
            ("__Secure-sid=1; Secure; Domain=scalingo.io", "__Secure-sid=1; Secure"),
        ],
    );
}

#[test]
fn what_is_quoted_in_a_cookie_is_no_attribute() {
    each_becomes(
        outward,
        &PLATFORM,
        &SET_COOKIE,
        &[
            (
                "a=\"x; domain=scalingo.io; y\"; Domain=scalingo.io; Path=/",
                "a=\"x; domain=scalingo.io; y\"; Path=/",
            ),
            (
                "a = \"x\\\"; domain=scalingo.io; y\"; domain=scalingo.io",
                "a = \"x\\\"; domain=scalingo.io; y\"",
            ),
            ("a=\"x\\\\\"; Domain=scalingo.io; b=\"", "a=\"x\\\\\"; b=\""),
            // Not a quoted value: a quote that is not closed, is closed too late, or stands in the middle.
            ("a=\"x; Domain=scalingo.io", "a=\"x"),
            ("a=\"x; Domain=scalingo.io; b=\"c", "a=\"x; b=\"c"),
            ("a=x\"; Domain=scalingo.io; b=\"", "a=x\"; b=\""),
            ("a; b=\"; Domain=scalingo.io; c=\"", "a; b=\"; c=\""),
        ],
    );
    let values = [
        "a=\"x; domain=scalingo.io\"; Path=/",
        "a=\"; Domain=scalingo.io;\"",
        "a=\"\\\\; Domain=scalingo.io;\"",
    ];
    each_stays(outward, &PLATFORM, &SET_COOKIE, &values);
}

#[test]
fn a_cookie_for_another_domain_or_for_none_stays_as_it_is() {
    each_stays(
        outward,
        &PLATFORM,
        &SET_COOKIE,
        &[
            "",
            "sid=1",
            "sid=1; Path=/; Secure; HttpOnly",
            "sid=1; Domain",
            "sid=1; Domain=",
            "sid=1; Domain=.",
            "sid=1; Domain=example.org",
            "sid=1; Domain=gateway.example.com",
            "sid=1; Domain=other.osc-fr1.scalingo.io",
            "sid=1; Domain=a.shop.osc-fr1.scalingo.io",
            "sid=1; Domain=hop.osc-fr1.scalingo.io",
            "sid=1; Domain=calingo.io",
            "sid=1; Domain=..scalingo.io",
            "sid=1; Domain=scalingo.io.evil.com",
            "sid=1; XDomain=scalingo.io",
            "sid=1; Path=/domain=scalingo.io",
            "domain=scalingo.io",
            "__Host-sid=1; Path=/; Secure",
            "__Host-sid=1; Path=/; Secure; Domain=scalingo.io",
            "__host-sid=1; Path=/; Secure; Domain=scalingo.io",
        ],
    );
}

#[test]
fn several_lines_of_a_header_keep_their_number_and_order() {
    let cookies =
        ["a=1; Path=/", "b=2; Domain=scalingo.io", "c=3; Domain=example.org", "b=4; Domain=.scalingo.io"];
    let expected = ["a=1; Path=/", "b=2", "c=3; Domain=example.org", "b=4"];
    assert_eq!(after(outward, &PLATFORM, &SET_COOKIE, &cookies), expected);
}

#[test]
fn alternative_services_of_the_platform_are_not_announced() {
    for values in [&["h3=\":443\"; ma=86400"][..], &["clear"], &["h3=\":443\"", "h2=\"other:443\""]] {
        for names in [PLATFORM, Names { app_authority: PLATFORM.visitor_authority, ..PLATFORM }] {
            assert_eq!(
                outward(&headers(&ALT_SVC, values.iter().map(|v| v.as_bytes())), &names),
                [Change::Remove(ALT_SVC)]
            );
        }
    }
}

#[test]
fn an_app_pins_no_host_but_the_visitors_to_https() {
    let table = [
        ("max-age=31536000; includeSubDomains; preload", "max-age=31536000"),
        ("max-age=31536000;INCLUDESUBDOMAINS", "max-age=31536000"),
        ("includeSubDomains; max-age=\"0\"", "max-age=\"0\""),
        ("preload ; max-age=1 ; other=x", "max-age=1 ; other=x"),
        ("max-age=1; includeSubDomains=\"\"", "max-age=1"),
        ("includeSubDomains", ""),
    ];
    let stays = ["max-age=31536000", "max-age=0", "", "max-age=1; includeSubDomainsToo; x=preload"];
    for names in [PLATFORM, MACHINE] {
        each_becomes(outward, &names, &STRICT_TRANSPORT_SECURITY, &table);
        each_stays(outward, &names, &STRICT_TRANSPORT_SECURITY, &stays);
    }
}

#[test]
fn what_only_names_the_apps_host_to_the_page_stays_as_it_is() {
    let values = ["https://shop.osc-fr1.scalingo.io", "default-src 'self' https://shop.osc-fr1.scalingo.io"];
    for name in
        ["content-security-policy", "timing-allow-origin", "x-app-url", "origin", "referer", "destination"]
    {
        each_stays(outward, &PLATFORM, &HeaderName::from_static(name), &values);
    }
}

#[test]
fn the_visitors_origin_is_the_apps_to_the_app() {
    let table = [("https://shop.gateway.example.com", "https://shop.osc-fr1.scalingo.io")];
    each_becomes(inward, &PLATFORM, &ORIGIN, &table);
    let stays = [
        "null",
        "",
        "https://example.org",
        "https://other.gateway.example.com",
        "https://gateway.example.com",
        "https://shop.gateway.example.com.evil.com",
        "https://shop.gateway.example.com:8443",
        "http://shop.gateway.example.com",
        "http://shop.gateway.example.com:443",
        "//shop.gateway.example.com",
        "https://shop.gateway.example.com/",
        "https://shop.osc-fr1.scalingo.io",
        "chrome-extension://shop.gateway.example.com",
    ];
    each_stays(inward, &PLATFORM, &ORIGIN, &stays);

    let table = [("http://shop.localhost:8080", "http://127.0.0.1:3000")];
    each_becomes(inward, &MACHINE, &ORIGIN, &table);
    let stays = ["http://shop.localhost", "https://shop.localhost:8080", "http://shop.localhost:80"];
    each_stays(inward, &MACHINE, &ORIGIN, &stays);
}

#[test]
fn the_page_a_visitor_came_from_is_the_apps_to_the_app() {
    let table = [
        ("https://shop.gateway.example.com/a?b=c%20", "https://shop.osc-fr1.scalingo.io/a?b=c%20"),
        ("https://shop.gateway.example.com", "https://shop.osc-fr1.scalingo.io"),
    ];
    let stays = [
        "/a",
        "about:blank",
        "http://shop.gateway.example.com/a",
        "//shop.gateway.example.com/a",
        "https://other.gateway.example.com/a",
        "https://shop.gateway.example.com@evil.com/",
        "https://example.org/?u=https://shop.gateway.example.com/",
    ];
    for name in [REFERER, DESTINATION] {
        each_becomes(inward, &PLATFORM, &name, &table);
        each_stays(inward, &PLATFORM, &name, &stays);
    }
}

#[test]
fn what_else_a_visitor_says_reaches_the_app_as_it_is() {
    for name in
        ["access-control-request-method", "access-control-request-headers", "host", "cookie", "location"]
    {
        each_stays(inward, &PLATFORM, &HeaderName::from_static(name), &["https://shop.gateway.example.com"]);
    }
}

#[test]
fn an_app_that_is_told_the_visitors_host_is_left_to_speak_for_itself() {
    let names = Names { app_scheme: "http", app_authority: "SHOP.gateway.example.com", ..PLATFORM };
    each_stays(inward, &names, &ORIGIN, &["https://shop.gateway.example.com"]);
    each_stays(outward, &names, &LOCATION, &["http://shop.gateway.example.com/"]);
    each_stays(outward, &names, &SET_COOKIE, &["sid=1; Domain=gateway.example.com"]);
}

#[test]
fn with_a_malformed_name_nothing_is_translated() {
    for bad in [
        "",
        "a b",
        "a/b",
        "u@h",
        "h:x",
        "h:99999",
        ":80",
        "[::1",
        "[]x",
        "[]/",
        "[a/b]",
        "evil.com\\",
        "h\u{e9}",
        "h\r\nx: y",
    ] {
        let names = Names { visitor_authority: bad, ..PLATFORM };
        each_stays(outward, &names, &LOCATION, &["https://shop.osc-fr1.scalingo.io/"]);
        let names = Names { app_authority: bad, ..PLATFORM };
        each_stays(inward, &names, &ORIGIN, &["https://shop.gateway.example.com"]);
    }
    let names = Names { visitor_scheme: "javascript", ..PLATFORM };
    each_stays(outward, &names, &LOCATION, &["https://shop.osc-fr1.scalingo.io/"]);
}

#[test]
fn a_value_that_is_no_utf_8_stays_as_it_is_beside_one_that_is_translated() {
    for (name, value) in [
        (LOCATION, &b"https://shop.osc-fr1.scalingo.io/\xe9"[..]),
        (CONTENT_LOCATION, b"https://shop.osc-fr1.scalingo.io/\xe9"),
        (REFRESH, b"5; url=https://shop.osc-fr1.scalingo.io/\xe9"),
        (LINK, b"<https://shop.osc-fr1.scalingo.io/\xe9>"),
        (SET_COOKIE, b"sid=\xe9; Domain=scalingo.io"),
        (STRICT_TRANSPORT_SECURITY, b"max-age=1; preload; \xe9"),
    ] {
        assert_eq!(outward(&headers(&name, [value]), &PLATFORM), [], "{name}");
    }
    let there = headers(&SET_COOKIE, [&b"a=\xe9; Domain=scalingo.io"[..], b"b=2; Domain=scalingo.io"]);
    let values = headers(&SET_COOKIE, [&b"a=\xe9; Domain=scalingo.io"[..], b"b=2"]);
    let values = values.get_all(SET_COOKIE).iter().cloned().collect();
    assert_eq!(outward(&there, &PLATFORM), [Change::Replace(SET_COOKIE, values)]);
    assert_eq!(inward(&headers(&REFERER, [&b"https://shop.gateway.example.com/\xe9"[..]]), &PLATFORM), []);
}

#[test]
fn a_response_may_need_many_changes_and_each_header_has_one() {
    let headers: HeaderMap = [
        (LOCATION, "https://shop.osc-fr1.scalingo.io/"),
        (SET_COOKIE, "a=1; Domain=scalingo.io"),
        (SET_COOKIE, "b=1; Domain=scalingo.io"),
        (ALT_SVC, "h3=\":443\""),
        (STRICT_TRANSPORT_SECURITY, "max-age=1; preload"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    let value = HeaderValue::from_static;
    let expected = [
        Change::Remove(ALT_SVC),
        Change::Replace(STRICT_TRANSPORT_SECURITY, vec![value("max-age=1")]),
        Change::Replace(LOCATION, vec![value("https://shop.gateway.example.com/")]),
        Change::Replace(SET_COOKIE, vec![value("a=1"), value("b=1")]),
    ];
    assert_eq!(outward(&headers, &PLATFORM), expected);
}

const TRANSLATED: [HeaderName; 11] = [
    LOCATION,
    CONTENT_LOCATION,
    REFRESH,
    LINK,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    ALT_SVC,
    ORIGIN,
    REFERER,
    DESTINATION,
];

/// Text made of what the parsers look for: random bytes alone would rarely come far.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "https:",
            "http:",
            "//",
            "/",
            "\\",
            "@",
            ":",
            ":443",
            "[",
            "]",
            "<",
            ">",
            ",",
            ";",
            " ",
            "\t",
            "=",
            "\"",
            "'",
            "5",
            "url=",
            "Domain=",
            ".",
            "a",
            "\u{e9}",
            "__Host-",
            "preload",
            "shop.osc-fr1.scalingo.io",
            "shop.gateway.example.com",
            "scalingo.io",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..3),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_it_panic(
        value in prop_oneof![pieces(), any::<Vec<u8>>()],
        authority in "[a.:0-9\\[\\]]{0,9}|.*",
    ) {
        for name in TRANSLATED {
            let headers = headers(&name, [value.as_slice()]);
            let strange_app = Names { app_authority: &authority, ..PLATFORM };
            let strange_visitor = Names { visitor_authority: &authority, ..PLATFORM };
            for names in [PLATFORM, strange_app, strange_visitor] {
                inward(&headers, &names);
                outward(&headers, &names);
            }
        }
    }

    #[test]
    fn what_names_other_hosts_is_never_changed(
        host in "[a-z]{1,9}(\\.[a-z0-9-]{1,9}){0,2}\\.(com|org|dev)",
        before in "(https?:)?//(user@)?",
        after in "(:[0-9]{1,4})?([/?#][ -~]{0,30})?",
    ) {
        prop_assume!(host != PLATFORM.visitor_authority);
        let url = format!("{before}{host}{after}");
        for name in TRANSLATED.into_iter().filter(|name| *name != ALT_SVC && *name != SET_COOKIE && *name != LINK) {
            let headers = headers(&name, [url.as_bytes()]);
            prop_assert_eq!(inward(&headers, &PLATFORM), []);
            prop_assert_eq!(outward(&headers, &PLATFORM), []);
        }
        let link = headers(&LINK, [format!("<{}>; rel=next", url.replace('>', "")).as_bytes()]);
        prop_assert_eq!(outward(&link, &PLATFORM), []);
        let cookie = headers(&SET_COOKIE, [format!("a=1; Domain={host}; Path=/").as_bytes()]);
        prop_assert_eq!(outward(&cookie, &PLATFORM), []);
    }

    #[test]
    fn a_redirect_is_changed_only_if_the_apps_host_is_all_there_is_before_the_path(url in pieces()) {
        let Ok(text) = String::from_utf8(url) else { return Ok(()) };
        let headers = headers(&LOCATION, [text.as_bytes()]);
        if let [Change::Replace(_, values)] = outward(&headers, &PLATFORM).as_slice() {
            let rest = text.split_once("//shop.osc-fr1.scalingo.io").unwrap().1;
            let rest = rest.strip_prefix(":443").or(rest.strip_prefix(':')).unwrap_or(rest);
            prop_assert!(rest.is_empty() || rest.starts_with(['/', '?', '#']), "{}", text);
            let expected = format!("https://shop.gateway.example.com{rest}");
            prop_assert_eq!(values[0].as_bytes(), expected.as_bytes());
        }
    }
}
