//! How both ends set up SSH: algorithms, windows, timers.
//!
//! russh 0.65.1 leaves to us: a grace for login, caps on connections and channels, and compression off (its `flate2`
//! feature is not built in). What follows was measured with it on loopback and on a slow path.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::Algorithm;
use russh::{Limits, Preferred, SshId, cipher, client, compression, kex, mac};

use super::credit::{LONE, MOST, Terms};

/// The name that an agent of ours asks to forward beside its services; the gateway opens one channel to it and both
/// ends speak [`super::control`] there. No service can have it: `@` is in no DNS label.
pub const CONTROL_NAME: &str = "control@tidegate";

/// Version of the control messages and of credit, given as the port of the control forward. An agent asks for this one
/// first and then, if it is refused, for [`CONTROL_VERSION_FIXED`].
pub const CONTROL_VERSION: u32 = 2;

/// The version before: the same messages, and credit on terms that never change.
pub const CONTROL_VERSION_FIXED: u32 = 1;

/// What streams carry in a tunnel of this version; `None` where this end does not speak it.
pub fn terms(version: u32) -> Option<Terms> {
    match version {
        CONTROL_VERSION => Some(Terms::ADAPTIVE),
        CONTROL_VERSION_FIXED => Some(Terms::FIXED),
        _ => None,
    }
}

/// Bytes of a data message at most. RFC 4253 §6.1 makes every implementation take 32,768.
pub const MAX_PACKET: u32 = 32 * 1024;

/// Window of a channel. Credit is what bounds a stream; the window must never be the limit before it. russh grants more
/// only below half of a window, so at least twice what credit allows in flight is needed. And while keys are renewed,
/// russh ends a connection on which more than two windows arrive: at that moment both kernels' socket buffers (up to 10
/// MiB) and the peer's backlog may be on their way, which two windows cover.
pub const WINDOW: u32 = 34 * 1024 * 1024;
const _: () = assert!(WINDOW >= 2 * MOST * MAX_PACKET + 128 * 1024);

/// Messages that russh queues for a channel before it stops reading the whole connection. [`super::carry`] takes what
/// comes at once where there is credit, so that russh waits for the turn of a task and never for a reader that stopped.
/// It is also what a stream without credit holds at most, beside the pump's own queue.
pub const CHANNEL_QUEUE: usize = 2 * LONE as usize + 32;

/// A keep-alive goes out when nothing was heard for so long. Most NATs forget after 30 s or more.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// Keep-alives that may stay unanswered; when the next one is due the connection is dead, 45 s after it fell silent.
pub const KEEPALIVE_UNANSWERED: usize = 2;

/// Last safety net: a connection whose socket took nothing and gave nothing for so long is over, whatever the
/// keep-alives think. It races russh's flush, which keep-alives can't.
pub const INACTIVITY: Duration = Duration::from_secs(60);

/// What an agent of ours calls itself, for people who look at a connection. The gateway recognises it by the control forward.
const AGENT: &str = concat!("SSH-2.0-TidegateAgent_", env!("CARGO_PKG_VERSION"));

/// Most streams of one tunnel at a time.
pub const MAX_STREAMS: usize = 512;

/// Algorithms, best first: hybrid post-quantum or curve25519 key exchange with strict key exchange (against Terrapin,
/// CVE-2023-48795), authenticated ciphers only, Ed25519 host keys, no compression. AES-GCM stands before
/// ChaCha20-Poly1305 where this processor has AES instructions, which make it twice as fast; without them it is the slower
/// one. The client's order decides in SSH: here, that of the box with the agent, whose
/// processor is the weaker one.
pub fn preferred() -> Preferred {
    const AES_FIRST: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
    const AES_LAST: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_GCM];
    Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(if has_aes_instructions() { AES_FIRST } else { AES_LAST }),
        // AEAD ciphers carry their own; a list that is not empty is needed for the negotiation with stock clients.
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM]),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Whether AES and the multiplication of GCM are instructions here.
fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has =
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// The agent's end of a tunnel.
pub fn agent_config() -> client::Config {
    client::Config {
        client_id: SshId::Standard(AGENT.into()),
        limits: limits(),
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred: preferred(),
        inactivity_timeout: Some(INACTIVITY),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_UNANSWERED,
        nodelay: true,
        ..client::Config::default()
    }
}

/// When keys are renewed: after a GiB in either direction or an hour, russh's own bounds against a repeated nonce.
pub fn limits() -> Limits {
    Limits::default()
}
