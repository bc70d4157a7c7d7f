//! Orders to reset are believed when somebody else than the update agent has found them, signed, on a card.
//!
//! For each disk that the system does not run from, a process without privileges gets that disk as its standard
//! input, verifies the metadata on it from the root in the image, and says yes or no. The loop goes on meanwhile, and
//! whoever asks waits for its reply.

use crate::log::Log;
use crate::start_error::StartError;
use crate::starter::{self, Starter, Surroundings};
use holdfast_lifecycle::patience::ORDER_MS;
use holdfast_linux::cgroup::Cgroup;
use holdfast_linux::channel;
use holdfast_linux::{PathError, block};
use holdfast_sandbox::component::Service;
use holdfast_sandbox::policy::admission::{self, AdmissionError};
use holdfast_sandbox::policy::order_plan;
use holdfast_sandbox::reset_order::Order;
use holdfast_types::encoding::EncodingError;
use holdfast_types::event::init as event;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

/// Longest answer that is read: one byte and a reason.
const MAX_ANSWER_BYTES: usize = 4096;

/// A card that confirms no order.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot {0}")]
    Kernel(&'static str, #[source] io::Error),
    #[error("the order cannot be handed over")]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Answer(#[from] AdmissionError),
}

/// A look for one order, on one disk after the other.
#[derive(Debug)]
pub(super) struct Look {
    /// The component that waits for the reply.
    pub(super) asking: usize,
    pub(super) order: Order,
    disks: IntoIter<PathBuf>,
    not_before: u64,
    at: Option<Reading>,
}

/// The state of a look for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The look goes on.
    Goes,
    Confirmed,
    /// No disk has the order.
    Nowhere,
}

/// A process that reads a disk.
#[derive(Debug)]
struct Reading {
    cgroup: Cgroup,
    output: OwnedFd,
    answer: Vec<u8>,
    deadline: u64,
}

impl Look {
    /// A look at every disk that is there now, which begins at a time of the monotonic clock.
    pub(super) fn begin(log: &Log, asking: usize, order: Order, not_before: u64) -> Self {
        let disks = block::other_disks().unwrap_or_else(|error| {
            log.failure(event::CARD_LOOKUP_FAILED, "cannot look for cards", &error);
            Vec::new()
        });
        Self { asking, order, disks: disks.into_iter(), not_before, at: None }
    }

    /// Goes on, without waiting.
    pub(super) fn go_on(
        &mut self,
        log: &Log,
        starter: &Starter,
        admission: Option<&Service>,
        now: u64,
    ) -> Outcome {
        // Each look starts a process for each disk: an agent that was taken over could have init do nothing else.
        if now < self.not_before {
            return Outcome::Goes;
        }
        let Some(admission) = admission else {
            let text = "cannot check an order to reset: this image has no admission";
            log.warning(event::RESET_ORDER_UNCHECKED, text);
            return Outcome::Nowhere;
        };
        if let Some(reading) = &mut self.at {
            let Some(answered) = reading.answered(now) else {
                return Outcome::Goes;
            };
            self.at = None;
            match answered {
                Ok(()) => return Outcome::Confirmed,
                Err(error) => {
                    let what = "a card does not confirm the order to reset";
                    log.failure(event::CARD_CHECK_FAILED, what, &error);
                }
            }
        }
        let Some(disk) = self.disks.next() else {
            return Outcome::Nowhere;
        };
        match Reading::begin(starter, admission, &self.order, &disk, now) {
            Ok(reading) => self.at = Some(reading),
            // The next turn takes the next disk.
            Err(error) => {
                let what = "cannot check a card for the order to reset";
                log.failure(event::CARD_CHECK_FAILED, what, &error);
            }
        }
        Outcome::Goes
    }

    /// Returns the pipe of the process that reads a disk, while there is one.
    pub(super) fn output(&self) -> Option<&OwnedFd> {
        self.at.as_ref().map(|reading| &reading.output)
    }

    /// Returns the time of the monotonic clock at which to go on at the latest, in milliseconds.
    pub(super) fn deadline(&self) -> u64 {
        self.at.as_ref().map_or(self.not_before, |reading| reading.deadline)
    }
}

/// A look that is given up ends what it has started.
impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
    }
}

impl Reading {
    fn begin(
        starter: &Starter,
        admission: &Service,
        order: &Order,
        disk: &Path,
        now: u64,
    ) -> Result<Self, OrderError> {
        // The disk is its standard input and its only descriptor of one: a program that a card takes over reads no other
        // disk, and writes none.
        let disk = block::open_disk(disk)?;
        let plan = order_plan(&admission.plan, order)?;
        let cgroup = starter::limited_group(&admission.name, admission.uid, &plan.limits)?;
        let pipe = channel::output_pipe();
        let (output, theirs) = pipe.map_err(|e| OrderError::Kernel("make a pipe", e))?;
        let surroundings = Surroundings {
            uid: admission.uid,
            network: None,
            cgroup: &cgroup,
            input: Some(disk.as_fd()),
            output: &theirs,
            notify: None,
        };
        if let Err(error) = starter.start_plan(&plan, &surroundings, Vec::new(), |_| None) {
            // Whatever was made of it goes with it.
            let _ = cgroup.kill();
            return Err(error.into());
        }
        let deadline = now.saturating_add(ORDER_MS);
        Ok(Self { cgroup, output, answer: Vec::new(), deadline })
    }

    /// The answer, once there is one. What takes too long, or is too long, is none.
    fn answered(&mut self, now: u64) -> Option<Result<(), OrderError>> {
        let mut buffer = [0u8; MAX_ANSWER_BYTES];
        match channel::read(&self.output, &mut buffer) {
            // Only once the pipe has ended: what came before may be a part of an answer.
            Ok(Some(0)) => {
                return Some(admission::read_confirmed(&self.answer).map_err(OrderError::from));
            }
            Ok(Some(length)) => {
                self.answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(None) => {}
            Err(error) => return Some(Err(OrderError::Kernel("read its answer", error))),
        }
        // The metadata on a card are somebody's who may want to keep init: time and length have their bounds.
        let is_late = now >= self.deadline || self.answer.len() > MAX_ANSWER_BYTES;
        is_late.then_some(Err(OrderError::Answer(AdmissionError::NoAnswer)))
    }
}
