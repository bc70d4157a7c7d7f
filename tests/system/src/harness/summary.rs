//! What became of the checks of a run: counted, listed by time, and written for other programs.

use crate::harness::schedule::{Times, Took};
use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A run with more checks than this that pass only when they are run again is no good run.
const MOST_FLAKY: usize = 3;
/// Checks in the table of the slowest.
const SLOWEST: usize = 10;

/// What became of a check in one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold, or it could not be judged because what a job's checks share could not be made.
    Failed {
        /// The job, in the second case.
        shared: Option<String>,
    },
}

/// One check in one try.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) check: String,
    pub(crate) seconds: f64,
    pub(crate) verdict: Verdict,
    pub(crate) error: Option<String>,
}

/// All checks of a run.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The last try of each check, in the order in which they ended first.
    checks: Vec<Judged>,
    /// The first try of those that have failed in it.
    first_tries: Vec<Judged>,
    /// What jobs took whose checks have all passed.
    times: Times,
}

impl Summary {
    /// Adds a try of a check; true when it passes now and did not at first.
    pub(crate) fn add(&mut self, judged: Judged) -> bool {
        let passed = judged.verdict == Verdict::Passed;
        match self.checks.iter_mut().find(|earlier| earlier.check == judged.check) {
            Some(earlier) => {
                self.first_tries.push(std::mem::replace(earlier, judged));
                passed
            }
            None => {
                self.checks.push(judged);
                false
            }
        }
    }

    /// Remembers what a job took.
    pub(crate) fn took(&mut self, job: &str, took: Took) {
        self.times.entry(job.to_owned()).or_insert(took);
    }

    fn failed(&self) -> Vec<&Judged> {
        self.checks.iter().filter(|judged| judged.verdict != Verdict::Passed).collect()
    }

    /// Checks that passed in their second try.
    fn flaky(&self) -> Vec<&Judged> {
        let failed_first = |check: &str| self.first_tries.iter().any(|first| first.check == check);
        let passed = self.checks.iter().filter(|judged| judged.verdict == Verdict::Passed);
        passed.filter(|judged| failed_first(&judged.check)).collect()
    }

    /// How many accidents the flaky checks stand for: those of one job that failed because its guest did not come
    /// up are one.
    fn accidents(&self) -> usize {
        let flaky: BTreeSet<&str> = self.flaky().iter().map(|j| j.check.as_str()).collect();
        let firsts = self.first_tries.iter().filter(|first| flaky.contains(first.check.as_str()));
        let cause = |first: &'_ Judged| match &first.verdict {
            Verdict::Failed { shared: Some(job) } => format!("job {job}"),
            _ => first.check.clone(),
        };
        firsts.map(cause).collect::<BTreeSet<_>>().len()
    }

    /// The lines behind the checks, of which the last one is the result; and whether the run was good.
    pub(crate) fn lines(&self, idle: Option<f64>) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        if self.checks.len() > SLOWEST {
            let mut slowest: Vec<&Judged> = self.checks.iter().collect();
            slowest.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
            lines.push("the slowest checks:".to_owned());
            for Judged { check, seconds, .. } in slowest.into_iter().take(SLOWEST) {
                lines.push(format!("{seconds:>8.1} s  {check}"));
            }
        }
        lines.extend(idle.map(|percent| format!("processors idle: {percent:.0} %")));
        let flaky = self.flaky();
        lines.extend(flaky.iter().map(|judged| format!("flaky: {}", judged.check)));
        let mut failed: Vec<String> = self.failed().iter().map(|j| j.check.clone()).collect();
        let accidents = self.accidents();
        if accidents > MOST_FLAKY {
            lines
                .push(format!("{accidents} failures passed a second time, more than {MOST_FLAKY}"));
            failed.push("the_run_has_few_flaky_checks".to_owned());
        }
        lines.extend(failed.iter().map(|name| format!("FAILED: {name}")));
        let result = if failed.is_empty() { "ok" } else { "FAILED" };
        let passed = self.checks.len().saturating_sub(self.failed().len());
        lines.push(format!("test result: {result}. {passed} passed; {} failed;", failed.len()));
        (lines, failed.is_empty())
    }

    /// Writes the seconds of this run's jobs, and of earlier runs for all others.
    pub(crate) fn write_times(&self, path: &Path, earlier: &Times) -> Result<()> {
        let mut times = earlier.clone();
        times.extend(self.times.clone());
        let text = serde_json::to_string_pretty(&times).context("cannot write JSON")?;
        fs::write(path, format!("{text}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes JUnit XML, as nextest does: a flaky check is a success that tells of its first failure.
    pub(crate) fn write_junit(&self, path: &Path) -> Result<()> {
        let mut suite = TestSuite::new("system");
        for judged in &self.checks {
            let first = self.first_tries.iter().find(|first| first.check == judged.check);
            let mut status = match &judged.error {
                None => TestCaseStatus::success(),
                Some(error) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_description(error.clone());
                    status
                }
            };
            if let Some(first) = first {
                let mut rerun = TestRerun::new(NonSuccessKind::Failure);
                rerun.set_time(Duration::from_secs_f64(first.seconds.max(0.0)));
                rerun.set_description(first.error.clone().unwrap_or_default());
                status.add_rerun(rerun);
            }
            let mut case = TestCase::new(judged.check.clone(), status);
            case.set_time(Duration::from_secs_f64(judged.seconds.max(0.0)));
            suite.add_test_case(case);
        }
        let mut report = Report::new("holdfast");
        report.add_test_suite(suite);
        let text = report.to_string().context("cannot write XML")?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(check: &str, error: Option<&str>, shared: Option<&str>) -> Judged {
        let shared = shared.map(str::to_owned);
        let verdict = if error.is_some() { Verdict::Failed { shared } } else { Verdict::Passed };
        Judged { check: check.to_owned(), seconds: 1.5, verdict, error: error.map(str::to_owned) }
    }

    fn last_line(summary: &Summary) -> (String, bool) {
        let (lines, good) = summary.lines(None);
        (lines.last().cloned().unwrap_or_default(), good)
    }

    #[test]
    fn a_check_that_passes_the_second_time_is_flaky_and_counts_as_passed() {
        let mut summary = Summary::default();
        assert!(!summary.add(judged("a", Some("late"), None)));
        assert!(!summary.add(judged("b", None, None)));
        assert!(summary.add(judged("a", None, None)));
        assert!(summary.lines(None).0.contains(&"flaky: a".to_owned()));
        assert_eq!(last_line(&summary), ("test result: ok. 2 passed; 0 failed;".to_owned(), true));
    }

    #[test]
    fn a_check_that_fails_twice_has_failed() {
        let mut summary = Summary::default();
        summary.add(judged("a", Some("late"), None));
        assert!(!summary.add(judged("a", Some("late again"), None)));
        let result = ("test result: FAILED. 0 passed; 1 failed;".to_owned(), false);
        assert_eq!(last_line(&summary), result);
    }

    #[test]
    fn more_than_three_flaky_checks_fail_the_run_and_a_boot_that_failed_is_one() {
        let mut summary = Summary::default();
        let names = ["a", "b", "c"];
        for name in names {
            summary.add(judged(name, Some("no guest"), Some("a")));
        }
        for name in names {
            summary.add(judged(name, None, None));
        }
        for name in ["d", "e"] {
            summary.add(judged(name, Some("late"), None));
            summary.add(judged(name, None, None));
        }
        assert_eq!(last_line(&summary), ("test result: ok. 5 passed; 0 failed;".to_owned(), true));
        summary.add(judged("f", Some("late"), None));
        summary.add(judged("f", None, None));
        let result = ("test result: FAILED. 6 passed; 1 failed;".to_owned(), false);
        assert_eq!(last_line(&summary), result);
    }

    #[test]
    fn junit_tells_of_failures_and_of_first_tries() {
        let mut summary = Summary::default();
        summary.add(judged("a", Some("it was \u{1b}[31m < late"), None));
        summary.add(judged("b", Some("late"), None));
        summary.add(judged("b", None, None));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("junit.xml");
        summary.write_junit(&path).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(r#"tests="2""#) && text.contains(r#"failures="1""#), "{text}");
        assert!(text.contains("&lt; late") && text.contains("<flakyFailure"), "{text}");
    }

    #[test]
    fn times_of_this_run_take_the_place_of_earlier_ones() {
        let mut summary = Summary::default();
        let took = Took::new(Duration::from_millis(1260), Duration::from_millis(420));
        summary.took("a", took);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("times");
        let other = |seconds| Took { seconds, processor_seconds: 1.0 };
        let earlier = Times::from([("a".to_owned(), other(9.0)), ("b".to_owned(), other(2.0))]);
        summary.write_times(&path, &earlier).unwrap();
        let times: Times = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let rounded = Took { seconds: 1.3, processor_seconds: 0.4 };
        assert_eq!(times, Times::from([("a".to_owned(), rounded), ("b".to_owned(), other(2.0))]));
    }
}
