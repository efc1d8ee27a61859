//! Thousands of simulated agents against one gateway.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`result`] | what a run measured: the data of its report |
//!
//! The rule: latency counts from the scheduled time of a question, so a gateway that is slow can't slow its clients.

pub mod result;
