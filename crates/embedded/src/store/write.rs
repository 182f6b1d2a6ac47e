//! The one thread that writes, and shares a flush among the writes that wait for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use redb::{Database, Durability, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::StoreError;

/// Writes waiting for the thread; more make their callers wait.
const QUEUE: usize = 256;
/// Writes that share one transaction: bounds how long the first of them waits.
const BATCH: usize = 64;

/// Runs within the transaction; returns what answers the caller once the commit is known.
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Reply, StoreError> + Send>;
type Reply = Box<dyn FnOnce() + Send>;

/// The way to the writing thread, which ends when the last clone of this is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    ended: watch::Receiver<()>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>) -> Self {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let (running, ended) = watch::channel(());
        thread::spawn(move || {
            let mut batch = Vec::with_capacity(BATCH);
            while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
                match run(&database, batch.drain(..)) {
                    Ok(replies) => replies.into_iter().for_each(|reply| reply()),
                    // Dropping the replies tells their callers.
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "transaction given up");
                    }
                }
            }
            // In this order: whoever waits for the end may open the database again.
            drop(database);
            drop(running);
        });
        Self { queue, ended }
    }

    /// Returns what waits until the thread has ended.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
    }

    pub(super) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |txn| {
            let value = job(txn)?;
            // The caller may have gone; what it asked for is on disk all the same.
            Ok(Box::new(move || drop(answer.send(value))))
        });
        self.queue.send(job).await.map_err(|_| StoreError::GivenUp)?;
        answered.await.map_err(|_| StoreError::GivenUp)
    }
}

fn run(database: &Database, jobs: impl Iterator<Item = Job>) -> Result<Vec<Reply>, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    let mut replies = Vec::new();
    for job in jobs {
        // A panic must not end the thread: every later write would wait for nobody.
        let reply = catch_unwind(AssertUnwindSafe(|| job(&txn))).unwrap_or(Err(StoreError::GivenUp))?;
        replies.push(reply);
    }
    txn.commit()?;
    Ok(replies)
}
