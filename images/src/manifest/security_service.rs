//! `[service]` of an image manifest: the Security Service that the device checks in with.

use super::update::server;
use crate::document::at_least_one;
use holdfast_evidence::claims::MAX_APPS;
use holdfast_sandbox::network::{Connection, Destination, NetworkGrants, PortRange, Protocol};
use holdfast_types::CatalogId;
use serde::Deserialize;
use std::path::PathBuf;

/// `[service]`: the service, and the catalog that the device belongs to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityServiceSource {
    /// An `https:` URL of host and port: the device port.
    pub url: String,
    /// Certificates of the authorities that may vouch for it: PEM files, relative to the manifest.
    #[serde(deserialize_with = "at_least_one")]
    pub authorities: Vec<PathBuf>,
    /// Id of the catalog, a GUID. The device belongs to no other.
    pub catalog: String,
    /// Certificate of the catalog's root: a PEM file, relative to the manifest.
    pub catalog_root: PathBuf,
    /// False for devices that record and report no failures, whatever the service asks for.
    #[serde(default = "yes")]
    pub reports: bool,
}

fn yes() -> bool {
    true
}

impl SecurityServiceSource {
    /// Returns host and port, for connections.
    ///
    /// # Errors
    /// The field below `service`, and what is wrong with it.
    pub fn server(&self) -> Result<(Destination, u16), (String, &'static str)> {
        let has_path = self.url.strip_prefix("https://").is_some_and(|rest| rest.contains('/'));
        let server = server(&self.url).filter(|_| !has_path);
        server.ok_or_else(|| {
            let reason = "must be such as \"https://devices.example.com\" or \
                          \"https://192.0.2.1:8443\", without a slash behind it";
            ("url".to_owned(), reason)
        })
    }

    /// Returns the network grants of `uplink`: the service, and nobody else.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    pub fn grants(&self) -> Result<NetworkGrants, (String, &'static str)> {
        let (to, port) = self.server()?;
        let connection =
            Connection { to, protocol: Some(Protocol::Tcp), ports: vec![PortRange::one(port)] };
        Ok(NetworkGrants { connections: vec![connection], ..NetworkGrants::default() })
    }

    /// Returns the id of the catalog.
    ///
    /// # Errors
    /// The field below `service`, and what is wrong with it.
    pub fn catalog_id(&self) -> Result<CatalogId, (String, &'static str)> {
        CatalogId::parse(&self.catalog).ok_or_else(|| {
            let reason = "must be the GUID of a catalog, such as \
                          \"25025d2c-66da-4448-bae1-ac26fcdd3627\"";
            ("catalog".to_owned(), reason)
        })
    }

    pub(super) fn check(&self, apps: usize) -> Result<(), (String, &'static str)> {
        self.server()?;
        self.catalog_id()?;
        if apps > MAX_APPS {
            let reason = "attests 32 apps at most; take some from the image, or this table";
            return Err((String::new(), reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::SecurityServiceSource;
    use crate::manifest::tests::{GOOD, load};

    const SERVICE: &str = "[network]\n[service]\nurl = \"https://devices.example.com:8443\"\n\
        authorities = [\"authority.pem\"]\ncatalog = \"25025d2c-66da-4448-bae1-ac26fcdd3627\"\n\
        catalog_root = \"root.pem\"\n";

    #[test]
    fn a_service_is_reached_by_its_host_and_port_alone() {
        let manifest = load(&format!("{GOOD}{SERVICE}")).unwrap();
        let service = manifest.service.unwrap();
        let (to, port) = service.server().unwrap();
        assert_eq!((to.to_string().as_str(), port), ("devices.example.com", 8443));
        assert_eq!(service.grants().unwrap().connections.len(), 1);
        assert_eq!(service.catalog_id().unwrap().to_string(), service.catalog);
    }

    #[test]
    fn another_service_takes_the_place_of_the_manifests_by_the_same_rules() {
        let mut manifest = load(&format!("{GOOD}{SERVICE}")).unwrap();
        let own = manifest.service.clone().unwrap();
        let at = |url: &str| SecurityServiceSource { url: url.to_owned(), ..own.clone() };
        manifest.set_service(at("https://10.0.2.2:8543")).unwrap();
        assert_eq!(manifest.service.as_ref().unwrap().server().unwrap().1, 8543);
        let refused = manifest.set_service(at("http://10.0.2.2")).unwrap_err().to_string();
        assert!(refused.contains("service.url: must be such as"), "{refused}");
        let mut without = load(GOOD).unwrap();
        let refused = without.set_service(at("https://10.0.2.2:8543")).unwrap_err().to_string();
        assert!(refused.contains("service: needs the network"), "{refused}");
        without.network.get_or_insert_default();
        without.set_service(at("https://10.0.2.2:8543")).unwrap();
    }

    /// Text that is put in place of another, and what the error says.
    #[test]
    fn a_service_that_is_said_wrong_is_named_with_the_remedy() {
        for (from, to, says) in [
            ("https://", "http://", "service.url: must be such as"),
            (":8443", ":8443/device", "service.url: must be such as"),
            (":8443", ":8443/", "service.url: must be such as"),
            (":8443", ":0", "service.url: must be such as"),
            ("25025d2c-", "", "service.catalog: must be the GUID"),
            ("[\"authority.pem\"]", "[]", "at least one"),
            ("authorities = [\"authority.pem\"]\n", "", "missing field `authorities`"),
            ("catalog_root = \"root.pem\"\n", "", "missing field `catalog_root`"),
            ("catalog_root", "root", "unknown field `root`"),
            ("[network]\n", "", "service: needs the network; add `[network]`"),
        ] {
            assert!(SERVICE.contains(from), "{from}");
            let refused = load(&format!("{GOOD}{}", SERVICE.replacen(from, to, 1))).unwrap_err();
            assert!(refused.contains(says), "{to}: {refused}");
        }
        let app = "[[app]]\npath = \"a\"\n".repeat(33);
        let many = load(&format!("{GOOD}{SERVICE}{app}")).unwrap_err();
        assert!(many.contains("service: attests 32 apps at most"), "{many}");
        load(&format!("{GOOD}{app}")).unwrap();
    }
}
