//! Events of init.

events! {
    /// init runs: which image, which version, for which board, and when.
    IMAGE_STARTED = "image_started";
    /// The image believes development keys and is not for production.
    DEVELOPMENT_IMAGE = "development_image";
    /// init met an error that it cannot go on with, and reboots.
    INIT_FAILED = "init_failed";
    /// init panicked, and reboots.
    INIT_PANICKED = "init_panicked";
    /// The memory of init could not be locked; the kernel may take it back and read it again from the medium.
    MEMORY_LOCK_FAILED = "memory_lock_failed";
    /// The hardware watchdog resets the machine from now on where init does not pet it.
    WATCHDOG_ARMED = "watchdog_armed";
    /// The kernel has found no hardware watchdog.
    WATCHDOG_MISSING = "watchdog_missing";
    /// The machine is about to restart.
    REBOOTING = "rebooting";
    /// The machine is about to be switched off.
    POWERING_OFF = "powering_off";
    /// The kernel refused to restart the machine or to switch it off.
    SHUTDOWN_FAILED = "shutdown_failed";

    /// The disk that the root lies on has no partition of this name.
    PARTITION_MISSING = "partition_missing";
    /// It could not be found out whether there is a partition of this name.
    PARTITION_LOOKUP_FAILED = "partition_lookup_failed";
    /// A partition could not be mounted; it is kept as it is, and the device runs without it.
    PARTITION_MOUNT_FAILED = "partition_mount_failed";
    /// A partition could not be unmounted before the end.
    PARTITION_UNMOUNT_FAILED = "partition_unmount_failed";
    /// A partition that held nothing but zeros has an empty file system again.
    PARTITION_RECREATED = "partition_recreated";
    /// A partition could not be given an empty file system.
    PARTITION_RECREATE_FAILED = "partition_recreate_failed";
    /// The torn superblock of a partition was repaired.
    SUPERBLOCK_REPAIRED = "superblock_repaired";
    /// The superblock of a partition could not be repaired.
    SUPERBLOCK_REPAIR_FAILED = "superblock_repair_failed";
    /// The primary partition table was lost and made of the backup.
    PARTITION_TABLE_RESTORED = "partition_table_restored";
    /// The backup partition table was written to the end of the disk.
    PARTITION_TABLE_BACKED_UP = "partition_table_backed_up";
    /// Both copies of the partition table are damaged.
    PARTITION_TABLES_DAMAGED = "partition_tables_damaged";
    /// A copy of the partition table could not be read or written.
    PARTITION_TABLE_REPAIR_FAILED = "partition_table_repair_failed";

    /// No earlier boot has left an entropy seed.
    ENTROPY_SEED_MISSING = "entropy_seed_missing";
    /// The entropy seed could not be read or mixed into the kernel's pool.
    ENTROPY_SEED_LOAD_FAILED = "entropy_seed_load_failed";
    /// The entropy seed for the next boot could not be written.
    ENTROPY_SEED_PERSIST_FAILED = "entropy_seed_persist_failed";

    /// The time that the clock shows at the start, its source and its floor.
    CLOCK_STARTED = "clock_started";
    /// A claim about the time was judged, and the clock stepped, slewed or left as it is.
    CLOCK_CLAIM_JUDGED = "clock_claim_judged";
    /// The kernel did not take a time.
    CLOCK_SET_FAILED = "clock_set_failed";
    /// The clock floor could not be read from `state`; that of the image holds.
    CLOCK_FLOOR_READ_FAILED = "clock_floor_read_failed";
    /// The floor of the clock could not be written to `state`.
    CLOCK_FLOOR_PERSIST_FAILED = "clock_floor_persist_failed";

    /// The rollback floor of the OS could not be read from `state`; it is zero for this boot.
    OS_FLOOR_READ_FAILED = "os_floor_read_failed";
    /// The rollback floor of the OS could not be written to `state`.
    OS_FLOOR_PERSIST_FAILED = "os_floor_persist_failed";
    /// The table of uids and rollback floors of apps is damaged; no app is started.
    UID_TABLE_DAMAGED = "uid_table_damaged";
    /// The table of uids could not be read; no app is started.
    UID_TABLE_READ_FAILED = "uid_table_read_failed";
    /// The table of uids could not be written to `state`.
    UID_TABLE_PERSIST_FAILED = "uid_table_persist_failed";

    /// The board has a TPM that did not answer the boot loader or the kernel; nothing uses it in this run.
    TPM_FAILED = "tpm_failed";
    /// What the boot loader says of the TPM could not be read; it counts as failed.
    TPM_STATE_READ_FAILED = "tpm_state_read_failed";

    /// The log of the last run could not be read; why the machine was reset is unknown.
    LAST_LOG_READ_FAILED = "last_log_read_failed";
    /// The partition of the boot state could not be opened.
    BOOT_STATE_OPEN_FAILED = "boot_state_open_failed";
    /// The boot state could not be read.
    BOOT_STATE_READ_FAILED = "boot_state_read_failed";
    /// Both copies of the boot state are damaged.
    BOOT_STATE_DAMAGED = "boot_state_damaged";
    /// A step of an update could not be written to the boot state.
    BOOT_STATE_CHANGE_FAILED = "boot_state_change_failed";
    /// The tries of the running slot could not be written back.
    SLOT_TRIES_PERSIST_FAILED = "slot_tries_persist_failed";
    /// The tries of a slot that is refused could not be taken.
    SLOT_GIVE_UP_FAILED = "slot_give_up_failed";
    /// The running slot was committed: it has all its tries, and the floors rise.
    SLOT_COMMITTED = "slot_committed";
    /// The commit of the running slot could not be saved.
    SLOT_COMMIT_FAILED = "slot_commit_failed";
    /// A partition of a slot could not be opened for the update agent.
    SLOT_OPEN_FAILED = "slot_open_failed";
    /// A copy of the boot loader was written and read back.
    BOOT_LOADER_WRITTEN = "boot_loader_written";
    /// The boot loader could not be updated; one of its copies is whole.
    BOOT_LOADER_UPDATE_FAILED = "boot_loader_update_failed";

    /// A critical component did not stay ready; the device reboots, and what is on trial is given up.
    BOOT_UNHEALTHY = "boot_unhealthy";
    /// The update agent did not agree to the release on trial in time; the device reboots.
    RELEASE_NOT_AGREED = "release_not_agreed";
    /// Every component is asked to end.
    COMPONENTS_STOPPING = "components_stopping";
    /// A component or the update agent asked for a reboot or a power-off.
    SHUTDOWN_REQUESTED = "shutdown_requested";

    /// A component was started.
    COMPONENT_STARTED = "component_started";
    /// A step of a component's start failed; nothing of it runs.
    COMPONENT_START_FAILED = "component_start_failed";
    /// A component said that it is ready.
    COMPONENT_READY = "component_ready";
    /// A component ended: with which code or signal, and how much memory it had used at most.
    COMPONENT_ENDED = "component_ended";
    /// A component will be started again after a pause.
    COMPONENT_RESTART_SCHEDULED = "component_restart_scheduled";
    /// A component ended so often that the pause between its starts is the longest.
    COMPONENT_CRASH_LOOP = "component_crash_loop";
    /// A component was killed, since it was not ready in time.
    COMPONENT_READY_TIMEOUT = "component_ready_timeout";
    /// A component was killed, since it missed its watchdog.
    COMPONENT_WATCHDOG_TIMEOUT = "component_watchdog_timeout";
    /// A component was killed, since it did not end when asked.
    COMPONENT_STOP_TIMEOUT = "component_stop_timeout";
    /// The control group of a component could not be killed.
    COMPONENT_KILL_FAILED = "component_kill_failed";
    /// A service asked for a component to be started, stopped or restarted.
    COMPONENT_CONTROL_REQUESTED = "component_control_requested";
    /// A component asked for something that its plan does not grant.
    REQUEST_DENIED = "request_denied";
    /// A component sent a message that is no request.
    REQUEST_INVALID = "request_invalid";
    /// Two services could not be given a socket to each other.
    SERVICE_CONNECT_FAILED = "service_connect_failed";
    /// No netlink socket could be opened in the network namespace of an app.
    NETLINK_OPEN_FAILED = "netlink_open_failed";
    /// The socket at which an app hears of updates could not be handed to the update agent.
    UPDATE_SOCKET_FAILED = "update_socket_failed";
    /// The socket at which an app authenticates could not be handed to `identity`.
    IDENTITY_SOCKET_FAILED = "identity_socket_failed";
    /// The kernel's id of this boot could not be read, so that the device cannot attest what it runs.
    BOOT_ID_READ_FAILED = "boot_id_read_failed";
    /// The board has a TPM whose device could not be opened.
    TPM_OPEN_FAILED = "tpm_open_failed";

    /// A component reached its limit of memory, and a process of it was killed.
    MEMORY_LIMIT_REACHED = "memory_limit_reached";
    /// A process of a component was killed, since the machine had no memory left.
    OUT_OF_MEMORY = "out_of_memory";
    /// The services may take more memory than the machine has; no app is started.
    MEMORY_OVERCOMMITTED = "memory_overcommitted";
    /// A component reached its limit of processes, and forks were refused.
    PROCESS_LIMIT_REACHED = "process_limit_reached";
    /// A component writes as fast as it may.
    WRITE_RATE_REACHED = "write_rate_reached";
    /// A component has written as much as it may in a day, and is slowed down.
    WRITE_BUDGET_SPENT = "write_budget_spent";
    /// A new day has begun for a component whose budget was spent.
    WRITE_BUDGET_RENEWED = "write_budget_renewed";
    /// The rate at which a component writes could not be set, changed or lifted.
    WRITE_LIMIT_FAILED = "write_limit_failed";
    /// The kernel cannot limit what components write.
    WRITE_LIMIT_UNSUPPORTED = "write_limit_unsupported";

    /// The package of an app was validated and is used: version, rollback index, uid, and whether it is on trial.
    APP_ADMITTED = "app_admitted";
    /// The package of an app or its plan is refused, and the app is not started.
    APP_REFUSED = "app_refused";
    /// The package of an app is signed with a development key.
    APP_DEVELOPMENT_KEY = "app_development_key";
    /// The app waits for a debugger when it is started.
    APP_DEBUGGED = "app_debugged";
    /// The current package of an app is refused, and its previous one runs.
    APP_RUNS_PREVIOUS = "app_runs_previous";
    /// A block of an app's package does not verify; the app is not started again.
    APP_PACKAGE_DAMAGED = "app_package_damaged";
    /// The previous package of an app takes the place of the damaged one; the device reboots.
    APP_FELL_BACK = "app_fell_back";
    /// The previous package of an app could not take the place of the damaged one.
    APP_FALLBACK_FAILED = "app_fallback_failed";
    /// A new package of an app is staged for the next start.
    APP_STAGED = "app_staged";
    /// A new package of an app could not be staged.
    APP_STAGE_FAILED = "app_stage_failed";
    /// A try of an app's new package could not be taken; the current one is used.
    APP_TRIAL_BEGIN_FAILED = "app_trial_begin_failed";
    /// The new package of an app is refused; the current one is used.
    APP_TRIAL_REFUSED = "app_trial_refused";
    /// The new package of an app failed and was removed.
    APP_TRIAL_GIVEN_UP = "app_trial_given_up";
    /// The new package of an app failed and could not be removed.
    APP_TRIAL_REMOVE_FAILED = "app_trial_remove_failed";
    /// The new package of an app has proved to be healthy and is the current one.
    APP_COMMITTED = "app_committed";
    /// The new package of an app could not be made the current one.
    APP_COMMIT_FAILED = "app_commit_failed";
    /// The package of an app could not be unmounted.
    APP_UNMOUNT_FAILED = "app_unmount_failed";
    /// The sandboxed process that validates a package ended without an answer.
    ADMISSION_FAILED = "admission_failed";
    /// The sandboxed process that validates a package could not be killed.
    ADMISSION_KILL_FAILED = "admission_kill_failed";

    /// The disks that the system does not run from could not be listed.
    CARD_LOOKUP_FAILED = "card_lookup_failed";
    /// A card could not be read, or does not have the order to reset.
    CARD_CHECK_FAILED = "card_check_failed";
    /// The image has no program that could validate an order to reset.
    RESET_ORDER_UNCHECKED = "reset_order_unchecked";
    /// No card confirms the order to reset that the update agent has found.
    RESET_ORDER_UNCONFIRMED = "reset_order_unconfirmed";
    /// The order to reset could not be recorded for the next start.
    RESET_ORDER_PERSIST_FAILED = "reset_order_persist_failed";
    /// The order of the owner was taken; the device reboots and resets itself.
    RESET_ORDERED = "reset_ordered";
    /// A partition was erased by a reset.
    PARTITION_ERASED = "partition_erased";
    /// The reset is done.
    RESET_DONE = "reset_done";
    /// The reset failed, and is tried again at the next start.
    RESET_FAILED = "reset_failed";
    /// That the reset is done could not be recorded; it is repeated at the next start.
    RESET_DONE_PERSIST_FAILED = "reset_done_persist_failed";
    /// The floors of the OS and of the clock could not be written back after a reset.
    RESET_FLOOR_RESTORE_FAILED = "reset_floor_restore_failed";
    /// The rollback floor of an app could not be written back after a reset.
    RESET_APP_FLOOR_RESTORE_FAILED = "reset_app_floor_restore_failed";
}
