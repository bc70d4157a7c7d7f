//! Manifests that tests write, and change for what they are about.

/// An app that is granted nothing. It has no program yet.
pub(crate) const APP: &str = r#"{"SchemaVersion": 1, "Name": "app", "EntryPoint": "/bin/app",
"ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {}}"#;

/// The least image of this name, with these tables behind its own.
pub(crate) fn image(name: &str, tables: &str) -> String {
    format!(
        r#"schema = 1
name = "{name}"
version = "0.1.0"
board = "qemu-virt"
memory_mib = 64
[slots]
boot_mib = 8
root_mib = 8
[storage]
state_mib = 8
apps_mib = 8
data_mib = 8
{tables}"#
    )
}
