//! Inputs that an image is built from.

use crate::board::Board;
use crate::boot::{BootKey, BootSigningKey};
use crate::boot_loader::UBoot;
use crate::key::PublicKey;
use crate::manifest::ImageManifest;
use crate::service::Service;
use holdfast_release::RepositoryName;
use std::path::PathBuf;

/// Everything an image is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The image manifest.
    pub manifest: &'a ImageManifest,
    /// The board.
    pub board: &'a Board,
    /// MiB of memory of the machine: the board's own, or what the manifest says where the board has none.
    pub memory_mib: u32,
    /// The zImage.
    pub kernel: &'a [u8],
    /// The board's device tree, as its source has it.
    pub device_tree: &'a [u8],
    /// The boot loader.
    pub u_boot: UBoot<'a>,
    /// Keys by which the boot loader accepts a slot: the current one, the next one, and that for recovery.
    pub boot_keys: [BootKey; 3],
    /// The private half of one of those; without it the slot is left to be signed elsewhere.
    pub boot_signer: Option<BootSigningKey>,
    /// PID 1, stripped.
    pub init: Vec<u8>,
    /// The services ([`own_services::of_image`](crate::own_services::of_image)), each with its stripped program.
    pub services: Vec<(&'a Service, Vec<u8>)>,
    /// Trust of the update agents; needed where the manifest has updates.
    pub update: Option<UpdateInputs>,
    /// Trust in the service; needed where the manifest has one.
    pub service: Option<ServiceInputs>,
    /// The signed packages of the apps, with where each came from.
    pub apps: Vec<(PathBuf, Vec<u8>)>,
    /// Keys whose app packages the device takes.
    pub app_keys: Vec<PublicKey>,
    /// Seconds since 1970 that no clock on the device may fall below; the commit's time.
    pub build_time: u64,
    /// Provenance as JSON; lies in the image at [`PROVENANCE`](super::PROVENANCE).
    pub provenance: Vec<u8>,
    /// True refuses everything that belongs to development.
    pub production: bool,
}

/// Roots and authorities that the update agents trust.
#[derive(Debug)]
pub struct UpdateInputs {
    /// The root of each repository that the manifest names.
    pub roots: Vec<(RepositoryName, Vec<u8>)>,
    /// Certificates of the authorities that may vouch for the servers, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// The part of it that belongs to development, if there is one.
    pub development: Option<Development>,
}

/// Certificates by which the device knows its service and its catalog.
#[derive(Debug)]
pub struct ServiceInputs {
    /// Certificates of the authorities that may vouch for the service, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// Certificate of the catalog's root, in DER.
    pub catalog_root: Vec<u8>,
}

/// A part of an image that belongs to development.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Development {
    /// The field of the image manifest that asks for it, or would say otherwise.
    pub field: String,
    /// The part, in words.
    pub what: &'static str,
    /// The remedy, as an imperative.
    pub remedy: &'static str,
}
