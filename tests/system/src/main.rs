//! System tests on real images in QEMU.
//!
//! `cargo holdfast test` builds the images and calls this program; it says so when it is started
//! by hand without them. Checks that need the same guest share one boot and are one job; jobs run side
//! by side, each in a process of its own. The output has one line for each check and ends like any
//! test runner's.

mod apps;
mod boards;
mod boot;
mod docs;
mod harness;
mod network;
mod sandbox;
mod update;

use crate::harness::runner::{self, Runner, Settings, Task};
use crate::harness::schedule::{self, Times};
use crate::harness::suite::Suite;
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use holdfast_images::board::Board;
use holdfast_images::boot::BootSigningKey;
use holdfast_images::variant::Signer;
use holdfast_qemu::processor_time::ProcessorTime;
use holdfast_qemu::settings::{self, Settings as Harness};
use holdfast_qemu::{io_uring, relay};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// Where `cargo holdfast test` has put what is tested.
#[derive(Debug, Clone)]
pub(crate) struct Artefacts {
    /// Images by their manifests' names.
    pub(crate) images: PathBuf,
    /// Stripped programs of the test apps.
    pub(crate) programs: PathBuf,
    /// The keys of this checkout, by which the images' boot loaders verify.
    pub(crate) keys: PathBuf,
    pub(crate) effort: Effort,
    /// The board that all images are for.
    pub(crate) board: String,
}

/// How much is tried of what could be tried for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Cuts of power that are judged.
    pub(crate) cuts: usize,
    /// Cuts of power that are booted.
    pub(crate) booted_cuts: usize,
    /// Boot states that the boot loader's script starts from.
    pub(crate) boot_states: usize,
    /// Boots with flipped bytes, for each partition.
    pub(crate) flips: usize,
    /// Cuts of an update after which the file systems are read back.
    pub(crate) updates_read_back: usize,
    /// Cuts of an update that are booted.
    pub(crate) updates_booted: usize,
    /// Seconds of guest time under all attacks at once.
    pub(crate) crowd_seconds: f64,
}

const USUAL: Effort = Effort {
    cuts: 2_000,
    booted_cuts: 6,
    boot_states: 18,
    flips: 1,
    updates_read_back: 24,
    updates_booted: 4,
    crowd_seconds: 12.0,
};
const FULL: Effort = Effort {
    cuts: 10_000,
    booted_cuts: 50,
    boot_states: 128,
    flips: 8,
    updates_read_back: 1_000,
    updates_booted: 50,
    crowd_seconds: 600.0,
};

impl Artefacts {
    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.img"))
    }

    /// The boot loader's key of that name.
    pub(crate) fn boot_key(&self, name: &str) -> Result<BootSigningKey> {
        Ok(BootSigningKey::load(&self.keys.join(format!("boot-{name}.pem")))?)
    }

    /// The board of all images.
    pub(crate) fn board(&self) -> Result<Board> {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/boards");
        Ok(Board::load(&boards, &self.board, &boards)?)
    }

    /// Who signs variants of the images.
    pub(crate) fn signer(&self) -> Result<Signer> {
        Ok(Signer { board: self.board()?, key: self.boot_key("current")? })
    }
}

/// The host tool beside this program.
pub(crate) fn host_tool() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("holdfast");
    ensure!(path.is_file(), "{} is missing; run `cargo holdfast test`", path.display());
    Ok(path)
}

/// Checks on real images. `cargo holdfast test` builds the images and calls this.
#[derive(Debug, Parser)]
#[command(after_help = "Example: cargo holdfast test the_image_boots")]
struct Arguments {
    /// Directory of the images.
    #[arg(long)]
    images: PathBuf,
    /// Directory of the test apps' programs.
    #[arg(long)]
    programs: PathBuf,
    /// Directory of the checkout's development keys.
    #[arg(long)]
    keys: PathBuf,
    /// The board that the images are for.
    #[arg(long)]
    board: String,
    /// `usual`, or `full` for every count that the project names.
    #[arg(long)]
    effort: EffortName,
    /// Jobs that run side by side.
    #[arg(long, default_value_t = NonZero::<usize>::MIN)]
    jobs: NonZero<usize>,
    /// Run one of several parts of the checks, such as 1/4.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
    /// Print the names of the checks, and run none.
    #[arg(long)]
    list: bool,
    /// Write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Where the seconds of each job are kept from one run to the next.
    #[arg(long, value_name = "FILE")]
    times: Option<PathBuf>,
    /// Run the checks of this job in this process; the names that follow are whole.
    #[arg(long, hide = true, requires = "report")]
    job: Option<String>,
    #[arg(long, hide = true)]
    report: Option<PathBuf>,
    #[arg(long, hide = true)]
    consoles: Option<PathBuf>,
    #[arg(long, hide = true)]
    io_uring: bool,
    /// Parts of the names of the checks to run; all where none is given.
    filters: Vec<String>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EffortName {
    Usual,
    Full,
}

/// One of several parts of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    /// From 0.
    place: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a shard is K/N with K from 1 to N";
        let (place, of) = text.split_once('/').ok_or(FORM)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| FORM);
        let (place, of) = (number(place)?, number(of)?);
        match place.checked_sub(1) {
            Some(place) if place < of => Ok(Self { place, of }),
            _ => Err(FORM),
        }
    }
}

/// Seconds that the jobs took when somebody last wrote them down: by these every machine makes the same shards.
const RECORDED_TIMES: &str = include_str!("../times.json");

fn main() -> ExitCode {
    if let Some(port) = relay::relay_to() {
        return relay::relay(port);
    }
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True when all checks have passed.
fn run(arguments: Arguments) -> Result<bool> {
    let Arguments { images, programs, keys, board, effort, .. } = &arguments;
    let artefacts = Artefacts {
        images: images.clone(),
        programs: programs.clone(),
        keys: keys.clone(),
        effort: if *effort == EffortName::Full { FULL } else { USUAL },
        board: board.clone(),
    };
    let filters = match arguments.job {
        Some(_) => Vec::new(),
        None => arguments.filters.clone(),
    };
    let mut suite = Suite::new(filters, boards::lacking(board));
    register(&mut suite, &artefacts);
    let (jobs, not_run) = suite.into_jobs();
    if let (Some(name), Some(report)) = (&arguments.job, &arguments.report) {
        let patience = runner::patience(arguments.jobs.get());
        let harness = Harness {
            patience,
            consoles: arguments.consoles.clone(),
            io_uring: arguments.io_uring,
        };
        ensure!(settings::set(harness).is_ok(), "the harness was used already");
        let job = jobs.into_iter().find(|job| job.name == *name);
        let job = job.with_context(|| format!("no job is called {name}"))?;
        runner::run_job(job, &arguments.filters, report)?;
        return Ok(true);
    }
    let mut tasks: Vec<Task> = jobs.iter().map(Task::of).collect();
    drop(jobs);
    let recorded: Times = serde_json::from_str(RECORDED_TIMES).context("times.json")?;
    if let Some(Shard { place, of }) = arguments.shard {
        let expected = |task: &Task| (task.name.clone(), schedule::expected(&recorded, &task.name));
        let expected: Vec<_> = tasks.iter().map(expected).collect();
        let ours = schedule::shard(&expected, place, of);
        tasks.retain(|task| ours.contains(&task.name));
    }
    if arguments.list {
        tasks.iter().flat_map(|task| &task.checks).for_each(|check| println!("{check}"));
        return Ok(true);
    }
    run_tasks(&arguments, tasks, &not_run, recorded)
}

fn run_tasks(
    arguments: &Arguments,
    tasks: Vec<Task>,
    not_run: &[(String, &'static str)],
    recorded: Times,
) -> Result<bool> {
    ensure!(
        arguments.images.is_dir() && arguments.programs.is_dir(),
        "there are no images in {}; run `cargo holdfast test`",
        arguments.images.display()
    );
    for (name, what) in not_run {
        println!("not run here: {name} ({what})");
    }
    let mut times = recorded;
    let own = arguments.times.as_ref().and_then(|path| std::fs::read(path).ok());
    // A file of another version is as good as none.
    times.extend(
        own.and_then(|text| serde_json::from_slice::<Times>(&text).ok()).unwrap_or_default(),
    );
    let mut fixed = Vec::new();
    for (name, value) in [
        ("--images", arguments.images.as_os_str()),
        ("--programs", arguments.programs.as_os_str()),
        ("--keys", arguments.keys.as_os_str()),
        ("--board", arguments.board.as_ref()),
        ("--effort", if arguments.effort == EffortName::Full { "full" } else { "usual" }.as_ref()),
    ] {
        fixed.extend([OsString::from(name), value.to_owned()]);
    }
    if io_uring::works() {
        fixed.push("--io-uring".into());
    }
    let slow: u32 = if arguments.board == "qemu-virt" { 1 } else { 3 };
    let much = if arguments.effort == EffortName::Full { 20 } else { 1 };
    let settings = Settings {
        arguments: fixed,
        jobs: arguments.jobs.get(),
        second_try: arguments.effort == EffortName::Usual,
        kept: arguments.images.clone(),
        times,
        slowness: slow.saturating_mul(much),
    };
    let began = ProcessorTime::now();
    let mut runner = Runner::new(&settings)?;
    runner.run(tasks)?;
    let idle = began.and_then(|began| began.idle_percent(ProcessorTime::now()?));
    let (lines, good) = runner.summary.lines(idle);
    if let Some(path) = &arguments.times {
        runner.summary.write_times(path, &settings.times)?;
    }
    if let Some(path) = &arguments.junit {
        runner.summary.write_junit(path)?;
    }
    lines.iter().for_each(|line| println!("{line}"));
    Ok(good)
}

/// Registers every check of this program.
fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    boot::register(suite, artefacts);
    boards::register(suite, artefacts);
    apps::register(suite, artefacts);
    sandbox::register(suite, artefacts);
    network::register(suite, artefacts);
    update::register(suite, artefacts);
    docs::register(suite, artefacts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!("2/4".parse(), Ok(Shard { place: 1, of: 4 }));
        for wrong in ["", "1", "0/4", "5/4", "a/4", "1/0", "-1/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let artefacts = Artefacts {
            images: PathBuf::new(),
            programs: PathBuf::new(),
            keys: PathBuf::new(),
            effort: USUAL,
            board: "qemu-virt".to_owned(),
        };
        let mut suite = Suite::new(Vec::new(), &[]);
        register(&mut suite, &artefacts);
        let (jobs, _) = suite.into_jobs();
        let mut names: Vec<_> = jobs.iter().flat_map(|job| job.checks.clone()).collect();
        let all = names.len();
        assert!(all > 300, "only {all} checks are registered");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
