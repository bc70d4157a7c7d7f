//! Encoding of values that cross from one process, or one boot, to another: postcard, of which every
//! value here has exactly one.
//!
//! postcard itself also reads numbers that are longer than they need be. What has two encodings
//! cannot be compared or signed by its bytes, so those are refused.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// An error of decoding a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodingError {
    /// Cut off, or not of that shape.
    #[error("it is malformed")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow the value.
    #[error("it is followed by {0} unexpected bytes")]
    TrailingBytes(usize),
    /// The value has another encoding, and that is the only one.
    #[error("it is not in its one encoding")]
    NotCanonical,
}

/// Encodes a value.
///
/// # Errors
/// The encoder's own; never for a type of numbers, texts, lists and enumerations.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodingError> {
    Ok(postcard::to_allocvec(value)?)
}

/// Decodes the value that all of `bytes` encode.
///
/// # Errors
/// See [`EncodingError`].
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, EncodingError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes)?;
    if !rest.is_empty() {
        return Err(EncodingError::TrailingBytes(rest.len()));
    }
    if encode(&value)? == bytes { Ok(value) } else { Err(EncodingError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_encoding() {
        assert_eq!(decode::<u32>(&[127]), Ok(127));
        assert_eq!(decode::<u32>(&[255, 0]), Err(EncodingError::NotCanonical));
        assert_eq!(decode::<u32>(&[127, 0]), Err(EncodingError::TrailingBytes(1)));
        assert!(matches!(decode::<u32>(&[255]), Err(EncodingError::Malformed(_))));
    }
}
