//! Consoles in files, for whoever looks at guests of another process.

use crate::HarnessError;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many guests of this process have files.
static GUESTS: AtomicU32 = AtomicU32::new(0);

/// What sees a console while it is collected.
pub(crate) type Mirror = Box<dyn Write + Send>;

/// The files of one guest.
pub(crate) struct ConsoleLog {
    /// For what the guest prints.
    pub(crate) console: Mirror,
    /// For what QEMU complains about; there is no file until it does.
    pub(crate) complaints: Mirror,
}

impl ConsoleLog {
    /// Files for the next guest, which runs `image`.
    ///
    /// # Errors
    /// The directory or the file cannot be made.
    pub(crate) fn create(directory: &Path, image: &Path) -> Result<Self, HarnessError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| HarnessError::File { operation, path, source }
        };
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        let number = GUESTS.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let name = image.file_stem().map_or("guest".into(), OsStr::to_string_lossy);
        let file = |suffix| directory.join(format!("{number:02}-{name}.{suffix}"));
        let path = file("log");
        let console = File::create(&path).map_err(failed("create", &path))?;
        let complaints = FileOnDemand { path: file("stderr.log"), file: None };
        Ok(Self { console: Box::new(console), complaints: Box::new(complaints) })
    }
}

/// A file that is created when something is written.
#[derive(Debug)]
struct FileOnDemand {
    path: PathBuf,
    file: Option<File>,
}

impl Write for FileOnDemand {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::create(&self.path)?,
        };
        self.file.insert(file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;
    use regex::Regex;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// The files of the directory whose names end like that.
    fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().ends_with(end)).collect()
    }

    #[test]
    fn a_console_is_in_its_file_while_the_guest_runs() {
        let directory = tempfile::tempdir().unwrap();
        let consoles = directory.path().join("consoles");
        let image = Path::new("/images/hello.img");
        let log = ConsoleLog::create(&consoles, image).unwrap();
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (mut qemu, stderr) = UnixStream::pair().unwrap();
        let within = Duration::from_secs(10);
        let console = Console::collect(host, Some(log.console));
        let complaints = Console::collect(stderr, Some(log.complaints));

        guest.write_all(b"init: started\n").unwrap();
        console.wait_from(0, &Regex::new("started").unwrap(), within).unwrap();
        let written = files(&consoles, "-hello.log");
        assert_eq!(written.len(), 1, "{written:?}");
        assert_eq!(fs::read(&written[0]).unwrap(), b"init: started\n");
        assert!(files(&consoles, "stderr.log").is_empty(), "QEMU has not complained");

        qemu.write_all(b"no such device\n").unwrap();
        complaints.wait_from(0, &Regex::new("device").unwrap(), within).unwrap();
        let complained = files(&consoles, "-hello.stderr.log");
        assert_eq!(complained.len(), 1, "{complained:?}");
        assert_eq!(fs::read(&complained[0]).unwrap(), b"no such device\n");

        drop(ConsoleLog::create(&consoles, image).unwrap());
        assert_eq!(files(&consoles, "-hello.log").len(), 2, "the next guest has its own");
    }
}
