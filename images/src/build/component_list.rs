//! The component list of an image, and whether its components fit the machine together.

use super::error::BuildError;
use super::inputs::Inputs;
use crate::FieldError;
use crate::acceptance::{self, Unacceptable};
use crate::board::Tpm;
use crate::own_services;
use crate::package::Package;
use holdfast_sandbox::component::{self, App, ComponentList, ImageDescription};
use holdfast_sandbox::policy::Plan;
use holdfast_sandbox::policy::shares::{self, Machine};

/// Refuses components that ask for more memory than the machine has, or for the same ports.
pub(super) fn check_memory(inputs: &Inputs<'_>, packages: &[Package]) -> Result<(), BuildError> {
    let list = component_list(inputs, packages)?;
    let machine = Machine::with_memory(list.image.memory_kib.into());
    let services: Vec<(&str, &Plan)> =
        list.services.iter().map(|service| (service.name.as_str(), &service.plan)).collect();
    let taken: u64 = services.iter().map(|(_, plan)| shares::memory_kib(plan)).sum();
    if taken > machine.memory_kib {
        let reason = format!(
            "the services need {taken} KiB, but a machine of {} MiB has {} KiB for components; make it \
             larger, or take a board with more",
            inputs.memory_mib, machine.memory_kib
        );
        let field = "memory_mib".to_owned();
        return Err(FieldError { path: inputs.manifest.path.clone(), field, reason }.into());
    }
    acceptance::fit_together(machine, &services, packages, &list.peripherals).map_err(
        |(index, shortage)| BuildError::App {
            path: inputs.apps.get(index).map(|(path, _)| path.clone()).unwrap_or_default(),
            source: Unacceptable::Refused(format!("asks for {shortage}")),
        },
    )
}

pub(super) fn component_list(
    inputs: &Inputs<'_>,
    packages: &[Package],
) -> Result<ComponentList, BuildError> {
    let manifest = inputs.manifest;
    let chosen = inputs.services.iter().map(|(service, _)| *service);
    let (services, admission) = own_services::components(chosen, manifest, inputs.board)?;
    let apps: Vec<App> = packages
        .iter()
        .map(|package| App {
            name: holdfast_types::component_name::name_for(&package.manifest.name),
            component_id: package.header.component_id,
        })
        .chain(manifest.later_apps())
        .collect();
    if let Some(app) = &manifest.debugged
        && !apps.iter().any(|known| known.name == *app)
    {
        let known: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        return Err(BuildError::Field(FieldError {
            path: manifest.path.clone(),
            field: "app".to_owned(),
            reason: format!("there is no `{app}` to be debugged; there is {}", known.join(", ")),
        }));
    }
    let image = ImageDescription {
        name: manifest.name.clone(),
        product: manifest.product.clone(),
        version: manifest.version_number(),
        board: manifest.board.clone(),
        memory_kib: inputs.memory_mib.saturating_mul(1024),
        hostname: manifest.hostname.clone(),
        build_time: inputs.build_time,
        development: !inputs.production,
        debugged: manifest.debugged.clone(),
        has_tpm: inputs.board.tpm != Tpm::None,
    };
    Ok(ComponentList {
        format_version: component::FORMAT_VERSION,
        image,
        services,
        apps,
        peripherals: inputs.board.offered(),
        admission,
    })
}
