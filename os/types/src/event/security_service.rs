//! Events of the Security Service, which runs on a host and logs to its standard error.

events! {
    /// It listens for devices and for management.
    SERVICE_LISTENING = "service_listening";
    /// It was told to end, and answers what it is being asked.
    SERVICE_ENDING = "service_ending";
    /// A connection could not be accepted, as while there are no more descriptors.
    ACCEPT_FAILED = "accept_failed";
    /// Connections did not end in time, and were closed.
    CONNECTIONS_CUT = "connections_cut";
    /// The service's own certificate could not be made or read anew; the old one is used until it ends.
    SERVER_CERTIFICATE_RENEWAL_FAILED = "server_certificate_renewal_failed";
    /// The database failed, and the request was not answered.
    STORE_FAILED = "store_failed";
    /// The first owner has taken the ticket, and has a token.
    FIRST_OWNER_MADE = "first_owner_made";
    /// Somebody has signed in by a provider.
    SIGNED_IN = "signed_in";
    /// A sign-in was refused.
    SIGN_IN_REFUSED = "sign_in_refused";
    /// The provider that people sign in by does not answer as it should.
    PROVIDER_FAILED = "provider_failed";
    /// No checkpoint of an audit log was signed or kept; the next is tried an hour later.
    AUDIT_CHECKPOINT_FAILED = "audit_checkpoint_failed";
    /// A device is enrolled.
    DEVICE_ENROLLED = "device_enrolled";
    /// A device was refused enrolment.
    ENROLMENT_REFUSED = "enrolment_refused";
    /// Evidence is not that of the device, of this connection, or of the form that is taken.
    EVIDENCE_REFUSED = "evidence_refused";
    /// A device whose evidence is good was refused certificates.
    CHECK_IN_REFUSED = "check_in_refused";
    /// Releases were taken from the signed metadata of a repository that is watched.
    RELEASES_TAKEN = "releases_taken";
    /// Metadata of releases was refused; what was known before stays.
    METADATA_REFUSED = "metadata_refused";
    /// A file of symbols could not be read: the worker that reads it did not answer.
    SYMBOL_WORKER_FAILED = "symbol_worker_failed";
    /// A file of symbols could not be written or removed.
    SYMBOLS_STORE_FAILED = "symbols_store_failed";
    /// A file of a release could not be written, read or removed.
    RELEASE_FILES_FAILED = "release_files_failed";
    /// A connection from a listed load balancer did not begin with a header of the PROXY protocol that is taken.
    PROXY_HEADER_REFUSED = "proxy_header_refused";
    /// Something was found about a device, which stays open until somebody closes it.
    FINDING_NOTED = "finding_noted";
    /// Threat detection has found something in a fleet, or what it had found is worse or goes on after it was closed.
    THREAT_FOUND = "threat_found";
    /// A group has as many open findings as are kept, and what was found beside them is not.
    THREATS_LEFT_OUT = "threats_left_out";
    /// Threats could not be evaluated, since the database has failed; it is tried again.
    DETECTION_FAILED = "detection_failed";
    /// Rows could not be read, or the threats of a group not be stored; the others are evaluated.
    DETECTION_ROWS_DAMAGED = "detection_rows_damaged";
    /// Threat detection reads what devices have reported more slowly than it comes.
    DETECTION_BEHIND = "detection_behind";
    /// More was reported than the windows of threat detection have room for; what the fewest devices have was left out.
    DETECTION_WINDOWS_FULL = "detection_windows_full";
    /// A device's reports were refused: its certificate, its state or its group does not let it report.
    REPORTS_REFUSED = "reports_refused";
    /// A batch of reports had more failures or counters than one adds to; the records are kept.
    REPORTS_LEFT_OUT = "reports_left_out";
    /// What was reported long ago could not be removed, or what devices run not be counted; it is tried again.
    REPORTS_UPKEEP_FAILED = "reports_upkeep_failed";
    /// Deployments could not be taken further; it is tried again.
    DEPLOYMENTS_FAILED = "deployments_failed";
    /// The authority of a new catalog could not be made.
    AUTHORITY_FAILED = "authority_failed";
    /// A certificate could not be issued.
    ISSUING_FAILED = "issuing_failed";
    /// The next issuing certificate of a catalog could not be made; the last one is used until it ends.
    ISSUING_RENEWAL_FAILED = "issuing_renewal_failed";
    /// The next issuing certificate of a catalog is due, and the key of its root is kept elsewhere.
    ISSUING_RENEWAL_WAITS = "issuing_renewal_waits";
    /// An alert could not be delivered, and is tried again.
    ALERT_DELIVERY_FAILED = "alert_delivery_failed";
    /// An alert could not be delivered, and is not tried again.
    ALERT_GIVEN_UP = "alert_given_up";
    /// Alerts were too old to be delivered.
    ALERTS_DROPPED = "alerts_dropped";
    /// What is to be delivered could not be read, or what was delivered not be written; it is tried again.
    ALERTS_STORE_FAILED = "alerts_store_failed";
    /// Nobody vouches for receivers of alerts: the system has no file of authorities, and the settings name none.
    ALERT_AUTHORITIES_MISSING = "alert_authorities_missing";
    /// It listens for whoever collects metrics.
    METRICS_LISTENING = "metrics_listening";
    /// The disk has less room than before, and what needs more is refused.
    DISK_LOW = "disk_low";
    /// The disk has room again.
    DISK_RECOVERED = "disk_recovered";
    /// A row of the audit log is not the one that was written, or is missing.
    AUDIT_LOG_BROKEN = "audit_log_broken";
}
