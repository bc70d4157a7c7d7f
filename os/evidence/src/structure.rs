//! Bytes of TPM structures: integers in big-endian order and sized buffers, read by their lengths and never searched
//! (TPM 2.0 Library, part 2, 4.1 and 10.4).

use thiserror::Error;

/// Errors of a structure's bytes. Each names the field by the specification's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StructureError {
    /// The bytes end within a field.
    #[error("{0}: the bytes end within it")]
    Short(&'static str),
    /// A field has another value or length than the only one that is taken.
    #[error("{0}: has another value or length than is taken")]
    Value(&'static str),
    /// A field says that it is longer than is taken.
    #[error("{field}: says it has {length} bytes, more than {most}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The length that it says, in bytes.
        length: usize,
        /// The most bytes that are taken.
        most: usize,
    },
    /// Bytes follow the structure.
    #[error("{0} bytes follow the structure")]
    Trailing(usize),
}

/// What is left to read of a structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(
        &mut self,
        field: &'static str,
        length: usize,
    ) -> Result<&'a [u8], StructureError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(StructureError::Short(field))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], StructureError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(StructureError::Short(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, StructureError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, StructureError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, StructureError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, StructureError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Reads a buffer behind its length in two bytes (`TPM2B_*`), of `most` bytes at most.
    pub(crate) fn sized(
        &mut self,
        field: &'static str,
        most: usize,
    ) -> Result<&'a [u8], StructureError> {
        let length = usize::from(self.u16(field)?);
        if length > most {
            return Err(StructureError::TooLong { field, length, most });
        }
        self.take(field, length)
    }

    /// Reads a buffer behind its length that has exactly `N` bytes.
    pub(crate) fn sized_array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], StructureError> {
        if usize::from(self.u16(field)?) != N {
            return Err(StructureError::Value(field));
        }
        self.array(field)
    }

    /// Reads bytes that must be these.
    pub(crate) fn exactly(
        &mut self,
        field: &'static str,
        bytes: &[u8],
    ) -> Result<(), StructureError> {
        if self.take(field, bytes.len())? == bytes {
            Ok(())
        } else {
            Err(StructureError::Value(field))
        }
    }

    /// Reads nothing more.
    pub(crate) fn end(self) -> Result<(), StructureError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(StructureError::Trailing(left)),
        }
    }
}

/// Appends a buffer behind its length in two bytes. Callers have at most a few hundred bytes: arrays, or what a reader
/// has bounded.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_long_as_it_says_and_no_longer_than_is_taken() {
        let bytes = [0, 2, 7, 8, 9];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.sized("x", 2), Ok(&[7, 8][..]));
        assert_eq!(reader.end(), Err(StructureError::Trailing(1)));
        let too_long = StructureError::TooLong { field: "x", length: 2, most: 1 };
        assert_eq!(Reader::new(&bytes).sized("x", 1), Err(too_long));
        assert_eq!(Reader::new(&[0, 2, 7]).sized("x", 2), Err(StructureError::Short("x")));
        assert_eq!(Reader::new(&[0]).sized("x", 2), Err(StructureError::Short("x")));
        assert_eq!(Reader::new(&bytes).sized_array::<2>("x"), Ok([7, 8]));
        assert_eq!(Reader::new(&bytes).sized_array::<3>("x"), Err(StructureError::Value("x")));
        let mut written = Vec::new();
        put_sized(&mut written, &[7, 8]);
        assert_eq!(written, bytes[..4]);
    }
}
