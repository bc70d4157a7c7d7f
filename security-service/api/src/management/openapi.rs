//! The OpenAPI document of management, made from the handlers.

use super::openapi_forms::say_forms;
use super::{
    approvals, catalogs, deployments, devices, exports, logs, overview, releases, reports,
    repositories, roles, sessions, symbols, threats, timeline, tokens, transfers, webhooks,
};
use holdfast_service_domain::problem::Problem;
use std::collections::BTreeSet;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as OpenApiDocument, Ref, RefOr, Response, ResponseBuilder};

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
        catalogs::show_group,
        catalogs::put_group,
        catalogs::authorities,
        deployments::default_groups,
        deployments::list,
        deployments::create,
        deployments::show,
        deployments::devices,
        deployments::act,
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
        repositories::show,
        repositories::set_root,
        repositories::take,
        repositories::files,
        repositories::put_file,
        symbols::list,
        symbols::show,
        symbols::put,
        symbols::remove,
        releases::makers,
        releases::put_maker,
        logs::findings,
        logs::close_finding,
        threats::list,
        threats::show,
        threats::close,
        threats::contain,
        threats::release,
        threats::thresholds,
        threats::set_thresholds,
        threats::catalog_thresholds,
        threats::set_catalog_thresholds,
        reports::reports,
        reports::crashes,
        reports::show_crash,
        reports::close,
        reports::reopen,
        logs::audit,
        logs::verify_audit,
        tokens::first_owner,
        tokens::list,
        tokens::make,
        tokens::remove,
        transfers::list,
        transfers::show,
        transfers::offer,
        transfers::approve,
        transfers::withdraw,
        transfers::accept,
        webhooks::list,
        webhooks::make,
        webhooks::remove,
        webhooks::test,
        overview::overview,
        overview::crash_days,
        overview::reasons,
        overview::deliveries,
        overview::status,
        timeline::timeline,
        sessions::providers,
        sessions::begin,
        sessions::callback,
        sessions::begin_device,
        sessions::poll_device,
        sessions::show,
        sessions::end,
        roles::list,
        roles::give,
        roles::revoke,
        approvals::list,
        approvals::show,
        approvals::approve,
        approvals::reject,
        approvals::renew_authority,
        approvals::checkpoint,
        approvals::make_checkpoint,
        exports::record,
    )
)]
struct Document;

/// Returns the OpenAPI document.
#[must_use]
pub fn document() -> OpenApiDocument {
    let mut document = Document::openapi();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", token.clone());
    components.add_security_scheme("session", token);
    say_problems(&mut document);
    say_forms(&mut document);
    document
}

/// Says of each operation with which statuses it may be refused: those of problems, each of which is a document of one form.
fn say_problems(document: &mut OpenApiDocument) {
    let statuses: BTreeSet<u16> = Problem::ALL.iter().map(|problem| problem.status()).collect();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            for status in &statuses {
                operation.responses.responses.insert(status.to_string(), problem(*status));
            }
        }
    }
}

/// A refusal of this status.
fn problem(status: u16) -> RefOr<Response> {
    let titles = Problem::ALL.iter().filter(|problem| problem.status() == status);
    let titles: Vec<&str> = titles.map(|problem| problem.title()).collect();
    let content = Content::new(Some(Ref::from_schema_name("ProblemShape")));
    let response = ResponseBuilder::new().description(titles.join("; "));
    RefOr::T(response.content("application/problem+json", content).build())
}

#[cfg(test)]
mod tests {
    use super::super::needs::{NEEDS, Who};
    use super::*;

    #[test]
    fn every_operation_but_the_first_owners_and_a_sign_in_needs_a_token() {
        let document = serde_json::to_value(document()).unwrap();
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                let secured = operation["security"].as_array().is_some_and(|list| !list.is_empty());
                let name = format!("{} {path}", method.to_uppercase());
                let need = NEEDS.iter().find(|need| need.operation == name);
                let need = need.unwrap_or_else(|| panic!("{name} has no row in `needs`"));
                assert_eq!(secured, need.who != Who::Anybody, "{name}");
            }
        }
        assert_eq!(operations, 94, "of the routes");
        assert_eq!(NEEDS.len(), operations, "rows of operations that are not there");
    }

    #[test]
    fn every_refusal_is_said_to_be_a_problem() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["components"]["schemas"]["ProblemShape"].is_object());
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for problem in Problem::ALL {
                    let refused = &operation["responses"][problem.status().to_string()];
                    let schema = &refused["content"]["application/problem+json"]["schema"];
                    let expected = "#/components/schemas/ProblemShape";
                    assert_eq!(schema["$ref"], expected, "{method} {path} {problem:?}");
                }
            }
        }
    }
}
