//! A rule allows one system call, always or where its arguments meet conditions.

/// One allowed call.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Name in the kernel's table for ARM.
    pub name: &'static str,
    /// The call is allowed when every condition of one of these lists holds; always, when there is no list.
    pub any_of: &'static [&'static [Condition]],
}

/// `argument & mask == value`.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Index of the argument, from 0 to 5.
    pub argument: u8,
    /// Bits of the argument that are compared.
    pub mask: u32,
    /// Value that these bits must have.
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
