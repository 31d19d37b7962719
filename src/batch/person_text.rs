//! Cleans what a caller writes about a person, so that the vendor gets exactly what was checked.
//!
//! A text that cannot lead to a result is refused, because a vendor may charge for it. `profile_url` does not use a
//! WHATWG URL parser: it repairs its input, and then the checked address is not the one that is sent.

use reqwest::Url;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

const NOT_A_PROFILE: &str =
    "must be the address of one person at LinkedIn, such as https://www.linkedin.com/in/ada-lovelace";
const NOT_A_DOMAIN: &str = "must be the domain of one company, such as example.org";
const AN_EMAIL: &str = "must be a domain, such as example.org, not an e-mail address";

/// Characters that show nothing but are no white space: Hangul fillers, the empty braille pattern, a null notehead.
const BLANKS: [char; 6] = ['\u{115F}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{FFA0}', '\u{1D159}'];
/// Non-joiner, joiner and Mongolian vowel separator: spelling in Persian, Indic and Mongolian words, and in emoji.
const JOINERS: [char; 3] = ['\u{180E}', '\u{200C}', '\u{200D}'];
/// Dots that input methods type and that IDNA reads as a full stop (UTS #46).
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{FF0E}', '\u{FF61}'];
/// What exports write in place of a name that they do not have, `n` of `n/a`; `/in/me` is whoever looks at it.
const PLACEHOLDERS: [&str; 4] = ["me", "n", "null", "undefined"];
/// Social networks: the address of a company's page there does not have the company's domain.
const DIRECTORIES: [&str; 5] = ["facebook.com", "instagram.com", "linkedin.com", "twitter.com", "xing.com"];
/// The route of an address whose id is in its query.
const PROFILE_VIEW: &str = "profile/view";
/// How the ids of members begin, which may stand in place of a slug.
const MEMBER_IDS: [&str; 2] = ["ACoAA", "ACwAA"];
/// Endings of file names that could be domains, as in `example.org/index.html`.
const FILE_ENDINGS: [&str; 9] = ["asp", "aspx", "cfm", "htm", "html", "jsp", "pdf", "php", "xml"];

/// The address of one person at `LinkedIn`, normalised: `https`, host and route in lower case, no trailing slash.
///
/// Routes, all of them documented by vendors or found in published data:
/// - `/in/{slug}`, also below `/m`, `/mwlite`, `/mwlite/profile`, `/comm`, `/public-profile` and `/incareer`; what
///   precedes it and what follows it (`/de`, `/details/experience`) chooses a view and is dropped.
/// - `/pub/{name}` with up to three parts of its id. `/pub/dir/…` is a search.
/// - `/sales/lead/{id}`, `/sales/people/{id}` and `/sales/profile/{id}` of Sales Navigator, whose ids have commas.
/// - `/recruiter/profile/{id}`, `/talent/profile/{id}` and `/talent/…/profile/{id}` of Recruiter.
/// - `/profile/view?id={id}`.
///
/// Slugs and ids stay as written, because the case of an id matters. Any other query and the fragment are dropped: they
/// track, and those of links in e-mails hold tokens of the recipient.
///
/// # Errors
/// When the text is anything else, also when it holds a second person, another port or credentials.
pub(crate) fn profile_url(text: &str) -> Result<String, &'static str> {
    Profile::read(text).map(|profile| profile.url()).ok_or(NOT_A_PROFILE)
}

/// What two addresses of one person at `LinkedIn` have in common, whatever their host, view and percent-encoding; `None`
/// for any other text.
pub(super) fn profile_key(text: &str) -> Option<String> {
    Profile::read(text).map(|profile| profile.key())
}

/// The bare host of a company, in lower case, also of a URL. An internationalised name keeps its script.
/// A leading `www.` stays, because it is part of the host that the caller named.
///
/// # Errors
/// When the text is an e-mail address, a list, an IP address, a page on a social network or no valid domain.
pub(crate) fn company_domain(text: &str) -> Result<String, &'static str> {
    if text.contains(['@', '\u{FE6B}', '\u{FF20}']) {
        return Err(AN_EMAIL);
    }
    // IDNA ignores variation selectors; a joiner is judged by the letters that remain.
    let text: String = text.chars().filter(|c| !is_selector(*c)).collect();
    let text = unbroken(&text).ok_or(NOT_A_DOMAIN)?;
    let bare = without_scheme(&text);
    let (authority, tail) = bare.split_at(bare.find(['/', '?', '#']).unwrap_or(bare.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    if port.starts_with('+') || port.parse::<u16>().is_err() {
        return Err(NOT_A_DOMAIN);
    }
    let host = domain(host).ok_or(NOT_A_DOMAIN)?;
    let path = tail.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    let is_page = !path.is_empty() && DIRECTORIES.iter().any(|site| is_at_or_below(&host, site));
    if is_page || names_second_domain(tail, path) { Err(NOT_A_DOMAIN) } else { Ok(host) }
}

/// A name without invisible characters and surrounding blanks, in any script; `None` if nothing visible is left.
pub(crate) fn visible_text(text: &str) -> Option<String> {
    // A tab or a line break separates words.
    let text = text.chars().map(|c| if c.is_control() && c.is_whitespace() { ' ' } else { c });
    let text = without_invisible(&text.filter(|c| !c.is_control()).collect::<String>());
    let text = text.trim_matches(is_blank);
    let is_visible = |c: char| !is_blank(c) && c.general_category_group() != GeneralCategoryGroup::Mark;
    text.contains(is_visible).then(|| text.to_owned())
}

/// The address of one person at `LinkedIn`.
struct Profile {
    host: String,
    route: &'static str,
    /// The id, and what belongs to it, as written and decoded.
    id: Vec<(String, String)>,
}

impl Profile {
    fn url(&self) -> String {
        let separator = if self.route == PROFILE_VIEW { "?id=" } else { "/" };
        let id: Vec<_> = self.id.iter().map(|(written, _)| written.as_str()).collect();
        format!("https://{}/{}{separator}{}", self.host, self.route, id.join("/"))
    }

    /// The case of a slug means nothing, and that of an id does.
    fn key(&self) -> String {
        let id: Vec<_> = self.id.iter().map(|(_, decoded)| decoded.as_str()).collect();
        let id: String = id.join("/").nfc().collect();
        let is_slug =
            matches!(self.route, "in" | "pub") && !MEMBER_IDS.iter().any(|start| id.starts_with(start));
        let id = if is_slug { id.to_lowercase().nfc().collect() } else { id };
        format!("{} {id}", self.route)
    }

    fn read(text: &str) -> Option<Self> {
        let text = unbroken(text)?;
        let bare = without_scheme(&text);
        let (address, tail) = bare.split_at(bare.find(['?', '#']).unwrap_or(bare.len()));
        let (host, path) = address.split_once('/')?;
        let host = host.to_ascii_lowercase();
        let is_host = |label| is_label(label) && !label.starts_with("xn--");
        if !is_at_or_below(&host, "linkedin.com")
            || !host.split('.').all(is_host)
            || names_second_person(tail)
        {
            return None;
        }
        let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let words: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["profile", "view"] = words[..] {
            let query = tail.strip_prefix('?')?.split('#').next()?;
            let mut ids = query.split('&').filter_map(|pair| pair.strip_prefix("id="));
            let (Some(id), None) = (ids.next(), ids.next()) else { return None };
            return Some(Self { host, route: PROFILE_VIEW, id: vec![identifier(id)?] });
        }
        let route = Route::of(&words)?;
        let another = (route.id + 1..words.len()).any(|at| Route::of(&words[at..]).is_some());
        // Ids of Sales Navigator and Recruiter have commas; in a slug one starts a second entry.
        if another || (matches!(route.name, "in" | "pub") && path.contains(',')) {
            return None;
        }
        // What is dropped must be well-formed too: an address that is not understood is not sent in part.
        let mut parts = segments.iter().map(|segment| cleaned(segment)).collect::<Option<Vec<_>>>()?;
        parts[route.id] = identifier(segments[route.id])?;
        let id = parts.drain(route.id..route.end).collect();
        Some(Self { host, route: route.name, id })
    }
}

/// Which segments of a path in lower case name a person: its route, as it is sent, then those from `id` to before `end`.
struct Route {
    name: &'static str,
    id: usize,
    end: usize,
}

impl Route {
    fn of(words: &[&str]) -> Option<Self> {
        let (name, id) = match words {
            ["in", ..] => ("in", 1),
            ["comm" | "incareer" | "m" | "mwlite" | "public-profile", "in", ..] => ("in", 2),
            ["mwlite", "profile", "in", ..] => ("in", 3),
            ["pub", name, ..] if *name != "dir" => ("pub", 1),
            ["recruiter", "profile", ..] => ("recruiter/profile", 2),
            ["sales", "lead", ..] => ("sales/lead", 2),
            ["sales", "people", ..] => ("sales/people", 2),
            ["sales", "profile", ..] => ("sales/profile", 2),
            ["talent", ..] => ("talent/profile", words.iter().position(|word| *word == "profile")? + 1),
            _ => return None,
        };
        // The id of an old public address is a name and up to three more parts.
        let end = if name == "pub" { words.len().min(id + 4) } else { id + 1 };
        words.get(id).is_some_and(|id| !id.is_empty()).then_some(Self { name, id, end })
    }
}

/// The slug or id of one person without invisible characters, as written and decoded.
fn identifier(segment: &str) -> Option<(String, String)> {
    let (written, decoded) = cleaned(segment)?;
    let name = decoded.split(',').next()?.to_lowercase();
    let says_something = name.contains(|c: char| c.is_ascii_alphanumeric() || !c.is_ascii());
    (says_something && !PLACEHOLDERS.contains(&name.as_str())).then_some((written, decoded))
}

/// A segment without invisible characters, as written and decoded; `None` if it has what no slug and no id has.
fn cleaned(segment: &str) -> Option<(String, String)> {
    let mut spelled = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(first) = rest.chars().next() {
        let (c, length) = if first == '%' { decode_first(rest)? } else { (first, first.len_utf8()) };
        let (spelling, remaining) = rest.split_at(length);
        spelled.push((c, spelling));
        rest = remaining;
    }
    let kept = keep_visible(spelled.into_iter());
    let is_allowed = |&(c, spelling): &(char, &str)| match c {
        '&' | '+' => spelling.len() > 1,
        ',' | '-' | '_' | '.' | '~' | '\'' | '!' | '(' | ')' | '*' => true,
        char::REPLACEMENT_CHARACTER => false,
        _ => c.is_ascii_alphanumeric() || !(c.is_ascii() || c.is_control() || is_blank(c)),
    };
    // A parser drops `.` and resolves `..`, percent-encoded ones too.
    let is_dots = kept.iter().all(|(c, _)| *c == '.');
    (!is_dots && kept.iter().all(is_allowed)).then(|| {
        (kept.iter().map(|(_, spelling)| *spelling).collect(), kept.iter().map(|(c, _)| *c).collect())
    })
}

/// The character that the percent-encoding at the start stands for, and the length of that encoding.
fn decode_first(text: &str) -> Option<(char, usize)> {
    let mut bytes = Vec::with_capacity(4);
    for escape in text.as_bytes().chunks_exact(3).take(4) {
        let &[b'%', high, low] = escape else { return None };
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(high)? << 4 | digit(low)?);
        if let Some(c) = str::from_utf8(&bytes).ok().and_then(|text| text.chars().next()) {
            return Some((c, bytes.len() * 3));
        }
    }
    None
}

/// Whether a query or a fragment holds another person's address, as in a list whose first address has a query.
fn names_second_person(tail: &str) -> bool {
    tail.to_ascii_lowercase().split(['?', '#', '&', ',', ';', '|']).any(|part| {
        let Some((before, path)) = part.split_once("linkedin.com/") else { return false };
        // The value of a parameter, such as `originalReferer`, does not say whose address this is.
        let value = before.split_once('=').map(|(_, value)| without_scheme(value));
        value.is_none_or(|value| value.contains(['/', ':']))
            && Route::of(&path.split('/').collect::<Vec<_>>()).is_some()
    })
}

/// Whether a path or a query holds another domain, as in `example.org/,example.com` and `example.org/example.com`.
fn names_second_domain(tail: &str, path: &str) -> bool {
    let is_file = |host: &str| host.rsplit('.').next().is_some_and(|top| FILE_ENDINGS.contains(&top));
    let is_domain = |text: &str| {
        let host = text.split(['/', ':', '?', '#', '&']).next().unwrap_or_default();
        // Parsing costs more than everything else, and a list may have hundreds of parts.
        let labels = host.trim_end_matches(DOTS).split(DOTS);
        let may_be_domain = labels.clone().count() > 1
            && labels.clone().all(|label| !label.is_ascii() || is_label(label))
            && labels
                .clone()
                .next_back()
                .is_some_and(|top| top.len() > 1 && !top.bytes().all(|byte| byte.is_ascii_digit()));
        may_be_domain && domain(host).is_some_and(|host| !is_file(&host))
    };
    tail.contains("://")
        || tail.split([',', ';', '|']).skip(1).any(is_domain)
        || (!path.contains('/') && is_domain(path))
}

/// A valid domain of at least two labels in lower case, with the labels in the script in which they were written.
fn domain(host: &str) -> Option<String> {
    if host.contains(|c: char| c.is_ascii() && !(c.is_ascii_alphanumeric() || c == '-' || c == '.')) {
        return None;
    }
    let lower_case = |label: &str| label.chars().flat_map(char::to_lowercase).collect();
    let written: Vec<String> = host.split(DOTS).map(lower_case).collect();
    let written = written.strip_suffix(&[String::new()]).unwrap_or(&written);
    let url = Url::parse(&format!("https://{}/", written.join("."))).ok()?;
    // `domain` is none for an IP address, however it is written.
    let ascii = url.domain().filter(|domain| domain.len() <= 253)?;
    let labels: Vec<&str> = ascii.split('.').collect();
    let top = labels.last()?;
    let is_top = top.starts_with("xn--") || (top.len() > 1 && top.bytes().all(|b| b.is_ascii_alphabetic()));
    let same_labels = labels.len() > 1 && labels.len() == written.len();
    // Full-width letters and the like become ASCII; every other script stays.
    let label = |(ascii, written): (&&str, &String)| {
        if ascii.starts_with("xn--") { written.clone() } else { (*ascii).to_owned() }
    };
    (same_labels && is_top && labels.iter().all(|label| is_label(label)))
        .then(|| labels.iter().zip(written).map(label).collect::<Vec<_>>().join("."))
}

fn is_label(label: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(is_allowed) && label.trim_matches('-') == label
}

fn is_at_or_below(host: &str, parent: &str) -> bool {
    host.strip_suffix(parent).is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

/// What follows `https://`, `http://` or `//`, if one of them is there.
fn without_scheme(text: &str) -> &str {
    let after = |scheme: &str| {
        text.split_at_checked(scheme.len()).filter(|(start, _)| start.eq_ignore_ascii_case(scheme))
    };
    ["https://", "http://", "//"].into_iter().find_map(after).map_or(text, |(_, rest)| rest)
}

/// A text of one piece, without invisible characters and surrounding blanks.
fn unbroken(text: &str) -> Option<String> {
    let text = without_invisible(text);
    let text = text.trim_matches(is_blank);
    (!text.contains(|c: char| is_blank(c) || c.is_control() || c == '\\')).then(|| text.to_owned())
}

fn without_invisible(text: &str) -> String {
    keep_visible(text.chars().map(|c| (c, ()))).into_iter().map(|(c, ())| c).collect()
}

/// Drops invisible characters. A joiner stays between two characters, and a selector after one, of scripts that need it.
fn keep_visible<T>(text: impl Iterator<Item = (char, T)>) -> Vec<(char, T)> {
    let mut kept: Vec<(char, T)> = Vec::with_capacity(text.size_hint().0);
    let mut joiner = None;
    for item in text {
        let last = kept.last().map(|(c, _)| *c);
        if JOINERS.contains(&item.0) {
            joiner = joiner.or(last.is_some_and(takes_joiners).then_some(item));
        } else if !is_invisible(item.0) && (!is_selector(item.0) || last.is_some_and(takes_selectors)) {
            kept.extend(joiner.take().filter(|_| takes_joiners(item.0)));
            kept.push(item);
        }
    }
    kept
}

/// Scripts from Arabic to Mongolian and beyond, and emoji; in Latin, Greek, Cyrillic or Han a joiner means nothing.
fn takes_joiners(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{10FF}' | '\u{1200}'..='\u{1CFF}' | '\u{2190}'..='\u{27BF}' | '\u{2900}'..='\u{2BFF}'
        | '\u{A800}'..='\u{ABFF}' | '\u{FB50}'..='\u{FEFC}' | '\u{10A00}'..='\u{11FFF}' | '\u{1E900}'..='\u{1FAFF}')
}

fn takes_selectors(c: char) -> bool {
    takes_joiners(c) || (c >= '\u{2E80}' && !is_blank(c))
}

/// Format characters, and what else Unicode says to ignore in display (`Default_Ignorable_Code_Point`).
fn is_invisible(c: char) -> bool {
    c.general_category() == GeneralCategory::Format
        || matches!(c, '\u{34F}' | '\u{17B4}' | '\u{17B5}' | '\u{2065}' | '\u{FFF0}'..='\u{FFF8}')
        || (matches!(c, '\u{E0000}'..='\u{E0FFF}') && !is_selector(c))
}

/// Variation selectors: they choose the form of an ideograph, of a Mongolian letter or of an emoji.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || BLANKS.contains(&c)
}

#[cfg(test)]
mod tests;
