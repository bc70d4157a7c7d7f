//! Devices that are enrolled in an installation of a test's own.

use crate::installation::Installation;
use holdfast_service_domain::grade::Grade;

pub(crate) use holdfast_service_clients::{
    Shown, SoftwareDevice, TpmDevice, batch, checked_in, point, post, report, software_key,
};
pub(crate) use holdfast_swtpm::APP;

/// Makes a device with a TPM that is enrolled.
pub(crate) fn tpm_device(service: &Installation) -> TpmDevice {
    let mut device = TpmDevice::new(service.catalog);
    service.claim(&device.id.to_string(), Grade::Emulated);
    let answer = device.enrol(&service.device);
    assert_eq!(answer.status, 200, "{answer:?}");
    device
}

/// Makes a device with a key of software that is enrolled.
pub(crate) fn software_device(service: &Installation) -> SoftwareDevice {
    let device = SoftwareDevice::new(service.catalog);
    service.claim(&device.id.to_string(), Grade::Software);
    let answer = device.enrol(&service.device);
    assert_eq!(answer.status, 200, "{answer:?}");
    device
}
