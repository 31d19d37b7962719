//! The real binary as a child process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::gateway::metric;
use super::{Reply, Simulators, TestStore, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_phone-gateway");

/// Runs a command that ends by itself, with nothing in its environment but `variables`.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(BINARY).args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

/// A child that runs until it is told to stop, or until this is dropped.
pub(crate) struct Process {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn spawn(arguments: &[&str], variables: &[(String, String)]) -> Self {
        Self::start(Command::new(BINARY).args(arguments), variables)
    }

    /// Like [`Process::spawn`], after the shell has set limits, such as `ulimit -n 100`.
    pub(crate) fn spawn_limited(limits: &str, arguments: &[&str], variables: &[(String, String)]) -> Self {
        let script = format!("{limits}\nexec \"$0\" \"$@\"");
        Self::start(Command::new("/bin/sh").args(["-c", &script, BINARY]).args(arguments), variables)
    }

    fn start(command: &mut Command, variables: &[(String, String)]) -> Self {
        let mut child = start(command, variables);
        let output = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![collect(stdout, &output), collect(stderr, &output)];
        Self { child, output, readers }
    }

    /// All lines so far, of both streams.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// The lines so far. While somebody holds the lock, the pipes of the process are not read.
    pub(crate) fn output(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.output)
    }

    /// All lines so far, each of which must be a JSON object.
    pub(crate) fn log(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.lines().iter().map(parse).collect()
    }

    /// Where the process listens, as it says once it is ready.
    pub(crate) async fn address(&self) -> SocketAddr {
        let ready = eventually("the gateway is ready");
        loop {
            let address = self.ready_at();
            if ready.is(address.is_some()).await {
                return address.unwrap();
            }
        }
    }

    fn ready_at(&self) -> Option<SocketAddr> {
        self.lines().iter().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "ready").then(|| line["address"].as_str().unwrap().parse().unwrap())
        })
    }

    /// The most memory that the process held so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process holds, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, kind: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let bytes = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
        bytes.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// SIGKILL: nothing of the process goes on after this.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process and of its output.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let status = self.exit_unread().await;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// Waits for the end of the process, whether its output is read or not.
    pub(crate) async fn exit_unread(&mut self) -> ExitStatus {
        let ended = eventually("the process ends");
        while !ended.is(self.child.try_wait().unwrap().is_some()).await {}
        self.child.wait().unwrap()
    }
}

/// Starts a command whose output goes to pipes, with nothing in its environment but `variables`.
fn start(command: &mut Command, variables: &[(String, String)]) -> Child {
    let command = command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            lines.lock().unwrap().push(line.unwrap());
        }
    })
}

/// A gateway in a process of its own. It dereferences to its simulators, which are in this one.
pub(crate) struct ChildGateway {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) process: Process,
    pub(crate) simulators: Simulators,
    pub(crate) store: TestStore,
}

impl Deref for ChildGateway {
    type Target = Simulators;

    fn deref(&self) -> &Simulators {
        &self.simulators
    }
}

impl ChildGateway {
    /// Waits until the process says that it is ready.
    pub(crate) async fn ready(process: Process, simulators: Simulators, store: TestStore) -> Self {
        let address = process.address().await;
        Self { address, url: format!("http://{address}"), process, simulators, store }
    }

    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        metric(&self.simulators.http, &self.url, name, labels).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }
}
