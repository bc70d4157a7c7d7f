//! Loop devices: a part of a file as a read-only block device.
//!
//! Source: kernel header `linux/loop.h`.

use crate::PathError;
use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY, LOOP_CONFIGURE, LOOP_CTL_GET_FREE,
    loop_config, loop_info64,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A configured loop device. The kernel frees it when its last opener is gone.
#[derive(Debug)]
pub struct LoopDevice {
    /// Kept open until somebody else (a device-mapper table) has opened it.
    _device: OwnedFd,
    path: PathBuf,
}

impl LoopDevice {
    /// Makes the bytes of `file` from `offset` on readable as a block device of 4096-byte blocks.
    /// Nobody can write through it.
    ///
    /// # Errors
    /// There is no loop device, or the kernel refuses the file.
    pub fn attach(file: BorrowedFd<'_>, offset: u64) -> Result<Self, PathError> {
        let control_path = Path::new("/dev/loop-control");
        let control = open(control_path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| PathError::new("open", control_path, error))?;
        // A free device may be taken by another opener between the two calls: PID 1 is the only
        // one here, so this is a bound, not a race.
        for _ in 0..8 {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the number of the device.
            let number = unsafe { rustix::ioctl::ioctl(&control, GetFree) }
                .map_err(|error| PathError::new("find a free device by", control_path, error))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| PathError::new("open", &path, error))?;
            let config = configuration(file, offset);
            // SAFETY: the opcode reads one `loop_config`, which is what the setter holds.
            let request =
                unsafe { Setter::<{ LOOP_CONFIGURE as Opcode }, loop_config>::new(config) };
            // SAFETY: as above; the descriptor is a loop device.
            let configured = unsafe { rustix::ioctl::ioctl(&device, request) };
            match configured {
                Ok(()) => return Ok(Self { _device: device, path }),
                Err(Errno::BUSY) => {}
                Err(error) => return Err(PathError::new("configure", &path, error)),
            }
        }
        Err(PathError::new("find a free device by", control_path, Errno::BUSY))
    }

    /// Returns its device node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the configuration of a device; what is zero is left to the kernel.
fn configuration(file: BorrowedFd<'_>, offset: u64) -> loop_config {
    // Direct reads keep the same bytes from being cached twice.
    // AUTOCLEAR: nobody has to detach the device, which is free when its last user has closed it.
    let flags = LO_FLAGS_READ_ONLY as u32 | LO_FLAGS_AUTOCLEAR as u32 | LO_FLAGS_DIRECT_IO as u32;
    loop_config {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: 4096,
        info: loop_info64 {
            lo_device: 0,
            lo_inode: 0,
            lo_rdevice: 0,
            lo_offset: offset,
            lo_sizelimit: 0,
            lo_number: 0,
            lo_encrypt_type: 0,
            lo_encrypt_key_size: 0,
            lo_flags: flags,
            lo_file_name: [0; 64],
            lo_crypt_name: [0; 64],
            lo_encrypt_key: [0; 32],
            lo_init: [0; 2],
        },
        __reserved: [0; 8],
    }
}

/// `LOOP_CTL_GET_FREE`: no argument, and the answer is the return value.
struct GetFree;

// SAFETY: the opcode is an argumentless one, so the null pointer is never followed; the output is
// the return value of ioctl(2) alone.
unsafe impl Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE as Opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(output)
    }
}
