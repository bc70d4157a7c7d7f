//! Catalogs of Azure Sphere, recreated.

use crate::installation::Installation;
use serde_json::json;
use std::fs;

#[test]
fn a_catalog_of_azure_sphere_is_recreated_once() {
    let installation = Installation::owned();
    let catalog = "/subscriptions/s/resourceGroups/r/providers/Microsoft.AzureSphere/catalogs/c";
    let group = |name: &str| format!("{catalog}/products/Dish Washer/deviceGroups/{name}");
    let id = "ab".repeat(64);
    let files = [
        (
            "products.json",
            json!([{"id": format!("{catalog}/products/Dish Washer"), "name": "Dish Washer"}]),
        ),
        (
            "groups.json",
            json!([
                {"id": group("Production"), "name": "Production", "osFeedType": "Retail"},
                {"id": group("Field Test"), "name": "Field Test", "osFeedType": "RetailEval"},
            ]),
        ),
        (
            "devices.json",
            json!([{"id": format!("{}/devices/{id}", group("Field Test")), "name": id}]),
        ),
    ];
    for (name, content) in files {
        fs::write(installation.at(name), content.to_string()).unwrap();
    }
    let import = |more: &[&'static str]| {
        let usual = [
            "import",
            "azure-sphere",
            "--products",
            "products.json",
            "--device-groups",
            "groups.json",
        ];
        [&usual[..], more].concat()
    };
    let said = installation.succeeds(&import(&["--dry-run"]));
    assert!(said.contains("group dish-washer/field-test: would be made"), "{said}");
    assert!(installation.items(&["product", "list"]).is_empty(), "nothing is made");
    let with_devices = import(&["--devices", "devices.json", "--places", "places.csv"]);
    let made = installation.json(&with_devices);
    assert_eq!(made["products"], json!(["dish-washer"]));
    assert_eq!(made["groups"], json!(["dish-washer/production", "dish-washer/field-test"]));
    assert!(made["notes"][0].as_str().unwrap().contains("RetailEval"), "{made}");
    let feed = |group: &str| {
        let show = ["device-group", "show", group, "--product", "dish-washer"];
        installation.json(&show)["feed"].clone()
    };
    assert_eq!((feed("production"), feed("field-test")), (json!("retail"), json!("eval")));
    let places = fs::read_to_string(installation.at("places.csv")).unwrap();
    assert_eq!(places, format!("azure_sphere_device,product,group\n{id},dish-washer,field-test\n"));
    let list = installation.succeeds(&["device-group", "list", "--product", "dish-washer"]);
    assert!(list.contains("production") && list.contains("field-test"), "{list}");
    // What is there stays, with whatever has been changed of it meanwhile.
    let update =
        ["device-group", "update", "production", "--product", "dish-washer", "--least-index", "3"];
    installation.succeeds(&update);
    let again = installation.json(&import(&[]));
    assert_eq!(
        (&again["products"], &again["groups"], &again["there"]),
        (&json!([]), &json!([]), &json!(3))
    );
    let show = ["device-group", "show", "production", "--product", "dish-washer"];
    assert_eq!(installation.json(&show)["least_index"], 3);
    fs::write(installation.at("groups.json"), "{}").unwrap();
    installation.fails(1, &import(&[]), &["groups.json", "is no list of objects", "-o json"]);
}
