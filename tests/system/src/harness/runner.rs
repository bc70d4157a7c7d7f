//! Runs jobs side by side, each in a process of its own, and tells what became of their checks.
//!
//! A job is this program once more, with `--job`: what it writes into its report file are the outcomes of its
//! checks. A job that does not end in time is killed with its guests, and the others go on.

use crate::harness::schedule::{self, Claim, Times, Took, Turn};
use crate::harness::suite::{Job, Needs, Outcome};
use crate::harness::summary::{Judged, Summary, Verdict};
use crate::harness::tokens::{Token, Tokens};
use anyhow::{Context, Result};
use holdfast_qemu::process_tree::kill_descendants;
use holdfast_qemu::processor_time;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often running jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a console that are shown for a job that was killed.
const TAIL_LINES: usize = 30;
/// More failures than this are no accident, and are not tried again.
const MOST_SECOND_TRIES: usize = 12;

/// What a run does.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Arguments of this program by which a job finds the images.
    pub(crate) arguments: Vec<OsString>,
    /// Jobs side by side, at the most.
    pub(crate) jobs: usize,
    /// True when what fails is run once more alone.
    pub(crate) second_try: bool,
    /// Where the consoles of what failed are kept.
    pub(crate) kept: PathBuf,
    /// Seconds of earlier runs.
    pub(crate) times: Times,
    /// How many times longer than on the usual board, at the usual effort, a job may take.
    pub(crate) slowness: u32,
}

/// A job that is to run, without what it does: that is known to its process.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) checks: Vec<String>,
    pub(crate) needs: Needs,
    pub(crate) deadline: Duration,
}

impl Task {
    pub(crate) fn of(job: &Job<'_>) -> Self {
        let Job { name, checks, needs, deadline, .. } = job;
        let (name, checks) = (name.clone(), checks.clone());
        Self { name, checks, needs: *needs, deadline: *deadline }
    }
}

/// A line of a job's report file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// What became of a check.
    Check(Told),
    /// Of all processors, what the job and its guests used, in seconds; the last line.
    ProcessorSeconds(f64),
}

/// What a job tells of a check.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    check: String,
    seconds: f64,
    /// Why it has failed.
    error: Option<String>,
    not_made: bool,
}

/// Runs a job in this process, and writes the outcomes of its checks into `report`.
pub(crate) fn run_job(job: Job<'_>, checks: &[String], report: &Path) -> Result<()> {
    let mut file =
        File::create(report).with_context(|| format!("cannot create {}", report.display()))?;
    let mut write = |line: &Line| {
        let text = serde_json::to_string(line).map_err(std::io::Error::from);
        text.and_then(|text| writeln!(file, "{text}"))
    };
    let mut written = Ok(());
    job.run(checks, &mut |outcome| {
        let Outcome { check, took, result, not_made } = outcome;
        let error = result.err().map(|error| format!("{error:#}"));
        let told = Told { check, seconds: took.as_secs_f64(), error, not_made };
        if let Err(error) = write(&Line::Check(told)) {
            written = Err(error);
        }
    });
    let used = processor_time::used();
    let last = used.map_or(Ok(()), |used| write(&Line::ProcessorSeconds(used.as_secs_f64())));
    written.and(last).with_context(|| format!("cannot write {}", report.display()))
}

/// A job whose process runs.
#[derive(Debug)]
struct Running {
    task: Task,
    process: Child,
    started: Instant,
    directory: PathBuf,
    claim: Claim,
    turn: Turn,
    /// Of a processor; given back when the job has ended.
    _token: Option<Token>,
}

impl Drop for Running {
    /// Ends what still runs, with its guests: of a run that is given up in the middle.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.end();
        }
    }
}

impl Running {
    /// Kills the job with all that it has started.
    fn end(&mut self) {
        kill_descendants(self.process.id());
        // It has ended by itself meanwhile.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The run of all jobs.
pub(crate) struct Runner<'s> {
    settings: &'s Settings,
    tokens: Tokens,
    scratch: TempDir,
    /// Jobs started so far, by which their directories are numbered.
    started: usize,
    pub(crate) summary: Summary,
}

impl<'s> Runner<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Result<Self> {
        let flags = std::env::var("MAKEFLAGS").ok();
        Ok(Self {
            settings,
            tokens: Tokens::from_flags(flags.as_deref()),
            scratch: tempfile::tempdir().context("cannot make a directory")?,
            started: 0,
            summary: Summary::default(),
        })
    }

    /// Runs all tasks, and then once more and alone those of which a check has failed.
    pub(crate) fn run(&mut self, mut tasks: Vec<Task>) -> Result<()> {
        let times = &self.settings.times;
        let key = |task: &Task| (task.needs, schedule::expected(times, &task.name));
        tasks.sort_by(|one, other| schedule::before(key(one), key(other)));
        for task in &tasks {
            for kind in ["failed", "flaky"] {
                // What an earlier run has kept is no evidence of this one.
                let _ = fs::remove_dir_all(self.settings.kept.join(kind).join(&task.name));
            }
        }
        let failed = self.side_by_side(tasks)?;
        if !self.settings.second_try || failed.is_empty() {
            return Ok(());
        }
        if failed.len() > MOST_SECOND_TRIES {
            println!("{} jobs have failed, too many to be tried a second time", failed.len());
            return Ok(());
        }
        for task in failed {
            println!("second try, alone: {}", task.checks.join(", "));
            let running = self.start(task, Turn::OnProcessor, None)?;
            self.wait_for(running)?;
        }
        Ok(())
    }

    /// Runs tasks side by side, and returns those with a failed check, with these checks alone.
    fn side_by_side(&mut self, mut waiting: Vec<Task>) -> Result<Vec<Task>> {
        let mut running: Vec<Running> = Vec::new();
        let mut failed = Vec::new();
        while !waiting.is_empty() || !running.is_empty() {
            while let Some((place, turn, token)) = self.next(&waiting, &running) {
                let task = waiting.remove(place);
                running.push(self.start(task, turn, token)?);
            }
            let mut place = 0usize;
            while let Some(one) = running.get_mut(place) {
                match self.look(one)? {
                    None => place = place.saturating_add(1),
                    Some(ended) => {
                        running.remove(place);
                        failed.extend(ended);
                    }
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(failed)
    }

    /// The place of the task that starts now, how it runs, and its token: one for each that runs on a processor.
    fn next(
        &mut self,
        waiting: &[Task],
        running: &[Running],
    ) -> Option<(usize, Turn, Option<Token>)> {
        let times = &self.settings.times;
        let claims: Vec<Claim> =
            waiting.iter().map(|task| Claim::new(times, &task.name, task.needs)).collect();
        let beside: Vec<_> = running.iter().map(|running| (running.claim, running.turn)).collect();
        let (place, turn) = schedule::next(&claims, &beside, self.settings.jobs)?;
        let token = match turn {
            Turn::OnProcessor => Some(self.tokens.try_take()?),
            Turn::Beside => None,
        };
        Some((place, turn, token))
    }

    fn start(&mut self, task: Task, turn: Turn, token: Option<Token>) -> Result<Running> {
        self.started = self.started.saturating_add(1);
        let directory = self.scratch.path().join(self.started.to_string());
        // A socket's path has little room, so that this directory's is short.
        for part in ["t", "consoles"] {
            fs::create_dir_all(directory.join(part)).context("cannot make a directory")?;
        }
        let output = File::create(directory.join("output")).context("cannot create a file")?;
        let complaints = output.try_clone().context("cannot share a file")?;
        let process = Command::new(std::env::current_exe().context("no program")?)
            .args(&self.settings.arguments)
            .args(["--jobs", &self.settings.jobs.to_string(), "--job", &task.name])
            .arg("--report")
            .arg(directory.join("report"))
            .arg("--consoles")
            .arg(directory.join("consoles"))
            .args(&task.checks)
            .env("TMPDIR", directory.join("t"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(complaints)
            .spawn()
            .context("cannot start a job")?;
        let claim = Claim::new(&self.settings.times, &task.name, task.needs);
        let started = Instant::now();
        Ok(Running { task, process, started, directory, claim, turn, _token: token })
    }

    fn wait_for(&mut self, mut running: Running) -> Result<()> {
        while self.look(&mut running)?.is_none() {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Looks whether a job has ended or must be. When it has, its outcomes are told, and the task is returned
    /// with its failed checks, if any.
    fn look(&mut self, running: &mut Running) -> Result<Option<Option<Task>>> {
        let slowness = patience(self.settings.jobs).saturating_mul(self.settings.slowness);
        let most = running.task.deadline.saturating_mul(slowness);
        let took = running.started.elapsed();
        let status = running.process.try_wait().context("cannot wait for a job")?;
        let reason = match status {
            Some(status) => format!("its job ended early ({status})"),
            None if took < most => return Ok(None),
            None => {
                running.end();
                let tail = last_console(&running.directory.join("consoles"));
                format!("its job did not end within {} s; {tail}", most.as_secs())
            }
        };
        let report = fs::read_to_string(running.directory.join("report")).unwrap_or_default();
        let mut lines: Vec<Told> = Vec::new();
        let mut processor = None;
        for line in report.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Check(told) => lines.push(told),
                Line::ProcessorSeconds(seconds) => {
                    processor = Duration::try_from_secs_f64(seconds).ok();
                }
            }
        }
        let output = fs::read(running.directory.join("output")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let missing = running.task.checks.iter().filter(|c| !lines.iter().any(|l| l.check == **c));
        let mut spent: f64 = lines.iter().map(|line| line.seconds).sum();
        let missing: Vec<Told> = missing
            .map(|check| {
                // The time that is nobody else's is the first one's.
                let seconds = (took.as_secs_f64() - spent).max(0.0);
                spent += seconds;
                Told { check: check.clone(), seconds, error: Some(reason.clone()), not_made: true }
            })
            .collect();
        lines.extend(missing);
        // Where all checks were reported, the job may have failed behind the last one.
        let ended_well = status.is_some_and(|status| status.success());
        if let (false, Some(last)) = (ended_well, lines.last_mut()) {
            last.error.get_or_insert(reason);
        }
        let task = self.tell(&running.task, lines, &output);
        if let (None, Some(processor)) = (&task, processor) {
            self.summary.took(&running.task.name, Took::new(took, processor));
        }
        self.keep_consoles(running, task.is_some());
        // It may have left disks there.
        let _ = fs::remove_dir_all(&running.directory);
        Ok(Some(task))
    }

    /// Prints the outcomes of a job and remembers them.
    fn tell(&mut self, task: &Task, lines: Vec<Told>, output: &str) -> Option<Task> {
        let mut failed = Vec::new();
        for Told { check, seconds, error, not_made } in lines {
            let verdict = match &error {
                None => Verdict::Passed,
                Some(_) => Verdict::Failed { shared: not_made.then(|| task.name.clone()) },
            };
            let is_flaky = self.summary.add(Judged {
                check: check.clone(),
                seconds,
                verdict,
                error: error.clone(),
            });
            match error {
                None if is_flaky => println!("test {check} ... ok, flaky ({seconds:.1} s)"),
                None => println!("test {check} ... ok ({seconds:.1} s)"),
                Some(error) => {
                    println!("test {check} ... FAILED ({seconds:.1} s)\n{error}\n");
                    failed.push(check);
                }
            }
        }
        if !output.trim().is_empty() {
            println!("{}", output.trim_end());
        }
        if failed.is_empty() {
            return None;
        }
        Some(Task { checks: failed, ..task.clone() })
    }

    /// Keeps the consoles of a job that has failed, and of one that has failed before.
    fn keep_consoles(&self, running: &Running, has_failed: bool) {
        let name = &running.task.name;
        let of_first = self.settings.kept.join("failed").join(name);
        let flaky = self.settings.kept.join("flaky").join(name);
        let result = match (has_failed, of_first.is_dir()) {
            (true, first_is_there) => {
                let to = if first_is_there { of_first.join("second") } else { of_first };
                copy_files(&running.directory, &to)
            }
            (false, true) => fs::create_dir_all(&flaky)
                .and_then(|()| {
                    let _ = fs::remove_dir_all(flaky.join("first"));
                    fs::rename(&of_first, flaky.join("first"))
                })
                .and_then(|()| copy_files(&running.directory, &flaky.join("second"))),
            (false, false) => Ok(()),
        };
        if let Err(error) = result {
            println!("the consoles of {name} are not kept: {error}");
        } else if has_failed || flaky.is_dir() {
            let place =
                if has_failed { self.settings.kept.join("failed").join(name) } else { flaky };
            println!("its consoles: {}", place.display());
        }
    }
}

/// By how much every wait may be longer than on a machine that does nothing else.
pub(crate) fn patience(jobs: usize) -> u32 {
    u32::try_from(jobs).unwrap_or(u32::MAX).max(1)
}

/// The consoles and the output of a job.
fn copy_files(job: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    fs::copy(job.join("output"), to.join("output"))?;
    for entry in fs::read_dir(job.join("consoles"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The end of the console that was written to last.
fn last_console(consoles: &Path) -> String {
    let entries = fs::read_dir(consoles).into_iter().flatten().flatten();
    let latest = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max();
    let Some((_, path)) = latest else { return "it had started no guest".to_owned() };
    let text = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    let tail = lines.get(skip..).unwrap_or_default().join("\n");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("the console {name} ends with:\n{tail}")
}
