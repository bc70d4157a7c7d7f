//! Deployments: drafted, shown, stopped and given up.

use crate::installation::Installation;
use serde_json::json;

#[test]
fn deployments_are_drafted_shown_and_given_up() {
    let installation = Installation::owned();
    installation.succeeds(&["product", "create", "pump"]);
    installation.succeeds(&["device-group", "create-defaults", "--product", "pump"]);
    let groups = installation.succeeds(&["device-group", "list", "--product", "pump"]);
    for group in ["development", "field-test", "production"] {
        assert!(groups.contains(group), "{groups}");
    }
    let of_group = ["--product", "pump", "--group", "production", "--version", "1.5.0"];
    let create = [&["deployment", "create"][..], &of_group].concat();
    let made = installation.json(&create);
    assert_eq!((&made["state"], &made["production"]), (&json!("draft"), &json!(true)));
    let id = made["id"].as_str().unwrap();
    let shown = installation.succeeds(&["deployment", "show", id, "--devices"]);
    assert!(shown.contains("it waits for the approval of somebody else than"), "{shown}");
    let list = installation.succeeds(&["deployment", "list"]);
    assert!(list.contains(id) && list.contains("draft"), "{list}");
    // A release that nobody has added cannot succeed.
    installation.fails(1, &["deployment", "approve", id], &["404", "release of this version"]);
    installation.fails(1, &["deployment", "pause", id], &["409 conflict", "it is draft"]);
    let stages =
        [&create[..], &["--stages", "50:12,1000:0", "--window", "sa,su 02:00-04:00+60"]].concat();
    let own = installation.json(&[&stages[..], &["--deadline-hours", "48"]].concat());
    let expected = json!([{"permille": 50, "soak_s": 43_200}, {"permille": 1000, "soak_s": 0}]);
    assert_eq!((&own["stages"], &own["deadline_s"]), (&expected, &json!(172_800)));
    installation.fails(
        1,
        &[&create[..], &["--stages", "50:12"]].concat(),
        &["400 malformed", "stages: "],
    );
    installation.fails(
        1,
        &[&create[..], &["--preset", "soon"]].concat(),
        &["400 malformed", "preset: "],
    );
    installation.succeeds(&["deployment", "withdraw", id]);
    assert_eq!(installation.json(&["deployment", "show", id])["state"], "withdrawn");
    let off = ["device-group", "update", "production", "--product", "pump", "--update", "off"];
    installation.succeeds(&off);
    let shown = installation.json(&["device-group", "show", "production", "--product", "pump"]);
    assert_eq!((&shown["update"], &shown["production"]), (&json!("off"), &json!(true)));
}
