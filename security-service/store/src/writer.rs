//! The one writer of SQLite: it commits together what came while it was busy, so that one `fsync` is for many.
//!
//! A transaction that begins as a reader and writes later fails with "database is locked" whenever another has written
//! meanwhile, whatever the timeout; so there is one writer, and it begins with `BEGIN IMMEDIATE`.

use crate::error::StoreError;
use crate::moment::{Moment, Observer};
use crate::step::{Connection, Step};
use sqlx::Executor;
use std::any::Any;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Most pieces of work that are committed together.
const MOST: usize = 128;
/// Time after which no more work is taken into a transaction.
const LONGEST: Duration = Duration::from_millis(5);
/// Most pieces of work that wait; who comes then waits for room.
const QUEUE: usize = 1024;

/// What a piece of work returns, whatever it is.
type Done = Box<dyn Any + Send>;
/// A piece of work.
pub(crate) type Work = Box<dyn for<'c> FnOnce(&'c mut Connection) -> Step<'c, Done> + Send>;

struct Job {
    work: Work,
    reply: oneshot::Sender<Result<Done, StoreError>>,
}

/// The way to the writer. It ends when all of them are gone.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Starts the writer with a connection of its own.
    pub(crate) fn start(connection: Connection, observer: Observer) -> Self {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(connection, receiver, observer));
        Self { jobs }
    }

    /// Has work done, and returns once it is committed.
    pub(crate) async fn write(&self, work: Work) -> Result<Done, StoreError> {
        let (reply, done) = oneshot::channel();
        self.jobs.send(Job { work, reply }).await.map_err(|_| StoreError::Stopped)?;
        done.await.map_err(|_| StoreError::Stopped)?
    }

    /// Waits until all that was sent before is committed.
    pub(crate) async fn end(&self) {
        let _ = self.write(Box::new(|_| Box::pin(async { Ok(Box::new(()) as Done) }))).await;
    }
}

async fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, observer: Observer) {
    while let Some(first) = jobs.recv().await {
        commit_together(&mut connection, first, &mut jobs, &observer).await;
    }
}

async fn commit_together(
    connection: &mut Connection,
    first: Job,
    jobs: &mut mpsc::Receiver<Job>,
    observer: &Observer,
) {
    if let Err(error) = connection.execute(sqlx::raw_sql("BEGIN IMMEDIATE")).await {
        let _ = first.reply.send(Err(StoreError::Statement(error)));
        return;
    }
    observer.reached(Moment::Begun);
    let began = Instant::now();
    let mut done = Vec::new();
    let mut next = Some(first);
    while let Some(Job { work, reply }) = next {
        done.push((reply, run_one(connection, work).await));
        let has_room = done.len() < MOST && began.elapsed() < LONGEST;
        next = if has_room { jobs.try_recv().ok() } else { None };
    }
    observer.reached(Moment::Written);
    match connection.execute(sqlx::raw_sql("COMMIT")).await {
        Ok(_) => {
            observer.reached(Moment::Committed);
            done.into_iter().for_each(|(reply, done)| {
                let _ = reply.send(done);
            });
        }
        Err(error) => {
            let _ = connection.execute(sqlx::raw_sql("ROLLBACK")).await;
            let error = error.to_string();
            for (reply, _) in done {
                let _ = reply.send(Err(StoreError::Commit(error.clone())));
            }
        }
    }
}

/// Runs one piece of work so that its failure undoes it and nothing else.
async fn run_one(connection: &mut Connection, work: Work) -> Result<Done, StoreError> {
    connection.execute(sqlx::raw_sql("SAVEPOINT work")).await?;
    let done = work(connection).await;
    if done.is_err() {
        connection.execute(sqlx::raw_sql("ROLLBACK TO work")).await?;
    }
    connection.execute(sqlx::raw_sql("RELEASE work")).await?;
    done
}
