//! Leaves of varied content, the same in each run but for keys and serial numbers: every grade and profile, devices and apps, ids,
//! versions and rollback indexes at the ends of what they can be, and times at which the form of dates changes.

use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf};
use holdfast_service_issuing::authority::{Made, make_issuing, make_root};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_types::{ComponentId, Version};
use rcgen::{KeyPair, PublicKeyData};

/// Leaves of all groups together.
pub(crate) const LEAVES: usize = 10_000;

/// Times at which leaves are issued: an ordinary one, late on a leap day, before 32 bits of seconds are over, before dates have four
/// digits of the year (RFC 5280, 4.1.2.5), and just behind that.
const TIMES: [u64; 5] = [1_800_000_000, 1_835_481_000, 2_147_483_400, 2_524_607_700, 2_524_608_030];
/// Midnight before 2050.
const YEAR_2050: u64 = 2_524_608_000;

/// A leaf with what it was made of.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) leaf: Leaf,
    pub(crate) profile: Profile,
    pub(crate) grade: Grade,
}

/// Leaves of one authority and time.
pub(crate) struct Group {
    pub(crate) root: Made,
    pub(crate) issuing: Made,
    pub(crate) now: u64,
    pub(crate) leaves: Vec<Issued>,
}

/// Numbers that follow from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.below(of.len() as u64);
        of[usize::try_from(index).unwrap()]
    }

    /// Zeros, ones, or any bytes.
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.below(16) {
            0 => [0; N],
            1 => [0xff; N],
            _ => std::array::from_fn(|_| self.next().to_le_bytes()[0]),
        }
    }

    fn part(&mut self) -> u32 {
        let any = u32::try_from(self.below(1 << 32)).unwrap();
        self.one_of(&[0, 1, 9, 10, 255, u32::MAX, any])
    }
}

/// Makes all of them.
pub(crate) fn groups() -> Vec<Group> {
    let mut numbers = Numbers(20_261_130);
    TIMES.map(|now| group(&mut numbers, now, LEAVES / TIMES.len())).into()
}

fn group(numbers: &mut Numbers, now: u64, count: usize) -> Group {
    let catalog = CatalogId(numbers.bytes());
    let root = make_root(&catalog, now).unwrap();
    let issuing = make_issuing(&catalog, root.key.serialized_der(), now).unwrap();
    let (certificate, key) = (issuing.certificate.clone(), issuing.key.serialize_der());
    let end = issuing.not_after;
    let issuer = LeafIssuer::new(&catalog, &issuing.serial, certificate, &key, end).unwrap();
    let leaves = (0..count).map(|_| issued(numbers, &issuer, catalog, now)).collect();
    Group { root, issuing, now, leaves }
}

fn issued(numbers: &mut Numbers, issuer: &LeafIssuer, catalog: CatalogId, now: u64) -> Issued {
    let key = KeyPair::generate().unwrap();
    let point = Point::from_uncompressed(key.der_bytes()).unwrap();
    let profile =
        numbers.one_of(&[Profile::Full, Profile::Full, Profile::Full, Profile::UpdateOnly]);
    let grade = numbers.one_of(&Grade::ALL);
    let any = numbers.next();
    // To the second before 2050, to that second, and one beyond, where that lies ahead.
    let to_2050 = YEAR_2050.saturating_sub(now).max(120);
    let valid_s = numbers.one_of(&[120, 7_200, 172_800, to_2050 - 1, to_2050, to_2050 + 1]);
    let common = Common {
        catalog,
        device: DeviceId(numbers.bytes()),
        grade,
        profile,
        version: Version { major: numbers.part(), minor: numbers.part(), patch: numbers.part() },
        index: numbers.one_of(&[0, 1, 127, 128, 255, 256, 1 << 31, i64::MAX as u64, u64::MAX, any]),
        now,
        valid_s: valid_s.min(172_800),
    };
    let app = Purpose::App(ComponentId(numbers.bytes()));
    let leaf = Leaf::new(&common, numbers.one_of(&[Purpose::Device, app]), point);
    Issued { der: issuer.issue(&leaf).unwrap(), leaf, profile, grade }
}

/// Returns the serial number's bytes: those of the first `INTEGER` behind the version.
pub(crate) fn serial(der: &[u8]) -> &[u8] {
    let version = [0xa0, 0x03, 0x02, 0x01, 0x02, 0x02];
    let at = der.windows(version.len()).position(|part| part == version).unwrap() + version.len();
    let length = usize::from(der[at]);
    &der[at + 1..at + 1 + length]
}
