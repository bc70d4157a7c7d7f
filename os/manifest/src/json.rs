//! Messages for documents that are no JSON, which name the remedy.

/// Returns the message for `bytes`, which the parser has refused with `error`.
pub(super) fn complaint(bytes: &[u8], error: &serde_json::Error) -> String {
    if is_utf16(bytes) {
        return "is in UTF-16; save it as UTF-8".to_owned();
    }
    if std::str::from_utf8(bytes).is_err() {
        return "is not UTF-8; save it as UTF-8".to_owned();
    }
    if bytes.trim_ascii().is_empty() {
        return "is empty; `cargo holdfast app new` makes one".to_owned();
    }
    match comment(bytes) {
        // Whatever comes first is what is to be mended first.
        Some((line, mark)) if line <= error.line() => {
            format!("line {line}: has a comment (`{mark}`), and JSON has none; take it out")
        }
        _ => error.to_string(),
    }
}

/// True for text in UTF-16: by its mark, or by the zero beside the first letter.
fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    }
}

/// The line of the first comment, and how it begins.
fn comment(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let (mut line, mut in_text, mut escaped) = (1usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            // No string goes on beyond its line.
            (line, in_text, escaped) = (line.saturating_add(1), false, false);
        } else if in_text {
            in_text = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else {
            in_text = *byte == b'"';
            let next = at.checked_add(1).and_then(|next| bytes.get(next));
            let mark = match (byte, next) {
                (b'/', Some(b'/')) => "//",
                (b'/', Some(b'*')) => "/*",
                (b'#', _) => "#",
                _ => continue,
            };
            return Some((line, mark));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &[u8]) -> String {
        let error = serde_json::from_slice::<serde_json::Value>(text).unwrap_err();
        complaint(text, &error)
    }

    #[test]
    fn a_comment_is_named_by_its_line() {
        for (text, line, mark) in [
            ("{\n  \"a\": [\"0ne\"], // scope id\n  \"b\": 1\n}", 2, "//"),
            ("/* what\n it is */ {}", 1, "/*"),
            ("{\n\n# a\n\"a\": 1}", 3, "#"),
            ("{\"url\": \"https://a#b\",\n \"quote\": \"\\\"//\",\n//\n}", 3, "//"),
        ] {
            let expected =
                format!("line {line}: has a comment (`{mark}`), and JSON has none; take it out");
            assert_eq!(said(text.as_bytes()), expected, "{text}");
        }
        // What comes before it is said first, and what stands in a string is none.
        assert!(said(b"{\"a\": ,\n // b\n}").contains("line 1 column"));
        assert!(said(b"{\"a\": \"// b\"").starts_with("EOF"));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |bytes: fn(u16) -> [u8; 2], mark: &[u16]| -> Vec<u8> {
            let letters = mark.iter().copied().chain("{ }".encode_utf16());
            letters.flat_map(bytes).collect()
        };
        for text in [
            utf16(u16::to_le_bytes, &[0xfeff]),
            utf16(u16::to_be_bytes, &[0xfeff]),
            utf16(u16::to_le_bytes, &[]),
            utf16(u16::to_be_bytes, &[]),
        ] {
            assert_eq!(said(&text), "is in UTF-16; save it as UTF-8", "{text:?}");
        }
        // As editors of other days write it.
        assert_eq!(said(b"{\"Name\": \"M\xfcller\"}"), "is not UTF-8; save it as UTF-8");
        assert!(said(b" \r\n").starts_with("is empty"));
    }
}
