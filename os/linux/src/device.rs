//! Opening devices for components, without waiting for any.
//!
//! A component may have left its device in a state in which an `open` waits: a serial line without a carrier, for
//! which the kernel waits for ever. Source: `tty_port_block_til_ready` of the kernel, open(2).

use crate::{PathError, terminal};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens a device for reading and writing. It becomes no controlling terminal, and a serial line is put into
/// its [known state](terminal::make_raw). Whoever gets the descriptor waits in `read` as usual.
///
/// # Errors
/// The device is not there, or refuses.
pub fn open_device(path: &Path) -> Result<OwnedFd, PathError> {
    // NOCTTY: the first terminal that a session leader opens would be its controlling one, and send
    // it signals (open(2)). NONBLOCK: the carrier of a line is not waited for.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let failed = |source| PathError::new("open", path, source);
    let device = open(path, flags, Mode::empty()).map_err(failed)?;
    terminal::make_raw(&device, path)?;
    // It was init alone that must not wait. The flag belongs to the open file, which the component
    // gets.
    fcntl_setfl(&device, OFlags::RDWR).map_err(failed)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::fcntl_getfl;
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_device_is_opened_for_reads_that_wait() {
        let null = open_device(Path::new("/dev/null")).unwrap();
        assert!(!fcntl_getfl(&null).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(&null).unwrap().contains(FdFlags::CLOEXEC));
        let error = open_device(Path::new("/dev/no-such-device")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /dev/no-such-device");
    }

    /// A FIFO that nobody writes stands for a line without a carrier: a plain `open` for reading waits.
    #[test]
    fn no_open_waits() {
        let path = std::env::temp_dir().join(format!("holdfast-line-{}", std::process::id()));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let (done, opened) = mpsc::channel();
        let line = path.clone();
        std::thread::spawn(move || done.send(open_device(&line).is_ok()));
        let opened = opened.recv_timeout(Duration::from_secs(10));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(opened, Ok(true));
    }
}
