//! PEM (RFC 7468): certificates and keys as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Returns DER as PEM with this label, such as `CERTIFICATE`.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
