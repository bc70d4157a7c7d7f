//! Receipts: what a check-in gives and the next must return, so that two copies of a device cannot both go on unseen.
//!
//! A receipt is a number with an HMAC over catalog, device and number: 40 bytes. The device keeps one. The service keeps two
//! numbers: of the newest that it has given, and of the one that was returned for it. Whoever returns the latter has not
//! seen the answer, and gets another newest in its place; the one that was lost is never taken again. So a copy that goes
//! on with it is found, and an answer that was lost costs nothing.

use holdfast_evidence::messages::{CatalogId, DeviceId};
use ring::hmac;

/// Bytes of a receipt: the number, big-endian, and HMAC-SHA-256.
pub const RECEIPT_BYTES: usize = 40;

/// The key of a service's receipts.
#[derive(Clone)]
pub struct ReceiptKey(hmac::Key);

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptKey")
    }
}

/// What the service knows of a device's receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipts {
    /// Number of the newest that was given; 0 before the first.
    pub newest: u64,
    /// Number of the one that was returned for it; 0 where none was.
    pub returned: u64,
}

/// What a receipt says of the device that returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The device is the one that had the newest, or has not seen the last answer.
    InOrder,
    /// Another has the newest: there are two of the device, or its state was put back.
    Forked,
}

impl ReceiptKey {
    /// Makes the key from 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Returns the receipt of this number.
    #[must_use]
    pub fn make(&self, catalog: &CatalogId, device: &DeviceId, number: u64) -> Vec<u8> {
        let tag = hmac::sign(&self.0, &message(catalog, device, number));
        [&number.to_be_bytes()[..], tag.as_ref()].concat()
    }

    /// Returns the number of a receipt that this service has given to this device.
    #[must_use]
    pub fn number(&self, catalog: &CatalogId, device: &DeviceId, receipt: &[u8]) -> Option<u64> {
        let (number, tag) = receipt.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        hmac::verify(&self.0, &message(catalog, device, number), tag).ok().map(|()| number)
    }
}

/// `"holdfast-receipt-1" ‖ 0 ‖ catalog ‖ device ‖ number`; each part has a fixed length.
fn message(catalog: &CatalogId, device: &DeviceId, number: u64) -> Vec<u8> {
    [&b"holdfast-receipt-1\0"[..], &catalog.0, &device.0, &number.to_be_bytes()].concat()
}

impl Receipts {
    /// Judges what a device returns, and says what the service knows afterwards; `newest` is then the number to give.
    ///
    /// `returned` is the number of the receipt: 0 for one whose HMAC is not right, and nothing where there was none.
    /// `may_lose` is true for devices whose key outlives a reset, which erases the receipt: those with a TPM, of which
    /// there are no copies.
    #[must_use]
    pub fn accept(self, returned: Option<u64>, may_lose: bool) -> (Returned, Self) {
        let next = |base: u64| base.max(self.newest).saturating_add(1);
        let first = self.newest == 0;
        match returned {
            // A service that was restored from a backup knows newer ones as its own.
            Some(number) if number >= self.newest => {
                (Returned::InOrder, Self { newest: next(number), returned: number })
            }
            Some(number) if number == self.returned => {
                (Returned::InOrder, Self { newest: next(number), returned: number })
            }
            None if first || may_lose => (Returned::InOrder, Self { newest: next(0), returned: 0 }),
            // The first answer was lost: the device has never had a receipt.
            None if self.returned == 0 => {
                (Returned::InOrder, Self { newest: next(0), returned: 0 })
            }
            Some(_) | None => (Returned::Forked, Self { newest: next(0), returned: self.newest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CATALOG: CatalogId = CatalogId([7; 16]);
    const DEVICE: DeviceId = DeviceId([9; 32]);

    #[test]
    fn a_receipt_is_good_for_its_device_in_its_catalog() {
        let key = ReceiptKey::new(&[1; 32]);
        let receipt = key.make(&CATALOG, &DEVICE, 5);
        assert_eq!(receipt.len(), RECEIPT_BYTES);
        assert_eq!(key.number(&CATALOG, &DEVICE, &receipt), Some(5), "the control");
        assert_eq!(key.number(&CatalogId([8; 16]), &DEVICE, &receipt), None);
        assert_eq!(key.number(&CATALOG, &DeviceId([8; 32]), &receipt), None);
        assert_eq!(ReceiptKey::new(&[2; 32]).number(&CATALOG, &DEVICE, &receipt), None);
        for at in 0..RECEIPT_BYTES {
            let mut other = receipt.clone();
            other[at] ^= 1;
            assert_eq!(key.number(&CATALOG, &DEVICE, &other), None, "byte {at}");
        }
        assert_eq!(key.number(&CATALOG, &DEVICE, &receipt[..39]), None);
        assert_eq!(key.number(&CATALOG, &DEVICE, &[]), None);
    }

    #[test]
    fn a_lost_answer_is_forgiven_and_the_lost_receipt_is_not_taken() {
        let (first, after) = Receipts::default().accept(None, false);
        assert_eq!((first, after), (Returned::InOrder, Receipts { newest: 1, returned: 0 }));
        let (second, after) = after.accept(Some(1), false);
        assert_eq!((second, after), (Returned::InOrder, Receipts { newest: 2, returned: 1 }));
        // The answer with 2 is lost, twice.
        let (third, after) = after.accept(Some(1), false);
        assert_eq!((third, after), (Returned::InOrder, Receipts { newest: 3, returned: 1 }));
        let (fourth, after) = after.accept(Some(1), false);
        assert_eq!((fourth, after), (Returned::InOrder, Receipts { newest: 4, returned: 1 }));
        let (lost, _) = after.accept(Some(2), false);
        assert_eq!(lost, Returned::Forked);
        let (seen, after) = after.accept(Some(4), false);
        assert_eq!((seen, after), (Returned::InOrder, Receipts { newest: 5, returned: 4 }));
        assert_eq!(after.accept(Some(1), false).0, Returned::Forked, "4 was returned since");
    }

    #[test]
    fn a_device_without_a_tpm_cannot_pretend_to_be_new() {
        let known = Receipts { newest: 5, returned: 4 };
        assert_eq!(known.accept(None, false).0, Returned::Forked);
        assert_eq!(known.accept(None, true).0, Returned::InOrder, "a TPM survives a reset");
    }

    #[test]
    fn a_restored_service_takes_newer_receipts_as_its_own() {
        let old = Receipts { newest: 5, returned: 4 };
        let expected = Receipts { newest: 10, returned: 9 };
        assert_eq!(old.accept(Some(9), false), (Returned::InOrder, expected));
    }

    proptest! {
        /// Two copies begin with one receipt and check in in any order, while answers are lost in any order. As soon as both
        /// have seen an answer, one of them is found at its next check-in.
        #[test]
        fn a_copied_device_is_found(
            steps in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..40),
        ) {
            let (_, mut service) = Receipts::default().accept(None, false);
            let mut holds = [service.newest; 2];
            let mut seen = [false; 2];
            let mut found = false;
            for (which, lost) in steps {
                let copy = usize::from(which);
                let (verdict, after) = service.accept(Some(holds[copy]), false);
                found |= verdict == Returned::Forked;
                service = after;
                if !lost {
                    holds[copy] = service.newest;
                    seen[copy] = true;
                }
            }
            // Both have seen an answer, and both have checked in again.
            let mut last = service;
            for copy in [0, 1] {
                let (verdict, after) = last.accept(Some(holds[copy]), false);
                found |= verdict == Returned::Forked;
                last = after;
            }
            prop_assert!(found || !(seen[0] && seen[1]));
        }

        /// A device that is alone is never taken for two, whatever answers are lost.
        #[test]
        fn a_device_that_is_alone_is_never_forked(lost in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut service = Receipts::default();
            let mut holds = None;
            for lost in lost {
                let (verdict, after) = service.accept(holds, false);
                prop_assert_eq!(verdict, Returned::InOrder);
                prop_assert!(after.newest > service.newest);
                service = after;
                if !lost {
                    holds = Some(service.newest);
                }
            }
        }
    }
}
