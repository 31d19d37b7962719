//! One REST contract in front of every vendor that finds or validates phone numbers in bulk.
//!
//! A request comes in at [`api`], which parses, authorises and renders; [`gateway`] holds all the rules: how a batch is
//! read, how it is submitted at most once, how it is followed to its end. [`cache`] and [`store`] hold what was paid
//! for, in memory and for good; a vendor's adapter in [`providers`] knows the sequence of calls and the mapping;
//! [`http`] sends all vendor calls and keeps to the vendors' quotas. [`batch`] is the common schema: pure, known to all, knowing nobody.
//! [`submission`] is what a caller orders, checked against what the vendor can do. Arrows go in that order.
//!
//! What holds everywhere:
//!
//! * no vendor is named outside its own folder: everything else is driven by [`providers::VENDORS`];
//! * a vendor's words and wire types end at its folder's edge;
//! * nothing that is not final is kept for long, and nothing final is asked for twice;
//! * what costs money is written down before it is sent, sent once, and in doubt when nobody knows;
//! * no key, phone number, name or vendor body gets into a log, a metric or an error.

pub mod api;
pub mod app;
pub mod auth;
pub mod batch;
pub mod cache;
pub mod clock;
pub mod error;
pub mod gateway;
pub mod http;
pub mod providers;
pub mod rate;
pub mod sandbox;
pub mod scope;
pub mod server;
pub mod settings;
pub mod store;
pub mod submission;
pub mod telemetry;
