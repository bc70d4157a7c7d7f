//! What is demanded of the parsers of the Security Service: what a load balancer puts before a connection, settings, and
//! certificates of endorsement keys. Bodies of its port of devices are those of `device_port`.

use holdfast_evidence::public::{EndorsementKey, Point, Template};
use holdfast_service_domain::endorsement::{self, Maker};
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::proxy::{self, MAX_REST_BYTES, PREFIX_BYTES, Prefix};
use holdfast_service_domain::settings::Settings;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

/// A time at which the certificates of the fixtures are good: the first seconds of 2030.
const NOW: u64 = 1_893_456_000;
/// An authority of a maker, the certificate that it has issued, and the endorsement key's point in it.
const MAKER: &[u8] = include_bytes!("fixtures/endorsement-maker.der");
const CERTIFICATE: &[u8] = include_bytes!("fixtures/endorsement-certificate.der");
const POINT: &[u8] = include_bytes!("fixtures/endorsement-point.bin");

/// The maker that is listed, and the key that a TPM has sent.
static KNOWN: LazyLock<Option<(Vec<Maker>, EndorsementKey)>> = LazyLock::new(|| {
    let maker = Maker::read(MAKER, Grade::Hardware).ok()?;
    let area = Template::Endorsement.area(&Point::from_uncompressed(POINT)?);
    let length = u16::try_from(area.len()).ok()?.to_be_bytes();
    let key = EndorsementKey::read(&[&length[..], &area].concat()).ok()?;
    Some((vec![maker], key))
});

/// A header of the PROXY protocol, version 2.
pub fn proxy_header(bytes: &[u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return };
    let Ok(prefix) = Prefix::read(prefix) else { return };
    assert!(prefix.rest <= MAX_REST_BYTES, "{} bytes are read", prefix.rest);
    let rest = rest.get(..prefix.rest).unwrap_or(rest);
    if let Ok(Some(source)) = prefix.source(rest) {
        // A source is named in the one way in which it is counted.
        assert_eq!(source.to_canonical(), source);
        let again = proxy::header(source, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (prefix, rest) = again.split_first_chunk::<PREFIX_BYTES>().unwrap_or((&[0; 16], &[]));
        let read = Prefix::read(prefix).and_then(|prefix| prefix.source(rest));
        assert_eq!(read, Ok(Some(source)), "it is written as another");
    }
}

/// `settings.toml`.
pub fn service_settings(bytes: &[u8]) {
    let Ok(settings) = str::from_utf8(bytes).map(Settings::read) else { return };
    let Ok(settings) = settings else { return };
    let again = settings.to_text().ok().and_then(|text| Settings::read(&text).ok());
    assert!(again.as_ref() == Some(&settings), "they are written as others");
}

/// A certificate of an endorsement key, as a device sends it, and one of an authority, as an owner lists it.
pub fn endorsement_certificate(bytes: &[u8]) {
    let _ = Maker::read(bytes, Grade::Hardware);
    let Some((makers, key)) = &*KNOWN else { panic!("the fixtures cannot be read") };
    if let Ok(grade) = endorsement::verify(bytes, key, makers, NOW) {
        assert_eq!(grade, Grade::Hardware);
        // The maker has signed one.
        assert!(bytes == CERTIFICATE, "a certificate that nobody has signed");
    }
}

#[cfg(test)]
pub(crate) use tests::seeds;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// Headers of both families and of the balancer's own, settings, and certificates.
    pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 3] {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let four = proxy::header(address("192.0.2.7"), address("198.51.100.1"));
        let six = proxy::header(address("2001:db8::7"), address("2001:db8::1"));
        let mut local = four.clone();
        local[12] = 0x20;
        let any = SocketAddr::from(([0, 0, 0, 0], 8443));
        let names = vec!["service.example".to_owned()];
        let mut settings = Settings::new(any, any, names, "sqlite:service.db".to_owned());
        settings.device.proxies = vec![address("192.0.2.1")];
        let settings = settings.to_text().unwrap().into_bytes();
        [
            ("proxy_header", vec![four, six, local]),
            ("service_settings", vec![settings]),
            ("endorsement_certificate", vec![CERTIFICATE.to_vec(), MAKER.to_vec()]),
        ]
    }

    #[test]
    fn the_certificate_of_the_fixtures_is_taken() {
        let (makers, key) = KNOWN.as_ref().unwrap();
        let grade = endorsement::verify(CERTIFICATE, key, makers, NOW).unwrap();
        assert_eq!(grade, Grade::Hardware, "the control: the target reaches what it is about");
    }
}
