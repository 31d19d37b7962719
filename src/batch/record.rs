//! One input row of a batch: what the caller submitted, and what is sent of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Country, Personal};

/// One record of a batch: a person to find (`linkedin_url`; or `first_name`, `last_name` and a company), or a number
/// to validate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// The person, or the number.
    #[serde(flatten)]
    pub input: Input,
    /// Country of a number that does not carry a country code, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "GB")]
    pub country: Option<Country>,
    /// The caller's own id of the record. It is returned with the record's result and is not sent to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000)]
    pub custom_id: Option<Personal<String>>,
    /// What is sent to the vendor, where it differs from what the caller wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub cleaned: Option<Box<Input>>,
}

impl Record {
    /// What is sent to the vendor.
    #[must_use]
    pub fn sent(&self) -> &Input {
        self.cleaned.as_deref().unwrap_or(&self.input)
    }
}

/// A record as it was submitted: a person to find, or a number to validate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Input {
    /// Address of the person's profile at `LinkedIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub linkedin_url: Option<Personal<String>>,
    /// First name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub first_name: Option<Personal<String>>,
    /// Last name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_name: Option<Personal<String>>,
    /// Name of the company that the person works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub company_name: Option<Personal<String>>,
    /// Internet domain of the company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub company_domain: Option<Personal<String>>,
    /// The number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub number: Option<Personal<String>>,
}
