//! A rule allows one system call, always or where its arguments meet conditions.

/// One allowed call.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Name in the kernel's table for ARM.
    pub name: &'static str,
    /// It is allowed when every condition of one of these holds; always, when there are none.
    pub any_of: &'static [&'static [Condition]],
}

/// `argument & mask == value`.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Number of the argument, from 0.
    pub argument: u8,
    /// Bits that are looked at.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

pub(super) const fn call(name: &'static str) -> Rule {
    Rule { name, any_of: &[] }
}

pub(super) const fn when(name: &'static str, any_of: &'static [&'static [Condition]]) -> Rule {
    Rule { name, any_of }
}

pub(super) const fn is(argument: u8, value: u32) -> Condition {
    Condition { argument, mask: u32::MAX, value }
}

pub(super) const fn bits(argument: u8, mask: u32, value: u32) -> Condition {
    Condition { argument, mask, value }
}

/// The bit of an argument is another than that of `value`.
pub(super) const fn differs(argument: u8, bit: u32, value: u32) -> Condition {
    bits(argument, 1 << bit, !value & (1 << bit))
}
