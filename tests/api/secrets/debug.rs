//! `Debug` of every public type: it ends up in logs and in the messages of panics sooner or later.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use phone_gateway::batch::{
    Batch, BatchResult, Carrier, Input, Network, Options as BatchOptions, OriginalNetwork, Outcome, Personal,
    Phone, Written,
};
use phone_gateway::cache::Representation;
use phone_gateway::clock::Clock;
use phone_gateway::gateway::Submitted;
use phone_gateway::http::{Reply, Write};
use phone_gateway::providers::{Order, VENDORS};
use phone_gateway::settings::Settings;
use phone_gateway::store::{
    Cursor, Facts, Filter, Listed, NewSubmission, Reserved, Resolved, SavedBatch, StoredBatch,
    SubmissionFilter,
};
use phone_gateway::submission::{IdempotencyKey, NewBatch, Submission, SubmissionState};
use reqwest::header::HeaderMap;
use serde_json::json;

use super::{TOKEN, VENDOR_KEY, assert_private, order};
use crate::helpers::{Options, Simulators, TestStore};

/// Types that can hold nothing of the kind, and why.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "words and numbers of our own",
        &[
            "api::Paths",
            "api::admission::Admission",
            "api::body::BodyLimits",
            "server::Share",
            "server::connection::Body",
            "server::connection::Connection",
            "server::connection::Turn",
            "telemetry::exposition::Exposition",
            "telemetry::metrics::ConnectionEnd",
            "api::operations::Readiness",
            "scope::Scope",
            "batch::Cost",
            "batch::CostUnit",
            "batch::Kind",
            "batch::Outcome",
            "batch::Progress",
            "batch::Reason",
            "batch::Status",
            "batch::Warning",
            "batch::amount::Amount",
            "batch::amount::InvalidAmount",
            "batch::drift::Drift",
            "batch::drift::DriftField",
            "batch::id::InvalidBatchId",
            "batch::phone_text::not_a_number::NotANumber",
            "batch::phone_text::Written",
            "cache::CacheStatus",
            "http::call_kind::CallKind",
            "server::listener::Address",
            "server::listener::Listener",
            "settings::Delay",
            "settings::Listen",
            "submission::order::Accepts",
            "clock::Clock",
            "error::Code",
            "error::CodeInfo",
            "error::RetryAfter",
            "http::error::ErrorForm",
            "http::error::ProviderError",
            "http::error::ProviderErrorKind",
            "http::error::SubmitError",
            "http::quota::QuotaScope",
            "rate::Rate",
            "http::quota::QuotaPermit",
            "settings::AuthMode",
            "settings::ByteCount",
            "settings::Cache",
            "settings::Follow",
            "settings::LogFormat",
            "settings::Ttl",
            "store::quota::CallTime",
            "store::save::Saved",
            "store::submissions::Accepted",
            "submission::SubmissionState",
            "telemetry::GatewaySpan",
            "submission::key::InvalidKey",
            "telemetry::metrics::LastCall",
            "telemetry::metrics::Refusal",
            "telemetry::trace::InvalidTraceContext",
        ],
    ),
    (
        "constants of a build",
        &["api::openapi::Document", "providers::Example", "providers::Info", "providers::Vendor"],
    ),
    (
        "identifiers, which logs are for",
        &[
            "batch::id::BatchId",
            "batch::id::SubmissionId",
            "gateway::ProviderState",
            "http::request::Call",
            "store::doubt::Doubt",
            "store::doubt::Resolution",
            "providers::RunningBatch",
            "store::due::Due",
            "store::due::DueBatch",
            "store::list::Cursor",
            "store::list_submissions::SubmissionCursor",
            "telemetry::Learnt",
            "telemetry::RequestContext",
            "telemetry::trace::TraceContext",
        ],
    ),
    ("made of others here", &["api::State"]),
    ("names of countries", &["batch::SupplementaryLiveStatus", "batch::country::Country"]),
    ("numbers, days, vendors and names of clients", &["store::usage::Usage", "store::usage::UsageFilter"]),
    ("the path at a vendor, with ids", &["http::request::Read"]),
    (
        "our own words for a person, which repeat no value",
        &["error::Error", "error::InvalidPart", "error::InvalidParts", "settings::faults::SettingsError"],
    ),
    (
        "causes for the log; what the commands print of them is tested beside this",
        &[
            "app::StartError",
            "http::client::VendorClientError",
            "store::error::StoreError",
            "store::open::OpenError",
        ],
    ),
    (
        "what an operator may log and where vendors are, without user and query",
        &["settings::LogFilter", "settings::VendorUrl"],
    ),
];

/// Types whose `Debug` stands in that of the state or of the settings.
const WITHIN: &[&str] = &[
    "auth::Auth",
    "auth::Client",
    "cache::Cache",
    "gateway::Gateway",
    "http::transport::Transport",
    "http::client::VendorClient",
    "http::quota::Quota",
    "settings::Auth",
    "settings::Client",
    "settings::Http",
    "settings::KeyHash",
    "settings::Log",
    "settings::Provider",
    "settings::Proxy",
    "settings::Server",
    "settings::Settings",
    "settings::Store",
    "settings::StoreUrl",
    "store::Store",
    "telemetry::metrics::Metrics",
];

#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn personal(text: &str) -> Option<Personal<String>> {
    Some(Personal(text.to_owned()))
}

const WORDS: &str = "zebra of Xanthippe Quarkwright, +15705551234";

#[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
fn words() -> Option<String> {
    Some(WORDS.to_owned())
}

fn result() -> BatchResult {
    let network = Network { name: words(), network_status: words(), mcc_mnc: words() };
    let input = Input {
        linkedin_url: personal("https://www.linkedin.com/in/xanthippe-quarkwright"),
        first_name: personal("Xanthippe"),
        last_name: personal("Quarkwright"),
        company_name: personal("Quarkwright Ltd"),
        company_domain: personal("quarkwright.example"),
        number: personal("+15705551234"),
    };
    let carrier = Carrier {
        network: network.clone(),
        email_to_sms: personal("5705551234@sms.rogers.example"),
        email_to_mms: personal("5705551234@sms.rogers.example"),
        original: Some(OriginalNetwork { network, country: None }),
    };
    BatchResult {
        custom_id: personal("custom-zebra"),
        phone: phone(),
        carrier: Some(carrier),
        input,
        ..BatchResult::new(Outcome::Found, WORDS)
    }
}

fn phone() -> Phone {
    Phone {
        raw: personal(WORDS),
        formatted: personal("(570) 555-1234"),
        line_type: words(),
        extension: personal("99"),
        ..Phone::read("+15705551234", Written::WithPlus, None)
    }
}

/// A batch of the first vendor that is full of what nobody else may see.
fn batch() -> Batch {
    let vendor = VENDORS[0];
    let body =
        json!({"general": {"id": "x", "status": "completed", "custom": {"zebra": WORDS}}, "results": []});
    let reply = reply(body.to_string());
    let batch = vendor.decode(&"x".parse().unwrap(), None, &[reply]).unwrap();
    Batch {
        provider_status: WORDS.to_owned(),
        reason: words(),
        reference: Some(WORDS.to_owned()),
        options: options(),
        results: Some(vec![result()]),
        ..batch
    }
}

fn options() -> BatchOptions {
    BatchOptions { output_format: words(), max_processing_time: words(), ..BatchOptions::default() }
}

fn reply(body: String) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert("x-echo", "zebra".parse().unwrap());
    Reply::new(200, headers, body.into(), Clock::default().now())
}

fn submission() -> Submission {
    let now = Clock::default().now();
    Submission {
        id: "01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d".parse().unwrap(),
        client: "crm".to_owned(),
        provider: "vendor".to_owned(),
        state: SubmissionState::Accepted,
        records: 1,
        reference: personal("ref-zebra"),
        batch_id: Some("x".parse().unwrap()),
        code: None,
        created_at: now,
        sent_at: None,
        state_since: now,
        resolved_by: None,
    }
}

fn submission_filter() -> SubmissionFilter {
    let key = IdempotencyKey::try_from(WORDS.as_bytes()).unwrap();
    SubmissionFilter { key: Some(key), ..SubmissionFilter::default() }
}

/// Values of the types that can hold data of persons, full of them, by the name of the type.
fn values() -> Vec<(&'static str, String)> {
    let shown = |value: &dyn Debug| format!("{value:?}");
    let (now, bytes) = (Clock::default().now(), || WORDS.as_bytes().to_vec());
    let (submission, id) = (submission(), "x".parse().unwrap());
    let order_of = |slug: &str| {
        let info = VENDORS.iter().find(|vendor| vendor.info.slug == slug).unwrap().info;
        NewBatch::from_json(&order(slug), &info.accepts).unwrap()
    };
    let new = order_of("enrow");
    let ids = [words()];
    let stored = StoredBatch {
        document: Some(bytes().into()),
        status: "completed".to_owned(),
        done: true,
        complete: true,
        erased: false,
        submission: Some(submission.id),
        retrieved_at: None,
        next_poll_at: None,
        incomplete_since: None,
        misses: 0,
        submitted_at: None,
        first_seen_at: now,
    };
    let saved = SavedBatch {
        provider: "vendor",
        id: &id,
        submission: None,
        client: None,
        reference: Some(WORDS),
        status: "completed",
        done: true,
        complete: true,
        document: WORDS.as_bytes(),
        summary: WORDS.as_bytes(),
        results: 1,
        charged: None,
        refunded: None,
        incomplete_since: None,
        submitted_at: None,
        retrieved_at: now,
        next_poll_at: None,
    };
    let facts = Facts {
        submission: submission.id,
        client: "crm".to_owned(),
        reference: words(),
        records: 1,
        custom_ids: Some(ids.to_vec()),
        sent_at: now,
    };
    let written = NewSubmission {
        client: "crm",
        key: WORDS,
        provider: "vendor",
        fingerprint: [0; 32],
        records: &new.records,
        reference: Some(WORDS),
    };
    let accepted =
        Reserved::Accepted { id: submission.id, batch_id: id.clone(), answer: Some(bytes().into()) };
    let listed = Listed {
        summary: bytes().into(),
        cursor: Cursor { at: 0, provider: "vendor".to_owned(), id: "x".to_owned() },
    };
    let taken =
        Submitted { submission: submission.id, batch: id.clone(), json: bytes().into(), replayed: false };
    let ordered = Order { submission: submission.id, batch: &new, webhook: Some(TOKEN) };
    let document = Representation::from_json(bytes().into(), true, std::time::Duration::ZERO);
    let write = Write::new("submit", "/phone/bulk".to_owned()).header("x-custom", WORDS).json(&new).unwrap();
    let carrier = result().carrier.unwrap();
    vec![
        ("batch::Batch", shown(&batch())),
        ("batch::BatchResult", shown(&result())),
        ("batch::Carrier", shown(&carrier)),
        ("batch::record::Input", shown(&result().input)),
        ("batch::Network", shown(&carrier.network)),
        ("batch::Options", shown(&options())),
        ("batch::OriginalNetwork", shown(&carrier.original)),
        ("batch::personal::Personal", shown(&personal(WORDS))),
        ("batch::phone::E164", shown(&phone().e164)),
        ("batch::phone::Phone", shown(&phone())),
        ("cache::Representation", shown(&document)),
        ("gateway::submit::Submitted", shown(&taken)),
        ("http::reply::Reply", shown(&reply(WORDS.to_owned()))),
        ("http::request::Write", shown(&write)),
        ("providers::Order", shown(&ordered)),
        ("store::batches::Facts", shown(&facts)),
        ("store::batches::StoredBatch", shown(&stored)),
        ("store::doubt::Resolved", shown(&Resolved::Done(submission.clone()))),
        ("store::list::Filter", shown(&Filter { reference: words(), ..Filter::default() })),
        ("store::list::Listed", shown(&listed)),
        ("store::list_submissions::SubmissionFilter", shown(&submission_filter())),
        ("store::reserve::NewSubmission", shown(&written)),
        ("store::reserve::Reserved", shown(&accepted)),
        ("store::save::SavedBatch", shown(&saved)),
        ("submission::Submission", shown(&submission)),
        ("submission::key::IdempotencyKey", shown(&IdempotencyKey::try_from(WORDS.as_bytes()).unwrap())),
        ("submission::order::NewBatch", shown(&(&new, order_of("experian")))),
        ("batch::record::Record", shown(&new.records)),
    ]
}

#[tokio::test]
async fn debug_shows_no_secret_and_no_person() {
    for (name, shown) in values() {
        assert_private(&shown, &["555-1234", TOKEN], name);
        assert!(!shown.is_empty(), "{name}");
    }
    let (key, hash) = phone_gateway::auth::new_key().unwrap();
    let mut options = Options::default()
        .client("crm", &hash, "")
        .set("http.proxy", "http://user:zebra-proxy@127.0.0.1:1")
        .set("server.public_url", "https://phones.example.com")
        .vendor("enrow", "webhook_token", TOKEN);
    for vendor in VENDORS {
        options = options.vendor(vendor.info.slug, "api_key", VENDOR_KEY);
    }
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let database = ("PHONE_GATEWAY__STORE__URL".to_owned(), "postgres://zebra:zebra@127.0.0.1/x".to_owned());
    let mut variables = options.variables(&simulators, &store);
    variables.retain(|(name, _)| *name != database.0);
    variables.push(database);
    let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = Settings::from_variables(None, variables).unwrap();
    let state = options.state(&simulators, &store).await;
    let shown = format!("{:?} {:?} {settings:?}", state.auth, state.gateway);
    let numbers = format!("{:?}", settings.auth.clients["crm"].key_sha256);
    assert!(!numbers.contains(char::is_numeric), "{numbers}");
    assert_private(&shown, &[&key, &hash, TOKEN, VENDOR_KEY], "the state or the settings");
    for name in WITHIN {
        let name = name.rsplit("::").next().unwrap();
        let names = match name {
            "StoreUrl" => "Postgres",
            "Proxy" => "Url",
            name => name,
        };
        assert!(shown.contains(names), "{name} is not within: {shown}");
    }
}

/// The public types of a file that have `Debug`, by their full names.
fn debug_types(file: &Path, root: &Path, types: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).unwrap();
    let module = file.strip_prefix(root).unwrap().with_extension("");
    let module = module.to_str().unwrap().trim_end_matches("/mod").replace('/', "::");
    for (position, line) in text.lines().enumerate() {
        let Some(rest) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) else {
            continue;
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
        let above = text.lines().take(position).collect::<Vec<_>>();
        let attributes: Vec<_> = above.into_iter().rev().take_while(|line| !line.is_empty()).collect();
        let derived = attributes.iter().any(|line| line.starts_with("#[derive(") && line.contains("Debug"));
        let manual = [" ", "<"].iter().any(|end| text.contains(&format!("Debug for {name}{end}")));
        if derived || manual {
            types.insert(format!("{module}::{name}"));
        }
    }
}

fn walk(folder: &Path, root: &Path, types: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("sandbox") {
            walk(&path, root, types);
        // The simulators know nobody's data; the command line and what only tests use is no part of the library.
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["tests.rs", "sandbox.rs", "main.rs", "scripted.rs"].iter().any(|name| path.ends_with(name))
        {
            debug_types(&path, root, types);
        }
    }
}

#[test]
fn no_public_type_with_debug_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut types = BTreeSet::new();
    walk(&root, &root, &mut types);
    assert!(types.len() > 90, "the search finds them: {types:?}");
    let mut known = BTreeSet::new();
    let values = values();
    let checked = values.iter().map(|(name, _)| *name).chain(WITHIN.iter().copied());
    let harmless = HARMLESS.iter().flat_map(|(_, names)| names.iter().copied());
    for name in checked.chain(harmless) {
        assert!(known.insert(name.to_owned()), "{name} is listed twice");
    }
    let forgotten: Vec<_> = types.difference(&known).collect();
    assert!(forgotten.is_empty(), "can these hold data of persons or secrets? {forgotten:#?}");
    let gone: Vec<_> = known.difference(&types).collect();
    assert!(gone.is_empty(), "these are no public types with `Debug`: {gone:#?}");
}
