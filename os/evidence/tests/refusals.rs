//! Evidence of a device whose keys are in this process: each thing that is not as it must be is refused, by its own error,
//! and the same evidence without it is taken.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::attest::{Certification, ClockInfo, Header, Quote, Signature, Signed};
use holdfast_evidence::claims::{AppClaim, Claims};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{AttestationKey, Point, Public, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_evidence::service::Ring;
use holdfast_evidence::software::{SoftwareEvidence, message, verify_software};
use holdfast_evidence::verify;
use holdfast_evidence::verify::{Attested, Evidence, EvidenceError, KeyEvidence, MAX_KEYS};
use holdfast_swtpm::{APP, BOOT};
use holdfast_types::ComponentId;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

const EXPORTER: Exporter = Exporter([0x0e; 32]);
const OTHER_APP: ComponentId = ComponentId([0xa2; 16]);

/// A key in this process, in place of one in a TPM.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    fn point(&self) -> Point {
        Point::from_uncompressed(self.0.public_key().as_ref()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.0.sign(&SystemRandom::new(), message).unwrap();
        Signature(signature.as_ref().try_into().unwrap())
    }

    /// Its `TPM2B_PUBLIC`.
    fn public(&self, template: &Template) -> Vec<u8> {
        sized(&template.area(&self.point()))
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A message of a device before it is sent, of which a test makes another.
struct Sent {
    claims: Vec<u8>,
    quote: (Vec<u8>, Vec<u8>),
    keys: Vec<SentKey>,
}

#[derive(Clone)]
struct SentKey {
    purpose: Purpose,
    public: Vec<u8>,
    attest: Vec<u8>,
    signature: Vec<u8>,
}

struct Device {
    ak: Key,
    ak_public: AttestationKey,
    keys: [Key; 3],
}

/// The sample, with another app.
fn claims() -> Claims {
    let mut claims = holdfast_swtpm::claims();
    let other = AppClaim { id: OTHER_APP, ..claims.apps[0] };
    claims.apps.push(other);
    claims
}

fn pcr() -> PcrDigest {
    PcrDigest::of_one_extend(&BOOT)
}

fn signing(pcr: &PcrDigest) -> Template {
    Template::Signing(PolicyDigest::of_pcr(pcr))
}

impl Device {
    fn new() -> Self {
        let ak = Key::new();
        let ak_public = AttestationKey::read(&ak.public(&Template::Attestation)).unwrap();
        Self { ak, ak_public, keys: [Key::new(), Key::new(), Key::new()] }
    }

    fn header(&self, data: &QualifyingData) -> Header {
        Header {
            signer: self.ak_public.public().name().qualified_in_endorsement(),
            extra: *data.bytes(),
            clock: ClockInfo { clock_ms: 1000, reset_count: 2, restart_count: 0, safe: true },
            firmware: 0x2023,
        }
    }

    /// What the TPM would return for an attestation with these bytes.
    fn signed(&self, attest: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let signature = self.ak.sign(&attest).to_bytes();
        (attest, signature)
    }

    fn quote(&self, exporter: &Exporter, claims: &[u8], pcr: &PcrDigest) -> Quote {
        let data = QualifyingData::of_quote(exporter, claims);
        Quote { header: self.header(&data), pcr: *pcr }
    }

    fn certified(&self, index: usize, purpose: Purpose, data: &QualifyingData) -> SentKey {
        let template = signing(&pcr());
        let public = self.keys[index].public(&template);
        self.certified_as(public, &template, purpose, data)
    }

    fn certified_as(
        &self,
        public: Vec<u8>,
        template: &Template,
        purpose: Purpose,
        data: &QualifyingData,
    ) -> SentKey {
        let name = Public::read(&public, template).unwrap().name();
        let header = self.header(&data.of_key(&purpose));
        let certification = Certification { header, name, qualified_name: name };
        let (attest, signature) = self.signed(certification.to_bytes());
        SentKey { purpose, public, attest, signature }
    }

    fn send(&self, exporter: &Exporter, claims: Vec<u8>) -> Sent {
        let data = QualifyingData::of_quote(exporter, &claims);
        let quote = self.signed(self.quote(exporter, &claims, &pcr()).to_bytes());
        let keys = vec![
            self.certified(0, Purpose::Device, &data),
            self.certified(1, Purpose::App(APP), &data),
        ];
        Sent { claims, quote, keys }
    }

    fn honest(&self) -> Sent {
        self.send(&EXPORTER, claims().to_bytes().unwrap())
    }

    fn verified(&self, sent: &Sent) -> Result<Attested, EvidenceError> {
        let keys: Vec<KeyEvidence<'_>> = sent
            .keys
            .iter()
            .map(|key| KeyEvidence {
                purpose: key.purpose,
                public: &key.public,
                certification: Signed { attest: &key.attest, signature: &key.signature },
            })
            .collect();
        let quote = Signed { attest: &sent.quote.0, signature: &sent.quote.1 };
        let evidence = Evidence { claims: &sent.claims, quote, keys: &keys };
        verify(&evidence, &EXPORTER, &self.ak_public, &Ring)
    }
}

fn data(sent: &Sent) -> QualifyingData {
    QualifyingData::of_quote(&EXPORTER, &sent.claims)
}

#[test]
fn what_is_attested_is_what_was_verified() {
    let device = Device::new();
    let attested = device.verified(&device.honest()).unwrap();
    assert_eq!((&attested.claims, attested.pcr), (&claims(), pcr()));
    assert_eq!((attested.clock.reset_count, attested.firmware), (2, 0x2023));
    let keys: Vec<_> = attested.keys.iter().map(|key| (key.purpose, key.point)).collect();
    let [own, app, _] = &device.keys;
    assert_eq!(keys, [(Purpose::Device, own.point()), (Purpose::App(APP), app.point())]);
    assert!(attested.claims_agree_with_measurement());
}

/// What a device or who sits between it and the service does, and how it is refused.
type Case = (&'static str, fn(&Device, &mut Sent), &'static str);

const QUOTES: &[Case] = &[
    (
        "other claims than were quoted",
        |_, sent| {
            sent.claims = Claims { debug: true, ..claims() }.to_bytes().unwrap();
        },
        "Quote(QualifyingData)",
    ),
    ("the same claims in other bytes", |_, sent| sent.claims.push(b' '), "Quote(QualifyingData)"),
    (
        "evidence of another connection",
        |device, sent| {
            *sent = device.send(&Exporter([0x0f; 32]), claims().to_bytes().unwrap());
        },
        "Quote(QualifyingData)",
    ),
    ("another device's evidence", |_, sent| *sent = Device::new().honest(), "Quote(Signer)"),
    (
        "a quote by another device's key in this one's name",
        |_, sent| {
            sent.quote.1 = Key::new().sign(&sent.quote.0).to_bytes();
        },
        "Quote(Forged)",
    ),
    (
        "a quote by the key outside the endorsement hierarchy",
        |device, sent| {
            let mut quote = device.quote(&EXPORTER, &sent.claims, &pcr());
            quote.header.signer = device.ak_public.public().name();
            sent.quote = device.signed(quote.to_bytes());
        },
        "Quote(Signer)",
    ),
    (
        "another PCR than 8",
        |device, sent| {
            let mut quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            quote[108..111].copy_from_slice(&[0, 0, 1]);
            sent.quote = device.signed(quote);
        },
        "Quote(Attest(Value(\"pcrSelect\")))",
    ),
    (
        "PCR 8 and another",
        |device, sent| {
            let mut quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            quote[108..111].copy_from_slice(&[0, 3, 0]);
            sent.quote = device.signed(quote);
        },
        "Quote(Attest(Value(\"pcrSelect\")))",
    ),
    (
        "no PCR",
        |device, sent| {
            let quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            sent.quote = device.signed([&quote[..101], &[0; 4], &quote[111..]].concat());
        },
        "Quote(Attest(Value(\"pcrSelect\")))",
    ),
    (
        "the bank of SHA-1",
        |device, sent| {
            let mut quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            quote[106] = 4;
            sent.quote = device.signed(quote);
        },
        "Quote(Attest(Value(\"pcrSelect\")))",
    ),
    (
        "qualifying data of 36 bytes",
        |device, sent| {
            let quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            let longer = [&quote[..42], &[0, 36], &quote[44..76], &[0; 4], &quote[76..]].concat();
            sent.quote = device.signed(longer);
        },
        "Quote(Attest(Value(\"extraData\")))",
    ),
    (
        "bytes behind the quote, signed with it",
        |device, sent| {
            let quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            sent.quote = device.signed([quote, vec![0]].concat());
        },
        "Quote(Attest(Trailing(1)))",
    ),
    (
        "bytes that no TPM has made",
        |device, sent| {
            let mut quote = device.quote(&EXPORTER, &sent.claims, &pcr()).to_bytes();
            quote[0] = 0;
            sent.quote = device.signed(quote);
        },
        "Quote(Attest(Value(\"magic\")))",
    ),
    (
        "a certification in place of the quote",
        |_, sent| {
            let key = sent.keys[0].clone();
            sent.quote = (key.attest, key.signature);
        },
        "Quote(Attest(Value(\"type\")))",
    ),
    (
        "a signature of another algorithm",
        |_, sent| {
            sent.quote.1[1] = 0x14;
        },
        "Quote(Signature(Value(\"sigAlg\")))",
    ),
    (
        "a signature of zeros",
        |_, sent| {
            sent.quote.1 = Signature([0; 64]).to_bytes();
        },
        "Quote(Forged)",
    ),
    (
        "claims that are none, quoted",
        |device, sent| {
            *sent = device.send(&EXPORTER, b"{}".to_vec());
        },
        "Claims(Json(Error(\"missing field `v`\", line: 1, column: 2)))",
    ),
    (
        "claims that are too long, quoted",
        |device, sent| {
            *sent = device.send(&EXPORTER, vec![b' '; 8193]);
        },
        "Claims(TooLong(8193))",
    ),
];

const KEYS: &[Case] = &[
    (
        "a key with another policy",
        |device, sent| {
            let template = signing(&PcrDigest([1; 32]));
            let public = device.keys[0].public(&template);
            sent.keys[0] = device.certified_as(public, &template, Purpose::Device, &data(sent));
        },
        "Public(OtherTemplate(\"authPolicy\"))",
    ),
    (
        "a key without a policy",
        |device, sent| {
            let public = device.keys[0].public(&Template::Attestation);
            let template = Template::Attestation;
            sent.keys[0] = device.certified_as(public, &template, Purpose::Device, &data(sent));
        },
        "Public(OtherTemplate(\"objectAttributes\"))",
    ),
    (
        "a key that may leave the TPM",
        |_, sent| {
            // fixedTPM is the second bit of the attributes.
            sent.keys[0].public[9] ^= 2;
        },
        "Public(OtherTemplate(\"objectAttributes\"))",
    ),
    ("a key that is no key", |_, sent| sent.keys[0].public.clear(), {
        "Public(Malformed(Short(\"publicArea\")))"
    }),
    (
        "a key outside the TPM in place of the one that was certified",
        |device, sent| {
            sent.keys[0].public = device.keys[2].public(&signing(&pcr()));
        },
        "OtherKey",
    ),
    (
        "the certification of another device's key",
        |_, sent| {
            sent.keys[0] = Device::new().certified(0, Purpose::Device, &data(sent));
        },
        "Certification(Signer)",
    ),
    (
        "a certification that the attestation key has not signed",
        |_, sent| {
            sent.keys[0].signature = Key::new().sign(&sent.keys[0].attest).to_bytes();
        },
        "Certification(Forged)",
    ),
    (
        "a certification of another connection",
        |device, sent| {
            let other = QualifyingData::of_quote(&Exporter([0x0f; 32]), &sent.claims);
            sent.keys[0] = device.certified(0, Purpose::Device, &other);
        },
        "Certification(QualifyingData)",
    ),
    (
        "the qualifying data of the quote",
        |device, sent| {
            let header = device.header(&data(sent));
            let name = Public::read(&sent.keys[0].public, &signing(&pcr())).unwrap().name();
            let certification = Certification { header, name, qualified_name: name };
            let (attest, signature) = device.signed(certification.to_bytes());
            sent.keys[0] = SentKey { attest, signature, ..sent.keys[0].clone() };
        },
        "Certification(QualifyingData)",
    ),
    (
        "an app's key as the device's",
        |_, sent| {
            sent.keys[0] = SentKey { purpose: Purpose::Device, ..sent.keys[1].clone() };
        },
        "Certification(QualifyingData)",
    ),
    (
        "a quote in place of a certification",
        |_, sent| {
            sent.keys[0].attest.clone_from(&sent.quote.0);
        },
        "Certification(Attest(Value(\"type\")))",
    ),
    (
        "a signature that is cut short",
        |_, sent| {
            sent.keys[0].signature.pop();
        },
        "Certification(Signature(Short(\"signatureS\")))",
    ),
];

const SETS: &[Case] = &[
    ("no key", |_, sent| sent.keys.clear(), "NoDeviceKey"),
    ("an app's key alone", |_, sent| drop(sent.keys.remove(0)), "NoDeviceKey"),
    (
        "a key of an app that is not claimed",
        |device, sent| {
            let id = ComponentId([9; 16]);
            sent.keys[1] = device.certified(1, Purpose::App(id), &data(sent));
        },
        "UnclaimedApp(09090909-0909-0909-0909-090909090909)",
    ),
    (
        "two keys of the device",
        |device, sent| {
            sent.keys[1] = device.certified(1, Purpose::Device, &data(sent));
        },
        "RepeatedKey(Device)",
    ),
    (
        "two keys of an app",
        |device, sent| {
            sent.keys.push(device.certified(2, Purpose::App(APP), &data(sent)));
        },
        "RepeatedKey(App(a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1))",
    ),
    (
        "too many keys",
        |_, sent| {
            let key = sent.keys[1].clone();
            sent.keys.resize(MAX_KEYS + 1, key);
        },
        "TooManyKeys(17)",
    ),
];

#[test]
fn evidence_that_is_not_as_it_must_be_is_refused_by_its_own_error() {
    let device = Device::new();
    let of_keys = |says: &str| format!("Key {{ purpose: Device, source: {says} }}");
    let quotes =
        QUOTES.iter().chain(SETS).map(|(what, change, says)| (*what, *change, (*says).to_owned()));
    let keys = KEYS.iter().map(|(what, change, says)| (*what, *change, of_keys(says)));
    for (what, change, says) in quotes.chain(keys) {
        let mut sent = device.honest();
        assert!(device.verified(&sent).is_ok(), "the control");
        change(&device, &mut sent);
        match device.verified(&sent) {
            Ok(_) => panic!("{what}: is taken"),
            Err(error) => assert_eq!(format!("{error:?}"), says, "{what}"),
        }
    }
}

/// Two apps' keys, each certified for its own app, cannot be exchanged on the way.
#[test]
fn who_carries_the_evidence_cannot_exchange_the_keys_of_apps() {
    let device = Device::new();
    let mut sent = device.honest();
    sent.keys.push(device.certified(2, Purpose::App(OTHER_APP), &data(&sent)));
    device.verified(&sent).unwrap();
    sent.keys[1].purpose = Purpose::App(OTHER_APP);
    sent.keys[2].purpose = Purpose::App(APP);
    let refused = format!("{:?}", device.verified(&sent).unwrap_err());
    assert!(refused.contains("QualifyingData"), "{refused}");
}

#[test]
fn no_bit_of_the_evidence_can_be_another() {
    let device = Device::new();
    let honest = device.honest();
    let parts: [fn(&mut Sent) -> &mut Vec<u8>; 6] = [
        |sent| &mut sent.claims,
        |sent| &mut sent.quote.0,
        |sent| &mut sent.quote.1,
        |sent| &mut sent.keys[1].public,
        |sent| &mut sent.keys[1].attest,
        |sent| &mut sent.keys[1].signature,
    ];
    device.verified(&honest).unwrap();
    for part in parts {
        let mut sent = device.honest();
        let bytes = part(&mut sent).len();
        for (at, bit) in (0..bytes).map(|at| (at, at % 8)) {
            part(&mut sent)[at] ^= 1 << bit;
            assert!(device.verified(&sent).is_err(), "bit {bit} of byte {at} of {bytes}");
            part(&mut sent)[at] ^= 1 << bit;
        }
        device.verified(&sent).unwrap();
    }
}

/// The claims are the measured OS's word, which the verifier does not make better than it is.
#[test]
fn a_release_that_claims_to_be_another_does_not_agree_with_its_measurement() {
    let device = Device::new();
    let mut other = claims();
    other.os.digest = BootDigest([0xb1; 32]);
    let attested = device.verified(&device.send(&EXPORTER, other.to_bytes().unwrap())).unwrap();
    assert!(!attested.claims_agree_with_measurement());
    assert!(attested.pcr.is_one_extend_of(&BOOT));
}

#[test]
fn software_evidence_is_bound_to_connection_claims_keys_and_purposes() {
    let (device, app, other) = (Key::new(), Key::new(), Key::new());
    let claims = claims().to_bytes().unwrap();
    let keys = [(Purpose::Device, app.point()), (Purpose::App(APP), other.point())];
    let signature = device.sign(&message(&EXPORTER, &claims, &keys));
    let verified = |claims: &[u8], keys: &[(Purpose, Point)], exporter: &Exporter, key: &Key| {
        let evidence = SoftwareEvidence { claims, keys, signature: &signature };
        verify_software(&evidence, exporter, &key.point(), &Ring)
            .map_err(|error| format!("{error:?}"))
    };
    let attested = verified(&claims, &keys, &EXPORTER, &device).unwrap();
    let points: Vec<_> = attested.keys.iter().map(|key| (key.purpose, key.point)).collect();
    assert_eq!(points, keys);

    let spaced = [&claims[..], b" "].concat();
    let swapped = [(Purpose::Device, other.point()), (Purpose::App(APP), app.point())];
    let renamed = [keys[0], (Purpose::App(OTHER_APP), other.point())];
    let forged = Err("Forged".to_owned());
    assert_eq!(verified(&spaced, &keys, &EXPORTER, &device), forged, "other claims");
    assert_eq!(verified(&claims, &swapped, &EXPORTER, &device), forged, "exchanged keys");
    assert_eq!(verified(&claims, &renamed, &EXPORTER, &device), forged, "another app");
    assert_eq!(verified(&claims, &keys[..1], &EXPORTER, &device), forged, "a key less");
    assert_eq!(verified(&claims, &keys, &Exporter([1; 32]), &device), forged, "a connection");
    assert_eq!(verified(&claims, &keys, &EXPORTER, &other), forged, "another device");

    let sign = |keys: &[(Purpose, Point)]| {
        let signature = device.sign(&message(&EXPORTER, &claims, keys));
        let evidence = SoftwareEvidence { claims: &claims, keys, signature: &signature };
        let verified = verify_software(&evidence, &EXPORTER, &device.point(), &Ring);
        verified.map(|_| ()).map_err(|error| format!("{error:?}"))
    };
    assert_eq!(sign(&keys), Ok(()));
    assert_eq!(sign(&[]), Err("NoDeviceKey".to_owned()));
    assert_eq!(sign(&[keys[0], keys[0]]), Err("RepeatedKey(Device)".to_owned()));
    assert_eq!(sign(&[keys[0]; MAX_KEYS + 1]), Err("TooManyKeys(17)".to_owned()));
}
