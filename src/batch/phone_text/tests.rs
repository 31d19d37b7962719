//! What is read from phone texts, and what is refused.

use proptest::prelude::*;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};

use super::*;

fn country(code: &str) -> Option<Country> {
    Country::from_code(code)
}

/// The number, and the extension behind a semicolon.
fn read(text: &str, written: Written, code: &str) -> Option<String> {
    let read = read_phone(text, written, country(code))?;
    let extension = read.extension.map(|extension| format!(";{}", extension.0)).unwrap_or_default();
    Some(format!("{}{extension}", read.e164))
}

fn plus(text: &str) -> Option<String> {
    read(text, Written::WithPlus, "")
}

#[test]
fn international_numbers_of_vendors_are_read() {
    for (text, number) in [
        ("+15705551234", "+15705551234"),
        ("+44 (0)7400 123456", "+447400123456"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+1 570\u{2011}555\u{2011}1234", "+15705551234"),
        ("+54 9 11 2345-6789", "+5491123456789"),
        ("(+44) 7400 123456", "+447400123456"),
        ("+(44) 7400 123456", "+447400123456"),
        ("+1 (570) 555-1234", "+15705551234"),
        ("+1 (5705551234)", "+15705551234"),
        ("+1.570.555.1234", "+15705551234"),
        ("+1·570·555·1234", "+15705551234"),
        ("+44.7400123456", "+447400123456"),
        ("+49 30/123456", "+4930123456"),
        ("+33/6/12/34/56/78", "+33612345678"),
        ("+49/18500/121340", "+4918500121340"),
        ("+421/2/212/362/28", "+421221236228"),
        ("+358/800/124463", "+358800124463"),
        ("+49 (0)30 / 123456-0", "+49301234560"),
        ("tel:+44-7400-123456", "+447400123456"),
        ("TEL: +44 7400 123456", "+447400123456"),
        ("tel:07400-123456;phone-context=+44", "+447400123456"),
        ("tel:555-1234;phone-context=+1-570", "+15705551234"),
        ("'+447400123456", "+447400123456"),
        ("’+447400123456", "+447400123456"),
        ("0044 7400 123456", "+447400123456"),
        ("00447400123456", "+447400123456"),
        ("+441206250380", "+441206250380"),
        // Possible, and not valid as far as libphonenumber knows.
        ("+43112345", "+43112345"),
        ("+11234567890", "+11234567890"),
    ] {
        assert_eq!(plus(text).as_deref(), Some(number), "{text}");
        assert_eq!(read(text, Written::WithCallingCode, "").as_deref(), Some(number), "{text}");
    }
}

#[test]
fn invisible_characters_and_digits_of_any_script_are_read() {
    for text in [
        "\u{202a}+15705551234\u{202c}",
        "\u{2066}+1 570 555 1234\u{2069}",
        "\u{feff}+15705551234",
        "+1570\u{200b}555\u{200b}1234",
        "+1570\u{ad}555\u{ad}1234",
        "\u{200e}+1\u{a0}570\u{202f}555\u{2009}1234\u{200f}\r\n",
        "＋１５７０５５５１２３４",
        "﹢1 570 555 1234",
        "+١٥٧٠٥٥٥١٢٣٤",
        "+۱۵۷۰۵۵۵۱۲۳۴",
        "+१५७०५५५१२३४",
        "+𝟏𝟓𝟕𝟎𝟓𝟓𝟓𝟏𝟐𝟑𝟒",
        "+𝟷𝟻𝟽𝟶𝟻𝟻𝟻𝟷𝟸𝟹𝟺",
        "+1\u{2010}570\u{2012}555\u{2013}1234",
        "+1\u{2014}570\u{2015}555\u{2212}1234",
        "＋１（５７０）５５５－１２３４",
        "+1 570ー555ー1234",
        "+1\u{2060}\u{fe0f}5705551234",
    ] {
        assert_eq!(plus(text).as_deref(), Some("+15705551234"), "{text:?}");
        assert_eq!(clean_number(text, None).as_deref(), Ok("+15705551234"), "{text:?}");
    }
}

#[test]
fn a_bracketed_trunk_zero_is_dropped_unless_the_number_needs_it() {
    for (text, number) in [
        ("+48 (0)22 512 12 34", "+48225121234"),
        ("+48(0)22 512 12 34", "+48225121234"),
        ("+48 [0]22 512 12 34", "+48225121234"),
        ("+48 （0）22 512 12 34", "+48225121234"),
        ("+48 ( 0 ) 22 512 12 34", "+48225121234"),
        ("+48 (022) 512 12 34", "+48225121234"),
        ("+48 (0 22) 512 12 34", "+48225121234"),
        ("(+48) (0)22 512 12 34", "+48225121234"),
        ("0048 (0)22 512 12 34", "+48225121234"),
        ("(0048) (0)22 512 12 34", "+48225121234"),
        ("+420 (0)2 1234 5678", "+420212345678"),
        // The trunk prefix of Hungary has two digits.
        ("+36 (06) 1 123 4567", "+3611234567"),
        ("+36 (06) 20 123 4567", "+36201234567"),
        ("+30 (0)21 0123 4567", "+302101234567"),
        ("+44 (0)7400 123456", "+447400123456"),
        ("+44 (020) 7946 0018", "+442079460018"),
        ("+49 (0)30 123456", "+4930123456"),
        ("+351 (0)21 234 5678", "+351212345678"),
        ("+34 (0)612 345 678", "+34612345678"),
        ("+45 (0)20 12 34 56", "+4520123456"),
        ("+1 (0)570 555 1234", "+15705551234"),
        ("+358 (0)9 1234 567", "+35891234567"),
        ("+972 (0)50 234 5678", "+972502345678"),
        ("+39 (0)6 1234 5678", "+390612345678"),
        ("+39 (06) 1234 5678", "+390612345678"),
        ("+225 (0)7 07 12 34 56", "+2250707123456"),
        ("+242 (0)6 612 3456", "+242066123456"),
        ("+687 (051) 074", "+687051074"),
    ] {
        assert_eq!(plus(text).as_deref(), Some(number), "{text}");
        let sent = if text.contains("0048") { number.replace('+', "00") } else { number.to_owned() };
        assert_eq!(clean_number(text, None), Ok(sent), "{text}");
    }
    assert_eq!(clean_number("44 (0)7400 123456", None).as_deref(), Ok("447400123456"));
    assert_eq!(clean_number("(0)7400 123456", country("GB")).as_deref(), Ok("07400123456"));
    assert_eq!(read("48 (0)22 512 12 34", Written::WithCallingCode, "").as_deref(), Some("+48225121234"));
}

#[test]
fn an_extension_needs_a_label_and_digits() {
    for (text, number) in [
        ("+43112345 DW 12", "+43112345;12"),
        ("+43112345 Durchwahl 12", "+43112345;12"),
        ("+1 570-555-1234 x99", "+15705551234;99"),
        ("+1 570-555-1234x99", "+15705551234;99"),
        ("+1 570-555-1234 X 99", "+15705551234;99"),
        ("+1 570-555-1234 ext. 99", "+15705551234;99"),
        ("+1 570-555-1234, Ext 99", "+15705551234;99"),
        ("+1 570-555-1234 extension 0099", "+15705551234;0099"),
        ("+1 570-555-1234 extn: 99", "+15705551234;99"),
        ("+1 570-555-1234 xtn 99", "+15705551234;99"),
        ("+1 570-555-1234 #99", "+15705551234;99"),
        ("+1 570-555-1234;ext=99", "+15705551234;99"),
        ("+1 570-555-1234 (ext. 99)", "+15705551234;99"),
        ("+1 570-555-1234 ｅｘｔ ９９", "+15705551234;99"),
        ("+1 570-555-1234 e\u{200b}xt ٩٩", "+15705551234;99"),
        ("tel:+1-570-555-1234;ext=99", "+15705551234;99"),
        ("tel:555-1234;ext=99;phone-context=+1570", "+15705551234;99"),
        ("+33 1 23 45 67 89 poste 12", "+33123456789;12"),
        ("+39 06 1234 5678 int. 12", "+390612345678;12"),
        ("+34 912 345 678 extensión 12", "+34912345678;12"),
        ("+7 495 123-45-67 доб. 12", "+74951234567;12"),
        ("+51 1 234 5678 anexo 12", "+5112345678;12"),
    ] {
        assert_eq!(plus(text).as_deref(), Some(number), "{text}");
        assert_eq!(clean_number(text, None).as_deref().ok(), number.split(';').next(), "{text}");
    }
    for text in [
        "+4930123456 ext.",
        "+4930123456 Fax",
        "+4930123456 Fax 12",
        "+4930123456 x",
        "+4930123456 #",
        "+4930123456 DW",
        "+4930123456 ext. 12345678",
        "+4930123456 x 4930123457",
        "+4930123456 ext. 12 Ada",
        "+4930123456 ext. 12 ext. 13",
        "+4930123456 ext. 12/13",
        "+4930123456;ext=",
        "+4930123456;ext=12;isub=3",
        "+4930123456,,12",
        "+4930123456;12",
        "+4930123456,12",
        "+4930123456 (12)",
        "+4930123456*12",
        "+4930123456~12",
        "+4930123456p12",
        "tel:555-1234;phone-context=example.com",
        "tel:+4930123456;phone-context=+49",
        "x12",
        "ext. 4930123456",
    ] {
        assert_eq!(plus(text), None, "{text}");
        assert!(clean_number(text, country("DE")).is_err(), "{text}");
    }
}

#[test]
fn a_vendor_number_without_a_plus_is_read_as_the_vendor_writes_it() {
    use Written::{WithCallingCode, WithPlus};
    for (text, written, code, number) in [
        ("15705551234", WithPlus, "US", Some("+15705551234")),
        ("15705551234", WithPlus, "", None),
        ("5705551234", WithPlus, "US", Some("+15705551234")),
        ("(570) 555-1234 x9", WithPlus, "US", Some("+15705551234;9")),
        ("06 12 34 56 78", WithPlus, "FR", Some("+33612345678")),
        ("06 12 34 56 78", WithPlus, "", None),
        ("06 12 34 56 78", WithPlus, "US", None),
        ("٠٧٤٠٠١٢٣٤٥٦", WithPlus, "GB", Some("+447400123456")),
        ("030/123456", WithPlus, "DE", Some("+4930123456")),
        ("011 44 7400 123456", WithPlus, "US", Some("+447400123456")),
        ("0044 7400 123456", WithPlus, "US", Some("+447400123456")),
        ("0044 7400 123456", WithPlus, "GB", Some("+447400123456")),
        // The number is international whatever country stands beside it.
        ("+44 7400 123456", WithPlus, "US", Some("+447400123456")),
        // Only a number that carries its calling code may be of a new range.
        ("1234567890", WithPlus, "US", None),
        ("11234567890", WithPlus, "US", None),
        ("123-4567", WithPlus, "US", None),
        ("12269724276", WithCallingCode, "", Some("+12269724276")),
        ("12269724276", WithCallingCode, "CA", Some("+12269724276")),
        ("+12269724276", WithCallingCode, "", Some("+12269724276")),
        ("441206250380", WithCallingCode, "GB", Some("+441206250380")),
        ("07400123456", WithCallingCode, "GB", Some("+447400123456")),
        ("07400123456", WithCallingCode, "", None),
        // A mobile number with the calling code, or a number of the area 04917: nobody knows.
        ("491701234567", WithPlus, "DE", None),
        ("+491701234567", WithPlus, "DE", Some("+491701234567")),
        // A country without numbers of its own in libphonenumber.
        ("07400123456", WithPlus, "AQ", None),
        // The third number of Kosovo's own calling code.
        ("043 201 234", WithPlus, "XK", Some("+38343201234")),
    ] {
        assert_eq!(read(text, written, code).as_deref(), number, "{text} {code}");
    }
}

#[test]
fn a_text_that_is_no_single_possible_number_is_none() {
    for text in [
        "",
        " ",
        "-",
        "+",
        "(",
        "()",
        "n/a",
        "NULL",
        "null",
        "ada",
        "+49 170 1234567 Ada",
        "Ada +49 170 1234567",
        "+4930123456 Fax",
        "+4930123456 ext.",
        "+229 90 01 12 34",
        "+4930123456789012",
        "1-800-FLOWERS",
        "+1 (570) CALL-NOW",
        "+1-800-FLOWERS",
        "@handle1",
        "+447400123456 / +447400123457",
        "+447400123456;+447400123457",
        "+447400123456, +447400123457",
        "+447400123456 +447400123457",
        "+447400123456\n+447400123457",
        "+4930123456/57",
        "+4930123456 / 030123457",
        "+43112345 0112346",
        "++447400123456",
        "+44+7400123456",
        "447400123456+",
        "+44 (7400 123456",
        "+44 7400) 123456",
        "+44 () 7400123456",
        "+44 ((0)7400) 123456",
        "+44 (7400] 123456",
        "+0447400123456",
        "+999123456789",
        "+5",
        "+44",
        "123",
        "#REF!1",
        "+44 7400 123456?",
        "+44_7400_123456",
        "\"+447400123456\"",
        "=+447400123456",
        "+¹5705551234",
        "+1570555123½",
        "٫+447400123456",
        "²",
        "+44 7400 123456 🙂",
        "+1570:5551234",
        "Tel. +44 7400 123456",
    ] {
        assert_eq!(plus(text), None, "{text:?}");
        assert_eq!(read(text, Written::WithCallingCode, ""), None, "{text:?}");
    }
}

#[test]
fn callers_numbers_are_cleaned() {
    for (text, code, number) in [
        ("+44 (0)7400 123456", "", "+447400123456"),
        ("447400123456", "", "447400123456"),
        ("447400123456", "GB", "447400123456"),
        ("447400123456", "US", "447400123456"),
        ("+447400123456 x12", "", "+447400123456"),
        ("٠٧٤٠٠١٢٣٤٥٦", "GB", "07400123456"),
        ("\u{202a}+447400123456\u{202c}", "", "+447400123456"),
        ("0044 7400 123456", "", "00447400123456"),
        ("0044 7400 123456", "GB", "00447400123456"),
        ("0044 7400 123456", "US", "00447400123456"),
        ("011 44 7400 123456", "US", "01144 7400123456"),
        ("441206250380", "", "441206250380"),
        ("12269724276", "", "12269724276"),
        ("(07400) 123456", "GB", "07400123456"),
        ("0151/1234567-8", "DE", "015112345678"),
        ("570-555-1234", "US", "5705551234"),
        ("'07400123456", "GB", "07400123456"),
        ("06.12.34.56.78", "FR", "0612345678"),
        ("06/12/34/56/78", "FR", "0612345678"),
        ("24.01.31", "NC", "240131"),
        ("20.12.34.56", "DK", "20123456"),
        ("212.123.12.34", "TR", "2121231234"),
        ("+44.7400123456", "", "+447400123456"),
        ("+447400123456.", "", "+447400123456"),
        // Possible, and not valid as far as libphonenumber knows.
        ("+11234567890", "", "+11234567890"),
        ("1234567890", "US", "1234567890"),
    ] {
        let number = number.replace(' ', "");
        assert_eq!(clean_number(text, country(code)), Ok(number), "{text} {code}");
    }
}

#[test]
fn what_cannot_be_a_callers_number_is_refused_with_its_reason() {
    use NotANumber::{
        AreaCode, Brackets, CallingCode, Date, Decimals, Email, Exponent, Extension, IpAddress, Length,
        Negative, NoCountry, NoDigits, OtherCharacters, SeveralNumbers, TooLong, TooShort, Zeros,
    };
    for (text, code, reason) in [
        ("4.47E+11", "", Exponent),
        ("4,47E+11", "", Exponent),
        ("4.47e11", "GB", Exponent),
        ("1.5707E+10", "US", Exponent),
        ("447400123456.0", "", Decimals),
        ("447400123456.0", "GB", Decimals),
        ("447400123456.00", "", Decimals),
        ("447400123456,00", "", Decimals),
        ("447 400 123 456.0", "", Decimals),
        ("(07400) 123456", "", NoCountry),
        ("٠٧٤٠٠١٢٣٤٥٦", "", NoCountry),
        ("07400 123456", "AQ", CallingCode),
        ("5", "", TooShort),
        ("5", "GB", TooShort),
        ("ada1@example.com", "", Email),
        ("#REF!1", "", OtherCharacters),
        ("@handle1", "", Email),
        ("2024-01-31", "", Date),
        ("2024-01-31", "DE", Date),
        ("31/01/2024", "DE", Date),
        ("01-31-2024", "DE", Date),
        ("31.01.2024", "DE", Date),
        ("2024/1/31", "DE", Date),
        ("31/01/24", "DE", Date),
        ("12:30", "DE", OtherCharacters),
        ("31-01-24", "", Date),
        ("31-01-24", "DE", Date),
        ("31.01.24", "GB", Date),
        ("-447400123401", "", Negative),
        ("-07400123401", "GB", Negative),
        ("0000000000", "", Zeros),
        ("0000000000", "GB", Zeros),
        ("+000 000 000", "DE", Zeros),
        ("192.168.1.10", "DE", IpAddress),
        ("192.168.1.10", "", IpAddress),
        ("10.0.0.1", "DE", IpAddress),
        ("1,000", "DE", OtherCharacters),
        ("n/a", "", NoDigits),
        ("NULL", "", NoDigits),
        ("-", "", NoDigits),
        ("+", "", NoDigits),
        ("", "", NoDigits),
        ("(555", "", Brackets),
        ("1-800-FLOWERS", "US", OtherCharacters),
        ("+1 (555) CALL-NOW", "", OtherCharacters),
        ("555-0100 or 555-0101", "US", SeveralNumbers),
        ("555-0100 / 555-0101", "US", SeveralNumbers),
        ("07400 123456 07400 123457", "GB", SeveralNumbers),
        ("555-0100 / 555-0101", "DE", SeveralNumbers),
        ("555-0100 555-0101", "DE", SeveralNumbers),
        ("+447400123456 / +447400123457", "", SeveralNumbers),
        ("+447400123456;+447400123457", "", SeveralNumbers),
        ("447400123456,447400123457", "", SeveralNumbers),
        ("07400123456\n07400123457", "GB", SeveralNumbers),
        ("030 123456/57", "DE", SeveralNumbers),
        ("+678 26187/87", "", SeveralNumbers),
        ("301 5139 / 301 5138", "MU", SeveralNumbers),
        ("60 12 34 60 12 35", "FO", SeveralNumbers),
        ("030/123456/57", "DE", SeveralNumbers),
        ("0301234 0301235", "DE", SeveralNumbers),
        ("123456789012345678901234567890", "", TooLong),
        ("123456789012345678901234567890", "GB", TooLong),
        ("+4930123456789012", "", TooLong),
        ("+1 555-1234", "", AreaCode),
        ("123-4567", "", CallingCode),
        ("123 456 7890", "", CallingCode),
        ("46254 / 46255", "SB", SeveralNumbers),
        ("555-1234", "US", AreaCode),
        ("+44740012345678", "", TooLong),
        ("+999123456789", "", CallingCode),
        ("+229 90 01 12 34", "", TooShort),
        ("90 01 12 34", "BJ", TooShort),
        ("+44 7400 1234", "", AreaCode),
        ("+376 7123456", "", Length),
        ("+4930123456 ext.", "", Extension),
        ("+4930123456 Fax", "", OtherCharacters),
    ] {
        assert_eq!(clean_number(text, country(code)), Err(reason), "{text} {code}");
        let detail = reason.detail(text, country(code));
        assert!(!detail.is_empty() && (text.len() < 5 || !detail.contains(text)), "{detail}");
    }
}

/// Every example number of libphonenumber, with the regions that dial it.
fn examples() -> Vec<(Option<Region>, PhoneNumber)> {
    let mut examples = Vec::new();
    for region in PHONE_NUMBER_UTIL.get_supported_regions() {
        for kind in PHONE_NUMBER_UTIL.get_supported_types_for_region(region).into_iter().flatten() {
            let example = PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region, kind);
            examples.extend(example.ok().map(|number| (Some(region), number)));
        }
    }
    for code in PHONE_NUMBER_UTIL.get_supported_global_network_calling_codes() {
        examples.extend(
            PHONE_NUMBER_UTIL.get_example_number_for_non_geo_entity(code).ok().map(|number| (None, number)),
        );
    }
    examples
}

#[test]
fn every_real_number_is_read_in_every_format() {
    let examples = examples();
    assert!(examples.len() > 1_000, "{}", examples.len());
    for (region, number) in examples {
        // Canada has numbers that cannot be called from elsewhere; Benin's are no more.
        let Some(e164) = e164(&number) else {
            assert!([1, BENIN.0].contains(&number.country_code), "{number}");
            continue;
        };
        for format in [PhoneNumberFormat::E164, PhoneNumberFormat::International, PhoneNumberFormat::RFC3966]
        {
            let text = number.format_as(format);
            let read = read_phone(&text, Written::WithPlus, None).map(|read| read.e164);
            assert_eq!(read, Some(e164), "{text}");
            assert!(clean_number(&text, None).is_ok_and(|clean| clean == e164.to_string()), "{text}");
        }
        let digits = e164.to_string().replace('+', "");
        assert_eq!(clean_number(&digits, None).as_ref(), Ok(&digits));
        let read = read_phone(&digits, Written::WithCallingCode, None).map(|read| read.e164);
        assert_eq!(read, Some(e164), "{digits}");
        let Some(country) = region.and_then(|region| country(region.as_region_str().as_str())) else {
            continue;
        };
        let text = number.format_as(PhoneNumberFormat::National);
        assert!(clean_number(&text, Some(country)).is_ok(), "{country:?} {text}");
        let read = read_phone(&text, Written::WithPlus, Some(country)).map(|read| read.e164);
        assert_eq!(read, Some(e164), "{country:?} {text}");
    }
}

/// As the schema has it.
fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (2..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[+]?(1|7|2[0-9]{2}|3[0-9]|39|4[0-9]|5[0-9]|6[0-9]{2}|8[0-9]{2}|979) ?(\\(0[0-9]{0,3}\\))?[0-9 ./()-]{0,16}",
        2 => "(tel:|'|00|0)?[0-9]{2,4}[ /-]?[0-9]{3,8}( x[0-9]{1,3}|;ext=[0-9]{1,8}|;phone-context=\\+[0-9]{0,4})?",
        2 => "[0-9+()/. \u{200b}\u{a0}٠-٩０-９-]{0,24}",
        1 => any::<String>(),
    ]
}

fn codes() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("US"), Just("DE"), Just("IT"), Just("AT"), Just("JP"), Just("AQ")]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_number_is_e164_and_an_extension_is_digits(text in texts(), code in codes()) {
        for written in [Written::WithPlus, Written::WithCallingCode] {
            if let Some(read) = read_phone(&text, written, country(code)) {
                prop_assert!(is_e164(&read.e164.to_string()), "{:?} {}", text, read.e164);
                let extension = read.extension.map_or("1".to_owned(), |extension| extension.0);
                prop_assert!(!extension.is_empty() && extension.bytes().all(|byte| byte.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn cleaning_twice_changes_nothing(text in texts(), code in codes()) {
        if let Ok(clean) = clean_number(&text, country(code)) {
            prop_assert!(clean.trim_start_matches('+').bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert_eq!(clean_number(&clean, country(code)), Ok(clean));
        }
    }

    #[test]
    fn an_international_number_is_read_as_it_is_cleaned(text in texts()) {
        if let Some(number) = clean_number(&text, None).ok().filter(|number| number.starts_with('+')) {
            let read = |text: &str| read_phone(text, Written::WithPlus, None).map(|read| read.e164);
            prop_assert_eq!(read(&number), read(&text));
            prop_assert!(read(&text).is_some());
        }
    }

    #[test]
    fn a_letter_is_never_dialled(text in texts(), letter in "[a-wyzA-WYZäßéЖ中]", at in any::<prop::sample::Index>()) {
        // The letter must not complete a label.
        let text: String = text.chars().filter(|c| !c.is_alphabetic()).collect();
        let places: Vec<_> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let mut lettered = text.clone();
        lettered.insert_str(*at.get(&places), &letter);
        for written in [Written::WithPlus, Written::WithCallingCode] {
            prop_assert_eq!(read_phone(&lettered, written, country("DE")), None);
        }
        prop_assert!(clean_number(&lettered, country("DE")).is_err());
    }

    #[test]
    fn characters_that_nobody_sees_change_nothing(
        text in texts(),
        code in codes(),
        at in any::<prop::sample::Index>(),
        noise in "[\u{200b}\u{200e}\u{202a}\u{202c}\u{2066}\u{2069}\u{feff}\u{ad}\u{2060}\u{fe0f}]{1,3}",
    ) {
        let places: Vec<_> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let mut noisy = text.clone();
        noisy.insert_str(*at.get(&places), &noise);
        let noisy = format!(" \u{a0}{noisy}\u{3000}");
        prop_assert_eq!(clean_number(&noisy, country(code)), clean_number(&text, country(code)));
        let read = |text: &str| read_phone(text, Written::WithPlus, country(code));
        prop_assert_eq!(read(&noisy), read(&text));
    }

    #[test]
    fn a_separator_between_digits_changes_nothing(
        number in "(1570555|44740012|33612345|4930123|39061234)[0-9]{4}",
        places in prop::collection::vec(3_usize..9, 0..3),
        separator in "[ \u{a0}\u{202f}\u{2011}.-]",
    ) {
        let separated = |(place, digit)| {
            let separator = if places.contains(&place) { &*separator } else { "" };
            format!("{separator}{digit}")
        };
        let spaced = format!("+{}", number.char_indices().map(separated).collect::<String>());
        let read = |text: &str| read_phone(text, Written::WithPlus, None);
        prop_assert_eq!(read(&spaced), read(&format!("+{number}")), "{}", spaced);
    }
}

#[test]
fn a_number_that_only_looks_like_a_date_or_an_ip_address_is_a_number() {
    for (text, country, sent) in [
        ("201.55.50.123", "US", "2015550123"),
        ("030.123.45.67", "DE", "0301234567"),
        ("25-01-24", "NC", "250124"),
        ("31.12.34", "AD", "311234"),
    ] {
        assert_eq!(clean_number(text, Country::from_code(country)).as_deref(), Ok(sent), "{text}");
    }
}
