//! Running the stages of a graph side by side: the urgent ones at once, all others each with a token of the
//! compilers' jobserver.

use super::graph::{Graph, Rank, State};
use super::stage_log::StageLog;
use super::table::STAGES;
use super::test_run::{Counts, StageResult, TestRun};
use anyhow::{Context, Result, anyhow};
use jobserver::{Acquired, Client};
use rustix::process::setpriority_process;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The niceness of stages that have what the others leave idle. A guest on a counted clock works in vain while the thread of
/// this host that it talks to waits for a processor.
const FILLER_NICENESS: i32 = 19;

/// What the run waits for.
enum Event {
    /// A processor is free.
    Token(std::io::Result<Acquired>),
    /// A stage has ended.
    Ended(&'static str, Result<Counts>),
}

/// How far a run has come.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What has ended, in the order of the table.
    pub(super) results: Vec<StageResult>,
    /// What has not, with the time when it began where it has.
    pub(super) unfinished: Vec<(&'static str, Option<Duration>)>,
}

/// Runs all stages, or as many as end before the deadline. Times count from `started` on.
pub(super) fn run(
    test_run: &Arc<TestRun>,
    jobs: &Client,
    mut graph: Graph,
    started: Instant,
    deadline: Option<Instant>,
) -> Result<Outcome> {
    let (sender, events) = mpsc::channel();
    let for_tokens = sender.clone();
    let tokens = jobs
        .clone()
        .into_helper_thread(move |token| {
            // Nobody listens any more when the run has ended.
            let _ = for_tokens.send(Event::Token(token));
        })
        .context("cannot wait for processors")?;
    let mut asked = false;
    let mut begun: Vec<(&'static str, Duration)> = Vec::new();
    let mut results = Vec::new();
    loop {
        while let Some((name, need)) = graph.hopeless() {
            graph.set(name, State::Failed);
            StageLog::new(name).print(format!("FAILED: it needs {need}, which failed"));
            let began = started.elapsed();
            results.push(StageResult { name, counts: Counts::FAILED, began, took: Duration::ZERO });
        }
        if graph.unfinished().is_empty() {
            break;
        }
        while let Some(name) = graph.next_urgent() {
            graph.set(name, State::Running);
            begun.push((name, started.elapsed()));
            start(test_run, name, None, &sender)?;
        }
        if !asked && graph.next().is_some() {
            tokens.request_token();
            asked = true;
        }
        let event = match deadline {
            None => events.recv().map_err(RecvTimeoutError::from),
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Token(token)) => {
                asked = false;
                let token = token.context("cannot wait for processors")?;
                // What was to start may have to wait again; then the token goes back.
                if let Some(name) = graph.next() {
                    graph.set(name, State::Running);
                    begun.push((name, started.elapsed()));
                    start(test_run, name, Some(token), &sender)?;
                }
            }
            Ok(Event::Ended(name, result)) => {
                let counts = result.unwrap_or_else(|error| {
                    StageLog::new(name).print(format!("FAILED: {error:#}"));
                    Counts::FAILED
                });
                graph.set(name, if counts.failed == 0 { State::Passed } else { State::Failed });
                let began = began(&begun, name).unwrap_or_default();
                let took = started.elapsed().saturating_sub(began);
                results.push(StageResult { name, counts, began, took });
            }
            Err(_) => break,
        }
    }
    results.sort_by_key(|result| STAGES.iter().position(|stage| stage.node.name == result.name));
    let unfinished = graph.unfinished();
    let unfinished = unfinished.into_iter().map(|(name, _)| (name, began(&begun, name))).collect();
    Ok(Outcome { results, unfinished })
}

fn began(begun: &[(&'static str, Duration)], name: &str) -> Option<Duration> {
    begun.iter().find(|(begun, _)| *begun == name).map(|(_, at)| *at)
}

/// Starts a stage on a thread of its own, which holds the token, where there is one, for as long as the stage runs.
fn start(
    test_run: &Arc<TestRun>,
    name: &'static str,
    token: Option<Acquired>,
    sender: &Sender<Event>,
) -> Result<()> {
    let stage = STAGES.iter().find(|stage| stage.node.name == name);
    let stage = stage.with_context(|| format!("{name} is no stage"))?;
    let (run, rank) = (stage.run, stage.node.rank);
    let (test_run, sender) = (Arc::clone(test_run), sender.clone());
    println!("== {name}");
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let log = StageLog::new(name);
            if rank == Rank::Filler {
                // Of this thread and of what it starts: setpriority(2), "C library/kernel differences".
                let niceness = setpriority_process(None, FILLER_NICENESS);
                if let Err(error) = niceness {
                    log.print(format!("it runs as fast as the others ({error})"));
                }
            }
            // A stage that panics must not be waited for.
            let result = catch_unwind(AssertUnwindSafe(|| run(&test_run, &log)))
                .unwrap_or_else(|_| Err(anyhow!("it panicked")));
            // Before the token is free, so that what this stage held up is there to be chosen.
            let _ = sender.send(Event::Ended(name, result));
            drop(token);
        })
        .with_context(|| format!("cannot start {name}"))?;
    Ok(())
}
