//! Rules for the file system of a package: regular files, directories, and symbolic links that
//! stay inside.

/// Most entries of a package.
pub const MAX_ENTRIES: usize = 4096;
/// Most directories in one another.
pub const MAX_DEPTH: usize = 32;
/// Bits of a mode that no entry has: setuid, setgid, sticky.
pub const FORBIDDEN_MODE: u32 = 0o7000;

/// Checks that the symbolic link at `path` in a package leads to a place in the package, whatever
/// lies there. Both are bytes, as the file system has them.
///
/// # Errors
/// The rule that the link breaks, as a phrase behind its path.
pub fn check_link(path: &[u8], target: &[u8]) -> Result<(), &'static str> {
    const OUTSIDE: &str = "is a link that leads out of the package; make it relative";
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return Err(OUTSIDE);
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
    // Of the directory that the link is in.
    let mut depth = names.saturating_sub(1);
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => depth = depth.checked_sub(1).ok_or(OUTSIDE)?,
            _ => depth = depth.saturating_add(1),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_package_are_refused() {
        for target in ["", "/etc", "../..", "a/../../..", "./../../x", "../a/../../b", "a\0b"] {
            assert!(check_link(b"/lib/link", target.as_bytes()).is_err(), "{target}");
        }
        for target in ["a", "./a", "..", "../a", "../lib/../bin/a", "a/b/../../c", "a//b/"] {
            assert_eq!(check_link(b"lib/link", target.as_bytes()), Ok(()), "{target}");
        }
        assert!(check_link(b"link", b"..").is_err());
        assert!(check_link(b"/link", b"lib/../..").is_err());
    }
}
