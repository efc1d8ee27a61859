//! What runs inside the SSH connection between our own ends, and below it.
//!
//! ```text
//!   service socket ── carry ── SSH channel ┐                 ┌ SSH channel ── carry ── operator's connection
//!   service socket ── carry ── SSH channel ┼─ russh ─ socket ┼ ...
//!                 control ─── SSH channel ┘   (one TCP)      └ SSH channel ── control
//! ```
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`ssh`] | algorithms, windows and timers that both ends set the same way |
//! | [`socket`] | the TCP socket below SSH, which never blocks its writer |
//! | [`sever`] | that socket cut from outside, whatever russh is doing |
//! | [`carry`] | one stream: the pump between a channel and a local connection, with message credit |
//! | [`credit`] | PURE: how much credit a peer gets |
//! | [`pool`] | what the streams of a tunnel share: memory for credit, and what they know of the path |
//! | [`alarm`] | a future that is cheap to ask often |
//! | [`control`] | what the two ends tell each other beside the streams: holds, closing, snapshot requests |
//! | [`dial_failure`] | why an agent could not reach a service, as an SSH reason code |
//! | [`pipe`] | a stream as something to read from and write to |
//!
//! Stock SSH clients take part without [`control`] and without credit.

pub mod alarm;
pub mod carry;
pub mod control;
pub mod credit;
pub mod dial_failure;
pub mod pipe;
pub mod pool;
pub mod sever;
pub mod socket;
pub mod ssh;
