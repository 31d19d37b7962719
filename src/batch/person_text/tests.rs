use proptest::prelude::*;

use super::*;

/// Characters that are not seen, as they come with a copied text.
const UNSEEN: [char; 22] = [
    '\u{AD}',
    '\u{34F}',
    '\u{61C}',
    '\u{17B4}',
    '\u{180B}',
    '\u{180E}',
    '\u{200B}',
    '\u{200C}',
    '\u{200D}',
    '\u{200E}',
    '\u{200F}',
    '\u{202A}',
    '\u{202C}',
    '\u{202E}',
    '\u{2060}',
    '\u{2065}',
    '\u{2066}',
    '\u{2069}',
    '\u{FE0F}',
    '\u{FEFF}',
    '\u{E0001}',
    '\u{E0100}',
];

fn url(text: &str) -> Option<String> {
    profile_url(text).ok()
}

fn host(text: &str) -> Option<String> {
    company_domain(text).ok()
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap().to_ascii_uppercase()
}

fn percent_encoded(c: char) -> String {
    c.to_string().bytes().flat_map(|byte| ['%', hex(byte >> 4), hex(byte & 15)]).collect()
}

#[test]
fn profile_addresses_are_normalised() {
    for (text, sent) in [
        ("https://www.linkedin.com/in/ada-lovelace", "https://www.linkedin.com/in/ada-lovelace"),
        ("www.linkedin.com/in/ada-lovelace", "https://www.linkedin.com/in/ada-lovelace"),
        ("linkedin.com/in/x", "https://linkedin.com/in/x"),
        ("//www.linkedin.com/in/x", "https://www.linkedin.com/in/x"),
        ("http://linkedin.com/in/x", "https://linkedin.com/in/x"),
        (" \u{a0}https://www.linkedin.com/in/ada \n", "https://www.linkedin.com/in/ada"),
        ("HTTPS://WWW.LinkedIn.COM/IN/Ada-Lovelace", "https://www.linkedin.com/in/Ada-Lovelace"),
        ("https://uk.linkedin.com/in/ada", "https://uk.linkedin.com/in/ada"),
        ("https://m.linkedin.com/in/ada", "https://m.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada//", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada?trk=people&x=a,b;c#about", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/?originalSubdomain=uk", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada#", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/de", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/in/", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/details/experience/", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/in/ada/overlay/contact-info/", "https://www.linkedin.com/in/ada"),
        (
            "https://www.linkedin.com/in/jos%C3%A9-n%c3%BA%C3%B1ez",
            "https://www.linkedin.com/in/jos%C3%A9-n%c3%BA%C3%B1ez",
        ),
        ("https://www.linkedin.com/in/李-明", "https://www.linkedin.com/in/李-明"),
        ("https://www.linkedin.com/in/%E6%9D%8E-明", "https://www.linkedin.com/in/%E6%9D%8E-明"),
        ("https://www.linkedin.com/in/josé", "https://www.linkedin.com/in/josé"),
        (
            "https://www.linkedin.com/in/ada-lovelace%2C-phd-1b2c",
            "https://www.linkedin.com/in/ada-lovelace%2C-phd-1b2c",
        ),
        ("https://www.linkedin.com/in/o'brien_j.r~1", "https://www.linkedin.com/in/o'brien_j.r~1"),
        ("https://www.linkedin.com/in/ACoAAB1cD2eF", "https://www.linkedin.com/in/ACoAAB1cD2eF"),
        ("https://www.linkedin.com/in/ada-👩‍💻-1", "https://www.linkedin.com/in/ada-👩‍💻-1"),
        ("https://www.linkedin.com/mwlite/in/ada", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/mwlite/profile/in/ada", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/m/in/ada/", "https://www.linkedin.com/in/ada"),
        ("https://www.linkedin.com/comm/in/ada?midToken=a&otpToken=b", "https://www.linkedin.com/in/ada"),
        ("https://in.linkedin.com/public-profile/in/ada", "https://in.linkedin.com/in/ada"),
        ("https://www.linkedin.com/incareer/in/ACoAAC", "https://www.linkedin.com/in/ACoAAC"),
        (
            "https://www.linkedin.com/pub/ada-lovelace/1a/2b3/4c5/",
            "https://www.linkedin.com/pub/ada-lovelace/1a/2b3/4c5",
        ),
        ("https://www.linkedin.com/pub/ada/1/2/3/de", "https://www.linkedin.com/pub/ada/1/2/3"),
        ("https://www.linkedin.com/pub/ada", "https://www.linkedin.com/pub/ada"),
        (
            "https://www.linkedin.com/sales/lead/ACwAAB,NAME_SEARCH,VAkJ",
            "https://www.linkedin.com/sales/lead/ACwAAB,NAME_SEARCH,VAkJ",
        ),
        (
            "https://www.linkedin.com/sales/lead/ACwAAB%2CNAME_SEARCH%2CVAkJ?_ntb=x%3D%3D",
            "https://www.linkedin.com/sales/lead/ACwAAB%2CNAME_SEARCH%2CVAkJ",
        ),
        (
            "https://www.linkedin.com/Sales/People/ACwAAB,undefined,undefined",
            "https://www.linkedin.com/sales/people/ACwAAB,undefined,undefined",
        ),
        (
            "https://www.linkedin.com/sales/profile/12345,AbCd,NAME",
            "https://www.linkedin.com/sales/profile/12345,AbCd,NAME",
        ),
        (
            "https://www.linkedin.com/recruiter/profile/12345,AbCd,CAP",
            "https://www.linkedin.com/recruiter/profile/12345,AbCd,CAP",
        ),
        (
            "https://www.linkedin.com/talent/profile/AEMAAB?project=1",
            "https://www.linkedin.com/talent/profile/AEMAAB",
        ),
        (
            "https://www.linkedin.com/talent/hire/12/discover/recruiterSearch/profile/AEMAAB/messages",
            "https://www.linkedin.com/talent/profile/AEMAAB",
        ),
        (
            "https://www.linkedin.com/profile/view?id=12345&trk=x#y",
            "https://www.linkedin.com/profile/view?id=12345",
        ),
        ("linkedin.com/profile/view/?authType=x&id=ACoAAB", "https://linkedin.com/profile/view?id=ACoAAB"),
        // Where somebody came from is not whom the address names.
        (
            "https://www.linkedin.com/in/ada?originalReferer=https://www.linkedin.com/in/grace",
            "https://www.linkedin.com/in/ada",
        ),
        (
            "https://www.linkedin.com/in/ada?u=https%3A%2F%2Fwww.linkedin.com%2Fin%2Fgrace",
            "https://www.linkedin.com/in/ada",
        ),
        (
            "https://www.linkedin.com/in/ada?from=https://www.linkedin.com/feed/",
            "https://www.linkedin.com/in/ada",
        ),
    ] {
        assert_eq!(url(text).as_deref(), Some(sent), "{text}");
    }
}

#[test]
fn addresses_that_name_no_person_are_refused() {
    for text in [
        "",
        "ada-lovelace",
        "/in/ada",
        "in/ada",
        "urn:li:person:ada",
        "https://www.linkedin.com",
        "https://www.linkedin.com/",
        "https://www.linkedin.com?in/ada",
        "https://www.linkedin.com/#/in/ada",
        "https://www.linkedin.com/?x=/in/ada",
        "https://www.linkedin.com/in",
        "https://www.linkedin.com/in/",
        "https://www.linkedin.com/in//",
        "https://www.linkedin.com/in//ada",
        "https://www.linkedin.com//in/ada",
        "https://www.linkedin.com/in/?ada",
        "https://www.linkedin.com/in/\u{200b}",
        "https://www.linkedin.com/in/%E2%80%8B",
        "https://www.linkedin.com/in/-",
        "https://www.linkedin.com/in/.",
        "https://www.linkedin.com/in/..",
        "https://www.linkedin.com/in/../company/x",
        "https://www.linkedin.com/in/%2e%2e/company/x",
        "https://www.linkedin.com/in/%2E/",
        "https://www.linkedin.com/in/ada%2f..%2fcompany",
        "https://www.linkedin.com/in/ada%5cx",
        "https://www.linkedin.com/in/ada%3Fx",
        "https://www.linkedin.com/in/ada%23x",
        "https://www.linkedin.com/in/ada%40x",
        "https://www.linkedin.com/in/jos%25C3%25A9",
        "https://www.linkedin.com/in/ada%20lovelace",
        "https://www.linkedin.com/in/ada%C2%A0lovelace",
        "https://www.linkedin.com/in/ada%0Alovelace",
        "https://www.linkedin.com/in/ada%00",
        "https://www.linkedin.com/in/jos%E9",
        "https://www.linkedin.com/in/ada%",
        "https://www.linkedin.com/in/ada%4",
        "https://www.linkedin.com/in/ada%+4",
        "https://www.linkedin.com/in/ada%zz",
        "https://www.linkedin.com/in/jos\u{fffd}",
        "https://www.linkedin.com/in/ada+lovelace",
        "https://www.linkedin.com/in/ada&trk=x",
        "https://www.linkedin.com/in/ada=x",
        "https://www.linkedin.com/in/@ada",
        "https://www.linkedin.com/in/{slug}",
        "https://www.linkedin.com/in/<slug>",
        "https://www.linkedin.com/in/null",
        "https://www.linkedin.com/in/undefined/",
        "https://www.linkedin.com/in/N/A",
        "https://www.linkedin.com/in/me",
        "https://www.linkedin.com/mwlite/profile/me",
        "https://www.linkedin.com/%69n/ada",
        "https://www.linkedin.com/company/example",
        "https://www.linkedin.com/company/example/people/",
        "https://www.linkedin.com/company/in/ada",
        "https://www.linkedin.com/school/example",
        "https://www.linkedin.com/showcase/example",
        "https://www.linkedin.com/jobs/view/1",
        "https://www.linkedin.com/feed/",
        "https://www.linkedin.com/posts/ada_x-activity-1",
        "https://www.linkedin.com/pulse/x",
        "https://www.linkedin.com/groups/1",
        "https://www.linkedin.com/search/results/people/?keywords=ada",
        "https://www.linkedin.com/pub/ada/./in",
        "https://www.linkedin.com/pub/ada/%2e%2E/1",
        "https://www.linkedin.com/pub/ada//1",
        "https://www.linkedin.com/in/ada/../grace",
        "https://www.linkedin.com/pub/dir/Ada/Lovelace",
        "https://www.linkedin.com/pub/dir?firstName=Ada",
        "https://www.linkedin.com/sales/company/1",
        "https://www.linkedin.com/sales/lead/",
        "https://www.linkedin.com/sales/lead/,NAME_SEARCH,x",
        "https://www.linkedin.com/sales/lead/undefined,NAME_SEARCH,x",
        "https://www.linkedin.com/sales/search/people?query=ada",
        "https://www.linkedin.com/sales/lists/people/1",
        "https://www.linkedin.com/talent/hire/1/overview",
        "https://www.linkedin.com/talent/profile",
        "https://www.linkedin.com/recruiter/smartsearch",
        "https://www.linkedin.com/profile/view",
        "https://www.linkedin.com/profile/view?id=",
        "https://www.linkedin.com/profile/view#?id=1",
        "https://www.linkedin.com/public-profile/settings",
        "https://www.linkedin.com/authwall?sessionRedirect=https://www.linkedin.com/in/ada",
    ] {
        assert_eq!(profile_url(text), Err(NOT_A_PROFILE), "{text:?}");
    }
}

#[test]
fn only_linkedin_itself_is_believed() {
    for text in [
        "https://example.org/in/ada",
        "https://linkedin.com.example.org/in/ada",
        "https://example.org/linkedin.com/in/ada",
        "https://example.org/?https://www.linkedin.com/in/ada",
        "https://notlinkedin.com/in/ada",
        "https://www-linkedin.com/in/ada",
        "https://linkedin.org/in/ada",
        "https://www.linkedin.cn/in/ada",
        "https://lnkd.in/ada",
        "https://.linkedin.com/in/ada",
        "https://www..linkedin.com/in/ada",
        "https://-.linkedin.com/in/ada",
        "https://w_w.linkedin.com/in/ada",
        "https://www.linkedin.com./in/ada",
        "https://linkedin.com@example.org/in/ada",
        "https://user:pass@linkedin.com/in/ada",
        "https://user@www.linkedin.com/in/ada",
        "https://www.linkedin.com:443/in/ada",
        "https://www.linkedin.com:/in/ada",
        "https://www%2elinkedin.com/in/ada",
        "https://www.l\u{131}nkedin.com/in/ada",
        "https://www.linked\u{456}n.com/in/ada",
        "https://www.ｌｉｎｋｅｄｉｎ.com/in/ada",
        "https://www。linkedin。com/in/ada",
        "https://xn--.linkedin.com/in/ada",
        "https://www.xn--lnkedin-9ya.com/in/ada",
        "ada@linkedin.com",
        "mailto:ada@linkedin.com/in/ada",
        "ftp://www.linkedin.com/in/ada",
        "javascript://www.linkedin.com/in/ada",
        "data:,https://www.linkedin.com/in/ada",
        "view-source:https://www.linkedin.com/in/ada",
        "https:/www.linkedin.com/in/ada-lovelace",
        "https:www.linkedin.com/in/ada",
        "https:///www.linkedin.com/in/ada",
        "https//www.linkedin.com/in/ada",
        "://www.linkedin.com/in/ada",
        "https://https://www.linkedin.com/in/ada",
        "https:\\\\www.linkedin.com\\in\\ada",
        "https://www.linkedin.com\\in\\ada",
        "https://www.linkedin.com/in/ada\\x",
        "ht\ttps://www.linkedin.com/in/ada",
        "https://www.linkedin.com/in/ada\tlovelace",
        "https://www.linkedin.com/in/ada\r\nlovelace",
        "https://www.linkedin.com/in/ada lovelace",
        "https://www.linkedin.com/in/ada\u{3000}lovelace",
        "https://www.linkedin.com/in/ada\u{3164}lovelace",
        "https://www.linkedin.com/in/ada\u{0}",
        "LinkedIn: https://www.linkedin.com/in/ada",
        "<https://www.linkedin.com/in/ada>",
        "\"https://www.linkedin.com/in/ada\"",
        "[Ada](https://www.linkedin.com/in/ada)",
    ] {
        assert_eq!(profile_url(text), Err(NOT_A_PROFILE), "{text:?}");
    }
}

#[test]
fn two_persons_in_one_field_are_refused() {
    let forms = ["https://www.linkedin.com/in/grace", "www.linkedin.com/in/grace", "linkedin.com/in/grace"];
    for first in [
        "https://www.linkedin.com/in/ada",
        "www.linkedin.com/in/ada",
        "https://www.linkedin.com/in/ada/",
        "https://www.linkedin.com/in/ada/de",
        "https://www.linkedin.com/pub/ada/1/2/3",
        "https://www.linkedin.com/sales/lead/ACw,NAME_SEARCH,x",
    ] {
        for separator in
            [" ", ",", ", ", ";", "; ", "|", " | ", "\n", "\t", "\r\n", " / ", " and ", " or ", "/", ""]
        {
            for second in forms {
                let text = format!("{first}{separator}{second}");
                assert_eq!(profile_url(&text), Err(NOT_A_PROFILE), "{text:?}");
            }
        }
    }
    for separator in [",", ";", "|", ", ", "#", "?", "&", "#/", ""] {
        let text =
            format!("https://www.linkedin.com/in/ada?trk=x{separator}https://www.linkedin.com/in/grace");
        assert_eq!(url(&text), None, "{text}");
    }
    for text in [
        "https://www.linkedin.com/in/ada#https://www.linkedin.com/in/grace",
        "https://www.linkedin.com/in/ada?https://uk.linkedin.com/pub/grace",
        "https://www.linkedin.com/in/ada?a=b,www.linkedin.com/sales/lead/ACw,x",
        "https://www.linkedin.com/in/ada,grace",
        "https://www.linkedin.com/in/ada,",
        "https://www.linkedin.com/in/ada;grace",
        "https://www.linkedin.com/in/ada/in/grace",
        "https://www.linkedin.com/in/ada/pub/grace",
        "https://www.linkedin.com/in/https://www.linkedin.com/in/grace",
        "https://www.linkedin.com/in/ada%2Chttps%3A%2F%2Fwww.linkedin.com%2Fin%2Fgrace",
        "https://www.linkedin.com/profile/view?id=1&id=2",
        "https://www.linkedin.com/profile/view?id=1,https://www.linkedin.com/profile/view?id=2",
        "https://www.linkedin.com/in/ada;grace@example.org",
    ] {
        assert_eq!(profile_url(text), Err(NOT_A_PROFILE), "{text:?}");
    }
}

#[test]
fn invisible_characters_are_removed() {
    for c in UNSEEN {
        let sent = Some("https://www.linkedin.com/in/ada-lovelace");
        let encoded = percent_encoded(c);
        for text in [
            format!("https://www.linkedin.com/in/ada{c}-lovelace"),
            format!("https://www.linkedin.com/in/ada{encoded}-lovelace"),
            format!("{c}ht{c}tps://www.link{c}edin.com/i{c}n/ada-love{c}{c}lace{c}"),
            format!("https://www.linkedin.com/in/{encoded}ada-lovelace{encoded}/"),
            format!("{c}\u{a0}{c}www.linkedin.com/in/ada-lovelace{c} {c}").replace("www", "https://www"),
        ] {
            assert_eq!(url(&text).as_deref(), sent, "{text:?}");
        }
        assert_eq!(host(&format!("{c}exa{c}mple{c}.{c}org{c}")).as_deref(), Some("example.org"), "{c:?}");
        assert_eq!(visible_text(&format!("{c} A{c}d{c}a{c} {c}")).as_deref(), Some("Ada"), "{c:?}");
        assert_eq!(visible_text(&format!("{c} {c}")), None, "{c:?}");
    }
}

#[test]
fn joiners_and_selectors_stay_where_a_script_needs_them() {
    for name in [
        "نامه\u{200c}ای",
        "ක්\u{200d}ෂ",
        "ᠰᠠᠷ\u{180e}ᠠ",
        "葛\u{e0100}城",
        "👩\u{200d}💻 Studio",
        "❤\u{fe0f}\u{200d}🔥",
    ] {
        assert_eq!(visible_text(name).as_deref(), Some(name));
        assert_eq!(visible_text(&format!("\u{200d}{name}\u{200c}")).as_deref(), Some(name));
    }
    assert_eq!(visible_text("نامه\u{200c}\u{200b}\u{200d}\u{200c}ای").as_deref(), Some("نامه\u{200c}ای"));
    assert_eq!(host("نامه\u{200c}ای.com").as_deref(), Some("نامه\u{200c}ای.com"));
    assert_eq!(host("ශ්\u{200d}රී.com").as_deref(), Some("ශ්\u{200d}රී.com"));
    assert_eq!(visible_text("李\u{200d}明").as_deref(), Some("李明"));
    assert_eq!(visible_text("Nguyễ\u{200d}ễn").as_deref(), Some("Nguyễễn"));
    let slug = "https://www.linkedin.com/in/%D9%86%D9%87%E2%80%8C%D8%A7";
    assert_eq!(url(slug).as_deref(), Some(slug));
}

#[test]
fn company_domains_are_bare_hosts() {
    for (text, sent) in [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        (" example.org\u{a0}", "example.org"),
        ("example.org.", "example.org"),
        ("www.example.org", "www.example.org"),
        ("https://www.example.org/about?x=1", "www.example.org"),
        ("http://example.org", "example.org"),
        ("HTTPS://Example.Org/", "example.org"),
        ("//example.org/x", "example.org"),
        ("example.org/about/us", "example.org"),
        ("example.org/index.html", "example.org"),
        ("https://example.org/team/ada.lovelace", "example.org"),
        ("example.org?x=1", "example.org"),
        ("example.org#top", "example.org"),
        ("example.org:8080", "example.org"),
        ("https://example.org:443/x", "example.org"),
        ("https://example.org/a,b;c?ids=1,2", "example.org"),
        ("a-b.c-d.example.co.uk", "a-b.c-d.example.co.uk"),
        ("1und1.de", "1und1.de"),
        ("9gag.com", "9gag.com"),
        ("163.com", "163.com"),
        ("x.com", "x.com"),
        ("linkedin.com", "linkedin.com"),
        ("https://www.linkedin.com/", "www.linkedin.com"),
        ("bücher.example", "bücher.example"),
        ("BÜCHER.example", "bücher.example"),
        ("straße.example", "straße.example"),
        ("ΟΔΟΣ.example", "οδοσ.example"),
        ("例え.テスト", "例え.テスト"),
        ("例え。テスト", "例え.テスト"),
        ("пример.рф", "пример.рф"),
        ("مثال.إختبار", "مثال.إختبار"),
        ("דוגמה.קום", "דוגמה.קום"),
        ("उदाहरण.भारत", "उदाहरण.भारत"),
        ("உதாரணம்.இந்தியா", "உதாரணம்.இந்தியா"),
        ("ตัวอย่าง.ไทย", "ตัวอย่าง.ไทย"),
        ("예시.한국", "예시.한국"),
        ("paral·lel.cat", "paral·lel.cat"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("அ\u{180e}\u{fe0f}example.org", "அexample.org"),
        ("ｅｘａｍｐｌｅ．ｏｒｇ", "example.org"),
        ("https://bücher.example/straße", "bücher.example"),
    ] {
        assert_eq!(host(text).as_deref(), Some(sent), "{text}");
    }
}

#[test]
fn what_is_not_one_domain_is_refused() {
    let long = format!("{}.example", "a".repeat(64));
    let long_idn = format!("{}.example", "ü".repeat(63));
    let longer = format!("{}org", "abcdefg.".repeat(32));
    for text in [
        "",
        ".",
        "..",
        "-",
        "n/a",
        "#N/A",
        "localhost",
        "example",
        "例え",
        "https://",
        "https:///x",
        ".example.org",
        "example..org",
        "example.org..",
        "*.example.org",
        "exa_mple.org",
        "-example.org",
        "example-.org",
        "example.-org",
        "example.o",
        "example.123",
        "example.0x1f",
        "example.org1",
        "exa mple.org",
        "exa\u{3000}mple.org",
        "exa\u{2800}mple.org",
        "exa\tmple.org",
        "exa\nmple.org",
        "example.org\\about",
        "https:\\\\example.org",
        "https:/example.org",
        "https:example.org",
        "https//example.org",
        "https://https://example.org",
        "ftp://example.org",
        "javascript:alert(1)",
        "mailto:example.org",
        "example.org:",
        "example.org:x",
        "example.org:99999",
        "example.org:+80",
        "exa%6dple.org",
        "ada%40example.org",
        "\"example.org\"",
        "<example.org>",
        "(example.org)",
        "example,org",
        "example!.org",
        "xn--a.example",
        "xn--.example",
        "\u{fffd}.example",
        "example.org.…",
        "exam℀ple.org",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "http://127.0.0.1:80/",
        "１２７.０.０.１",
        "127。0。0。1",
        "[::1]",
        "http://[::1]/",
        "::1",
        "2001:db8::1",
        "1.2.3.4.5",
        "example.org, example.com",
        "example.org,example.com",
        "example.org;example.com",
        "example.org example.com",
        "example.org\nexample.com",
        "example.org|example.com",
        "example.org / example.com",
        "example.org/example.com",
        "example.org/www.example.com/",
        "example.org/,example.com",
        "example.org/x; www.example.com",
        "example.org/;www.example.com/x",
        "https://example.org/,https://example.com",
        "https://example.orghttps://example.com",
        "https://example.org/https://example.com",
        "example.org and example.com",
        "https://www.linkedin.com/company/example",
        "facebook.com/example",
        "https://de-de.facebook.com/example",
        &long,
        &long_idn,
        &longer,
    ] {
        assert_eq!(company_domain(text), Err(NOT_A_DOMAIN), "{text:?}");
    }
}

#[test]
fn an_email_address_is_no_domain() {
    for text in [
        "ada@example.org",
        "mailto:ada@example.org",
        "Ada <ada@example.org>",
        "@example.org",
        "ada@example.org, grace@example.com",
        "ada\u{200b}@example.org",
        "ada＠example.org",
        "https://user:pass@example.org",
        "https://user@example.org/",
        "example.org/?mail=ada@example.org",
    ] {
        assert_eq!(company_domain(text), Err(AN_EMAIL), "{text:?}");
    }
}

#[test]
fn names_of_any_script_stay_as_they_are() {
    for name in [
        "Ada",
        "O'Brien",
        "O’Brien",
        "Jean-Luc",
        "J.",
        "Æthelflæd",
        "José",
        "Jose\u{301}",
        "Nguyễn",
        "D'Arc, Jr.",
        "X Æ A-12",
        "李",
        "李 明",
        "さくら",
        "ゼーノ・ヨ",
        "Ｔａｒｏ",
        "김철수",
        "محمد",
        "فاطمة",
        "שרה",
        "दिव्या",
        "ශ්‍රී",
        "ตัวอย่าง",
        "Ελένη",
        "Анна-Мария",
        "ሰላም",
        "ᐃᓄᒃ",
        "𐐔𐐯𐑅",
        "AT&T",
        "Yahoo!",
        "!!!",
        "3M",
        "100 %",
        "€uro",
        "C++ (EU) GmbH & Co. KG",
        "Null",
        "-",
        "👍",
        "Ada\u{a0}Lovelace",
        "Ada  King",
    ] {
        assert_eq!(visible_text(name).as_deref(), Some(name));
        assert_eq!(
            visible_text(&format!("\u{feff} \u{3000}{name}\u{2800}\t\u{200b}")).as_deref(),
            Some(name)
        );
    }
    assert_eq!(visible_text("Ada\tKing\u{0}\r\n").as_deref(), Some("Ada King"));
    assert_eq!(visible_text("\u{202a}Ada\u{202c}").as_deref(), Some("Ada"));
}

#[test]
fn a_name_has_something_visible() {
    for text in [
        "",
        " ",
        "\u{a0}",
        "\u{3000}",
        "\u{2028}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{2800}",
        "\u{3164}",
        "\u{115f}",
        "\u{1160}",
        "\u{ffa0}",
        "\u{ad}",
        "\u{34f}",
        "\u{fe0f}",
        "\u{e0100}",
        "\u{e0020}",
        "\u{301}",
        " \u{301}\u{308}",
        "\u{0}",
        "\t\r\n",
        "\u{1b}",
        "\u{17b4}",
        "\u{180e}",
        "\u{2800}\u{fe0f}\u{3164}",
        "\u{2065}\u{fff0}",
    ] {
        assert_eq!(visible_text(text), None, "{text:?}");
    }
}

/// Texts that come near to what is accepted, with anything in between.
fn near() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "https://",
        "HTTP://",
        "//",
        "/",
        "\\",
        "www.",
        "linkedin.com",
        "linkedin.com/",
        "in/",
        "/in/",
        "pub/",
        "sales/lead/",
        "profile/view?id=",
        "ada",
        "grace-1",
        "example.org",
        "bücher.",
        "例え.テスト",
        "。",
        "李-明",
        "%E2%80%8C",
        "%E2%80%8B",
        "%2e",
        "%2F",
        "%C3%A9",
        "%",
        "?",
        "#",
        "&",
        "=",
        ",",
        ";",
        ":",
        "@",
        ".",
        "-",
        "ب",
        "क",
        "\u{200c}",
        "\u{200d}",
        "\u{180e}",
        "\u{fe0f}",
        "\u{e0100}",
        "\u{200b}",
        "\u{feff}",
        "\u{2800}",
        "\u{301}",
        " ",
        "\t",
        "\u{3000}",
        "👩",
        "ｅ",
        "Σ",
        "İ",
        "xn--",
    ]);
    let any = prop_oneof![8 => parts.prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(any, 0..9).prop_map(|parts| parts.concat())
}

/// Nothing that is not seen, but for joiners that belong to the spelling.
fn is_clean(text: &str) -> bool {
    let unseen = |c: char| is_blank(c) || c.is_control() || (is_invisible(c) && !JOINERS.contains(&c));
    !text.contains(unseen) && !text.starts_with(JOINERS) && !text.ends_with(JOINERS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_sent_is_clean_and_needs_no_further_cleaning(text in prop_oneof![near(), any::<String>()]) {
        if let Ok(sent) = profile_url(&text) {
            prop_assert!(is_clean(&sent), "{sent:?}");
            prop_assert_eq!(profile_url(&sent), Ok(sent.clone()));
        }
        if let Ok(sent) = company_domain(&text) {
            prop_assert!(is_clean(&sent), "{sent:?}");
            prop_assert_eq!(company_domain(&sent), Ok(sent.clone()));
        }
        if let Some(sent) = visible_text(&text) {
            prop_assert_eq!(visible_text(&sent), Some(sent.clone()));
            prop_assert_eq!(sent.trim(), &sent);
        }
    }

    #[test]
    fn every_address_that_is_sent_is_at_linkedin(text in near(), prefix in "(www\\.)?linkedin\\.com/(in|pub)/") {
        for text in [text.clone(), format!("{prefix}{text}"), format!("https://{text}linkedin.com/in/ada")] {
            let Ok(sent) = profile_url(&text) else { continue };
            let parsed = Url::parse(&sent).unwrap();
            let host = parsed.domain().unwrap();
            prop_assert!(host == "linkedin.com" || host.ends_with(".linkedin.com"), "{sent:?}");
            prop_assert_eq!(parsed.scheme(), "https");
            prop_assert!(parsed.port().is_none() && parsed.username().is_empty() && parsed.password().is_none());
            // A browser reads the same path: nothing in it is resolved or repaired.
            let segments = sent["https://".len()..].split('?').next().unwrap().split('/').skip(1);
            prop_assert_eq!(parsed.path_segments().unwrap().count(), segments.count());
        }
    }

    #[test]
    fn a_domain_is_a_host_that_a_url_can_have(text in near()) {
        for text in [text.clone(), format!("https://{text}.example/x"), format!("{text}.org")] {
            let Ok(sent) = company_domain(&text) else { continue };
            let parsed = Url::parse(&format!("https://{sent}/")).unwrap();
            prop_assert!(parsed.domain().is_some_and(|host| host.contains('.')), "{sent:?}");
            prop_assert!(!sent.contains(['@', '/', ':', ' ', ',']), "{sent:?}");
        }
    }

    #[test]
    fn errors_never_repeat_the_text(text in near()) {
        for error in [profile_url(&text).err(), company_domain(&text).err()].into_iter().flatten() {
            prop_assert!([NOT_A_PROFILE, NOT_A_DOMAIN, AN_EMAIL].contains(&error));
        }
    }
}
