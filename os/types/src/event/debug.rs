//! Events of the debug service, which development images alone hold.

events! {
    /// The service was started without the name of the app to debug.
    DEBUG_ARGUMENT_MISSING = "debug_argument_missing";
    /// init handed over no line to the debugger.
    DEBUG_LINE_MISSING = "debug_line_missing";
    /// The debug port of an app takes a debugger from now on.
    DEBUG_PORT_OPENED = "debug_port_opened";
    /// A debugger has sent its first byte.
    DEBUGGER_CONNECTED = "debugger_connected";
    /// The debugger has let the app go on without it.
    DEBUGGER_DETACHED = "debugger_detached";
    /// The debugger has ended the app.
    DEBUGGER_KILLED_APP = "debugger_killed_app";
    /// The connection to the debugger broke; the app goes on without it.
    DEBUGGER_LOST = "debugger_lost";
    /// The app has ended while it was debugged.
    DEBUGGED_APP_ENDED = "debugged_app_ended";
    /// A session could not be begun or ended: the line failed, or the app cannot be traced.
    DEBUG_SESSION_FAILED = "debug_session_failed";
}
