//! Messages as they are written and read, and which right opens which request.

use super::*;
use crate::component::MAX_COMPONENTS;
use crate::held::{ReleaseSubject, Running};
use crate::reset_order::Partitions;
use holdfast_types::ReportLevel;
use holdfast_types::component_name::MAX_NAME_BYTES;
use proptest::prelude::*;

fn news() -> UpdateNews {
    let version = Version { major: u32::MAX, minor: u32::MAX, patch: u32::MAX };
    UpdateNews {
        app: Some(ComponentId([255; 16])),
        from: version,
        to: version,
        outcome: UpdateOutcome::Declined,
        fetched_bytes: u64::MAX,
    }
}

#[test]
fn messages_survive_the_wire_and_fit_it() {
    let name = "n".repeat(MAX_NAME_BYTES);
    let order = Order { digest: [255; 32], partitions: Partitions::default() };
    for request in [
        Request::Status(StatusRequest::Components),
        Request::Status(StatusRequest::Held),
        Request::Manage(ManageRequest::Start(name.clone())),
        Request::Manage(ManageRequest::Restart(name.clone())),
        Request::Shutdown(ShutdownRequest::PowerOff),
        NetworkRequest::Veths(VethsRequest::Of(u32::MAX)).into(),
        NetworkRequest::Clock(ClockRequest::Behind(i64::MIN)).into(),
        UpdateRequest::OtherSlot(SlotPart::Root).into(),
        UpdateRequest::StageApp(ComponentId([255; 16])).into(),
        UpdateRequest::Reset(order).into(),
        UpdateRequest::RaiseTime(u64::MAX).into(),
        UplinkRequest::Agent.into(),
        UplinkRequest::Identity.into(),
        UplinkRequest::Clock.into(),
        IdentityRequest::Claims.into(),
        IdentityRequest::Listeners.into(),
        ReportRequest::Crash.into(),
        ReportRequest::LastOutput.into(),
        ReportRequest::Fill.into(),
        UpdateRequest::Tell(news()).into(),
    ] {
        assert_eq!(decode_request(&encode_request(&request).unwrap()), Ok(request));
    }
    let status = ComponentStatus {
        name,
        state: ComponentState::Stopped,
        uid: u32::MAX,
        memory_kib: u32::MAX,
        memory_peak_kib: u32::MAX,
        processes: u32::MAX,
        restarts: u32::MAX,
        last_exit: Some(i32::MIN),
    };
    // As many as an image may have components, each as large as it can be.
    let held = Held {
        subject: ReleaseSubject::App(ComponentId([255; 16])),
        floor: u64::MAX,
        running: Some(Running {
            version: Version { major: u32::MAX, minor: u32::MAX, patch: u32::MAX },
            rollback_index: u64::MAX,
            root_hash: [255; 32],
            data_bytes: u64::MAX,
            on_trial: true,
        }),
        waits: true,
        disagreed: true,
    };
    let version = Version { major: u32::MAX, minor: u32::MAX, patch: u32::MAX };
    let app = ClaimedApp {
        id: ComponentId([255; 16]),
        version,
        rollback_index: u64::MAX,
        root_hash: [255; 32],
        catalog: Some(CatalogId([255; 16])),
    };
    let claims = DeviceClaims {
        boot_id: [255; 16],
        image: status.name.clone(),
        board: status.name.clone(),
        version,
        rollback_index: u64::MAX,
        slot: Slot::B,
        phase: Phase::FallingBack,
        apps: vec![app; MAX_COMPONENTS],
        is_debugged: true,
        clock: ClockSource::Network,
        last_reset: "unhealthy".to_owned(),
        kernel_fault: Some(u32::MAX),
        has_tpm: true,
    };
    let listener = Listener { name: status.name.clone(), access: UpdateAccess::Defers };
    let authenticating =
        AuthenticatingApp { name: status.name.clone(), id: ComponentId([255; 16]) };
    for reply in [
        Reply::Accepted,
        Reply::PermissionDenied,
        Reply::NotFound,
        Reply::Failed,
        Reply::Components(vec![status; MAX_COMPONENTS]),
        Reply::Veths(vec![u32::MAX; MAX_COMPONENTS]),
        Reply::Held(vec![held; MAX_COMPONENTS + 1]),
        Reply::Listeners(vec![listener; MAX_COMPONENTS]),
        Reply::Identity,
        Reply::Claims(claims),
        Reply::Crash(Crash { end: u32::MAX, signal: i32::MIN }),
        Reply::Authenticating(vec![authenticating; MAX_COMPONENTS]),
        Reply::LastOutput(LastOutput { end: u32::MAX, bytes: vec![255; 1024] }),
        Reply::Fill(vec![PartitionFill { partition: WrittenPartition::Data, percent: u8::MAX }; 3]),
        Reply::Ends(ComponentEnds {
            ends: vec![
                ComponentEnd {
                    name: "n".repeat(MAX_NAME_BYTES),
                    app: Some(EndedApp { id: ComponentId([255; 16]), version, package: [255; 8] }),
                    cause: EndCause::Signal(255),
                    ran_s: u32::MAX,
                    uptime_s: u32::MAX,
                    count: u32::MAX,
                    crash: Some(u32::MAX),
                    output: Some(u32::MAX),
                };
                32
            ],
            lost: u32::MAX,
            updates: vec![news(); 16],
            owner_level: Some(ReportLevel::Full),
            ..ComponentEnds::default()
        }),
    ] {
        let encoded = encode_reply(&reply).unwrap();
        // Which `report` gets, and no other.
        if let Reply::Components(_)
        | Reply::Claims(_)
        | Reply::Crash(_)
        | Reply::LastOutput(_)
        | Reply::Fill(_)
        | Reply::Ends(_) = &reply
        {
            assert!(encoded.len() <= MAX_REPORT_REPLY_BYTES, "{} bytes", encoded.len());
        }
        assert_eq!(decode_reply(&encoded), Ok(reply));
    }
}

#[test]
fn another_version_trailing_bytes_and_length_are_refused() {
    assert_eq!(decode_request(&[1, 0]), Err(WireError::Version(1)));
    assert_eq!(decode_request(&[VERSION, 6, 0, 0]), Err(EncodingError::TrailingBytes(1).into()));
    assert_eq!(decode_request(&[VERSION; 97]), Err(WireError::TooLong(97)));
    let long = Request::Manage(ManageRequest::Stop("n".repeat(100)));
    assert!(matches!(encode_request(&long), Err(WireError::TooLong(_))));
}

#[test]
fn each_right_opens_its_requests_and_no_others() {
    let requests = [
        Request::Status(StatusRequest::Components),
        Request::Manage(ManageRequest::Start("a".into())),
        Request::Shutdown(ShutdownRequest::Reboot),
        Request::Veths(VethsRequest::All),
        Request::Clock(ClockRequest::Behind(0)),
        UpdateRequest::Announce.into(),
        UplinkRequest::Agent.into(),
        IdentityRequest::Claims.into(),
        ReportRequest::Crash.into(),
    ];
    let none = Requests::default();
    let each = [
        Requests { status: true, ..none },
        Requests { manage: true, ..none },
        Requests { shutdown: true, ..none },
        Requests { veths: true, ..none },
        Requests { clock: true, ..none },
        Requests { update: true, ..none },
        Requests { uplink: true, ..none },
        Requests { identity: true, ..none },
        Requests { report: true, ..none },
    ];
    let allowed = |rights| requests.each_ref().map(|request| request.is_allowed(rights));
    assert_eq!(allowed(none), [false; 9]);
    for (index, rights) in each.into_iter().enumerate() {
        assert_eq!(allowed(rights), std::array::from_fn(|at| at == index), "{rights:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_request(&bytes);
        let _ = decode_reply(&bytes);
    }
}
