//! The product's own services, each a directory with a `service.toml`, and what of them an image has.

use crate::board::{Board, TEST_LINE};
use crate::document;
use crate::manifest::{ImageManifest, ManifestError, read_text};
use crate::service::{DIRECTORY, Part, Reach, Service};
use crate::{FieldError, FileError};
use holdfast_sandbox::component;
use holdfast_sandbox::network::NetworkGrants;
use holdfast_sandbox::policy::{self, ServiceGrants};
use holdfast_types::uid::FIRST_SERVICE_UID;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// File with what a service is granted, in its directory.
pub const FILE_NAME: &str = "service.toml";
/// Uids from this one up belong to the services of image manifests, in their order; those below to the product's own.
const FIRST_UID_OF_MANIFESTS: u32 = FIRST_SERVICE_UID + 100;

/// True where the manifest has this part.
fn is_in(part: Part, manifest: &ImageManifest, has_apps: bool) -> bool {
    match part {
        Part::Apps => has_apps || manifest.later_apps().next().is_some(),
        Part::Network => manifest.network.is_some(),
        Part::Update => manifest.update.is_some(),
        Part::Debug => manifest.debugged.is_some(),
        Part::Service => manifest.service.is_some(),
        Part::Reports => manifest.service.as_ref().is_some_and(|service| service.reports),
    }
}

/// The services of the product's own, each in a directory below `directory`, in the order of their uids.
///
/// # Errors
/// A `service.toml` cannot be read, or a field of it holds what it may not.
pub fn load_all(directory: &Path) -> Result<Vec<Service>, ManifestError> {
    let failed = |error| ManifestError::File(FileError::at("list", directory)(error));
    let mut services = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path().join(FILE_NAME);
        if path.is_file() {
            services.push(load(&path)?);
        }
    }
    services.sort_by_key(|service: &Service| service.uid);
    for pair in services.windows(2) {
        if let [first, second] = pair
            && first.uid == second.uid
        {
            let reason = format!("is that of `{}` as well; take another one", first.name);
            return Err(second.refused("uid", reason).into());
        }
    }
    Ok(services)
}

fn load(path: &Path) -> Result<Service, ManifestError> {
    let text = read_text(path)?;
    let mut service: Service = toml::from_str(&text).map_err(|error| ManifestError::Toml {
        path: path.to_owned(),
        complaint: document::complaint(&text, &error),
    })?;
    service.said_in = (path.to_owned(), String::new());
    let directory = path.parent().and_then(Path::file_name).unwrap_or_default();
    if directory != service.name.as_str() {
        let reason = format!("must be that of its directory, `{}`", directory.display());
        return Err(service.refused("name", reason).into());
    }
    let uids = FIRST_SERVICE_UID..FIRST_UID_OF_MANIFESTS;
    if !service.uid.is_some_and(|uid| uids.contains(&uid)) {
        let most = uids.end.saturating_sub(1);
        let reason = format!("must be from {} to {most}, and no other service's", uids.start);
        return Err(service.refused("uid", reason).into());
    }
    if service.with.is_empty() {
        let reason = "must name a part of image manifests that it comes with: \"apps\", \"network\", \"update\", \"service\", \"reports\" or \"debug\"";
        return Err(service.refused("with", reason).into());
    }
    service.check()?;
    Ok(service)
}

/// Returns the cargo features that a package is built with for these services: those that any of them names.
#[must_use]
pub fn features_of(package: &str, services: &[Service]) -> BTreeSet<String> {
    let beside = services.iter().filter(|service| service.package == package);
    beside.flat_map(|service| service.features.iter().cloned()).collect()
}

/// The services of an image: those of the product's own that it needs, in the order of their uids, then its
/// manifest's. The features of each are all that it has in this image.
#[must_use]
pub fn of_image(own: &[Service], manifest: &ImageManifest, has_apps: bool) -> Vec<Service> {
    let needed =
        |service: &&Service| service.with.iter().any(|part| is_in(*part, manifest, has_apps));
    let mut services: Vec<Service> = own.iter().filter(needed).cloned().collect();
    for service in &mut services {
        let with = std::mem::take(&mut service.features_with).into_iter();
        let with = with.filter(|(part, _)| is_in(*part, manifest, has_apps));
        service.features.extend(with.flat_map(|(_, features)| features));
    }
    for service in services.iter_mut().filter(|service| service.debugger) {
        service.args.extend(manifest.debugged.clone());
    }
    services.extend(manifest.services.iter().cloned());
    services
}

/// Returns the entry of the component list for a service. `uid` is for a service of an image manifest.
fn component(
    service: &Service,
    manifest: &ImageManifest,
    board: &Board,
    uid: u32,
) -> Result<component::Service, FieldError> {
    let directory = format!("/{DIRECTORY}/{}", service.name);
    let plan = if service.one_shot {
        let plan = policy::admission_plan(&service.name, &directory);
        policy::Plan { limits: service.limits, ..plan }
    } else {
        policy::service_plan(&ServiceGrants {
            args: service.args.clone(),
            capabilities: service.capability_numbers()?,
            descriptors: device_nodes(service, board)?,
            requests: service.requests,
            system_view: service.system_view,
            system_network: service.system_network,
            network: network(service, manifest)?,
            debugger: service.debugger,
            state: service.state,
            app_store: service.app_store,
            limits: service.limits,
            readiness: policy::readiness(service.ready_within_ms),
            watchdog_ms: service.watchdog_ms,
            critical: service.critical,
            ..ServiceGrants::none(&directory, &service.name)
        })
    };
    Ok(component::Service { name: service.name.clone(), uid: service.uid.unwrap_or(uid), plan })
}

/// Returns the network grants of a service.
fn network(service: &Service, manifest: &ImageManifest) -> Result<NetworkGrants, FieldError> {
    let mut all = NetworkGrants::default();
    for reach in &service.reaches {
        let (table, grants) = match reach {
            Reach::UpdateServers => ("update", manifest.update.as_ref().map(|of| of.grants())),
            Reach::Service => ("service", manifest.service.as_ref().map(|of| of.grants())),
        };
        let grants = grants.transpose().map_err(|(field, reason)| FieldError {
            path: manifest.path.clone(),
            field: format!("{table}.{field}"),
            reason: reason.to_owned(),
        })?;
        // Releases and service may lie on one host.
        for connection in grants.into_iter().flat_map(|grants| grants.connections) {
            if !all.connections.contains(&connection) {
                all.connections.push(connection);
            }
        }
    }
    Ok(all)
}

/// Returns the device nodes of a service, with the board's own name for [`TEST_LINE`].
fn device_nodes(service: &Service, board: &Board) -> Result<Vec<String>, FieldError> {
    let named = |node: &String| match (&board.test_line, node.as_str()) {
        (Some(line), TEST_LINE) => Ok(line.clone()),
        (None, TEST_LINE) => {
            let reason = format!("board {} has no `test_line`", board.name);
            Err(service.refused("descriptors", reason))
        }
        _ => Ok(node.clone()),
    };
    service.descriptors.iter().map(named).collect()
}

/// The services with what init is told of each: those that run, and the one that looks at packages.
pub(crate) fn components<'a>(
    services: impl Iterator<Item = &'a Service>,
    manifest: &ImageManifest,
    board: &Board,
) -> Result<(Vec<component::Service>, Option<component::Service>), FieldError> {
    let (mut running, mut admission) = (Vec::new(), None);
    let mut uid = FIRST_UID_OF_MANIFESTS;
    for service in services {
        let component = component(service, manifest, board, uid)?;
        if service.uid.is_none() {
            uid = uid.saturating_add(1);
        }
        if service.one_shot {
            admission = Some(component);
        } else {
            running.push(component);
        }
    }
    Ok((running, admission))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::GOOD;

    fn own() -> Vec<Service> {
        load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../services")).unwrap()
    }

    fn manifest(more: &str) -> ImageManifest {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        fs::write(&path, format!("{GOOD}{more}")).unwrap();
        ImageManifest::load(&path).unwrap()
    }

    fn refusal(text: &str) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("meter");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(FILE_NAME), text).unwrap();
        load_all(scratch.path()).expect_err("was accepted").to_string()
    }

    #[test]
    fn an_image_has_the_services_that_it_needs() {
        let names = |manifest: &ImageManifest, has_apps| -> Vec<String> {
            of_image(&own(), manifest, has_apps).into_iter().map(|service| service.name).collect()
        };
        assert_eq!(names(&manifest(""), false), Vec::<String>::new());
        assert_eq!(names(&manifest(""), true), ["admission"]);
        assert_eq!(names(&manifest("[network]\n"), true), ["admission", "network"]);
        let update = "[network]\n[update]\nos = { url = \"https://a.example.com/os\" }\n";
        // An image without a service has no identity, and pays nothing for it.
        let all = ["admission", "network", "uplink", "update"];
        assert_eq!(names(&manifest(update), false), all);
        let service = "[network]\n[service]\nurl = \"https://a.example.com\"\n\
            authorities = [\"a.pem\"]\ncatalog = \"25025d2c-66da-4448-bae1-ac26fcdd3627\"\n\
            catalog_root = \"r.pem\"\n";
        assert_eq!(names(&manifest(service), false), ["network", "uplink", "identity", "report"]);
        let silent = manifest(&format!("{service}reports = false\n"));
        assert_eq!(names(&silent, false), ["network", "uplink", "identity"]);
        let mut debugged = manifest("");
        debugged.debugged = Some("hello".to_owned());
        let services = of_image(&own(), &debugged, true);
        assert_eq!(services.last().unwrap().args, ["hello"]);
    }

    #[test]
    fn an_image_without_a_service_has_no_code_of_check_ins_and_reports() {
        let features =
            |more: &str| features_of("holdfast-services", &of_image(&own(), &manifest(more), true));
        let update = "[network]\n[update]\nos = { url = \"https://b.example.com/os\" }\n";
        let service = "[service]\nurl = \"https://a.example.com\"\nauthorities = [\"a.pem\"]\n\
            catalog = \"25025d2c-66da-4448-bae1-ac26fcdd3627\"\ncatalog_root = \"r.pem\"\n";
        let without = features(update);
        assert_eq!(
            without.iter().map(String::as_str).collect::<Vec<_>>(),
            ["admission", "network", "update", "uplink"]
        );
        let with = features(&format!("{update}{service}"));
        let more: Vec<&str> = with.difference(&without).map(String::as_str).collect();
        assert_eq!(more, ["check-in", "identity", "report"]);
    }

    #[test]
    fn uplink_reaches_whom_the_manifest_names_and_nobody_else() {
        let own = own();
        let uplink = own.iter().find(|service| service.name == "uplink").unwrap();
        let reached = |more: &str| -> Vec<String> {
            let grants = network(uplink, &manifest(more)).unwrap();
            grants.connections.iter().map(ToString::to_string).collect()
        };
        let service = "[service]\nurl = \"https://a.example.com\"\nauthorities = [\"a.pem\"]\n\
            catalog = \"25025d2c-66da-4448-bae1-ac26fcdd3627\"\ncatalog_root = \"r.pem\"\n";
        let update = "[update]\nos = { url = \"https://b.example.com/os\" }\n";
        let same = "[update]\nos = { url = \"https://a.example.com/os\" }\n";
        assert_eq!(reached(&format!("[network]\n{service}")).len(), 1);
        assert_eq!(reached(&format!("[network]\n{update}{service}")).len(), 2);
        assert_eq!(reached(&format!("[network]\n{same}{service}")).len(), 1);
        assert_eq!(reached(""), Vec::<String>::new());
    }

    #[test]
    fn what_a_service_file_says_wrong_is_named_with_the_remedy() {
        let good =
            "name = \"meter\"\npackage = \"p\"\nbinary = \"b\"\nuid = 150\nwith = [\"apps\"]\n";
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from));
            refusal(&good.replace(from, to))
        };
        let name = changed("\"meter\"", "\"other\"");
        assert!(
            name.ends_with("service.toml: name: must be that of its directory, `meter`"),
            "{name}"
        );
        let uid = changed("150", "7");
        assert!(uid.contains("uid: must be from 100 to 199"), "{uid}");
        let with = changed("with = [\"apps\"]\n", "");
        assert!(with.contains("with: must name a part of image manifests"), "{with}");
        let capability = refusal(&format!("{good}capabilities = [\"CAP_FLY\"]\n"));
        assert!(capability.contains("capabilities: `CAP_FLY` is no capability"), "{capability}");
        let view = refusal(&format!("{good}system_view = true\n"));
        assert!(view.contains("system_view: is for services that are `test_only`"), "{view}");
        let limits = refusal(&format!("{good}[limits]\nprocesses = 0\n"));
        assert!(limits.contains("limits: Processes is out of its bounds"), "{limits}");
    }

    #[test]
    fn no_two_services_have_one_uid_and_none_is_an_image_manifests() {
        let services = own();
        assert!(services.len() >= 5);
        for (index, service) in services.iter().enumerate() {
            let uid = service.uid.unwrap();
            assert!(services[..index].iter().all(|earlier| earlier.uid != Some(uid)));
            assert!((FIRST_SERVICE_UID..FIRST_UID_OF_MANIFESTS).contains(&uid), "{}", service.name);
        }
    }

    #[test]
    fn an_image_manifest_grants_nothing_that_is_the_products_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        let service = "[[services]]\nname = \"a\"\npackage = \"p\"\nbinary = \"b\"\n";
        for field in ["uid = 150", "state = true", "app_store = true", "system_network = true"] {
            fs::write(&path, format!("{GOOD}{service}{field}\n")).unwrap();
            let refused = ImageManifest::load(&path).expect_err("was accepted").to_string();
            let name = field.split(' ').next().unwrap();
            let expected = format!("services[0].{name}: is for services of the product's own");
            assert!(refused.contains(&expected), "{refused}");
        }
    }
}
