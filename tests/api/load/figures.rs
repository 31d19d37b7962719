//! What came of a load, and how it is printed.

use std::ops::RangeBounds;
use std::time::Duration;

/// One request: its status, 0 without a whole answer, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) took: Duration,
}

/// All requests of a load.
pub(super) struct Figures {
    outcomes: Vec<Outcome>,
    lasted: Duration,
}

/// How many there are of each status.
impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut statuses: Vec<_> = self.outcomes.iter().map(|outcome| outcome.status).collect();
        statuses.sort_unstable();
        f.debug_list().entries(statuses.chunk_by(PartialEq::eq).map(|same| (same[0], same.len()))).finish()
    }
}

impl Figures {
    pub(super) fn new(outcomes: Vec<Outcome>, lasted: Duration) -> Self {
        Self { outcomes, lasted }
    }

    fn number(&self, counts: impl Fn(u16) -> bool) -> f64 {
        let number = self.outcomes.iter().filter(|outcome| counts(outcome.status)).count();
        f64::from(u32::try_from(number).unwrap())
    }

    pub(super) fn total(&self) -> f64 {
        self.number(|_| true)
    }

    pub(super) fn count(&self, status: u16) -> f64 {
        self.number(|other| other == status)
    }

    /// Answers that are neither a batch nor a refusal.
    pub(super) fn others(&self) -> f64 {
        self.number(|status| !matches!(status, 200 | 429 | 503))
    }

    /// Answers that say something else than that the vendor failed, or that too many ask for it.
    pub(super) fn not_failures(&self) -> f64 {
        self.number(|status| !matches!(status, 429 | 502..=504))
    }

    pub(super) fn all_useful(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.status == 200)
    }

    /// Batches a second.
    pub(super) fn useful(&self) -> f64 {
        self.count(200) / self.lasted.as_secs_f64()
    }

    /// Answers a second.
    pub(super) fn rate(&self) -> f64 {
        self.total() / self.lasted.as_secs_f64()
    }

    /// The time within which this part of all answers came.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        quantile(self.outcomes.iter().map(|outcome| outcome.took).collect(), part)
    }

    /// The time within which this part of the refusals came.
    pub(super) fn refusals(&self, part: f64) -> Duration {
        let refused = self.outcomes.iter().filter(|outcome| matches!(outcome.status, 429 | 503));
        quantile(refused.map(|outcome| outcome.took).collect(), part)
    }
}

fn quantile(mut times: Vec<Duration>, part: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "few"
    )]
    let index = (times.len() as f64 * part) as usize;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Prints a ratio and whether it is what it should be; without a goal it is for comparison only.
pub(super) fn report(row: &str, what: &str, ratio: f64, goal: impl RangeBounds<f64>) {
    let limits = (goal.start_bound().cloned(), goal.end_bound().cloned());
    let (goal, met) = match limits {
        (std::ops::Bound::Included(least), _) => (format!("at least {least}"), ratio >= least),
        (_, std::ops::Bound::Included(most)) => (format!("at most {most}"), ratio <= most),
        _ => ("none".to_owned(), true),
    };
    println!("{row}  {what:<64} {ratio:8.3}   goal {goal}: {}", if met { "met" } else { "NOT met" });
}

/// Prints how many answers were wrong, and fails if there are any.
pub(super) fn none(row: &str, what: &str, wrong: f64) {
    report(row, what, wrong, ..=0.0);
    assert!(wrong <= 0.0, "{row}: {what}: {wrong}");
}
