//! QEMU's debugger socket, for what only hardware could do to a guest: make its kernel hang.
//! Source: GDB's remote serial protocol.

use crate::HarnessError;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Number of the status register in QEMU's ARM targets.
const CPSR: u8 = 25;
const PROGRAM_COUNTER: u8 = 15;
/// Supervisor mode, ARM instructions, all interrupts masked.
const DEAF: u32 = 0x0000_01d3;
/// `b .` in ARM instructions.
const BRANCH_TO_ITSELF: u32 = 0xeaff_fffe;
/// Where the kernel's part of the address space begins.
const KERNEL_SPACE: u32 = 0x8000_0000;
/// Stops until the processor is found in the kernel.
const STOPS: usize = 200;
/// Time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A connection to the debugger.
#[derive(Debug)]
pub(crate) struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    pub(crate) fn connect(path: &Path, patience: u32) -> Result<Self, HarnessError> {
        let stream = UnixStream::connect(path).map_err(failed)?;
        let within = ANSWER_WITHIN.saturating_mul(patience);
        stream.set_read_timeout(Some(within)).map_err(failed)?;
        let mut debugger = Self { stream };
        // QEMU gives single registers only to those who have asked what there are.
        debugger.ask("qXfer:features:read:target.xml:0,ff")?;
        Ok(debugger)
    }

    /// Puts the one processor into an endless loop in the kernel that no interrupt leaves.
    pub(crate) fn hang_kernel(mut self) -> Result<(), HarnessError> {
        for _ in 0..STOPS {
            self.stop()?;
            let address = self.register(PROGRAM_COUNTER)? & !3;
            if address >= KERNEL_SPACE {
                let code = hex(BRANCH_TO_ITSELF);
                self.ask(&format!("M{address:x},4:{code}"))?;
                self.ask(&format!("P{CPSR:x}={}", hex(DEAF)))?;
                self.ask(&format!("P{PROGRAM_COUNTER:x}={}", hex(address)))?;
                return self.send("c");
            }
            self.send("c")?;
            std::thread::sleep(Duration::from_millis(3));
        }
        Err(HarnessError::Debugger("the processor was never in the kernel".to_owned()))
    }

    fn stop(&mut self) -> Result<(), HarnessError> {
        self.stream.write_all(b"\x03").map_err(failed)?;
        self.receive().map(drop)
    }

    fn register(&mut self, number: u8) -> Result<u32, HarnessError> {
        let answer = self.ask(&format!("p{number:x}"))?;
        let value = answer.get(..8).and_then(|word| u32::from_str_radix(word, 16).ok());
        value
            .map(u32::swap_bytes)
            .ok_or_else(|| HarnessError::Debugger(format!("register {number}: `{answer}`")))
    }

    fn ask(&mut self, command: &str) -> Result<String, HarnessError> {
        self.send(command)?;
        let answer = self.receive()?;
        if answer.starts_with('E') || answer.is_empty() {
            return Err(HarnessError::Debugger(format!("`{command}` was refused: `{answer}`")));
        }
        Ok(answer)
    }

    fn send(&mut self, command: &str) -> Result<(), HarnessError> {
        let sum = command.bytes().fold(0u8, u8::wrapping_add);
        write!(self.stream, "${command}#{sum:02x}").map_err(failed)
    }

    /// The next packet's contents, acknowledged.
    fn receive(&mut self) -> Result<String, HarnessError> {
        let mut text = String::new();
        let mut begun = false;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(failed)?;
            match byte {
                [b'$'] => begun = true,
                [b'#'] if begun => break,
                [byte] if begun => text.push(char::from(byte)),
                _ => {} // An acknowledgement.
            }
        }
        let mut sum = [0; 2];
        self.stream.read_exact(&mut sum).map_err(failed)?;
        self.stream.write_all(b"+").map_err(failed)?;
        Ok(text)
    }
}

/// A word as the guest has it in memory.
fn hex(word: u32) -> String {
    format!("{:08x}", word.swap_bytes())
}

fn failed(error: std::io::Error) -> HarnessError {
    HarnessError::Debugger(error.to_string())
}
