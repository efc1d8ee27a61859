//! What the gateway knows of its own work: counters, the page of metrics that is made of them, readings of its state,
//! and their series of the last hour.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`counts`], [`histogram`] | numbers that are counted up, by labels with few values |
//! | [`instruments`] | what is counted where, and how those who do the work say so |
//! | [`store`] | a store that times itself |
//! | [`process`], [`disk`], [`looks`] | what the kernel says of this process and its disk, for many who ask at once |
//! | [`vitals`] | a reading of everything at one moment |
//! | [`series`] | readings of the last hour |
//! | [`page`] | all of it as a scraper reads it |
//! | [`listener`] | the port of that page |
//!
//! The rule: whoever works only adds to atomics; everything else is done when somebody looks. No label has a value for
//! each edge, agent or operator: what they do can't make the page longer.

pub mod counts;
mod disk;
pub mod histogram;
mod instruments;
pub mod listener;
mod looks;
mod page;
mod process;
mod series;
mod store;
mod vitals;

pub use instruments::{
    AdmissionLabel, CheckInLabel, FailureLabel, HeldCheckIn, LoginLabel, PortLabel, Requests, Telemetry,
    TransportLabel, WorkLabel,
};
pub use page::Page;
pub use series::sample;
pub use store::Timed;
pub use vitals::Vitals;
