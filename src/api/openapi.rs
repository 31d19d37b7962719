//! The OpenAPI document, made from the handlers, the list of vendors and the code table, so that none of them
//! can drift from it; and Swagger UI, which shows it.

use std::collections::BTreeMap;

use actix_web::dev::ResourceDef;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, guard, route, web};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as OpenApiDocument, Ref, RefOr, Required};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::batch::Batch;
use crate::error::{CODES, Code, CodeInfo, PROBLEM_JSON, Problem};
use crate::providers::{Info, VENDORS, Vendor};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "phone-gateway",
        description = "One REST contract in front of every vendor that finds or validates phone numbers in bulk.\n\n\
            * Enumerations are **open**: accept words that are added later.\n\
            * A field that a vendor did not fill is **absent**, never `null` and never empty.\n\
            * Every error is `application/problem+json` (RFC 9457); branch on its `code`.\n\
            * Send `X-Request-Id` and `traceparent` if you have them; every response carries both.",
    ),
    components(schemas(Batch, Problem)),
    tags(
        (name = "batches", description = "Batches of phone numbers, whichever vendor handles them"),
        (name = "operations", description = "For the platform team; no key, no vendor call"),
    ),
    modifiers(&GatewayKey),
)]
struct Base;

/// The key of a client, as `Authorization: Bearer`.
struct GatewayKey;

impl Modify for GatewayKey {
    fn modify(&self, document: &mut OpenApiDocument) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A gateway key, `pgw_…`. The sandbox asks for none."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("gateway_key", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI document and what follows from it.
#[derive(Debug)]
pub struct Document {
    json: Bytes,
    methods: Vec<(ResourceDef, String)>,
}

impl Document {
    /// The document of this build.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which is a defect.
    pub fn build() -> serde_json::Result<Self> {
        let app = actix_web::App::new().into_utoipa_app().openapi(Base::openapi());
        let (_, mut document) = app.configure(super::routes).split_for_parts();
        open_enumerations(&mut document);
        let mut value = serde_json::to_value(&document)?;
        never_null(&mut value);
        let mut json = serde_json::to_string_pretty(&value)?;
        json.push('\n');
        Ok(Self { json: json.into(), methods: methods(&document.paths) })
    }

    /// The document as JSON text.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The methods of a path, as `Allow` lists them; none if there is no such path.
    #[must_use]
    pub fn allowed_methods(&self, path: &str) -> Option<&String> {
        self.methods.iter().find(|(resource, _)| resource.is_match(path)).map(|(_, methods)| methods)
    }
}

/// Says of every enumeration that more words may come, so that generated clients accept them.
fn open_enumerations(document: &mut OpenApiDocument) {
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        if let RefOr::T(Schema::Object(words)) = schema
            && words.enum_values.is_some()
        {
            let description = words.description.take();
            let any_word = ObjectBuilder::new().schema_type(Type::String);
            let open = AnyOfBuilder::new().item(words.clone()).item(any_word).description(description);
            *schema = RefOr::T(Schema::AnyOf(open.build()));
        }
    }
}

/// Takes `null` out of every schema: utoipa allows it wherever a field may be absent, and no field is ever null.
fn never_null(value: &mut Value) {
    if let Some(Value::Array(types)) = value.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            value["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = value.get_mut("oneOf") {
        choices.retain(|schema| *schema != json!({"type": "null"}));
        if let [only] = choices.as_slice() {
            *value = only.clone();
        }
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(never_null),
        Value::Object(fields) => fields.values_mut().for_each(never_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every path with its methods; whatever can be read with GET can be asked for with HEAD.
fn methods(paths: &Paths) -> Vec<(ResourceDef, String)> {
    let allow = |item: &utoipa::openapi::PathItem| {
        let methods = [
            (item.get.is_some(), "GET, HEAD"),
            (item.post.is_some(), "POST"),
            (item.put.is_some(), "PUT"),
            (item.patch.is_some(), "PATCH"),
            (item.delete.is_some(), "DELETE"),
        ];
        methods.iter().filter(|(has, _)| *has).map(|(_, method)| *method).collect::<Vec<_>>().join(", ")
    };
    let api = paths.paths.iter().map(|(path, item)| (ResourceDef::new(path.as_str()), allow(item)));
    let docs = [DOCS].into_iter().chain(DOCS_SHORTHANDS);
    api.chain(docs.map(|path| (ResourceDef::new(path), "GET".to_owned()))).collect()
}

const DOCS: &str = "/docs/{file:.*}";
const DOCS_SHORTHANDS: [&str; 2] = ["/", "/docs"];

/// This document
///
/// Made from the handlers, so it is true of the gateway that serves it.
#[utoipa::path(
    get,
    operation_id = "get_openapi",
    tag = "operations",
    path = "/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json", body = Object)),
)]
#[route("/openapi.json", method = "GET", method = "HEAD")]
pub(super) async fn get_openapi(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.json.clone())
}

/// Swagger UI at `/docs/`, over the document at `/openapi.json`.
pub(super) fn swagger_ui(config: &mut web::ServiceConfig) {
    let ui = Config::from("/openapi.json").try_it_out_enabled(true).display_request_duration(true);
    let to_docs =
        || web::get().to(async || HttpResponse::Found().insert_header((LOCATION, "/docs/")).finish());
    for path in DOCS_SHORTHANDS {
        config.service(web::resource(path).guard(guard::Get()).route(to_docs()));
    }
    config.service(SwaggerUi::new(DOCS).config(ui));
}

/// The path of a batch, with the vendors and the ids that the sandbox has ready.
pub(super) struct BatchParams;

impl IntoParams for BatchParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let slugs = VENDORS.iter().map(|vendor| vendor.info.slug);
        let vendors: Vec<_> = VENDORS
            .iter()
            .map(|Vendor { info, .. }| {
                let kept = info.retention_days.map(|days| format!(", kept for {days} days"));
                let Info { slug, name, documentation, max_records, .. } = info;
                let kept = kept.unwrap_or_default();
                format!("* `{slug}`: [{name}]({documentation}), up to {max_records} records a batch{kept}")
            })
            .collect();
        let ready_made = VENDORS.iter().flat_map(|vendor| {
            vendor.simulator.ready_made.iter().map(move |batch| {
                let summary = format!("{}: {}", vendor.info.slug, batch.shows);
                let name = format!("{} {}", vendor.info.slug, batch.id);
                (name, json!({"summary": summary, "value": batch.id}))
            })
        });
        // utoipa's parameters know a single `example` only.
        let examples = Extensions::from_iter([("examples", Value::Object(ready_made.collect()))]);
        vec![
            ParameterBuilder::new()
                .name("provider")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some(format!("Slug of the vendor:\n{}", vendors.join("\n"))))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(slugs))))
                .build(),
            ParameterBuilder::new()
                .name("id")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The vendor's own id of the batch. The examples exist in the sandbox."))
                .schema(Some(
                    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]{1,64}$")),
                ))
                .extensions(Some(examples))
                .build(),
            ParameterBuilder::new()
                .name("If-None-Match")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Entity tag of the document that you have; 304 if it is the current one."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build(),
        ]
    }
}

/// Every answer to the reading of a batch.
pub(super) struct BatchResponses;

impl IntoResponses for BatchResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let examples = VENDORS.iter().flat_map(|Vendor { info, examples, .. }| {
            examples.iter().map(|example| {
                let value: Value = serde_json::from_str(example.json).unwrap_or_default();
                let summary = format!("{}: {}", info.name, example.shows);
                let name = format!("{}_{}", info.slug, example.name);
                (name, ExampleBuilder::new().summary(summary).value(Some(value)).build())
            })
        });
        let batch = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Batch")))
            .examples_from_iter(examples)
            .build();
        let found = ResponseBuilder::new()
            .description("The batch as it stands. `done` says whether it has come to its end.")
            .header("ETag", header("Strong entity tag of exactly this document"))
            .header("Retry-After", header("Seconds until asking again is useful; only while not done"))
            .header("Cache-Status", header("Where the answer came from, RFC 9211: hit, miss or collapsed"))
            .header("X-Request-Id", header("Id of the request: yours, or a new one"))
            .content("application/json", batch)
            .build();
        let unchanged =
            ResponseBuilder::new().description("The document that you have is the current one.").build();
        let mut responses =
            BTreeMap::from([("200".to_owned(), RefOr::T(found)), ("304".to_owned(), RefOr::T(unchanged))]);
        // The others are answers of the routing and of other operations.
        responses.extend(problem_responses(|code| {
            !matches!(
                code,
                Code::InvalidRequest | Code::RouteNotFound | Code::MethodNotAllowed | Code::ShuttingDown
            )
        }));
        responses
    }
}

/// The answer of `/readyz` once the gateway is stopping.
pub(super) struct NotReady;

impl IntoResponses for NotReady {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problem_responses(|code| code == Code::ShuttingDown)
    }
}

/// One response for each status of the chosen rows of the code table.
fn problem_responses(chosen: impl Fn(Code) -> bool) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<&CodeInfo>>::new();
    for row in CODES.iter().filter(|row| chosen(row.code)) {
        by_status.entry(row.status).or_default().push(row);
    }
    let response = |rows: &[&CodeInfo]| {
        let list: Vec<_> = rows.iter().map(|row| format!("`{}`: {}", row.name, row.when)).collect();
        ResponseBuilder::new().description(list.join("\n\n")).content(PROBLEM_JSON, problems(rows))
    };
    let with_headers = |status: u16, rows: &[&CodeInfo]| match status {
        401 => response(rows).header("WWW-Authenticate", header("`Bearer`, RFC 6750")),
        503 => response(rows).header("Retry-After", header("Seconds until asking again is useful")),
        _ => response(rows),
    };
    by_status
        .iter()
        .map(|(status, rows)| (status.to_string(), RefOr::T(with_headers(*status, rows).build())))
        .collect()
}

fn header(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

fn problems(rows: &[&CodeInfo]) -> Content {
    let example = |row: &&CodeInfo| {
        let problem = json!({
            "type": format!("urn:phone-gateway:problem:{}", row.name),
            "title": row.title,
            "status": row.status,
            "detail": row.when,
            "instance": "/batches/provider/id",
            "code": row.name,
            "request_id": "01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d",
            "retryable": row.retryable,
        });
        (row.name, ExampleBuilder::new().summary(row.title).value(Some(problem)).build())
    };
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(rows.iter().map(example))
        .build()
}
