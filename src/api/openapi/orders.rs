//! Orders that are ready to be submitted to the sandbox, for each vendor of the list.

use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::example::{Example, ExampleBuilder};

use crate::batch::Kind;
use crate::providers::VENDORS;
use crate::submission::NewBatch;

/// Puts the examples of each vendor into the body of a submission: utoipa's attribute knows only fixed ones.
pub(super) fn put_examples(document: &mut OpenApi) {
    let submit = document.paths.paths.get_mut("/batches/{provider}").and_then(|path| path.post.as_mut());
    let body = submit.and_then(|operation| operation.request_body.as_mut());
    let Some(RefOr::T(body)) = body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content {
            content.examples = examples().map(|(slug, example)| (slug, RefOr::T(example))).collect();
        }
    }
}

fn examples() -> impl Iterator<Item = (String, Example)> {
    VENDORS.iter().map(|vendor| {
        let info = vendor.info;
        let what = match info.accepts.kind {
            Kind::Finding => "three people by their LinkedIn addresses",
            Kind::Validation => "five numbers",
        };
        let order: Value = serde_json::from_str(NewBatch::example(info.accepts.kind)).unwrap_or_default();
        let summary = format!("{}: {what}", info.name);
        (info.slug.to_owned(), ExampleBuilder::new().summary(summary).value(Some(order)).build())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_can_be_submitted() {
        for vendor in VENDORS {
            let (_, example) = examples().find(|(slug, _)| slug == vendor.info.slug).unwrap();
            let order = NewBatch::from_json(&example.value.unwrap(), &vendor.info.accepts).unwrap();
            assert!(order.records.len() >= 3);
        }
    }
}
