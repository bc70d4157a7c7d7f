//! The agent's connections: to init, and to `uplink` or a card.

use crate::card::Card;
use crate::device::{Slots, Source};
use crate::install_error::InstallError;
use crate::uplink::{self, Fetched, UplinkError};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::direct::Direct;
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_linux::poll::Poll;
use holdfast_release::fetch::Fetch;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::wire::{Reply, SlotPart, UpdateRequest};
use std::io;
use std::os::fd::OwnedFd;

/// Time in which `uplink` must connect again, in milliseconds.
const UPLINK_WITHIN_MS: u64 = 30_000;
/// Pause before a download is resumed, in milliseconds.
const RESUME_AFTER_MS: u64 = 2_000;

/// Errors of waiting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("cannot wait")]
    Wait(#[source] io::Error),
}

/// The sockets to init and to `uplink`, and the card that is checked.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) init: InitSocket<UpdateRequest>,
    pub(crate) uplink: Option<OwnedFd>,
    /// The card that files are read from instead of a server, while it is checked.
    pub(crate) card: Option<Card>,
    /// Bytes that came for the release that is taken.
    pub(crate) fetched_bytes: u64,
}

impl Connection {
    pub(crate) fn new(init: InitSocket<UpdateRequest>) -> Self {
        Self { init, uplink: None, card: None, fetched_bytes: 0 }
    }

    /// Waits until a time of the monotonic clock in milliseconds, or until `uplink` connects.
    pub(crate) fn wait_until(&mut self, until: u64) -> Result<(), WaitError> {
        let had_uplink = self.uplink.is_some();
        loop {
            self.accept_uplink()?;
            let left = until.saturating_sub(monotonic_ms());
            if left == 0 || (!had_uplink && self.uplink.is_some()) {
                return Ok(());
            }
            let mut poll = Poll::new();
            self.init.add_to(&mut poll);
            poll.wait(left).map_err(WaitError::Wait)?;
        }
    }

    /// Accepts the newest socket to `uplink` that init has handed over.
    pub(crate) fn accept_uplink(&mut self) -> Result<(), InitError> {
        for (reply, socket) in self.init.unasked()? {
            if reply == Reply::Uplink {
                self.uplink = Some(socket);
            }
        }
        Ok(())
    }
}

impl Source for Connection {
    /// Fetches from the card that is checked, or over the socket; a socket that is spent is closed.
    fn fetch<E: From<UplinkError>>(
        &mut self,
        fetch: &Fetch,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let fetched_bytes = &mut self.fetched_bytes;
        let take = |piece: &[u8]| {
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            *fetched_bytes = fetched_bytes.saturating_add(bytes);
            take(piece)
        };
        if let Some(card) = &self.card {
            return card.fetch(fetch, take);
        }
        let socket = self.uplink.as_ref().ok_or(UplinkError::Nobody)?;
        let mut spent = false;
        let fetched = uplink::fetch(socket, fetch, take, &mut spent);
        if spent {
            self.uplink = None;
        }
        fetched
    }

    fn is_remote(&self) -> bool {
        self.card.is_none()
    }

    /// Pauses before a download is resumed, and waits for `uplink` where it is not connected.
    fn wait(&mut self) -> Result<(), InstallError> {
        let wait = if self.uplink.is_some() { RESUME_AFTER_MS } else { UPLINK_WITHIN_MS };
        match self.wait_until(monotonic_ms().saturating_add(wait)) {
            Ok(()) => Ok(()),
            Err(WaitError::Init(error)) => Err(error.into()),
            Err(WaitError::Wait(_)) => Err(UplinkError::Nobody.into()),
        }
    }
}

impl Slots for Connection {
    fn running_part(&mut self, part: SlotPart) -> Result<Direct, InstallError> {
        let descriptor = self.init.tell(UpdateRequest::RunningSlot(part))?;
        Ok(Direct::from_descriptor(descriptor.ok_or(InstallError::NoHash)?, part.name()))
    }

    fn announce(&mut self) -> Result<(), InstallError> {
        self.init.tell(UpdateRequest::Announce)?;
        Ok(())
    }

    fn other_part(&mut self, part: SlotPart) -> Result<Option<Direct>, InstallError> {
        let descriptor = self.init.tell(UpdateRequest::OtherSlot(part))?;
        Ok(descriptor.map(|descriptor| Direct::from_descriptor(descriptor, part.name())))
    }

    fn stage(&mut self, subject: ReleaseSubject) -> Result<(), InstallError> {
        self.init.tell(match subject {
            ReleaseSubject::Os => UpdateRequest::Stage,
            ReleaseSubject::App(id) => UpdateRequest::StageApp(id),
        })?;
        Ok(())
    }
}
