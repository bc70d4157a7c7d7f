//! Why something failed, as the header has it.

use crate::memory::write_to;
use holdfast_sdk_identity::{CertificateError, IdentityError, PeerRefusal};
use holdfast_types::chain;
use std::io;

/// Bytes of a text, the zero byte at its end included.
const TEXT_BYTES: usize = 252;

/// `enum holdfast_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    Ok = 0,
    Argument = 1,
    NotGranted = 2,
    NoCertificate = 3,
    Timeout = 4,
    Socket = 5,
    Tls = 6,
    PeerUntrusted = 7,
    PeerOther = 8,
    PeerGrade = 9,
    PeerRelease = 10,
}

/// `struct holdfast_error`.
#[derive(Debug)]
#[repr(C)]
pub struct HoldfastError {
    code: i32,
    text: [u8; TEXT_BYTES],
}

/// A failure, before C is told.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    pub(crate) fn argument(text: &str) -> Self {
        Self::new(Code::Argument, text)
    }
}

/// Says how something went, and returns what it has yielded.
///
/// # Safety
/// `error` is NULL or has room for one.
pub(crate) unsafe fn report<T>(error: *mut HoldfastError, result: Result<T, Failure>) -> Option<T> {
    let (code, said, yielded) = match result {
        Ok(yielded) => (Code::Ok, String::new(), Some(yielded)),
        Err(failure) => (failure.code, failure.text, None),
    };
    let mut told = HoldfastError { code: code as i32, text: [0; TEXT_BYTES] };
    copy_text(&mut told.text, &said);
    // SAFETY: the caller says so.
    unsafe { write_to(error, told) };
    yielded
}

/// Puts a text into a field of C's, cut between two characters so that a zero byte follows.
pub(crate) fn copy_text(field: &mut [u8], text: &str) {
    let mut end = text.len().min(field.len().saturating_sub(1));
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    for (to, from) in field.iter_mut().zip(text.as_bytes().iter().take(end)) {
        *to = *from;
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let code = match &error {
            IdentityError::NotGranted => Code::NotGranted,
            IdentityError::NotYet { .. } => Code::NoCertificate,
            IdentityError::Thread(_) => Code::Socket,
            IdentityError::Tls(_) => Code::Tls,
        };
        Self { code, text: chain(&error) }
    }
}

impl From<&PeerRefusal> for Failure {
    fn from(refusal: &PeerRefusal) -> Self {
        let code = match refusal {
            PeerRefusal::NoRoots => Code::NoCertificate,
            PeerRefusal::Chain(_) | PeerRefusal::Usage | PeerRefusal::Certificate(_) => {
                Code::PeerUntrusted
            }
            PeerRefusal::Catalog(_) | PeerRefusal::Component { .. } | PeerRefusal::Device(_) => {
                Code::PeerOther
            }
            PeerRefusal::Grade(_) => Code::PeerGrade,
            PeerRefusal::Release { .. } => Code::PeerRelease,
        };
        Self { code, text: chain(refusal) }
    }
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        Self { code: Code::PeerUntrusted, text: chain(&error) }
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        match PeerRefusal::of_tls(&error) {
            Some(refusal) => refusal.into(),
            None => Self { code: Code::Tls, text: chain(&error) },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if let Some(refusal) = PeerRefusal::of(&error) {
            return refusal.into();
        }
        let is_tls = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
        let code = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Code::Timeout,
            _ if is_tls => Code::Tls,
            _ => Code::Socket,
        };
        Self { code, text: chain(&error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_ends_in_a_zero_byte() {
        for (text, kept) in [("", ""), ("abc", "abc"), ("abcd", "abc"), ("aéé", "aé"), ("ééé", "é")]
        {
            let mut field = [0; 4];
            copy_text(&mut field, text);
            let end = field.iter().position(|byte| *byte == 0).unwrap();
            assert_eq!(&field[..end], kept.as_bytes(), "{text}");
        }
    }
}
