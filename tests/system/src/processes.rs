//! The processes of a job: found with all that they have started, and ended.
//! Source: proc_pid_stat(5).

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;

/// Ends a process and all that it and its children have started.
pub(crate) fn kill_tree(root: u32) {
    // A parent that notices a child's end could start another one: parents go first.
    for process in tree(root, &parents()) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It has ended by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The parent of each process of this machine.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |entry: fs::DirEntry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((process, parent_in(&stat)?))
    };
    entries.filter_map(parent).collect()
}

/// The parent in a line of `/proc/PID/stat`, behind the name, which may hold spaces and brackets.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and its descendants, each behind its parent.
fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0usize;
    while let Some(parent) = found.get(next).copied() {
        next = next.saturating_add(1);
        let children = parents.iter().filter(|(child, of)| **of == parent && **child != parent);
        let new: Vec<u32> =
            children.map(|(child, _)| *child).filter(|c| !found.contains(c)).collect();
        found.extend(new);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_brackets_hides_no_parent() {
        assert_eq!(parent_in("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12"), None);
    }

    #[test]
    fn descendants_are_found_and_others_are_not() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (9, 9)]);
        assert_eq!(tree(2, &parents), [2, 3, 4]);
    }

    #[test]
    fn a_killed_tree_leaves_no_grandchild() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 600; true' & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        let descendants = loop {
            let found = tree(shell.id(), &parents());
            if found.len() >= 3 || started.elapsed().as_secs() > 20 {
                break found;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(descendants.len() >= 3, "{descendants:?}");
        kill_tree(shell.id());
        shell.wait().unwrap();
        let is_gone = |process: &u32| match fs::read_to_string(format!("/proc/{process}/stat")) {
            Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")),
            Err(_) => true,
        };
        while !descendants.iter().all(is_gone) {
            assert!(started.elapsed().as_secs() < 40, "{descendants:?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
