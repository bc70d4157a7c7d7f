//! One record of every kind, for tests on both sides and for the page that shows what is sent.

use crate::record::{
    App, Body, Boot, BuildId, CheckIn, CheckInOutcome, Clock, Component, Crash, End, Ended, Fault,
    Lost, LostWhy, Name, Outcome, Panic, Partition, Place, Protocol, Record, Refused, Reset,
    Storage, Traffic, Update, Used, Where,
};
use holdfast_types::{ClockSource, ComponentId, Phase, Slot, Version};

const VERSION: Version = Version { major: 2, minor: 1, patch: 0 };
const ID: ComponentId = ComponentId([
    0x25, 0x02, 0x5d, 0x2c, 0x66, 0xda, 0x44, 0x48, 0xba, 0xe1, 0xac, 0x26, 0xfc, 0xdd, 0x36, 0x27,
]);

/// Returns an app.
#[must_use]
pub fn app() -> Component {
    Component::App(App {
        id: ID,
        name: Name::of_literal("camera"),
        version: VERSION,
        package: [0x41; 8],
    })
}

/// Returns a crash of that app.
#[must_use]
pub fn ended() -> Ended {
    let place = |offset| Place { build_id: Some(BuildId([0xb1; 20])), offset };
    Ended {
        component: app(),
        end: End::Signal(11),
        crash: Some(Crash {
            pc: place(0x0001_2a44),
            lr: Some(place(0x0001_2b10)),
            fault: Fault::Null,
        }),
        panic: Some(Panic { message: 0x0123_4567_89ab_cdef, file: 0x3344, line: 42 }),
        ran_s: 3600,
        count: 3,
    }
}

/// Returns refused packets of that app.
#[must_use]
pub fn refused() -> Refused {
    Refused {
        component: app(),
        protocol: Protocol::Tcp,
        port: Some(23),
        to: Where::Public,
        count: 200,
        addresses_log2: 6,
        is_granted_name: false,
    }
}

/// Returns one record of every kind, with numbers from 1 on.
#[must_use]
pub fn records() -> Vec<Record> {
    let service = Component::Service(Name::of_literal("network"));
    let bodies = [
        Body::Boot(Boot {
            boot_id: [0x6b; 16],
            version: VERSION,
            slot: Slot::B,
            phase: Phase::Committed,
            reset: Reset::KernelPanic,
            fault: Some(Place { build_id: None, offset: 0xc010_0000 }),
        }),
        Body::Ended(ended()),
        Body::Update(Update {
            app: Some(ID),
            from: VERSION,
            to: Version { patch: 1, ..VERSION },
            outcome: Outcome::FellBack,
            fetched_bytes: 120_000,
        }),
        Body::Refused(refused()),
        Body::Traffic(Traffic { component: app(), sent_bytes: 5_000, received_bytes: 70_000 }),
        Body::Used(Used { component: service, memory_peak_kib: 2_048, restarts: 0 }),
        Body::Storage(Storage { partition: Partition::Data, percent: 71 }),
        Body::Clock(Clock { source: ClockSource::Network, step_s: -2, is_refused: false }),
        Body::CheckIn(CheckIn { outcome: CheckInOutcome::Unreachable, count: 4 }),
        Body::Lost(Lost { why: LostWhy::Quota, count: 17 }),
    ];
    let numbered = bodies.into_iter().zip(1..);
    let record =
        |(body, sequence)| Record { sequence, at: Some(1_790_000_000), uptime_s: 90, body };
    numbered.map(record).collect()
}
