//! What has happened: every event with its cause, kept by retention and rolled up by the hour.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | `History`, the one that everybody asks and tells; the trait `Store` |
//! | `entry` | an event, as it is kept and shown |

pub mod entry;

pub use entry::{Entry, Hour};
