//! Names of components, which log lines begin with and control groups bear.

/// Longest component name in bytes.
pub const MAX_NAME_BYTES: usize = 31;
/// Names in the log that are no component's.
const SYSTEM_NAMES: [&str; 2] = ["init", "kernel"];

/// Checks the name of a component: 1 to [`MAX_NAME_BYTES`] of `a-z`, `0-9` and `-`, a letter first.
///
/// # Errors
/// The rule that the name breaks, as a phrase to put behind the field's name.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("must be 1 to 31 characters long");
    }
    if SYSTEM_NAMES.contains(&name) {
        return Err("must not be that of a part of the system");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("must start with a lower-case letter");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("must consist of lower-case letters, digits and `-`");
    }
    Ok(())
}

/// The component name for an app of any name: what [`check_name`] allows of it, in lower case, and
/// `-` for all else. A name without a single letter becomes `app`.
#[must_use]
pub fn name_for(app_name: &str) -> String {
    let mut name = String::new();
    for character in app_name.chars().map(|c| c.to_ascii_lowercase()) {
        if name.len() >= MAX_NAME_BYTES {
            break;
        }
        match character {
            'a'..='z' => name.push(character),
            '0'..='9' if !name.is_empty() => name.push(character),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    match name.trim_end_matches('-') {
        "" => "app".to_owned(),
        name if SYSTEM_NAMES.contains(&name) => format!("app-{name}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_for_people_becomes_a_component_name() {
        for (name, expected) in [
            ("hello", "hello"),
            ("Pump Controller (rev. 2)", "pump-controller-rev-2"),
            ("Ärzte & Söhne", "rzte-s-hne"),
            ("3D", "d"),
            ("Init", "app-init"),
            ("温度", "app"),
        ] {
            assert_eq!(name_for(name), expected);
        }
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_valid_component_name(name in ".{0,60}") {
            prop_assert_eq!(check_name(&name_for(&name)), Ok(()));
        }
    }
}
