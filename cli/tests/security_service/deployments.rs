//! Deployments: drafted, shown, stopped and given up.

use crate::installation::{Installation, id as id_of};
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
    let share = |permille: u16, soak_s: u64| json!({"permille": permille, "listed": null, "soak_s": soak_s});
    let expected = json!([share(50, 43_200), share(1000, 0)]);
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
    // A laboratory's devices first.
    let ids = [id_of(1), id_of(2)];
    std::fs::write(
        installation.at("lab.txt"),
        format!("# the laboratory\n{}\n\n{}\n", ids[0], ids[1]),
    )
    .unwrap();
    let listed = [&create[..], &["--stages", "@lab.txt:24,1000:0"]].concat();
    installation.fails(
        1,
        &listed,
        &["400 malformed", "stages[0].devices: ", &ids[0], "is no device of the catalog"],
    );
    for device in &ids {
        let claim = ["device", "claim", device, "--grade", "hardware"];
        let group = ["--product", "pump", "--group", "production"];
        installation.succeeds(&[&claim[..], &group].concat());
    }
    let made = installation.json(&listed);
    assert_eq!(made["stages"][0], json!({"permille": null, "listed": 2, "soak_s": 86_400}));
    let nowhere = [&create[..], &["--stages", "@nothing.txt:24,1000:0"]].concat();
    installation.fails(1, &nowhere, &["nothing.txt"]);
    installation.succeeds(&["deployment", "withdraw", id]);
    assert_eq!(installation.json(&["deployment", "show", id])["state"], "withdrawn");
    let off = ["device-group", "update", "production", "--product", "pump", "--update", "off"];
    installation.succeeds(&off);
    let shown = installation.json(&["device-group", "show", "production", "--product", "pump"]);
    assert_eq!((&shown["update"], &shown["production"]), (&json!("off"), &json!(true)));
}
