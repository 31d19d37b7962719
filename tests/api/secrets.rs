//! Nothing that is secret or personal gets out but to whom it belongs: every operation, every error path, every
//! command, at the most talkative log there is.
//!
//! What may hold data of persons are the answers to whoever may read the batch: the batch itself (`submit_batch`,
//! `get_batch`, `stop_batch`), its entry in `list_batches`, and the reference of a submission (`list_submissions`,
//! `get_submission`, `resolve_submission`, `submissions show`). No other answer, and no error.

mod debug;
mod forgery;

use std::collections::BTreeSet;

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::{
    Answer, ChildGateway, Options, Process, Replies, Reply, Simulators, TestStore, eventually, info, run,
};

/// What is looked for, whatever the case; all of it is in what the tests plant.
const PLANTED: [&str; 9] = [
    "zebra",
    "xanthippe",
    "quarkwright",
    "5705551234",
    "15123456789",
    "7400123456",
    "+1570",
    "linkedin.com/in",
    "sms.rogers",
];
const TOKEN: &str = "zebra-webhook-token-that-nobody-can-guess";
const VENDOR_KEY: &str = "zebra-vendor-key";

/// Fails if a text holds anything of what was planted.
#[track_caller]
fn assert_private(text: &str, secrets: &[&str], place: &str) {
    let lower = text.to_lowercase();
    for planted in PLANTED.iter().chain(secrets) {
        assert!(!lower.contains(&planted.to_lowercase()), "{place} has {planted}: {text}");
    }
}

/// An order full of data of persons.
fn order(slug: &str) -> Value {
    let records = match slug {
        "enrow" => json!([
            {"linkedin_url": "https://www.linkedin.com/in/xanthippe-quarkwright", "custom_id": "custom-zebra-1"},
            {"first_name": "Xanthippe", "last_name": "Quarkwright", "company_domain": "quarkwright.example"},
            {"first_name": "Xanthippe", "last_name": "Quarkwright", "company_name": "Quarkwright Ltd"},
        ]),
        _ => json!([
            {"number": "+4915123456789", "custom_id": "custom-zebra-1"},
            {"number": "07400123456", "country": "GB", "custom_id": "custom-zebra-2"},
        ]),
    };
    json!({"reference": "ref-zebra-4711", "records": records})
}

/// Which operations were called, and what they answered.
struct Calls<'a> {
    gateway: &'a ChildGateway,
    key: &'a str,
    secrets: Vec<&'a str>,
    good: BTreeSet<&'static str>,
    bad: BTreeSet<&'static str>,
}

/// Those whose good answer may hold data of persons.
const MAY_HOLD: [&str; 7] = [
    "submit_batch",
    "get_batch",
    "stop_batch",
    "list_batches",
    "list_submissions",
    "get_submission",
    "resolve_submission",
];

impl Calls<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.gateway.http.request(method, format!("{}{path}", self.gateway.url));
        // What comes along with a request and belongs to nobody else.
        request
            .bearer_auth(self.key)
            .header("user-agent", "zebra-browser")
            .header("cookie", "session=zebra-cookie")
            .header("referer", "https://crm.example/people/xanthippe-quarkwright")
            .header("x-request-id", "zebra <+15705551234>")
            .header("traceparent", "00-zebra-quarkwright-01")
            .header("x-forwarded-for", "zebra, 192.0.2.1")
    }

    fn json(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        self.request(method, path).header("content-type", "application/json").body(body.to_string())
    }

    fn submission(&self, slug: &str, key: &str, body: &Value) -> RequestBuilder {
        self.json(Method::POST, &format!("/batches/{slug}"), body).header("idempotency-key", key)
    }

    /// A request that is carried out.
    async fn good(&mut self, operation: &'static str, request: RequestBuilder) -> Reply {
        let reply = Reply::of(request.send().await.unwrap()).await;
        assert!(reply.status < 300, "{operation}: {}", reply.text());
        self.good.insert(operation);
        if operation == "get_openapi" {
            // The document has examples of its own, which look like data of persons.
            assert!(!reply.text().contains("zebra"));
        } else if !MAY_HOLD.contains(&operation) {
            assert_private(&reply.text(), &self.secrets, operation);
        }
        for secret in &self.secrets {
            assert!(!reply.text().contains(secret), "{operation} tells {secret}");
        }
        self.check_head(operation, &reply);
        reply
    }

    /// A request that is refused, or fails.
    async fn bad(&mut self, operation: &'static str, status: u16, request: RequestBuilder) -> Reply {
        self.bad.insert(operation);
        self.refused(operation, status, request).await
    }

    async fn refused(&self, operation: &str, status: u16, request: RequestBuilder) -> Reply {
        let reply = Reply::of(request.send().await.unwrap()).await;
        assert_eq!(reply.status, status, "{operation}: {}", reply.text());
        reply.assert_problem(status, reply.body["code"].as_str().unwrap());
        assert_private(&reply.text(), &self.secrets, operation);
        self.check_head(operation, &reply);
        reply
    }

    fn check_head(&self, operation: &str, reply: &Reply) {
        assert_private(&format!("{:?}", reply.headers), &self.secrets, operation);
    }

    /// Every operation of the document, each with requests that it carries out and requests that it refuses.
    async fn every_operation(&mut self) {
        for path in ["/livez", "/readyz", "/metrics", "/version", "/openapi.json"] {
            let operation = operation_of(path);
            self.good(operation, self.request(Method::GET, &format!("{path}?zebra=xanthippe"))).await;
            let put = self.json(Method::PUT, path, &order("enrow"));
            self.bad(operation, 405, put).await;
        }
        for path in ["/Quarkwright/15705551234?key=zebra", "/docs/Quarkwright", "/batches/enrow/x/Xanthippe"]
        {
            self.refused("no operation", 404, self.request(Method::GET, path)).await;
        }
        for vendor in VENDORS {
            self.orders(vendor.info.slug).await;
        }
        self.lists().await;
        let hook = |token: &str| format!("/webhooks/enrow/{token}");
        let called = json!({"id": "zebra", "name": "Xanthippe Quarkwright", "number": "+15705551234"});
        self.good("receive_webhook", self.json(Method::POST, &hook(TOKEN), &called)).await;
        // Some that name no batch, the last of them no JSON.
        for body in
            [json!({"name": "Xanthippe Quarkwright", "id": "+1570 5551234"}), json!("zebra +15705551234")]
        {
            self.good("receive_webhook", self.json(Method::POST, &hook(TOKEN), &body)).await;
        }
        let broken = self.request(Method::POST, &hook(TOKEN)).body("{\"Xanthippe\":\"+15705551234");
        self.good("receive_webhook", broken).await;
        for path in [hook("zebra-wrong-token"), format!("{}/", hook(TOKEN)), hook(TOKEN).to_uppercase()] {
            let reply = self.bad("receive_webhook", 404, self.json(Method::POST, &path, &called)).await;
            assert_private(&reply.text(), &self.secrets, "the path of a webhook");
        }
    }

    async fn orders(&mut self, slug: &'static str) {
        let (batches, simulators) = (format!("/batches/{slug}"), &self.gateway.simulators);
        let key = format!("idem-zebra-{slug}");
        let taken = self.good("submit_batch", self.submission(slug, &key, &order(slug))).await;
        self.good("submit_batch", self.submission(slug, &key, &order(slug))).await;
        let batch = format!("{batches}/{}", taken.id());
        self.good("get_batch", self.request(Method::GET, &batch)).await;
        simulators.advance_seconds(60);
        let done =
            self.good("get_batch", self.request(Method::GET, &batch).header("prefer", "wait=20")).await;
        assert!(
            done.text().to_lowercase().contains("zebra"),
            "the test plants what it says: {}",
            done.text()
        );
        self.good("get_batch", self.request(Method::GET, &format!("{batches}/sandbox-completed"))).await;

        let mut other = order(slug);
        other["reference"] = "ref-zebra-other".into();
        self.bad("submit_batch", 422, self.submission(slug, &key, &other)).await;
        for (body, status) in [
            (&b"{\"records\":[{\"number\":\"+15705551234\" \"zebra\"}]}"[..], 400),
            (b"{\"Xanthippe\":\"Quarkwright\xff\"}", 400),
            (b"{\"Xanthippe\":1,\"Xanthippe\":2}", 400),
            (b"[\"xanthippe@quarkwright.example\"]", 422),
            (b"{\"records\":\"+15705551234\",\"reference\":{\"zebra\":1}}", 422),
            (
                b"{\"records\":[\"+15705551234\",{\"Zebra-Field\":\"Quarkwright\"},{\"number\":\"zebra\"}]}",
                422,
            ),
            (
                b"{\"reference\":\"zebra\\u0000\",\"records\":[],\"options\":{\"country\":\"Quarkwright\"}}",
                422,
            ),
        ] {
            let request = self.submission(slug, "idem-zebra-bad", &Value::Null).body(body);
            self.bad("submit_batch", status, request).await;
        }
        let plain = self.request(Method::POST, &batches).header("idempotency-key", "idem-zebra-plain");
        self.bad("submit_batch", 415, plain.body(order(slug).to_string())).await;
        let no_key = self.json(Method::POST, &batches, &order(slug));
        self.bad("submit_batch", 400, no_key).await;
        let bad_key = self.submission(slug, "\"idem-zebra", &order(slug));
        self.bad("submit_batch", 400, bad_key).await;
        for (id, status) in [
            ("+15705551234", 400),
            ("Xanthippe%20Quarkwright", 400),
            ("no-such", 404),
            ("x?Zebra=+15705551234", 400),
        ] {
            self.bad("get_batch", status, self.request(Method::GET, &format!("{batches}/{id}"))).await;
        }
        let nobody = self.request(Method::GET, "/batches/Quarkwright/x");
        self.bad("get_batch", 404, nobody).await;

        let stop = self.request(Method::POST, &format!("{batch}/stop"));
        if info(slug).stops {
            self.good("stop_batch", stop).await;
        } else {
            self.bad("stop_batch", 501, stop).await;
        }
        self.bad("stop_batch", 400, self.request(Method::POST, &format!("{batches}/+15705551234/stop")))
            .await;
        self.doubt(slug).await;
        self.good("erase_batch", self.request(Method::DELETE, &batch)).await;
        self.bad("get_batch", 410, self.request(Method::GET, &batch)).await;
        let wrong = self.request(Method::DELETE, &format!("{batches}/Xanthippe%20Quarkwright"));
        self.bad("erase_batch", 400, wrong).await;
    }

    /// An order whose answer is lost, and an operator who settles it.
    async fn doubt(&mut self, slug: &'static str) {
        let echo = json!({"error": "zebra-vendor-key of Xanthippe Quarkwright, +15705551234"}).to_string();
        let fault = json!({"times": 1, "method": "POST", "answer": {
            "status": 500, "processed": true, "body": echo, "headers": {"x-echo": "zebra-vendor-key"}}});
        self.gateway.fault(slug, fault).await;
        let key = format!("idem-zebra-doubt-{slug}");
        let lost = self.bad("submit_batch", 504, self.submission(slug, &key, &order(slug))).await;
        let submission = format!("/submissions/{}", lost.submission());
        let resolve = format!("{submission}/resolve");
        for (body, status) in
            [(json!({"as": "Xanthippe", "batch_id": "+15705551234", "Zebra": 1}), 422), (json!("zebra"), 422)]
        {
            self.bad("resolve_submission", status, self.json(Method::POST, &resolve, &body)).await;
        }
        self.good("get_submission", self.request(Method::GET, &submission)).await;
        // Where the gateway can look for it at the vendor, it may have settled it by now.
        if !info(slug).recovers {
            self.bad("submit_batch", 409, self.submission(slug, &key, &order(slug))).await;
            let settled = self.json(Method::POST, &resolve, &json!({"as": "not_sent"}));
            self.good("resolve_submission", settled).await;
        }
        for query in ["?Zebra=xanthippe", "?%2B15705551234=1"] {
            self.bad("get_submission", 400, self.request(Method::GET, &format!("{submission}{query}"))).await;
        }
        self.bad("get_submission", 404, self.request(Method::GET, "/submissions/Xanthippe")).await;
    }

    async fn lists(&mut self) {
        for (operation, path) in [
            ("list_batches", "/batches?reference=ref-zebra-4711"),
            ("list_submissions", "/submissions"),
            ("list_providers", "/providers"),
            ("get_usage", "/usage"),
        ] {
            self.good(operation, self.request(Method::GET, path)).await;
            let path = path.split('?').next().unwrap();
            for query in ["%2B15705551234=1", "Zebra=Quarkwright", "state=Xanthippe&status=zebra&from=zebra"]
            {
                self.bad(operation, 400, self.request(Method::GET, &format!("{path}?{query}"))).await;
            }
            let wrong_key = self.gateway.http.get(format!("{}{path}", self.gateway.url));
            self.bad(operation, 401, wrong_key.bearer_auth("pgw_zebra-wrong-key")).await;
        }
    }
}

fn operation_of(path: &str) -> &'static str {
    match path {
        "/livez" => "get_livez",
        "/readyz" => "get_readyz",
        "/metrics" => "get_metrics",
        "/version" => "get_version",
        _ => "get_openapi",
    }
}

/// A gateway at the simulators that tells all it can, whose secrets can be told from everything else.
async fn talkative(hash: &str) -> (Options, Replies) {
    let callbacks = Replies::start().await;
    callbacks.on("", Answer::new(204, &[], b""));
    let options = Options::default()
        .following()
        .client("crm", hash, "")
        .scopes("crm", "read,submit,erase,operate")
        .set("auth.clients.crm.rate", "100000/1s")
        .set("log.filter", "trace")
        .set("cache.running_ttl", "0s")
        .set("server.public_url", callbacks.url())
        .vendor("enrow", "webhook_token", TOKEN)
        .without_quota();
    (options, callbacks)
}

/// Each line of an ended process is one JSON object without anything that was planted.
fn assert_private_log(process: &Process, secrets: &[&str]) {
    assert!(process.log().len() > 50);
    for line in process.lines() {
        assert_private(&line, secrets, "the log");
    }
}

#[tokio::test]
async fn no_answer_metric_log_line_or_command_tells_a_secret_or_a_person() {
    let (key, hash) = new_key().unwrap();
    let secrets = [key.as_str(), hash.as_str(), TOKEN];
    let (options, _callbacks) = talkative(&hash).await;
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let variables = options.variables(&simulators, &store);
    let mut gateway = ChildGateway::ready(Process::spawn(&["serve"], &variables), simulators, store).await;
    let document = gateway.get("/openapi.json").await.body;

    let mut calls = Calls {
        gateway: &gateway,
        key: &key,
        secrets: secrets.to_vec(),
        good: BTreeSet::new(),
        bad: BTreeSet::new(),
    };
    calls.every_operation().await;
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    let operations: BTreeSet<_> =
        operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(calls.good, operations, "every operation was carried out");
    assert_eq!(calls.bad, operations, "every operation was refused");
    assert_private(&gateway.get("/metrics").await.text(), &secrets, "the metrics");

    // An order whose end is left to the next process.
    gateway.fault("experian", json!({"times": 1, "method": "POST", "hang": true})).await;
    let calls = Calls {
        gateway: &gateway,
        key: &key,
        secrets: secrets.to_vec(),
        good: BTreeSet::new(),
        bad: BTreeSet::new(),
    };
    let hangs = calls.submission("experian", "idem-zebra-killed", &order("experian")).send();
    let posts = gateway.posts("experian").await;
    let called = eventually("the vendor is called");
    tokio::select! {
        _ = hangs => unreachable!("the vendor hangs"),
        () = async { while !called.is(gateway.posts("experian").await > posts).await {} } => {}
    }
    gateway.process.kill();
    assert_private_log(&gateway.process, &secrets);
    let ChildGateway { simulators, store, .. } = gateway;
    simulators.clear_faults("experian").await;
    let mut gateway = ChildGateway::ready(Process::spawn(&["serve"], &variables), simulators, store).await;
    let read = gateway.http.get(format!("{}/submissions?state=in_doubt", gateway.url)).bearer_auth(&key);
    assert_eq!(Reply::of(read.send().await.unwrap()).await.status, 200);
    assert_private(&gateway.get("/metrics").await.text(), &secrets, "the metrics");

    let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for arguments in [&["check-config"][..], &["submissions", "list"], &["key", "new"], &["--help"]] {
        let output = run(arguments, &pairs);
        for text in [output.stdout, output.stderr] {
            assert_private(&String::from_utf8(text).unwrap(), &secrets, arguments[0]);
        }
    }
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    assert_private_log(&gateway.process, &secrets);
}

/// What a vendor may say that is none of anybody's business.
fn echoes(elsewhere: &str) -> Vec<Answer> {
    let words =
        format!("{VENDOR_KEY} of Xanthippe Quarkwright <xanthippe@quarkwright.example>, +15705551234");
    let json = json!({"message": words, "error": words, "id": words, "status": words}).to_string();
    let location = format!("{elsewhere}/{VENDOR_KEY}?name=quarkwright");
    let headers = [
        ("content-type", "application/json"),
        ("x-echo", words.as_str()),
        ("location", &location),
        ("retry-after", VENDOR_KEY),
    ];
    let mut answers: Vec<_> = [200, 202, 204, 302, 307, 400, 401, 402, 403, 404, 422, 429, 500, 503]
        .map(|status| Answer::new(status, &headers, json.as_bytes()))
        .to_vec();
    answers.push(Answer::new(200, &[("content-type", "text/html")], words.as_bytes()));
    answers.push(Answer::raw(format!(
        "HTTP/1.1 200 OK\r\nx-zebra: {words}\r\ncontent-length: 99\r\n\r\n{words}"
    )));
    answers.push(Answer::raw(format!("{words}\r\n\r\n")));
    answers.push(Answer::raw(format!("HTTP/1.1 200 {words}\r\n{words}: \r\n\r\n")));
    answers
}

/// A batch that is fine, but for a word that nobody knows and a number that is none.
fn known_and_unknown_words() -> Value {
    let person = json!({"firstname": "Xanthippe", "lastname": "Quarkwright",
        "linkedin_url": "https://www.linkedin.com/in/xanthippe-quarkwright"});
    json!({
        "general": {"id": "found", "status": "completed", "custom": {"campaign": "zebra"}},
        "results": [
            {"index": 0, "qualification": "found", "number": "+15705551234", "country": "US", "params": person},
            {"index": 1, "qualification": "zebra_word", "number": "0044 call Xanthippe", "params": person},
        ],
        "stats": {"requested": 3},
    })
}

#[tokio::test]
async fn what_a_vendor_echoes_goes_no_further() {
    let (key, hash) = new_key().unwrap();
    let secrets = [key.as_str(), hash.as_str(), TOKEN, VENDOR_KEY];
    let (vendor, elsewhere) = (Replies::start().await, Replies::start().await);
    let (mut options, _callbacks) = talkative(&hash).await;
    options = options.scripted(&vendor).set("follow.polls", "0").set("auth.unknown_batches", "1000/1m");
    options = options.without_circuit().without_credentials_pause();
    for provider in VENDORS {
        options = options.vendor(provider.info.slug, "api_key", VENDOR_KEY);
    }
    let mut gateway = options.spawn().await;
    let mut calls = Calls {
        gateway: &gateway,
        key: &key,
        secrets: secrets.to_vec(),
        good: BTreeSet::new(),
        bad: BTreeSet::new(),
    };
    for (round, answer) in echoes(&elsewhere.url()).into_iter().enumerate() {
        vendor.clear();
        vendor.on("", answer);
        for provider in VENDORS {
            let slug = provider.info.slug;
            for request in [
                calls.request(Method::GET, &format!("/batches/{slug}/batch-{round}")),
                calls.request(Method::POST, &format!("/batches/{slug}/batch-{round}/stop")),
                calls.submission(slug, &format!("idem-zebra-{round}-{slug}"), &order(slug)),
            ] {
                let reply = Reply::of(request.send().await.unwrap()).await;
                let code = reply.body["code"].as_str().unwrap_or_else(|| panic!("{}", reply.text()));
                reply.assert_problem(reply.status, code);
                assert_private(&reply.text(), &secrets, "an error");
                calls.check_head("an error", &reply);
            }
        }
        let providers = calls.request(Method::GET, "/providers");
        calls.good("list_providers", providers).await;
    }
    assert_eq!(elsewhere.connections(), 0);
    vendor.clear();
    vendor.on("", Answer::json(&known_and_unknown_words()));
    let read = calls.good("get_batch", calls.request(Method::GET, "/batches/enrow/found")).await;
    assert_eq!(read.body["results"][0]["phone"]["e164"], "+15705551234");
    calls.bad("get_batch", 502, calls.request(Method::GET, "/batches/enrow/other")).await;
    assert_private(&gateway.get("/metrics").await.text(), &secrets, "the metrics");
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    assert_private_log(&gateway.process, &secrets);
}

#[test]
fn no_command_tells_the_password_of_a_store_or_a_proxy() {
    let (_, hash) = new_key().unwrap();
    let common = [
        ("PHONE_GATEWAY__AUTH__CLIENTS__CRM__KEY_SHA256", hash.as_str()),
        ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", VENDOR_KEY),
        ("PHONE_GATEWAY__SERVER__LISTEN", "127.0.0.1:0"),
        ("PHONE_GATEWAY__LOG__FILTER", "trace"),
        ("PHONE_GATEWAY__HTTP__PROXY", "http://user:zebra-proxy@127.0.0.1:1"),
    ];
    for url in [
        // Nobody listens; a host that cannot be; a port that cannot be; options that are nobody's.
        "postgres://quarkwright:zebra-password@127.0.0.1:1/numbers",
        "postgres://quarkwright:zebra-password@[::1/numbers",
        "postgres://quarkwright:zebra-password@127.0.0.1:99999/numbers",
        "postgres://quarkwright:zebra-password@127.0.0.1:1/numbers?sslmode=zebra&zebra=zebra",
    ] {
        let variables = [&common[..], &[("PHONE_GATEWAY__STORE__URL", url)]].concat();
        for arguments in [&["check-config"][..], &["serve"], &["submissions", "list"]] {
            let output = run(arguments, &variables);
            assert!(arguments == ["check-config"] || !output.status.success());
            for text in [output.stdout, output.stderr] {
                assert_private(&String::from_utf8(text).unwrap(), &[&hash, VENDOR_KEY], arguments[0]);
            }
        }
    }
}
