//! What the kernel has done to the processes of a component because of its limits, or because the machine has no
//! memory left, in words.

use holdfast_sandbox::app_manifest::Limits;

/// What has happened in the control group of a component since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupEvents {
    /// Times that its own limit of memory was reached and nothing could be given back (`oom` of `memory.events`).
    pub over_memory: u64,
    /// Processes that were ended because memory ran out, its own or the machine's (`oom_kill`).
    pub ended: u64,
    /// Forks refused because there were too many processes.
    pub forks_refused: u64,
}

/// What has happened between two looks, a line for each.
#[must_use]
pub fn told(name: &str, before: GroupEvents, now: GroupEvents, limits: &Limits) -> Vec<String> {
    let mut lines = Vec::new();
    let refused = now.forks_refused.saturating_sub(before.forks_refused);
    if refused > 0 {
        lines.push(format!(
            "{name} is at its limit of {} processes: {refused} forks refused",
            limits.processes
        ));
    }
    if now.over_memory > before.over_memory {
        lines.push(format!("{name} went over its limit of {} KiB memory", limits.memory_kib));
    } else if now.ended > before.ended {
        lines.push(format!(
            "{name} was ended because the machine had no memory left; its own limit of {} KiB was not reached",
            limits.memory_kib
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ran_out_of_memory_is_said_as_it_was() {
        let said = |now| told("a", GroupEvents::default(), now, &Limits::default()).join("\n");
        assert_eq!(said(GroupEvents::default()), "");
        let own = GroupEvents { over_memory: 1, ended: 3, ..GroupEvents::default() };
        assert_eq!(said(own), "a went over its limit of 8192 KiB memory");
        let machine = GroupEvents { ended: 2, ..GroupEvents::default() };
        let line = said(machine);
        assert!(line.starts_with("a was ended because the machine had no memory left"), "{line}");
        assert!(!line.contains("went over"), "{line}");
        let forks = GroupEvents { forks_refused: 4, ..GroupEvents::default() };
        assert_eq!(said(forks), "a is at its limit of 16 processes: 4 forks refused");
        assert!(told("a", own, own, &Limits::default()).is_empty(), "nothing new");
    }
}
