//! `/openapi.json`: the same as the table of endpoints, for programs. Committed as `docs/openapi.json`.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{acts, apps, door::Reader, events, gateway, metrics, problem, report};

#[derive(OpenApi)]
#[openapi(
    info(title = "Loir", description = "The admin side of a Loir gateway: see docs/admin.md.", contact(), license(name = "Apache-2.0 OR MIT")),
    paths(
        apps::list, apps::one, acts::wake, acts::sleep, acts::pin, acts::unpin, acts::wake_link, events::find, events::live, report::report,
        gateway::config, gateway::reload, gateway::live, gateway::ready, metrics::scrape, document,
    ),
    components(schemas(problem::Body, report::Format, apps::StateName)),
    security(("token" = [])),
    modifiers(&Common),
)]
struct Document;

/// What holds for every operation.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("a token of `admin.tokens`, or the one of the first start"))
            .build();
        api.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
        for item in api.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                refusals(operation);
            }
        }
    }
}

fn refusals(operation: &mut Operation) {
    let has_parameters = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let names_app = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| matches!(parameter, RefOr::T(one) if one.name == "provider"));
    let has_body = operation.request_body.is_some();
    let all = [
        (true, "401", "no token, or one that nobody has"),
        (true, "403", "the token's scope is too small, or a page of another site asks"),
        (
            true,
            "429",
            "too many wrong tokens came from this client: the field Retry-After says when it is heard again",
        ),
        (has_parameters || has_body, "400", "what was sent is not understood"),
        (names_app, "404", "there is no such app"),
        (has_body, "413", "the body is too large"),
        (has_body, "415", "the body is no JSON"),
        (has_body, "422", "the body says something else than what is wanted"),
    ];
    for (_, status, description) in all.into_iter().filter(|(applies, ..)| *applies) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
}

/// The document as it is committed.
pub fn json() -> serde_json::Value {
    serde_json::to_value(Document::openapi()).unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "gateway", responses((status = 200, body = Object)))]
pub async fn document(_: Reader) -> Json<serde_json::Value> {
    Json(json())
}
