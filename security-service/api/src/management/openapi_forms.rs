//! Forms of parameters in the OpenAPI document: what identifies something has one, and what may be left out is not therefore null.

use utoipa::Number;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Schema};

/// Forms of parameters of paths, by name.
const FORMS: [(&str, &str); 7] = [
    ("catalog", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
    ("device", "^[0-9a-f]{64}$"),
    ("sha256", "^[0-9a-f]{64}$"),
    ("boot", "^[0-9a-f]{64}$"),
    ("build_id", "^([0-9a-f]{2}){8,32}$"),
    ("repository", "^(os|oem)$"),
    ("product", NAME),
];
/// The form of what an owner names.
const NAME: &str = "^[a-z0-9][a-z0-9._-]{0,49}$";
/// The one kind of paths in which `group` is a group of failures, and no name.
const CRASHES: &str = "/crashes/";
/// The header of a precondition, and its form: `*`, or entity tags (RFC 9110, 8.8.3).
const IF_MATCH: (&str, &str) = ("If-Match", "^(\\*|\"[0-9]{1,19}\"(, ?\"[0-9]{1,19}\")*)$");

/// Says of each parameter of each operation which form it has.
pub(super) fn say_forms(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    say_form(path, parameter);
                }
            }
        }
    }
}

fn say_form(path: &str, parameter: &mut Parameter) {
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    if let SchemaType::Array(types) = &schema.schema_type
        && let Some(said) = types.iter().find(|one| **one != Type::Null)
    {
        schema.schema_type = SchemaType::Type(said.clone());
    }
    match parameter.parameter_in {
        ParameterIn::Path => {
            let form = FORMS.into_iter().find(|(name, _)| *name == parameter.name);
            let is_name = parameter.name == "group" && !path.contains(CRASHES);
            let form = form.map(|(_, form)| form).or(is_name.then_some(NAME));
            schema.pattern = form.map(str::to_owned);
        }
        ParameterIn::Header if parameter.name == IF_MATCH.0 => {
            schema.pattern = Some(IF_MATCH.1.to_owned());
        }
        ParameterIn::Query if parameter.name == "limit" => {
            // More than a page has is a page.
            schema.format = None;
            schema.minimum = Some(Number::UInt(0));
            schema.maximum = Some(Number::UInt(usize::try_from(u32::MAX).unwrap_or(usize::MAX)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::document;
    use serde_json::json;

    #[test]
    fn a_parameter_is_where_the_path_or_the_query_has_it_and_has_its_form() {
        let document = serde_json::to_value(document()).unwrap();
        let (mut in_paths, mut in_queries) = (0, 0);
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let parameters = operation["parameters"].as_array();
                for parameter in parameters.into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    let said = format!("{method} {path} {name}: {parameter}");
                    let is_of_path = path.contains(&format!("{{{name}}}"));
                    assert_eq!(parameter["in"] == "path", is_of_path, "{said}");
                    assert!(!parameter["schema"]["type"].is_array(), "{said}");
                    in_paths += usize::from(is_of_path);
                    if parameter["in"] == "query" {
                        in_queries += 1;
                        assert_ne!(parameter["required"], true, "{said}");
                    }
                    if name == "device" || name == "catalog" || name == "If-Match" {
                        assert!(parameter["schema"]["pattern"].is_string(), "{said}");
                    }
                }
                let named = path.matches('{').count();
                let of_path = parameters.into_iter().flatten().filter(|one| one["in"] == "path");
                assert_eq!(of_path.count(), named, "{method} {path}");
            }
        }
        assert!(in_paths > 100 && in_queries > 30, "{in_paths} and {in_queries}");
        let list = &document["paths"]["/v1/catalogs"]["get"]["parameters"];
        let limit = list.as_array().unwrap().iter().find(|one| one["name"] == "limit").unwrap();
        assert_eq!(
            limit["schema"],
            json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u64})
        );
    }
}
