//! Keeping both copies of a GPT whole (UEFI Specification 2.10, chapter 5.3).
//!
//! The kernel takes the second table where the first is lost, if that lies at the very end of the disk
//! (`find_valid_gpt` of `block/partitions/efi.c`, with `gpt` on the command line). An image that was written to a larger
//! card has it in the middle: it is written to the end too. A first table that is lost is made of the second.

use crc::{Crc, NoTable};

/// Bytes of a sector.
pub const SECTOR_BYTES: usize = 512;
/// Most bytes of an entry array: 128 entries, as every table here has them.
pub const ENTRIES_BYTES: usize = 128 * ENTRY_BYTES;
/// Sectors of an entry array of that size.
pub const ENTRIES_SECTORS: u64 = 32;
const ENTRY_BYTES: usize = 128;
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&crc::CRC_32_ISO_HDLC);

const SIGNATURE: &[u8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
const HEADER_LENGTH: usize = 12;
const HEADER_CRC: usize = 16;
const OWN_PLACE: usize = 24;
const OTHER_PLACE: usize = 32;
const FIRST_USABLE: usize = 40;
const ENTRIES_PLACE: usize = 72;
const ENTRIES_COUNT: usize = 80;
const ENTRIES_LENGTH: usize = 84;
const ENTRIES_CRC: usize = 88;

/// The header of a table that was read at its own place, and its checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header([u8; SECTOR_BYTES]);

impl Header {
    /// Reads the sector `place`. `None` where it holds no header of that place, or one with another number of entries
    /// than the tables here have.
    #[must_use]
    pub fn read(sector: &[u8], place: u64) -> Option<Self> {
        let header = Self(*sector.first_chunk()?);
        let mut unsummed = header.0;
        unsummed.get_mut(HEADER_CRC..HEADER_CRC + 4)?.fill(0);
        let sum = CRC.checksum(unsummed.get(..HEADER_BYTES)?);
        let entry_bytes = u32::try_from(ENTRY_BYTES).ok()?;
        let is_ours = header.0.starts_with(SIGNATURE)
            && header.word(HEADER_LENGTH) == u32::try_from(HEADER_BYTES).ok()
            && header.word(HEADER_CRC) == Some(sum)
            && header.number(OWN_PLACE) == Some(place)
            && header.word(ENTRIES_COUNT) == Some(128)
            && header.word(ENTRIES_LENGTH) == Some(entry_bytes);
        is_ours.then_some(header)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn number(&self, at: usize) -> Option<u64> {
        self.0.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// The first sector of its entries.
    #[must_use]
    pub fn entries_at(&self) -> u64 {
        self.number(ENTRIES_PLACE).unwrap_or(u64::MAX)
    }

    /// Where the first table has its entries: just before the first sector that a partition may have.
    #[must_use]
    pub fn first_entries_at(&self) -> Option<u64> {
        self.number(FIRST_USABLE)?.checked_sub(ENTRIES_SECTORS).filter(|sector| *sector > 1)
    }

    /// The same table, with this place and this place of its entries.
    fn moved(&self, own: u64, other: u64, entries: u64) -> Self {
        let mut header = self.clone();
        for (at, place) in [(OWN_PLACE, own), (OTHER_PLACE, other), (ENTRIES_PLACE, entries)] {
            header.put(at, &place.to_le_bytes());
        }
        header.put(HEADER_CRC, &[0; 4]);
        let sum = CRC.checksum(header.0.get(..HEADER_BYTES).unwrap_or_default());
        header.put(HEADER_CRC, &sum.to_le_bytes());
        header
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    /// True when both say the same, each at its own place.
    fn agrees(&self, other: &Self) -> bool {
        self.moved(0, 0, 0) == other.moved(0, 0, 0)
    }
}

/// A table that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Header,
    entries: Vec<u8>,
}

impl Table {
    /// A header with the entries that it names. `None` where they are others.
    #[must_use]
    pub fn of(header: Header, entries: Vec<u8>) -> Option<Self> {
        let holds = entries.len() == ENTRIES_BYTES
            && header.word(ENTRIES_CRC) == Some(CRC.checksum(&entries));
        holds.then_some(Self { header, entries })
    }
}

/// The writes that make both tables whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mending {
    /// No write: both tables say the same.
    None,
    /// The first table is lost: these sectors, in this order.
    First(Vec<(u64, Vec<u8>)>),
    /// There is none at the end of the disk, or another one: these sectors, in this order.
    Second(Vec<(u64, Vec<u8>)>),
    /// Neither is whole.
    Lost,
}

/// What makes both tables of a disk of so many sectors whole: `first` at sector 1, and `second` at the last one. A header
/// comes behind its entries, so that one that was cut off is none.
#[must_use]
pub fn mend(sectors: u64, first: Option<&Table>, second: Option<&Table>) -> Mending {
    let Some(last) = sectors.checked_sub(1) else {
        return Mending::Lost;
    };
    match (first, second) {
        (Some(first), Some(second)) if first.header.agrees(&second.header) => Mending::None,
        (Some(table), _) => {
            let Some(entries_at) = last.checked_sub(ENTRIES_SECTORS) else {
                return Mending::Lost;
            };
            let header = table.header.moved(last, 1, entries_at);
            Mending::Second(vec![(entries_at, table.entries.clone()), (last, header.0.to_vec())])
        }
        (None, Some(table)) => {
            let Some(entries_at) = table.header.first_entries_at() else {
                return Mending::Lost;
            };
            let header = table.header.moved(1, last, entries_at);
            Mending::First(vec![(entries_at, table.entries.clone()), (1, header.0.to_vec())])
        }
        (None, None) => Mending::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST_ENTRIES: u64 = 2016;

    /// A table at the start of a disk whose second one is at `other`.
    fn table(other: u64) -> Table {
        let entries: Vec<u8> = (0..ENTRIES_BYTES).map(|at| at.to_le_bytes()[0]).collect();
        let mut header = Header([0; SECTOR_BYTES]);
        header.put(0, SIGNATURE);
        header.put(HEADER_LENGTH, &92u32.to_le_bytes());
        header.put(FIRST_USABLE, &(FIRST_ENTRIES + ENTRIES_SECTORS).to_le_bytes());
        header.put(ENTRIES_COUNT, &128u32.to_le_bytes());
        header.put(ENTRIES_LENGTH, &128u32.to_le_bytes());
        header.put(ENTRIES_CRC, &CRC.checksum(&entries).to_le_bytes());
        Table { header: header.moved(1, other, FIRST_ENTRIES), entries }
    }

    /// What is read of a disk once the sectors are written.
    fn written(sectors: &[(u64, Vec<u8>)], place: u64) -> Option<Table> {
        let sector = |at: u64| sectors.iter().find(|(start, _)| *start == at).map(|(_, b)| b);
        let header = Header::read(sector(place)?, place)?;
        let entries = sector(header.entries_at())?.clone();
        Table::of(header, entries)
    }

    #[test]
    fn a_table_on_a_larger_card_comes_to_its_end_and_a_lost_one_back_from_there() {
        let first = table(9_999);
        let Mending::Second(sectors) = mend(20_000, Some(&first), None) else {
            panic!("no second table")
        };
        let second = written(&sectors, 19_999).unwrap();
        assert_eq!(second.header.entries_at(), 19_967);
        assert!(sectors[0].0 < sectors[1].0, "the header comes last");
        assert_eq!(mend(20_000, Some(&first), Some(&second)), Mending::None);
        let Mending::First(sectors) = mend(20_000, None, Some(&second)) else {
            panic!("no first table")
        };
        let again = written(&sectors, 1).unwrap();
        assert_eq!(again, table(19_999), "the same but for where the other one is");
        assert_eq!(mend(20_000, Some(&again), Some(&second)), Mending::None);
    }

    #[test]
    fn of_two_tables_the_first_holds_and_of_none_nothing_is_made() {
        let first = table(9_999);
        let mut stale = first.clone();
        stale.header.put(56, &[7; 16]);
        let stale = Table { header: stale.header.moved(9_999, 1, 9_967), ..stale };
        assert!(matches!(mend(10_000, Some(&first), Some(&stale)), Mending::Second(_)));
        assert_eq!(mend(10_000, None, None), Mending::Lost);
        assert_eq!(mend(0, Some(&first), None), Mending::Lost);
        assert_eq!(mend(20, Some(&first), None), Mending::Lost);
    }

    #[test]
    fn damage_and_a_header_of_another_place_are_noticed() {
        let good = table(9_999);
        let bytes = good.header.0;
        assert_eq!(Header::read(&bytes, 1), Some(good.header.clone()));
        assert_eq!(Header::read(&bytes, 2), None);
        assert_eq!(Header::read(&bytes[..100], 1), None);
        for at in 0..HEADER_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Header::read(&damaged, 1), None, "byte {at}");
        }
        let mut entries = good.entries.clone();
        entries[5] ^= 1;
        assert_eq!(Table::of(good.header.clone(), entries), None);
        assert_eq!(Table::of(good.header, Vec::new()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            place in any::<u64>(),
            sectors in any::<u64>(),
        ) {
            let mut sector = bytes.clone();
            for (at, byte) in SIGNATURE.iter().enumerate() {
                if let Some(place) = sector.get_mut(at) { *place = *byte; }
            }
            for bytes in [&bytes, &sector] {
                let table = Header::read(bytes, place).and_then(|h| Table::of(h, vec![0; ENTRIES_BYTES]));
                let _ = mend(sectors, table.as_ref(), None);
                let _ = mend(sectors, None, table.as_ref());
            }
        }
    }
}
