//! Who may call.

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Options, Reply, TestGateway, order};

const PATH: &str = "/batches/enrow/sandbox-completed";

async fn read_with(gateway: &TestGateway, path: &str, authorization: &str) -> Reply {
    gateway.send(gateway.request(Method::GET, path).header("authorization", authorization)).await
}

#[tokio::test]
async fn every_wrong_key_gets_the_same_answer_and_the_vendor_no_call() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.wrong_keys", "100/1m");
    let gateway = options.start().await;
    assert_eq!(
        read_with(&gateway, "/batches/experian/sandbox-running", &format!("Bearer {key}")).await.status,
        200
    );

    let no_key = gateway.get(PATH).await;
    let (other, _) = new_key().unwrap();
    let mut bodies = vec![without_ids(&no_key)];
    for wrong in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {other}"),
        format!("Bearer {key}x"),
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer {hash}"),
        format!("Bearer {key} {key}"),
        format!("Basic {key}"),
        format!("Bearer{key}"),
        key.clone(),
        "x".repeat(5_000),
    ] {
        bodies.push(without_ids(&read_with(&gateway, PATH, &wrong).await));
    }
    let bytes = gateway.request(Method::GET, PATH).header("authorization", &b"Bearer \xff\xfe"[..]);
    bodies.push(without_ids(&gateway.send(bytes).await));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn no_key_is_no_key_even_where_the_hash_of_nothing_is_configured() {
    // What `printf '' | sha256sum` prints.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let gateway = Options::default().client("crm", nothing, "").start().await;
    gateway.get(PATH).await.assert_problem(401, "unauthenticated");
    for empty in ["", "Bearer", "Bearer ", "Bearer   "] {
        read_with(&gateway, PATH, empty).await.assert_problem(401, "unauthenticated");
    }
}

/// The problem document of a 401, and its headers, without what is different in each.
fn without_ids(reply: &Reply) -> (Value, Vec<(String, String)>) {
    reply.assert_problem(401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"phone-gateway\""));
    let mut body = reply.body.clone();
    body.as_object_mut().unwrap().remove("request_id");
    let headers =
        reply.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let own = ["x-request-id", "traceparent", "date", "content-length"];
    let mut same: Vec<_> = headers.filter(|(name, _)| !own.contains(&&**name)).collect();
    same.sort_unstable();
    (body, same)
}

#[tokio::test]
async fn every_key_of_a_client_opens_whatever_the_case_of_the_scheme() {
    let ((first, first_hash), (second, second_hash)) = (new_key().unwrap(), new_key().unwrap());
    let hashes = format!("{}, {second_hash}", first_hash.to_uppercase());
    let gateway = Options::default().client("crm", &hashes, "").start().await;
    for key in [first, second] {
        assert!(key.starts_with("pgw_") && key.len() == 47, "recognised by scanners");
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            read_with(&gateway, PATH, &format!("{scheme} {key}")).await.batch();
        }
        read_with(&gateway, PATH, &format!("Bearer   {key} ")).await.batch();
    }
}

#[tokio::test]
async fn a_client_sees_only_its_providers() {
    let ((crm, crm_hash), (sales, sales_hash)) = (new_key().unwrap(), new_key().unwrap());
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let options = Options::default().client("crm", &crm_hash, slug).client("sales", &sales_hash, "");
        let gateway = options.start().await;
        for other in VENDORS {
            let path = format!("/batches/{}/sandbox-completed", other.info.slug);
            let mine = read_with(&gateway, &path, &format!("Bearer {crm}")).await;
            if other.info.slug == slug {
                mine.batch();
            } else {
                mine.assert_problem(403, "forbidden");
                assert_eq!(gateway.calls(other.info.slug).await, 0);
            }
            read_with(&gateway, &path, &format!("Bearer {sales}")).await.batch();
        }
        // Whether a provider is on is no secret; which batches exist there is.
        let unknown = read_with(&gateway, "/batches/nobody/x", &format!("Bearer {crm}")).await;
        unknown.assert_problem(404, "unknown_provider");
    }
}

#[tokio::test]
async fn what_the_platform_asks_needs_no_key() {
    let (_, hash) = new_key().unwrap();
    let gateway = Options::default().client("crm", &hash, "").start().await;
    for path in ["/livez", "/readyz", "/metrics", "/version", "/openapi.json", "/docs/"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    gateway.get(PATH).await.assert_problem(401, "unauthenticated");
    // Nobody learns without a key which providers, ids or paths of batches there are.
    for path in ["/batches/nobody/x", "/batches/enrow/%ff"] {
        gateway.get(path).await.assert_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_cached_batch_is_not_shown_to_a_client_that_may_not_see_it() {
    let ((crm, crm_hash), (sales, sales_hash)) = (new_key().unwrap(), new_key().unwrap());
    let options =
        Options::default().client("crm", &crm_hash, "enrow").client("sales", &sales_hash, "experian");
    let gateway = options.start().await;
    read_with(&gateway, PATH, &format!("Bearer {crm}")).await.batch();
    read_with(&gateway, PATH, &format!("Bearer {sales}")).await.assert_problem(403, "forbidden");
    read_with(&gateway, PATH, "Bearer no").await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_scope_opens_what_it_is_for_and_nothing_else() {
    const NOBODYS: &str = "/submissions/01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d";
    for (scopes, granted) in [
        ("", &["read", "submit"][..]),
        ("read", &["read"]),
        ("submit", &["submit"]),
        ("erase", &["erase"]),
        ("operate", &["operate"]),
        ("erase,operate", &["erase", "operate"]),
        ("read,submit,erase,operate", &["read", "submit", "erase", "operate"]),
    ] {
        let (key, hash) = new_key().unwrap();
        let gateway = Options::default().client("crm", &hash, "").scopes("crm", scopes).start().await;
        let ask = async |method: Method, path: &str, body: &Value| {
            let request = gateway.request(method, path).header("content-type", "application/json");
            gateway
                .send(request.header("idempotency-key", path).body(body.to_string()).bearer_auth(&key))
                .await
        };
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            let batch = |id: &str| format!("/batches/{slug}/{id}");
            let ended = if vendor.info.stops { 200 } else { 501 };
            for (method, path, body, needs, allowed) in [
                (Method::GET, batch("sandbox-completed"), Value::Null, &["read"][..], 200),
                (Method::HEAD, batch("sandbox-completed"), Value::Null, &["read"], 200),
                (Method::GET, "/batches".to_owned(), Value::Null, &["read"], 200),
                (Method::GET, "/providers".to_owned(), Value::Null, &["read"], 200),
                (Method::GET, "/usage".to_owned(), Value::Null, &["read", "operate"], 200),
                (Method::GET, "/submissions".to_owned(), Value::Null, &["read", "submit", "operate"], 200),
                (Method::GET, NOBODYS.to_owned(), Value::Null, &["read", "submit", "operate"], 404),
                (Method::POST, format!("{NOBODYS}/resolve"), json!({"as": "not_sent"}), &["operate"], 404),
                (Method::POST, format!("/batches/{slug}"), order(slug), &["submit"], 202),
                (Method::POST, batch("sandbox-completed/stop"), Value::Null, &["submit"], ended),
                (Method::DELETE, batch("sandbox-completed"), Value::Null, &["erase"], 204),
            ] {
                let calls = gateway.calls(slug).await;
                let reply = ask(method.clone(), &path, &body).await;
                let may = needs.iter().any(|scope| granted.contains(scope));
                assert_eq!(
                    reply.status,
                    if may { allowed } else { 403 },
                    "{scopes}: {method} {path} {}",
                    reply.text()
                );
                if !may {
                    assert_eq!(gateway.calls(slug).await, calls);
                }
            }
        }
    }
}
