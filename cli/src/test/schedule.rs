//! Running the stages of a graph side by side, each with a token of the run's jobserver.

use super::graph::{Graph, State};
use super::stage_log::StageLog;
use super::{Counts, STAGES, StageResult, TestRun};
use anyhow::{Context, Result, anyhow};
use jobserver::{Acquired, Client};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

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
                    start(test_run, name, token, &sender)?;
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

/// Starts a stage on a thread of its own, which holds the token for as long as the stage runs.
fn start(
    test_run: &Arc<TestRun>,
    name: &'static str,
    token: Acquired,
    sender: &Sender<Event>,
) -> Result<()> {
    let stage = STAGES.iter().find(|stage| stage.node.name == name);
    let run = stage.with_context(|| format!("{name} is no stage"))?.run;
    let (test_run, sender) = (Arc::clone(test_run), sender.clone());
    println!("== {name}");
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let log = StageLog::new(name);
            // A stage that panics must not be waited for.
            let result = catch_unwind(AssertUnwindSafe(|| run(&test_run, &log)))
                .unwrap_or_else(|_| Err(anyhow!("it panicked")));
            drop(token);
            let _ = sender.send(Event::Ended(name, result));
        })
        .with_context(|| format!("cannot start {name}"))?;
    Ok(())
}
