//! Products and their groups.

use super::threats::sorted_threats;
use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::mood::{self, Mood};
use crate::page::{Given, Page, Paging};
use crate::place::Place;
use crate::rows::{Deployment, Group, Listed, Threat, Threshold};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

/// Products of a page.
const PRODUCTS: &str = "20";

#[derive(Debug, Serialize, Deserialize)]
struct Product {
    name: String,
    groups: Listed<Group>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ListDocument {
    products: Vec<Product>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "groups.html")]
struct ListBody<'a> {
    viewer: &'a Viewer,
    document: &'a ListDocument,
    paging: Paging,
}

/// Lists products with their groups.
pub(crate) async fn groups(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let after = given.of_query("after")?;
    let asked = Query::default().with("after", after).with("limit", PRODUCTS);
    let names: Listed<String> = ask.get("/products", &asked).await?;
    let mut products = Vec::new();
    for name in names.items {
        let groups = ask.get(&format!("/products/{name}/groups"), &Query::default()).await?;
        products.push(Product { name, groups });
    }
    let document = ListDocument { products, next: names.next };
    let path = viewer.to(Place::Groups);
    let paging = Paging::new(&path, &Query::default(), after, document.next.as_ref());
    let body = ListBody { viewer, document: &document, paging };
    Page::new("Products and groups", &document, &body)
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupDocument {
    product: String,
    group: Group,
    deployments: Vec<Deployment>,
    threats: Listed<Threat>,
    thresholds: Listed<Threshold>,
}

#[derive(Template)]
#[template(path = "group.html")]
struct GroupBody<'a> {
    viewer: &'a Viewer,
    document: &'a GroupDocument,
    threats: Vec<&'a Threat>,
}

/// Shows a group.
pub(crate) async fn group(
    ask: &Ask,
    viewer: &Viewer,
    (product, name): (&str, &str),
) -> Result<Page, Failure> {
    let none = Query::default();
    let path = format!("/products/{product}/groups/{name}");
    let group: Group = ask.get(&path, &none).await?;
    let most = Query::default().with("limit", "1000");
    let deployments: Listed<Deployment> = ask.get("/deployments", &most).await?;
    let of_group = Query::default().with("product", product).with("group", name);
    let document = GroupDocument {
        product: product.to_owned(),
        group,
        deployments: deployments
            .items
            .into_iter()
            .filter(|one| one.product == product && one.group == name)
            .collect(),
        threats: ask.get("/threats", &of_group).await?,
        thresholds: ask.get(&format!("{path}/thresholds"), &none).await?,
    };
    let threats = sorted_threats(&document.threats.items);
    let body = GroupBody { viewer, document: &document, threats };
    let page = Page::new(format!("{product}/{name}"), &document, &body)?;
    Ok(page.below("Products and groups", viewer.to(Place::Groups)))
}
