//! The test suite: one binary that speaks HTTP to the real server and to real simulators of the vendors.
//!
//! Time is moved, not waited for; what a vendor saw is asked of its simulator. `helpers` holds what all
//! modules share, each other module the behaviour that it is named after.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it, and are no vendor's client"
)]

mod auth;
mod batches;
mod cache;
mod clock;
mod conformance;
mod connections;
mod demo;
mod docs;
mod documents;
mod durability;
mod erase;
mod errors;
mod faults;
mod fixtures;
mod follow;
mod follow_per_vendor;
mod helpers;
mod in_doubt;
mod keep_alive;
mod kills;
mod limits;
mod listeners;
mod lists;
mod load;
mod logging;
mod odd_values;
mod openapi;
mod operations;
mod overload;
mod proxies;
mod random_kills;
mod replicas;
mod requests;
mod results;
mod sandbox;
mod secrets;
mod settings;
mod start;
mod stop;
mod submit;
mod texts;
mod vendor_replies;
mod wait;
mod webhooks;
