//! The debug port of an app: a service of development images that nobody writes into a manifest.

use crate::board::TEST_LINE;
use crate::manifest::{ImageManifest, Service};
use holdfast_sandbox::app_manifest::Limits;
use holdfast_sandbox::policy::Requests;

/// The service, and the package and the program that it is.
const NAME: &str = "debug";
const PACKAGE: &str = "holdfast-debug";

/// Has the image's app of that name wait for a debugger, which comes over the board's line for tests.
pub fn add(manifest: &mut ImageManifest, app: &str) {
    manifest.debugged = Some(app.to_owned());
    manifest.services.push(Service {
        name: NAME.to_owned(),
        package: PACKAGE.to_owned(),
        binary: NAME.to_owned(),
        args: vec![app.to_owned()],
        ready_within_ms: None,
        watchdog_ms: None,
        critical: false,
        descriptors: vec![TEST_LINE.to_owned()],
        // To trace the app, whose uid is another, and to let it go on.
        capabilities: ["CAP_SYS_PTRACE", "CAP_KILL"].map(str::to_owned).to_vec(),
        requests: Requests::default(),
        system_view: true,
        limits: Limits::default(),
        test_only: true,
        debugger: true,
    });
}
