//! Peers and policies, as the header has them.

use crate::failure::{Failure, copy_text};
use crate::memory::{reference, text};
use holdfast_sdk_identity::{ComponentId, DeviceId, Grade, Peer, PeerPolicy};
use std::ffi::c_char;

/// `struct holdfast_peer`.
#[derive(Debug)]
#[repr(C)]
pub struct HoldfastPeer {
    catalog: [u8; 37],
    device: [u8; 65],
    component: [u8; 37],
    version: [u8; 33],
    grade: u32,
    rollback_index: u64,
}

/// `struct holdfast_policy`.
#[derive(Debug)]
#[repr(C)]
pub struct HoldfastPolicy {
    component: *const c_char,
    device: *const c_char,
    grades: u32,
    least_rollback_index: u64,
}

/// Returns the bit of a grade.
fn bit(grade: Grade) -> u32 {
    let index = Grade::ALL.iter().position(|known| *known == grade);
    let index = index.and_then(|index| u32::try_from(index).ok());
    index.and_then(|index| 1u32.checked_shl(index)).unwrap_or(0)
}

impl HoldfastPeer {
    pub(crate) fn new(peer: &Peer) -> Self {
        let mut told = Self {
            catalog: [0; 37],
            device: [0; 65],
            component: [0; 37],
            version: [0; 33],
            grade: bit(peer.grade),
            rollback_index: peer.release.rollback_index,
        };
        copy_text(&mut told.catalog, &peer.catalog.to_string());
        copy_text(&mut told.device, peer.device.as_str());
        let component = peer.component.map(|id| id.to_string());
        copy_text(&mut told.component, &component.unwrap_or_default());
        copy_text(&mut told.version, &peer.release.version.to_string());
        told
    }
}

impl HoldfastPolicy {
    /// Reads a policy of C's.
    ///
    /// # Safety
    /// `pointer` is NULL, or leads to one whose texts are NULL or end in a zero byte.
    pub(crate) unsafe fn read(pointer: *const Self) -> Result<PeerPolicy, Failure> {
        // SAFETY: the caller says so.
        let policy = unsafe { reference(pointer, "policy") }?;
        // SAFETY: the caller says so.
        let component = unsafe { text(policy.component, "policy.component") }?;
        // SAFETY: the caller says so.
        let device = unsafe { text(policy.device, "policy.device") }?;
        let component = component.map(|text| {
            let id = ComponentId::parse(text);
            id.ok_or_else(|| Failure::argument("policy.component is no GUID"))
        });
        let device = device.map(|text| {
            let id = text.parse::<DeviceId>();
            id.map_err(|error| Failure::argument(&format!("policy.device: {error}")))
        });
        let all = Grade::ALL.into_iter().fold(0, |all, grade| all | bit(grade));
        if policy.grades & !all != 0 {
            return Err(Failure::argument("policy.grades has a bit that is no grade's"));
        }
        let grades = Grade::ALL.into_iter().filter(|grade| policy.grades & bit(*grade) != 0);
        Ok(PeerPolicy {
            component: component.transpose()?,
            device: device.transpose()?,
            grades: grades.collect(),
            least_rollback_index: policy.least_rollback_index,
        })
    }
}
