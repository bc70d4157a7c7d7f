//! The traced process as a target of GDB's remote protocol (`gdbstub`).
//!
//! GDB steps by breakpoints and writes these itself, since no ARM kernel steps for it.

use crate::line::Line;
use crate::tracee::{Stop, Tracee};
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps,
};
use gdbstub::target::{Target as GdbTarget, TargetError, TargetResult};
use gdbstub_arch::arm::Armv4t;
use gdbstub_arch::arm::reg::ArmCoreRegs;
use holdfast_linux::ptrace::{self, Registers};
use rustix::process::{Pid, Signal as LinuxSignal};
use std::io;
use std::time::Duration;

/// Pause between two looks whether the process has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Signals whose numbers differ: Linux's, and GDB's (its `signals.def`).
const SIGNALS: [(LinuxSignal, Signal); 11] = [
    (LinuxSignal::BUS, Signal::SIGBUS),
    (LinuxSignal::USR1, Signal::SIGUSR1),
    (LinuxSignal::USR2, Signal::SIGUSR2),
    (LinuxSignal::CHILD, Signal::SIGCHLD),
    (LinuxSignal::CONT, Signal::SIGCONT),
    (LinuxSignal::STOP, Signal::SIGSTOP),
    (LinuxSignal::TSTP, Signal::SIGTSTP),
    (LinuxSignal::URG, Signal::SIGURG),
    (LinuxSignal::IO, Signal::SIGIO),
    (LinuxSignal::POWER, Signal::SIGPWR),
    (LinuxSignal::SYS, Signal::SIGSYS),
];

fn to_gdb(number: i32) -> Signal {
    let known = SIGNALS.iter().find(|(linux, _)| linux.as_raw() == number);
    known.map_or_else(|| Signal(u8::try_from(number).unwrap_or_default()), |(_, gdb)| *gdb)
}

fn to_linux(signal: Signal) -> i32 {
    let known = SIGNALS.iter().find(|(_, gdb)| *gdb == signal);
    known.map_or_else(|| i32::from(signal.0), |(linux, _)| linux.as_raw())
}

/// The target that GDB debugs.
#[derive(Debug)]
pub(crate) struct Target {
    tracee: Tracee,
    resumption: Resumption,
}

/// The threads that go on next.
#[derive(Debug, Default)]
struct Resumption {
    named: Vec<Pid>,
    /// True where the named threads alone go on (scheduler locking).
    locked: bool,
}

impl Target {
    pub(crate) fn new(tracee: Tracee) -> Self {
        Self { tracee, resumption: Resumption::default() }
    }

    pub(crate) fn into_tracee(self) -> Tracee {
        self.tracee
    }
}

fn thread(tid: Tid) -> io::Result<Pid> {
    let number = i32::try_from(tid.get()).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn tid(thread: Pid) -> io::Result<Tid> {
    let number = usize::try_from(thread.as_raw_nonzero().get()).ok().and_then(Tid::new);
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl GdbTarget for Target {
    type Arch = Armv4t;
    type Error = io::Error;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

impl MultiThreadBase for Target {
    fn read_registers(&mut self, registers: &mut ArmCoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let [r @ .., sp, lr, pc, cpsr, _] = ptrace::registers(thread(tid)?)?;
        *registers = ArmCoreRegs { r, sp, lr, pc, cpsr };
        Ok(())
    }

    fn write_registers(&mut self, registers: &ArmCoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let thread = thread(tid)?;
        let [.., before_call] = ptrace::registers(thread)?;
        let ArmCoreRegs { r, sp, lr, pc, cpsr } = registers;
        let mut all = Registers::default();
        let rest = [*sp, *lr, *pc, *cpsr, before_call];
        for (to, from) in all.iter_mut().zip(r.iter().chain(&rest)) {
            *to = *from;
        }
        Ok(ptrace::set_registers(thread, &all)?)
    }

    fn read_addrs(&mut self, start: u32, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        Ok(ptrace::read_memory(thread(tid)?, address(start)?, data)?)
    }

    fn write_addrs(&mut self, start: u32, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        Ok(ptrace::write_memory(thread(tid)?, address(start)?, data)?)
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> io::Result<()> {
        for thread in self.tracee.threads() {
            is_active(tid(thread)?);
        }
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

fn address(start: u32) -> Result<usize, TargetError<io::Error>> {
    usize::try_from(start).map_err(|_| TargetError::NonFatal)
}

impl MultiThreadResume for Target {
    fn resume(&mut self) -> io::Result<()> {
        let Resumption { named, locked } = &self.resumption;
        self.tracee.resume(|thread| !locked || named.contains(&thread))
    }

    fn clear_resume_actions(&mut self) -> io::Result<()> {
        self.resumption = Resumption::default();
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, signal: Option<Signal>) -> io::Result<()> {
        let thread = thread(tid)?;
        if let Some(signal) = signal {
            self.tracee.set_signal(thread, to_linux(signal));
        }
        self.resumption.named.push(thread);
        Ok(())
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSchedulerLocking for Target {
    fn set_resume_action_scheduler_lock(&mut self) -> io::Result<()> {
        self.resumption.locked = true;
        Ok(())
    }
}

/// The event loop, which waits for the process and the debugger at once.
#[derive(Debug)]
pub(crate) enum EventLoop {}

impl BlockingEventLoop for EventLoop {
    type Target = Target;
    type Connection = Line;
    type StopReason = MultiThreadStopReason<u32>;

    fn wait_for_stop_reason(
        target: &mut Target,
        line: &mut Line,
    ) -> Result<Event<Self::StopReason>, WaitForStopReasonError<io::Error, io::Error>> {
        use gdbstub::conn::ConnectionExt;
        loop {
            let stop = target.tracee.next().map_err(WaitForStopReasonError::Target)?;
            if let Some(stop) = stop {
                let reason = reason(stop).map_err(WaitForStopReasonError::Target)?;
                return Ok(Event::TargetStopped(reason));
            }
            if line.is_ready(LOOK_EVERY).map_err(WaitForStopReasonError::Connection)? {
                let byte = line.read().map_err(WaitForStopReasonError::Connection)?;
                return Ok(Event::IncomingData(byte));
            }
        }
    }

    fn on_interrupt(target: &mut Target) -> io::Result<Option<Self::StopReason>> {
        target.tracee.stop()?;
        let tid = tid(target.tracee.leader())?;
        Ok(Some(MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGINT }))
    }
}

fn reason(stop: Stop) -> io::Result<MultiThreadStopReason<u32>> {
    Ok(match stop {
        Stop::Signal(thread, signal) => {
            MultiThreadStopReason::SignalWithThread { tid: tid(thread)?, signal: to_gdb(signal) }
        }
        Stop::Exited(code) => {
            MultiThreadStopReason::Exited(u8::try_from(code & 0xff).unwrap_or_default())
        }
        Stop::Killed(signal) => MultiThreadStopReason::Terminated(to_gdb(signal)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_keep_their_meaning_both_ways() {
        // 16 is Linux's own for a coprocessor that nothing has.
        for number in (1..=31).filter(|number| *number != 16) {
            assert_eq!(to_linux(to_gdb(number)), number, "signal {number}");
        }
        assert_eq!(to_gdb(LinuxSignal::SEGV.as_raw()), Signal::SIGSEGV);
        assert_eq!(to_gdb(LinuxSignal::USR1.as_raw()), Signal::SIGUSR1);
    }
}
