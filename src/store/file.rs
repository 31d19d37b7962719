//! The SQLite file: whether one can be opened, and whether an open one is still in its place.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;
use super::open::OpenError;

/// Whether a file can be created or opened at `path`. Changes nothing.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    let path = match path.canonicalize() {
        Ok(path) if path.is_dir() => return Err(OpenError::File(io::ErrorKind::IsADirectory)),
        Ok(path) => {
            let opened = OpenOptions::new().read(true).write(true).open(&path);
            opened.map_err(|error| OpenError::File(error.kind()))?;
            path
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => absolute(path),
        Err(error) => return Err(OpenError::File(error.kind())),
    };
    let folder = path.parent().unwrap_or(&path);
    // SQLite puts files beside its own. This one has no name and is gone at once.
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::MissingFolder(folder.to_owned()))
        }
        Err(error) => Err(OpenError::Folder { folder: folder.to_owned(), kind: error.kind() }),
    }
}

/// A path as it can be shown: what is relative depends on where the command was started.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// An open file and its log, as they were found when they were opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    parts: Vec<(PathBuf, Identity)>,
    lost: AtomicBool,
}

/// Device and inode: a file that is deleted, replaced or moved away is another one, or none.
type Identity = (u64, u64);

impl OpenFile {
    /// The file that SQLite has open as `path`; `given` leads there, perhaps over a link.
    pub(super) fn new(given: &Path, path: &Path) -> io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let mut parts = vec![(given.to_owned(), identity(given)?)];
        // Where the file system allows no such log, SQLite goes on without.
        parts.extend(identity(log.as_ref()).ok().map(|identity| (log.into(), identity)));
        Ok(Self { parts, lost: AtomicBool::new(false) })
    }

    /// Refuses a file that is no longer in its place: what is written to it would be lost. Logs every change.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let lost = self.parts.iter().find(|(path, opened)| {
            // A folder that cannot be read for the moment says nothing about the file.
            identity(path)
                .map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |found| found != *opened)
        });
        let was_lost = self.lost.swap(lost.is_some(), Ordering::Relaxed);
        let Some((path, _)) = lost else {
            if was_lost {
                tracing::info!("the store's file is back");
            }
            return Ok(());
        };
        if !was_lost {
            tracing::error!(
                path = %path.display(),
                "the store's file was deleted or replaced; submissions are refused: put it back, or restore a copy and \
                 restart the gateway"
            );
        }
        Err(StoreError::new("its file was deleted or replaced"))
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
