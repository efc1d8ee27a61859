//! A path through a network that is far, loses packets or is narrow: two network namespaces, joined by a link that this
//! process emulates.
//!
//! ```text
//!   this machine's namespace        this process             a namespace of its own
//!   programs ── TUN device ── delay, loss, rate, each way ── TUN device ── programs
//!     [near]                                                                 [far]
//! ```
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`weather`] PURE | what happens to a packet: when it arrives, or that it never does |
//! | [`link`](mod@link) | the two devices, and the thread that carries packets between them |
//! | [`path`](mod@path) | the namespace and addresses around a link; programs and listeners at its far end |
//!
//! Kernels can do this themselves with netem, where they have it; this needs `/dev/net/tun` and the right to administer
//! the network, and nothing else of the kernel. Loss is seeded: which packets of a direction are lost, counted from the
//! first, is the same in every run.
//!
//! The rule: nothing of this machine's own network is touched, and dropping a [`Path`] leaves nothing of it behind.

pub mod link;
pub mod path;
pub mod weather;

pub use path::Path;
pub use weather::{Loss, Weather};
