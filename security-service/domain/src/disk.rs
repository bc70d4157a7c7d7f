//! What is written while the disk fills: devices' identity goes on longest, since a service whose disk is full loses everything at once.

use crate::problem::Problem;
use crate::settings::DiskSettings;

/// Seconds after which whoever was refused for want of room comes again.
pub const RETRY_S: u64 = 15 * 60;

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that the service may still write.
    pub free_bytes: u64,
    /// Bytes that it has.
    pub total_bytes: u64,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// For check-ins alone.
    CheckIns,
    /// For all but reports and symbols.
    NoReports,
    /// For everything.
    All,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// What a device has attested.
    CheckIn,
    /// What a device reports, or symbols that name it.
    Report,
    /// Anything else: enrolments, and what people change.
    Other,
}

/// Decides how much room there is. A file system that has no size, as some of networks, is taken for one with room.
#[must_use]
pub fn room(space: Space, settings: &DiskSettings) -> Room {
    let is_below = |percent: u8| {
        let free = u128::from(space.free_bytes).saturating_mul(100);
        free < u128::from(space.total_bytes).saturating_mul(u128::from(percent))
    };
    if is_below(settings.writes_percent) {
        Room::CheckIns
    } else if is_below(settings.reports_percent) {
        Room::NoReports
    } else {
        Room::All
    }
}

impl Room {
    /// Refuses what there is no room for.
    ///
    /// # Errors
    /// [`Problem::DiskFull`].
    pub fn admit(self, write: Write) -> Result<(), Problem> {
        let needed = match write {
            Write::CheckIn => Self::CheckIns,
            Write::Other => Self::NoReports,
            Write::Report => Self::All,
        };
        if self >= needed { Ok(()) } else { Err(Problem::DiskFull) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_end_first_and_check_ins_never() {
        let usual = DiskSettings::default();
        let of = |free_bytes, total_bytes| room(Space { free_bytes, total_bytes }, &usual);
        for (free, expected, admitted) in [
            (1000, Room::All, [true, true, true]),
            (100, Room::All, [true, true, true]),
            (99, Room::NoReports, [true, true, false]),
            (50, Room::NoReports, [true, true, false]),
            (49, Room::CheckIns, [true, false, false]),
            (0, Room::CheckIns, [true, false, false]),
        ] {
            let room = of(free, 1000);
            assert_eq!(room, expected, "{free}");
            let writes = [Write::CheckIn, Write::Other, Write::Report];
            assert_eq!(writes.map(|write| room.admit(write).is_ok()), admitted, "{free}");
        }
        assert_eq!(of(0, 0), Room::All, "it has no size");
        assert_eq!(of(u64::MAX / 20, u64::MAX), Room::CheckIns, "and no sum overflows");
        let none = DiskSettings { reports_percent: 0, writes_percent: 0 };
        assert_eq!(room(Space { free_bytes: 0, total_bytes: 1000 }, &none), Room::All);
    }
}
