#![no_main]

use tidegate_fuzz as _;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzz::backup_file(bytes));
