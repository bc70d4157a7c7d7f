//! What the kernel has done to the processes of a component because of its limits, or because the machine has no
//! memory left, in words.

use holdfast_sandbox::app_manifest::Limits;
use holdfast_types::event::{Event, init as event};

/// Counts of what has happened in the control group of a component since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupEvents {
    /// Times that its own limit of memory was reached and nothing could be given back (`oom` of `memory.events`).
    pub over_memory: u64,
    /// Processes that were ended because memory ran out, its own or the machine's (`oom_kill`).
    pub ended: u64,
    /// Forks refused because there were too many processes.
    pub forks_refused: u64,
}

/// Returns what has happened between two looks: for each, the event and the text of its line.
#[must_use]
pub fn told(
    name: &str,
    before: GroupEvents,
    now: GroupEvents,
    limits: &Limits,
) -> Vec<(Event, String)> {
    let mut lines = Vec::new();
    let refused = now.forks_refused.saturating_sub(before.forks_refused);
    if refused > 0 {
        let text = format!(
            "{name} is at its limit of {} processes: {refused} forks refused",
            limits.processes
        );
        lines.push((event::PROCESS_LIMIT_REACHED, text));
    }
    if now.over_memory > before.over_memory {
        let text = format!("{name} went over its limit of {} KiB memory", limits.memory_kib);
        lines.push((event::MEMORY_LIMIT_REACHED, text));
    } else if now.ended > before.ended {
        let text = format!(
            "{name} was ended because the machine had no memory left; its own limit of {} KiB was not reached",
            limits.memory_kib
        );
        lines.push((event::OUT_OF_MEMORY, text));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ran_out_of_memory_is_said_as_it_was() {
        let said = |now| {
            let lines = told("a", GroupEvents::default(), now, &Limits::default());
            lines.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n")
        };
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
