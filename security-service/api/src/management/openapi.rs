//! The OpenAPI document of management, made from the handlers.

use super::{catalogs, devices, logs, releases, tokens};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast Security Service",
        description = "Management of catalogs and their devices"
    ),
    paths(
        catalogs::list,
        catalogs::make,
        catalogs::show,
        catalogs::change,
        catalogs::products,
        catalogs::put_product,
        catalogs::groups,
        catalogs::put_group,
        catalogs::authorities,
        devices::list,
        devices::show,
        devices::claim,
        devices::move_to,
        devices::quarantine,
        devices::end_quarantine,
        devices::retire,
        releases::list,
        releases::add,
        releases::withdraw,
        releases::restore,
        releases::makers,
        releases::put_maker,
        logs::findings,
        logs::close_finding,
        logs::audit,
        logs::verify_audit,
        tokens::first_owner,
        tokens::list,
        tokens::make,
        tokens::remove,
    )
)]
struct Document;

/// Returns the OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", token);
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_but_the_first_owners_needs_a_token() {
        let document = serde_json::to_value(document()).unwrap();
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                let secured = operation["security"].as_array().is_some_and(|list| !list.is_empty());
                assert_eq!(secured, !path.contains("first-owner"), "{method} {path}");
            }
        }
        assert_eq!(operations, 30, "of the routes");
    }
}
