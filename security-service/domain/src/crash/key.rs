//! Keys of crash groups: what makes two failures the same one.
//!
//! A key is made of names and not of addresses wherever there are names, so that the next build of a program leads to the same group. Which
//! algorithm has made it stands beside it: what was grouped by one never moves when another comes.

use holdfast_failure_reports::record::{
    Body, BuildId, Component, Crash, End, Ended, Name, Outcome, Panic, Place, Reset,
};
use holdfast_types::hex::{hex, unhex};
use holdfast_types::{ComponentId, Version};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Most bytes of a function's name that are kept.
pub const MAX_FUNCTION_BYTES: usize = 512;

/// What has failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The OS: its kernel, init, or a release of it.
    Os,
    /// An app.
    App(ComponentId),
    /// A service of the OS.
    Service(Name),
}

impl Subject {
    /// Returns the component of a record as a subject.
    #[must_use]
    pub fn of(component: &Component) -> Self {
        match component {
            Component::App(app) => Self::App(app.id),
            Component::Service(name) => Self::Service(name.clone()),
        }
    }
}

impl fmt::Display for Subject {
    /// `os`, the component id, or `service:` and its name: no two subjects have the same text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::App(id) => write!(f, "{id}"),
            Self::Service(name) => write!(f, "service:{}", name.as_str()),
        }
    }
}

/// How it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// A component has ended.
    Ended(End),
    /// A boot has ended.
    Boot(Reset),
    /// A release was tried, and the one before runs again.
    FellBack,
}

impl fmt::Display for Failure {
    /// A word, and the number that goes with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(End::Exit(code)) => write!(f, "exit {code}"),
            Self::Ended(End::Signal(signal)) => write!(f, "signal {signal}"),
            Self::Ended(end) => f.write_str(end.word()),
            Self::Boot(reset) => write!(f, "boot {}", reset.word()),
            Self::FellBack => f.write_str("fell-back"),
        }
    }
}

/// An address whose function's name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Of the instruction that has failed.
    Instruction(Place),
    /// That its function would have returned to: the call lies before it.
    Return(Place),
}

/// The algorithms of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// See [`Key`].
    V1,
}

impl Algorithm {
    /// Returns the number that stands beside a group.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
        }
    }

    /// Returns the algorithm of a number.
    #[must_use]
    pub fn of_number(number: u64) -> Option<Self> {
        (number == 1).then_some(Self::V1)
    }
}

/// What makes two failures the same, by the first algorithm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A program in Rust has panicked: by the hashes of its message and its file's name, and the line. Where the signal came is the same in every panic.
    Panic {
        /// The program.
        subject: Subject,
        /// Where it has panicked.
        panic: Panic,
    },
    /// With symbols: by functions, which outlast a build.
    Functions {
        /// The program.
        subject: Subject,
        /// How it has failed.
        failure: Failure,
        /// The function it was in.
        at: String,
        /// The function that has called that one, where it is known.
        from: Option<String>,
    },
    /// Without symbols: one instruction of one build.
    Instruction {
        /// The program.
        subject: Subject,
        /// The build, where the program has an id of it.
        build_id: Option<BuildId>,
        /// The version, where it has none.
        version: Option<Version>,
        /// The instruction.
        offset: u32,
    },
    /// Without any address: by version and kind.
    Kind {
        /// The program.
        subject: Subject,
        /// Its version.
        version: Version,
        /// How it has failed.
        failure: Failure,
    },
}

/// A failure, as it is grouped: what has failed, in which version, and how.
struct Seen<'r> {
    subject: Subject,
    failure: Failure,
    version: Version,
    crash: Option<&'r Crash>,
    kernel: Option<Place>,
    panic: Option<Panic>,
}

impl<'r> Seen<'r> {
    /// Returns the failure that a record tells of, if it tells of one. `os` is the version of the OS that has made the record.
    fn of(body: &'r Body, os: Version) -> Option<Self> {
        match body {
            Body::Ended(Ended { component, end, crash, panic, .. }) => {
                let version = match component {
                    Component::App(app) => app.version,
                    Component::Service(_) => os,
                };
                Some(Self {
                    subject: Subject::of(component),
                    failure: Failure::Ended(*end),
                    version,
                    crash: crash.as_ref(),
                    kernel: None,
                    panic: *panic,
                })
            }
            Body::Boot(boot) if boot.reset.is_failure() => Some(Self {
                subject: Subject::Os,
                failure: Failure::Boot(boot.reset),
                version: boot.version,
                crash: None,
                kernel: boot.fault,
                panic: None,
            }),
            Body::Update(update) if update.outcome == Outcome::FellBack => Some(Self {
                subject: update.app.map_or(Subject::Os, Subject::App),
                failure: Failure::FellBack,
                version: update.to,
                crash: None,
                kernel: None,
                panic: None,
            }),
            Body::Boot(_)
            | Body::Update(_)
            | Body::Refused(_)
            | Body::Traffic(_)
            | Body::Used(_)
            | Body::Storage(_)
            | Body::Clock(_)
            | Body::CheckIn(_)
            | Body::Lost(_) => None,
        }
    }

    fn at(&self) -> Option<Place> {
        self.crash.map(|crash| crash.pc).or(self.kernel)
    }
}

impl Key {
    /// Returns the key of the failure that a record tells of, with the version that has failed; nothing where it tells of none.
    /// `os` is the version of the OS that has made the record. `names` returns the name of an address's function, where there are symbols.
    pub fn of(
        body: &Body,
        os: Version,
        names: impl Fn(&Address) -> Option<String>,
    ) -> Option<(Self, Version)> {
        let seen = Seen::of(body, os)?;
        let version = seen.version;
        if let Some(panic) = seen.panic {
            return Some((Self::Panic { subject: seen.subject, panic }, version));
        }
        let Some(at) = seen.at() else {
            let Seen { subject, failure, .. } = seen;
            return Some((Self::Kind { subject, version, failure }, version));
        };
        let named = |address| names(&address).filter(|name| !name.is_empty()).map(bounded);
        if let Some(at) = named(Address::Instruction(at)) {
            let from = seen.crash.and_then(|crash| crash.lr).map(Address::Return);
            let from = from.and_then(named);
            let Seen { subject, failure, .. } = seen;
            return Some((Self::Functions { subject, failure, at, from }, version));
        }
        let of_version = if at.build_id.is_none() { Some(version) } else { None };
        // The place is where the watchdog has met it, which is another one each time: without names, these are one failure.
        if seen.failure == Failure::Ended(End::Watchdog) {
            let Seen { subject, failure, .. } = seen;
            return Some((Self::Kind { subject, version, failure }, version));
        }
        let key = Self::Instruction {
            subject: seen.subject,
            build_id: at.build_id,
            version: of_version,
            offset: at.offset,
        };
        Some((key, version))
    }

    /// Returns the addresses whose names [`of`](Self::of) asks for.
    pub fn addresses(body: &Body) -> impl Iterator<Item = Address> {
        let places = Seen::of(body, Version::default()).filter(|seen| seen.panic.is_none());
        let at = places.as_ref().and_then(Seen::at).map(Address::Instruction);
        let from = places.and_then(|seen| seen.crash?.lr).map(Address::Return);
        at.into_iter().chain(from)
    }

    /// Returns what has failed.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Panic { subject, .. }
            | Self::Functions { subject, .. }
            | Self::Instruction { subject, .. }
            | Self::Kind { subject, .. } => subject,
        }
    }

    /// Returns where it has failed, for people: a function, an address, a line, or nothing.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Panic { panic, .. } => {
                let Panic { message, file, line } = panic;
                Some(format!("panic {message:016x} file {file:04x} line {line}"))
            }
            Self::Functions { at, .. } => Some(at.clone()),
            Self::Instruction { build_id: Some(build_id), offset, .. } => {
                Some(format!("{build_id}+0x{offset:x}"))
            }
            Self::Instruction { build_id: None, offset, .. } => Some(format!("0x{offset:x}")),
            Self::Kind { .. } => None,
        }
    }

    /// Returns the function that has called the one which has failed, where it is known.
    #[must_use]
    pub fn called_from(&self) -> Option<&str> {
        match self {
            Self::Functions { from, .. } => from.as_deref(),
            Self::Panic { .. } | Self::Instruction { .. } | Self::Kind { .. } => None,
        }
    }

    /// Returns the id of the group that failures of this key have in a product. Products are apart, so that no device reaches the groups of
    /// another product, whatever it says of itself.
    #[must_use]
    pub fn group(&self, product: &str) -> GroupId {
        let mut hash = Sha256::new();
        hash.update(b"holdfast-crash-1\0");
        text(&mut hash, product.as_bytes());
        text(&mut hash, self.subject().to_string().as_bytes());
        match self {
            Self::Panic { panic, .. } => {
                hash.update([1]);
                hash.update(panic.message.to_be_bytes());
                hash.update(panic.file.to_be_bytes());
                hash.update(panic.line.to_be_bytes());
            }
            Self::Functions { failure, at, from, .. } => {
                hash.update([2]);
                text(&mut hash, failure.to_string().as_bytes());
                text(&mut hash, at.as_bytes());
                text(&mut hash, from.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Instruction { build_id, version, offset, .. } => {
                hash.update([3]);
                text(&mut hash, build_id.as_ref().map_or(&[], |id| &id.0));
                text(&mut hash, version.map(|of| of.to_string()).unwrap_or_default().as_bytes());
                hash.update(offset.to_be_bytes());
            }
            Self::Kind { version, failure, .. } => {
                hash.update([4]);
                text(&mut hash, version.to_string().as_bytes());
                text(&mut hash, failure.to_string().as_bytes());
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (id, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
        GroupId(*id)
    }
}

/// A text with its length, so that no two sequences of texts have the same bytes.
fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(bytes);
}

/// A name, up to its bound.
fn bounded(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_FUNCTION_BYTES));
    name
}

/// The id of a crash group: the first half of a SHA-256 over its product and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A text is no id of a crash group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a crash group's id has 32 lower-case hex digits")]
pub struct NoGroupId;

impl FromStr for GroupId {
    type Err = NoGroupId;

    fn from_str(text: &str) -> Result<Self, NoGroupId> {
        let id = unhex(text).map(Self).ok_or(NoGroupId)?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) { Err(NoGroupId) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::record::{App, Boot, Fault};
    use holdfast_failure_reports::samples;
    use holdfast_types::{Phase, Slot};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const OS: Version = Version { major: 1, minor: 4, patch: 0 };

    fn place(build: u8, offset: u32) -> Place {
        Place { build_id: Some(BuildId([build; 20])), offset }
    }

    fn ended(pc: Option<Place>, lr: Option<Place>, end: End) -> Body {
        let crash = pc.map(|pc| Crash { pc, lr, fault: Fault::Null });
        Body::Ended(Ended { crash, panic: None, end, ..samples::ended() })
    }

    fn no_names(_: &Address) -> Option<String> {
        None
    }

    fn group(body: &Body, names: impl Fn(&Address) -> Option<String>) -> GroupId {
        Key::of(body, OS, names).unwrap().0.group("pump")
    }

    #[test]
    fn the_same_function_of_two_builds_is_one_group_and_without_symbols_two() {
        let first = ended(Some(place(1, 0x100)), Some(place(1, 0x200)), End::Signal(11));
        let second = ended(Some(place(2, 0x140)), Some(place(2, 0x260)), End::Signal(11));
        let names = BTreeMap::from([
            (Address::Instruction(place(1, 0x100)), "pump::run"),
            (Address::Return(place(1, 0x200)), "pump::main"),
            (Address::Instruction(place(2, 0x140)), "pump::run"),
            (Address::Return(place(2, 0x260)), "pump::main"),
        ]);
        let lookup = |address: &Address| names.get(address).map(|name| (*name).to_owned());
        assert_eq!(group(&first, lookup), group(&second, lookup));
        assert_ne!(group(&first, no_names), group(&second, no_names));
        assert_ne!(group(&first, lookup), group(&first, no_names), "they never move");
        // Another signal is another failure of the function, and what called it another way there.
        let aborted = ended(Some(place(1, 0x100)), Some(place(1, 0x200)), End::Signal(6));
        assert_ne!(group(&first, lookup), group(&aborted, lookup));
        let alone = ended(Some(place(1, 0x100)), None, End::Signal(11));
        assert_ne!(group(&first, lookup), group(&alone, lookup));
        let addresses: BTreeSet<Address> =
            [&first, &second].into_iter().flat_map(Key::addresses).collect();
        assert_eq!(addresses, names.keys().copied().collect());
        let (key, version) = Key::of(&first, OS, lookup).unwrap();
        assert_eq!(
            (key.place().as_deref(), key.called_from()),
            (Some("pump::run"), Some("pump::main"))
        );
        assert_eq!(version, Version { major: 2, minor: 1, patch: 0 }, "the package's");
    }

    #[test]
    fn without_any_address_the_version_and_the_kind_tell_failures_apart() {
        let ends = [End::Exit(1), End::Exit(2), End::Watchdog, End::Memory, End::Sandbox];
        let mut groups: BTreeSet<GroupId> =
            ends.iter().map(|end| group(&ended(None, None, *end), no_names)).collect();
        assert_eq!(groups.len(), ends.len());
        let Body::Ended(mut other) = ended(None, None, End::Exit(1)) else { unreachable!() };
        let Component::App(app) = other.component else { unreachable!() };
        other.component = Component::App(App { version: OS, ..app });
        assert!(groups.insert(group(&Body::Ended(other.clone()), no_names)), "another version");
        other.component = samples::records()
            .iter()
            .find_map(|record| match record.body.component() {
                Some(Component::Service(name)) => Some(Component::Service(name.clone())),
                _ => None,
            })
            .unwrap();
        assert!(groups.insert(group(&Body::Ended(other.clone()), no_names)), "a service");
        let later = Version { patch: 1, ..OS };
        let of_later = Key::of(&Body::Ended(other), later, no_names).unwrap().0.group("pump");
        assert!(groups.insert(of_later), "a service has the version of the OS");
    }

    #[test]
    fn victims_of_a_watchdog_are_grouped_by_functions_and_never_by_addresses() {
        let [one, two] = [1, 2].map(|offset| ended(Some(place(1, offset)), None, End::Watchdog));
        assert_eq!(group(&one, no_names), group(&two, no_names));
        let named = |address: &Address| {
            let (Address::Instruction(place) | Address::Return(place)) = address;
            Some(format!("f{}", place.offset))
        };
        assert_ne!(group(&one, named), group(&two, named), "the control");
        let [one, two] = [1, 2].map(|offset| ended(Some(place(1, offset)), None, End::Signal(6)));
        assert_ne!(group(&one, no_names), group(&two, no_names), "the control");
    }

    #[test]
    fn panics_are_told_apart_by_message_and_line_and_not_by_where_they_abort() {
        let panic = |message, line, pc| {
            let panic = Some(Panic { message, file: 7, line });
            let crash = Some(Crash { pc: place(1, pc), lr: None, fault: Fault::None });
            let end = End::Signal(6);
            group(&Body::Ended(Ended { panic, crash, end, ..samples::ended() }), no_names)
        };
        assert_eq!(panic(1, 2, 3), panic(1, 2, 4));
        assert_ne!(panic(1, 2, 3), panic(2, 2, 3));
        assert_ne!(panic(1, 2, 3), panic(1, 3, 3));
    }

    #[test]
    fn a_boot_that_failed_and_a_release_that_fell_back_are_failures_of_theirs() {
        let boot = |reset, fault| {
            let phase = Phase::Committed;
            let boot_id = [0; 16];
            Body::Boot(Boot { boot_id, version: OS, slot: Slot::A, phase, reset, fault })
        };
        for reset in Reset::ALL {
            let key = Key::of(&boot(reset, None), OS, no_names);
            assert_eq!(key.is_some(), reset.is_failure(), "{reset:?}");
        }
        let fault = Place { build_id: None, offset: 0xc010_0000 };
        let (key, _) = Key::of(&boot(Reset::KernelPanic, Some(fault)), OS, no_names).unwrap();
        assert_eq!(key.place().as_deref(), Some("0xc0100000"));
        assert!(matches!(key, Key::Instruction { version: Some(OS), .. }), "{key:?}");
        let kinds = samples::records();
        let failures = kinds.iter().filter(|record| Key::of(&record.body, OS, no_names).is_some());
        assert_eq!(failures.count(), 3, "a kernel's panic, a crash, and a release that fell back");
    }

    #[test]
    fn products_are_apart() {
        let body = ended(Some(place(1, 2)), None, End::Signal(11));
        let (key, _) = Key::of(&body, OS, no_names).unwrap();
        assert_ne!(key.group("pump"), key.group("valve"));
        let id = key.group("pump");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<GroupId>(), Err(NoGroupId));
    }

    /// Groups are kept for years: the bytes may not change. Calculated beside this program, with Python's `hashlib`.
    #[test]
    fn the_first_algorithm_stays_what_it_is() {
        let body = ended(Some(place(0xb1, 0x12a44)), None, End::Signal(11));
        let (key, _) = Key::of(&body, OS, no_names).unwrap();
        assert_eq!(key.group("pump").to_string(), "6fc461865cf11c0576deab408e5503ca");
        let named = |_: &Address| Some("pump::run".to_owned());
        let (key, _) = Key::of(&body, OS, named).unwrap();
        assert_eq!(key.group("pump").to_string(), "8d06df37166e96e49badd0533d464223");
    }

    proptest! {
        /// Never one group for all: what differs in the key differs in the group.
        #[test]
        fn different_keys_have_different_groups(
            a in (any::<u8>(), any::<u32>(), "[a-z:]{0,6}", "[a-z:]{0,6}", any::<u8>()),
            b in (any::<u8>(), any::<u32>(), "[a-z:]{0,6}", "[a-z:]{0,6}", any::<u8>()),
            named in any::<bool>(),
        ) {
            let of = |(build, offset, at, from, signal): &(u8, u32, String, String, u8)| {
                let body = ended(Some(place(*build, *offset)), Some(place(*build, 1)), End::Signal(*signal));
                let (at, from) = (at.clone(), from.clone());
                let names = move |address: &Address| match address {
                    _ if !named => None,
                    Address::Instruction(_) => Some(at.clone()),
                    Address::Return(_) => Some(from.clone()),
                };
                Key::of(&body, OS, names).unwrap().0
            };
            let (first, second) = (of(&a), of(&b));
            prop_assert_eq!(first == second, first.group("p") == second.group("p"));
        }

        #[test]
        fn a_long_name_is_cut_between_characters(name in "\\PC{1,600}") {
            let body = ended(Some(place(1, 2)), None, End::Signal(11));
            let (key, _) = Key::of(&body, OS, |_| Some(name.clone())).unwrap();
            prop_assert!(key.place().unwrap().len() <= MAX_FUNCTION_BYTES);
            prop_assert!(name.starts_with(&key.place().unwrap()));
        }
    }
}
