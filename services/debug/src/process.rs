//! The processes and threads of an app, as `/proc` and its control group show them (proc(5)).

use rustix::process::Pid;
use std::fs;
use std::io;
use std::path::Path;

/// Process id of init, whose children are stubs.
const INIT: i32 = 1;

/// Returns the first process of an app's program: the one that its stub has made. `None` while it does not run.
///
/// # Errors
/// The app has no control group.
pub(crate) fn main_of(app: &str) -> io::Result<Option<Pid>> {
    let list = fs::read_to_string(Path::new("/sys/fs/cgroup").join(app).join("cgroup.procs"))?;
    let processes: Vec<(i32, i32)> = list
        .lines()
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid.parse().ok()?, parent(&stat)?))
        })
        .collect();
    Ok(program(&processes).and_then(Pid::from_raw))
}

/// Returns the child of init's child, of process ids with those of their parents.
fn program(processes: &[(i32, i32)]) -> Option<i32> {
    let (stub, _) = processes.iter().find(|(_, parent)| *parent == INIT)?;
    let (program, _) = processes.iter().find(|(_, parent)| parent == stub)?;
    Some(*program)
}

/// Returns the fourth field of `/proc/PID/stat`; the second one is in brackets and may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// True while the process has not executed its program: it is still a copy of init.
///
/// # Errors
/// The process is gone.
pub(crate) fn is_held(process: Pid) -> io::Result<bool> {
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe"));
    Ok(program(process.as_raw_nonzero().get())? == Path::new("/sbin/init"))
}

/// Returns the threads of a process.
///
/// # Errors
/// The process is gone.
pub(crate) fn threads(process: Pid) -> io::Result<Vec<Pid>> {
    let pid = process.as_raw_nonzero();
    let names = fs::read_dir(format!("/proc/{pid}/task"))?;
    let threads = names
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    Ok(threads.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_child_of_the_stub() {
        assert_eq!(program(&[(40, 1), (41, 40), (45, 41)]), Some(41));
        assert_eq!(program(&[(40, 1)]), None);
        assert_eq!(parent("41 (a) b) c) T 40 40 0"), Some(40));
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(threads(own).unwrap().contains(&own));
        assert!(!is_held(own).unwrap());
    }
}
