//! Claims: what a device says of itself, which only the measured OS vouches for. JSON, whose bytes are signed as they are.
//!
//! There is no canonical form to be made: what is hashed into the qualifying data are the very bytes that were sent, and
//! [`Claims::read`] reads the same.

use crate::policy::BootDigest;
use holdfast_types::hex::{hex, unhex};
pub use holdfast_types::{ClockSource, Phase, Slot, TpmState};
use holdfast_types::{ComponentId, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the claims' format.
pub const VERSION: u64 = 1;
/// Most bytes of the claims of a device.
pub const MAX_CLAIMS_BYTES: usize = 8192;
/// Most apps of a device that are claimed.
pub const MAX_APPS: usize = 32;
/// Longest name of an image or a board in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest word for the reason of the last reset in bytes.
pub const MAX_RESET_BYTES: usize = 24;

/// Claims of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The boot, by the kernel's random `boot_id`.
    pub boot: BootId,
    /// Name of the image.
    pub image: String,
    /// Name of the board.
    pub board: String,
    /// The operating system.
    pub os: OsClaim,
    /// The apps that run, at most [`MAX_APPS`], each component id once.
    pub apps: Vec<AppClaim>,
    /// True if the image was built with a debug port.
    pub debug: bool,
    /// The source of the clock's time.
    pub clock: ClockSource,
    /// Word for the reason of the last reset: 1 to [`MAX_RESET_BYTES`] of `a-z` and `-`.
    pub reset: String,
    /// The state of the TPM.
    pub tpm: TpmState,
}

/// The 16 bytes of the kernel's `boot_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

/// Claim on the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OsClaim {
    /// Version of the release.
    pub version: Version,
    /// Rollback index of the release.
    pub index: u64,
    /// Digest that the boot loader is to have extended into PCR 8.
    pub digest: BootDigest,
    /// The slot that runs.
    pub slot: Slot,
    /// The phase of the device with its slots.
    pub phase: Phase,
}

/// Claim on an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppClaim {
    /// The component id.
    pub id: ComponentId,
    /// Version of the package.
    pub version: Version,
    /// Rollback index of the package.
    pub index: u64,
    /// Root hash of the package's dm-verity tree.
    pub root: [u8; 32],
}

/// Errors of claims.
#[derive(Debug, Error)]
pub enum ClaimsError {
    /// The claims have more than [`MAX_CLAIMS_BYTES`].
    #[error("the claims have {0} bytes, more than {MAX_CLAIMS_BYTES}")]
    TooLong(usize),
    /// The claims are no JSON, or a field is missing, unknown, there twice, or of another type.
    #[error("the claims are no JSON of the claims' fields")]
    Json(#[source] serde_json::Error),
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field, such as `os.digest` or `apps[2].id`.
        field: String,
        /// The rule.
        rule: &'static str,
    },
}

/// The fields as JSON has them: texts are held to their rules afterwards, so that an error can name the field.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: u64,
    boot: String,
    image: String,
    board: String,
    os: OsDocument,
    apps: Vec<AppDocument>,
    debug: bool,
    clock: ClockSource,
    reset: String,
    tpm: TpmState,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OsDocument {
    version: String,
    index: u64,
    digest: String,
    slot: Slot,
    phase: Phase,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppDocument {
    id: String,
    version: String,
    index: u64,
    root: String,
}

impl Claims {
    /// Reads claims.
    ///
    /// # Errors
    /// Too long, not JSON of these fields, or a field that breaks its rule.
    pub fn read(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > MAX_CLAIMS_BYTES {
            return Err(ClaimsError::TooLong(bytes.len()));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(ClaimsError::Json)?;
        if document.v != VERSION {
            return Err(breaks("v", "must be 1"));
        }
        let claims = Self {
            boot: BootId(digits("boot", &document.boot, "must be 32 lower-case hex digits")?),
            image: document.image,
            board: document.board,
            os: OsClaim {
                version: version("os.version", &document.os.version)?,
                index: document.os.index,
                digest: BootDigest(digits("os.digest", &document.os.digest, SHA256_RULE)?),
                slot: document.os.slot,
                phase: document.os.phase,
            },
            apps: apps(&document.apps)?,
            debug: document.debug,
            clock: document.clock,
            reset: document.reset,
            tpm: document.tpm,
        };
        claims.check()?;
        Ok(claims)
    }

    /// Returns the bytes that are sent, and that the qualifying data is made of.
    ///
    /// # Errors
    /// A field that [`read`](Self::read) would refuse.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ClaimsError> {
        self.check()?;
        let document = Document {
            v: VERSION,
            boot: hex(&self.boot.0),
            image: self.image.clone(),
            board: self.board.clone(),
            os: OsDocument {
                version: self.os.version.to_string(),
                index: self.os.index,
                digest: hex(&self.os.digest.0),
                slot: self.os.slot,
                phase: self.os.phase,
            },
            apps: self.apps.iter().map(AppClaim::document).collect(),
            debug: self.debug,
            clock: self.clock,
            reset: self.reset.clone(),
            tpm: self.tpm,
        };
        serde_json::to_vec(&document).map_err(ClaimsError::Json)
    }

    /// True if the app with this component id is among the claims.
    #[must_use]
    pub fn has_app(&self, id: &ComponentId) -> bool {
        self.apps.iter().any(|app| app.id == *id)
    }

    /// The rules of fields that have no type of their own.
    fn check(&self) -> Result<(), ClaimsError> {
        let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        for (field, name) in [("image", &self.image), ("board", &self.board)] {
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(of_name) {
                return Err(breaks(field, "must be 1 to 64 of a-z, 0-9 and -"));
            }
        }
        let of_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        let length = self.reset.len();
        if length == 0 || length > MAX_RESET_BYTES || !self.reset.bytes().all(of_word) {
            return Err(breaks("reset", "must be 1 to 24 of a-z and -"));
        }
        if self.apps.len() > MAX_APPS {
            return Err(breaks("apps", TOO_MANY_APPS));
        }
        let mut ids: Vec<ComponentId> = self.apps.iter().map(|app| app.id).collect();
        ids.sort_unstable();
        if ids.is_sorted_by(|one, next| one < next) {
            Ok(())
        } else {
            Err(breaks("apps", "must not have a component id twice"))
        }
    }
}

impl AppClaim {
    fn document(&self) -> AppDocument {
        AppDocument {
            id: self.id.to_string(),
            version: self.version.to_string(),
            index: self.index,
            root: hex(&self.root),
        }
    }
}

const SHA256_RULE: &str = "must be 64 lower-case hex digits";
const TOO_MANY_APPS: &str = "must not be more than 32";

fn breaks(field: &str, rule: &'static str) -> ClaimsError {
    ClaimsError::Field { field: field.to_owned(), rule }
}

fn digits<const N: usize>(
    field: &str,
    text: &str,
    rule: &'static str,
) -> Result<[u8; N], ClaimsError> {
    let bytes = unhex(text).filter(|bytes: &[u8; N]| hex(bytes) == text);
    bytes.ok_or_else(|| breaks(field, rule))
}

fn version(field: &str, text: &str) -> Result<Version, ClaimsError> {
    let version = text.parse().ok().filter(|version: &Version| version.to_string() == text);
    version.ok_or_else(|| breaks(field, "must be three numbers, such as 1.0.0"))
}

fn apps(documents: &[AppDocument]) -> Result<Vec<AppClaim>, ClaimsError> {
    if documents.len() > MAX_APPS {
        return Err(breaks("apps", TOO_MANY_APPS));
    }
    let read = |(index, document): (usize, &AppDocument)| {
        let field = |name: &str| format!("apps[{index}].{name}");
        let id = ComponentId::parse(&document.id).filter(|id| id.to_string() == document.id);
        let id = id.ok_or_else(|| breaks(&field("id"), "must be a GUID in lower case"))?;
        Ok(AppClaim {
            id,
            version: version(&field("version"), &document.version)?,
            index: document.index,
            root: digits(&field("root"), &document.root, SHA256_RULE)?,
        })
    };
    documents.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn document() -> Value {
        json!({
            "v": 1, "boot": "6b1f".repeat(8), "image": "pump-fw", "board": "qemu-virt",
            "os": {"version": "1.4.0", "index": 7, "digest": "8d".repeat(32), "slot": "b",
                   "phase": "committed"},
            "apps": [{"id": "25025d2c-66da-4448-bae1-ac26fcdd3627", "version": "2.1.0", "index": 3,
                      "root": "41".repeat(32)}],
            "debug": false, "clock": "network", "reset": "reboot", "tpm": "ok"
        })
    }

    /// Reads the document with another value at a JSON pointer, or without what is there.
    fn with(pointer: &str, value: Option<Value>) -> Result<Claims, String> {
        let mut document = document();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => parent.insert(name.to_owned(), value),
            None => parent.remove(name),
        };
        Claims::read(document.to_string().as_bytes()).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })
    }

    #[test]
    fn the_claims_of_a_device_are_read() {
        let claims = Claims::read(document().to_string().as_bytes()).unwrap();
        assert_eq!(claims.os.digest, BootDigest([0x8d; 32]));
        assert_eq!((claims.os.slot, claims.os.phase), (Slot::B, Phase::Committed));
        assert_eq!((claims.clock, claims.tpm), (ClockSource::Network, TpmState::Ok));
        let id = ComponentId::parse("25025d2c-66da-4448-bae1-ac26fcdd3627").unwrap();
        assert!(claims.has_app(&id) && !claims.has_app(&ComponentId([0; 16])));
    }

    /// The field that is changed, its value, and what the error says. The control is the test above.
    #[test]
    fn each_field_is_held_to_its_rule_and_named() {
        let app = document()["apps"][0].clone();
        let apps = |change: fn(&mut Value)| {
            let mut app = app.clone();
            change(&mut app);
            json!([app])
        };
        let many: Vec<Value> = (0..33).map(|_| app.clone()).collect();
        let cases: Vec<(&str, Value, &str)> = vec![
            ("/v", json!(2), "v: must be 1"),
            ("/v", json!("1"), "expected u64"),
            ("/boot", json!("6b"), "boot: must be 32"),
            ("/boot", json!("6B1F".repeat(8)), "boot: must be 32 lower-case"),
            ("/image", json!(""), "image: must be 1 to 64"),
            ("/image", json!("x".repeat(65)), "image: must be 1 to 64"),
            ("/image", json!("../x"), "image: must be 1 to 64"),
            ("/board", json!("x y"), "board: must be 1 to 64"),
            ("/os/version", json!("1.04.0"), "os.version: must be three numbers"),
            ("/os/version", json!("1.4"), "os.version: must be three numbers"),
            ("/os/index", json!(-1), "expected u64"),
            ("/os/digest", json!("8d".repeat(31)), "os.digest: must be 64"),
            ("/os/digest", json!("zz".repeat(32)), "os.digest: must be 64"),
            ("/os/slot", json!("c"), "unknown variant `c`"),
            ("/os/phase", json!("good"), "unknown variant `good`"),
            ("/os/more", json!(1), "unknown field `more`"),
            ("/apps", json!(many), "apps: must not be more than 32"),
            (
                "/apps",
                json!([app.clone(), app.clone()]),
                "apps: must not have a component id twice",
            ),
            ("/apps", apps(|app| app["id"] = json!("x")), "apps[0].id: must be a GUID"),
            (
                "/apps",
                apps(|app| app["id"] = json!("25025D2C-66DA-4448-BAE1-AC26FCDD3627")),
                "apps[0].id: must be a GUID in lower case",
            ),
            ("/apps", apps(|app| app["root"] = json!("41")), "apps[0].root: must be 64"),
            ("/apps", apps(|app| app["version"] = json!("")), "apps[0].version: must be three"),
            ("/apps", apps(|app| app["more"] = json!("")), "unknown field `more`"),
            ("/debug", json!(0), "expected a boolean"),
            ("/clock", json!("gps"), "unknown variant `gps`"),
            ("/reset", json!("kernel panic"), "reset: must be 1 to 24"),
            ("/reset", json!("x".repeat(25)), "reset: must be 1 to 24"),
            ("/tpm", json!("fine"), "unknown variant `fine`"),
            ("/grade", json!("hardware"), "unknown field `grade`"),
        ];
        for (pointer, value, says) in cases {
            let refused = with(pointer, Some(value)).unwrap_err();
            assert!(refused.contains(says), "{pointer}: {refused}");
        }
        for (name, _) in document().as_object().unwrap() {
            let refused = with(&format!("/{name}"), None).unwrap_err();
            assert!(refused.contains(&format!("missing field `{name}`")), "{refused}");
        }
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let text = document().to_string();
        let twice = text.replacen('{', "{\"debug\":true,", 1);
        assert!(matches!(Claims::read(twice.as_bytes()), Err(ClaimsError::Json(_))));
        let followed = format!("{text}{{}}");
        assert!(matches!(Claims::read(followed.as_bytes()), Err(ClaimsError::Json(_))));
    }

    #[test]
    fn the_longest_claims_are_within_the_bound_and_longer_ones_are_refused() {
        let number = u32::MAX;
        let version = Version { major: number, minor: number, patch: number };
        let app =
            |id| AppClaim { id: ComponentId([id; 16]), version, index: u64::MAX, root: [0xff; 32] };
        let longest = Claims {
            boot: BootId([0xff; 16]),
            image: "x".repeat(MAX_NAME_BYTES),
            board: "x".repeat(MAX_NAME_BYTES),
            os: OsClaim {
                version,
                index: u64::MAX,
                digest: BootDigest([0xff; 32]),
                slot: Slot::A,
                phase: Phase::FallingBack,
            },
            apps: (0..32).map(app).collect(),
            debug: false,
            clock: ClockSource::Hardware,
            reset: "x".repeat(MAX_RESET_BYTES),
            tpm: TpmState::Failed,
        };
        let bytes = longest.to_bytes().unwrap();
        assert!(bytes.len() <= MAX_CLAIMS_BYTES, "{} bytes", bytes.len());
        assert_eq!(Claims::read(&bytes).unwrap(), longest);
        let padded = [bytes, vec![b' '; MAX_CLAIMS_BYTES]].concat();
        assert!(matches!(Claims::read(&padded), Err(ClaimsError::TooLong(_))));
    }

    fn claims() -> impl Strategy<Value = Claims> {
        let version =
            any::<[u32; 3]>().prop_map(|[major, minor, patch]| Version { major, minor, patch });
        let app = (any::<[u8; 16]>(), version.clone(), any::<u64>(), any::<[u8; 32]>());
        let app = app.prop_map(|(id, version, index, root)| AppClaim {
            id: ComponentId(id),
            version,
            index,
            root,
        });
        let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
        let phase = prop_oneof![
            Just(Phase::Committed),
            Just(Phase::Staged),
            Just(Phase::Trying),
            Just(Phase::FallingBack)
        ];
        let os = (version, any::<u64>(), any::<[u8; 32]>(), slot, phase);
        let os = os.prop_map(|(version, index, digest, slot, phase)| OsClaim {
            version,
            index,
            digest: BootDigest(digest),
            slot,
            phase,
        });
        let names = ("[a-z0-9-]{1,64}", "[a-z0-9-]{1,64}", "[a-z-]{1,24}");
        let apps = proptest::collection::vec(app, 0..4);
        (any::<[u8; 16]>(), names, os, apps, any::<bool>()).prop_map(
            |(boot, (image, board, reset), os, apps, debug)| Claims {
                boot: BootId(boot),
                image,
                board,
                os,
                apps,
                debug,
                clock: ClockSource::Floor,
                reset,
                tpm: TpmState::None,
            },
        )
    }

    proptest! {
        #[test]
        fn what_a_device_writes_is_what_is_read(claims in claims()) {
            let bytes = claims.to_bytes().unwrap();
            prop_assert_eq!(Claims::read(&bytes).unwrap(), claims);
        }
    }
}
