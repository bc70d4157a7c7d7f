//! A production image holds nothing that belongs to development.

use super::error::BuildError;
use super::inputs::{Development, Inputs};
use crate::FieldError;
use crate::manifest::ImageManifest;
use std::path::PathBuf;

/// Refuses the apps of a production image that are directories: what is packed from them is signed with the
/// development key.
///
/// # Errors
/// One of `apps` is no package.
pub fn refuse_app_directories(
    manifest: &ImageManifest,
    apps: &[PathBuf],
) -> Result<(), BuildError> {
    let Some(directory) = apps.iter().find(|path| path.is_dir()) else { return Ok(()) };
    let is_listed = manifest.app_paths().any(|path| path == *directory);
    Err(BuildError::NotForProduction {
        path: manifest.path.clone(),
        field: if is_listed { "[[app]] path" } else { "--app" }.to_owned(),
        what: format!(
            "a development key for apps, which signs what is packed from {}",
            directory.display()
        ),
        remedy: "name its package, made by `app pack`, signed by `app sign` with a key of your own, and that \
                 key in `trust.app_keys`",
    })
}

pub(super) fn refuse_development(inputs: &Inputs<'_>) -> Result<(), BuildError> {
    let refuse = |field: String, what: String, remedy| {
        let path = inputs.manifest.path.clone();
        Err(BuildError::NotForProduction { path, field, what, remedy })
    };
    if inputs.manifest.debugged.is_some() {
        let what = "the debug port of an app".to_owned();
        return refuse("--debug".to_owned(), what, "leave the option out");
    }
    if let Some((service, _)) = inputs.services.iter().find(|(service, _)| service.test_only) {
        let FieldError { path, field, .. } = service.refused("test_only", "");
        let what = format!("the test service `{}`", service.name);
        return Err(BuildError::NotForProduction {
            path,
            field,
            what,
            remedy: "leave the service out",
        });
    }
    let paths: Vec<PathBuf> = inputs.apps.iter().map(|(path, _)| path.clone()).collect();
    refuse_app_directories(inputs.manifest, &paths)?;
    if inputs.app_keys.iter().any(|key| key.development) {
        return refuse(
            "trust.app_keys".to_owned(),
            "a development key for apps".to_owned(),
            "name the public key of one that `key new --for app` has made",
        );
    }
    if let Some(development) = inputs.update.as_ref().and_then(|u| u.development.as_ref()) {
        let Development { field, what, remedy } = development;
        return refuse(field.clone(), (*what).to_owned(), remedy);
    }
    if inputs.boot_keys.iter().any(|key| key.development) {
        return refuse(
            "trust.boot".to_owned(),
            "a development key of the boot loader".to_owned(),
            "name the public keys of three that `key new --for boot` has made",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::GOOD;
    use std::fs;

    #[test]
    fn a_production_image_takes_packages_and_no_directories() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("app")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("app.package"), "x").unwrap();
        let with_app = GOOD.replace("[slots]", "[[app]]\npath = \"app\"\n[slots]");
        fs::write(at("image.toml"), with_app).unwrap();
        let manifest = ImageManifest::load(&at("image.toml")).unwrap();
        refuse_app_directories(&manifest, &[at("app.package")]).unwrap();
        for (name, field) in [("app", "[[app]] path"), ("other", "--app")] {
            let refused = refuse_app_directories(&manifest, &[at("app.package"), at(name)]);
            let message = refused.unwrap_err().to_string();
            let start =
                format!("image.toml: {field}: a production image cannot hold a development key");
            assert!(message.contains(&start) && message.contains("`app sign`"), "{message}");
            assert!(message.contains(&at(name).display().to_string()), "{message}");
        }
    }
}
