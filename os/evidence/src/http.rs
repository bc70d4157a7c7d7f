//! HTTP/1.1 as the device port speaks it (RFC 9112): one request for each connection, made here, and the head of the
//! answer, read strictly.
//!
//! A device sends the head with `Expect: 100-continue` and its body behind `100 Continue` alone (RFC 9110, 10.1.1): a
//! service that is too busy says so before the TPM was woken. The body's length is not known by then, so it is sent in one
//! chunk. What a server may do and this one has no use for is refused: other codings, folded lines, two lengths.

use thiserror::Error;

/// Most bytes of an answer's head.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most interim answers (1xx) before the one that counts.
pub const MAX_INTERIM_ANSWERS: usize = 4;

/// The head of an answer, as far as a device looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Status, from 100 to 599.
    pub status: u16,
    /// `Content-Length`.
    pub length: Option<usize>,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after_s: Option<u32>,
}

impl Head {
    /// True for an interim answer: another one follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Errors of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The head has more than [`MAX_HEAD_BYTES`].
    #[error("the answer's head has more than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    /// The first line is no status line of HTTP/1.1 or 1.0.
    #[error("the answer does not begin with a status line of HTTP/1.1")]
    StatusLine,
    /// A line of the head is no field.
    #[error("a line of the answer's head is no field")]
    Field,
    /// `Content-Length` is no number, or there are two of them.
    #[error("the answer's Content-Length is no number, or is there twice")]
    Length,
    /// The body is in a transfer coding.
    #[error("the answer's body is in a transfer coding")]
    TransferCoding,
}

/// Media type of the bodies of enrolments and check-ins.
pub const JSON: &str = "application/json";

/// Returns the head of a request with a body of a media type. `host` is the host of the URL, with its port where the URL has one.
#[must_use]
pub fn request_head(path: &str, host: &str, media_type: &str) -> Vec<u8> {
    let lines = [
        &format!("POST {path} HTTP/1.1"),
        &format!("Host: {host}"),
        "User-Agent: holdfast",
        &format!("Content-Type: {media_type}"),
        "Accept: application/json",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "",
        "",
    ];
    lines.join("\r\n").into_bytes()
}

/// Returns a body as one chunk and the end of chunks (RFC 9112, 7.1).
#[must_use]
pub fn chunked(body: &[u8]) -> Vec<u8> {
    // A chunk of no bytes would be the end.
    let chunk = if body.is_empty() {
        Vec::new()
    } else {
        [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
    };
    [&chunk[..], b"0\r\n\r\n"].concat()
}

/// Reads the head of an answer, and says how many bytes it has. `None` where more of it has to come.
///
/// # Errors
/// See [`HttpError`].
pub fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
    const END: &[u8] = b"\r\n\r\n";
    let looked_at = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
    let Some(end) = looked_at.windows(END.len()).position(|window| window == END) else {
        // What cannot become a head is refused at once.
        let begins = bytes.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected);
        return match (begins, bytes.len() < MAX_HEAD_BYTES) {
            (false, _) => Err(HttpError::StatusLine),
            (true, true) => Ok(None),
            (true, false) => Err(HttpError::TooLong),
        };
    };
    let text = looked_at.get(..end).unwrap_or_default();
    let mut lines = split_lines(text);
    let status = status(lines.next().unwrap_or_default()).ok_or(HttpError::StatusLine)?;
    let mut head = Head { status, length: None, retry_after_s: None };
    for line in lines {
        let (name, value) = field(line).ok_or(HttpError::Field)?;
        if name.eq_ignore_ascii_case("content-length") {
            let length = number(value).and_then(|number| usize::try_from(number).ok());
            let is_second = head.length.is_some();
            head.length = Some(length.filter(|_| !is_second).ok_or(HttpError::Length)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(HttpError::TransferCoding);
        } else if name.eq_ignore_ascii_case("retry-after") {
            // A date is none that a device without a clock could follow.
            let seconds = number(value);
            head.retry_after_s = seconds.map(|s| u32::try_from(s).unwrap_or(u32::MAX));
        }
    }
    Ok(Some((head, end.saturating_add(END.len()))))
}

/// The lines of a head, each without its CRLF.
fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.windows(2).position(|pair| pair == b"\r\n") {
            Some(at) => {
                rest = text.get(at.saturating_add(2)..);
                text.get(..at)
            }
            None => rest.take(),
        }
    })
}

fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = rest.split_at_checked(3)?;
    if !matches!(reason.first(), None | Some(b' ')) || !is_text(reason) {
        return None;
    }
    let status = number(std::str::from_utf8(digits).ok()?)?;
    u16::try_from(status).ok().filter(|status| (100..600).contains(status))
}

/// A field's name and value (RFC 9110, 5.1 and 5.5).
fn field(line: &[u8]) -> Option<(&str, &str)> {
    let at = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(at)?;
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(of_token) || !is_text(value) {
        return None;
    }
    let value = std::str::from_utf8(value.get(1..)?).ok()?;
    Some((std::str::from_utf8(name).ok()?, value.trim_matches([' ', '\t'])))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Digits alone: no sign, no blanks.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                        Content-Length: 12\r\nRetry-After:  30 \r\n\r\n";

    #[test]
    fn a_head_is_read_to_its_end_and_no_further() {
        let bytes = format!("{GOOD}{{\"a\":1}}");
        let head = Head { status: 200, length: Some(12), retry_after_s: Some(30) };
        assert_eq!(read_head(bytes.as_bytes()), Ok(Some((head, GOOD.len()))));
        for cut in 0..GOOD.len() {
            assert_eq!(read_head(GOOD.get(..cut).unwrap().as_bytes()), Ok(None), "{cut}");
        }
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let (head, length) = read_head(interim).unwrap().unwrap();
        assert!(head.is_interim() && length == interim.len());
        let alone = read_head(b"HTTP/1.1 503\r\n\r\n").unwrap().unwrap().0;
        assert_eq!((alone.status, alone.length), (503, None));
        let dated = "HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n";
        assert_eq!(read_head(dated.as_bytes()).unwrap().unwrap().0.retry_after_s, None);
    }

    /// Text that is put in place of another of a good head, and the error.
    #[test]
    fn what_is_no_head_is_refused() {
        for (from, to, error) in [
            ("HTTP/1.1 200", "HTTP/2 200", HttpError::StatusLine),
            ("HTTP/1.1 200", "HTTP/1.1 099", HttpError::StatusLine),
            ("HTTP/1.1 200", "HTTP/1.1 600", HttpError::StatusLine),
            ("HTTP/1.1 200", "HTTP/1.1 2000", HttpError::StatusLine),
            ("HTTP/1.1 200", "HTTP/1.1  20", HttpError::StatusLine),
            ("HTTP/1.1 200 OK", "HTTP/1.1 200 O\nK", HttpError::StatusLine),
            ("HTTP/1.1 200", " HTTP/1.1 200", HttpError::StatusLine),
            ("Content-Type: ", "Content-Type ", HttpError::Field),
            ("Content-Type:", "Content Type:", HttpError::Field),
            ("Content-Type:", ":", HttpError::Field),
            ("Content-Type:", "\r\nContent-Type:", HttpError::Field),
            ("application/json", "application\0json", HttpError::Field),
            ("application/json", "a\r\n b: c", HttpError::Field),
            ("application/json", "a\n\rb", HttpError::Field),
            (": 12", ": +12", HttpError::Length),
            (": 12", ": 1 2", HttpError::Length),
            (": 12", ": -1", HttpError::Length),
            (": 12", ":", HttpError::Length),
            (": 12", ": 99999999999999999999", HttpError::Length),
            ("Retry-After", "content-length", HttpError::Length),
            ("Retry-After:  30", "Transfer-Encoding: chunked", HttpError::TransferCoding),
        ] {
            let head = GOOD.replacen(from, to, 1);
            let read = read_head(head.as_bytes());
            if to.starts_with("\r\n") {
                // An empty line ends the head.
                assert!(matches!(read, Ok(Some(_))), "{to}");
            } else {
                assert_eq!(read, Err(error), "{from:?} {to:?}");
            }
        }
        assert_eq!(read_head(b"SSH-2.0"), Err(HttpError::StatusLine));
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(read_head(endless.as_bytes()), Err(HttpError::TooLong));
        assert_eq!(read_head(format!("{endless}\r\n\r\n").as_bytes()), Err(HttpError::TooLong));
    }

    #[test]
    fn a_request_waits_for_the_word_to_go_on() {
        let head =
            String::from_utf8(request_head("/device/v1/enrol", "a.example:8443", JSON)).unwrap();
        assert!(head.starts_with("POST /device/v1/enrol HTTP/1.1\r\nHost: a.example:8443\r\n"));
        assert!(head.contains("\r\nExpect: 100-continue\r\n") && head.ends_with("close\r\n\r\n"));
        assert_eq!(chunked(&[b'x'; 17]), b"11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
        assert_eq!(chunked(b""), b"0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let begun = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat();
            for bytes in [&bytes, &begun] {
                if let Ok(Some((head, length))) = read_head(bytes) {
                    prop_assert!(length <= bytes.len() && (100..600).contains(&head.status));
                }
            }
        }
    }
}
