//! What the boot loader says of the TPM, and whether the kernel has it as well. Nothing is asked of the TPM itself.
//! Source: kernel documents `ABI/testing/sysfs-firmware-ofw` and `ABI/stable/sysfs-class-tpm`.

use crate::{PathError, file};
use holdfast_types::TpmState;
use std::io;
use std::path::Path;

/// `/chosen` of the device tree that the kernel was given.
const CHOSEN: &str = "/sys/firmware/devicetree/base/chosen";
/// The kernel's first TPM, which is there once its driver has spoken with it.
const DEVICE: &str = "/sys/class/tpm/tpm0";
/// Longest value of the property: a word and its NUL.
const MAX_BYTES: usize = 16;

/// Returns the state of the device's TPM. It is [`TpmState::None`] where the device tree says nothing, as on a board without
/// one, and [`TpmState::Failed`] where the boot loader has measured but the kernel has no device.
///
/// # Errors
/// The property cannot be read, or holds another word.
pub fn state() -> Result<TpmState, PathError> {
    read(Path::new(CHOSEN), Path::new(DEVICE))
}

fn read(chosen: &Path, device: &Path) -> Result<TpmState, PathError> {
    let path = chosen.join(TpmState::PROPERTY);
    let Some(bytes) = file::read_bounded(&path, MAX_BYTES)? else {
        return Ok(TpmState::None);
    };
    let word = bytes.strip_suffix(b"\0").and_then(|word| str::from_utf8(word).ok());
    let said = word.and_then(TpmState::from_word).ok_or_else(|| {
        PathError::new("understand", path, io::Error::from(io::ErrorKind::InvalidData))
    })?;
    Ok(match said {
        TpmState::Ok if !device.exists() => TpmState::Failed,
        said => said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tpm_is_what_the_boot_loader_says_and_the_kernel_has() {
        let name = format!("holdfast-measured-boot-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let property = directory.join(TpmState::PROPERTY);
        let (there, gone) = (directory.as_path(), directory.join("gone"));
        assert_eq!(read(&directory, there).unwrap(), TpmState::None);
        for (value, with_device, without) in [
            ("ok\0", TpmState::Ok, TpmState::Failed),
            ("failed\0", TpmState::Failed, TpmState::Failed),
            ("none\0", TpmState::None, TpmState::None),
        ] {
            fs::write(&property, value).unwrap();
            assert_eq!(read(&directory, there).unwrap(), with_device, "{value:?}");
            assert_eq!(read(&directory, &gone).unwrap(), without, "{value:?}");
        }
        for value in ["", "ok", "okay\0", "ok\0\0", "ok\0ok\0ok\0ok\0ok\0ok\0ok\0"] {
            fs::write(&property, value).unwrap();
            let error = read(&directory, there).unwrap_err().to_string();
            assert!(error.starts_with("cannot understand "), "{value:?}: {error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
