//! One REST contract in front of every vendor that finds or validates phone numbers in bulk.
pub mod batch;
pub mod clock;
