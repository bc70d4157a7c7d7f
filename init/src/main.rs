//! PID 1 of a Holdfast device: boot, supervise, shut down.
//!
//! init is synchronous and has one thread. It opens no network socket, and of what a component
//! says it reads only bounded datagrams. Whatever goes wrong here ends in a reboot, never in a
//! hang: an error and a panic reboot by themselves, a dead PID 1 makes the kernel panic and
//! reboot, and a stuck one is reset by the hardware watchdog.

mod app_store;
mod app_uids;
mod boot;
mod boot_loader;
mod clock;
mod component;
mod factory_reset;
mod floors;
mod log;
mod mounted;
mod network;
mod os_floor;
mod package;
mod slots;
mod start_error;
mod starter;
mod supervise;

use crate::app_uids::AppUids;
use crate::clock::Clock;
use crate::log::Log;
use crate::slots::Slots;
use holdfast_lifecycle::breadcrumb::Breadcrumb;
use holdfast_lifecycle::patience::WATCHDOG_S;
use holdfast_lifecycle::reducer::End;
use holdfast_linux::clock::monotonic;
use holdfast_linux::memory;
use holdfast_linux::power;
use holdfast_linux::watchdog::Watchdog;
use holdfast_types::chain;
use holdfast_types::event::init as event;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // The first statement: `holdfast measure` counts init's start from here.
    let entered = monotonic();
    if std::process::id() != 1 {
        eprintln!("init: runs only as PID 1 of a Holdfast device; it does nothing here");
        return ExitCode::from(2);
    }
    power::reboot_on_panic();
    let log = Log::console();
    let end = match run(&log, entered) {
        Ok(end) => end,
        Err(error) => {
            let breadcrumb = Breadcrumb::CannotGoOn(chain(&*error));
            log.error(breadcrumb.event(), &breadcrumb.to_string());
            End::Reboot
        }
    };
    match end {
        End::Reboot => log.notice(event::REBOOTING, "rebooting"),
        End::PowerOff => log.notice(event::POWERING_OFF, "powering off"),
    }
    let refused = power::end(end);
    log.failure(event::SHUTDOWN_FAILED, "cannot shut down", &refused);
    // The kernel panics when PID 1 ends, and a panic reboots.
    std::process::abort()
}

fn run(log: &Log, entered: Duration) -> Result<End, Box<dyn std::error::Error>> {
    boot::mount_kernel_views()?;
    log.use_kernel_log()?;
    // From the root file system, of which every block is checked as it is read.
    let list = boot::read_component_list()?;
    log.banner(&list.image, entered);
    // Before there is a component that could use up the memory: what the kernel takes back of
    // init's it reads again from a medium that may be slow, or gone.
    if let Err(error) = memory::stay() {
        log.failure(event::MEMORY_LOCK_FAILED, "cannot lock init's memory", &error);
    }
    // Before there is a component that could use what these settings close.
    boot::harden_kernel(&list.image)?;
    boot::set_hostname(&list.image.hostname)?;
    // As far as it goes without `state`: file systems that are mounted note a time that can be.
    let mut clock = Clock::start(list.image.build_time)?;
    // From here on, whatever hangs is reset.
    let watchdog = Watchdog::arm(WATCHDOG_S);
    if watchdog.is_some() {
        log.notice(event::WATCHDOG_ARMED, "watchdog armed");
    } else {
        log.warning(event::WATCHDOG_MISSING, "there is no watchdog");
    }
    boot::mend_partition_tables(log);
    // Only what is not mounted can be erased.
    let reset = factory_reset::begin(log, watchdog.as_ref());
    boot::mount_partitions(log, watchdog.as_ref());
    if let Some(reset) = &reset {
        reset.put_back(log);
    }
    clock.raise_to_saved(log)?;
    let mut app_uids = AppUids::load(log);
    if let Some(reset) = reset {
        reset.finish(log, &mut app_uids);
    }
    // A release that must not run ends here, before anything of it is started.
    let mut slots = Slots::prepare(log, &list.image, &app_uids)?;
    slots.look(log, watchdog.as_ref());
    // It waits until the kernel has gathered enough, so that no component begins with numbers that
    // can be guessed.
    boot::renew_entropy_seed(log)?;
    let held = supervise::Holdings { slots, clock, app_uids };
    let mut supervision = supervise::Supervision::prepare(log, list, held, watchdog)?;
    let end = supervision.run()?;
    // In this order: a package is in use while its processes live, and the partition of packages
    // while one is mounted.
    supervision.release_packages();
    drop(supervision);
    boot::unmount_partitions(log);
    Ok(end)
}
