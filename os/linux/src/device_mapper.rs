//! Device-mapper devices with a verity table: reads are checked against a root hash.
//!
//! Source: kernel header `linux/dm-ioctl.h` and kernel document
//! `admin-guide/device-mapper/verity`. The fixed-width structures are written as bytes.

use crate::PathError;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/mapper/control";
/// `struct dm_ioctl` in bytes.
const HEADER_BYTES: usize = 312;
const HEADER_BYTES_U32: u32 = 312;
/// `struct dm_target_spec` in bytes.
const TARGET_BYTES: usize = 40;
/// Header, one target and its parameters.
const REQUEST_BYTES: usize = 1024;
const REQUEST_BYTES_U32: u32 = 1024;
const SECTORS_PER_BLOCK: u64 = 8;

const READ_ONLY: u32 = 1 << 0;

/// `_IOWR(0xfd, number, struct dm_ioctl)`.
const fn command(number: u32) -> Opcode {
    (0xc138_fd00 | number) as Opcode
}
const DEV_CREATE: Opcode = command(3);
const DEV_REMOVE: Opcode = command(4);
const DEV_SUSPEND: Opcode = command(6);
const TABLE_LOAD: Opcode = command(9);
const TABLE_STATUS: Opcode = command(12);

/// The table of a verity device.
#[derive(Debug, Clone, Copy)]
pub struct VerityTable<'a> {
    /// Block device that holds data blocks of 4096 bytes, and the hash tree behind them.
    pub device: &'a Path,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Hash of the top block of the tree.
    pub root_hash: [u8; 32],
    /// The salt that is hashed before each block.
    pub salt: [u8; 32],
}

/// A verity device. It stays until it is [removed](Self::remove).
#[derive(Debug)]
pub struct VerityDevice {
    control: OwnedFd,
    name: String,
    path: PathBuf,
}

impl VerityDevice {
    /// Makes the device `name`. A read of a block that does not fit its hash fails with EIO.
    ///
    /// # Errors
    /// The kernel refuses a step; then there is no such device.
    pub fn create(name: &str, table: &VerityTable<'_>) -> Result<Self, PathError> {
        let control = open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| PathError::new("open", CONTROL, error))?;
        let fail = |operation| move |error: Errno| PathError::new(operation, CONTROL, error);
        let mut request = Request::new(name, READ_ONLY);
        // The device comes first and is empty: a table is loaded into one that is there.
        request.call(&control, DEV_CREATE).map_err(fail("create a verity device by"))?;
        let path = PathBuf::from(format!("/dev/dm-{}", request.minor()));
        let device = Self { control, name: name.to_owned(), path };
        // Version 1 of the tree; data and hashes are on one device, and the tree begins where the
        // data ends.
        let mut parameters = format!(
            "1 {0} {0} 4096 4096 {1} {1} sha256 ",
            table.device.display(),
            table.data_blocks
        );
        for (bytes, end) in [(table.root_hash, " "), (table.salt, "")] {
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(parameters, "{byte:02x}");
            }
            parameters.push_str(end);
        }
        let sectors = table.data_blocks.saturating_mul(SECTORS_PER_BLOCK);
        let loaded = Request::new(name, READ_ONLY)
            .with_target(sectors, "verity", &parameters)
            .and_then(|mut request| request.call(&device.control, TABLE_LOAD))
            // Without its flag for suspending, this request resumes: the table that was loaded is
            // then in use.
            .and_then(|()| Request::new(name, READ_ONLY).call(&device.control, DEV_SUSPEND));
        if let Err(error) = loaded {
            // What is half made must not stay; the first error is the one to report.
            let _ = device.remove();
            return Err(fail("load a verity table by")(error));
        }
        Ok(device)
    }

    /// Returns its device node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when the kernel has met a block that does not fit its hash.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn is_corrupt(&self) -> Result<bool, PathError> {
        let mut request = Request::new(&self.name, 0);
        request
            .call(&self.control, TABLE_STATUS)
            .map_err(|error| PathError::new("ask for a status by", CONTROL, error))?;
        // The target says `V` until it has met a block that does not fit, and `C` from then on.
        Ok(request.status_text().starts_with(b"C"))
    }

    /// Takes the device away.
    ///
    /// # Errors
    /// The device is in use.
    pub fn remove(&self) -> Result<(), PathError> {
        Request::new(&self.name, 0)
            .call(&self.control, DEV_REMOVE)
            .map_err(|error| PathError::new("remove a verity device by", CONTROL, error))
    }
}

/// One request to device-mapper, and its answer.
struct Request {
    bytes: Box<[u8; REQUEST_BYTES]>,
}

impl Request {
    /// A request about the device `name`, which is cut to the 127 bytes there are.
    fn new(name: &str, flags: u32) -> Self {
        let mut request = Self { bytes: Box::new([0; REQUEST_BYTES]) };
        request.put(0, &4u32.to_ne_bytes()); // version 4.0.0
        request.put(12, &REQUEST_BYTES_U32.to_ne_bytes()); // data_size
        request.put(16, &HEADER_BYTES_U32.to_ne_bytes()); // data_start
        request.put(28, &flags.to_ne_bytes());
        request.put(48, name.as_bytes().get(..127).unwrap_or(name.as_bytes()));
        request
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
            place.copy_from_slice(value);
        }
    }

    fn with_target(mut self, sectors: u64, kind: &str, parameters: &str) -> Result<Self, Errno> {
        let text_at = HEADER_BYTES.saturating_add(TARGET_BYTES);
        // The text ends with a NUL inside the request.
        if text_at.saturating_add(parameters.len()) >= REQUEST_BYTES {
            return Err(Errno::TOOBIG);
        }
        self.put(20, &1u32.to_ne_bytes()); // target_count
        self.put(HEADER_BYTES.saturating_add(8), &sectors.to_ne_bytes());
        self.put(HEADER_BYTES.saturating_add(24), kind.as_bytes());
        self.put(text_at, parameters.as_bytes());
        Ok(self)
    }

    fn call(&mut self, control: &OwnedFd, opcode: Opcode) -> Result<(), Errno> {
        // SAFETY: every device-mapper command reads and writes at most `data_size` bytes at the
        // pointer, which is the length of the buffer that `as_ptr` leads to.
        unsafe { rustix::ioctl::ioctl(control, Call { bytes: &mut self.bytes, opcode }) }
    }

    /// Minor number of the device in an answer (`huge_encode_dev`).
    fn minor(&self) -> u64 {
        let mut dev = [0; 8];
        if let Some(bytes) = self.bytes.get(40..48) {
            dev.copy_from_slice(bytes);
        }
        let dev = u64::from_ne_bytes(dev);
        (dev & 0xff) | ((dev >> 12) & 0xf_ff00)
    }

    /// Returns what the first target says of itself.
    fn status_text(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES.saturating_add(TARGET_BYTES)..).unwrap_or_default()
    }
}

struct Call<'a> {
    bytes: &'a mut [u8; REQUEST_BYTES],
    opcode: Opcode,
}

// SAFETY: the pointer leads to a whole request whose `data_size` is the buffer's length, which is
// as much as a device-mapper command touches; the answer is left in the buffer.
unsafe impl Ioctl for Call<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.bytes.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
