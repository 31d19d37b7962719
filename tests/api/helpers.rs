//! What the tests share: the gateway in this process or as a child, the simulators, a scripted vendor.

mod gateway;
pub(crate) mod invariants;
mod orders;
mod pooler;
mod process;
mod proxy;
mod raw;
mod replies;
mod reply;
mod schema;
mod shim;
mod simulators;
mod site;
mod standstill;
mod store;

use std::time::{Duration, Instant};

pub(crate) use gateway::{Options, TestGateway, variable};
pub(crate) use orders::{info, order, order_of, records};
pub(crate) use pooler::Pooler;
pub(crate) use process::{ChildGateway, Process, run};
pub(crate) use proxy::{State as WireState, Wire, Witness};
pub(crate) use raw::{
    drip, full_backlog, has_read_everything, head, raw, raw_get, read_replies, read_reply, relay, unread,
};
pub(crate) use replies::{Answer, FIREWALL_PAGE, Replies, Request, VENDOR_ERROR};
pub(crate) use reply::Reply;
pub(crate) use schema::Schema;
pub(crate) use shim::Shim;
pub(crate) use simulators::Simulators;
pub(crate) use site::{Replica, Site, numbered_order, path_of, webhooks};
pub(crate) use standstill::{Lock, Moment, Standstill};
pub(crate) use store::TestStore;

/// A condition that must come true within 20 seconds; it is asked for again and again, never waited out.
pub(crate) struct Eventually {
    what: &'static str,
    since: Instant,
}

pub(crate) fn eventually(what: &'static str) -> Eventually {
    Eventually { what, since: Instant::now() }
}

impl Eventually {
    /// Whether it is true by now; if not, after a moment and within the time.
    pub(crate) async fn is(&self, yes: bool) -> bool {
        assert!(yes || self.since.elapsed() < Duration::from_secs(20), "never happened: {}", self.what);
        if !yes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        yes
    }
}
