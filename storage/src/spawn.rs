//! The one place where this crate starts threads: short-lived ones, joined before the call returns.

use std::sync::Mutex;

/// Runs `work` on every item, on up to `threads` threads, and returns the results in order.
///
/// # Panics
/// If `work` does.
pub(crate) fn in_parallel<T, R, F>(threads: usize, items: Vec<T>, work: F) -> Vec<R>
where
    T: Send,
    R: Send,
    F: Fn(T) -> R + Sync,
{
    let count = items.len();
    if threads <= 1 || count <= 1 {
        return items.into_iter().map(work).collect();
    }
    let queue = Mutex::new(items.into_iter().enumerate());
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().expect("no worker panics while it takes an item").next();
                let Some((index, item)) = next else { return done };
                done.push((index, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
