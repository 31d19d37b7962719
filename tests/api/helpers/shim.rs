//! What stands between a gateway and the system: it counts, and fails as told.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::{Process, Replica, Site};

/// What is loaded into a gateway to look at what it asks of the system.
pub(crate) struct Shim {
    directory: TempDir,
}

impl Shim {
    pub(crate) fn build() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/helpers/shim.c");
        let library = directory.path().join("shim.so");
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
        assert!(built.unwrap().success(), "cc");
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A gateway with it.
    pub(crate) async fn start(&self, site: &Site) -> Replica {
        let mut variables = site.variables();
        for (name, file) in [("LD_PRELOAD", "shim.so"), ("SHIM_SYNCS", "syncs"), ("SHIM_FULL", "full")] {
            variables.push((name.to_owned(), self.path(file)));
        }
        if let Some(folder) = site.store.directory() {
            let folder = folder.canonicalize().unwrap();
            variables.push(("SHIM_STORE".to_owned(), folder.display().to_string()));
        }
        Replica::ready(Process::spawn(&["serve"], &variables), &site.http).await
    }

    /// How often the gateway had the store's files written to the disk.
    pub(crate) fn syncs(&self) -> u64 {
        fs::metadata(self.path("syncs")).map_or(0, |file| file.len())
    }

    pub(crate) fn fill_the_disk(&self) {
        fs::write(self.path("full"), "").unwrap();
    }

    pub(crate) fn free_the_disk(&self) {
        fs::remove_file(self.path("full")).unwrap();
    }
}
