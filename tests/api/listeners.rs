//! Where the gateway listens: host names and Unix sockets.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::helpers::{Options, Process, Simulators, TestStore, eventually, head, raw_get};

const BATCH: &str = "/batches/enrow/sandbox-completed";

async fn wait_until_ready(process: &Process, address: &str) {
    let ready = eventually("the gateway is ready");
    let says = |line: &String| line.contains("\"ready\"") && line.contains(address);
    while !ready.is(process.lines().iter().any(says)).await {}
}

/// The status line of an answer over a Unix socket.
async fn status(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(head("GET", target, "x-forwarded-for: 198.51.100.1\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_host_name_may_stand_for_its_addresses() {
    let gateway = Options::default().set("server.listen", "localhost:0").start().await;
    raw_get(gateway.address, BATCH).await.batch();
}

#[tokio::test]
async fn a_unix_socket_is_served_replaced_when_it_was_left_over_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let [path, ops_path] = ["api.sock", "ops.sock"].map(|name| folder.path().join(name));
    let address = |path: &Path| format!("unix:{}", path.display());
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let options = Options::default().set("server.listen", address(&path));
    let variables = options.set("server.ops_listen", address(&ops_path)).variables(&simulators, &store);

    let mut killed = Process::spawn(&["serve"], &variables);
    wait_until_ready(&killed, &address(&path)).await;
    assert_eq!(status(&path, BATCH).await, "HTTP/1.1 200 OK");
    // Another one does not take it away.
    let other = TestStore::new().await;
    let url = ("PHONE_GATEWAY__STORE__URL".to_owned(), other.url().to_owned());
    let mut second = Process::spawn(&["serve"], &[variables.clone(), vec![url]].concat());
    assert_eq!(second.exit().await.code(), Some(1));
    let said = second.lines().join("\n");
    assert!(said.contains("server.listen: unix:/") && said.contains("in use"), "{said}");

    killed.kill();
    assert!(path.exists() && ops_path.exists());
    let mut process = Process::spawn(&["serve"], &variables);
    wait_until_ready(&process, &address(&path)).await;
    assert_eq!(status(&path, BATCH).await, "HTTP/1.1 200 OK");
    assert_eq!(status(&ops_path, "/readyz").await, "HTTP/1.1 200 OK");
    process.terminate();
    assert_eq!(process.exit().await.code(), Some(0));
    assert!(!path.exists() && !ops_path.exists());
}
