//! What a service that was taken over can do, with all that it is given.

use super::Verdict::{self, Open, Tests};

/// Service, what it tries, and what stops it.
pub(super) const TAKEN_OVER: &[(&str, &str, Verdict)] = &[
    (
        "update",
        "write something into the other slot that nobody has signed",
        Tests(&["flipped_bytes_boot_a_verified_slot_or_halt"]),
    ),
    (
        "update",
        "stage a release below the floor",
        Tests(&["a_slot_below_the_floor_is_refused", "a_package_below_the_floor_is_refused"]),
    ),
    (
        "update",
        "stage an older release that is not below the floor, and with it an older boot loader",
        Open(
            "a release that must not come back, or whose boot loader must not, raises the rollback index",
        ),
    ),
    (
        "update",
        "put a package of its own in the place of an app's",
        Tests(&["a_package_of_an_unknown_key_is_refused", "an_unsigned_package_is_refused"]),
    ),
    (
        "update",
        "delete the packages of apps",
        Open(
            "they run to the next start, and come back from a server or a card once `update` is itself again",
        ),
    ),
    (
        "update",
        "erase partitions by an order that nobody has given",
        Tests(&[
            "a_reset_is_ordered_by_whoever_signs_for_the_owner_and_by_nobody_else",
            "a_card_without_an_order_confirms_none",
            "an_order_is_confirmed_by_one_byte_and_nothing_else",
        ]),
    ),
    (
        "update",
        "fill `state`, so that floors and uids are not kept",
        Tests(&["update_leaves_room_on_state"]),
    ),
    (
        "update",
        "reboot again and again, or fail as a critical component",
        Tests(&[
            "resets_before_health_do_not_cost_a_good_slot",
            "a_critical_app_that_crashes_does_not_cost_a_good_slot",
        ]),
    ),
    (
        "update",
        "withhold releases, agree to a trial that has reached nobody, tell apps what is not so, wear the flash out",
        Open(
            "whoever decides about updates can decide wrongly; the next signed OS brings another `update`",
        ),
    ),
    (
        "update",
        "lead the clock's floor ahead",
        Open(
            "up to 20 years beyond the image's build: init does not verify the time that it is told",
        ),
    ),
    (
        "update",
        "reach the network, or another service than `uplink`",
        Tests(&[
            "no_service_faces_the_network_and_writes_what_boots",
            "each_right_opens_its_requests_and_no_others",
        ]),
    ),
    (
        "uplink",
        "hand over something else than what was released",
        Tests(&[
            "update_attack_arbitrary_install",
            "update_attack_mix_and_match",
            "update_attack_wrong_software",
        ]),
    ),
    (
        "uplink",
        "withhold, draw out or repeat what it fetches",
        Tests(&[
            "update_attack_freeze",
            "update_attack_slow_retrieval",
            "update_attack_endless_data",
        ]),
    ),
    (
        "uplink",
        "write what boots, or reset the device",
        Tests(&["no_service_faces_the_network_and_writes_what_boots", "no_server_resets_a_device"]),
    ),
    (
        "uplink",
        "reach more than the servers of the image, or other apps",
        Tests(&["a_packet_passes_exactly_where_a_grant_covers_it"]),
    ),
    (
        "uplink",
        "have init tell `update` of it so often that an answer to `update` is lost",
        Open("`update` waits two minutes for an answer, ends, and starts anew"),
    ),
    (
        "uplink",
        "read the device's keys, or have something else signed than evidence",
        Tests(&[
            "no_service_faces_the_network_and_has_the_devices_keys",
            "messages_are_read_as_they_were_written_and_fit",
        ]),
    ),
    (
        "uplink",
        "sign as an app, or call at an app's socket",
        Tests(&[
            "an_uplink_that_was_taken_over_signs_nothing_for_an_app",
            "each_right_opens_its_requests_and_no_others",
        ]),
    ),
    (
        "uplink",
        "have one app's certificate made out for another app's key",
        Tests(&[
            "each_input_changes_the_qualifying_data",
            "certificates_for_other_keys_are_refused",
        ]),
    ),
    (
        "uplink",
        "bring `identity` answers of its own: damaged, too long, for another key",
        Tests(&[
            "an_answer_to_an_enrolment_that_is_wrong_is_refused",
            "certificates_for_other_keys_are_refused",
        ]),
    ),
    (
        "uplink",
        "have evidence made for a connection of its own",
        Open(
            "it owns the connection, as whoever ends TLS does: the device is attested as what it runs, to a service that the image names",
        ),
    ),
    (
        "uplink",
        "have the TPM work without end",
        Tests(&["what_is_spent_comes_back_by_the_minute_and_its_end_is_said_once"]),
    ),
    (
        "identity",
        "take keys out of the TPM, or use them after another release has booted",
        Tests(&["a_certificate_key_does_not_sign_after_another_release_boots"]),
    ),
    (
        "identity",
        "claim to the service what does not run",
        Open(
            "claims are its word; the release is what PCR 8 names, which it can extend and not set back",
        ),
    ),
    (
        "identity",
        "sign for apps what they have not asked for, as long as it runs",
        Open("the keys are its own to use; with the next release, or 48 hours later, that ends"),
    ),
    (
        "identity",
        "copy a device of the software grade",
        Open("its key lies in `state`; two devices with it are found by their receipts"),
    ),
    (
        "identity",
        "reach the network, or another service than `uplink`",
        Tests(&[
            "no_service_faces_the_network_and_has_the_devices_keys",
            "each_right_opens_its_requests_and_no_others",
        ]),
    ),
    (
        "identity",
        "write what boots: it is handed the running slot's boot partition",
        Tests(&["no_service_faces_the_network_and_writes_what_boots"]),
    ),
    (
        "network",
        "read, change and withhold what apps send and the names that they ask for",
        Open("it makes their veth pairs; what must not be read or changed goes over TLS"),
    ),
    (
        "network",
        "open to an app what its manifest does not grant, or the device to the network",
        Open("it makes the firewall; init and the other services listen at no network socket"),
    ),
    ("network", "set the clock", Tests(&["the_clock_never_shows_less_than_the_build_time"])),
    (
        "network",
        "write what boots, read `state`, packages or storage",
        Tests(&["no_service_faces_the_network_and_writes_what_boots"]),
    ),
    (
        "network",
        "reach a fault of the kernel by its capabilities in the system's network namespace",
        Open(
            "CAP_NET_ADMIN opens netlink and netfilter; its list of system calls has no other way into the kernel than an app's",
        ),
    ),
];
