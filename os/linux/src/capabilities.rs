//! What a service does to its own capabilities (capabilities(7)).

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::io;

/// Empties the inheritable and ambient sets, which have carried this process's capabilities over its
/// `execve` and would carry them over another one.
///
/// # Errors
/// The kernel refuses.
pub fn keep_to_this_program() -> io::Result<()> {
    let own = capabilities(None)?;
    // The kernel keeps the ambient set within the inheritable one (`cap_capset` in
    // security/commoncap.c), so that emptying one empties both. What is permitted and effective
    // stays: the service works with it.
    Ok(set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..own })?)
}
