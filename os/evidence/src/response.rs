//! Responses of a TPM (TPM 2.0 Library, part 3), each read whole: what does not have the form of the command's answer is
//! refused.

use crate::attest::{CERTIFICATION_BYTES, QUOTE_BYTES, Signature, Signed};
use crate::object::{
    Created, Handle, MAX_BYTES, MAX_NV_BYTES, MAX_PRIVATE_BYTES, MAX_PROPERTIES, MAX_RANDOM_BYTES,
    Primary,
};
use crate::public::MAX_PUBLIC_BYTES;
use crate::structure::{Reader, StructureError};
use std::fmt;
use thiserror::Error;

/// Most bytes of a digest or a nonce (SHA-512).
const MAX_DIGEST_BYTES: usize = 64;

/// A response code that is none of success (part 2, 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u32);

/// What a response code means for whoever has sent the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The TPM is in failure mode, and does nothing until it is reset.
    Failure,
    /// The TPM is busy or tests itself: the same command may succeed later.
    Later,
    /// There is no room for another key or session: something was not flushed.
    NoRoom,
    /// The authorization of a hierarchy is not empty: somebody has taken the TPM.
    Authorization,
    /// The policy is not fulfilled: PCR 8 is not what it was when the key was made.
    Policy,
    /// A credential or a key is of another TPM, or was changed.
    Integrity,
    /// Something else, and probably an error of ours.
    Other,
}

impl ResponseCode {
    /// Returns what it means.
    #[must_use]
    pub fn meaning(self) -> Meaning {
        // The upper half names the layer that answers: 0 is the TPM's, and the kernel's resource manager has its own.
        let code = self.0 & 0xffff;
        // Codes of format one have the number of a handle, session or parameter in them.
        let code = if code & 0x80 == 0 { code } else { code & 0xbf };
        match code {
            0x101 => Meaning::Failure,
            0x908 | 0x90a | 0x921 | 0x922 => Meaning::Later,
            0x901..=0x903 => Meaning::NoRoom,
            0x08e | 0x0a2 | 0x12f => Meaning::Authorization,
            0x09d | 0x126 | 0x128 => Meaning::Policy,
            0x09f => Meaning::Integrity,
            _ => Meaning::Other,
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x} ({:?})", self.0, self.meaning())
    }
}

/// Errors of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The TPM refuses the command.
    #[error("the TPM answers with code {0}")]
    Refused(ResponseCode),
    /// The response is not the command's.
    #[error("the TPM's response is malformed")]
    Malformed(#[from] StructureError),
}

/// Reads the header and, where the command had sessions, their part of a response; leaves handle and parameters.
fn after_header(response: &[u8], sessions: usize) -> Result<Reader<'_>, ResponseError> {
    if response.len() > MAX_BYTES {
        let length = response.len();
        let too_long = StructureError::TooLong { field: "response", length, most: MAX_BYTES };
        return Err(too_long.into());
    }
    let mut reader = Reader::new(response);
    let tag = reader.u16("tag")?;
    let size = reader.u32("responseSize")?;
    if usize::try_from(size).ok() != Some(response.len()) {
        return Err(StructureError::Value("responseSize").into());
    }
    let code = reader.u32("responseCode")?;
    if code != 0 {
        return Err(ResponseError::Refused(ResponseCode(code)));
    }
    let expected = if sessions == 0 { 0x8001 } else { 0x8002 };
    if tag == expected { Ok(reader) } else { Err(StructureError::Value("tag").into()) }
}

/// Reads the parameters of a response to a command with this number of sessions. Of a session, nothing is used: none has
/// a key, so nothing in it could be verified.
fn parameters<'a>(mut reader: Reader<'a>, sessions: usize) -> Result<Reader<'a>, StructureError> {
    if sessions == 0 {
        return Ok(reader);
    }
    let length = reader.u32("parameterSize")?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let parameters = reader.take("parameters", length)?;
    for _ in 0..sessions {
        reader.sized("nonceTPM", MAX_DIGEST_BYTES)?;
        reader.u8("sessionAttributes")?;
        reader.sized("hmac", MAX_DIGEST_BYTES)?;
    }
    reader.end()?;
    Ok(Reader::new(parameters))
}

fn without_handle(response: &[u8], sessions: usize) -> Result<Reader<'_>, ResponseError> {
    Ok(parameters(after_header(response, sessions)?, sessions)?)
}

fn with_handle(response: &[u8], sessions: usize) -> Result<(Handle, Reader<'_>), ResponseError> {
    let mut reader = after_header(response, sessions)?;
    let handle = Handle(reader.u32("handle")?);
    Ok((handle, parameters(reader, sessions)?))
}

/// Reads a sized buffer and returns it with its length, as it is handed on.
fn with_length<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    most: usize,
) -> Result<&'a [u8], StructureError> {
    let before = reader.rest();
    let length = reader.sized(field, most)?.len();
    Reader::new(before).take(field, length.saturating_add(2))
}

/// Reads `creationData`, `creationHash` and `creationTicket`, which nothing here uses: a certification says more.
fn creation(reader: &mut Reader<'_>) -> Result<(), StructureError> {
    reader.sized("creationData", MAX_DIGEST_BYTES.saturating_mul(6))?;
    reader.sized("creationHash", MAX_DIGEST_BYTES)?;
    ticket(reader, "creationTicket")
}

/// Reads a ticket: tag, hierarchy, digest.
fn ticket(reader: &mut Reader<'_>, field: &'static str) -> Result<(), StructureError> {
    reader.u16(field)?;
    reader.u32(field)?;
    reader.sized(field, MAX_DIGEST_BYTES)?;
    Ok(())
}

/// Reads the response to [`get_properties`](crate::command::get_properties): property and value, at most
/// [`MAX_PROPERTIES`].
///
/// # Errors
/// See [`ResponseError`].
pub fn properties(response: &[u8]) -> Result<Vec<(u32, u32)>, ResponseError> {
    let mut reader = without_handle(response, 0)?;
    reader.u8("moreData")?;
    reader.exactly("capability", &[0, 0, 0, 6])?;
    let count = reader.u32("count")?;
    if count > MAX_PROPERTIES {
        return Err(StructureError::Value("count").into());
    }
    let mut properties = Vec::new();
    for _ in 0..count {
        properties.push((reader.u32("property")?, reader.u32("value")?));
    }
    reader.end()?;
    Ok(properties)
}

/// Reads the response to [`get_random`](crate::command::get_random). A TPM may give fewer bytes than were asked for.
///
/// # Errors
/// See [`ResponseError`].
pub fn random(response: &[u8]) -> Result<&[u8], ResponseError> {
    let mut reader = without_handle(response, 0)?;
    let bytes = reader.sized("randomBytes", usize::from(MAX_RANDOM_BYTES))?;
    reader.end()?;
    Ok(bytes)
}

/// Reads the response to [`nv_read_public`](crate::command::nv_read_public): how many bytes the index has.
///
/// # Errors
/// See [`ResponseError`].
pub fn nv_length(response: &[u8]) -> Result<u16, ResponseError> {
    // nvIndex, nameAlg, attributes and dataSize, and a policy in between.
    let most = MAX_DIGEST_BYTES.saturating_add(14);
    let mut reader = without_handle(response, 0)?;
    let mut public = Reader::new(reader.sized("nvPublic", most)?);
    reader.sized("nvName", MAX_DIGEST_BYTES.saturating_add(2))?;
    reader.end()?;
    public.u32("nvIndex")?;
    public.u16("nameAlg")?;
    public.u32("attributes")?;
    public.sized("authPolicy", MAX_DIGEST_BYTES)?;
    let length = public.u16("dataSize")?;
    public.end()?;
    Ok(length)
}

/// Reads the response to [`nv_read`](crate::command::nv_read).
///
/// # Errors
/// See [`ResponseError`].
pub fn nv_data(response: &[u8]) -> Result<&[u8], ResponseError> {
    let mut reader = without_handle(response, 1)?;
    let data = reader.sized("data", usize::from(MAX_NV_BYTES))?;
    reader.end()?;
    Ok(data)
}

/// Reads the response to [`create_primary`](crate::command::create_primary).
///
/// # Errors
/// See [`ResponseError`].
pub fn primary(response: &[u8]) -> Result<Primary, ResponseError> {
    let (handle, mut reader) = with_handle(response, 1)?;
    let public = with_length(&mut reader, "outPublic", MAX_PUBLIC_BYTES)?.to_vec();
    creation(&mut reader)?;
    reader.sized("name", MAX_DIGEST_BYTES.saturating_add(2))?;
    reader.end()?;
    Ok(Primary { handle, public })
}

/// Reads the response to [`create`](crate::command::create).
///
/// # Errors
/// See [`ResponseError`].
pub fn created(response: &[u8]) -> Result<Created, ResponseError> {
    let mut reader = without_handle(response, 1)?;
    let private = with_length(&mut reader, "outPrivate", MAX_PRIVATE_BYTES)?.to_vec();
    let public = with_length(&mut reader, "outPublic", MAX_PUBLIC_BYTES)?.to_vec();
    creation(&mut reader)?;
    reader.end()?;
    Ok(Created::new(private, public))
}

/// Reads the response to [`load`](crate::command::load).
///
/// # Errors
/// See [`ResponseError`].
pub fn loaded(response: &[u8]) -> Result<Handle, ResponseError> {
    let (handle, mut reader) = with_handle(response, 1)?;
    reader.sized("name", MAX_DIGEST_BYTES.saturating_add(2))?;
    reader.end()?;
    Ok(handle)
}

/// Reads the response to [`start_policy_session`](crate::command::start_policy_session).
///
/// # Errors
/// See [`ResponseError`].
pub fn session(response: &[u8]) -> Result<Handle, ResponseError> {
    let (handle, mut reader) = with_handle(response, 0)?;
    reader.sized("nonceTPM", MAX_DIGEST_BYTES)?;
    reader.end()?;
    Ok(handle)
}

/// Reads the response to [`policy_pcr`](crate::command::policy_pcr) or [`flush_context`](crate::command::flush_context):
/// that they have succeeded.
///
/// # Errors
/// See [`ResponseError`].
pub fn done(response: &[u8]) -> Result<(), ResponseError> {
    Ok(without_handle(response, 0)?.end()?)
}

/// Reads the response to [`policy_secret`](crate::command::policy_secret).
///
/// # Errors
/// See [`ResponseError`].
pub fn policy_secret(response: &[u8]) -> Result<(), ResponseError> {
    let mut reader = without_handle(response, 1)?;
    reader.sized("timeout", 8)?;
    ticket(&mut reader, "policyTicket")?;
    Ok(reader.end()?)
}

/// Reads the response to [`activate_credential`](crate::command::activate_credential): the secret.
///
/// # Errors
/// See [`ResponseError`].
pub fn activated(response: &[u8]) -> Result<[u8; 32], ResponseError> {
    let mut reader = without_handle(response, 2)?;
    let secret = reader.sized_array("certInfo")?;
    reader.end()?;
    Ok(secret)
}

/// Reads the response to [`quote`](crate::command::quote). What is signed is for the verifier to read.
///
/// # Errors
/// See [`ResponseError`].
pub fn quoted(response: &[u8]) -> Result<Signed<'_>, ResponseError> {
    signed(without_handle(response, 1)?, QUOTE_BYTES)
}

/// Reads the response to [`certify`](crate::command::certify). What is signed is for the verifier to read.
///
/// # Errors
/// See [`ResponseError`].
pub fn certified(response: &[u8]) -> Result<Signed<'_>, ResponseError> {
    signed(without_handle(response, 2)?, CERTIFICATION_BYTES)
}

fn signed(mut reader: Reader<'_>, most: usize) -> Result<Signed<'_>, ResponseError> {
    let attest = reader.sized("attest", most)?;
    let signature = reader.rest();
    Signature::read(signature)?;
    Ok(Signed { attest, signature })
}

/// Reads the response to [`sign`](crate::command::sign).
///
/// # Errors
/// See [`ResponseError`].
pub fn signature(response: &[u8]) -> Result<Signature, ResponseError> {
    Ok(Signature::read(without_handle(response, 1)?.rest())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response with this tag, code and body.
    fn response(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap().saturating_add(10);
        let header = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes()].concat();
        [&header, body].concat()
    }

    #[test]
    fn codes_mean_what_the_specification_says() {
        for (code, meaning) in [
            (0x101, Meaning::Failure),
            (0x922, Meaning::Later),
            (0x90a, Meaning::Later),
            (0x902, Meaning::NoRoom),
            (0x903, Meaning::NoRoom),
            (0x000b_0902, Meaning::NoRoom),
            (0x9a2, Meaning::Authorization),
            (0x98e, Meaning::Authorization),
            (0x99d, Meaning::Policy),
            (0x128, Meaning::Policy),
            (0x1df, Meaning::Integrity),
            (0x2c4, Meaning::Other),
            (0x143, Meaning::Other),
        ] {
            let code = ResponseCode(code);
            assert_eq!(code.meaning(), meaning, "{code}");
        }
    }

    #[test]
    fn a_response_has_the_form_of_its_commands_answer() {
        let good = response(0x8001, 0, &[0, 2, 7, 8]);
        assert_eq!(random(&good), Ok(&[7, 8][..]));
        let malformed = |error| Err(ResponseError::Malformed(error));
        let cases = [
            (vec![], StructureError::Short("tag")),
            (good[..9].to_vec(), StructureError::Value("responseSize")),
            (good[..13].to_vec(), StructureError::Value("responseSize")),
            ([&good[..], &[0]].concat(), StructureError::Value("responseSize")),
            (response(0x8002, 0, &[0, 2, 7, 8]), StructureError::Value("tag")),
            (response(0x8001, 0, &[0, 3, 7, 8]), StructureError::Short("randomBytes")),
            (response(0x8001, 0, &[0, 1, 7, 8]), StructureError::Trailing(1)),
            (
                response(0x8001, 0, &[&[0, 33][..], &[0; 33]].concat()),
                StructureError::TooLong { field: "randomBytes", length: 33, most: 32 },
            ),
            (
                response(0x8001, 0, &[0; 4096]),
                StructureError::TooLong { field: "response", length: 4106, most: 4096 },
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(random(&bytes), malformed(error));
        }
        let refused = Err(ResponseError::Refused(ResponseCode(0x101)));
        assert_eq!(random(&response(0x8001, 0x101, &[])), refused);
    }

    #[test]
    fn sessions_follow_the_parameters_and_there_are_as_many_as_the_command_had() {
        let secret = [&[0, 32][..], &[5; 32]].concat();
        let session = [0, 0, 1, 0, 0];
        let with = |sessions: &[u8]| {
            response(0x8002, 0, &[&[0, 0, 0, 34][..], &secret, sessions].concat())
        };
        assert_eq!(activated(&with(&[session, session].concat())), Ok([5; 32]));
        for sessions in [&session[..], &[session; 3].concat(), &[0, 65]] {
            assert!(matches!(activated(&with(sessions)), Err(ResponseError::Malformed(_))));
        }
        let too_many = response(0x8002, 0, &[&[0, 0, 1, 0][..], &secret].concat());
        let short = StructureError::Short("parameters");
        assert_eq!(activated(&too_many), Err(ResponseError::Malformed(short)));
    }

    /// An index of 600 bytes, and a piece of it.
    #[test]
    fn an_index_says_its_length_and_no_more_is_read_than_is_asked_for() {
        let public = [
            &[0, 14][..],
            &[0x01, 0xc0, 0, 0x0a, 0, 0x0b, 2, 6, 0, 2, 0, 0, 2, 0x58],
            &[0, 2, 0, 0x0b],
        ]
        .concat();
        assert_eq!(nv_length(&response(0x8001, 0, &public)), Ok(600));
        for cut in 0..public.len() {
            let short = response(0x8001, 0, &public[..cut]);
            assert!(matches!(nv_length(&short), Err(ResponseError::Malformed(_))), "{cut}");
        }
        let piece = |length: u16| {
            let data = vec![7; usize::from(length)];
            let parameters = [&length.to_be_bytes()[..], &data].concat();
            let size = u32::try_from(parameters.len()).unwrap().to_be_bytes();
            response(0x8002, 0, &[&size[..], &parameters, &[0, 0, 1, 0, 0]].concat())
        };
        assert_eq!(nv_data(&piece(512)), Ok(&[7; 512][..]));
        assert!(matches!(nv_data(&piece(513)), Err(ResponseError::Malformed(_))));
        let missing = Err(ResponseError::Refused(ResponseCode(0x18b)));
        assert_eq!(nv_length(&response(0x8001, 0x18b, &[])), missing);
    }

    #[test]
    fn no_more_properties_are_read_than_are_asked_for() {
        let list = |count: u32| {
            let head = [&[0, 0, 0, 0, 6][..], &count.to_be_bytes()].concat();
            let pair = [0, 0, 1, 0, 0, 0, 0, 9];
            let pairs = pair.repeat(usize::try_from(count.min(100)).unwrap());
            response(0x8001, 0, &[head, pairs].concat())
        };
        assert_eq!(properties(&list(2)).unwrap(), [(0x100, 9), (0x100, 9)]);
        assert_eq!(properties(&list(64)).unwrap().len(), 64);
        let many = Err(ResponseError::Malformed(StructureError::Value("count")));
        assert_eq!(properties(&list(65)), many);
        assert_eq!(properties(&list(u32::MAX)), many);
    }
}
