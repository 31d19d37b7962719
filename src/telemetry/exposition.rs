//! The two text formats of metrics, and which of them a scraper wants.
//!
//! The metrics are written as `OpenMetrics` 1.0; this turns them into the older Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::HashSet;

use actix_web::http::header::{Accept, Quality};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4, which every scraper and every person reads.
    Prometheus,
}

impl Exposition {
    /// The format that is preferred: `OpenMetrics` for who names it before any other, else the older one, whatever is
    /// accepted.
    #[must_use]
    pub fn preferred(accept: Option<&Accept>) -> Self {
        let mut best = (Quality::ZERO, Self::Prometheus);
        for item in accept.iter().flat_map(|accept| accept.iter()) {
            let format = match item.item.essence_str() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Prometheus,
                _ => continue,
            };
            // Of two that are as welcome, the first counts.
            if item.quality > best.0 {
                best = (item.quality, format);
            }
        }
        best.1
    }

    /// The media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The metrics in this format.
    #[must_use]
    pub fn render(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

/// Turns `OpenMetrics` into the Prometheus text format: a counter is called by the name of its samples, and what the older
/// format does not know is left out: units, exemplars and the mark of the end.
fn prometheus(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let counters: HashSet<&str> =
        types.filter(|(_, kind)| *kind == "counter").map(|(name, _)| name).collect();
    let mut text = String::with_capacity(open_metrics.len() + 16 * counters.len());
    for line in open_metrics.lines() {
        let described = line.strip_prefix("# ").and_then(|rest| {
            let (word, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((word, name, rest))
        });
        match described {
            Some((word @ ("HELP" | "TYPE"), name, rest)) => {
                let suffix = if counters.contains(name) { "_total" } else { "" };
                let rest = if (word, rest) == ("TYPE", "unknown") { "untyped" } else { rest };
                text.extend(["# ", word, " ", name, suffix, " ", rest, "\n"]);
            }
            _ if line.starts_with('#') => {}
            _ => text.extend([without_exemplar(line), "\n"]),
        }
    }
    text
}

/// A sample without what follows its value behind a `#`, which may also stand in the value of a label.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let exemplar = sample.char_indices().find(|(_, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        *c == '#' && !quoted
    });
    exemplar.map_or(sample, |(at, _)| sample[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::Header;
    use actix_web::test::TestRequest;
    use prometheus_client::encoding::text;
    use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn open_metrics_is_for_who_prefers_it() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Exposition::Prometheus),
            (Some("*/*"), Exposition::Prometheus),
            (Some("text/plain;version=0.0.4"), Exposition::Prometheus),
            (
                Some("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.4"),
                Exposition::Prometheus,
            ),
            (Some("application/openmetrics-text;q=0"), Exposition::Prometheus),
            (Some("application/json"), Exposition::Prometheus),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Exposition::Prometheus),
            (Some(";;;"), Exposition::Prometheus),
            (Some(PROMETHEUS), Exposition::OpenMetrics),
            (Some("application/openmetrics-text"), Exposition::OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0, */*;q=0.1"), Exposition::OpenMetrics),
            (Some("text/plain;q=0.1, application/openmetrics-text;q=0.2"), Exposition::OpenMetrics),
        ] {
            let request = accept
                .iter()
                .fold(TestRequest::get(), |request, accept| request.insert_header(("accept", *accept)));
            let parsed = Accept::parse(&request.to_http_request()).ok();
            assert_eq!(Exposition::preferred(parsed.as_ref()), format, "{accept:?}");
        }
    }

    #[test]
    fn what_the_older_format_does_not_know_is_left_out() {
        let mut registry = Registry::default();
        let counter = CounterWithExemplar::<Vec<(&str, &str)>>::default();
        counter.inc_by(3, Some(vec![("trace", "# \" 1")]), None);
        registry.register_with_unit("waits", "Waits # of all", Unit::Seconds, counter);
        let gauges = Family::<Vec<(&str, &str)>, Gauge>::default();
        gauges.get_or_create(&vec![("path", "a # \"b\" \\ c\nd")]).set(-7);
        registry.register("open", "Open ones", gauges);
        let histogram = HistogramWithExemplars::<Vec<(&str, &str)>>::new([0.5].into_iter());
        histogram.observe(0.25, Some(vec![("trace", "x")]), None);
        registry.register("took", "Took", histogram);
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        assert!(
            written.contains("# UNIT waits_seconds") && written.contains(" # {trace=\"x\"} 0.25"),
            "{written}"
        );
        assert_eq!(
            prometheus(&written),
            "# HELP waits_seconds_total Waits # of all.\n\
             # TYPE waits_seconds_total counter\n\
             waits_seconds_total 3\n\
             # HELP open Open ones.\n\
             # TYPE open gauge\n\
             open{path=\"a # \\\"b\\\" \\\\ c\\nd\"} -7\n\
             # HELP took Took.\n\
             # TYPE took histogram\n\
             took_sum 0.25\n\
             took_count 1\n\
             took_bucket{le=\"0.5\"} 1\n\
             took_bucket{le=\"+Inf\"} 1\n"
        );
    }
}
