//! A traced process (ptrace(2)), of which all threads run, or none does.

use crate::process;
use holdfast_linux::ptrace::{self, Event};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io;

/// A traced process.
#[derive(Debug)]
pub(crate) struct Tracee {
    leader: Pid,
    threads: BTreeMap<i32, Thread>,
}

/// The state of one thread.
#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    stopped: bool,
    /// Signal that the thread gets when it goes on; 0 for none.
    signal: i32,
}

/// Reason for which a traced process does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A thread is about to get a signal.
    Signal(Pid, i32),
    /// The process has ended with this exit code.
    Exited(i32),
    /// The process was ended by this signal.
    Killed(i32),
}

/// Reason for which a process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("cannot {operation} process {process}")]
    Kernel { operation: &'static str, process: i32, source: io::Error },
    #[error("process {0} has ended before its program began")]
    Ended(i32),
}

impl Tracee {
    /// Traces a process and stops it; one that init holds, in front of its program's first instruction.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub(crate) fn attach(leader: Pid) -> Result<Self, TraceError> {
        let number = leader.as_raw_nonzero().get();
        let failed =
            |operation| move |source| TraceError::Kernel { operation, process: number, source };
        let mut tracee = Self { leader, threads: BTreeMap::new() };
        // A thread that is seized has those traced that it makes; others may have made some meanwhile.
        loop {
            let found = process::threads(leader).map_err(failed("list the threads of"))?;
            let new: Vec<Pid> =
                found.into_iter().filter(|thread| tracee.thread(*thread).is_none()).collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                // Another one may be gone by now, or the one before has brought it along.
                if let Err(error) = ptrace::seize(thread)
                    && thread == leader
                {
                    return Err(failed("trace")(error));
                }
                tracee.add(thread, Thread::default());
            }
        }
        tracee.stop().map_err(failed("stop"))?;
        if process::is_held(leader).map_err(failed("look at"))? {
            tracee.run_to_program().map_err(failed("start the program of"))?;
        }
        if tracee.threads.is_empty() { Err(TraceError::Ended(number)) } else { Ok(tracee) }
    }

    /// Lets a process that init holds go on until it executes its program.
    fn run_to_program(&mut self) -> io::Result<()> {
        // Stopped as it is, every thread that it makes would be.
        kill_process(self.leader, Signal::CONT)?;
        ptrace::resume(self.leader, 0)?;
        while let Some((_, event)) = ptrace::wait(Some(self.leader), true)? {
            match event {
                Event::Executed => return Ok(()),
                Event::Exited(_) | Event::Killed(_) => {
                    self.threads.clear();
                    return Ok(());
                }
                // The signal that stops it and the one that lets it go on have done their work.
                Event::Signal(_) | Event::Halted | Event::Cloned => {
                    ptrace::resume(self.leader, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the first thread.
    pub(crate) fn leader(&self) -> Pid {
        self.leader
    }

    /// Returns all threads.
    pub(crate) fn threads(&self) -> impl Iterator<Item = Pid> {
        self.threads.keys().filter_map(|thread| Pid::from_raw(*thread))
    }

    fn thread(&self, thread: Pid) -> Option<&Thread> {
        self.threads.get(&thread.as_raw_nonzero().get())
    }

    fn add(&mut self, thread: Pid, state: Thread) {
        self.threads.insert(thread.as_raw_nonzero().get(), state);
    }

    fn remove(&mut self, thread: Pid) {
        self.threads.remove(&thread.as_raw_nonzero().get());
    }

    /// Sets the signal that a thread gets when it goes on; 0 for none.
    pub(crate) fn set_signal(&mut self, thread: Pid, signal: i32) {
        if let Some(thread) = self.threads.get_mut(&thread.as_raw_nonzero().get()) {
            thread.signal = signal;
        }
    }

    /// Stops every thread.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that a thread is gone.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        while let Some(thread) = self.running_thread() {
            let interrupted = ptrace::interrupt(thread);
            if interrupted.is_err_and(|error| is_gone(&error)) {
                self.remove(thread);
                continue;
            }
            match ptrace::wait(Some(thread), true)? {
                None | Some((_, Event::Exited(_) | Event::Killed(_))) => self.remove(thread),
                Some((_, Event::Signal(signal))) if signal != TRAP => {
                    self.add(thread, Thread { stopped: true, signal });
                }
                // SIGTRAP: a breakpoint that this thread has met as well, and meets again.
                Some(_) => self.add(thread, Thread { stopped: true, signal: 0 }),
            }
            self.look_for_threads();
        }
        Ok(())
    }

    fn running_thread(&self) -> Option<Pid> {
        let (thread, _) = self.threads.iter().find(|(_, state)| !state.stopped)?;
        Pid::from_raw(*thread)
    }

    /// Adds the threads that were made by one that is traced.
    fn look_for_threads(&mut self) {
        for thread in process::threads(self.leader).unwrap_or_default() {
            if self.thread(thread).is_none() {
                self.add(thread, Thread::default());
            }
        }
    }

    /// Lets the threads go on of which `is_chosen` says so.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub(crate) fn resume(&mut self, is_chosen: impl Fn(Pid) -> bool) -> io::Result<()> {
        for thread in self.threads().filter(|thread| is_chosen(*thread)).collect::<Vec<_>>() {
            let signal = match self.thread(thread) {
                Some(Thread { stopped: true, signal }) => *signal,
                _ => continue,
            };
            match ptrace::resume(thread, signal) {
                Ok(()) => self.add(thread, Thread::default()),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the stop that the debugger has to know of, if there is one; every thread is then stopped.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub(crate) fn next(&mut self) -> io::Result<Option<Stop>> {
        while let Some((thread, event)) = ptrace::wait(None, false)? {
            let ended = match event {
                Event::Exited(code) => Some(Stop::Exited(code)),
                Event::Killed(signal) => Some(Stop::Killed(signal)),
                Event::Signal(signal) => {
                    self.add(thread, Thread { stopped: true, signal: 0 });
                    self.stop()?;
                    return Ok(Some(Stop::Signal(thread, signal)));
                }
                // A thread that is new, or that was stopped by another way than the debugger's.
                Event::Halted | Event::Cloned | Event::Executed => {
                    self.add(thread, Thread::default());
                    match ptrace::resume(thread, 0) {
                        Err(error) if !is_gone(&error) => return Err(error),
                        _ => continue,
                    }
                }
            };
            self.remove(thread);
            if thread == self.leader {
                self.threads.clear();
                return Ok(ended);
            }
        }
        Ok(None)
    }

    /// Lets the process go on, as if nobody had traced it.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub(crate) fn release(mut self) -> io::Result<()> {
        self.stop()?;
        for thread in self.threads().collect::<Vec<_>>() {
            let signal = self.thread(thread).map_or(0, |thread| thread.signal);
            match ptrace::release(thread, signal) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the process, and waits until it has.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn kill(self) -> io::Result<()> {
        kill_process(self.leader, Signal::KILL)?;
        while let Some((thread, event)) = ptrace::wait(None, true)? {
            if thread == self.leader && matches!(event, Event::Exited(_) | Event::Killed(_)) {
                break;
            }
        }
        Ok(())
    }
}

/// SIGTRAP, with which a breakpoint stops a thread.
const TRAP: i32 = Signal::TRAP.as_raw();

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    /// A process with three threads beside its first.
    fn threaded() -> Child {
        const PROGRAM: &str = "import threading, time\n\
            for _ in range(3): threading.Thread(target=time.sleep, args=(60,)).start()\n\
            print(flush=True)\n\
            time.sleep(60)";
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    /// Returns for each thread of a process whether its tracer has stopped it.
    fn are_stopped(child: &Child) -> Vec<bool> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let stats =
            threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")));
        stats.map(|stat| stat.unwrap().rsplit_once(") ").unwrap().1.starts_with('t')).collect()
    }

    #[test]
    fn all_threads_stop_and_go_on_together() {
        let mut child = threaded();
        let leader = Pid::from_child(&child);
        let mut tracee = Tracee::attach(leader).unwrap();
        assert_eq!((tracee.leader(), tracee.threads().count()), (leader, 4));
        assert_eq!(are_stopped(&child), [true; 4]);
        let other = tracee.threads().find(|thread| *thread != leader).unwrap();
        tracee.resume(|thread| thread == other).unwrap();
        assert_eq!(are_stopped(&child).iter().filter(|stopped| **stopped).count(), 3);
        tracee.resume(|_| true).unwrap();
        assert_eq!(are_stopped(&child), [false; 4]);
        // A signal stops the thread that gets it, and with it all others.
        kill_process(leader, Signal::USR1).unwrap();
        let stop = loop {
            if let Some(stop) = tracee.next().unwrap() {
                break stop;
            }
        };
        assert!(matches!(stop, Stop::Signal(_, signal) if signal == Signal::USR1.as_raw()));
        assert_eq!(are_stopped(&child), [true; 4]);
        tracee.release().unwrap();
        assert_eq!(are_stopped(&child), [false; 4]);
        Tracee::attach(leader).unwrap().kill().unwrap();
        // Who traces it has reaped it.
        assert!(!std::path::Path::new(&format!("/proc/{}", child.id())).exists());
        let _ = child.wait();
    }
}
