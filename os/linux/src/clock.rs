//! The kernel's clocks.

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::io;
use std::time::Duration;

/// Time since the kernel started its clock, suspend excluded.
#[must_use]
pub fn monotonic() -> Duration {
    // Deadlines are counted by this clock, as it does not jump when the other one is set.
    to_duration(clock_gettime(ClockId::Monotonic))
}

/// Milliseconds of [`monotonic`].
#[must_use]
pub fn monotonic_ms() -> u64 {
    u64::try_from(monotonic().as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970 as the kernel believes.
#[must_use]
pub fn realtime_seconds() -> u64 {
    to_duration(clock_gettime(ClockId::Realtime)).as_secs()
}

/// Microseconds since 1970 as the kernel believes.
#[must_use]
pub fn realtime_us() -> u64 {
    u64::try_from(to_duration(clock_gettime(ClockId::Realtime)).as_micros()).unwrap_or(u64::MAX)
}

/// Moves the real-time clock by so many microseconds at once.
///
/// # Errors
/// The caller lacks `CAP_SYS_TIME`, or the time would be none that the kernel can hold.
pub fn step(by_us: i64) -> io::Result<()> {
    let beyond = || io::Error::from(io::ErrorKind::InvalidInput);
    let us = realtime_us().checked_add_signed(by_us).ok_or_else(beyond)?;
    // Seconds have 64 bits also on 32-bit ARM: rustix calls `clock_settime64`, whatever `time_t` of
    // the C library has.
    let time = Timespec::try_from(Duration::from_micros(us)).map_err(io::Error::other)?;
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Brings the real-time clock nearer by so many microseconds, bit by bit (`adjtime(3)`). It takes the
/// place of what was left of an earlier one.
///
/// # Errors
/// The caller lacks `CAP_SYS_TIME`.
pub fn slew(by_us: i32) -> io::Result<()> {
    // SAFETY: a `timex` is numbers alone, for which zero is valid.
    let mut adjustment: libc::timex = unsafe { std::mem::zeroed() };
    // The kernel changes the clock's pace by 500 microseconds a second at most, and no program sees
    // it go back (adjtimex(2)).
    adjustment.modes = libc::ADJ_OFFSET_SINGLESHOT;
    adjustment.offset = by_us.into();
    // SAFETY: the pointer is to a whole `timex` that lives through the call; the kernel writes its
    // answer there.
    if unsafe { libc::adjtimex(&raw mut adjustment) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Moves the real-time clock forward to `floor` (seconds since 1970) where it shows less. True if
/// it was moved. It is never moved back.
///
/// # Errors
/// The caller lacks `CAP_SYS_TIME`, or `floor` is beyond what the kernel can hold.
pub fn raise_to(floor: u64) -> io::Result<bool> {
    if realtime_seconds() >= floor {
        return Ok(false);
    }
    let tv_sec = i64::try_from(floor).map_err(io::Error::other)?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })?;
    Ok(true)
}

/// Seconds since 1970 that the board's real-time clock shows; `None` where there is none.
///
/// On 32-bit processors the kernel does not take over a clock that shows 2038 or later by itself
/// (`rtc_hctosys`), so somebody else must.
#[must_use]
pub fn hardware_seconds() -> Option<u64> {
    let text = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?;
    text.trim().parse().ok()
}

/// The processor's virtual counter and its frequency in Hz, `None` where it has none. It counts
/// from reset, so it dates what happened before the kernel had a clock. Only test programs read
/// it: a kernel may forbid the instruction to user space, and then the reader dies.
#[must_use]
pub fn counter() -> Option<(u64, u32)> {
    #[cfg(target_arch = "arm")]
    {
        let (low, high, frequency): (u32, u32, u32);
        // SAFETY: `mrrc` and `mrc` copy CNTVCT and CNTFRQ (ARM DDI 0406C, B8) into three
        // registers; they touch neither memory nor flags.
        unsafe {
            std::arch::asm!(
                "mrrc p15, 1, {low}, {high}, c14",
                "mrc p15, 0, {frequency}, c14, c0, 0",
                low = out(reg) low, high = out(reg) high, frequency = out(reg) frequency,
                options(nomem, nostack, preserves_flags)
            );
        }
        Some((u64::from(high) << 32 | u64::from(low), frequency))
    }
    #[cfg(not(target_arch = "arm"))]
    None
}

fn to_duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
