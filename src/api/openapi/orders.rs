//! Orders that are ready to be submitted to the sandbox, for each vendor of the list.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::example::{Example, ExampleBuilder};

use crate::batch::Kind;
use crate::providers::VENDORS;

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
        let (what, order) = match info.kind {
            Kind::Finding => ("three people by their LinkedIn addresses", finding()),
            Kind::Validation => ("five numbers", validation()),
        };
        let summary = format!("{}: {what}", info.name);
        (info.slug.to_owned(), ExampleBuilder::new().summary(summary).value(Some(order)).build())
    })
}

fn finding() -> Value {
    json!({
        "reference": "crm-42",
        "records": [
            {"linkedin_url": "https://www.linkedin.com/in/ada-lovelace", "custom_id": "row-1"},
            {"linkedin_url": "https://www.linkedin.com/in/hedy-lamarr", "custom_id": "row-2"},
            {"linkedin_url": "https://www.linkedin.com/in/katherine-johnson", "custom_id": "row-3"},
        ],
    })
}

fn validation() -> Value {
    json!({
        "reference": "crm-43",
        "records": [
            {"number": "+447400123456", "custom_id": "row-1"},
            {"number": "+12269724276", "custom_id": "row-2"},
            {"number": "+33612345678", "custom_id": "row-3"},
            {"number": "+4915123456789", "custom_id": "row-4"},
            {"number": "07400123457", "country": "GB", "custom_id": "row-5"},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::NewBatch;

    #[test]
    fn the_examples_can_be_submitted() {
        for vendor in VENDORS {
            let (_, example) = examples().find(|(slug, _)| slug == vendor.info.slug).unwrap();
            let order = NewBatch::from_json(&example.value.unwrap(), vendor.info).unwrap();
            assert!(order.records.len() >= 3);
        }
    }
}
