//! What the texts of vendors and callers become: numbers, countries, persons. Nothing that cannot lead to a result is
//! sent, and what is sent is what was checked.

use serde_json::{Value, json};

use crate::helpers::{Answer, Options, Replies, TestGateway};

async fn scripted(vendor: &Replies) -> TestGateway {
    Options::default().scripted(vendor).without_quota().without_circuit().start().await
}

/// What Enrow's text becomes in a result that it calls found: the phone and the outcome.
async fn found(
    gateway: &TestGateway,
    vendor: &Replies,
    number: &str,
    country: Option<&str>,
) -> (Value, Value) {
    let mut row = json!({"index": 0, "qualification": "found", "number": number});
    if let Some(country) = country {
        row["country"] = country.into();
    }
    vendor.clear();
    vendor.on(
        "",
        Answer::json(&json!({
            "general": {"id": "b1", "status": "completed"}, "stats": {"requested": 1}, "results": [row],
        })),
    );
    gateway.store.forget_batches().await;
    let reply = gateway.batch("enrow", "b1").await;
    let result = &reply.batch()["results"][0];
    (result.get("phone").cloned().unwrap_or_default(), result["outcome"].clone())
}

#[tokio::test]
async fn a_vendors_text_is_a_number_only_if_all_of_it_is() {
    let vendor = Replies::start().await;
    let options = Options::default().scripted(&vendor).without_quota().set("cache.max_bytes", "0");
    let gateway = options.start().await;
    for (text, e164, extension) in [
        ("+4930123456 Fax", None, None),
        ("+4930123456 ext.", None, None),
        ("+49 170 1234567 Ada", None, None),
        ("+1-800-FLOWERS", None, None),
        ("+4930123456 / +4930123457", None, None),
        ("+43112345 DW 12", Some("+43112345"), Some("12")),
        ("+1 570-555-1234 x99", Some("+15705551234"), Some("99")),
        ("+48 (0)22 512 12 34", Some("+48225121234"), None),
        ("+420 (0)2 1234 5678", Some("+420212345678"), None),
        ("+30 (0)21 0123 4567", Some("+302101234567"), None),
        ("+44 (0)7400 123456", Some("+447400123456"), None),
        ("+39 06 1234 5678", Some("+390612345678"), None),
        ("+54 9 11 2345 6789", Some("+5491123456789"), None),
        ("\u{202a}+15705551234\u{202c}", Some("+15705551234"), None),
        ("tel:+1-570-555-1234", Some("+15705551234"), None),
        ("'+15705551234", Some("+15705551234"), None),
        ("＋１５７０５５５１２３４", Some("+15705551234"), None),
        ("+١٥٧٠٥٥٥١٢٣٤", Some("+15705551234"), None),
        ("+1\u{2011}570\u{2011}555\u{2011}1234", Some("+15705551234"), None),
        ("+229 90 01 12 34", None, None),
        ("+4930123456789012", None, None),
        ("15705551234", None, None),
    ] {
        let (phone, outcome) = found(&gateway, &vendor, text, None).await;
        assert_eq!(phone.get("e164").and_then(Value::as_str), e164, "{text}");
        assert_eq!(phone.get("extension").and_then(Value::as_str), extension, "{text}");
        assert_eq!(phone.get("raw").and_then(Value::as_str), e164.is_none().then(|| text.trim()), "{text}");
        assert_eq!(outcome, if e164.is_some() { "found" } else { "unknown" }, "{text}");
    }
    for (text, country, e164) in [
        ("15705551234", "US", Some("+15705551234")),
        ("06 12 34 56 78", "FR", Some("+33612345678")),
        ("06 12 34 56 78", "fra", Some("+33612345678")),
        ("06 12 34 56 78", "XX", None),
    ] {
        let (phone, _) = found(&gateway, &vendor, text, Some(country)).await;
        assert_eq!(phone.get("e164").and_then(Value::as_str), e164, "{text} {country}");
    }
}

#[tokio::test]
async fn a_country_is_read_from_every_code_in_use_and_anything_else_is_drift() {
    let vendor = Replies::start().await;
    let options = Options::default().scripted(&vendor).without_quota().set("cache.max_bytes", "0");
    let gateway = options.start().await;
    for (code, country) in [
        ("US", Some("US")),
        ("usa", Some("US")),
        ("UK", Some("GB")),
        ("EL", Some("GR")),
        ("XK", Some("XK")),
        ("XKX", Some("XK")),
        (" de ", Some("DE")),
        ("XX", None),
        ("Germany", None),
    ] {
        let before = gateway.metric("provider_schema_drift_total", &["field=\"country\""]).await;
        let (phone, _) = found(&gateway, &vendor, "+15705551234", Some(code)).await;
        assert_eq!(phone.get("country").and_then(Value::as_str), country, "{code}");
        let drift = gateway.metric("provider_schema_drift_total", &["field=\"country\""]).await - before;
        assert_eq!(drift, u64::from(country.is_none()), "{code}");
    }
}

#[tokio::test]
async fn a_number_whose_format_the_vendor_rejects_stays_as_it_is() {
    let vendor = Replies::start().await;
    let gateway = scripted(&vendor).await;
    let phone = |confidence: &str, phone_type: &str| {
        json!({"number": "6501234567", "validated_phone_number": "6501234567",
               "confidence": confidence, "phone_type": phone_type})
    };
    let phones = [
        phone("unverified", "mobile"),
        phone("absent", "Bad Format"),
        phone("NoCoverage", "mobile"),
        phone("dead", "mobile"),
    ];
    vendor.on(
        "/results",
        Answer::json(&json!({"result": {"batch_id": "b1", "status": "completed", "phones": phones}})),
    );
    vendor
        .on("/b1", Answer::json(&json!({"result": {"batch_id": "b1", "status": "completed", "records": 4}})));
    let reply = gateway.batch("experian", "b1").await;
    let results = reply.batch()["results"].as_array().unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| json!([result["outcome"], result["phone"].get("e164"), result["phone"].get("raw")]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["invalid", null, "6501234567"]),
            json!(["unreachable", null, "6501234567"]),
            json!(["inconclusive", "+6501234567", null]),
            json!(["invalid", "+6501234567", null]),
        ]
    );
}

/// Submits one record between two good ones; what was sent of it, or nothing where it was refused at its field.
async fn sent(
    gateway: &TestGateway,
    vendor: &Replies,
    slug: &str,
    good: &Value,
    record: &Value,
) -> Option<Value> {
    vendor.clear();
    vendor.on("/start", Answer::json(&json!({"result": {"batch_id": "b1", "status": "processing"}})));
    vendor.on("/batches", Answer::json(&json!({"result": {"batch_id": "b1", "status": "submitted"}})));
    vendor.on("/bulk", Answer::json(&json!({"id": "b1"})));
    gateway.store.forget_batches().await;
    let key = record.to_string();
    let key: String = key.chars().filter(char::is_ascii_graphic).take(200).collect();
    let body = json!({"records": [good, record, good]});
    let reply = gateway.submit(slug, &format!("{key}{}", body.to_string().len()), &body).await;
    let requests = vendor.requests();
    if reply.status == 422 {
        reply.assert_problem(422, "invalid_request");
        assert!(requests.is_empty(), "{record}: nothing may be sent");
        for error in reply.body["errors"].as_array().unwrap() {
            assert!(error["pointer"].as_str().unwrap().starts_with("/records/1"), "{record}: {error}");
        }
        return None;
    }
    assert_eq!(reply.status, 202, "{record}: {}", reply.text());
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    let list = if slug == "enrow" { "searches" } else { "phones" };
    Some(body[list][1].clone())
}

#[tokio::test]
async fn a_callers_number_is_cleaned_or_refused_before_anything_is_paid() {
    let vendor = Replies::start().await;
    let gateway = scripted(&vendor).await;
    let good = json!({"number": "+447400123456"});
    for (number, country, expected) in [
        ("4.47E+11", None, None),
        ("447400123456.0", None, None),
        ("(07400) 123456", None, None),
        ("5", None, None),
        ("5", Some("GB"), None),
        ("ada1@example.com", None, None),
        ("#REF!1", None, None),
        ("2024-01-31", None, None),
        ("123456789012345678901234567890", None, None),
        ("+447400123456 / +447400123457", None, None),
        ("+447400123456; +447400123457", None, None),
        ("1-800-FLOWERS", Some("US"), None),
        ("+447400123456", None, Some("+447400123456")),
        ("\u{202a}+447400123456\u{202c}", None, Some("+447400123456")),
        ("٠٧٤٠٠١٢٣٤٥٦", Some("GB"), Some("07400123456")),
        ("(07400) 123456", Some("GB"), Some("07400123456")),
        ("+44 (0)7400 123456", None, Some("+447400123456")),
        ("447400123456", None, Some("447400123456")),
        ("+447400123456 x12", None, Some("+447400123456")),
        ("'+447400123456", None, Some("+447400123456")),
    ] {
        let mut record = json!({"number": number});
        if let Some(country) = country {
            record["country"] = country.into();
        }
        let sent = sent(&gateway, &vendor, "experian", &good, &record).await;
        let number_sent = sent.as_ref().map(|sent| sent["number"].as_str().unwrap());
        assert_eq!(number_sent, expected, "{record}");
    }
}

#[tokio::test]
async fn a_callers_person_is_cleaned_or_refused_before_anything_is_paid() {
    let vendor = Replies::start().await;
    let gateway = scripted(&vendor).await;
    let good = json!({"linkedin_url": "https://www.linkedin.com/in/pam"});
    let named = |field: &str, value: &str| {
        let mut record =
            json!({"first_name": "Ada", "last_name": "Lovelace", "company_domain": "example.org"});
        record[field] = value.into();
        record
    };
    for (record, field, expected) in [
        (json!({"linkedin_url": "https://www.linkedin.com/company/example"}), "", None),
        (json!({"linkedin_url": "https://www.linkedin.com/school/example"}), "", None),
        (json!({"linkedin_url": "https://www.linkedin.com/"}), "", None),
        (json!({"linkedin_url": "https://www.linkedin.com/in/a https://www.linkedin.com/in/b"}), "", None),
        (json!({"linkedin_url": "https:/www.linkedin.com/in/ada-lovelace"}), "", None),
        (named("first_name", "\u{200b}"), "", None),
        (named("company_domain", "ada@example.org"), "", None),
        (named("company_domain", "example.org, example.com"), "", None),
        (named("company_domain", "127.0.0.1"), "", None),
        (
            json!({"linkedin_url": "www.linkedin.com/in/ada-lovelace"}),
            "linkedin_url",
            Some("https://www.linkedin.com/in/ada-lovelace"),
        ),
        (
            json!({"linkedin_url": "https://www.linkedin.com/in/ada\u{200b}-lovelace"}),
            "linkedin_url",
            Some("https://www.linkedin.com/in/ada-lovelace"),
        ),
        (
            json!({"linkedin_url": "https://uk.linkedin.com/in/ren%C3%A9/?trk=x"}),
            "linkedin_url",
            Some("https://uk.linkedin.com/in/ren%C3%A9"),
        ),
        (
            named("company_domain", "https://www.example.org/about?x=1"),
            "company_domain",
            Some("www.example.org"),
        ),
        (named("company_domain", "bücher.example"), "company_domain", Some("bücher.example")),
        (named("first_name", "\u{feff}李"), "firstname", Some("李")),
        (
            json!({"linkedin_url": "https://www.linkedin.com/in/ada", "custom_id": null, "first_name": null}),
            "linkedin_url",
            Some("https://www.linkedin.com/in/ada"),
        ),
    ] {
        let sent = sent(&gateway, &vendor, "enrow", &good, &record).await;
        let text_sent = sent.as_ref().map(|sent| sent[field].as_str().unwrap());
        assert_eq!(text_sent, expected, "{record}");
    }
}
