//! Events of the update agent.

events! {
    /// The update agent met an error that it cannot work around, and ends; init starts it again.
    UPDATE_SERVICE_FAILED = "update_service_failed";
    /// A file of the agent on `state` could not be read or decoded; the agent begins without it.
    UPDATE_STATE_READ_FAILED = "update_state_read_failed";
    /// The record of releases that were staged, failed or postponed could not be written to `state`.
    UPDATE_RECORD_PERSIST_FAILED = "update_record_persist_failed";
    /// The metadata that was verified could not be written to `state`.
    UPDATE_METADATA_PERSIST_FAILED = "update_metadata_persist_failed";

    /// The metadata of a repository was refused: a signature, a version, an expiry or a hash is wrong.
    UPDATE_METADATA_REFUSED = "update_metadata_refused";
    /// A file of a repository could not be fetched.
    UPDATE_FETCH_FAILED = "update_fetch_failed";
    /// A repository has no release that this device should install.
    UPDATE_UP_TO_DATE = "update_up_to_date";
    /// The metadata says a time at which that of the OS repository has expired; the clock is not raised to it.
    UPDATE_CLOCK_RAISE_REFUSED = "update_clock_raise_refused";

    /// The agent begins to download a release.
    UPDATE_DOWNLOAD_STARTED = "update_download_started";
    /// A download broke off, and is resumed where it did.
    UPDATE_DOWNLOAD_RESUMED = "update_download_resumed";
    /// A release was downloaded, with how much of it had to be fetched.
    UPDATE_DOWNLOAD_FINISHED = "update_download_finished";
    /// The package that an app runs could not be read; its release is fetched without a delta.
    UPDATE_DELTA_BASE_READ_FAILED = "update_delta_base_read_failed";
    /// The file of a package that was not installed could not be removed.
    UPDATE_PACKAGE_REMOVE_FAILED = "update_package_remove_failed";
    /// A release was not installed: a download, a check or a write has failed.
    UPDATE_INSTALL_FAILED = "update_install_failed";
    /// A release is not tried again before a time is over.
    UPDATE_POSTPONED = "update_postponed";
    /// A release was written and verified, and is tried at the next start.
    UPDATE_STAGED = "update_staged";
    /// The release that was on trial is committed.
    UPDATE_COMMITTED = "update_committed";
    /// The release that was on trial has failed; the one before runs again.
    UPDATE_FELL_BACK = "update_fell_back";
    /// The release that was on trial could not reach the update server; the one before runs again.
    UPDATE_SERVER_UNREACHED = "update_server_unreached";

    /// The Security Service has assigned which releases may be taken.
    UPDATE_ASSIGNED = "update_assigned";
    /// What is assigned cannot be learnt from `uplink`; what was kept goes on.
    UPDATE_ASSIGNMENT_UNKNOWN = "update_assignment_unknown";
    /// The staged release may not be taken any more and is not tried.
    UPDATE_TAKEN_BACK = "update_taken_back";
    /// The reboot for a staged release waits for the maintenance window.
    UPDATE_REBOOT_SCHEDULED = "update_reboot_scheduled";
    /// An app puts the reboot for a staged release off.
    UPDATE_REBOOT_DEFERRED = "update_reboot_deferred";
    /// An app no longer puts the reboot for a staged release off.
    UPDATE_REBOOT_RELEASED = "update_reboot_released";
    /// A D-Bus connection of an app could not be accepted.
    UPDATE_APP_ACCEPT_FAILED = "update_app_accept_failed";
    /// The D-Bus connection of an app was closed after an error.
    UPDATE_APP_CONNECTION_FAILED = "update_app_connection_failed";

    /// A card holds a bundle of releases.
    UPDATE_CARD_FOUND = "update_card_found";
    /// A card could not be read, or holds a damaged bundle.
    UPDATE_CARD_READ_FAILED = "update_card_read_failed";
    /// init has accepted an order to reset from a card.
    UPDATE_RESET_ACCEPTED = "update_reset_accepted";
}
