//! Peripherals: what a board offers by name, and what an app is granted of it.
//!
//! init opens each of them and hands over the descriptor; the app never sees `/dev`. The names come with the
//! variable `LISTEN_FDNAMES` (sd_listen_fds(3)), without their `$`.

use crate::app_manifest::AppManifest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most that a board offers.
pub const MAX_OFFERED: usize = 64;
/// Most that one app is granted.
pub const MAX_GRANTED: usize = 16;
/// Longest name in bytes, `$` included.
pub const MAX_NAME_BYTES: usize = 32;

/// The kind of a peripheral, which is the capability of app manifests that grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A GPIO line.
    Gpio,
    /// An I2C controller.
    I2cMaster,
    /// A chip select of an SPI controller.
    SpiMaster,
    /// A serial line.
    Uart,
}

impl Kind {
    /// The capability's name in an app manifest.
    #[must_use]
    pub fn capability(self) -> &'static str {
        match self {
            Self::Gpio => "Gpio",
            Self::I2cMaster => "I2cMaster",
            Self::SpiMaster => "SpiMaster",
            Self::Uart => "Uart",
        }
    }
}

/// The device node or GPIO line that init opens for an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// A device node.
    Device(String),
    /// A line of the GPIO chip with this label.
    Line {
        /// The chip's label.
        chip: String,
        /// Number of the line.
        line: u32,
    },
}

/// A peripheral.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BoardPeripheral {
    /// Name in app manifests: `$` and upper-case letters, digits and `_`.
    pub name: String,
    /// Kind, which is the capability that grants it.
    pub kind: Kind,
    /// The device node or GPIO line behind the name.
    pub access: Access,
}

impl fmt::Display for BoardPeripheral {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.capability(), self.name)
    }
}

impl BoardPeripheral {
    /// Checks what must hold of every one, wherever it came from.
    ///
    /// # Errors
    /// The rule that the name or the device breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        let name = self.name.strip_prefix('$').unwrap_or_default();
        let of_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || self.name.len() > MAX_NAME_BYTES || !name.bytes().all(of_name) {
            return Err("the name must be `$` and at most 31 upper-case letters, digits and `_`");
        }
        match (&self.access, self.kind) {
            (Access::Device(path), Kind::I2cMaster | Kind::SpiMaster | Kind::Uart)
                if path.starts_with("/dev/") && holdfast_types::is_clean_absolute(path) =>
            {
                Ok(())
            }
            (Access::Line { chip, .. }, Kind::Gpio) if chip.len() < 32 && !chip.is_empty() => {
                Ok(())
            }
            (Access::Device(_), Kind::Gpio) => Err("a GPIO line is a line of a chip"),
            (Access::Line { .. }, Kind::Gpio) => Err("the chip's label must have 1 to 31 bytes"),
            _ => Err("must be a device node below /dev"),
        }
    }
}

/// A peripheral of an app manifest that the board cannot grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// The board has no such thing.
    #[error("{path}: this board has no {kind} `{name}`; {}", those_there_are(.there))]
    Unknown {
        /// Path of the claim in the app's manifest, such as `Capabilities.Gpio[1]`.
        path: String,
        /// The capability.
        kind: String,
        /// The name that the manifest claims.
        name: String,
        /// Names that the board offers of that kind.
        there: Vec<String>,
    },
    /// More than [`MAX_GRANTED`].
    #[error("it asks for more than {MAX_GRANTED} peripherals")]
    TooMany,
}

fn those_there_are(names: &[String]) -> String {
    if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) }
}

/// Returns the peripherals of a board that an app manifest claims: all of them, or an error.
///
/// # Errors
/// The first thing that the board does not have.
pub fn grant(
    manifest: &AppManifest,
    offered: &[BoardPeripheral],
) -> Result<Vec<BoardPeripheral>, NotGranted> {
    if manifest.peripherals.len() > MAX_GRANTED {
        return Err(NotGranted::TooMany);
    }
    let find = |claim: &crate::app_manifest::Peripheral| {
        let of_kind = || offered.iter().filter(|o| o.kind.capability() == claim.kind);
        of_kind().find(|offer| offer.name == claim.id).cloned().ok_or_else(|| NotGranted::Unknown {
            path: claim.path.clone(),
            kind: claim.kind.clone(),
            name: claim.id.clone(),
            there: of_kind().map(|offer| offer.name.clone()).collect(),
        })
    };
    manifest.peripherals.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_manifest::Peripheral;
    use crate::policy::tests::manifest;

    fn offered() -> Vec<BoardPeripheral> {
        let line = |name: &str, line| BoardPeripheral {
            name: name.to_owned(),
            kind: Kind::Gpio,
            access: Access::Line { chip: "pins".to_owned(), line },
        };
        let uart = BoardPeripheral {
            name: "$UART3".to_owned(),
            kind: Kind::Uart,
            access: Access::Device("/dev/ttyS3".to_owned()),
        };
        vec![line("$LED_RED", 15), line("$LED_GREEN", 10), uart]
    }

    /// The names that an app is granted which claims these, each by kind and name.
    fn granted(claims: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut manifest = manifest();
        for (index, (kind, id)) in claims.iter().enumerate() {
            let before = claims[..index].iter().filter(|(earlier, _)| earlier == kind).count();
            manifest.peripherals.push(Peripheral {
                path: format!("Capabilities.{kind}[{before}]"),
                kind: (*kind).to_owned(),
                id: (*id).to_owned(),
            });
        }
        let granted = grant(&manifest, &offered()).map_err(|error| error.to_string())?;
        Ok(granted.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_app_gets_what_the_board_has_by_name_and_kind() {
        let both = granted(&[("Gpio", "$LED_GREEN"), ("Uart", "$UART3")]).unwrap();
        assert_eq!(both, ["Gpio $LED_GREEN", "Uart $UART3"]);
        assert_eq!(granted(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_the_board_does_not_have_is_named_with_what_it_has() {
        let error = granted(&[("Gpio", "$LED_GREEN"), ("Gpio", "$LED_BLUE")]).unwrap_err();
        assert_eq!(
            error,
            "Capabilities.Gpio[1]: this board has no Gpio `$LED_BLUE`; it has $LED_RED, $LED_GREEN"
        );
        let error = granted(&[("I2cMaster", "$UART3")]).unwrap_err();
        assert!(error.ends_with("no I2cMaster `$UART3`; it has none"), "{error}");
        let error = granted(&[("Gpio", "15")]).unwrap_err();
        assert!(error.contains("no Gpio `15`"), "{error}");
    }

    #[test]
    fn kinds_and_ways_to_reach_them_belong_together() {
        assert!(offered().iter().all(|offer| offer.check().is_ok()));
        let with = |name: &str, kind, path: &str| {
            let access = Access::Device(path.to_owned());
            BoardPeripheral { name: name.to_owned(), kind, access }.check()
        };
        with("$A", Kind::Uart, "/dev/ttyS3").unwrap();
        with("A", Kind::Uart, "/dev/ttyS3").unwrap_err();
        with("$a", Kind::Uart, "/dev/ttyS3").unwrap_err();
        with("$A", Kind::Gpio, "/dev/gpiochip0").unwrap_err();
        with("$A", Kind::Uart, "/dev/../etc/x").unwrap_err();
        with("$A", Kind::Uart, "/etc/x").unwrap_err();
    }
}
