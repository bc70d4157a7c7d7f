//! One sample of claims: of a device with one app that runs a committed release.

use holdfast_evidence::claims::{
    AppClaim, BootId, Claims, ClockSource, OsClaim, Phase, Slot, TpmState,
};
use holdfast_evidence::policy::BootDigest;
use holdfast_types::{ComponentId, Version};

/// Id of the app that the sample claims.
pub const APP: ComponentId = ComponentId([0xa1; 16]);
/// What the boot loader extends for the release that the sample claims.
pub const BOOT: BootDigest = BootDigest([0xb0; 32]);

/// Returns the sample: release 1.4.0 with rollback index 7, and an app.
#[must_use]
pub fn claims() -> Claims {
    let version = Version { major: 1, minor: 4, patch: 0 };
    Claims {
        boot: BootId([0x6b; 16]),
        image: "pump-fw".to_owned(),
        board: "qemu-virt".to_owned(),
        os: OsClaim { version, index: 7, digest: BOOT, slot: Slot::A, phase: Phase::Committed },
        apps: vec![AppClaim { id: APP, version, index: 3, root: [0x41; 32] }],
        debug: false,
        clock: ClockSource::Network,
        reset: "reboot".to_owned(),
        tpm: TpmState::Ok,
    }
}
