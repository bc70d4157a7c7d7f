//! What this program does with its arguments: it runs one job in this process, names checks, or runs jobs side by side.

use crate::boards;
use crate::harness::arguments::{Arguments, EffortName, Shard};
use crate::harness::artefacts::{Artefacts, FULL, USUAL};
use crate::harness::runner::{self, Runner, Settings, Task};
use crate::harness::schedule::{self, Times};
use crate::harness::suite::Suite;
use anyhow::{Context, Result, ensure};
use holdfast_qemu::io_uring;
use holdfast_qemu::processor_time::ProcessorTime;
use holdfast_qemu::settings::{self, Settings as Harness};
use std::ffi::OsString;

/// Registers every check.
pub(crate) type Register = for<'a> fn(&mut Suite<'a>, &'a Artefacts);

/// Seconds that the jobs took when somebody last wrote them down: by these every machine makes the same shards.
const RECORDED_TIMES: &str = include_str!("../../times.json");

/// Runs one job, names checks, or runs them; true when all of them have passed.
pub(crate) fn run(arguments: &Arguments, register: Register) -> Result<bool> {
    let Arguments { images, programs, keys, board, effort, .. } = arguments;
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
    run_tasks(arguments, tasks, &not_run, recorded)
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
