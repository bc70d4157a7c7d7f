//! Netlink messages as bytes (RFC 3549; kernel document `userspace-api/netlink/intro`).
//!
//! Numbers are in the processor's byte order but where a family says otherwise. What the kernel sends is read with
//! the same care as anything foreign: bounded, and never past its end.

/// Length of `struct nlmsghdr` in bytes.
const HEADER_BYTES: usize = 16;
/// Length of `struct nlattr` in bytes.
const ATTRIBUTE_BYTES: usize = 4;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's type that are not its number (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_FLAGS: u16 = 0xc000;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel answers in any case.
pub const ACKNOWLEDGE: u16 = 0x4;
/// `NLM_F_EXCL`: the object must not exist yet.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_DUMP`: the kernel answers with all objects.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`: the object may exist already, and is then changed.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_CREATE`: the object may not exist yet, and is then made.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: the object comes behind those that exist.
pub const APPEND: u16 = 0x800;
/// `NLMSG_ERROR`: the answer to a request, with error 0 for success.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

/// A message in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Makes a message of a type, with the header of its family.
    #[must_use]
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        let mut message = Self { bytes };
        message.align();
        message
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        self.put(kind, payload);
        self
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        // Nothing that is sent comes near the limit; what did would be refused by the kernel.
        let length = u16::try_from(payload.len().saturating_add(ATTRIBUTE_BYTES));
        self.bytes.extend(length.unwrap_or(u16::MAX).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(payload);
        self.align();
    }

    /// Adds a text, with the NUL that the kernel wants behind it.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Adds a text, as [`put_text`](Self::put_text) does.
    #[must_use]
    pub fn with_text(mut self, kind: u16, text: &str) -> Self {
        self.put_text(kind, text);
        self
    }

    /// Adds an attribute that holds what `fill` adds.
    pub fn put_nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len().saturating_sub(start)).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// Adds an attribute that holds attributes, as [`put_nested`](Self::put_nested) does.
    #[must_use]
    pub fn with_nested(mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> Self {
        self.put_nested(kind, fill);
        self
    }

    /// Asks for an answer in any case (`NLM_F_ACK`); the kernel reports an error without being asked.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        let flags = self.bytes.get(6..).and_then(|rest| rest.first_chunk());
        let flags = flags.map_or(REQUEST, |bytes| u16::from_ne_bytes(*bytes));
        self.patch(6, &(flags | ACKNOWLEDGE).to_ne_bytes());
        self
    }

    /// Adds bytes that are no attribute, such as a header within an attribute.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.align();
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at.saturating_add(value.len())) {
            place.copy_from_slice(value);
        }
    }

    /// Returns the bytes to send, under a sequence number that the answer repeats.
    #[must_use]
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.patch(0, &length.to_ne_bytes());
        self.patch(8, &sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Type of the message.
    pub kind: u16,
    /// Sequence number of the request that the message answers; 0 when it answers none.
    pub sequence: u32,
    /// Header of the family, and the attributes behind it.
    pub body: &'a [u8],
}

impl<'a> Received<'a> {
    /// Returns the error number of an answer of type [`ERROR`], 0 for success.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        let number = i32::from_ne_bytes(*self.body.first_chunk()?);
        (self.kind == ERROR).then_some(number.saturating_neg())
    }

    /// Splits the message into the header of the family and the attributes behind it.
    #[must_use]
    pub fn split(&self, header: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let (header, rest) = self.body.split_at_checked(header)?;
        Some((header, Attributes { rest }))
    }
}

/// The messages of one datagram, up to the first that is cut short.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// Reads the messages of one datagram of a netlink socket.
#[must_use]
pub fn messages(bytes: &[u8]) -> Messages<'_> {
    Messages { rest: bytes }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let header: [u8; HEADER_BYTES] = *self.rest.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = self.rest.get(HEADER_BYTES..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes([k0, k1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    }
}

/// The attributes of a message, up to the first that is cut short.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

/// Reads the attributes in bytes.
#[must_use]
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

impl<'a> Attributes<'a> {
    /// Returns the first attribute of a type.
    #[must_use]
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, payload)| (found == kind).then_some(payload))
    }

    /// Returns the first attribute of a type as a number in the processor's byte order.
    #[must_use]
    pub fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// Returns the first attribute of a type as a text, up to its NUL.
    #[must_use]
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(bytes).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let [l0, l1, k0, k1] = *self.rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let payload = self.rest.get(ATTRIBUTE_BYTES..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !TYPE_FLAGS, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_wants_it() {
        let message = Message::new(16, CREATE, &[9, 0, 0, 0])
            .with_text(3, "lo")
            .with_nested(18, |nest| nest.put(1, &7u32.to_ne_bytes()));
        let bytes = message.finish(5);
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8);
        let read: Vec<Received<'_>> = messages(&bytes).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].kind, read[0].sequence), (16, 5));
        let (header, found) = read[0].split(4).unwrap();
        assert_eq!(header, [9, 0, 0, 0]);
        assert_eq!(found.text(3), Some("lo"));
        assert_eq!(attributes(found.find(18).unwrap()).number(1), Some(7));
    }

    #[test]
    fn an_answer_is_an_error_number_or_success() {
        let answer = |error: i32| {
            let mut body = error.to_ne_bytes().to_vec();
            body.extend([0; 16]);
            Message::new(ERROR, 0, &body).finish(1)
        };
        let error = |bytes: &[u8]| messages(bytes).next().unwrap().error();
        assert_eq!((error(&answer(-17)), error(&answer(0))), (Some(17), Some(0)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for message in messages(&bytes).take(301) {
                let _ = message.error();
                if let Some((_, found)) = message.split(4) {
                    prop_assert!(found.count() <= bytes.len());
                }
            }
        }
    }
}
