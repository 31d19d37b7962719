//! The store on both databases: each test runs on an SQLite file, and on PostgreSQL where
//! `PHONE_GATEWAY_TEST_POSTGRES` says where one is (`tests/postgres.sh cargo test`).

mod batches;
mod clock;
mod erase;
mod faults;
mod files;
mod follow;
mod histories;
mod migration;
mod shared;
mod submissions;
mod world;

/// Runs each test on both databases.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            use crate::store::tests::world::World;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                World::sqlite().await.run(super::$name).await;
            })*
        }

        mod postgres {
            use crate::store::tests::world::World;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(world) = World::postgres().await {
                    world.run(super::$name).await;
                }
            })*
        }
    };
}
pub(super) use on_both;
