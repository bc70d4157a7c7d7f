//! Landlock: what of its file system a component may use, and how.
//!
//! Every right that Linux 6.12 knows (ABI 6) is handled, so what is not granted is denied; a kernel
//! that knows less is an error. TCP is handled without a rule, and both scopes are on: no abstract
//! socket and no signal reaches another component.

use holdfast_core::policy::{Mount, Source};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::io::Errno;

const KERNEL: ABI = ABI::V6;

/// Restricts this process, for good, to what the mounts of its plan are for. Its root is in place.
pub(crate) fn restrict(mounts: &[Mount]) -> Result<(), Errno> {
    apply(mounts).map_err(|_| Errno::OPNOTSUPP)
}

fn apply(mounts: &[Mount]) -> Result<(), Box<dyn std::error::Error>> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(KERNEL))?
        .handle_access(AccessNet::from_all(KERNEL))?
        .scope(Scope::from_all(KERNEL))?
        .create()?;
    for mount in mounts {
        let rights = rights(&mount.source);
        if !rights.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(&mount.target)?, rights))?;
        }
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err("landlock is not fully enforced".into());
    }
    Ok(())
}

/// What may be done below a mount.
fn rights(source: &Source) -> BitFlags<AccessFs> {
    match source {
        Source::Package | Source::Directory(_) => {
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute
        }
        Source::Temporary(_) | Source::Storage(_) => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::MakeSock
                | AccessFs::MakeFifo
                | AccessFs::Refer
        }
        Source::Devices => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir,
        // A socket is reached by its path, for which Linux 6.12 has no right.
        Source::Notify => BitFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_writable_and_executable_and_none_takes_device_nodes() {
        for source in [
            Source::Package,
            Source::Directory("/usr".to_owned()),
            Source::Temporary(1),
            Source::Storage(1),
            Source::Devices,
            Source::Notify,
        ] {
            let rights = rights(&source);
            assert_eq!(rights.contains(AccessFs::Execute), source.is_executable());
            assert!(!(rights.contains(AccessFs::Execute) && rights.contains(AccessFs::WriteFile)));
            assert!(!rights.intersects(AccessFs::MakeChar | AccessFs::MakeBlock));
            assert_eq!(rights.contains(AccessFs::MakeReg), source.is_writable());
        }
    }
}
