//! Canonical JSON as TUF signs it (OLPC's form).

use crate::metadata::MetadataError;
use serde_json::Value;
use std::collections::BTreeMap;

/// Encodes a value as canonical JSON: the bytes that are signed.
///
/// # Errors
/// A number is no integer.
pub fn canonical(value: &Value) -> Result<Vec<u8>, MetadataError> {
    let mut bytes = Vec::new();
    write_canonical(value, &mut bytes)?;
    Ok(bytes)
}

fn write_canonical(value: &Value, bytes: &mut Vec<u8>) -> Result<(), MetadataError> {
    match value {
        Value::Null => bytes.extend(b"null"),
        Value::Bool(true) => bytes.extend(b"true"),
        Value::Bool(false) => bytes.extend(b"false"),
        Value::Number(number) if number.is_f64() => return Err(MetadataError::NotCanonical),
        Value::Number(number) => bytes.extend(number.to_string().bytes()),
        Value::String(text) => write_text(text, bytes),
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_canonical(item, bytes)?;
            }
            bytes.push(b']');
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            bytes.push(b'{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_text(name, bytes);
                bytes.push(b':');
                write_canonical(value, bytes)?;
            }
            bytes.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    bytes.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_canonical_form_is_what_the_reference_writes() {
        // securesystemslib.formats.encode_canonical
        let value = json!({"b": [1, -2, true, null], "a": {"ü": "x\"\\\n", "Z": ""}});
        let expected = "{\"a\":{\"Z\":\"\",\"ü\":\"x\\\"\\\\\n\"},\"b\":[1,-2,true,null]}";
        assert_eq!(canonical(&value).unwrap(), expected.as_bytes());
        assert_eq!(canonical(&json!({"a": 1.5})), Err(MetadataError::NotCanonical));
        assert_eq!(canonical(&json!(u64::MAX)).unwrap(), b"18446744073709551615");
    }
}
