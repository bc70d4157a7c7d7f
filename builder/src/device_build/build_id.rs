//! Build ids of programs for the device: by them, whoever sees a failure finds the symbols of the very program.
//!
//! The linker leaves room and no more. Its own hashes cover the debug information, which names directories of the host, and would make
//! a program another one wherever it is built. Here it is the hash of what is on the device.

use holdfast_images::sha256;
use object::read::{File, Object, ObjectSection};

/// Bytes of a build id, as long as a linker's SHA-1.
const BYTES: usize = 20;
/// The linker's argument that leaves room for it.
pub(super) const ROOM: &str = "-Wl,--build-id=0x0000000000000000000000000000000000000000";

/// The build id's place in a program, where there is one.
fn place(program: &mut [u8]) -> Option<&mut [u8]> {
    let (offset, size) = {
        let file = File::parse(&*program).ok()?;
        file.section_by_name(".note.gnu.build-id")?.file_range()?
    };
    let end = usize::try_from(offset.checked_add(size)?).ok()?;
    // It ends the note.
    program.get_mut(end.checked_sub(BYTES)?..end)
}

/// Writes into a stripped program the build id that follows from its other bytes, if the linker has left room.
pub(super) fn make(stripped: &mut [u8]) {
    let Some(place) = place(stripped) else { return };
    place.fill(0);
    let digest = sha256(&[&*stripped]);
    if let Some(place) = self::place(stripped) {
        place.iter_mut().zip(digest).for_each(|(byte, of_digest)| *byte = of_digest);
    }
}

/// Writes the build id of a stripped program into the one that it was stripped from.
pub(super) fn copy(stripped: &[u8], program: &mut [u8]) {
    let mut stripped = stripped.to_vec();
    if let (Some(from), Some(to)) = (place(&mut stripped), place(program)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// A program of this host, with symbols, and without.
    fn program(directory: &Path, argument: &str, source: &str) -> (Vec<u8>, Vec<u8>) {
        let (path, output) = (directory.join("program.c"), directory.join("program"));
        std::fs::write(&path, source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-g", argument, "-o"]).arg(&output).arg(&path);
        assert!(cc.status().unwrap().success());
        let stripped = directory.join("stripped");
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(&output).status();
        assert!(status.unwrap().success());
        (std::fs::read(output).unwrap(), std::fs::read(stripped).unwrap())
    }

    fn id(program: &[u8]) -> Vec<u8> {
        File::parse(program).unwrap().build_id().unwrap().unwrap_or_default().to_vec()
    }

    #[test]
    fn a_build_id_is_of_what_is_on_the_device_and_of_nothing_else() {
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let source = "int main(void) { return 0; }";
        let (mut whole, mut stripped) = program(here.path(), ROOM, source);
        assert_eq!(id(&stripped), [0; BYTES], "the linker has left room");
        make(&mut stripped);
        copy(&stripped, &mut whole);
        assert_ne!(id(&stripped), [0; BYTES]);
        assert_eq!(id(&whole), id(&stripped));
        let made = stripped.clone();
        make(&mut stripped);
        assert_eq!(stripped, made, "it is made once");
        // Debug information names the directory, and is another elsewhere.
        let (other_whole, mut other) = program(there.path(), ROOM, source);
        assert_ne!(other_whole, program(here.path(), ROOM, source).0);
        make(&mut other);
        assert_eq!(other, stripped);
        let (_, mut next) = program(here.path(), ROOM, "int main(void) { return 1; }");
        make(&mut next);
        assert_ne!(id(&next), id(&stripped));
        let (_, mut without) = program(here.path(), "-Wl,--build-id=none", source);
        let before = without.clone();
        make(&mut without);
        assert_eq!(without, before, "where there is no room, nothing is changed");
    }
}
