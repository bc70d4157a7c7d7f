//! Registration of checks. Nothing runs while a check is registered: each becomes part of a [`Job`], which the
//! [`runner`](crate::harness::runner) starts in a process of its own when its turn comes.

use anyhow::{Error, Result};
use std::time::{Duration, Instant};

/// The time that a job has for each of its checks on an idle machine; the shared start counts as one more.
const A_CHECK: Duration = Duration::from_secs(120);

/// The checks of a run, as jobs.
#[derive(Debug)]
pub(crate) struct Suite<'a> {
    /// Parts of the names of the checks that run; none: all run.
    filters: Vec<String>,
    /// Checks that the board's machine lacks something for, with what it lacks.
    lacking: &'static [Lack],
    jobs: Vec<Job<'a>>,
    /// Checks that the filters name and the machine cannot run, each with what it lacks.
    not_run: Vec<(String, &'static str)>,
}

/// What a job needs beside its own guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it has guests of its own, in a directory of its own.
    Light,
    /// It has a guest on a counted clock that talks to a thread of this host. Such a guest runs ahead while
    /// the thread waits for a processor, so that there is one of them at a time.
    Peer,
    /// It runs `cargo holdfast` in this checkout or uses fixed paths: one of them runs at a time. All others use
    /// directories and sockets of their own.
    Alone,
}

/// A check on something shared, such as a booted guest.
pub(crate) type Check<T> = (&'static str, fn(&mut T) -> Result<()>);

/// A function as a check that bears its name.
macro_rules! named {
    ($function:ident) => {
        (stringify!($function), $function)
    };
}
pub(crate) use named;

/// Functions as checks on something shared, each of which bears its function's name.
macro_rules! checks {
    ($($function:ident),* $(,)?) => {
        &[$($crate::harness::suite::named!($function)),*]
    };
}
pub(crate) use checks;

/// Registers a call as a check of its own, which bears the function's name: `check!(suite, it_boots(&image()))`.
/// The arguments are made when the check runs.
macro_rules! check {
    ($suite:expr, $function:ident($($argument:expr),* $(,)?)) => {
        $suite.check(stringify!($function), move || $function($($argument),*))
    };
}
pub(crate) use check;

/// A check whose name is made from a table.
pub(crate) type NamedCheck<'a, T> = (String, Box<dyn Fn(&mut T) -> Result<()> + 'a>);

/// What a machine lacks, and the names of the checks that need it.
pub(crate) type Lack = (&'static str, &'static [&'static str]);

/// The result of one check.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) check: String,
    pub(crate) took: Duration,
    pub(crate) result: Result<()>,
    /// True when what the checks of the job share could not be made, so that all of them have failed at once.
    pub(crate) not_made: bool,
}

/// Takes the outcomes of a job's checks, one after the other.
type Report<'r> = dyn FnMut(Outcome) + 'r;

/// Runs the checks with these names.
type Run<'a> = Box<dyn FnOnce(&[String], &mut Report<'_>) + 'a>;

/// One or more checks that share what they look at. It is named by its first check.
pub(crate) struct Job<'a> {
    /// The checks that the filters let run, in order.
    pub(crate) checks: Vec<String>,
    pub(crate) name: String,
    pub(crate) needs: Needs,
    /// How long it may take on an idle machine.
    pub(crate) deadline: Duration,
    run: Run<'a>,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?}): {:?}", self.name, self.needs, self.checks)
    }
}

impl Job<'_> {
    /// Runs those of its checks that are named, and reports each.
    pub(crate) fn run(self, wanted: &[String], report: &mut Report<'_>) {
        (self.run)(wanted, report);
    }
}

/// Whether the checks of a job stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each can be made alone on what is shared.
    Free,
    /// Each builds on what those before it have done, so that they are made too when it runs by name.
    Fixed,
}

impl<'a> Suite<'a> {
    pub(crate) fn new(filters: Vec<String>, lacking: &'static [Lack]) -> Self {
        Self { filters, lacking, jobs: Vec::new(), not_run: Vec::new() }
    }

    /// Registers one check on its own.
    pub(crate) fn check(&mut self, name: &str, run: impl FnOnce() -> Result<()> + 'a) {
        self.with(Needs::Light).check(name, run);
    }

    /// Registers checks on something that is made once; each stands for itself. When it cannot be made, each of
    /// them has failed.
    pub(crate) fn share<T: 'a>(
        &mut self,
        make: impl FnOnce() -> Result<T> + 'a,
        checks: &[Check<T>],
    ) {
        self.with(Needs::Light).share(make, checks);
    }

    /// Registers checks on something that is made once, where each builds on those before it.
    pub(crate) fn sequence<T: 'a>(
        &mut self,
        make: impl FnOnce() -> Result<T> + 'a,
        checks: &[Check<T>],
    ) {
        self.with(Needs::Light).sequence(make, checks);
    }

    /// Registers what follows with these needs.
    pub(crate) fn with(&mut self, needs: Needs) -> Registration<'_, 'a> {
        Registration { suite: self, needs, most: None }
    }

    /// True when the filters let a check of this name run and the machine can.
    fn wants(&mut self, name: &str) -> bool {
        if !self.filters.is_empty() && !self.filters.iter().any(|part| name.contains(part)) {
            return false;
        }
        let lacks = |lack: &&Lack| lack.1.iter().any(|check| name.contains(check));
        match self.lacking.iter().find(lacks) {
            Some((what, _)) => {
                self.not_run.push((name.to_owned(), what));
                false
            }
            None => true,
        }
    }

    /// The jobs with a check to run, and the checks that the machine cannot run, with what it lacks.
    pub(crate) fn into_jobs(self) -> (Vec<Job<'a>>, Vec<(String, &'static str)>) {
        (self.jobs, self.not_run)
    }
}

/// Registers checks with other needs than most have.
#[derive(Debug)]
pub(crate) struct Registration<'s, 'a> {
    suite: &'s mut Suite<'a>,
    needs: Needs,
    /// For the whole job.
    most: Option<Duration>,
}

impl<'a> Registration<'_, 'a> {
    /// Gives the job this long on an idle machine, instead of two minutes a check.
    pub(crate) fn within(self, most: Duration) -> Self {
        Self { most: Some(most), ..self }
    }

    /// As [`Suite::check`].
    pub(crate) fn check(self, name: &str, run: impl FnOnce() -> Result<()> + 'a) {
        let check = name.to_owned();
        self.job(vec![name.to_owned()], move |_, report| {
            let started = Instant::now();
            let result = run();
            report(Outcome { check, took: started.elapsed(), result, not_made: false });
        });
    }

    /// As [`Suite::share`].
    pub(crate) fn share<T: 'a>(self, make: impl FnOnce() -> Result<T> + 'a, checks: &[Check<T>]) {
        self.on_one(Order::Free, make, boxed(checks));
    }

    /// As [`Suite::sequence`].
    pub(crate) fn sequence<T: 'a>(
        self,
        make: impl FnOnce() -> Result<T> + 'a,
        checks: &[Check<T>],
    ) {
        self.on_one(Order::Fixed, make, boxed(checks));
    }

    /// As [`Suite::share`], of checks whose names are made from a table.
    pub(crate) fn share_named<T: 'a>(
        self,
        make: impl FnOnce() -> Result<T> + 'a,
        checks: Vec<NamedCheck<'a, T>>,
    ) {
        self.on_one(Order::Free, make, checks);
    }

    fn on_one<T: 'a>(
        self,
        order: Order,
        make: impl FnOnce() -> Result<T> + 'a,
        checks: Vec<NamedCheck<'a, T>>,
    ) {
        let names = checks.iter().map(|(name, _)| name.clone()).collect();
        self.job(names, move |wanted, report| run_on_one(order, make, &checks, wanted, report));
    }

    fn job(self, names: Vec<String>, run: impl FnOnce(&[String], &mut Report<'_>) + 'a) {
        let Some(name) = names.first().cloned() else { return };
        // Of all checks, since those of a sequence are made whichever is named.
        let parts = u32::try_from(names.len()).unwrap_or(u32::MAX).saturating_add(1);
        let checks: Vec<String> = names.into_iter().filter(|name| self.suite.wants(name)).collect();
        if checks.is_empty() {
            return;
        }
        // Checks from a table are many and read what one boot has shown.
        let deadline = self.most.unwrap_or(A_CHECK.saturating_mul(parts.min(10)));
        self.suite.jobs.push(Job { checks, name, needs: self.needs, deadline, run: Box::new(run) });
    }
}

/// The same checks, to be listed with others whose names are made from a table.
pub(crate) fn boxed<'a, T: 'a>(checks: &[Check<T>]) -> Vec<NamedCheck<'a, T>> {
    let boxed = |(name, run): &Check<T>| -> NamedCheck<'a, T> {
        let run = *run;
        ((*name).to_owned(), Box::new(move |shared: &mut T| run(shared)))
    };
    checks.iter().map(boxed).collect()
}

/// Makes what is shared, and runs the wanted checks on it in order.
fn run_on_one<T>(
    order: Order,
    make: impl FnOnce() -> Result<T>,
    checks: &[NamedCheck<'_, T>],
    wanted: &[String],
    report: &mut Report<'_>,
) {
    let mut left = wanted.len();
    let mut started = Instant::now();
    let mut shared = make();
    // Why a check in the middle of a sequence cannot be judged.
    let mut broken: Option<String> = None;
    for (name, run) in checks {
        let is_wanted = wanted.contains(name);
        if left == 0 || !(is_wanted || order == Order::Fixed) {
            continue;
        }
        let result = match (&mut shared, &broken) {
            (_, Some(reason)) => Err(Error::msg(reason.clone())),
            (Ok(shared), None) => run(shared),
            (Err(error), None) => Err(Error::msg(format!("{error:#}"))),
        };
        if is_wanted {
            left = left.saturating_sub(1);
            let (took, not_made) = (started.elapsed(), shared.is_err());
            report(Outcome { check: name.clone(), took, result, not_made });
            started = Instant::now();
        } else if let (Err(error), Ok(_)) = (result, &shared) {
            broken = Some(format!("{name}, on which it builds, has failed: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Steps = Vec<u8>;
    const CHECKS: [Check<Steps>; 3] = [
        ("first", |steps| {
            steps.push(1);
            Ok(())
        }),
        ("second", |steps| {
            steps.push(2);
            Ok(())
        }),
        ("third", |steps| anyhow::bail!("after {steps:?}")),
    ];

    /// Runs the only job of a suite with these filters, and gives what each check said.
    fn said(filters: &[&str], register: impl FnOnce(&mut Suite<'_>)) -> Vec<(String, String)> {
        let filters = filters.iter().map(|part| (*part).to_owned()).collect();
        let mut suite = Suite::new(filters, &[("no card", &["with_a_card"])]);
        register(&mut suite);
        let mut said = Vec::new();
        for job in suite.into_jobs().0 {
            let wanted = job.checks.clone();
            job.run(&wanted, &mut |outcome| {
                let result = outcome.result.map_or_else(|e| e.to_string(), |()| "ok".to_owned());
                said.push((outcome.check, result));
            });
        }
        said
    }

    fn pair(check: &str, result: &str) -> (String, String) {
        (check.to_owned(), result.to_owned())
    }

    fn one_more(steps: &mut Steps) -> Result<()> {
        steps.push(1);
        Ok(())
    }

    fn sums_to(first: u8, second: u8, sum: u8) -> Result<()> {
        anyhow::ensure!(first.checked_add(second) == Some(sum), "{first} and {second}");
        Ok(())
    }

    #[test]
    fn a_check_bears_the_name_of_its_function() {
        let mut suite = Suite::new(Vec::new(), &[]);
        check!(suite, sums_to(1, 2, 3));
        check!(suite.with(Needs::Peer), one_more(&mut Steps::new()));
        suite.sequence(|| Ok(Steps::new()), checks![one_more]);
        let (jobs, _) = suite.into_jobs();
        let found: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.needs)).collect();
        let expected =
            [("sums_to", Needs::Light), ("one_more", Needs::Peer), ("one_more", Needs::Light)];
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_runs_while_it_is_registered() {
        let mut suite = Suite::new(Vec::new(), &[]);
        suite.check("fails", || anyhow::bail!("it ran"));
        suite.share(|| -> Result<Steps> { anyhow::bail!("it was made") }, &CHECKS);
        let (jobs, _) = suite.into_jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["fails", "first"]);
    }

    #[test]
    fn a_check_of_a_sequence_runs_behind_those_that_it_builds_on() {
        let all = said(&[], |suite| suite.sequence(|| Ok(Steps::new()), &CHECKS));
        let after = "after [1, 2]";
        assert_eq!(all, [pair("first", "ok"), pair("second", "ok"), pair("third", after)]);
        let alone = said(&["third"], |suite| suite.sequence(|| Ok(Steps::new()), &CHECKS));
        assert_eq!(alone, [pair("third", after)]);
        let shared = said(&["third"], |suite| suite.share(|| Ok(Steps::new()), &CHECKS));
        assert_eq!(shared, [pair("third", "after []")]);
    }

    #[test]
    fn a_sequence_that_breaks_says_where() {
        let broken: [Check<Steps>; 2] =
            [("first", |_| anyhow::bail!("no")), ("second", |_| Ok(()))];
        let alone = said(&["second"], |suite| suite.sequence(|| Ok(Steps::new()), &broken));
        let reason = "first, on which it builds, has failed: no";
        assert_eq!(alone, [pair("second", reason)]);
    }

    #[test]
    fn checks_on_what_cannot_be_made_have_failed() {
        let all = said(&[], |suite| {
            suite.share(|| -> Result<Steps> { anyhow::bail!("no guest") }, &CHECKS[..2]);
        });
        assert_eq!(all, [pair("first", "no guest"), pair("second", "no guest")]);
    }

    #[test]
    fn a_check_that_the_machine_cannot_run_is_named_with_the_reason() {
        let mut suite = Suite::new(vec!["card".to_owned()], &[("no card", &["with_a_card"])]);
        suite.check("boots_with_a_card", || Ok(()));
        suite.check("boots_without_card", || Ok(()));
        suite.check("boots", || Ok(()));
        let (jobs, not_run) = suite.into_jobs();
        assert_eq!(not_run, [("boots_with_a_card".to_owned(), "no card")]);
        assert_eq!(jobs.len(), 1);
    }
}
