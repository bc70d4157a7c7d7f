//! GPIO lines. Source: `linux/gpio.h`, the second version of the interface, and the kernel document
//! `userspace-api/gpio/chardev`.

use crate::PathError;
use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Getter, Opcode, Updater, opcode};
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

const NAME_BYTES: usize = 32;
const LINES: usize = 64;

/// `struct gpiochip_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct ChipInfo {
    name: [u8; NAME_BYTES],
    label: [u8; NAME_BYTES],
    lines: u32,
}

/// `struct gpio_v2_line_request`, its configuration as bytes: none of it is used.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
struct LineRequest {
    offsets: [u32; LINES],
    consumer: [u8; NAME_BYTES],
    config: [u8; 272],
    count: u32,
    event_buffer_size: u32,
    padding: [u32; 5],
    descriptor: i32,
}

/// GPIO_GET_CHIPINFO_IOCTL.
const GET_CHIP_INFO: Opcode = opcode::read::<ChipInfo>(0xb4, 1);
/// GPIO_V2_GET_LINE_IOCTL.
const GET_LINE: Opcode = opcode::read_write::<LineRequest>(0xb4, 7);

/// Takes line `line` of the chip that calls itself `label`, as it is: its direction is the user's to set.
/// `consumer` is what the kernel says of who has it. While somebody has it, nobody else gets it.
///
/// # Errors
/// There is no such chip or line, or somebody has it.
pub fn take_line(label: &str, line: u32, consumer: &str) -> Result<OwnedFd, PathError> {
    let directory = Path::new("/dev");
    let entries = fs::read_dir(directory).map_err(|e| PathError::new("list", directory, e))?;
    let is_chip = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gpiochip"))
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(is_chip) {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let chip =
            open(&path, flags, Mode::empty()).map_err(|e| PathError::new("open", &path, e))?;
        // SAFETY: the request writes one `gpiochip_info`, which the getter has room for.
        let info = unsafe { Getter::<{ GET_CHIP_INFO }, ChipInfo>::new() };
        // SAFETY: as above; the descriptor is a GPIO chip, and any other refuses the request.
        let info = unsafe { rustix::ioctl::ioctl(&chip, info) };
        let info = info.map_err(|error| PathError::new("ask", &path, error))?;
        let found = info.label.split(|byte| *byte == 0).next().unwrap_or_default();
        if found != label.as_bytes() {
            continue;
        }
        let mut request = LineRequest {
            offsets: [0; LINES],
            consumer: [0; NAME_BYTES],
            config: [0; 272],
            count: 1,
            event_buffer_size: 0,
            padding: [0; 5],
            descriptor: -1,
        };
        request.offsets[0] = line;
        // The last byte stays zero.
        let room = request.consumer.iter_mut().take(NAME_BYTES.saturating_sub(1));
        room.zip(consumer.bytes()).for_each(|(to, from)| *to = from);
        // SAFETY: the request reads and writes one `gpio_v2_line_request`, which the updater borrows; all
        // of it is initialised.
        let update = unsafe { Updater::<{ GET_LINE }, LineRequest>::new(&mut request) };
        // SAFETY: as above; the descriptor is a GPIO chip.
        unsafe { rustix::ioctl::ioctl(&chip, update) }
            .map_err(|error| PathError::new("take a line of", &path, error))?;
        let descriptor: RawFd = request.descriptor;
        if descriptor < 0 {
            break;
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    Err(PathError::new("find the GPIO chip", label, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        // Which is part of the numbers of the requests: 0x8044b401 and 0xc250b407.
        assert_eq!(size_of::<ChipInfo>(), 0x44);
        assert_eq!(size_of::<LineRequest>(), 0x250);
        assert_eq!(std::mem::offset_of!(LineRequest, config), 288);
        assert_eq!(std::mem::offset_of!(LineRequest, descriptor), 588);
    }

    #[test]
    fn a_chip_that_is_not_there_is_named() {
        let error = take_line("no such pins", 3, "x").unwrap_err();
        assert!(error.to_string().ends_with("no such pins"), "{error}");
    }
}
