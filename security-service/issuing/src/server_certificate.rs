//! The service's own certificate, with which devices and people reach it.

use crate::authority::{SERVICE_ROOT, issuer_of};
use crate::certificate::{self, IssuingError};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use std::net::IpAddr;

/// Seconds for which it is good: 90 days.
pub const SERVER_S: u64 = 90 * 24 * 60 * 60;
/// Seconds by which it is dated back.
const BACKDATED_S: u64 = 24 * 60 * 60;

/// Makes a certificate for these names and addresses by the key of the service's root (PKCS #8), and returns it as DER with its
/// key.
///
/// # Errors
/// A name can stand in no certificate, or it cannot be made.
pub fn make(root: &[u8], names: &[String], now: u64) -> Result<(Vec<u8>, KeyPair), IssuingError> {
    let root = KeyPair::try_from(root).map_err(IssuingError::Key)?;
    let key = KeyPair::generate().map_err(IssuingError::Make)?;
    let common_name = names.first().map_or("", String::as_str);
    let times = (now.saturating_sub(BACKDATED_S), now.saturating_add(SERVER_S));
    let (mut parameters, _) = certificate::parameters(common_name, times.0, times.1)?;
    let alternative = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => match name.as_str().try_into() {
            Ok(name) => Ok(SanType::DnsName(name)),
            Err(_) => Err(IssuingError::Name(name.clone())),
        },
    };
    parameters.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let made = parameters.signed_by(&key, &issuer_of(SERVICE_ROOT, &root)?);
    let certificate = made.map_err(IssuingError::Make)?.der().to_vec();
    Ok((certificate, key))
}
