//! When a device checks in next: at a second of the day that is its own, so that a fleet's minutes fill evenly.

use holdfast_evidence::messages::DeviceId;

/// Seconds of a day.
pub const DAY_S: u64 = 24 * 60 * 60;
/// Seconds for which certificates are good.
pub const CERTIFICATE_S: u64 = 48 * 60 * 60;
/// Seconds for which certificates of a release on trial are good.
pub const TRIAL_CERTIFICATE_S: u64 = 2 * 60 * 60;
/// Seconds by which certificates are dated back, for clocks that are behind.
pub const BACKDATED_S: u64 = 10 * 60;
/// Seconds after which a device on trial checks in again: once its certificates are half over.
pub const TRIAL_NEXT_S: u32 = 60 * 60;
/// Seconds after which a device checks in again while an emergency deployment is on its way in its group.
pub const EMERGENCY_NEXT_S: u32 = 15 * 60;
/// Seconds after which a device that nobody has claimed asks again.
pub const WAITING_NEXT_S: u32 = 15 * 60;
/// Least and most seconds from one check-in of a device to the next that an installation may ask for: devices come no sooner than the one,
/// and by the other their certificates are half over.
pub const EVERY_S: (u32, u32) = (60, 24 * 60 * 60);

/// Returns the seconds from `now` (since 1970) until the device's second of the interval: half of the interval to one and a half. Of a day,
/// that is 12 to 36 hours, so that a certificate still has 12 hours of its 48 then. An interval beyond [`EVERY_S`] is its nearest bound.
#[must_use]
pub fn next_s(device: &DeviceId, now: u64, every_s: u32) -> u32 {
    let every = u64::from(every_s.clamp(EVERY_S.0, EVERY_S.1));
    let (since, least) = (|time: u64| time.checked_rem(every).unwrap_or(0), every / 2);
    let hash = device.0.iter().take(8).fold(0u64, |hash, byte| hash << 8 | u64::from(*byte));
    let own = since(hash);
    let earliest = since(now.saturating_add(least));
    let wait = since(own.saturating_add(every).saturating_sub(earliest));
    u32::try_from(wait.saturating_add(least)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow is a failed test")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_device_has_one_second_of_the_interval(
            id in any::<[u8; 32]>(), now in 0..1u64 << 40, every_s in EVERY_S.0..=EVERY_S.1
        ) {
            let (device, every) = (DeviceId(id), u64::from(every_s));
            let next = u64::from(next_s(&device, now, every_s));
            prop_assert!((every / 2..every / 2 + every).contains(&next));
            let at = now + next;
            let after = at + u64::from(next_s(&device, at, every_s));
            prop_assert_eq!(after - at, every);
        }
    }

    #[test]
    fn an_interval_beyond_the_bounds_is_the_nearest_one() {
        let device = DeviceId([7; 32]);
        for (asked, taken) in [(0, EVERY_S.0), (1, EVERY_S.0), (u32::MAX, EVERY_S.1)] {
            assert_eq!(next_s(&device, 1_000_000, asked), next_s(&device, 1_000_000, taken));
        }
    }

    #[test]
    fn the_minutes_of_a_fleet_fill_evenly() {
        use sha2::{Digest, Sha256};
        let mut minutes = vec![0u32; 1440];
        for number in 0..144_000u32 {
            let device = DeviceId(Sha256::digest(number.to_be_bytes()).into());
            let at = (1_000_000 + u64::from(next_s(&device, 1_000_000, EVERY_S.1))) % DAY_S;
            minutes[usize::try_from(at / 60).unwrap()] += 1;
        }
        let (least, most) = (minutes.iter().min().unwrap(), minutes.iter().max().unwrap());
        assert!(*least > 55 && *most < 155, "{least} to {most}, of 100 a minute");
    }
}
