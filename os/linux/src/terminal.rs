//! Serial lines as their readers expect them. Source: termios(3).

use crate::PathError;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    isatty, speed, tcgetattr, tcsetattr,
};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Puts a serial line into the state that it has for every start of a component, whatever the one before has made
/// of it: every byte passes as it is, with no echo, lines or signals; neither carrier nor flow control is waited for;
/// 9600 baud, as the kernel leaves a line that nobody has used. What is no serial line is left alone.
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
    tcsetattr(&device, OptionalActions::Now, &settings).map_err(|error| failed(error.into()))
}

fn reset(settings: &mut Termios) -> io::Result<()> {
    settings.input_modes = InputModes::empty();
    settings.output_modes = OutputModes::empty();
    settings.local_modes = LocalModes::empty();
    settings.control_modes =
        ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL | ControlModes::HUPCL;
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings.set_speed(speed::B9600)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{FromRawFd, OwnedFd};

    /// Both ends of a terminal.
    fn terminal() -> [OwnedFd; 2] {
        let (mut ours, mut theirs) = (-1, -1);
        let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        // SAFETY: two numbers are written; the other pointers may be null.
        let made = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, name, settings, size) };
        assert_eq!(made, 0);
        // SAFETY: the kernel has just made both, and nobody else knows their numbers.
        [ours, theirs].map(|number| unsafe { OwnedFd::from_raw_fd(number) })
    }

    #[test]
    fn whatever_a_component_left_behind_is_gone() {
        let [_ours, line] = terminal();
        let mut left = tcgetattr(&line).unwrap();
        left.control_modes.remove(ControlModes::CLOCAL | ControlModes::CREAD);
        left.control_modes.insert(ControlModes::CRTSCTS);
        left.local_modes.insert(LocalModes::ICANON | LocalModes::ECHO);
        left.input_modes.insert(InputModes::IXON);
        left.special_codes[SpecialCodeIndex::VTIME] = 9;
        left.set_speed(speed::B50).unwrap();
        tcsetattr(&line, OptionalActions::Now, &left).unwrap();
        make_raw(&line, Path::new("line")).unwrap();
        let now = tcgetattr(&line).unwrap();
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
