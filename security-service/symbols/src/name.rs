//! Names as they are kept: demangled, without what differs from one build to the next, of printable characters, and bounded.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};
use holdfast_service_domain::symbols::MAX_NAME_BYTES;
use std::fmt::{self, Write};

/// Longest mangled name in bytes that is demangled.
const MAX_MANGLED_BYTES: usize = 4096;
/// Deepest nesting that is demangled.
const MAX_DEPTH: u32 = 96;
/// What a compiler adds to the name of a function that it has made several of, or taken a part out of.
const ADDED: [&str; 7] =
    [".llvm.", ".isra.", ".constprop.", ".part.", ".cold", ".lto_priv.", ".clone."];

/// A text that ends where its bound is.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            // A name goes into logs and onto terminals.
            let character = if character.is_control() { '?' } else { character };
            let length = self.0.len().saturating_add(character.len_utf8());
            if length > MAX_NAME_BYTES {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

/// True if a name says where the function is, and not only in its parameters.
pub(crate) fn has_path(name: &str) -> bool {
    name.starts_with('<') || name.split('<').next().is_some_and(|begin| begin.contains("::"))
}

/// Returns a text up to the bound of a name.
pub(crate) fn bounded(text: fmt::Arguments<'_>) -> String {
    let mut name = Bounded(String::new());
    let _ = name.write_fmt(text);
    name.0
}

/// Returns the name that is kept of a mangled one: Rust's without the hashes of crates and instances, C++'s without parameters, and C's as
/// it is. `None` where nothing is left of it.
#[must_use]
pub fn readable(mangled: &str) -> Option<String> {
    let end = ADDED.iter().filter_map(|added| mangled.find(added)).min();
    let plain = end.and_then(|end| mangled.get(..end)).unwrap_or(mangled);
    let mut name = Bounded(String::new());
    // What is cut off at the bound is cut off in each build.
    if plain.len() > MAX_MANGLED_BYTES {
        let _ = name.write_str(plain);
    } else if let Ok(rust) = rustc_demangle::try_demangle(plain) {
        let _ = write!(name, "{rust:#}");
    } else if plain.starts_with("_Z") {
        let parse = ParseOptions::default().recursion_limit(MAX_DEPTH);
        let print = DemangleOptions::default().recursion_limit(MAX_DEPTH);
        let print = print.no_params().no_return_type();
        match Symbol::new_with_options(plain.as_bytes(), &parse) {
            Ok(symbol) => drop(symbol.structured_demangle(&mut name, &print)),
            Err(_) => drop(name.write_str(plain)),
        }
    } else {
        let _ = name.write_str(plain);
    }
    if name.0.is_empty() { None } else { Some(name.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_without_what_differs_between_builds() {
        for (mangled, expected) in [
            ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic"),
            ("_ZN4core9panicking5panic17hfedcba9876543210E", "core::panicking::panic"),
            ("_ZN4pump3run17h0123456789abcdefE.llvm.1234567890", "pump::run"),
            ("_RNvCs4fqI2P2rA04_4pump3run", "pump::run"),
            ("_RNvCsaaaaaaaaaaa_4pump3run", "pump::run"),
            ("_ZN4pump5valve5closeEiPKc", "pump::valve::close"),
            ("read_sensor", "read_sensor"),
            ("read_sensor.constprop.0", "read_sensor"),
            ("read_sensor.part.3.isra.1", "read_sensor"),
            ("tab\there", "tab?here"),
        ] {
            assert_eq!(readable(mangled).as_deref(), Some(expected), "{mangled}");
        }
        assert_eq!(readable(""), None);
    }

    #[test]
    fn a_path_is_of_the_function_and_not_of_its_parameters() {
        for (name, expected) in [
            ("pump::valve::read", true),
            ("<alloc::vec::Vec<pump::Valve>>::push", true),
            ("core::ptr::read<pump::Valve>", true),
            ("read", false),
            ("push<pump::Valve, alloc::alloc::Global>", false),
            ("{closure#0}", false),
        ] {
            assert_eq!(has_path(name), expected, "{name}");
        }
    }

    /// C++'s names can say in few bytes what has many.
    #[test]
    fn a_name_that_would_grow_without_end_ends_at_the_bound() {
        let mut bomb = "_Z1fI".to_owned();
        bomb.push_str("1aIiiiiiiiiE");
        for level in 0..30u8 {
            let digit = std::char::from_digit(u32::from(level), 36).unwrap().to_ascii_uppercase();
            bomb.push_str(&format!("1aIS{digit}_S{digit}_S{digit}_E"));
        }
        bomb.push_str("Evv");
        for hostile in [bomb, "x".repeat(100_000), format!("_Z{}", "N".repeat(3000))] {
            let name = readable(&hostile).unwrap_or_default();
            assert!(name.len() <= MAX_NAME_BYTES, "{} bytes", name.len());
        }
        let euro = "\u{20ac}".repeat(1000);
        assert_eq!(readable(&euro).unwrap().len(), MAX_NAME_BYTES / 3 * 3, "whole characters");
    }
}
