//! Three replicas against what they have committed: any messages, crashes and elections in any
//! order; see `varve_replication::model`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| varve_replication::model::run_given(input));
