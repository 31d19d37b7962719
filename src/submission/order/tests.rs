mod properties;

use serde_json::json;

use super::*;
use crate::providers::VENDORS;

/// What the first vendor of a kind accepts.
fn accepts(kind: Kind) -> &'static Accepts {
    VENDORS.iter().map(|vendor| &vendor.info.accepts).find(|accepts| accepts.kind == kind).unwrap()
}

fn wrong(body: &Value, kind: Kind) -> Vec<InvalidPart> {
    NewBatch::from_json(body, accepts(kind)).unwrap_err().listed
}

fn pointers(errors: &[InvalidPart]) -> Vec<&str> {
    errors.iter().map(|error| error.pointer.as_deref().unwrap()).collect()
}

fn numbers(count: usize) -> Value {
    json!({"records": vec![json!({"number": "441206250380"}); count]})
}

#[test]
fn a_national_number_needs_a_country() {
    let told = |body: &Value| pointers(&wrong(body, Kind::Validation)).join(" ");
    assert_eq!(told(&json!({"records": [{"number": "07400123457"}]})), "/records/0/number");
    for body in [
        json!({"records": [{"number": "07400123457", "country": "GB"}, {"number": "12269724276"}]}),
        json!({"options": {"country": "GB"}, "records": [{"number": "07400123457"}]}),
    ] {
        assert!(NewBatch::from_json(&body, accepts(Kind::Validation)).is_ok());
    }
}

#[test]
fn everything_that_is_wrong_with_numbers_is_told_at_once() {
    let body = json!({
        "reference": "crm#42",
        "webhook": "https://example.com/",
        "options": {
            "output_format": "E164", "country": "GBR", "get_ported_date": "yes",
            "supplementary_live_status": {"mobile": "US", "landline": ["GB", "XX", 7], "voip": []},
            "max_processing_time": "PT25H", "priority": 1,
        },
        "records": [
            {"number": "+441206250380", "country": "GB", "custom_id": "a"},
            {"number": "n/a"},
            {"number": 441_206_250_380_u64},
            {"custom_id": ""},
            {"number": "1", "country": "United Kingdom", "linkedin_url": "https://www.linkedin.com/in/pam"},
            "441206250380",
            null,
        ],
    });
    let errors = wrong(&body, Kind::Validation);
    let mut told = pointers(&errors);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "/options/country",
            "/options/get_ported_date",
            "/options/max_processing_time",
            "/options/output_format",
            "/options/priority",
            "/options/supplementary_live_status/landline/1",
            "/options/supplementary_live_status/landline/2",
            "/options/supplementary_live_status/mobile",
            "/options/supplementary_live_status/voip",
            "/records/1/number",
            "/records/2/number",
            "/records/3",
            "/records/3/custom_id",
            "/records/4/country",
            "/records/4/linkedin_url",
            "/records/5",
            "/records/6",
            "/reference",
            "/webhook",
        ]
    );
}

#[test]
fn everything_that_is_wrong_with_persons_is_told_at_once() {
    let body = json!({
        "reference": 42,
        "records": [
            {"linkedin_url": "https://www.linkedin.com/in/pam", "custom_id": 7},
            {"first_name": "Pam", "last_name": "Beesly"},
            {"first_name": "Pam", "company_name": "Dunder Mifflin"},
            {"linkedin_url": "https://example.com/in/pam"},
            {"linkedin_url": "https:/www.linkedin.com/in/pam"},
            {"linkedin_url": "https://linkedin.com.example.com/in/pam"},
            {"first_name": " ", "last_name": "Beesly", "company_domain": "a\u{0}b"},
            {},
            {"number": "441206250380"},
            [],
        ],
    });
    let errors = wrong(&body, Kind::Finding);
    let mut told = pointers(&errors);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "/records/0/custom_id",
            "/records/1",
            "/records/2",
            "/records/3/linkedin_url",
            "/records/4/linkedin_url",
            "/records/5/linkedin_url",
            "/records/6/company_domain",
            "/records/6/first_name",
            "/records/7",
            "/records/8",
            "/records/8/number",
            "/records/9",
            "/reference",
        ]
    );
}

#[test]
fn what_is_wrong_is_said_in_words_that_help() {
    let told = |record: Value, of: &Value| {
        let body = json!({"options": of, "records": [record]});
        let errors = wrong(&body, Kind::Validation);
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].detail.to_string()
    };
    let none = json!({});
    for (record, options, detail) in [
        (json!({"number": "ada@example.org"}), &none, "must be a phone number: this is an e-mail address"),
        (
            json!({"number": "ada.1815@example.org"}),
            &none,
            "must be a phone number: this is an e-mail address",
        ),
        (json!({"number": 441_206_250_380_u64}), &none, "must be a JSON string, in double quotes"),
        (json!({"number": ["1"]}), &none, "must be a JSON string, in double quotes"),
        (
            json!({"number": "+441206250380", "custom_id": 7}),
            &none,
            "must be a JSON string, in double quotes",
        ),
        (
            json!({"number": "0740012345678", "country": "GB"}),
            &none,
            "must have fewer digits: too long for numbers of GB",
        ),
        (
            json!({"number": "90 01 12 34"}),
            &json!({"country": "BJ"}),
            "must have more digits: too short for numbers of BJ",
        ),
        (
            json!({"number": "+44740012345678", "country": "FR"}),
            &none,
            "must have fewer digits: too long for numbers with the calling code +44",
        ),
        (
            json!({"number": "0044740012345678"}),
            &none,
            "must have fewer digits: too long for numbers with the calling code +44",
        ),
        (
            json!({"number": "+376 7123456"}),
            &none,
            "must have another number of digits: no numbers with the calling code +376 are this long",
        ),
        (
            json!({"number": "+441206250380", "phone": "x"}),
            &none,
            "unknown field; allowed: number, country, custom_id",
        ),
    ] {
        assert_eq!(told(record.clone(), options), detail, "{record}");
    }
}

#[test]
fn all_errors_are_counted_and_only_the_first_are_listed() {
    for count in [1, MAX_ERRORS, MAX_ERRORS + 1, 3 * MAX_ERRORS] {
        let body = json!({"records": vec![json!({"number": "x"}); count]});
        let errors = NewBatch::from_json(&body, accepts(Kind::Validation)).unwrap_err();
        assert_eq!((errors.listed.len(), errors.total), (count.min(MAX_ERRORS), count));
    }
}

#[test]
fn a_body_of_another_shape_is_told_as_a_whole() {
    for body in [json!(null), json!([]), json!("records"), json!(7)] {
        assert_eq!(pointers(&wrong(&body, Kind::Finding)), [""], "{body}");
    }
    for body in [json!({}), json!({"records": null}), json!({"records": {}}), json!({"records": []})] {
        assert_eq!(pointers(&wrong(&body, Kind::Finding)), ["/records"], "{body}");
    }
}

#[test]
fn limits_hold_to_the_last_of_them() {
    let accepts = accepts(Kind::Validation);
    let most = accepts.max_records as usize;
    assert!(NewBatch::from_json(&numbers(most), accepts).is_ok());
    assert_eq!(pointers(&wrong(&numbers(most + 1), Kind::Validation)), ["/records"]);
    let with = |field: &str, value: String| {
        let mut body = numbers(1);
        *body.pointer_mut("").unwrap().as_object_mut().unwrap().entry(field).or_insert(Value::Null) =
            value.into();
        NewBatch::from_json(&body, accepts).is_ok()
    };
    assert!(with("reference", "a".repeat(MAX_REFERENCE)));
    assert!(!with("reference", "a".repeat(MAX_REFERENCE + 1)));
    assert!(!with("reference", "ä".to_owned()));
    assert!(!with("reference", " ".to_owned()));
    for reference in [json!(""), json!("a".repeat(MAX_TEXT + 1)), json!("crm\n42")] {
        let mut body = numbers(1);
        body["reference"] = reference;
        let errors = wrong(&body, Kind::Validation);
        assert_eq!(pointers(&errors), ["/reference"]);
        assert!(errors[0].detail.starts_with("must be a text of 1 to 200 letters"), "{}", errors[0].detail);
    }
    let with_id = |id: String| {
        let body = json!({"records": [{"number": "441206250380", "custom_id": id}]});
        NewBatch::from_json(&body, accepts).is_ok()
    };
    // Characters, not bytes.
    assert!(with_id("ä".repeat(MAX_TEXT)));
    assert!(!with_id("ä".repeat(MAX_TEXT + 1)));
    assert!(!with_id("a\nb".to_owned()));
    for (time, fits) in [
        ("PT1M", true),
        ("PT60S", true),
        ("PT1H30M", true),
        ("PT24H", true),
        ("PT59S", false),
        ("PT24H1S", false),
        ("P1D", false),
        ("-PT25M", false),
        ("25m", false),
        ("PT000000025M", false),
        ("", false),
    ] {
        let mut body = numbers(1);
        body["options"] = json!({"max_processing_time": time});
        assert_eq!(NewBatch::from_json(&body, accepts).is_ok(), fits, "{time}");
    }
}

#[test]
fn a_body_of_nothing_but_mistakes_has_a_bounded_answer() {
    let unknown: Map<String, Value> =
        (0..MAX_ERRORS * 2).map(|number| (format!("field {number}"), Value::Null)).collect();
    assert_eq!(wrong(&Value::Object(unknown), Kind::Finding).len(), MAX_ERRORS);
}

#[test]
fn options_are_refused_where_the_vendor_takes_none() {
    let none = Accepts { options: &[], ..*accepts(Kind::Validation) };
    let mut body = numbers(1);
    body["options"] = json!({});
    assert!(NewBatch::from_json(&body, &none).is_ok());
    body["options"] = json!({"country": "GB", "get_ported_date": true});
    let errors = NewBatch::from_json(&body, &none).unwrap_err().listed;
    assert_eq!(pointers(&errors), ["/options/country", "/options/get_ported_date"]);
    let some = Accepts { options: &["country"], ..none };
    let errors = NewBatch::from_json(&body, &some).unwrap_err().listed;
    assert_eq!(pointers(&errors), ["/options/get_ported_date"]);
    assert!(errors[0].detail.contains("country"), "{}", errors[0].detail);
}

#[test]
fn no_value_is_ever_repeated() {
    const PLANTED: &str = "Planted-5551234";
    let p = PLANTED;
    let bodies = [
        json!(p),
        json!({"reference": format!("{p}#"), "records": p, "options": p, p: p}),
        json!({"records": [
            p,
            {"number": [p], "country": p, "custom_id": {p: p}, p: p},
            {"number": format!("{p}\n"), "country": [p], "custom_id": format!("{p}\u{7}")},
            {"linkedin_url": p, "first_name": [p], "last_name": format!("{p}\n"), "company_name": {p: p},
             "company_domain": [p]},
            {"linkedin_url": format!("https://{p}.example/")},
        ]}),
        json!({"records": [], "options": {
            "output_format": p, "country": p, "get_ported_date": p, "max_processing_time": p, p: p,
            "supplementary_live_status": {"mobile": [p, [p]], "landline": p, p: p},
        }}),
    ];
    for body in &bodies {
        for kind in [Kind::Finding, Kind::Validation] {
            let told = serde_json::to_string(&wrong(body, kind)).unwrap();
            assert!(!told.contains("lanted") && !told.contains("5551234"), "{told}");
        }
    }
}

#[test]
fn debug_shows_no_personal_data() {
    let body = json!({
        "reference": "planted",
        "records": [{"first_name": "planted", "last_name": "planted", "company_name": "planted", "custom_id": "planted"}],
    });
    let batch = NewBatch::from_json(&body, accepts(Kind::Finding)).unwrap();
    assert!(!format!("{batch:?}").contains("planted"));
}

#[test]
fn the_fingerprint_is_of_the_order_not_of_its_spelling() {
    let fingerprint = |body: &str, provider: &str| {
        let body = serde_json::from_str(body).unwrap();
        NewBatch::from_json(&body, accepts(Kind::Validation)).unwrap().fingerprint(provider).unwrap()
    };
    let order = r#"{"reference":"crm-43","options":{"country":"GB","get_ported_date":true},
        "records":[{"number":"1206250380","custom_id":"a"},{"number":"1206250381"}]}"#;
    let respelt = r#" {"records": [{"custom_id": "\u0061", "number": " 1206250380"}, {"number":"1206250381"}],
        "options": {"get_ported_date": true, "country": "gb"}, "reference": "crm-43 "}"#;
    assert_eq!(fingerprint(order, "one"), fingerprint(respelt, "one"));
    assert_ne!(fingerprint(order, "one"), fingerprint(order, "other"));
    for (from, to) in [
        (
            r#"[{"number":"1206250380","custom_id":"a"},{"number":"1206250381"}]"#,
            r#"[{"number":"1206250381"},{"number":"1206250380","custom_id":"a"}]"#,
        ),
        ("crm-43", "crm-44"),
        (r#""reference":"crm-43","#, ""),
        ("true", "false"),
        ("GB", "DE"),
        (r#""custom_id":"a""#, r#""custom_id":"b""#),
        (r#","custom_id":"a""#, ""),
        (r#"{"number":"1206250381"}"#, r#"{"number":"1206250381","country":"GB"}"#),
    ] {
        assert!(order.contains(from), "{from}");
        assert_ne!(fingerprint(order, "one"), fingerprint(&order.replace(from, to), "one"), "{from}");
    }
}

#[test]
fn a_request_is_stored_and_read_as_the_same() {
    let body = json!({"records": [
        {"number": "+44 (0)7400 123456", "custom_id": "a"},
        {"number": "12269724276", "country": "CA"},
    ]});
    let records = NewBatch::from_json(&body, accepts(Kind::Validation)).unwrap().records;
    let stored = serde_json::to_vec(&records).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Record>>(&stored).unwrap(), records);
}
