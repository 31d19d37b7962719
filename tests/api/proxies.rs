//! Common proxies in front of the gateway, as their packages come: whether they take it for alive, reuse connections, and
//! lose nothing when a gateway ends. A proxy that is not installed is skipped with a message.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::helpers::{Options, TestGateway, eventually, head, read_replies};

const BATCH: &str = "/batches/enrow/sandbox-completed";
const REQUESTS: usize = 50;

/// A proxy in the foreground that listens on a Unix socket.
struct Proxy {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Proxy {
    /// Starts one with the configuration that `configure` makes for its folder; none if it is not installed.
    async fn start(command: &str, arguments: &[&str], configure: impl Fn(&str) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        fs::write(folder.path().join("conf"), configure(&path)).unwrap();
        let arguments = arguments.iter().map(|argument| argument.replace("FOLDER", &path));
        // Where Debian has them; not everybody's PATH leads there.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new(command)
            .env("PATH", path)
            .args(arguments)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("{command} is not installed: SKIPPED");
            return None;
        };
        let socket = folder.path().join("socket");
        let listens = eventually("the proxy listens");
        while !listens.is(UnixStream::connect(&socket).await.is_ok()).await {}
        Some(Self { child, socket, _folder: folder })
    }

    async fn haproxy(gateway: SocketAddr) -> Option<Self> {
        Self::start("haproxy", &["-db", "-f", "FOLDER/conf"], |folder| {
            format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
                 frontend callers\n bind unix@{folder}/socket\n default_backend gateways\n\
                 backend gateways\n option httpchk\n server gateway {gateway} check inter 100ms\n"
            )
        })
        .await
    }

    async fn nginx(gateways: &[SocketAddr]) -> Option<Self> {
        let servers: Vec<_> = gateways.iter().map(|gateway| format!("server {gateway};")).collect();
        let servers = servers.concat();
        Self::start("nginx", &["-p", "FOLDER", "-c", "FOLDER/conf", "-e", "FOLDER/log"], |folder| {
            format!(
                "daemon off; user root root; worker_processes 1; pid {folder}/pid; events {{}}\n\
                 http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
                 upstream gateways {{ {servers} keepalive 16; }}\n\
                 server {{ listen unix:{folder}/socket; location / {{ proxy_pass http://gateways;\n\
                 proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n"
            )
        })
        .await
    }

    /// The status of an answer to one more caller.
    async fn status(&self) -> String {
        ask(&self.socket).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both end their workers on SIGTERM; SIGKILL would leave them.
        let terminate = format!("kill -TERM {}", self.child.id());
        drop(Command::new("sh").args(["-c", &terminate]).status());
        drop(self.child.wait());
    }
}

async fn ask(socket: &PathBuf) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(head("GET", BATCH, "").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap_or("none").to_owned()
}

/// Leads to a gateway and counts the connections.
async fn counting(gateway: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut proxy, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut gateway = TcpStream::connect(gateway).await.unwrap();
                copy_bidirectional(&mut proxy, &mut gateway).await
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn haproxy_takes_the_gateway_for_alive_and_reuses_connections() {
    let gateway = TestGateway::start().await;
    let (address, connections) = counting(gateway.address).await;
    let Some(proxy) = Proxy::haproxy(address).await else { return };
    let options = ["status=\"204\""];
    let checked = eventually("its default check was answered more often than it needs to give up");
    while !checked.is(gateway.metric("http_requests_total", &options).await > 4).await {}
    // It gives each caller a connection, and keeps it as long as the caller's.
    let mut caller = UnixStream::connect(&proxy.socket).await.unwrap();
    let requests = format!("GET {BATCH} HTTP/1.1\r\nhost: gateway\r\n\r\n").repeat(REQUESTS - 1);
    caller.write_all((requests + &head("GET", BATCH, "")).as_bytes()).await.unwrap();
    let replies = read_replies(&mut caller).await;
    assert_eq!(replies.len(), REQUESTS);
    assert!(replies.iter().all(|reply| reply.status == 200));
    // Each check has a connection of its own.
    let opened = connections.load(Ordering::Relaxed);
    let checks = gateway.metric("http_requests_total", &options).await;
    assert!(opened as u64 <= checks + 5, "{opened} connections for {checks} checks and {REQUESTS} requests");
}

#[tokio::test]
async fn nginx_reuses_connections() {
    let gateway = TestGateway::start().await;
    let (address, connections) = counting(gateway.address).await;
    let Some(proxy) = Proxy::nginx(&[address]).await else { return };
    for _ in 0..REQUESTS {
        assert_eq!(proxy.status().await, "200");
    }
    let opened = connections.load(Ordering::Relaxed);
    assert!(opened <= 2, "{opened} connections for {REQUESTS} requests");
}

#[tokio::test]
async fn a_rolling_deploy_behind_nginx_loses_no_request() {
    let mut old = Options::default().set("server.shutdown_delay", "1s").spawn().await;
    let new = TestGateway::start().await;
    let Some(proxy) = Proxy::nginx(&[old.address, new.address]).await else { return };
    let mut callers = JoinSet::new();
    let stop = Arc::new(AtomicUsize::new(0));
    for _ in 0..8 {
        let (socket, stop) = (proxy.socket.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            let mut statuses = Vec::new();
            while stop.load(Ordering::Relaxed) == 0 {
                statuses.push(ask(&socket).await);
            }
            statuses
        });
    }
    let busy = eventually("both are used");
    while !busy.is(old.metric("http_requests_total", &["status=\"200\""]).await > 50).await {}
    old.process.terminate();
    assert_eq!(old.process.exit().await.code(), Some(0));
    let used = new.metric("http_requests_total", &["status=\"200\""]).await;
    let others = eventually("the other one serves all");
    while !others.is(new.metric("http_requests_total", &["status=\"200\""]).await > used + 50).await {}
    stop.store(1, Ordering::Relaxed);
    let statuses: Vec<_> = callers.join_all().await.concat();
    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
}
