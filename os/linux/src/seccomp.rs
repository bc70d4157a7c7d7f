//! Applying seccomp programs that were compiled when the image was built.

use crate::PathError;
use rustix::io::Errno;
use seccompiler::{BpfProgram, sock_filter};
use std::path::Path;

/// The programs of one set of system calls, in the order in which they are applied.
#[derive(Debug, Clone)]
pub struct Filter {
    programs: Vec<BpfProgram>,
}

impl Filter {
    /// Reads the programs at `paths`.
    ///
    /// # Errors
    /// One cannot be read, or is no sequence of whole instructions.
    pub fn load(paths: &[String]) -> Result<Self, PathError> {
        let mut programs = Vec::new();
        for path in paths {
            let path = Path::new(path);
            let bytes = std::fs::read(path).map_err(|error| PathError::new("read", path, error))?;
            let program = decode(&bytes)
                .ok_or_else(|| PathError::new("use the filter", path, Errno::INVAL))?;
            programs.push(program);
        }
        Ok(Self { programs })
    }

    /// Applies them to this process, for good.
    pub(crate) fn apply(&self) -> Result<(), Errno> {
        // A filter stays in force under those that come later, and for each call the kernel asks
        // all of them (seccomp(2)).
        for program in &self.programs {
            seccompiler::apply_filter(program).map_err(|error| match error {
                seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => {
                    Errno::from_io_error(&error).unwrap_or(Errno::IO)
                }
                // Its other errors are about programs that it was to make, and have no number.
                _ => Errno::INVAL,
            })?;
        }
        Ok(())
    }
}

/// `struct sock_filter`s in the byte order of the device.
fn decode(bytes: &[u8]) -> Option<BpfProgram> {
    let (instructions, rest) = bytes.as_chunks::<8>();
    if instructions.is_empty() || !rest.is_empty() {
        return None;
    }
    let decoded = instructions.iter().map(|[c0, c1, jt, jf, k @ ..]| sock_filter {
        code: u16::from_le_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_le_bytes(*k),
    });
    Some(decoded.collect())
}

/// The filters that are applied at one start.
#[derive(Debug, Clone, Copy)]
pub struct Filters<'a> {
    /// To the program.
    pub component: &'a Filter,
    /// To its stub.
    pub stub: &'a Filter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_whole_instructions_and_at_least_one() {
        assert!(decode(&[]).is_none());
        assert!(decode(&[0x20, 0, 0, 0, 4, 0, 0]).is_none());
        let program = decode(&[0x15, 0, 1, 2, 0x28, 0, 0, 0x40]).unwrap();
        let [only] = program.as_slice() else { panic!("{} instructions", program.len()) };
        assert_eq!((only.code, only.jt, only.jf, only.k), (0x15, 1, 2, 0x4000_0028));
    }
}
