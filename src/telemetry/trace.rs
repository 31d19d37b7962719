//! W3C Trace Context: the headers `traceparent` and `tracestate`, <https://www.w3.org/TR/trace-context-2/>.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Length of a `traceparent` of version 00; later versions begin with the same fields, and may have more.
const TRACEPARENT_LENGTH: usize = 55;
/// The flags that are understood: sampled, and that the trace id is random.
const KNOWN_FLAGS: u8 = 0b11;
/// Maximum number of members of a `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// How much of a `tracestate` is passed on, in characters: as much as must be (section 3.3.1.5).
const MAX_STATE_LENGTH: usize = 512;
/// Members that are longer are the first to go where a `tracestate` is too long.
const LONG_MEMBER: usize = 128;

/// Where a request stands in a distributed trace.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Name of the header that names trace and span.
    pub const HEADER: &str = "traceparent";
    /// Name of the header with what the tracing systems on the way have added.
    pub const STATE_HEADER: &str = "tracestate";

    /// The first span of a new trace, not sampled.
    #[must_use]
    pub fn start() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), flags: 0, state: None }
    }

    /// A new span in the trace of a request with these headers; in a new trace, without the state, unless there is
    /// exactly one valid `traceparent`.
    #[must_use]
    pub fn of_request(traceparents: &[&str], tracestates: &[&str]) -> Self {
        let [traceparent] = traceparents else { return Self::start() };
        let Ok(caller) = traceparent.parse::<Self>() else { return Self::start() };
        Self { state: state(tracestates), ..caller }.child()
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: fastrand::u64(1..), ..self.clone() }
    }

    /// Id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        base16ct::lower::encode_string(&self.trace_id.to_be_bytes())
    }

    /// What a `tracestate` to the next system says.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Without the state: nobody knows what is in it.
impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
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

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug)]
pub struct InvalidTraceContext;

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Reads version 00, and the fields of version 00 of any later version (section 4.2).
    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let (fields, rest) = text.split_at_checked(TRACEPARENT_LENGTH).ok_or(InvalidTraceContext)?;
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let parts: Vec<&str> = fields.split('-').collect();
        let [version, trace_id, span_id, flags] = parts[..] else { return Err(InvalidTraceContext) };
        let lengths_fit =
            version.len() == 2 && trace_id.len() == 32 && span_id.len() == 16 && flags.len() == 2;
        let may_have_more = version != "00" && rest.starts_with('-');
        if version == "ff"
            || !lengths_fit
            || !fields.bytes().all(lower_hex)
            || !(rest.is_empty() || may_have_more)
        {
            return Err(InvalidTraceContext);
        }
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceContext)?;
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).map_err(|_| InvalidTraceContext)?,
            span_id: u64::from_str_radix(span_id, 16).map_err(|_| InvalidTraceContext)?,
            flags: flags & KNOWN_FLAGS,
            state: None,
        };
        // The specification forbids all-zero ids.
        if context.trace_id == 0 || context.span_id == 0 { Err(InvalidTraceContext) } else { Ok(context) }
    }
}

/// The `tracestate` to pass on: the headers as one list, shortened if it is too long; none if it is not valid.
fn state(headers: &[&str]) -> Option<Arc<str>> {
    let members =
        headers.iter().flat_map(|header| header.split(',')).map(|member| member.trim_matches([' ', '\t']));
    let mut members: Vec<_> = members.filter(|member| !member.is_empty()).collect();
    let mut keys: Vec<_> = members.iter().map(|member| key(member)).collect::<Option<_>>()?;
    keys.sort_unstable();
    keys.dedup();
    if members.is_empty() || members.len() > MAX_MEMBERS || keys.len() < members.len() {
        return None;
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>() - 1;
    if length(&members) > MAX_STATE_LENGTH {
        members.retain(|member| member.len() <= LONG_MEMBER);
    }
    while !members.is_empty() && length(&members) > MAX_STATE_LENGTH {
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(",").into())
}

/// The key of a member of a `tracestate`, if the member is valid (section 3.3.1.3).
fn key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let key_is_valid = key.bytes().next().is_some_and(first)
        && key.len() <= 256
        && key.bytes().all(|byte| first(byte) || b"_-*/@".contains(&byte));
    // Commas are gone, and so are blanks at the end.
    let value_is_valid = (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    (key_is_valid && value_is_valid).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_survives_and_a_wrong_one_is_refused() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert_eq!(context.to_string(), PARENT);
        assert_eq!(context.child().trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for wrong in [
            "",
            &PARENT[..52],
            &PARENT[..54],
            &format!("{PARENT}-01"),
            &format!("{PARENT}0"),
            &PARENT.replace("00-4b", "ff-4b"),
            &PARENT.replace("00-4b", "0-04b"),
            &format!("{}x", PARENT.replace("00-4b", "01-4b")),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert!(wrong.parse::<TraceContext>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_later_version_is_read_by_the_fields_that_are_known() {
        for later in ["01", "cc", "fe"] {
            let text = PARENT.replace("00-4b", &format!("{later}-4b"));
            for text in [text.clone(), format!("{text}-"), format!("{text}-what-ever.IT_is")] {
                let context: TraceContext = text.parse().unwrap();
                assert_eq!(context.to_string(), PARENT, "{text}");
            }
        }
        let flags: TraceContext = PARENT.replace("-01", "-ff").parse().unwrap();
        assert!(flags.to_string().ends_with("-03"), "flags without a meaning are left out");
    }

    #[test]
    fn the_state_is_passed_on_with_a_valid_parent_only() {
        let of = |parents: &[&str], states: &[&str]| {
            TraceContext::of_request(parents, states).state().map(ToOwned::to_owned)
        };
        let good = |states: &[&str]| of(&[PARENT], states);
        assert_eq!(good(&["b=2, a=1\t", "", ",c@d=x y"]).as_deref(), Some("b=2,a=1,c@d=x y"));
        assert_eq!(good(&[]), None);
        assert_eq!(good(&["", " , "]), None);
        assert_eq!(of(&[], &["a=1"]), None);
        assert_eq!(of(&["00-x-y-01"], &["a=1"]), None);
        assert_eq!(of(&[PARENT, PARENT], &["a=1"]), None);
        let long = format!("a={}", "x".repeat(257));
        for wrong in ["a", "=1", "a=", "A=1", "-a=1", "a=1=2", "a=é", "a=1,a=2", &*long] {
            assert_eq!(good(&[wrong]), None, "{wrong}");
        }
        let members = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(good(&[&members(32)]), Some(members(32)));
        assert_eq!(good(&[&members(33)]), None);
    }

    #[test]
    fn a_long_state_loses_its_long_members_first_and_then_the_last() {
        let member = |name: &str, length: usize| format!("{name}={}", "x".repeat(length - name.len() - 1));
        let state = |members: &[String]| super::state(&[&members.join(",")]).map(|state| state.to_string());
        let exact = [member("a", 256), member("b", 255)];
        assert_eq!(state(&exact), Some(exact.join(",")));
        let (a, long, b, c) = (member("a", 128), member("l", 129), member("b", 128), member("c", 128));
        assert_eq!(state(&[a.clone(), long, b.clone(), c.clone()]), Some([a, b, c].join(",")));
        let many: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| member(name, 110)).into();
        assert_eq!(state(&many), Some(many[..4].join(",")));
        assert_eq!(state(&[member("a", 250), member("b", 250), member("c", 250)]), None);
    }
}
