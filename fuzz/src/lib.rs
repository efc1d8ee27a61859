//! What every program of the fuzzer has besides its target: an allocator with a limit, so that an input that makes a parser
//! take more memory than it may is a finding. The fuzzer's own memory is not Rust's and does not count.

use std::alloc::System;

use cap::Cap;

/// The largest thing that any target takes in is a snapshot that unpacks to 8 MiB of JSON, and then is read and written.
const MOST: usize = 64 * 1024 * 1024;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MOST);
