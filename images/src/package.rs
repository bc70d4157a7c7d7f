//! App packages on the host: made from an app, signed, and read back with every check.
//!
//! The header is `holdfast_sandbox::package`'s; here are the bytes behind it.

use crate::app::App;
use crate::key::{PrivateKey, PublicKey};
use crate::root::{self, Entry, EntryKind, Root, RootError};
use crate::verity;
use holdfast_manifest::AppManifestError;
use holdfast_manifest::elf::{self, ElfError};
use holdfast_sandbox::app_manifest::{self, AppManifest};
use holdfast_sandbox::package::entry::{FORBIDDEN_MODE, MAX_DEPTH, MAX_ENTRIES, check_link};
use holdfast_sandbox::package::{
    HEADER_BYTES, Header, PackageError, SIGNATURE_BYTES, SIGNED_BYTES, ShortName, SignatureError,
};
use holdfast_types::KeyId;

/// A package that was read and found sound, but for its signature.
#[derive(Debug, Clone)]
pub struct Package {
    /// Header of the package.
    pub header: Header,
    /// The app manifest in the package.
    pub manifest: AppManifest,
    /// Every entry of the package's file system.
    pub entries: Vec<Entry>,
}

/// An error of making or reading a package.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The header or the lengths are wrong.
    #[error("the package {0}")]
    Header(PackageError),
    /// The signature is wrong.
    #[error("the package {0}")]
    Signature(SignatureError),
    /// The package has no signature.
    #[error("the package is not signed; sign it with `app sign`")]
    Unsigned,
    /// The file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The file system does not hash to the header's root hash.
    #[error("the package is damaged: its files do not hash to the root hash in its header")]
    RootHash,
    /// The app manifest in the package is refused.
    #[error("the package's app_manifest.json: {0}")]
    Manifest(AppManifestError),
    /// Header and manifest say different things.
    #[error("the package's header and its app_manifest.json differ in {0}")]
    Differs(&'static str),
    /// A file that may not be in a package.
    #[error("the package's {path} {reason}")]
    Entry {
        /// Path in the package.
        path: String,
        /// The rule that the file breaks.
        reason: &'static str,
    },
    /// A program that may not be in a package.
    #[error("the package's {path} {error}")]
    Elf {
        /// Path in the package.
        path: String,
        /// The property for which the program is refused.
        error: ElfError,
    },
    /// A product or board that is no name.
    #[error("`{0}` must be at most 32 lower-case letters, digits and `-`")]
    Name(String),
}

// No `#[from]`: their text is part of this error's, and a chain of causes would say it twice.
impl From<PackageError> for PackError {
    fn from(error: PackageError) -> Self {
        Self::Header(error)
    }
}

impl From<SignatureError> for PackError {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

/// Makes an unsigned package of `app`, for the product and the board of these names; empty for any.
///
/// # Errors
/// See [`PackError`].
pub fn pack(app: &App, product: &str, board: &str) -> Result<Vec<u8>, PackError> {
    let name = |text: &str| ShortName::new(text).ok_or_else(|| PackError::Name(text.to_owned()));
    let mut files = Root::default();
    for (path, file) in &app.files {
        files.add(path.clone(), file.bytes.clone(), file.executable);
    }
    for (path, target) in &app.links {
        files.add_link(path.clone(), target.clone());
    }
    files.add(app_manifest::FILE_NAME, app.manifest_text.clone(), false);
    let data = files.to_erofs()?;
    let verity = verity::hash_package(&data)
        .ok_or_else(|| RootError::Unreadable("mkfs.erofs made an empty file system".to_owned()))?;
    let header = Header {
        data_bytes: u64::try_from(data.len()).unwrap_or(u64::MAX),
        component_id: app.manifest.component_id,
        product: name(product)?,
        board: name(board)?,
        version: app.manifest.version,
        rollback_index: app.manifest.rollback_index,
        least_os: app.manifest.least_os,
        key_id: KeyId([0; 32]),
        root_hash: verity.root_hash,
        salt: verity.salt,
    };
    let bytes = [&header.encode(&[0; SIGNATURE_BYTES])[..], &data, &verity.tree].concat();
    // What this makes, a device must take: the same checks, on the same bytes.
    read(&bytes)?;
    Ok(bytes)
}

/// Reads a package and checks everything but its signature.
///
/// # Errors
/// See [`PackError`].
pub fn read(bytes: &[u8]) -> Result<Package, PackError> {
    let header = Header::parse(bytes, u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    let data_bytes = usize::try_from(header.data_bytes).unwrap_or(usize::MAX);
    let rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let (data, tree) = rest.split_at_checked(data_bytes).ok_or(PackageError::TooShort)?;
    let verity = verity::hash_with_salt(data, header.salt).ok_or(PackError::RootHash)?;
    if verity.root_hash != header.root_hash || verity.tree != tree {
        return Err(PackError::RootHash);
    }
    let entries = root::list(data)?;
    for entry in &entries {
        check_entry(entry)?;
        if entry.elf {
            let program = root::read_file(data, &entry.path)?;
            elf::check(&program)
                .map_err(|error| PackError::Elf { path: entry.path.clone(), error })?;
        }
    }
    if entries.len() > MAX_ENTRIES {
        let reason = "and its neighbours are more than 4096";
        return Err(PackError::Entry { path: "/".to_owned(), reason });
    }
    let text = root::read_file(data, &format!("/{}", app_manifest::FILE_NAME))?;
    let manifest = holdfast_manifest::parse(&text).map_err(PackError::Manifest)?;
    for (field, equal) in [
        ("ComponentId", manifest.component_id == header.component_id),
        ("Version", manifest.version == header.version),
        ("RollbackIndex", manifest.rollback_index == header.rollback_index),
        ("LeastOsVersion", manifest.least_os == header.least_os),
    ] {
        if !equal {
            return Err(PackError::Differs(field));
        }
    }
    Ok(Package { header, manifest, entries })
}

fn check_entry(entry: &Entry) -> Result<(), PackError> {
    let refuse = |reason| Err(PackError::Entry { path: entry.path.clone(), reason });
    if u32::from(entry.mode) & FORBIDDEN_MODE != 0 {
        return refuse("is setuid, setgid or sticky");
    }
    match &entry.kind {
        EntryKind::Directory if entry.path.split('/').skip(1).count() > MAX_DEPTH => {
            refuse("lies too deep")
        }
        EntryKind::File | EntryKind::Directory => Ok(()),
        EntryKind::Link(target) => match check_link(entry.path.as_bytes(), target.as_bytes()) {
            Ok(()) => Ok(()),
            Err(reason) => refuse(reason),
        },
        EntryKind::Other => refuse("is neither a regular file nor a directory nor a link"),
    }
}

/// The bytes that a key kept elsewhere has to sign, once the package names that key.
///
/// # Errors
/// The package is damaged.
pub fn bytes_to_sign(package: &[u8], key: &PublicKey) -> Result<[u8; SIGNED_BYTES], PackError> {
    Ok(header_naming(key, package)?.signed_bytes())
}

/// The header of a sound package, with this key as the one that has signed it.
fn header_naming(key: &PublicKey, package: &[u8]) -> Result<Header, PackError> {
    Ok(Header { key_id: key.id(), ..read(package)?.header })
}

/// Puts a signature into a package.
///
/// # Errors
/// The package is damaged, or the signature is not that of `key` over it.
pub fn attach(
    package: &mut [u8],
    key: &PublicKey,
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), PackError> {
    let header = header_naming(key, package)?;
    place(package, &header, key, signature)
}

/// Puts a header with its signature over the one that is there.
fn place(
    package: &mut [u8],
    header: &Header,
    key: &PublicKey,
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), PackError> {
    let bytes = header.encode(signature);
    header.verify(&bytes[..], &key.bytes)?;
    let place = package.get_mut(..HEADER_BYTES).ok_or(PackageError::TooShort)?;
    place.copy_from_slice(&bytes[..]);
    Ok(())
}

/// Signs a package.
///
/// # Errors
/// The package is damaged.
pub fn sign(package: &mut [u8], key: &PrivateKey) -> Result<(), PackError> {
    let public = key.public();
    let header = header_naming(&public, package)?;
    place(package, &header, &public, &key.sign(&header.signed_bytes()))
}

/// Checks the signature of a package against the keys that an image trusts, and returns the one.
///
/// # Errors
/// Unsigned, signed by a key that is not among them, or badly signed.
pub fn verify<'a>(
    package: &[u8],
    header: &Header,
    trusted: &'a [PublicKey],
) -> Result<&'a PublicKey, PackError> {
    if header.key_id == KeyId([0; 32]) {
        return Err(PackError::Unsigned);
    }
    let key = trusted.iter().find(|key| key.id() == header.key_id);
    let key = key.ok_or(SignatureError::OtherKey)?;
    header.verify(package, &key.bytes)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppFile;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    const MANIFEST: &str = r#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app",
        "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {},
        "Holdfast": {"Version": "1.2.3", "RollbackIndex": 4}}"#;

    fn app() -> App {
        let file = AppFile { bytes: b"data".to_vec(), executable: false };
        App {
            directory: PathBuf::from("x"),
            manifest: holdfast_manifest::parse(MANIFEST.as_bytes()).unwrap(),
            manifest_text: MANIFEST.as_bytes().to_vec(),
            files: BTreeMap::from([("share/data".to_owned(), file)]),
            links: BTreeMap::from([("share/link".to_owned(), "data".to_owned())]),
        }
    }

    fn key(byte: u8) -> PrivateKey {
        PrivateKey::from_secret(&[byte; 32], false)
    }

    #[test]
    fn a_package_is_made_signed_and_read_back() {
        let mut bytes = pack(&app(), "pump", "").unwrap();
        assert!(bytes == pack(&app(), "pump", "").unwrap(), "two makings differ");
        let trusted = [key(1).public(), key(2).public()];
        let package = read(&bytes).unwrap();
        assert!(matches!(verify(&bytes, &package.header, &trusted), Err(PackError::Unsigned)));
        sign(&mut bytes, &key(2)).unwrap();
        let package = read(&bytes).unwrap();
        assert_eq!(verify(&bytes, &package.header, &trusted).unwrap(), &trusted[1]);
        assert_eq!(package.header.version.to_string(), "1.2.3");
        assert_eq!(package.header.rollback_index, 4);
        assert_eq!(package.manifest, app().manifest);
        let paths: Vec<&str> = package.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["/app_manifest.json", "/share", "/share/data", "/share/link"]);
    }

    #[test]
    fn a_signature_made_elsewhere_is_attached_and_a_wrong_one_is_not() {
        let mut bytes = pack(&app(), "", "").unwrap();
        let (ours, other) = (key(1), key(2));
        let message = bytes_to_sign(&bytes, &ours.public()).unwrap();
        let wrong = other.sign(&message);
        assert!(matches!(
            attach(&mut bytes, &ours.public(), &wrong),
            Err(PackError::Signature(SignatureError::Bad))
        ));
        attach(&mut bytes, &ours.public(), &ours.sign(&message)).unwrap();
        let header = read(&bytes).unwrap().header;
        assert!(matches!(
            verify(&bytes, &header, &[other.public()]),
            Err(PackError::Signature(SignatureError::OtherKey))
        ));
    }

    #[test]
    fn one_changed_byte_behind_the_header_is_refused() {
        let good = pack(&app(), "", "").unwrap();
        for at in [HEADER_BYTES, HEADER_BYTES + 5000, good.len() - 1] {
            let mut bytes = good.clone();
            let at = at.min(good.len() - 1);
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "byte {at}");
        }
        let longer = [&good[..], &[0]].concat();
        assert!(matches!(read(&longer), Err(PackError::Header(PackageError::Length { .. }))));
        read(&good[..good.len() - 1]).unwrap_err();
    }

    #[test]
    fn header_and_manifest_must_agree() {
        let mut other = app();
        other.manifest.rollback_index = 9;
        assert!(matches!(pack(&other, "", ""), Err(PackError::Differs("RollbackIndex"))));
        assert!(matches!(pack(&app(), "Pump", ""), Err(PackError::Name(_))));
    }

    #[test]
    fn links_out_of_the_package_are_refused() {
        for target in ["/etc/passwd", "../../x", "../share/../../x", ""] {
            let mut bad = app();
            bad.links.insert("share/bad".to_owned(), target.to_owned());
            assert!(pack(&bad, "", "").is_err(), "{target}");
        }
        let mut good = app();
        good.links.insert("share/good".to_owned(), "../share/./data".to_owned());
        pack(&good, "", "").unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_package_is_refused_never_a_panic(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            change in 1u8..,
        ) {
            static PACKAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut bytes = PACKAGE.get_or_init(|| pack(&app(), "", "").unwrap()).clone();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            let signature = SIGNED_BYTES..SIGNED_BYTES + SIGNATURE_BYTES;
            // The key id and the names are free until the package is signed.
            let free = (56..120).chain(160..192).chain(120..160).chain(signature);
            proptest::prop_assume!(!free.into_iter().any(|free| free == at));
            proptest::prop_assert!(read(&bytes).is_err(), "byte {}", at);
        }
    }
}
