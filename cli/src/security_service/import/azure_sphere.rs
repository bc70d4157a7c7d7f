//! What the Azure Sphere CLI prints of a catalog, and what it becomes here. Nothing is asked or written.
//!
//! The present CLI prints objects of Azure Resource Manager (`2024-04-01`), whose members are in `properties` or, where the CLI flattens them,
//! beside `name`; an object's place is in its `id`. The legacy CLI prints flat objects that name others by GUIDs. Members of both are
//! found whatever their case is.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Longest name here, in bytes.
const MAX_NAME_BYTES: usize = 50;
/// The feed that `Retail` becomes.
const RETAIL_FEED: &str = "retail";
/// The feed that `RetailEval` becomes.
const EVAL_FEED: &str = "eval";
/// The rule for names here, in one sentence.
pub(super) const NAME_RULE: &str =
    "a name has 1 to 50 of a-z, 0-9, `-`, `_` and `.`, and begins with a letter or a digit";

/// What is to be made, by names of ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Names of products.
    pub(super) products: BTreeSet<String>,
    /// Groups.
    pub(super) groups: Vec<Group>,
    /// Devices and where they were.
    pub(super) devices: Vec<Device>,
}

/// A device group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Name of its product here.
    pub(super) product: String,
    /// Its name here.
    pub(super) name: String,
    /// It takes releases of the OS from the feed for evaluation.
    is_eval: bool,
    /// Its devices are given no releases of apps.
    is_os_only: bool,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Its id in Azure Sphere: 128 hexadecimal digits.
    pub(super) id: String,
    /// Product and group here, if it was in any.
    pub(super) place: Option<(String, String)>,
}

impl Group {
    /// Returns its product and its name.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.product, self.name)
    }

    /// Returns what the service is asked to make.
    pub(super) fn body(&self) -> Value {
        let feed = if self.is_eval { EVAL_FEED } else { RETAIL_FEED };
        json!({ "least_index": 0, "grades": null, "feed": feed })
    }
}

impl Plan {
    /// Returns the devices as CSV.
    pub(super) fn places(&self) -> String {
        let mut text = "azure_sphere_device,product,group\n".to_owned();
        for device in &self.devices {
            let (product, group) = device.place.clone().unwrap_or_default();
            text.push_str(&format!("{},{product},{group}\n", device.id));
        }
        text
    }

    /// Returns what is not as it was, in sentences.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for group in &self.groups {
            let place = group.place();
            if group.is_eval {
                notes.push(format!(
                    "{place}: took the OS from the feed `RetailEval`, and follows `{EVAL_FEED}`: name that one under [update] feeds in the image manifest of its devices, and publish what they evaluate with `--feed {EVAL_FEED}`"
                ));
            }
            if group.is_os_only {
                notes.push(format!(
                    "{place}: took no apps (`No3rdPartyAppUpdates`); leave its product out of the releases of apps"
                ));
            }
        }
        notes
    }
}

/// Returns the objects of a printed list.
pub(super) fn objects(value: Value) -> Option<Vec<Value>> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(members) => {
            let is_list =
                |name: &str| ["value", "items"].contains(&name.to_ascii_lowercase().as_str());
            let list = members.into_iter().find(|(name, _)| is_list(name))?.1;
            list.as_array()?.clone()
        }
        _ => return None,
    };
    list.iter().all(Value::is_object).then_some(list)
}

/// Makes the plan. `renames` has names of ours by those of there.
///
/// # Errors
/// An object lacks what it is known by, names of there would be one here, or a group's product is not in the list.
pub(super) fn plan(
    products: &[Value],
    groups: &[Value],
    devices: &[Value],
    renames: &BTreeMap<String, String>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    // By every word for it: its name, and its GUID in the legacy form.
    let mut known_products: BTreeMap<String, String> = BTreeMap::new();
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (number, product) in (1..).zip(products) {
        let there =
            text(product, "name").with_context(|| format!("product {number}: has no name"))?;
        if is_reserved(&there) {
            continue;
        }
        let here = name(&there, renames)?;
        if let Some(other) = named.insert(here.clone(), there.clone()) {
            bail!(
                "products `{other}` and `{there}` would both be `{here}`; name one of them by --rename \"{there}=…\""
            );
        }
        known_products.insert(there.to_lowercase(), here.clone());
        known_products.extend(text(product, "id").map(|id| (id.to_lowercase(), here.clone())));
        plan.products.insert(here);
    }
    let mut known_groups: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut named: BTreeMap<(String, String), String> = BTreeMap::new();
    for (number, group) in (1..).zip(groups) {
        let there = text(group, "name").with_context(|| format!("group {number}: has no name"))?;
        let of = product_of(group);
        if is_reserved(&there) || of.as_deref().is_some_and(is_reserved) {
            continue;
        }
        let of = of.with_context(|| {
            format!("group `{there}`: has neither an id with its product nor a product id")
        })?;
        let product = known_products.get(&of.to_lowercase());
        let product = product.with_context(|| {
            format!("group `{there}`: its product `{of}` is not in the list of products")
        })?;
        let here = name(&there, renames)?;
        let place = (product.clone(), here.clone());
        if let Some(other) = named.insert(place.clone(), there.clone()) {
            ensure!(
                other == there,
                "groups `{other}` and `{there}` of {product} would both be `{here}`; name one of them by --rename \"{there}=…\""
            );
            continue;
        }
        known_groups
            .insert(format!("{}/{}", of.to_lowercase(), there.to_lowercase()), place.clone());
        known_groups.extend(text(group, "id").map(|id| (id.to_lowercase(), place)));
        let feed = word(group, "osFeedType");
        let policy = word(group, "updatePolicy");
        plan.groups.push(Group {
            product: product.clone(),
            name: here,
            is_eval: matches!(feed.as_deref(), Some("RetailEval" | "1")),
            is_os_only: matches!(policy.as_deref(), Some("No3rdPartyAppUpdates" | "1")),
        });
    }
    for (number, device) in (1..).zip(devices) {
        let id = text(device, "deviceId").or_else(|| text(device, "name"));
        let id = id.with_context(|| format!("device {number}: has no id"))?;
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(
            is_id,
            "device {number}: `{}` is no id: it has hexadecimal digits",
            id.escape_default()
        );
        let place = group_of(device).and_then(|group| known_groups.get(&group).cloned());
        plan.devices.push(Device { id: id.to_lowercase(), place });
    }
    Ok(plan)
}

/// True for what Azure Sphere has of itself, and nobody has made: `.default`, `.unassigned`.
fn is_reserved(name: &str) -> bool {
    name.starts_with('.')
}

/// A member of an object or of its `properties`, whatever its case is.
fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let find = |object: &'v Value| {
        let members = object.as_object()?;
        members.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    find(object).filter(|value| !value.is_null()).or_else(|| find(object.get("properties")?))
}

fn text(object: &Value, name: &str) -> Option<String> {
    member(object, name)?.as_str().map(str::to_owned).filter(|text| !text.is_empty())
}

/// A word, or the number that the legacy API has for it.
fn word(object: &Value, name: &str) -> Option<String> {
    match member(object, name)? {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What follows a part of a path of Azure Resource Manager, such as the product's name behind `products`.
fn behind(id: &str, part: &str) -> Option<String> {
    let mut parts = id.split('/');
    parts.find(|found| found.eq_ignore_ascii_case(part))?;
    parts.next().map(str::to_owned)
}

/// The name of a group's product, or its GUID.
fn product_of(group: &Value) -> Option<String> {
    let of_id = text(group, "id").and_then(|id| behind(&id, "products"));
    of_id.or_else(|| text(group, "productId")).or_else(|| text(group, "productName"))
}

/// What a device's group is known by.
fn group_of(device: &Value) -> Option<String> {
    let id = text(device, "id");
    let of_id = id.as_ref().and_then(|id| {
        let (product, group) = (behind(id, "products")?, behind(id, "deviceGroups")?);
        Some(format!("{}/{}", product.to_lowercase(), group.to_lowercase()))
    });
    of_id.or_else(|| text(device, "deviceGroupId").map(|id| id.to_lowercase()))
}

/// The name here: in lower case, with `-` in the place of what a name of ours does not have.
fn name(there: &str, renames: &BTreeMap<String, String>) -> Result<String> {
    if let Some(here) = renames.get(there) {
        return Ok(here.clone());
    }
    let mut here = String::new();
    for character in there.chars().flat_map(char::to_lowercase) {
        let is_kept = character.is_ascii_alphanumeric() || "_.".contains(character);
        if is_kept {
            here.push(character);
        } else if !here.is_empty() && !here.ends_with('-') {
            here.push('-');
        }
    }
    let here = here.trim_matches(|it: char| !it.is_ascii_alphanumeric());
    let there = there.escape_default();
    ensure!(is_name(here), "`{there}`: {NAME_RULE}; name it by --rename \"{there}=…\"");
    Ok(here.to_owned())
}

/// True if the service takes it as a name.
pub(super) fn is_name(text: &str) -> bool {
    let of_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.len() <= MAX_NAME_BYTES && text.bytes().all(of_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str =
        "/subscriptions/s/resourceGroups/r/providers/Microsoft.AzureSphere/catalogs/c";

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn list(value: Value) -> Vec<Value> {
        objects(value).unwrap()
    }

    #[test]
    fn a_catalog_of_the_present_cli_is_read() {
        let products = list(json!([
            {"id": format!("{CATALOG}/products/Dish Washer"), "name": "Dish Washer", "properties": {"description": "x"}},
            {"id": format!("{CATALOG}/products/.unassigned"), "name": ".unassigned"},
        ]));
        let group = |name: &str| format!("{CATALOG}/products/Dish Washer/deviceGroups/{name}");
        let groups = list(json!({"value": [
            {"id": group("Production"), "name": "Production", "properties":
                {"osFeedType": "Retail", "updatePolicy": "UpdateAll", "allowCrashDumpsCollection": "Disabled"}},
            {"id": group("OS Evaluation"), "name": "OS Evaluation", "osFeedType": "RetailEval",
                "updatePolicy": "No3rdPartyAppUpdates"},
        ]}));
        let (here, there) = ("AB".repeat(64), "cd".repeat(64));
        let devices = list(json!([
            {"id": format!("{}/devices/{here}", group("Production")), "name": here, "properties": {"deviceId": here, "chipSku": "MT3620AN"}},
            {"id": format!("{CATALOG}/products/.unassigned/deviceGroups/.unassigned/devices/{there}"), "name": there},
        ]));
        let plan = plan(&products, &groups, &devices, &none()).unwrap();
        assert_eq!(plan.products, BTreeSet::from(["dish-washer".to_owned()]));
        let places: Vec<String> = plan.groups.iter().map(Group::place).collect();
        assert_eq!(places, ["dish-washer/production", "dish-washer/os-evaluation"]);
        assert_eq!(plan.notes().len(), 2, "{:?}", plan.notes());
        let expected = format!(
            "azure_sphere_device,product,group\n{},dish-washer,production\n{there},,\n",
            here.to_lowercase()
        );
        assert_eq!(plan.places(), expected);
    }

    #[test]
    fn a_tenant_of_the_legacy_cli_is_read() {
        let products = list(json!([{"Id": "b0ba65bc", "Name": "Dishwasher", "Description": ""}]));
        let groups = list(json!({"Items": [
            {"Id": "C4B1067F", "ProductId": "b0ba65bc", "Name": "US region", "OsFeedType": 1, "UpdatePolicy": 0},
        ]}));
        let devices = list(json!([
            {"DeviceId": "ab".repeat(64), "DeviceGroupId": "c4b1067f", "ChipSku": 0},
            {"DeviceId": "cd".repeat(64), "DeviceGroupId": null},
        ]));
        let plan = plan(&products, &groups, &devices, &none()).unwrap();
        assert_eq!(plan.groups.len(), 1);
        assert!(plan.groups[0].is_eval && !plan.groups[0].is_os_only);
        let place = Some(("dishwasher".to_owned(), "us-region".to_owned()));
        assert_eq!(plan.devices[0].place, place);
        assert_eq!(plan.devices[1].place, None);
    }

    #[test]
    fn names_that_would_be_one_are_told_and_can_be_renamed() {
        let products = list(json!([{"name": "Dish Washer"}, {"name": "dish-washer"}]));
        let error = plan(&products, &[], &[], &none()).unwrap_err().to_string();
        assert!(error.contains("--rename \"dish-washer=…\""), "{error}");
        let renames = BTreeMap::from([("dish-washer".to_owned(), "other".to_owned())]);
        assert_eq!(plan(&products, &[], &[], &renames).unwrap().products.len(), 2);
        let strange = list(json!([{"name": "食洗機"}]));
        let error = plan(&strange, &[], &[], &none()).unwrap_err().to_string();
        assert!(error.contains("--rename"), "{error}");
    }

    #[test]
    fn what_lacks_its_place_is_refused_by_its_number_or_name() {
        let refused = |products: Value, groups: Value, devices: Value, said: &str| {
            let done = plan(&list(products), &list(groups), &list(devices), &none());
            let error = format!("{:#}", done.unwrap_err());
            assert!(error.contains(said), "{error}");
        };
        let nothing = || json!([]);
        refused(json!([{"id": "x"}]), nothing(), nothing(), "product 1: has no name");
        refused(nothing(), json!([{"name": "g"}]), nothing(), "group `g`: has neither");
        refused(
            nothing(),
            json!([{"name": "g", "productId": "p"}]),
            nothing(),
            "its product `p` is not",
        );
        refused(
            nothing(),
            nothing(),
            json!([{"deviceId": "a,b\n"}]),
            "device 1: `a,b\\n` is no id",
        );
        for no_list in
            [json!("text"), json!(7), json!([1]), json!({"value": 1}), json!({"other": []})]
        {
            assert_eq!(objects(no_list), None);
        }
    }
}
