//! Lines of the log, each of which ends in the name of its event.

use holdfast_types::event::Event;
use std::fmt::Display;

/// Prints a line of the log: `text`, in which whatever an app or the network has chosen is [`shown`], and its event.
pub(crate) fn log(event: Event, text: impl Display) {
    println!("{text} {event}");
}

/// Returns a name that an app or a neighbour has chosen as a line can bear it: the name neither begins another line
/// nor stands for an event, wherever init cuts a line that is too long.
pub(crate) fn shown(name: &str) -> String {
    holdfast_types::escape(name.as_bytes()).replace("event=", "event\\x3d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_neither_a_line_nor_an_event() {
        let name = "a\nnetwork: eth0: lease expired event=lease_expired._http._tcp.local";
        let expected =
            "a\\x0anetwork: eth0: lease expired event\\x3dlease_expired._http._tcp.local";
        assert_eq!(shown(name), expected);
    }
}
