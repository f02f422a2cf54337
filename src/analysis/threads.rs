//! Work that threads do at the same time.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

/// Does the same to each of these, in order or, if it takes long, each in a thread. No thread is left behind.
pub fn each<T: Send, R: Send>(
    takes_long: bool,
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let all = all.into_iter();
    if !takes_long {
        return all.map(work).collect();
    }
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = all.map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(joined).collect()
    })
}

/// Does the same to two values, as [`each`].
pub fn both<T: Send, R: Send>(
    takes_long: bool,
    values: [T; 2],
    work: impl Fn(T) -> R + Sync,
) -> [R; 2] {
    let [one, other] = values;
    if !takes_long {
        return [work(one), work(other)];
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| work(other));
        [work(one), joined(other)]
    })
}

/// Waits for a thread.
fn joined<R>(thread: ScopedJoinHandle<'_, R>) -> R {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}
