//! W3C Trace Context: the `traceparent` header, <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::str::FromStr;

/// Where a request stands in a distributed trace: version 00 of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// Name of the header.
    pub const HEADER: &str = "traceparent";

    /// The first span of a new trace, not sampled.
    #[must_use]
    pub fn start() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), flags: 0 }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(1..), ..self }
    }

    /// Id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        base16ct::lower::encode_string(&self.trace_id.to_be_bytes())
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every response carries it, and the formatter's own hexadecimal digits take several times as long.
        let mut digits = [0; 32];
        let parts: [(&str, &[u8]); 3] =
            [("00-", &self.trace_id.to_be_bytes()), ("-", &self.span_id.to_be_bytes()), ("-", &[self.flags])];
        for (separator, bytes) in parts {
            f.write_str(separator)?;
            f.write_str(base16ct::lower::encode_str(bytes, &mut digits).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// The text is not a `traceparent` of version 00.
#[derive(Clone, Copy, Debug)]
pub struct InvalidTraceContext;

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace_id, span_id, flags] = parts[..] else { return Err(InvalidTraceContext) };
        let lengths_fit = trace_id.len() == 32 && span_id.len() == 16 && flags.len() == 2;
        if version != "00" || !lengths_fit || !text.bytes().all(lower_hex) {
            return Err(InvalidTraceContext);
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).map_err(|_| InvalidTraceContext)?,
            span_id: u64::from_str_radix(span_id, 16).map_err(|_| InvalidTraceContext)?,
            flags: u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceContext)?,
        };
        // The specification forbids all-zero ids.
        if context.trace_id == 0 || context.span_id == 0 { Err(InvalidTraceContext) } else { Ok(context) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_survives_and_a_wrong_one_is_refused() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.to_string(), text);
        assert_eq!(context.child().trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
        ] {
            assert!(wrong.parse::<TraceContext>().is_err(), "{wrong}");
        }
    }
}
