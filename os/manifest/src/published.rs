//! The schema written down: as a JSON schema for editors, and as a page for people.

use crate::schema::{CONNECTION, Field, Kind, Support, TOP_LEVEL, expected};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The JSON schema (draft 2020-12) of an app manifest, ending with a newline.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = of_kind(&Kind::Object(TOP_LEVEL));
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("Holdfast app manifest"));
    }
    format!("{schema:#}\n")
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::Text { most_bytes } => json!({"type": "string", "maxLength": most_bytes}),
        Kind::Guid => {
            json!({"type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"})
        }
        Kind::Version => json!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$"}),
        Kind::Path => json!({"type": "string", "pattern": "^(/[^/]+)+$", "maxLength": 255}),
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Host => json!({"type": "string", "maxLength": 254}),
        Kind::Connection => {
            json!({"anyOf": [of_kind(&Kind::Host), of_kind(&Kind::Object(CONNECTION))]})
        }
        Kind::Ports => json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65_535},
            {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"},
        ]}),
        Kind::Peripheral => json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 1023},
            {"type": "string", "pattern": "^\\$?[A-Za-z0-9_-]{1,64}$"},
        ]}),
        Kind::List { of, least, most, distinct } => {
            let mut list = json!({
                "type": "array", "items": of_kind(of), "maxItems": most, "uniqueItems": distinct,
            });
            if let Some(list) = list.as_object_mut().filter(|_| *least > 0) {
                list.insert("minItems".to_owned(), json!(least));
            }
            list
        }
        Kind::Object(fields) => {
            let mut properties = Map::new();
            for field in *fields {
                let mut property = of_kind(&field.kind);
                if let Some(property) = property.as_object_mut() {
                    property.insert("description".to_owned(), json!(field.about));
                }
                properties.insert(field.name.to_owned(), property);
            }
            let required: Vec<&str> =
                fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            json!({
                "type": "object", "properties": properties, "required": required,
                "additionalProperties": false,
            })
        }
    }
}

/// The reference page in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# App manifest\n\n\
         Written by a test of `os/manifest` (`HOLDFAST_WRITE_DOCS=1`); do not edit. Source: the table in\n\
         `os/manifest/src/schema.rs`, from which the check and the JSON schema\n\
         ([app_manifest.schema.json](app_manifest.schema.json), for editors) are made as well.\n\n\
         `app_manifest.json` says what an app is and everything it is granted. It follows schema\n\
         version 1 of Azure Sphere, whose manifests are accepted unchanged; what this OS adds\n\
         stands under `Holdfast`. What is not granted is denied. Unknown and duplicate fields are\n\
         errors.\n\n\
         \"Not yet\" means: part of the schema and accepted by `app check`, but an image cannot be\n\
         built with it (`not supported by this OS version`).\n",
    );
    table("Top level", TOP_LEVEL, &mut page);
    table("Objects in AllowedConnections", CONNECTION, &mut page);
    page
}

fn table(title: &str, fields: &[Field], page: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\n## {title}\n\n| field | value | in effect | |\n| --- | --- | --- | --- |\n"
    );
    for field in fields {
        let value = match field.kind {
            Kind::Object(_) => format!("object, see {}", field.name),
            kind => expected(&kind),
        };
        let support = match field.support {
            Support::Full => "yes",
            Support::NoEffect => "no effect",
            Support::NotYet => "not yet",
        };
        let required = if field.required { "; required" } else { "" };
        let _ = writeln!(
            page,
            "| `{}` | {value}{required} | {support} | {} |",
            field.name, field.about
        );
    }
    for field in fields {
        if let Kind::Object(fields) = field.kind {
            table(field.name, fields, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Compares with the file in the tree, or writes it where `HOLDFAST_WRITE_DOCS` is set.
    fn is_in_the_tree(file: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
        if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/{file} is stale; write it with \
             `HOLDFAST_WRITE_DOCS=1 cargo test --package holdfast-manifest published`"
        );
    }

    #[test]
    fn the_reference_in_docs_is_made_from_the_table() {
        is_in_the_tree("app_manifest.md", &reference());
    }

    #[test]
    fn the_json_schema_in_docs_is_made_from_the_table() {
        is_in_the_tree("app_manifest.schema.json", &json_schema());
    }
}
