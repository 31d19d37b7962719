//! `serve --sandbox` as somebody meets it who tries the gateway out.

use phone_gateway::providers::VENDORS;
use serde_json::Value;

use crate::documents::{code, table};
use crate::helpers::{ChildGateway, Process, Simulators, TestStore, eventually, run, variable};

/// `serve --sandbox` with `arguments`, on a free port. The simulators of the result are not its own: those are in
/// its process.
async fn sandbox(arguments: &[&str], settings: &[(&str, &str)]) -> ChildGateway {
    let listen = [("server.listen", "127.0.0.1:0")];
    let settings = listen.iter().chain(settings).map(|(key, value)| (variable(key), (*value).to_owned()));
    let arguments = [&["serve", "--sandbox"], arguments].concat();
    let process = Process::spawn(&arguments, &settings.collect::<Vec<_>>());
    ChildGateway::ready(process, Simulators::start().await, TestStore::new().await).await
}

/// What a reading of a batch shows, as the tables write it.
fn shown(status: u16, body: &Value) -> String {
    let word = if status == 200 { &body["status"] } else { &body["code"] };
    let warnings = body["warnings"].as_array().into_iter().flatten();
    warnings.fold(format!("{status} {}", code(word)), |shown, warning| format!("{shown}, {}", code(warning)))
}

/// Reads the rows of a vendor's table in their order.
async fn read_in_order(gateway: &ChildGateway, slug: &str) {
    for row in table(&format!("## Ready-made batches: {slug}")) {
        let id = row[0].trim_matches('`');
        let reply = gateway.get(&format!("/batches/{slug}/{id}")).await;
        let shown = shown(reply.status, &reply.body);
        // What follows a comma is about time: `later` is the other state that may be met.
        let (at_first, later) = row[2].split_once(", later ").unwrap_or((&row[2], ""));
        let promised = [at_first.to_owned(), format!("200 {later}")];
        let fits = |promised: &String| {
            promised.strip_prefix(&shown).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
        };
        assert!(promised.iter().any(fits), "{slug} {id}: {shown}, docs/sandbox.md says {}", row[2]);
    }
}

/// A row that shows an error must not change what the next rows show.
#[tokio::test]
async fn the_ready_made_batches_show_what_is_said_one_after_the_other_and_again() {
    // Only shorter than what anybody gets who sets nothing: a vendor that is slow costs this long.
    let gateway = sandbox(&[], &[("http.read_deadline", "4s")]).await;
    for _ in 0..2 {
        let reads = VENDORS.iter().map(|vendor| read_in_order(&gateway, vendor.info.slug));
        futures_util::future::join_all(reads).await;
    }
}

/// What was erased is erased, until the vendor itself goes back to the start.
#[tokio::test]
async fn a_reset_of_a_simulator_brings_back_what_was_erased_of_it() {
    let gateway = sandbox(&[], &[]).await;
    let guide = eventually("the guide names the admin routes");
    let admin = |slug: &str| {
        let end = format!("/admin/{slug}");
        gateway
            .process
            .lines()
            .iter()
            .find_map(|line| line.rsplit(' ').next().filter(|url| url.ends_with(&end)).map(str::to_owned))
    };
    while !guide.is(VENDORS.iter().all(|vendor| admin(vendor.info.slug).is_some())).await {}
    let paths: Vec<_> =
        VENDORS.iter().map(|vendor| format!("/batches/{}/sandbox-completed", vendor.info.slug)).collect();
    for path in &paths {
        gateway.get(path).await.batch();
        let erased = gateway.http.delete(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(erased.status(), 204, "{path}");
        assert_eq!(gateway.get(path).await.status, 410, "{path}");
    }
    let reset = gateway.http.delete(admin(VENDORS[0].info.slug).unwrap()).send().await.unwrap();
    assert_eq!(reset.status(), 204);
    assert_eq!(gateway.get(&paths[0]).await.batch()["status"], "completed");
    assert_eq!(gateway.get(&paths[1]).await.status, 410, "the other vendor was not reset");
}

#[tokio::test]
async fn the_sandbox_listens_for_other_machines_only_when_told_and_says_so() {
    const SAYS: &str = "the sandbox asks for no key: anyone who can reach this address may use it";
    for key in ["server.listen", "server.ops_listen"] {
        let refused = run(&["serve", "--sandbox"], &[(&variable(key), "0.0.0.0:0")]);
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains(key) && told.contains("--sandbox-open"), "{told}");
    }
    let refused = run(&["serve", "--sandbox-open"], &[]);
    assert_eq!(refused.status.code(), Some(2), "without --sandbox it means nothing");
    // No machine has this address (RFC 5737), so nothing is listened on.
    let by_variable = [("PHONE_GATEWAY_SANDBOX_OPEN", "true"), (&variable("server.listen"), "192.0.2.1:0")];
    let told = String::from_utf8(run(&["serve", "--sandbox"], &by_variable).stderr).unwrap();
    assert!(told.contains("cannot be listened on"), "the image says it by a variable: {told}");

    // Vendor keys and real addresses are in the environment, and nothing of them is used.
    let mut settings = vec![
        (variable("server.listen"), "0.0.0.0:0".to_owned()),
        (variable("http.proxy"), "http://127.0.0.1:9".to_owned()),
    ];
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        settings.push((variable(&format!("providers.{slug}.base_url")), "https://127.0.0.1:9".to_owned()));
        settings.push((variable(&format!("providers.{slug}.api_key_file")), "/nowhere".to_owned()));
    }
    let process = Process::spawn(&["serve", "--sandbox", "--sandbox-open"], &settings);
    let gateway = ChildGateway::ready(process, Simulators::start().await, TestStore::new().await).await;
    let port = gateway.address.port();
    let lines = gateway.process.lines();
    let warned = lines.iter().find(|line| line.contains(SAYS)).unwrap();
    assert!(warned.contains("\"WARN\"") && warned.contains("server.listen"), "{warned}");
    for vendor in VENDORS {
        let url = format!("http://127.0.0.1:{port}/batches/{}/sandbox-completed", vendor.info.slug);
        let guide = eventually("the guide shows addresses that can be called");
        while !guide.is(gateway.process.lines().iter().any(|line| line.contains(&url))).await {}
        assert_eq!(gateway.http.get(&url).send().await.unwrap().status(), 200);
    }
}
