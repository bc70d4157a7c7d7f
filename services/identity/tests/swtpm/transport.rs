//! Ways to swtpm: one that counts what is loaded, and that fails, refuses or lies at one command.

use holdfast_identity::tpm::{Cause, Transport};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The TPM, as tests keep it beside the device.
pub(crate) type Shared = Rc<RefCell<Watched>>;

/// What happens at the command of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no response.
    Silence,
    /// The TPM refuses the command, which is not carried out.
    Refusal,
    /// The command is carried out, and the response cut.
    Cut,
    /// The command is carried out, and a byte of the response is another.
    Changed(usize),
}

/// A TPM with what was sent to it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) tpm: holdfast_swtpm::Tpm,
    /// Handles of keys and sessions that were not flushed.
    pub(crate) loaded: BTreeSet<[u8; 4]>,
    /// Commands so far.
    pub(crate) commands: usize,
    pub(crate) fault: Option<(usize, Fault)>,
    /// The device has closed it.
    pub(crate) is_closed: bool,
}

/// The device's end.
#[derive(Debug)]
pub(crate) struct Way(pub(crate) Shared);

pub(crate) fn shared(tpm: holdfast_swtpm::Tpm) -> Shared {
    let loaded = BTreeSet::new();
    Rc::new(RefCell::new(Watched { tpm, loaded, commands: 0, fault: None, is_closed: false }))
}

impl Drop for Way {
    /// As the kernel does it when the device is closed.
    fn drop(&mut self) {
        let mut watched = self.0.borrow_mut();
        watched.is_closed = true;
        for handle in std::mem::take(&mut watched.loaded) {
            let flush = [&[0x80, 0x01, 0, 0, 0, 14, 0, 0, 1, 0x65][..], &handle].concat();
            watched.tpm.send(&flush);
        }
    }
}

impl Transport for Way {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, Cause> {
        let mut watched = self.0.borrow_mut();
        let fault = watched.fault.filter(|(at, _)| *at == watched.commands);
        let fault = fault.map(|(_, fault)| fault);
        watched.commands += 1;
        match fault {
            Some(Fault::Silence) => return Err("it is silent".into()),
            // TPM_RC_MEMORY.
            Some(Fault::Refusal) => return Ok(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 9, 4]),
            _ => {}
        }
        let mut response = watched.tpm.send(command);
        let succeeded = response[6..10] == [0; 4];
        match command[6..10] {
            // CreatePrimary, Load, StartAuthSession.
            [0, 0, 1, 0x31 | 0x57 | 0x76] if succeeded => {
                watched.loaded.insert(response[10..14].try_into().unwrap());
            }
            [0, 0, 1, 0x65] if succeeded => {
                watched.loaded.remove(&command[10..14]);
            }
            _ => {}
        }
        match fault {
            Some(Fault::Cut) => response.truncate(response.len() - 1),
            Some(Fault::Changed(at)) => {
                let at = at % response.len();
                response[at] ^= 0x55;
            }
            _ => {}
        }
        Ok(response)
    }
}
