//! What a run says at its end.

use super::fuzz;
use super::schedule::Outcome;
use super::table::{STAGES, Stage};
use super::test_run::{
    BUILDROOT, BUILDROOT_TREE, Counts, FULL_CASES, StageResult, TestRun, UNIT_PURE,
};
use anyhow::{Context, Result, bail};
use holdfast_builder::workspace;
use std::io::Write;
use std::time::Duration;

/// Prints the table of stages and what is to be known beside it; fails where the tests have.
pub(super) fn report(
    test_run: &TestRun,
    outcome: &Outcome,
    idle: Option<f64>,
    minutes: Option<u64>,
) -> Result<()> {
    let Outcome { results, unfinished } = outcome;
    print_table(outcome);
    if let Some(idle) = idle {
        println!("idle: {idle:.0} % of the processors' time");
    }
    let ran = |stages: &[&str]| results.iter().any(|result| stages.contains(&result.name));
    if std::env::var_os("HOLDFAST_ADVISORY_DB").is_none() && ran(&["dependencies"]) {
        println!("not checked: security advisories (HOLDFAST_ADVISORY_DB is not set)");
    }
    if !test_run.buildroot && ran(&[BUILDROOT_TREE]) {
        println!("not run: Buildroot (BUILDROOT_DIR is not set)");
    }
    if !test_run.full && ran(&["unit", "reproducible", "boards", "fuzz"]) {
        println!(
            "left to --full: images of every board; reproducible from two empty caches; a fleet of 1000000 devices; {FULL_CASES} cases a property; \
             {} inputs a fuzz target",
            fuzz::FULL_RUNS
        );
    }
    let mut counts = Counts::default();
    let mut found = Counts::default();
    for result in results {
        counts.add(result.counts);
        if !test_run.filters_of(result.name).is_empty() {
            found.add(result.counts);
        }
    }
    // A part of the tests is no evidence for a commit.
    let is_own =
        |stage: &&Stage| stage.counts && ![UNIT_PURE, BUILDROOT].contains(&stage.node.name);
    let all = STAGES.iter().filter(is_own).count();
    if test_run.full && test_run.shard.is_none() && unfinished.is_empty() && results.len() >= all {
        write_evidence(test_run, results)?;
    }
    let late: Vec<&str> = unfinished.iter().map(|(name, _)| *name).collect();
    let late = format!("not done within {} minutes: {}", minutes.unwrap_or(0), late.join(", "));
    if !unfinished.is_empty() {
        println!("{late}");
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    std::io::stdout().flush().context("cannot write to standard output")?;
    if !unfinished.is_empty() {
        bail!("{late}");
    }
    if counts.failed > 0 {
        bail!("{} failed", counts.failed);
    }
    if counts.passed == 0 || (!test_run.tests.is_empty() && found.passed == 0) {
        bail!("no test is called that");
    }
    Ok(())
}

fn print_table(outcome: &Outcome) {
    println!("\nstage            passed  failed     begun   seconds");
    for StageResult { name, counts, began, took } in &outcome.results {
        let (began, took) = (began.as_secs_f32(), took.as_secs_f32());
        println!("{name:<16} {:>6} {:>7} {began:>9.1} {took:>9.1}", counts.passed, counts.failed);
    }
    for (name, began) in &outcome.unfinished {
        match began.as_ref().map(Duration::as_secs_f32) {
            Some(began) => println!("{name:<16} {:>6} {:>7} {began:>9.1}   running", "", ""),
            None => println!("{name:<16} {:>6} {:>7} {:>9}   waiting", "", "", ""),
        }
    }
}

/// What a full run was, for whoever wants to see or repeat it.
fn write_evidence(test_run: &TestRun, results: &[StageResult]) -> Result<()> {
    let commit = &test_run.commit;
    let stages: Vec<_> = results
        .iter()
        .map(|result| {
            serde_json::json!({
                "stage": result.name,
                "passed": result.counts.passed,
                "failed": result.counts.failed,
                "seconds": result.took.as_secs(),
            })
        })
        .collect();
    let evidence = serde_json::json!({
        "commit": commit,
        "property_cases": FULL_CASES,
        "property_seed": test_run.seed,
        "stages": stages,
    });
    let path = test_run.workspace.root.join(format!("docs/evidence/{commit}.json"));
    let text = serde_json::to_string_pretty(&evidence).context("cannot write JSON")?;
    workspace::write(&path, format!("{text}\n"))?;
    println!("evidence: {}", path.display());
    Ok(())
}
