//! How many requests a client may send, and what it is told of that.

use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::error::{Code, Error, whole_seconds};
use crate::rate::Rate;

/// The limit that a client has, draft-ietf-httpapi-ratelimit-headers-10.
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it, same draft.
pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The requests that one client may send to this process. What was used comes back evenly over the rate's time.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: Rate,
    limiter: Limiter,
}

impl Allowance {
    /// All of it unused.
    pub(super) fn new(rate: Rate) -> Self {
        let calls = NonZeroU32::new(rate.calls).unwrap_or(NonZeroU32::MIN);
        let each = (rate.per / calls.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(calls)).allow_burst(calls);
        Self { rate, limiter: RateLimiter::direct(quota).with_middleware() }
    }

    /// Uses one request, and says how the client stands then.
    pub(super) fn take(&self) -> (Standing, Result<(), Error>) {
        match self.limiter.check() {
            Ok(state) => (self.standing(state.remaining_burst_capacity()), Ok(())),
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                let detail = format!("The rate of this client, {}, is used up.", self.rate);
                let error = Error { retry_after: Some(wait), ..Error::new(Code::RateLimited, detail) };
                (self.standing(0), Err(error))
            }
        }
    }

    fn standing(&self, left: u32) -> Standing {
        let Rate { calls, per } = self.rate;
        // When all of it is there again.
        let full = (per / calls.max(1)).saturating_mul(calls - left.min(calls));
        Standing {
            policy: format!("\"client\";q={calls};w={}", whole_seconds(per)),
            limit: format!("\"client\";r={left};t={}", whole_seconds(full)),
        }
    }
}

/// How a client stands after a request, for the answer to it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    policy: String,
    limit: String,
}

impl Standing {
    /// Tells it in the headers of the answer.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in [(RATE_LIMIT_POLICY, &self.policy), (RATE_LIMIT, &self.limit)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }
}
