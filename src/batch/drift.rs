//! What a vendor's answer had that the common schema does not understand.

/// Where an answer drifted from what the vendor documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DriftField {
    /// The id of the batch.
    Id,
    /// The word for the state of the batch.
    Status,
    /// The word for the outcome of a record.
    Outcome,
    /// The number that was found or validated.
    Number,
    /// A country.
    Country,
    /// What was charged.
    Cost,
    /// A date.
    Date,
    /// The position of a result.
    Index,
    /// How many records there are, and how many have been processed.
    Progress,
    /// The record as the vendor gives it back.
    Input,
    /// The network of a number, and the type of its line.
    Line,
    /// The options of the batch.
    Options,
    /// The caller's own data of the batch.
    Custom,
    /// A whole result.
    Result,
}

impl DriftField {
    /// All fields.
    pub const ALL: [Self; 14] = [
        Self::Id,
        Self::Status,
        Self::Outcome,
        Self::Number,
        Self::Country,
        Self::Cost,
        Self::Date,
        Self::Index,
        Self::Progress,
        Self::Input,
        Self::Line,
        Self::Options,
        Self::Custom,
        Self::Result,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::Number => "number",
            Self::Country => "country",
            Self::Cost => "cost",
            Self::Date => "date",
            Self::Index => "index",
            Self::Progress => "progress",
            Self::Input => "input",
            Self::Line => "line",
            Self::Options => "options",
            Self::Custom => "custom",
            Self::Result => "result",
        }
    }
}

/// The fields of one answer that drifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift(u16);

impl Drift {
    /// Adds a field.
    pub const fn add(&mut self, field: DriftField) {
        self.0 |= 1 << field as u8;
    }

    /// Adds the fields of another part of the answer.
    pub const fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The fields, each once.
    pub fn fields(self) -> impl Iterator<Item = DriftField> {
        DriftField::ALL.into_iter().filter(move |field| self.0 & (1 << *field as u8) != 0)
    }
}
