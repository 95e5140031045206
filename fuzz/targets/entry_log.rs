//! A data directory whose entry log an input has damaged; see `varve_fuzz::disk`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use varve_fuzz::disk::{Kind, run};

fuzz_target!(|input: &[u8]| run(Kind::Entries, input));
