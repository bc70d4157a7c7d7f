//! Bytes of others as text that a log can bear.

/// `bytes` as printable ASCII: anything else becomes `\xNN`, a tab one blank, a final CR nothing.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut line = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\t' => line.push(' '),
            b'\\' => line.push_str("\\\\"),
            0x20..=0x7e => line.push(char::from(*byte)),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                line.push_str("\\x");
                for nibble in [other >> 4, other & 0xf] {
                    line.push(HEX.get(usize::from(nibble)).copied().map_or('?', char::from));
                }
            }
        }
    }
    line
}
