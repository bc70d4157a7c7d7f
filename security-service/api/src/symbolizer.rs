//! Names of functions at addresses of programs: asked of the table that has them, or of a worker that reads the program's symbols.
//!
//! Symbols are files that others have made, in a language in which much can be said. The service never reads them itself: it opens the
//! file and hands it to a [`Worker`], a process that can do nothing but compute, and believes of its answer no more than its bounds.

use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::symbols::{BuildId, Frames};
use holdfast_service_store::blobs::{BlobError, Blobs};
use holdfast_service_store::{Scope, Store, StoreError};
use holdfast_service_symbols::answer::{self, AnswerError, MAX_ADDRESSES, MAX_ANSWER_BYTES};
use holdfast_service_symbols::program::{Named, ProgramError};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// Most addresses that are asked about at once.
pub const MAX_ASKED: usize = 256;
/// Programs whose symbols are taken at once; who comes beyond them is told to come later.
const UPLOADS: usize = 2;
/// Longest wait for another's worker.
const TURN: Duration = Duration::from_secs(30);
/// Seconds for which a program is left alone whose symbols a worker could not read.
const AGAIN_S: u64 = 600;
/// Most programs that are remembered for that.
const MOST_FAILED: usize = 64;
/// The signal by which the kernel ends a process for a system call that it must not make (`SIGSYS`).
const FORBIDDEN: i32 = 31;

/// What a worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Its memory, in MiB of addresses.
    pub memory_mib: u64,
    /// Seconds of a processor, and of the time that the service waits for it.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 768, seconds: 20 }
    }
}

/// The program that reads symbols.
#[derive(Debug, Clone)]
pub struct Worker {
    program: PathBuf,
    limits: Limits,
}

/// Errors of a worker.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// It cannot be started.
    #[error("the symbol worker cannot be started")]
    Start(#[source] io::Error),
    /// Its answer cannot be read, or its end not be seen.
    #[error("the symbol worker cannot be heard")]
    Hear(#[source] io::Error),
    /// It was not done in time.
    #[error("the symbol worker was not done within {0} s")]
    TooSlow(u64),
    /// It has said more than an answer has.
    #[error("the symbol worker has said more than {MAX_ANSWER_BYTES} bytes")]
    TooMuch,
    /// It has tried what it must not.
    #[error("the symbol worker was ended for a system call that it must not make")]
    Forbidden,
    /// It was ended by a signal, as where it has used up its memory.
    #[error("the symbol worker was ended by signal {0}")]
    Signal(i32),
    /// It has ended without an answer.
    #[error("the symbol worker has ended with status {0}")]
    Status(i32),
    /// Its answer is none.
    #[error("the symbol worker's answer is none")]
    Answer(#[source] AnswerError),
    /// The file is none of a program with symbols.
    #[error("the file is none of a program with symbols")]
    Program(#[source] ProgramError),
}

impl WorkerError {
    /// True if the file is at fault, or may be, and not this host.
    #[must_use]
    pub fn is_of_the_file(&self) -> bool {
        !matches!(self, Self::Start(_) | Self::Hear(_))
    }
}

impl Worker {
    /// Returns a worker that is this program, `holdfast-service`, whichever version of it lies on the disk by now.
    #[must_use]
    pub fn of_this_program() -> Self {
        Self::new(PathBuf::from("/proc/self/exe"), Limits::default())
    }

    /// Returns a worker that is another program, with other limits.
    #[must_use]
    pub fn new(program: PathBuf, limits: Limits) -> Self {
        Self { program, limits }
    }

    /// The arguments of a job.
    fn arguments(&self, addresses: &[u64]) -> Vec<OsString> {
        let Limits { memory_mib, seconds } = self.limits;
        let words = ["symbol-worker".to_owned(), memory_mib.to_string(), seconds.to_string()];
        let addresses = addresses.iter().map(u64::to_string);
        words.into_iter().chain(addresses).map(OsString::from).collect()
    }

    /// Has a file read, and addresses of it named: at most [`MAX_ADDRESSES`].
    ///
    /// # Errors
    /// See [`WorkerError`]. Whatever it is, the process is gone.
    pub async fn names(&self, file: File, addresses: &[u64]) -> Result<Named, WorkerError> {
        if addresses.len() > MAX_ADDRESSES {
            return Err(WorkerError::Answer(AnswerError::Bound("addresses")));
        }
        let mut command = Command::new(&self.program);
        command.args(self.arguments(addresses)).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::from(file)).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(WorkerError::Start)?;
        let mut said = Vec::new();
        let done = async {
            if let Some(output) = child.stdout.take() {
                let most = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX).saturating_add(1);
                output.take(most).read_to_end(&mut said).await.map_err(WorkerError::Hear)?;
            }
            // One that goes on after it has said too much meets a closed pipe or the deadline.
            child.wait().await.map_err(WorkerError::Hear)
        };
        let ended = tokio::time::timeout(Duration::from_secs(self.limits.seconds), done).await;
        let status = match ended {
            Ok(status) => status?,
            Err(_) => {
                let _ = child.kill().await;
                return Err(WorkerError::TooSlow(self.limits.seconds));
            }
        };
        if said.len() > MAX_ANSWER_BYTES {
            return Err(WorkerError::TooMuch);
        }
        of_status(status)?;
        let read = answer::read(&said, addresses.len()).map_err(WorkerError::Answer)?;
        read.map_err(WorkerError::Program)
    }
}

fn of_status(status: ExitStatus) -> Result<(), WorkerError> {
    match (status.signal(), status.code()) {
        (Some(FORBIDDEN), _) => Err(WorkerError::Forbidden),
        (Some(signal), _) => Err(WorkerError::Signal(signal)),
        (None, Some(0)) => Ok(()),
        (None, code) => Err(WorkerError::Status(code.unwrap_or(-1))),
    }
}

/// Errors of asking for names.
#[derive(Debug, Error)]
pub enum SymbolizerError {
    /// There are no symbols of this program.
    #[error("there are no symbols of this program")]
    NoSymbols,
    /// More addresses are asked about than may be.
    #[error("at most {MAX_ASKED} addresses are taken")]
    TooMany,
    /// Others are served first.
    #[error("too many wait for names")]
    Busy,
    /// A worker could not read the program's symbols a short time ago, and would not now.
    #[error("the symbols of this program could not be read before")]
    FailedBefore,
    /// The worker failed.
    #[error("the symbols of this program cannot be read")]
    Worker(#[source] WorkerError),
    /// The worker has read symbols of another program.
    #[error("the file that is kept is another program's")]
    OtherProgram,
    /// The file of the symbols cannot be opened.
    #[error("the symbols cannot be opened")]
    File(#[from] BlobError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// When a worker could not read the symbols of a program, by catalog and program.
type Failed = Arc<Mutex<BTreeMap<(CatalogId, BuildId), u64>>>;

/// What is asked for names.
#[derive(Debug, Clone)]
pub struct Symbolizer {
    /// The files of symbols.
    pub files: Blobs,
    /// What reads them.
    pub worker: Worker,
    /// Places of those who bring symbols.
    pub uploads: Arc<Semaphore>,
    /// The place of the one who asks for names that nobody has asked for: those who wait for it find his.
    turn: Arc<Semaphore>,
    failed: Failed,
}

impl Symbolizer {
    /// Makes one of a directory of symbols and a worker that reads them.
    #[must_use]
    pub fn new(files: Blobs, worker: Worker) -> Self {
        let (uploads, turn) = (Arc::new(Semaphore::new(UPLOADS)), Arc::new(Semaphore::new(1)));
        Self { files, worker, uploads, turn, failed: Failed::default() }
    }

    /// Names the functions at addresses of a program, as a catalog has its symbols; `None` for an address that lies in none. A
    /// [return address](holdfast_service_domain::symbols::of_return_address) is turned into one of its call first.
    ///
    /// An address that was asked about before costs no worker, and however many ask about one at the same time, one worker reads it.
    ///
    /// # Errors
    /// There are no symbols, or they cannot be read; nothing else is the worse for it.
    pub async fn function_names(
        &self,
        store: &Store,
        scope: Scope,
        build_id: &BuildId,
        addresses: &[u64],
        now: u64,
    ) -> Result<Vec<Option<Frames>>, SymbolizerError> {
        if addresses.len() > MAX_ASKED {
            return Err(SymbolizerError::TooMany);
        }
        let known = store.symbol_names(scope, build_id, addresses).await?;
        if let Some(all) = all_of(addresses, &known) {
            return Ok(all);
        }
        let row = store.symbols_of(scope, build_id).await?;
        let row = row.ok_or(SymbolizerError::NoSymbols)?;
        let turn = tokio::time::timeout(TURN, self.turn.acquire()).await;
        let _turn = turn.map_err(|_| SymbolizerError::Busy)?.map_err(|_| SymbolizerError::Busy)?;
        // Whoever had the turn before may have asked the same.
        let mut known = store.symbol_names(scope, build_id, addresses).await?;
        let of = (scope.catalog(), build_id.clone());
        let mut unknown: Vec<u64> = addresses.to_vec();
        unknown.retain(|address| !known.contains_key(address));
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() && self.has_failed(&of, now) {
            return Err(SymbolizerError::FailedBefore);
        }
        for some in unknown.chunks(MAX_ADDRESSES) {
            let file = self.files.read(&row.digest).await?.ok_or(SymbolizerError::NoSymbols)?;
            let named = self.worker.names(file, some).await.map_err(|error| {
                if error.is_of_the_file() {
                    self.remember(of.clone(), now);
                }
                SymbolizerError::Worker(error)
            })?;
            if named.build_id != *build_id {
                return Err(SymbolizerError::OtherProgram);
            }
            let names: Vec<_> = some.iter().copied().zip(named.frames).collect();
            known.extend(names.iter().cloned());
            store.keep_symbol_names(scope, build_id.clone(), names).await?;
        }
        Ok(all_of(addresses, &known).unwrap_or_default())
    }

    fn has_failed(&self, of: &(CatalogId, BuildId), now: u64) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, at| now < at.saturating_add(AGAIN_S));
        failed.contains_key(of)
    }

    fn remember(&self, of: (CatalogId, BuildId), now: u64) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MOST_FAILED {
            failed.pop_first();
        }
        failed.insert(of, now);
    }
}

/// The names of all addresses, if those of all are known.
fn all_of(addresses: &[u64], known: &BTreeMap<u64, Option<Frames>>) -> Option<Vec<Option<Frames>>> {
    addresses.iter().map(|address| known.get(address).cloned()).collect()
}
