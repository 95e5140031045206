//! Taking records out of what was fetched.

use super::chunk::Reading;
use super::state::{Delivered, State};
use crate::record::ConsumerRecord;
use parking_lot::Mutex;

/// The next record that is here already; `reading` is what was begun. `on_room` is called when there is room to fetch
/// more.
pub(super) fn next(
    reading: &mut Option<Reading>,
    state: &Mutex<State>,
    checks_crcs: bool,
    on_room: impl Fn(),
) -> Option<ConsumerRecord> {
    loop {
        let mut begun = match reading.take() {
            Some(begun) => begun,
            None => {
                let mut state = state.lock();
                if state.is_stopped {
                    return None;
                }
                let begun = state.take_reading(checks_crcs)?;
                drop(state);
                on_room();
                begun
            }
        };
        // Decompression and decoding happen here, outside of the lock.
        match begun.next() {
            Ok(Some(record)) => {
                let mut state = state.lock();
                match state.deliver(&record, begun.token) {
                    Delivered::Yes => {
                        *reading = Some(begun);
                        return Some(record);
                    }
                    Delivered::NotNow => {
                        begun.put_back(record);
                        state.set_aside(begun);
                    }
                    Delivered::Never => {}
                }
            }
            Ok(None) => state.lock().on_read(&begun),
            Err(reason) => {
                state.lock().on_damaged(&begun, reason);
                return None;
            }
        }
    }
}
