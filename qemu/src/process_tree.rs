//! A process with all that it and its children have started: found, and ended.
//! Source: proc_pid_stat(5).

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Kills all descendants of the process with this number, and not the process itself.
pub fn kill_descendants(of: u32) {
    // Who has lost a child may start another before it notices.
    for _ in 0..3 {
        let found = stop(of);
        if found.is_empty() {
            break;
        }
        for pid in found {
            send(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Stops all descendants until there are no new ones: what is stopped starts nothing, and nobody's children
/// get lost to another parent.
fn stop(of: u32) -> BTreeSet<i32> {
    let of = i32::try_from(of).unwrap_or_default();
    let mut stopped = BTreeSet::new();
    loop {
        let found = descendants(of, &processes());
        let new: Vec<i32> = found.difference(&stopped).copied().collect();
        if new.is_empty() {
            return stopped;
        }
        for pid in new {
            send(pid, Signal::STOP);
            stopped.insert(pid);
        }
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // One that has ended meanwhile is no failure.
        let _ = kill_process(pid, signal);
    }
}

/// Every process with its parent.
fn processes() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, parent(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect()
}

/// The parent in a `/proc/PID/stat`, `None` for one that has ended.
fn parent(stat: &str) -> Option<i32> {
    // The name before it may have blanks and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    fields.next().filter(|_| state != "Z")?.parse().ok()
}

fn descendants(of: i32, processes: &[(i32, i32)]) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut pending = vec![of];
    while let Some(next) = pending.pop() {
        for (pid, _) in processes.iter().filter(|(_, parent)| *parent == next) {
            if found.insert(*pid) {
                pending.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    #[test]
    fn descendants_are_children_and_theirs_and_nobody_else() {
        let processes = [(1, 0), (5, 1), (7, 5), (8, 7), (9, 1), (10, 8)];
        assert_eq!(descendants(5, &processes), BTreeSet::from([7, 8, 10]));
        assert!(descendants(10, &processes).is_empty());
    }

    #[test]
    fn a_killed_tree_leaves_no_grandchild() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 600; true' & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // The inner shell and its sleep.
        while descendants(root, &processes()).len() < 2 {
            assert!(Instant::now() < deadline, "the shells did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = descendants(root, &processes());
        kill_descendants(shell.id());
        shell.wait().unwrap();
        while processes().iter().any(|(pid, _)| before.contains(pid)) {
            assert!(Instant::now() < deadline, "{before:?} live on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_parent_is_found_behind_any_name_and_the_dead_have_none() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (make) Z 7 12 12 0"), None);
    }
}
