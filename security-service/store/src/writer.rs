//! Writers, which commit together what came while they were busy, so that one `fsync` and one statement are for many.
//!
//! SQLite has one writer of everything. A transaction that begins as a reader and writes later fails with "database is locked" whenever
//! another has written meanwhile, whatever the timeout; so there is one writer, and it begins with `BEGIN IMMEDIATE`. PostgreSQL has one
//! of check-ins alone, and each other piece of work has a transaction of its own there.

use crate::check_in_row::{MOST, Row, write_row, write_rows};
use crate::error::StoreError;
use crate::moment::{Moment, Observer};
use crate::step::{Connection, Step};
use sqlx::{AnyPool, Executor};
use std::any::Any;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Time after which no more work is taken into a transaction.
const LONGEST: Duration = Duration::from_millis(5);
/// Most pieces of work that wait; who comes then waits for room.
const QUEUE: usize = 1024;
/// The statement that begins a transaction of several check-ins on PostgreSQL. Whoever holds the row of one of them, such as a change of that device that is under way,
/// holds up the others no longer than this: then each is written alone.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'";

/// What a piece of work returns, whatever it is.
type Done = Box<dyn Any + Send>;
/// A piece of work.
pub(crate) type Work = Box<dyn for<'c> FnOnce(&'c mut Connection) -> Step<'c, Done> + Send>;

enum Job {
    Work { work: Work, reply: oneshot::Sender<Result<Done, StoreError>> },
    CheckIn(CheckIn),
}

struct CheckIn {
    row: Box<Row>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to a writer. It ends when all of them are gone.
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
    /// Starts SQLite's, with a connection of its own.
    pub(crate) fn start(connection: Connection, observer: Observer) -> Self {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(connection, receiver, observer));
        Self { jobs }
    }

    /// Starts PostgreSQL's, of check-ins.
    pub(crate) fn start_of_check_ins(pool: AnyPool, observer: Observer) -> Self {
        let (jobs, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run_check_ins(pool, receiver, observer));
        Self { jobs }
    }

    /// Has work done, and returns once it is committed.
    pub(crate) async fn write(&self, work: Work) -> Result<Done, StoreError> {
        let (reply, done) = oneshot::channel();
        self.jobs.send(Job::Work { work, reply }).await.map_err(|_| StoreError::Stopped)?;
        done.await.map_err(|_| StoreError::Stopped)?
    }

    /// Has the row of a check-in written, and returns once it is committed.
    pub(crate) async fn write_row(&self, row: Row) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        let job = Job::CheckIn(CheckIn { row: Box::new(row), reply });
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
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
        let error = StoreError::Statement(error);
        match first {
            Job::Work { reply, .. } => drop(reply.send(Err(error))),
            Job::CheckIn(CheckIn { reply, .. }) => drop(reply.send(Err(error))),
        }
        return;
    }
    observer.reached(Moment::Begun);
    let began = Instant::now();
    let (mut done, mut check_ins) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Work { work, reply } => done.push((reply, run_one(connection, work).await)),
            Job::CheckIn(check_in) => check_ins.push(check_in),
        }
        let count = done.len().saturating_add(check_ins.len());
        let has_room = count < MOST && began.elapsed() < LONGEST;
        next = if has_room { jobs.try_recv().ok() } else { None };
    }
    let written = run_check_ins_within(connection, &check_ins).await;
    observer.reached(Moment::Written);
    match connection.execute(sqlx::raw_sql("COMMIT")).await {
        Ok(_) => {
            observer.reached(Moment::Committed);
            done.into_iter().for_each(|(reply, done)| drop(reply.send(done)));
            for (check_in, written) in check_ins.into_iter().zip(written) {
                let _ = check_in.reply.send(written);
            }
        }
        Err(error) => {
            let _ = connection.execute(sqlx::raw_sql("ROLLBACK")).await;
            let error = error.to_string();
            for (reply, _) in done {
                let _ = reply.send(Err(StoreError::Commit(error.clone())));
            }
            refuse(check_ins, &error);
        }
    }
}

/// Tells check-ins that they were not committed.
fn refuse(check_ins: Vec<CheckIn>, error: &str) {
    for check_in in check_ins {
        let _ = check_in.reply.send(Err(StoreError::Commit(error.to_owned())));
    }
}

/// Writes the rows of check-ins on SQLite. Where a statement fails, those before it are undone as well, and each row is tried by itself.
async fn run_check_ins_within(
    connection: &mut Connection,
    check_ins: &[CheckIn],
) -> Vec<Result<(), StoreError>> {
    let rows: Vec<&Row> = check_ins.iter().map(|check_in| &*check_in.row).collect();
    if let Ok(written) = write_all_or_none(connection, &rows).await {
        return written.into_iter().map(of_written).collect();
    }
    let mut each = Vec::new();
    for row in rows {
        each.push(write_row(connection, row).await);
    }
    each
}

/// Writes rows so that nothing is written of any where one statement of several fails.
async fn write_all_or_none(
    connection: &mut Connection,
    rows: &[&Row],
) -> Result<Vec<bool>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    begin_savepoint(connection).await?;
    let written = write_rows(connection, rows).await;
    end_savepoint(connection, written.is_ok()).await?;
    written
}

fn of_written(is_written: bool) -> Result<(), StoreError> {
    if is_written { Ok(()) } else { Err(StoreError::Overtaken) }
}

/// Runs one piece of work so that its failure undoes it and nothing else.
async fn run_one(connection: &mut Connection, work: Work) -> Result<Done, StoreError> {
    begin_savepoint(connection).await?;
    let done = work(connection).await;
    end_savepoint(connection, done.is_ok()).await?;
    done
}

/// Begins what [`end_savepoint`] keeps or undoes within a transaction.
async fn begin_savepoint(connection: &mut Connection) -> Result<(), StoreError> {
    connection.execute(sqlx::raw_sql("SAVEPOINT work")).await?;
    Ok(())
}

/// Keeps what was done since [`begin_savepoint`], or undoes it.
async fn end_savepoint(connection: &mut Connection, is_kept: bool) -> Result<(), StoreError> {
    if !is_kept {
        connection.execute(sqlx::raw_sql("ROLLBACK TO work")).await?;
    }
    connection.execute(sqlx::raw_sql("RELEASE work")).await?;
    Ok(())
}

async fn run_check_ins(pool: AnyPool, mut jobs: mpsc::Receiver<Job>, observer: Observer) {
    let mut next = Vec::new();
    while jobs.recv_many(&mut next, MOST).await > 0 {
        let check_ins = next.drain(..).filter_map(|job| match job {
            Job::CheckIn(check_in) => Some(check_in),
            // Nobody sends it here; whoever did is told that the writer has ended.
            Job::Work { .. } => None,
        });
        commit_check_ins(&pool, check_ins.collect(), &observer).await;
    }
}

/// Commits the rows of check-ins on PostgreSQL, where a statement that fails ends the transaction: then each has one of its own.
async fn commit_check_ins(pool: &AnyPool, check_ins: Vec<CheckIn>, observer: &Observer) {
    let written = async {
        let mut transaction = pool.begin_with(BEGIN).await?;
        observer.reached(Moment::Begun);
        let rows: Vec<&Row> = check_ins.iter().map(|check_in| &*check_in.row).collect();
        let written = write_rows(&mut transaction, &rows).await?;
        observer.reached(Moment::Written);
        Ok::<_, StoreError>((transaction, written))
    };
    let (transaction, written) = match written.await {
        Ok(written) => written,
        Err(_) => {
            for CheckIn { row, reply } in check_ins {
                let (pool, observer) = (pool.clone(), observer.clone());
                tokio::spawn(async move {
                    let _ = reply.send(commit_alone(&pool, *row, &observer).await);
                });
            }
            return;
        }
    };
    match transaction.commit().await {
        Ok(()) => {
            observer.reached(Moment::Committed);
            for (check_in, written) in check_ins.into_iter().zip(written) {
                let _ = check_in.reply.send(of_written(written));
            }
        }
        Err(error) => refuse(check_ins, &error.to_string()),
    }
}

async fn commit_alone(pool: &AnyPool, row: Row, observer: &Observer) -> Result<(), StoreError> {
    in_transaction(pool, observer, move |connection| {
        Box::pin(async move { write_row(connection, &row).await })
    })
    .await
}

/// Runs work in a transaction of its own on PostgreSQL.
pub(crate) async fn in_transaction<T, F>(
    pool: &AnyPool,
    observer: &Observer,
    work: F,
) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut Connection) -> Step<'c, T>,
{
    let mut transaction = pool.begin().await?;
    observer.reached(Moment::Begun);
    let done = work(&mut transaction).await?;
    observer.reached(Moment::Written);
    transaction.commit().await.map_err(|error| StoreError::Commit(error.to_string()))?;
    observer.reached(Moment::Committed);
    Ok(done)
}
