//! The OpenAPI document, made of the same tables that register the routes, so that it cannot drift from them.

use protected_model::api::problem::{CORRELATION_HEADER, IDEMPOTENCY_HEADER, MEDIA_TYPE, Problem};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    endpoint::{Content, Credential, Endpoint},
    fractalops, local_issuer, oci, registry, sigstore,
};

/// Returns every endpoint of the service.
fn endpoints() -> impl Iterator<Item = Endpoint> {
    let tables = [
        fractalops::endpoints(),
        registry::endpoints(),
        oci::endpoints(),
        sigstore::endpoints(),
        local_issuer::endpoints(),
    ];
    tables.into_iter().flatten()
}

/// Returns the document: OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for endpoint in endpoints() {
        let operation = operation(&endpoint, &mut schemas);
        for path in endpoint.shown_paths() {
            let item = paths.entry(path).or_insert_with(|| json!({}));
            item[endpoint.method.as_str().to_ascii_lowercase()] = with_path_parameters(path, &operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "FractalOps packages, local",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "CI identity to short-lived npm token, records of hardened builds, audit and evidence, \
                            the npm registry that checks every claim again, tokens for a Docker registry, and a private \
                            Sigstore.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {
                "session": bearer("A CI session token, from the token endpoint"),
                "basic": {
                    "type": "http", "scheme": "basic",
                    "description": "Any user name, and a CI session token or a person's token as the password",
                },
                "npm": bearer("A short-lived npm token for one package"),
                "idToken": bearer("The CI platform's ID token"),
                "operator": bearer("The token in the data folder's `admin-token`"),
                "request": bearer("The local issuer's request token of one run"),
            },
        },
    })
}

fn bearer(description: &str) -> Value {
    json!({"type": "http", "scheme": "bearer", "description": description})
}

fn operation(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let mut parameters = vec![json!({
        "name": CORRELATION_HEADER, "in": "header", "schema": {"type": "string"},
        "description": "Carried through every request of a command, and echoed",
    })];
    if endpoint.takes_idempotency_key {
        parameters.push(json!({
            "name": IDEMPOTENCY_HEADER, "in": "header", "schema": {"type": "string"},
            "description": "The same key within 60 s gets the same answer",
        }));
    }
    for (name, description) in &endpoint.query {
        let schema = json!({"type": "string"});
        parameters.push(json!({"name": name, "in": "query", "schema": schema, "description": description}));
    }
    let mut responses = Map::new();
    for (status, description, content) in &endpoint.answers {
        let mut response = json!({"description": description});
        if let Some(content) = content {
            response["content"] = media(*content, schemas);
        }
        responses.insert(status.to_string(), response);
    }
    // Docker's clients read no other type.
    let docker = endpoint.credential == Credential::SessionOrBasic;
    let problem = Content::of::<Problem>(if docker { "application/json" } else { MEDIA_TYPE });
    responses.insert(
        "default".to_owned(),
        json!({"description": "A refusal or failure", "content": media(problem, schemas)}),
    );
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": responses,
        "security": security(endpoint.credential),
    });
    let mut bodies = Map::new();
    for content in &endpoint.bodies {
        if let Value::Object(media) = media(*content, schemas) {
            bodies.extend(media);
        }
    }
    if !bodies.is_empty() {
        operation["requestBody"] = json!({"required": true, "content": bodies});
    }
    operation
}

fn media(Content { media_type, schema }: Content, schemas: &mut SchemaGenerator) -> Value {
    let schema = schema.map_or_else(|| json!({}), |make| make(schemas).to_value());
    json!({media_type: {"schema": schema}})
}

fn security(credential: Credential) -> Value {
    match credential {
        Credential::None => json!([]),
        Credential::Session => json!([{"session": []}]),
        Credential::SessionOrBasic => json!([{"session": []}, {"basic": []}]),
        Credential::SessionOrOperator => json!([{"session": []}, {"operator": []}]),
        Credential::NpmToken => json!([{"npm": []}]),
        Credential::IdToken => json!([{"idToken": []}]),
        Credential::SessionOrIdToken => json!([{"session": []}, {"idToken": []}]),
        Credential::RequestToken => json!([{"request": []}]),
    }
}

fn with_path_parameters(path: &str, operation: &Value) -> Value {
    let mut operation = operation.clone();
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let schema = json!({"type": "string"});
            parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference);
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = openapi();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("local");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_route_is_shown() {
        let document = openapi();
        for endpoint in endpoints() {
            for path in endpoint.shown_paths() {
                let method = endpoint.method.as_str().to_ascii_lowercase();
                assert!(document["paths"][path][&method]["summary"].is_string(), "{method} {path}");
                assert!(!path.contains('*'), "{path} is no OpenAPI path");
            }
        }
    }
}
