//! Files that are not, or not any more, what the gateway wrote, and those that somebody else uses.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use super::world::{LEASE, World, folder, id, order};
use crate::clock::Clock;
use crate::settings::StoreUrl;
use crate::store::{OpenError, Store, SubmissionFilter};

/// Where the child of `a_kill_at_any_moment_leaves_a_store` opens its store.
const CHILD: &str = "PHONE_GATEWAY_TEST_STORE_CHILD";

async fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(&StoreUrl::Sqlite(path.into()), Clock::default()).await
}

async fn refused(path: &Path) -> OpenError {
    let error = open(path).await.err().unwrap();
    assert!(error.to_string().starts_with("store.url: "), "{error}");
    assert!(!error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

/// A folder with a store in it that was closed.
async fn written() -> PathBuf {
    let folder = folder();
    let store = open(&folder.join("store.db")).await.unwrap();
    for number in 0..50 {
        store.reserve(order(&format!("k{number}")), LEASE).await.unwrap();
    }
    store.close().await;
    folder
}

async fn change(path: &Path, statement: &str) {
    install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_store_is_its_owners_and_one_gateways() {
    let folder = folder();
    let path = folder.join("a store?.db");
    let store = open(&path).await.unwrap();
    store.reserve(order("k"), LEASE).await.unwrap();
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    assert_eq!(refused(&path).await, OpenError::InUse);
    let command = Store::open_shared(&StoreUrl::Sqlite(path.clone()), Clock::default()).await.unwrap();
    assert_eq!(command.submissions(&SubmissionFilter::default(), None, 10).await.unwrap().len(), 1);
    command.close().await;
    assert_eq!(refused(&path).await, OpenError::InUse);
    store.close().await;
    let store = open(&path).await.unwrap();
    assert_eq!(store.submissions(&SubmissionFilter::default(), None, 10).await.unwrap().len(), 1);
    assert!(!format!("{store:?}").contains("a store"));
    store.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_store_is_free_when_it_is_closed_though_its_lock_was_inherited() {
    let folder = folder();
    let path = folder.join("store.db");
    let store = open(&path).await.unwrap();
    // As a process has it that another thread is starting.
    let inherited = store.lock.lock().unwrap().as_ref().unwrap().0.try_clone().unwrap();
    store.close().await;
    open(&path).await.unwrap().close().await;
    drop(inherited);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_newer_or_changed_store_is_refused() {
    let folder = written().await;
    let path = folder.join("store.db");
    let step = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                VALUES (9000, 'later', TRUE, X'00', 1)";
    change(&path, step).await;
    assert_eq!(refused(&path).await, OpenError::Newer);
    let shared = Store::open_shared(&StoreUrl::Sqlite(path.clone()), Clock::default()).await;
    assert_eq!(shared.err(), Some(OpenError::Newer));
    change(&path, "DELETE FROM _sqlx_migrations WHERE version = 9000").await;
    open(&path).await.unwrap().close().await;
    change(&path, "UPDATE _sqlx_migrations SET checksum = X'00'").await;
    assert!(matches!(refused(&path).await, OpenError::Damaged(_)));
    change(&path, "DELETE FROM _sqlx_migrations").await;
    let shared = Store::open_shared(&StoreUrl::Sqlite(path), Clock::default()).await;
    assert_eq!(shared.err(), Some(OpenError::Older));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    let folder = written().await;
    let path = folder.join("store.db");
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut damaged = 0;
    for page in 1..length / 4096 {
        let mut kept = vec![0; 4096];
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.read_exact(&mut kept).unwrap();
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xa5; 2048]).unwrap();
        damaged += u32::from(matches!(refused(&path).await, OpenError::Damaged(_)));
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&kept).unwrap();
    }
    assert!(damaged > 5, "{damaged}");
    open(&path).await.unwrap().close().await;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    assert!(matches!(refused(&path).await, OpenError::Damaged(_)));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused_and_left_as_it_is() {
    let folder = folder();
    let text = folder.join("notes.txt");
    std::fs::write(&text, "notes ".repeat(2000)).unwrap();
    assert_eq!(refused(&text).await, OpenError::NotAStore);
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "notes ".repeat(2000));
    let other = folder.join("other.db");
    change(&other, "CREATE TABLE notes (text TEXT)").await;
    let before = std::fs::read(&other).unwrap();
    assert_eq!(refused(&other).await, OpenError::NotAStore);
    assert!(std::fs::read(&other).unwrap() == before);
    assert_eq!(
        refused(&folder.join("missing/store.db")).await,
        OpenError::MissingFolder(folder.join("missing"))
    );
    assert!(matches!(refused(&folder).await, OpenError::File(_)));
    let missing = StoreUrl::Sqlite(folder.join("missing.db"));
    let shared = Store::open_shared(&missing, Clock::default()).await;
    assert_eq!(shared.err(), Some(OpenError::MissingFile(folder.join("missing.db"))));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_server_out_of_reach_is_named_without_its_password() {
    let url = StoreUrl::Postgres("postgres://gateway:secret@127.0.0.1:1/postgres".into());
    assert_eq!(format!("{url:?}"), "Postgres");
    let error = Store::open(&url, Clock::default()).await.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable(_)));
    assert!(!format!("{error} {error:?}").contains("secret"));
}

/// Not a test of its own: what `a_kill_at_any_moment_leaves_a_store` kills.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = open(Path::new(&path)).await.unwrap();
    for number in 0.. {
        store.reserve(order(&format!("k{number}")), LEASE).await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_a_store() {
    let folder = folder();
    let mut written = 0;
    for round in 0..40_u64 {
        // In one half of the rounds a new store is made; in the other one it is written to.
        let path = folder.join(format!("store-{}.db", round / 2));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::files::child", "--exact"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !path.exists() {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 700)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(&path).await.unwrap();
        written += store.submissions(&SubmissionFilter::default(), None, 1000).await.unwrap().len();
        store.close().await;
    }
    assert!(written > 0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_at_once_migrate_once() {
    let Some(world) = World::postgres().await else { return };
    let opens = (0..6).map(|_| world.again());
    for store in futures_util::future::join_all(opens).await {
        store.save(&world.running(&id("b1"))).await.unwrap();
        store.close().await;
    }
    world.run(async |_| ()).await;
}
