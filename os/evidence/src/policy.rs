//! PCR 8, into which the boot loader extends the digest of what it starts, and the policies of keys that are made of it
//! (TPM 2.0 Library, part 3, `TPM2_PolicyPCR` and `TPM2_PolicySecret`).

use sha2::{Digest, Sha256};

/// `TPML_PCR_SELECTION` of SHA-256 and PCR 8 alone: one bank, 3 octets of bits, bit 0 of the second.
pub const PCR_SELECTION: [u8; 10] = [0, 0, 0, 1, 0x00, 0x0b, 3, 0x00, 0x01, 0x00];
/// `TPM_CC_PolicyPCR`.
pub(crate) const POLICY_PCR: [u8; 4] = [0, 0, 1, 0x7f];
/// `TPM_CC_PolicySecret`.
pub(crate) const POLICY_SECRET: [u8; 4] = [0, 0, 1, 0x51];
/// `TPM_RH_ENDORSEMENT`.
pub(crate) const ENDORSEMENT: [u8; 4] = [0x40, 0, 0, 0x0b];

/// SHA-256 of what a boot loader starts: of the slot's FIT, in its own length. A release names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootDigest(pub [u8; 32]);

/// `pcrDigest` of the selection [`PCR_SELECTION`]: SHA-256 over the value of PCR 8, as quotes and policies have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrDigest(pub [u8; 32]);

/// A digest of a policy, which a key's `authPolicy` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest(pub [u8; 32]);

impl PcrDigest {
    /// Returns the digest of a PCR 8 that was extended by this digest since the reset, once, and by nothing else.
    ///
    /// What has been extended in more steps is never any release's, so nothing is to be searched: a release that was
    /// taken over could otherwise extend the digest of another behind its own.
    #[must_use]
    pub fn of_one_extend(boot: &BootDigest) -> Self {
        let pcr = Sha256::new().chain_update([0; 32]).chain_update(boot.0).finalize();
        Self(Sha256::digest(pcr).into())
    }

    /// Returns the digest of a PCR 8 into which nothing was extended since the reset: the boot loader measures nothing,
    /// or did not reach its TPM.
    #[must_use]
    pub fn of_no_extend() -> Self {
        Self(Sha256::digest([0; 32]).into())
    }

    /// True if PCR 8 was extended by this digest since the reset, once, and by nothing else.
    #[must_use]
    pub fn is_one_extend_of(&self, boot: &BootDigest) -> bool {
        *self == Self::of_one_extend(boot)
    }
}

impl PolicyDigest {
    /// Returns the policy of a key that is used while PCR 8 has the value of this digest: `PolicyPCR` alone.
    #[must_use]
    pub fn of_pcr(pcr: &PcrDigest) -> Self {
        let policy = Sha256::new()
            .chain_update([0; 32])
            .chain_update(POLICY_PCR)
            .chain_update(PCR_SELECTION)
            .chain_update(pcr.0);
        Self(policy.finalize().into())
    }

    /// Returns the policy of endorsement keys: `PolicySecret` with the authorization of the endorsement hierarchy (TCG
    /// EK Credential Profile for TPM 2.0, B.3.3).
    #[must_use]
    pub fn of_endorsement() -> Self {
        let secret = Sha256::new()
            .chain_update([0; 32])
            .chain_update(POLICY_SECRET)
            .chain_update(ENDORSEMENT)
            .finalize();
        // The second step is of `policyRef`, which is empty.
        Self(Sha256::digest(secret).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::hex::unhex;

    #[test]
    fn one_extend_is_not_two_and_not_none() {
        let [first, second] = [BootDigest([1; 32]), BootDigest([2; 32])];
        assert!(PcrDigest::of_one_extend(&first).is_one_extend_of(&first));
        assert!(!PcrDigest::of_one_extend(&first).is_one_extend_of(&second));
        assert!(!PcrDigest::of_no_extend().is_one_extend_of(&first));
        let one = Sha256::new().chain_update([0; 32]).chain_update(first.0).finalize();
        let two = Sha256::new().chain_update(one).chain_update(second.0).finalize();
        let two = PcrDigest(Sha256::digest(two).into());
        assert!(!two.is_one_extend_of(&first) && !two.is_one_extend_of(&second));
    }

    #[test]
    fn the_policy_of_endorsement_keys_is_the_profiles() {
        let profile = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
        assert_eq!(PolicyDigest::of_endorsement().0, unhex(profile).unwrap());
    }
}
