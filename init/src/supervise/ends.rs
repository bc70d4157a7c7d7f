//! How components have ended, for the service that reports it.

use super::Supervision;
use holdfast_linux::clock::monotonic_ms;
use holdfast_sandbox::wire::{ComponentEnd, EndCause, EndedApp, Reply};
use holdfast_types::Millis;

impl Supervision<'_> {
    pub(super) fn record_end(&mut self, component: usize, cause: EndCause, ran_ms: Millis) {
        let (Some(ends), Some(supervised)) = (&mut self.ends, self.components.get(component))
        else {
            return;
        };
        let package = supervised.component.package.as_ref();
        let app = package.map(|package| {
            let [a, b, c, d, e, f, g, h, ..] = package.header.root_hash;
            EndedApp {
                id: package.header.component_id,
                version: package.header.version,
                package: [a, b, c, d, e, f, g, h],
            }
        });
        let seconds = |ms: Millis| u32::try_from(ms / 1000).unwrap_or(u32::MAX);
        ends.push(ComponentEnd {
            name: supervised.component.name.clone(),
            app,
            cause,
            ran_s: seconds(ran_ms),
            uptime_s: seconds(monotonic_ms()),
            count: 1,
        });
    }

    /// Hands on what is recorded, and forgets it.
    pub(super) fn take_ends(&mut self) -> Reply {
        Reply::Ends(self.ends.as_mut().map(|ends| ends.take()).unwrap_or_default())
    }
}
