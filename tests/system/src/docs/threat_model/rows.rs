//! What happened elsewhere or was found here, and the tests that show what becomes of it.

use super::Verdict::{self, NotApplicable, Open, Tests};

const NO_SECURE_WORLD: &str = "there is no secure world that takes calls from this one";

/// Row, what happened, and what becomes of it here.
pub(super) const ROWS: &[(&str, &str, Verdict)] = &[
    ("A1", "code is changed through /proc/self/mem", Tests(&[])),
    ("A2", "and through the other names of that file", Tests(&[])),
    ("A3", "a process writes another's memory", Tests(&[])),
    ("A4", "memory becomes executable by another call or a personality", Tests(&[])),
    ("A5", "memory is written by the kernel, or through a second mapping", Tests(&[])),
    ("A6", "a file that the app wrote is executed", Tests(&[])),
    (
        "A7",
        "code that is there is put together anew",
        Open(
            "this processor has no pointer authentication; a hijacked app holds its grants, no more",
        ),
    ),
    (
        "B1",
        "a device node in an app's image",
        Tests(&[
            "every_hostile_package_is_refused_for_its_reason",
            "every_hostile_entry_is_refused",
            "a_device_node_in_a_package_is_refused",
        ]),
    ),
    ("B2", "raw flash is reachable", Tests(&[])),
    (
        "B3",
        "a damaged table gives an app another's uid",
        Tests(&[
            "duplicate_low_foreign_and_future_uids_are_refused",
            "a_damaged_table_of_uids_starts_no_app",
        ]),
    ),
    (
        "B4",
        "PID 1 follows links in a directory that an app may write",
        Tests(&["links_that_an_app_swaps_lead_nowhere"]),
    ),
    ("B5", "capabilities are left over", Tests(&["every_process_but_pid_1_is_unprivileged"])),
    ("B6", "the kernel starts a helper as root", Tests(&[])),
    (
        "B7",
        "a setuid file",
        Tests(&[
            "the_image_has_no_setuid_file_no_link_and_no_device",
            "a_setuid_file_in_a_package_is_refused",
        ]),
    ),
    ("B8", "a subsystem of the kernel that nobody needs", Tests(&[])),
    ("B9", "kernel code of one's own", Tests(&[])),
    (
        "B10",
        "an ioctl of a driver",
        Tests(&["only_apps_with_peripherals_ask_drivers_and_only_for_what_they_need"]),
    ),
    ("C1", "the kernel's log and addresses are readable", Tests(&[])),
    ("C2", "old blocks show through", Tests(&[])),
    (
        "C3",
        "a driver's reply shows kernel memory",
        Tests(&["only_apps_with_peripherals_ask_drivers_and_only_for_what_they_need"]),
    ),
    ("C4", "a higher world follows a lower one's pointer", NotApplicable(NO_SECURE_WORLD)),
    ("C5", "another app's files, environment and processes are readable", Tests(&[])),
    ("D1", "calls flood the root of trust", NotApplicable(NO_SECURE_WORLD)),
    (
        "D2",
        "more of everything than was granted; the device ends",
        Tests(&[
            "an_app_over_its_memory_is_ended_alone",
            "a_process_bomb_is_contained",
            "a_restart_storm_does_not_delay_others",
            "a_flood_of_output_is_bounded_and_harmless",
            "locks_on_files_count_as_memory_of_who_takes_them",
        ]),
    ),
    ("D3", "calls at once crash the root of trust", NotApplicable(NO_SECURE_WORLD)),
    ("D4", "a verb without an owner", Tests(&["each_right_opens_its_requests_and_no_others"])),
    (
        "D5",
        "metadata of an image makes the device unbootable",
        Tests(&[
            "arbitrary_bytes_are_refused_never_a_panic",
            "a_damaged_package_is_refused_and_others_run",
            "no_cut_of_power_costs_the_device",
            "flipped_bytes_boot_a_verified_slot_or_halt",
        ]),
    ),
    (
        "D6",
        "a damaged file system is silently made anew",
        Tests(&["a_damaged_table_of_uids_starts_no_app"]),
    ),
    (
        "E1",
        "an older version is installed",
        Tests(&[
            "a_device_refuses_what_is_not_for_it",
            "a_package_below_the_floor_is_refused",
            "a_slot_below_the_floor_is_refused",
        ]),
    ),
    (
        "E2",
        "what is signed is not all that is used",
        Tests(&[
            "every_changed_bit_of_the_header_is_refused",
            "a_slot_with_a_copy_of_its_images_never_starts",
            "a_kernel_of_one_release_with_the_configuration_of_another_never_starts",
        ]),
    ),
    (
        "E3",
        "an offset is not checked",
        Tests(&[
            "each_hostile_header_is_told_apart",
            "a_slot_of_a_length_beyond_memory_never_starts",
        ]),
    ),
    (
        "E4",
        "keys change without a release",
        Tests(&["update_attack_arbitrary_install", "a_device_follows_a_rotation_of_all_keys"]),
    ),
    (
        "E5",
        "a flash offset is not checked",
        Tests(&["a_release_for_which_there_is_no_room_is_not_fetched"]),
    ),
    (
        "E6",
        "update metadata is frozen, mixed or replayed",
        Tests(&[
            "update_attack_freeze",
            "update_attack_mix_and_match",
            "update_attack_rollback",
            "a_clock_that_is_far_ahead_stops_updates_and_nothing_else",
        ]),
    ),
    ("F1", "random numbers that are not", Tests(&[])),
    (
        "F2",
        "two devices start with the same",
        Tests(&["two_first_boots_differ_and_the_seed_is_renewed"]),
    ),
    (
        "F3",
        "a certificate crashes the parser",
        Tests(&[
            "a_server_that_the_image_does_not_trust_is_not_listened_to",
            "no_service_faces_the_network_and_writes_what_boots",
        ]),
    ),
    (
        "F4",
        "a development key in the field",
        Tests(&[
            "a_stored_key_is_read_again_and_never_overwritten",
            "a_package_of_an_unknown_key_is_refused",
        ]),
    ),
    ("F5", "an interface for developers on the device", NotApplicable("there is none")),
    (
        "F6",
        "an app is loaded during an update",
        Tests(&["releases_of_the_os_and_of_an_app_are_taken_one_after_the_other"]),
    ),
    (
        "F7",
        "a certificate that no two verifiers agree on",
        Tests(&[
            "openssl_takes_full_certificates_and_refuses_those_for_updates",
            "the_second_verifier_takes_the_authority_and_another_root_is_refused",
        ]),
    ),
    ("F8", "the page cache of a read-only file is written", Tests(&[])),
    ("F9", "a new kernel brings an old fault back", Tests(&["the_table_of_attacks_is_whole"])),
    ("F10", "an error is taken for a value", NotApplicable("errors are a type of their own")),
    ("C4 mounts", "a path race or a link while a container is set up", Tests(&[])),
    (
        "C4 descriptors",
        "a descriptor leaks into a container",
        Tests(&["a_component_has_no_descriptor_but_its_own"]),
    ),
    ("C4 terminals", "typing into a terminal", Tests(&[])),
    ("C4 host binary", "the program of the runtime is overwritten", Tests(&[])),
    ("C4 signals", "a signal leaves the container", Tests(&[])),
    ("C4 sockets", "a socket of somebody else is reached", Tests(&[])),
    (
        "S descriptors",
        "a descriptor is sent to somebody who then waits for its close, for as long as the sender likes",
        Tests(&[
            "an_app_that_has_its_stub_wait_is_alone_in_that",
            "init_has_no_socket_at_which_it_is_sent_descriptors",
            "nothing_can_be_sent_to_init_but_the_bytes_of_requests",
            "a_stub_that_waits_is_ended_with_its_app",
        ]),
    ),
    (
        "S pidfd",
        "a socket yields a descriptor of the process at its other end, init among them",
        Tests(&["no_socket_yields_a_descriptor_of_the_process_at_its_other_end"]),
    ),
    (
        "S others",
        "a call that is meant for the caller reaches another process: its limits, or the children that it waits for",
        Tests(&["a_process_changes_no_limit_and_makes_no_child_of_another"]),
    ),
    (
        "S children",
        "a copy of init that fails before it is another program ends the system as init would",
        Tests(&["a_child_that_panics_ends_alone"]),
    ),
    (
        "S numbers",
        "a number of the environment is taken for a descriptor that it is not",
        Tests(&["a_number_that_stands_for_no_channel_is_refused"]),
    ),
    (
        "S crash",
        "what a crash leaves says more than where it was: memory, environment, arguments, registers with data",
        Tests(&[
            "a_crash_says_where_it_was_and_no_memory_of_the_process",
            "no_process_dumps_memory",
            "floats_arguments_and_other_registers_are_not_read",
            "a_register_that_is_not_in_code_is_left_out",
        ]),
    ),
    (
        "S forged crash",
        "a component forges another's crash, has PID 1 read what it wrote, or takes the kernel's memory by crashing",
        Tests(&[
            "a_forged_core_is_the_apps_own_and_does_no_harm",
            "the_reads_of_any_file_are_bounded",
        ]),
    ),
    (
        "L package",
        "a corrupt package on trial takes the place of a good one",
        Tests(&[
            "a_corrupt_package_on_trial_never_displaces_a_good_one",
            "a_corrupt_package_on_trial_costs_no_good_one",
        ]),
    ),
    (
        "L files",
        "apps do not own their files any more once `state` was lost",
        Tests(&[
            "apps_own_their_files_after_the_table_was_lost",
            "a_zeroed_state_partition_is_made_anew",
        ]),
    ),
    (
        "L card",
        "another card with the same names is taken for the device's own",
        Tests(&[
            "the_root_has_the_number_that_a_release_names",
            "a_clone_on_a_second_card_is_not_booted",
        ]),
    ),
    (
        "L table",
        "a partition table is lost, and the kernel waits for ever",
        Tests(&[
            "a_lost_table_comes_back_and_its_neighbours_stay",
            "a_lost_partition_table_comes_back_from_the_second",
            "without_a_partition_table_the_kernel_restarts",
        ]),
    ),
    (
        "L seed",
        "a seed that somebody has chosen, or that comes again, makes the random numbers of a boot",
        Tests(&["a_seed_is_mixed_in_without_a_privilege"]),
    ),
    (
        "L words",
        "what a component has said last is lost with it",
        Tests(&["signs_are_heard_until_the_stub_is_gone", "a_last_word_is_heard"]),
    ),
    (
        "K connections",
        "the kernel's one table of connections is filled: by an app with questions or connections, by a stranger with handshakes or answers",
        Tests(&[
            "no_new_connection_is_accepted_but_through_a_limit",
            "whatever_the_device_takes_is_not_followed",
            "a_share_is_what_the_limits_on_an_apps_paths_let_through",
            "the_table_of_connections_has_room_for_every_app_and_a_reserve",
            "one_stranger_has_no_more_connections_than_its_share",
            "many_strangers_use_up_no_connections_of_others",
            "what_strangers_send_to_the_device_itself_is_not_followed",
        ]),
    ),
    (
        "K unaccepted",
        "what waits in connections that nobody accepts is on nobody's account, and takes all memory",
        Tests(&["an_app_listens_where_it_has_a_tcp_server_port_and_nowhere_else"]),
    ),
    (
        "K pools",
        "processes, open files, sockets' memory, closed connections or neighbours of all namespaces are used up by one",
        Tests(&["no_pool_is_smaller_than_all_shares_and_the_reserve"]),
    ),
    (
        "K memory",
        "more memory or storage is promised than the machine has, or one port twice",
        Tests(&[
            "what_is_admitted_fits_together",
            "what_was_built_for_a_machine_is_started_on_it",
            "what_is_asked_for_and_not_there_is_named_with_its_field_and_remedy",
            "a_package_with_more_memory_than_is_left_is_refused",
            "a_package_with_more_storage_than_is_left_is_refused",
        ]),
    ),
    (
        "K killer",
        "the kernel ends a service, or somebody innocent, where memory runs out, and the log blames the wrong one",
        Tests(&[
            "the_killer_takes_every_app_before_any_service",
            "the_killer_of_the_kernel_is_led_to_apps",
            "who_ran_out_of_memory_is_said_as_it_was",
        ]),
    ),
    (
        "K writes",
        "an app with little storage wears the medium out, or keeps it from others",
        Tests(&[
            "no_day_has_more_than_the_budget_and_the_slow_rate",
            "a_budget_that_is_used_up_slows_down_once_until_the_day_is_over",
            "a_rate_that_bites_is_told_once_a_day",
            "a_storm_of_writes_is_slowed_down_and_told",
        ]),
    ),
    (
        "K journal",
        "an app wears the medium out with directories and names alone",
        Open(
            "what the journal of the file system writes is on the kernel's account, which no control group limits; the quota bounds how many there are, not how often",
        ),
    ),
    (
        "I evidence",
        "evidence is replayed, relayed, or of something else than what runs",
        Tests(&[
            "a_replayed_check_in_is_refused",
            "evidence_relayed_over_another_connection_is_refused",
            "each_of_10_000_nonces_differs",
            "a_quote_of_other_pcrs_is_refused",
            "a_wrong_pcr_gets_no_certificate",
            "claims_that_disagree_with_the_measurement_get_no_certificate",
            "an_attestation_key_of_another_tpm_is_refused",
        ]),
    ),
    (
        "I keys",
        "a certificate is made out for a key that the device's TPM does not hold for this release and purpose",
        Tests(&[
            "a_key_outside_the_tpm_is_not_certified",
            "a_certified_key_with_another_policy_is_refused",
            "a_key_that_was_certified_for_another_purpose_is_refused",
            "an_unrestricted_attestation_key_is_not_enrolled",
            "a_credential_for_another_tpm_is_not_opened",
        ]),
    ),
    (
        "I copies",
        "a device is copied, or its state or its TPM is put back",
        Tests(&[
            "a_copied_software_device_is_found",
            "a_copied_device_is_found",
            "a_tpm_clock_that_went_back_is_a_finding",
            "a_device_does_not_change_its_kind",
        ]),
    ),
    (
        "I catalogs",
        "somebody enrols, sees or changes what is another's",
        Tests(&[
            "another_catalogs_device_is_not_seen",
            "a_catalogs_rows_are_not_seen_from_another",
            "every_operation_judges_every_role_token_product_and_catalog_as_the_table_says",
            "an_emulated_tpm_is_refused_by_a_catalog_that_does_not_take_it",
            "two_first_enrolments_of_one_secret_have_one_winner",
            "a_stranger_who_begins_enrolments_does_not_end_the_device_s_own",
        ]),
    ),
    (
        "I apps",
        "an app has something else signed than its own handshakes, by another's key, or so much that others wait",
        Tests(&[
            "an_app_has_nothing_signed_but_handshakes",
            "an_app_without_the_grant_has_no_socket",
            "what_is_signed_is_the_example_of_the_rfc",
            "an_app_that_floods_identity_is_limited_and_others_go_on",
            "an_app_that_asks_for_much_waits_for_those_that_ask_for_little",
            "no_more_is_read_than_is_answered",
        ]),
    ),
    (
        "I service",
        "the service is made to wait, to grow, or to forget what it has answered",
        Tests(&[
            "who_is_slow_is_closed_and_nobody_waits_for_him",
            "a_body_of_more_than_16_kib_is_refused_whatever_its_headers_say",
            "a_device_is_told_to_go_on_before_it_sends_its_body_or_to_come_later",
            "an_address_has_as_many_connections_as_it_may",
            "a_header_from_an_address_that_is_not_listed_is_refused",
            "no_answer_is_given_before_it_is_stored",
            "a_worker_opens_connects_executes_and_begins_nothing",
            "a_crash_storm_costs_one_worker_and_one_that_fails_harms_nobody",
        ]),
    ),
    (
        "I reports",
        "somebody reports for another's device, makes failures up, or has reports pile up",
        Tests(&[
            "another_catalogs_certificate_reports_nothing",
            "a_device_cannot_report_for_another",
            "an_apps_certificate_reports_nothing",
            "a_device_reaches_the_groups_of_its_own_product_alone",
            "groups_of_several_devices_are_not_displaced_by_one_that_makes_some_up",
            "what_a_device_can_keep_of_reports_is_bounded",
            "reports_beyond_the_limit_are_refused_with_a_time",
            "what_a_group_switches_off_is_not_stored",
        ]),
    ),
    (
        "I peers",
        "an app talks to a device that is of another catalog, out of date, for updates alone, or not verified at all",
        Tests(&[
            "a_peer_of_another_catalog_is_refused",
            "a_peer_whose_release_is_too_old_is_refused",
            "a_peer_whose_certificate_is_good_for_updates_alone_is_refused",
            "a_peer_whose_certificate_has_ended_is_refused",
            "another_app_another_device_and_another_grade_are_refused",
            "two_apps_connect_by_tls_13_and_know_each_other",
            "tls_12_is_refused",
        ]),
    ),
    (
        "N names",
        "a granted name opens more than its addresses, or names carry something else",
        Tests(&[
            "what_is_sent_holds_nothing_of_the_app_but_the_granted_name",
            "a_public_name_never_leads_to_somebody_near",
            "a_name_of_the_link_leads_to_the_link_and_nowhere_else",
            "a_service_is_open_at_the_port_that_it_names_and_nowhere_else",
            "no_packet_of_an_attack_leaves_the_device",
        ]),
    ),
    (
        "N packets",
        "packets that no grant covers, or more than one app may send",
        Tests(&["a_packet_passes_exactly_where_a_grant_covers_it"]),
    ),
    (
        "N neighbours",
        "other apps, services and the device itself are reached",
        Tests(&[
            "apps_talk_where_both_name_each_other_and_nowhere_else",
            "the_device_itself_answers_to_nobody",
            "the_network_reaches_server_ports_and_nothing_else",
        ]),
    ),
    (
        "N strangers",
        "whoever is on the network makes the device wait, grow, or believe",
        Tests(&[
            "exchanges_on_networks_as_they_are_end_as_they_should",
            "no_server_makes_it_send_in_a_storm",
            "no_server_makes_it_ask_in_a_storm",
            "no_server_makes_it_connect_in_a_storm",
            "two_questions_at_the_bound_wait_for_a_place_and_for_no_longer_than_a_connection",
            "a_length_beyond_the_bounds_is_refused_before_what_it_announces",
            "a_server_that_drips_is_left_at_the_deadline",
            "no_question_to_a_name_server_stays_in_the_table",
            "however_much_is_said_the_list_is_bounded",
            "routers_that_do_not_agree_make_nobody_ask_more_often",
            "somebody_who_answers_for_every_address_keeps_none_of_them",
            "a_rogue_dhcp_server_is_not_believed",
        ]),
    ),
    (
        "U install",
        "software of somebody else is installed, or other than what was released",
        Tests(&[
            "update_attack_arbitrary_install",
            "update_attack_wrong_software",
            "update_attack_for_another_device",
            "a_server_that_the_image_does_not_trust_is_not_listened_to",
        ]),
    ),
    (
        "U keys",
        "some of the keys are stolen",
        Tests(&[
            "update_attack_key_compromise_below_threshold",
            "update_attack_fast_forward",
            "update_attack_issued_in_the_future",
            "an_oem_leads_the_clock_nowhere_where_the_os_has_expired",
        ]),
    ),
    (
        "U extraneous",
        "a repository releases what is not its own",
        Tests(&["update_attack_extraneous_dependencies"]),
    ),
    (
        "U endless",
        "a download never ends, or is drawn out",
        Tests(&[
            "update_attack_endless_data",
            "update_attack_slow_retrieval",
            "a_device_fetches_no_more_in_a_day_than_it_may",
        ]),
    ),
    (
        "U withheld",
        "requests are dropped",
        Tests(&["update_attack_drop_request", "a_download_goes_on_where_it_broke_off"]),
    ),
    (
        "U veto",
        "packets are dropped after an update, so that the device gives the release up for good",
        Tests(&[
            "a_release_that_cannot_reach_the_service_falls_back",
            "a_release_that_could_not_reach_the_service_is_tried_again",
        ]),
    ),
    (
        "U garbage",
        "a server without a key has the other slot given up, or written again and again",
        Tests(&[
            "update_attack_garbage_costs_no_slot",
            "nothing_of_a_part_is_handed_on_that_is_not_what_was_released",
        ]),
    ),
    (
        "U medium",
        "the medium keeps something else than was written",
        Tests(&["a_write_that_the_medium_loses_is_noticed_before_the_reboot"]),
    ),
    (
        "U agents",
        "an agent that was taken over does the other's work",
        Tests(&["no_service_faces_the_network_and_writes_what_boots"]),
    ),
    (
        "P console",
        "what apps print keeps PID 1 at a slow serial line until the watchdog fires",
        Tests(&[
            "no_more_than_the_burst_and_the_rate",
            "a_flood_of_output_is_bounded_and_harmless",
        ]),
    ),
    (
        "P device",
        "a serial line is left such that the next open waits for ever",
        Tests(&["no_open_waits", "whatever_a_component_left_behind_is_gone"]),
    ),
    (
        "P drain",
        "a serial line that another process closes holds the next open until it has sent all it had",
        Tests(&["a_line_that_still_sends_keeps_nobody_waiting"]),
    ),
    (
        "P start",
        "an app with little of a processor keeps PID 1 while it is started",
        Tests(&[
            "a_child_that_reports_nothing_is_not_waited_for",
            "a_restart_storm_does_not_delay_others",
        ]),
    ),
    (
        "M release",
        "a device passes for one that runs another release than it does: by a slot that was only looked at, or by measuring behind its own",
        Tests(&[
            "what_the_boot_loader_measures_is_the_fit_and_nothing_behind_it",
            "pcr_8_is_the_digest_of_the_release_that_runs_after_each_start",
            "an_update_changes_pcr_8_to_the_new_release",
            "a_slot_that_failed_to_start_is_measured_too",
        ]),
    ),
    (
        "M silence",
        "a TPM that is missing, fails, is slow, or says nothing keeps the device from booting, or its silence counts as an answer",
        Tests(&[
            "a_tpm_that_may_be_missing_is_looked_for_before_it_is_touched",
            "a_device_without_its_tpm_boots_and_says_so",
            "a_tpm_in_failure_mode_is_left_alone_and_said",
            "a_tpm_that_stops_answering_does_not_hold_up_the_boot",
            "a_slow_tpm_is_waited_for_and_one_that_is_too_slow_is_not",
        ]),
    ),
    (
        "M late silence",
        "a TPM that has answered the boot loader and never answers the kernel keeps the device from booting",
        Open(
            "the kernel waits two minutes for its first answer, as if it came from a TPM 1.2; a watchdog that runs by then resets the board, and the boot loader finds the TPM silent",
        ),
    ),
    (
        "M reset",
        "a TPM that is not reset with the board, or without it, shows what another run has measured",
        Open(
            "it is the board's wiring: porting.md demands the reset pin, and no verifier takes a PCR 8 that did not begin at zero",
        ),
    ),
    (
        "M platform",
        "the OS, once taken over, clears the TPM or changes its endorsement seed by the platform hierarchy, whose authorisation nobody has set",
        Open(
            "U-Boot 2023.01 has no command that closes it; the device loses its identity that way, and gets no other's",
        ),
    ),
    (
        "P before",
        "what hangs before there is a PID 1, in the boot loader or the kernel, hangs for ever",
        Tests(&["every_board_arms_its_watchdog_before_init_or_says_why_not"]),
    ),
    (
        "P look",
        "a large package on a slow medium keeps PID 1 until the watchdog fires",
        Tests(&["looks_come_to_an_end", "a_turn_ends_before_the_watchdog_does"]),
    ),
    (
        "P tries",
        "whatever resets the device before it is healthy uses up both slots",
        Tests(&["resets_before_health_do_not_cost_a_good_slot"]),
    ),
    (
        "P names",
        "a name that a process gives itself or a file begins a line of the kernel's log, or drives its terminal",
        Tests(&["a_name_begins_no_line_of_the_log"]),
    ),
    (
        "P all",
        "apps use up everything that is shared at once: processors, console, notify sockets, processes, memory, storage",
        Tests(&["hostile_apps_all_at_once_delay_neither_init_nor_others"]),
    ),
];
