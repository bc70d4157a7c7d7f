//! Serial lines as their readers expect them. Source: termios(3), kernel header `linux/serial.h`.

use crate::PathError;
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    isatty, speed, tcgetattr, tcsetattr,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// `TIOCGSERIAL` and `TIOCSSERIAL` of asm-generic/ioctls.h, which ARM and x86 share.
const GET_SERIAL: Opcode = 0x541e;
const SET_SERIAL: Opcode = 0x541f;
/// `ASYNC_CLOSING_WAIT_NONE`: a close waits for nothing.
const WAIT_FOR_NOTHING: u16 = 65_535;

/// `struct serial_struct`. What is not named here goes back as it came.
#[derive(Clone, Copy)]
#[repr(C)]
struct SerialSettings {
    /// Type, number, port, interrupt, flags, size of the FIFO, divisor and base of the speed.
    hardware: [i32; 8],
    close_delay: u16,
    io_type: [u8; 2],
    hub6: i32,
    closing_wait: u16,
    closing_wait2: u16,
    memory_base: usize,
    register_shift: u16,
    port_high: u32,
    memory_map_base: libc::c_ulong,
}

/// Puts a serial line into the state that it has for every start of a component, whatever the one before has made
/// of it: every byte passes as it is, with no echo, lines or signals; neither carrier nor flow control is waited for;
/// 9600 baud, as the kernel leaves a line that nobody has used. What is no serial line is left alone.
///
/// From then on, what has not been sent when the last user closes it is lost. As the kernel has it, that close waits up
/// to 30 seconds for it to be sent, and so does the next open meanwhile, without regard to `O_NONBLOCK`.
///
/// # Errors
/// The driver refuses.
pub fn make_raw(device: impl AsFd, path: &Path) -> Result<(), PathError> {
    if !isatty(&device) {
        return Ok(());
    }
    let failed = |source: io::Error| PathError::new("make raw", path, source);
    let mut settings = tcgetattr(&device).map_err(|error| failed(error.into()))?;
    reset(&mut settings).map_err(failed)?;
    tcsetattr(&device, OptionalActions::Now, &settings).map_err(|error| failed(error.into()))?;
    drain_at_no_close(device.as_fd()).map_err(|error| failed(error.into()))
}

fn drain_at_no_close(line: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the request writes one `struct serial_struct`, which is what the getter holds.
    let get = unsafe { Getter::<GET_SERIAL, SerialSettings>::new() };
    // SAFETY: as above; a descriptor of another kind refuses the request.
    let found = match unsafe { rustix::ioctl::ioctl(line, get) } {
        // It is no line of a serial port, and has nothing to drain.
        Err(Errno::NOTTY) => return Ok(()),
        found => found?,
    };
    let settings = SerialSettings { closing_wait: WAIT_FOR_NOTHING, ..found };
    // SAFETY: the request reads one `struct serial_struct`, which is what the setter holds.
    let set = unsafe { Setter::<SET_SERIAL, _>::new(settings) };
    // SAFETY: as above; the descriptor has just answered the request that reads the same.
    unsafe { rustix::ioctl::ioctl(line, set) }
}

fn reset(settings: &mut Termios) -> io::Result<()> {
    settings.input_modes = InputModes::empty();
    settings.output_modes = OutputModes::empty();
    settings.local_modes = LocalModes::empty();
    // As a serial line is before its first use (`uart_register_driver` of the kernel).
    settings.control_modes =
        ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL | ControlModes::HUPCL;
    // A read waits for one byte and returns all that there are (termios(3)); an open leaves what an
    // earlier user has set.
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings.set_speed(speed::B9600)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;

    #[test]
    fn settings_have_the_kernels_size() {
        // 32 bytes of hardware, 4 of close_delay and io_type, 8 up to closing_wait2, then by the width of a pointer.
        let expected = if size_of::<usize>() == 8 { 72 } else { 60 };
        assert_eq!(size_of::<SerialSettings>(), expected);
        assert_eq!(std::mem::offset_of!(SerialSettings, closing_wait), 40);
    }

    #[test]
    fn whatever_a_component_left_behind_is_gone() {
        let terminal = openpty(None, None).unwrap();
        let line = &terminal.slave;
        let mut left = tcgetattr(line).unwrap();
        left.control_modes.remove(ControlModes::CLOCAL | ControlModes::CREAD);
        left.control_modes.insert(ControlModes::CRTSCTS);
        left.local_modes.insert(LocalModes::ICANON | LocalModes::ECHO);
        left.input_modes.insert(InputModes::IXON);
        left.special_codes[SpecialCodeIndex::VTIME] = 9;
        left.set_speed(speed::B50).unwrap();
        tcsetattr(line, OptionalActions::Now, &left).unwrap();
        make_raw(line, Path::new("line")).unwrap();
        let now = tcgetattr(line).unwrap();
        assert!(now.control_modes.contains(ControlModes::CLOCAL | ControlModes::CREAD));
        assert!(!now.control_modes.contains(ControlModes::CRTSCTS));
        assert_eq!((now.input_modes, now.local_modes), (InputModes::empty(), LocalModes::empty()));
        assert_eq!(now.output_modes, OutputModes::empty());
        assert_eq!((now.input_speed(), now.output_speed()), (speed::B9600, speed::B9600));
        assert_eq!(now.special_codes[SpecialCodeIndex::VTIME], 0);
    }

    #[test]
    fn what_is_no_serial_line_is_left_alone() {
        let null = std::fs::File::open("/dev/null").unwrap();
        make_raw(&null, Path::new("/dev/null")).unwrap();
    }
}
