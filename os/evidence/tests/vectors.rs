//! Public areas, a quote and a certification that stock tools have had a TPM make, read by this crate.
//!
//! swtpm 0.7.1 with libtpms 0.9.2 and tpm2-tools 5.4, `-Q` and contexts left out:
//!
//! ```text
//! tpm2_pcrextend 8:sha256=b0...b0
//! tpm2_createprimary -C e -G ecc256:ecdsa-sha256:null -a "$FIXED|userwithauth|noda|restricted|sign"         AK
//! tpm2_createek -G ecc                                                                                      EK
//! tpm2_createprimary -C o -G ecc256:aes128cfb -a "$FIXED|userwithauth|noda|restricted|decrypt"              SRK
//! tpm2_createpolicy --policy-pcr -l sha256:8 -L policy                                                      POLICY
//! tpm2_create -G ecc256:ecdsa-sha256:null -a "$FIXED|noda|sign" -L policy                                   KEY
//! tpm2_quote -c AK -l sha256:8 -q $QUALIFYING_DATA -g sha256                                                QUOTE
//! tpm2_certify -c KEY -C AK -g sha256                                                                       CERTIFY
//! ```
//!
//! `FIXED` is `fixedtpm|fixedparent|sensitivedataorigin`. The qualifying data was calculated with Python's `hashlib` from
//! [`CLAIMS`] and an exporter of 32 bytes 0x0e. `tpm2_certify` takes none, and puts four bytes of its own there.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::attest::{Quote, Signature, Signed};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{AttestationKey, EndorsementKey, Public, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::service::Ring;
use holdfast_evidence::verify;
use holdfast_evidence::verify::{Evidence, KeyEvidence, VerifySignature};

const EXPORTER: Exporter = Exporter([0x0e; 32]);
const BOOT: BootDigest = BootDigest([0xb0; 32]);

const CLAIMS: &str = concat!(
    r#"{"v":1,"boot":"6b1f6b1f6b1f6b1f6b1f6b1f6b1f6b1f","image":"pump-fw","board":"qemu"#,
    r#"-virt","os":{"version":"1.4.0","index":7,"digest":"b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"#,
    r#"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0","slot":"b","phase":"committed"},"apps":[],""#,
    r#"debug":false,"clock":"network","reset":"reboot","tpm":"ok"}"#,
);
const AK: &str = concat!(
    "00580023000b00050472000000100018000b000300100020d6e6fd4cc0c5363d50ce6301ea2c1c860224f94b3d28f488",
    "61ba81746c5340ec002011d055ddc8f70d333941d510a78ab538d46fc16e8da2b93014fbff282e023aee",
);
const EK: &str = concat!(
    "007a0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080",
    "004300100003001000203a8458d1901cdce57be3f0c17416a88bfbccaf87932ad6f75192a87062bb78bc002073ab1eac",
    "ff912fd4e6e554b5e7215abd930529a91efa41bc5f43675c79759c4d",
);
const SRK: &str = concat!(
    "005a0023000b00030472000000060080004300100003001000204d13a16c8a746e148c532592df85ad08c989c64366ad",
    "0628d3529a0c8818b00a0020b45debc7ba13bf05c585875d05610911c4298f549a054f8495dcccc2b6c625fe",
);
const POLICY: &str = "20ab7747b89c810916156b86fb68ccded3e80c00709d49e40e5a3edd82b9b2fa";
const KEY: &str = concat!(
    "00780023000b00040432002020ab7747b89c810916156b86fb68ccded3e80c00709d49e40e5a3edd82b9b2fa00100018",
    "000b0003001000208461e08b59ff0ceb4848a576e14bb537deda1d6e50bffc84565ddba0de8e5a530020959c0188e311",
    "25dc17872f0c5523742012f010162816c1da6371e7215abf59da",
);
const QUOTE: &str = concat!(
    "ff54434780180022000bb82c440dac54dc88c47ed053b40d8875745902824576cbf305108b9d1f518bf60020f6ad3a1f",
    "a796455d146860b85d390d11298d58bc2bb3076a1ce794e72b7598a6000000000000093c000000010000000001201910",
    "230016363600000001000b030001000020a905e5633a417668497839bf85335633162a7f5be4d30bb3afce3ff2daa53f",
    "ca",
);
const QUOTE_SIGNATURE: &str = concat!(
    "0018000b0020a807912c718f2cbab5f144af5c7155d0c06e50856e5e2948e82c0864c172e58200202d633b688b2464aa",
    "c5260881f2ea07c0e6aefd64ca691179f3501faffee37d30",
);
const CERTIFY: &str = concat!(
    "ff54434780170022000bb82c440dac54dc88c47ed053b40d8875745902824576cbf305108b9d1f518bf6000400ff55aa",
    "000000000000094f00000001000000000120191023001636360022000b14509dfac144c29cfaf8ce72e2fce67186edcb",
    "56baca3c69f0ebc0ceb062862e0022000b496a38a22a0b86250fca82f5276c2e78a67da052bfa4739f7930781d00f737",
    "95",
);
const CERTIFY_SIGNATURE: &str = concat!(
    "0018000b0020ec361380fb31b097f1c4eae002b8809e75015513895b1e65cc8ddcfbcf3f01e60020b6893586a6721ef4",
    "9536a09b1f70da2aeef1022dadc04ee30fa3fab3fb336365",
);

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn policy() -> PolicyDigest {
    PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BOOT))
}

#[test]
fn public_areas_and_policies_are_those_of_stock_tools() {
    EndorsementKey::read(&bytes(EK)).unwrap();
    Public::read(&bytes(SRK), &Template::StorageRoot).unwrap();
    assert_eq!(policy().0, bytes(POLICY)[..]);
    let key = Public::read(&bytes(KEY), &Template::Signing(policy())).unwrap();
    assert_eq!(key.to_bytes(), bytes(KEY));
    // One is not taken for another.
    EndorsementKey::read(&bytes(SRK)).unwrap_err();
    AttestationKey::read(&bytes(KEY)).unwrap_err();
}

#[test]
fn a_quote_by_stock_tools_is_taken_and_its_certification_is_not() {
    let ak = AttestationKey::read(&bytes(AK)).unwrap();
    let (attest, signature) = (bytes(QUOTE), bytes(QUOTE_SIGNATURE));
    let quote = Signed { attest: &attest, signature: &signature };
    let verified = |claims: &str, keys: &[KeyEvidence<'_>]| {
        let evidence = Evidence { claims: claims.as_bytes(), quote, keys };
        verify(&evidence, &EXPORTER, &ak, &Ring).map_err(|error| format!("{error:?}"))
    };
    // All but the key that is missing.
    assert_eq!(verified(CLAIMS, &[]), Err("NoDeviceKey".to_owned()));
    let other = CLAIMS.replace("false", "true");
    assert_eq!(verified(&other, &[]), Err("Quote(QualifyingData)".to_owned()));
    assert!(Quote::read(&attest).unwrap().pcr.is_one_extend_of(&BOOT));

    let (public, attest, signature) = (bytes(KEY), bytes(CERTIFY), bytes(CERTIFY_SIGNATURE));
    let certification = Signed { attest: &attest, signature: &signature };
    let signed = Signature::read(&signature).unwrap();
    assert!(Ring.is_valid(ak.public().point(), &attest, &signed));
    let key = KeyEvidence { purpose: Purpose::Device, public: &public, certification };
    let says = verified(CLAIMS, &[key]).unwrap_err();
    assert!(says.contains("Certification(Attest(Value(\"extraData\")))"), "{says}");
}
