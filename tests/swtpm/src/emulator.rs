//! swtpm as a process of the test's own, at a Unix socket, with its state in a directory that goes with it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/swtpm";
/// An RSA key of the library's own start-up tests takes a while on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

/// A TPM that has been started, `TPM2_Startup(CLEAR)` included.
#[derive(Debug)]
pub struct Tpm {
    directory: TempDir,
    process: Child,
    stream: UnixStream,
}

impl Tpm {
    /// Makes a new TPM.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let (process, stream) = begin(directory.path());
        Self { directory, process, stream }
    }

    /// Takes power from it and gives it back: PCRs are zero then, and keys and sessions gone.
    pub fn reset(&mut self) {
        self.end();
        (self.process, self.stream) = begin(self.directory.path());
    }

    /// Takes its state away and has it write there, by `TPM2_Shutdown`: it goes into failure mode.
    pub fn fail(&mut self) {
        std::fs::remove_dir_all(self.directory.path().join("state")).unwrap();
        self.send(&[0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 0]);
    }

    /// Sends a command and returns the response.
    pub fn send(&mut self, command: &[u8]) -> Vec<u8> {
        self.stream.write_all(command).unwrap();
        let mut response = vec![0; 10];
        self.stream.read_exact(&mut response).unwrap();
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap());
        response.resize(usize::try_from(size).unwrap(), 0);
        self.stream.read_exact(&mut response[10..]).unwrap();
        response
    }

    /// `TPM2_PCR_Extend` of PCR 8 in the bank of SHA-256, as the boot loader does it.
    pub fn extend_pcr_8(&mut self, digest: &[u8; 32]) {
        let authorization = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
        let digests = [&[0, 0, 0, 1, 0, 0x0b][..], digest].concat();
        let body = [&[0, 0, 1, 0x82, 0, 0, 0, 8][..], &authorization, &digests].concat();
        let size = u32::try_from(body.len() + 6).unwrap();
        let answer = self.send(&[&[0x80, 0x02][..], &size.to_be_bytes(), &body].concat());
        assert_eq!(answer[6..10], [0; 4], "PCR 8 is not extended");
    }

    /// `TPM2_NV_DefineSpace` and `TPM2_NV_Write` by the owner, of an index that anybody reads, as makers leave one behind.
    pub fn put_index(&mut self, index: u32, bytes: &[u8]) {
        const OWNER: [u8; 4] = [0x40, 0, 0, 1];
        let authorization = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
        let index = index.to_be_bytes();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        // Written by the owner, read by its own authorization and the owner, without protection against guessing.
        let public = [&index[..], &[0, 0x0b], &[2, 6, 0, 2], &[0, 0], &length].concat();
        let define = [&[0, 0, 1, 0x2a][..], &OWNER, &authorization, &[0, 0, 0, 14], &public];
        let mut commands = vec![define.concat()];
        for (number, piece) in bytes.chunks(512).enumerate() {
            let (size, offset) = (piece.len(), number * 512);
            let [size, offset] = [size, offset].map(|n| u16::try_from(n).unwrap().to_be_bytes());
            let head = [&[0, 0, 1, 0x37][..], &OWNER, &index, &authorization].concat();
            commands.push([&head[..], &size, piece, &offset].concat());
        }
        for command in commands {
            let size = u32::try_from(command.len() + 6).unwrap();
            let answer = self.send(&[&[0x80, 0x02][..], &size.to_be_bytes(), &command].concat());
            assert_eq!(answer[6..10], [0; 4], "the index is not written");
        }
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.end();
    }
}

fn begin(directory: &Path) -> (Child, UnixStream) {
    let socket = directory.join("socket");
    let _ = std::fs::remove_file(&socket);
    let mut process = Command::new(PROGRAM)
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", directory.join("state").display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("swtpm runs (Debian package swtpm)");
    let until = Instant::now() + DEADLINE;
    let stream = loop {
        if let Ok(stream) = UnixStream::connect(&socket) {
            break stream;
        }
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < until, "swtpm does not listen: {ended:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    (process, stream)
}
