//! The threads that work on files.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::HardenError;

/// Stack of each thread. It is reserved, not used: a program nested as deep as
/// [`MAX_DEPTH`](crate::js::MAX_DEPTH) needs a part of it, others a few hundred kilobytes.
pub(crate) const STACK_BYTES: usize = 512 << 20;

/// The threads of one build.
pub(crate) struct Workers<'a> {
    pool: rayon::ThreadPool,
    cancelled: &'a AtomicBool,
}

impl<'a> Workers<'a> {
    /// Starts `threads`, or one for each core.
    pub(crate) fn start(threads: Option<usize>, cancelled: &'a AtomicBool) -> Result<Self, HardenError> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or_else(cores))
            .stack_size(STACK_BYTES)
            .thread_name(|index| format!("harden-{index}"))
            .build()
            .map(|pool| Self { pool, cancelled })
            .map_err(|error| HardenError::Threads(error.to_string()))
    }

    /// Does `work` on each item, and returns the results in the items' order, or the first item's error.
    pub(crate) fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R, HardenError> + Sync,
    ) -> Result<Vec<R>, HardenError> {
        let results: Vec<Result<R, HardenError>> = self.pool.install(|| {
            items
                .par_iter()
                .with_max_len(1)
                .map(|item| {
                    if self.cancelled.load(Ordering::Relaxed) {
                        return Err(HardenError::Cancelled);
                    }
                    work(item)
                })
                .collect()
        });
        results.into_iter().collect()
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
