//! PgBouncer in front of the PostgreSQL server that the suite runs on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;

use super::{TestStore, eventually};

/// A pooler on a Unix socket, with a database of its own behind it: it passes no `search_path` on.
pub(crate) struct Pooler {
    child: Child,
    folder: TempDir,
    database: String,
    server: String,
}

impl Pooler {
    /// Starts one with this `pool_mode`; none where PgBouncer or PostgreSQL is missing.
    pub(crate) async fn start(pool_mode: &str) -> Option<Self> {
        let Some(server) = TestStore::server().filter(|url| url.contains("host=/")) else {
            eprintln!("skipped: no PostgreSQL of tests/postgres.sh");
            return None;
        };
        let Some(program) = ["pgbouncer", "/usr/sbin/pgbouncer"]
            .into_iter()
            .find(|program| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok())
        else {
            eprintln!("skipped: pgbouncer is not installed");
            return None;
        };
        let database = format!("pooled_{pool_mode}_{}", std::process::id());
        admin(&server, &format!("CREATE DATABASE {database}")).await;
        let folder = tempfile::tempdir().unwrap();
        let open = Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), open).unwrap();
        let socket = server.split("host=").nth(1).unwrap().split('&').next().unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        let content = format!(
            "[databases]\n* = host={socket} user=gateway\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {}\n\
             auth_type = any\npool_mode = {pool_mode}\nignore_startup_parameters = extra_float_digits\n",
            folder.path().display()
        );
        fs::write(&settings, content).unwrap();
        // It refuses to run as root.
        let root =
            fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0;
        let child = Command::new(program)
            .args(if root { &["-u", "postgres"][..] } else { &[] })
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Self { child, folder, database, server };
        let listens = eventually("the pooler listens");
        while !listens.is(pooler.folder.path().join(".s.PGSQL.6432").exists()).await {}
        Some(pooler)
    }

    /// What `store.url` is set to.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://gateway:hunter2@localhost/{}?host={}&port=6432",
            self.database,
            self.folder.path().display()
        )
    }

    /// Ends the pooler and drops its database.
    pub(crate) async fn stop(mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        admin(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.database)).await;
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn admin(server: &str, sql: &str) {
    install_default_drivers();
    let mut connection = AnyConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
