//! The OpenAPI document, made from the handlers, the list of vendors and the code table, so that none of them
//! can drift from it; and Swagger UI, which shows it.

mod limits;
mod orders;
mod parameters;
mod problems;
mod responses;

use std::borrow::Cow;

use actix_web::dev::ResourceDef;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, guard, route, web};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::openapi::path::Paths;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as OpenApiDocument, RefOr};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::Config;

pub(super) use self::parameters::{
    BatchParams, ListParams, ReadParams, SubmissionParams, SubmissionsParams, SubmitParams, UsageParams,
    WebhookParams,
};
pub(super) use self::problems::{
    EraseProblems, ListProblems, NotReady, ProvidersProblems, ReadProblems, ResolveProblems, StopProblems,
    SubmissionProblems, SubmissionsProblems, SubmitProblems, UsageProblems, WebhookProblems,
};
pub(super) use self::responses::{BatchResponses, ErasedBatch, StoppedBatch, SubmittedBatch};
use crate::batch::Batch;
use crate::error::{Error, Problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "phone-gateway",
        description = "One REST contract in front of every vendor that finds or validates phone numbers in bulk.\n\n\
            * Enumerations are **open**: accept words that are added later.\n\
            * A field that a vendor did not fill is **absent**, never `null` and never empty.\n\
            * Every error is `application/problem+json` (RFC 9457); branch on its `code`.\n\
            * Whatever answers GET answers HEAD: the same headers, no body.\n\
            * Send `X-Request-Id` and `traceparent` if you have them; every response carries both.\n\
            * A gateway key has scopes: `read`, `submit`, `erase`, `operate`. Each operation says which it needs.",
    ),
    components(schemas(Batch, Problem)),
    tags(
        (name = "batches", description = "Batches of phone numbers, whichever vendor handles them"),
        (name = "submissions", description = "What became of what was ordered"),
        (name = "providers", description = "The vendors"),
        (name = "usage", description = "What was charged"),
        (name = "webhooks", description = "For vendors; the secret is in the path"),
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
        orders::put_examples(&mut document);
        open_enumerations(&mut document);
        let mut value = serde_json::to_value(&document)?;
        never_null(&mut value);
        limits::tell(&mut value);
        let mut json = serde_json::to_string_pretty(&value)?;
        json.push('\n');
        Ok(Self { json: json.into(), methods: methods(&document.paths) })
    }

    /// The document as JSON text.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The methods of a path, as `Allow` lists them; none if there is no such path. `*` is the whole server (RFC 9110,
    /// section 9.3.7).
    #[must_use]
    pub fn allowed_methods(&self, path: &str) -> Option<&str> {
        if path == "*" {
            return Some("GET, HEAD, POST, DELETE, OPTIONS");
        }
        self.methods.iter().find(|(resource, _)| resource.is_match(path)).map(|(_, methods)| methods.as_str())
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
            (true, "OPTIONS"),
        ];
        methods.iter().filter(|(has, _)| *has).map(|(_, method)| *method).collect::<Vec<_>>().join(", ")
    };
    let api = paths.paths.iter().map(|(path, item)| (ResourceDef::new(path.as_str()), allow(item)));
    let docs = [DOCS].into_iter().chain(DOCS_SHORTHANDS);
    let docs = docs.map(|path| (ResourceDef::new(path), "GET, OPTIONS".to_owned()));
    api.chain(docs).collect()
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
    // Relative, like the redirects: a proxy in front may have put all paths below a prefix.
    let ui = Config::from("../openapi.json").try_it_out_enabled(true).display_request_duration(true);
    let to_docs =
        || web::get().to(async || HttpResponse::Found().insert_header((LOCATION, "docs/")).finish());
    for path in DOCS_SHORTHANDS {
        config.service(web::resource(path).guard(guard::Get()).route(to_docs()));
    }
    let files = web::resource(DOCS).guard(guard::Get()).app_data(web::Data::new(ui));
    config.service(files.to(get_docs));
}

/// One file of Swagger UI. The library's own handler copies it for each caller, who may read it as slowly as he likes.
async fn get_docs(path: web::Path<String>, ui: web::Data<Config<'static>>) -> Result<HttpResponse, Error> {
    let file = utoipa_swagger_ui::serve(&path, ui.into_inner()).map_err(|_| Error::internal())?;
    let file = file.ok_or_else(Error::route_not_found)?;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Ok(HttpResponse::Ok().content_type(file.content_type).body(bytes))
}
