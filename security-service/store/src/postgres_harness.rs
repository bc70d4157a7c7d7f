//! A PostgreSQL of a test's own, in a directory that goes with it, at a Unix socket: nobody else's is touched.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where Debian has PostgreSQL's programs, by version.
const DIRECTORY: &str = "/usr/lib/postgresql";
/// The user that it runs as where the tests run as root, which PostgreSQL refuses to be: Debian's `nobody`.
const NOBODY: &str = "65534";
/// On a busy host, `initdb` takes a few seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A PostgreSQL that listens.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    process: Child,
    /// What stops it.
    stop: Command,
}

/// A step of its start failed.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// PostgreSQL is not installed.
    #[error("{DIRECTORY} has no version of PostgreSQL: apt-get install postgresql")]
    NotInstalled,
    /// A file or a process failed.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} ended with {status}: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// Its status.
        status: String,
        /// What it said.
        output: String,
    },
    /// It does not answer.
    #[error("PostgreSQL does not answer")]
    Silent,
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> HarnessError {
    move |source| HarnessError::System { what, source }
}

impl Postgres {
    /// Makes a database cluster and starts it.
    ///
    /// # Errors
    /// See [`HarnessError`].
    pub fn start() -> Result<Self, HarnessError> {
        let programs = programs()?;
        let directory = tempfile::tempdir().map_err(failed("make a directory"))?;
        let data = directory.path().join("data");
        let is_root = directory.path().metadata().map_err(failed("read a directory"))?.uid() == 0;
        let run = |program: &str| command(&programs, program, is_root);
        if is_root {
            let open = std::fs::Permissions::from_mode(0o777);
            let opened = std::fs::set_permissions(directory.path(), open);
            opened.map_err(failed("open a directory to the database"))?;
        }
        let mut make = run("initdb");
        make.args([
            "--auth",
            "trust",
            "--username",
            "holdfast",
            "--encoding",
            "UTF8",
            "--no-locale",
        ]);
        let made = make.arg("--no-sync").arg("--pgdata").arg(&data).current_dir("/").output();
        let made = made.map_err(failed("run initdb"))?;
        if !made.status.success() {
            let output = String::from_utf8_lossy(&made.stderr).into_owned();
            let status = made.status.to_string();
            return Err(HarnessError::Program { program: "initdb", status, output });
        }
        let mut start = run("postgres");
        start.arg("-D").arg(&data).arg("-k").arg(directory.path()).current_dir("/");
        start.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = start.spawn().map_err(failed("start postgres"))?;
        let mut stop = run("pg_ctl");
        stop.args(["stop", "--silent", "--mode", "immediate", "--pgdata"]).arg(&data);
        stop.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        let mut postgres = Self { directory, process, stop };
        postgres.wait()?;
        Ok(postgres)
    }

    /// Returns the URL of its one database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://holdfast@localhost/postgres?host={}", self.directory.path().display())
    }

    /// Makes another database of this name and returns its URL.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn database(&self, name: &str) -> Result<String, HarnessError> {
        let mut make = Command::new(programs()?.join("createdb"));
        make.arg("-h").arg(self.directory.path()).args(["-U", "holdfast", name]);
        let made = make.output().map_err(failed("run createdb"))?;
        if !made.status.success() {
            let output = String::from_utf8_lossy(&made.stderr).into_owned();
            let status = made.status.to_string();
            return Err(HarnessError::Program { program: "createdb", status, output });
        }
        Ok(format!("postgres://holdfast@localhost/{name}?host={}", self.directory.path().display()))
    }

    fn wait(&mut self) -> Result<(), HarnessError> {
        let ready = programs()?.join("pg_isready");
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            let mut ask = Command::new(&ready);
            ask.arg("-q").arg("-h").arg(self.directory.path()).args(["-U", "holdfast"]);
            if ask.status().map_err(failed("run pg_isready"))?.success() {
                return Ok(());
            }
            let ended = self.process.try_wait().map_err(failed("wait for postgres"))?;
            if let Some(status) = ended {
                let output = "it ended at once".to_owned();
                let status = status.to_string();
                return Err(HarnessError::Program { program: "postgres", status, output });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(HarnessError::Silent)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A kill would leave its shared memory behind, and children that still write into the directory.
        if !self.stop.status().is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A program of PostgreSQL, as a user that it runs as.
fn command(programs: &Path, program: &str, is_root: bool) -> Command {
    let path = programs.join(program);
    if !is_root {
        return Command::new(path);
    }
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(path);
    command
}

fn programs() -> Result<PathBuf, HarnessError> {
    let versions = Path::new(DIRECTORY).read_dir().map_err(|_| HarnessError::NotInstalled)?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    let mut programs: Vec<PathBuf> = programs.filter(|path| path.join("initdb").exists()).collect();
    programs.sort();
    programs.pop().ok_or(HarnessError::NotInstalled)
}
