//! Admission on the host: whether the device of an image takes an app package, asked by the builder of an image, and by
//! whoever appends an app to one.

use crate::key::PublicKey;
use crate::package::{self, PackError, Package};
use holdfast_sandbox::package::Device;
use holdfast_sandbox::peripheral::{self, BoardPeripheral};
use holdfast_sandbox::policy::shares::{self, Machine, Shortage};
use holdfast_sandbox::policy::{Plan, app_plan};
use holdfast_types::{CatalogId, Version};

/// An image, as far as packages are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acceptance<'a> {
    /// Product of the image.
    pub(crate) product: &'a str,
    /// Board of the image.
    pub(crate) board: &'a str,
    /// OS version of the image.
    pub(crate) os: Version,
    /// Public keys that app packages may be signed with.
    pub(crate) keys: &'a [PublicKey],
    /// Peripherals that the board offers.
    pub(crate) offered: &'a [BoardPeripheral],
    /// True when the image has the network service.
    pub(crate) network: bool,
    /// The catalog that the image's devices belong to.
    pub(crate) catalog: Option<CatalogId>,
}

/// A reason for which a package is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    /// The package is damaged, or not signed by a trusted key.
    #[error(transparent)]
    Package(#[from] PackError),
    /// The package is sound, but not for this image.
    #[error("the package {0}")]
    Refused(String),
}

/// Adds the packages up against a machine with these services, one after the other: each must find left what it asks
/// for. The caller has checked that the board offers the peripherals.
///
/// # Errors
/// The index of the first package that asks for more, and for what.
pub(crate) fn fit_together(
    machine: Machine,
    services: &[(&str, &Plan)],
    packages: &[Package],
    offered: &[BoardPeripheral],
) -> Result<(), (usize, Shortage)> {
    let mut plans: Vec<(&str, Plan)> = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        let granted = peripheral::grant(&package.manifest, offered).unwrap_or_default();
        let plan = app_plan(&package.manifest, &granted);
        let earlier = services.iter().map(|(name, plan)| (*name, *plan));
        let earlier = earlier.chain(plans.iter().map(|(name, plan)| (*name, plan)));
        shares::admit(machine, earlier, &plan).map_err(|shortage| (index, shortage))?;
        plans.push((package.manifest.name.as_str(), plan));
    }
    Ok(())
}

/// Compares the catalog for whose service an app authenticates with the image's.
///
/// # Errors
/// The field of the app's manifest, what is wrong with it, and the remedy.
pub fn check_catalog(asked: Option<CatalogId>, image: Option<CatalogId>) -> Result<(), String> {
    let field = "Capabilities.DeviceAuthentication";
    match (asked, image) {
        (None, _) => Ok(()),
        (Some(asked), Some(image)) if asked == image => Ok(()),
        (Some(asked), Some(image)) => Err(format!(
            "asks for {field} with {asked}, and the image's devices belong to catalog {image}; name that one"
        )),
        (Some(_), None) => Err(format!(
            "asks for {field}, and this image has no service; its image manifest needs `[service]`"
        )),
    }
}

impl Acceptance<'_> {
    /// Reads a package and refuses what the device would refuse.
    pub(crate) fn accept(&self, bytes: &[u8]) -> Result<Package, Unacceptable> {
        let package = package::read(bytes)?;
        package::verify(bytes, &package.header, self.keys)?;
        let device = Device {
            component_id: package.header.component_id,
            product: self.product,
            board: self.board,
            os: self.os,
            floor: 0,
        };
        let refused = |reason: String| Unacceptable::Refused(reason);
        package.header.admit(&device).map_err(|error| refused(error.to_string()))?;
        let manifest = &package.manifest;
        if let Some(field) = manifest.unsupported.first() {
            return Err(refused(format!("asks for {field}: not supported by this OS version")));
        }
        peripheral::grant(manifest, self.offered)
            .map_err(|error| refused(format!("asks for {error}")))?;
        if !manifest.network.is_empty() && !self.network {
            let reason = "asks for the network, which this image does not have; its image manifest \
                          needs `[network]`, as images/connected.toml has it";
            return Err(refused(reason.to_owned()));
        }
        check_catalog(manifest.catalog, self.catalog).map_err(refused)?;
        Ok(package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::policy::{ServiceGrants, service_plan};

    /// A package of an app with this manifest; nothing else of it is looked at.
    fn package(name: &str, memory_kib: u32, port: u16) -> Package {
        let golden = include_bytes!("../tests/packages/golden.app");
        let mut package = package::read(golden).unwrap();
        let document = serde_json::json!({
            "SchemaVersion": 1, "Name": name, "EntryPoint": "/bin/app",
            "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11",
            "Capabilities": {"AllowedTcpServerPorts": [port]},
            "Holdfast": {"Limits": {"MemoryKiB": memory_kib}},
        });
        package.manifest = holdfast_manifest::parse(document.to_string().as_bytes()).unwrap();
        package
    }

    #[test]
    fn an_app_authenticates_for_its_devices_catalog_alone() {
        let [one, other] = [CatalogId([1; 16]), CatalogId([2; 16])];
        assert_eq!(check_catalog(None, None), Ok(()));
        assert_eq!(check_catalog(None, Some(one)), Ok(()));
        assert_eq!(check_catalog(Some(one), Some(one)), Ok(()));
        let refused = check_catalog(Some(one), Some(other)).unwrap_err();
        assert!(refused.contains(&other.to_string()), "{refused}");
        let refused = check_catalog(Some(one), None).unwrap_err();
        assert!(refused.contains("needs `[service]`"), "{refused}");
    }

    #[test]
    fn packages_that_ask_for_more_than_the_machine_has_are_told_apart() {
        let service = service_plan(&ServiceGrants::none("/usr/lib/holdfast/services/a", "a"));
        let services = [("a", &service)];
        let machine = Machine { memory_kib: 8192 + 20_000, storage_kib: None };
        let fit = |packages: &[Package]| fit_together(machine, &services, packages, &[]);
        let (one, two) = (package("one", 8000, 80), package("two", 6000, 81));
        assert_eq!(fit(&[one.clone(), two.clone()]), Ok(()));
        let large = package("three", 8000, 82);
        let (index, shortage) = fit(&[one.clone(), two, large]).unwrap_err();
        assert!(matches!((index, &shortage), (2, Shortage::Memory { .. })), "{shortage}");
        assert!(shortage.to_string().contains("Holdfast.Limits.MemoryKiB"), "{shortage}");
        let same = package("four", 1000, 80);
        let (index, shortage) = fit(&[one, same]).unwrap_err();
        assert_eq!(index, 1);
        assert!(shortage.to_string().contains("which `one` has"), "{shortage}");
    }
}
