//! Heads as they come: where each ends, since the HTTP library takes all the requests that it is given apart at once and
//! keeps them until each has its turn; and without offers to upgrade, since the library ends a connection with the answer
//! to one.

/// What a head says before the options of its connection.
const CONNECTION: &[u8] = b"connection:";

/// Reads heads in whichever pieces they come.
#[derive(Debug, Default)]
pub(super) struct Head {
    at: At,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// Before the head: blank lines there end nothing.
    #[default]
    Before,
    /// Within the first line, or a header that does not matter.
    Line,
    /// At the beginning of a line, or within the CR LF that makes it the blank one.
    LineStart,
    /// After so many bytes of [`CONNECTION`].
    Name(usize),
    /// Before an option of the connection.
    Option,
    /// Within one.
    InOption,
}

impl Head {
    /// How many of the next bytes there are up to the blank line and with it; none if it is not among them. Of the
    /// options of the connection, each that begins like `Upgrade` is made one without a meaning: HTTP/2 and `WebSocket` are
    /// not spoken here, and who only offers them goes on in HTTP/1.1 (RFC 9110, section 7.8).
    pub(super) fn find_end(&mut self, bytes: &mut [u8]) -> Option<usize> {
        for (index, byte) in bytes.iter_mut().enumerate() {
            self.at = match (self.at, *byte) {
                (At::LineStart, b'\n') => {
                    self.at = At::Before;
                    return Some(index + 1);
                }
                (At::Before, b'\r' | b'\n') => At::Before,
                (At::LineStart, b'\r') | (_, b'\n') => At::LineStart,
                (At::LineStart, letter) => At::after_name(0, letter),
                (At::Name(matched), letter) => At::after_name(matched, letter),
                (At::Option, b' ' | b'\t') | (At::Option | At::InOption, b',') => At::Option,
                (At::Option, b'U' | b'u') => {
                    *byte = b'-';
                    At::InOption
                }
                (At::Option | At::InOption, _) => At::InOption,
                (At::Before | At::Line, _) => At::Line,
            };
        }
        None
    }
}

impl At {
    fn after_name(matched: usize, letter: u8) -> Self {
        match CONNECTION.get(matched) {
            Some(expected) if expected.eq_ignore_ascii_case(&letter) => match matched + 1 {
                matched if matched == CONNECTION.len() => Self::Option,
                matched => Self::Name(matched),
            },
            _ => Self::Line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_blank_line_in_whichever_pieces_it_comes() {
        for head in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\nhost: a\n\n", "\r\n\n\r\nx\n\r\n"]
        {
            for cut in 0..head.len() {
                let (mut reader, (start, end)) = (Head::default(), head.split_at(cut));
                assert_eq!(reader.find_end(&mut start.as_bytes().to_vec()), None, "{start:?}");
                let next = end.to_owned() + "GET / HTTP/1.1\r\n\r\n";
                assert_eq!(reader.find_end(&mut next.as_bytes().to_vec()), Some(end.len()), "{next:?}");
            }
        }
    }

    #[test]
    fn an_offer_to_upgrade_means_nothing_and_everything_else_stays() {
        for (headers, read) in [
            ("Connection: Upgrade, HTTP2-Settings\r\n", "Connection: -pgrade, HTTP2-Settings\r\n"),
            ("connection:\tkeep-alive,upgrade \r\n", "connection:\tkeep-alive,-pgrade \r\n"),
            (
                "CONNECTION: close, upgrade\nconnection: upgrade\n",
                "CONNECTION: close, -pgrade\nconnection: -pgrade\n",
            ),
            ("Connection: keep-alive, TE, truer\r\n", "Connection: keep-alive, TE, truer\r\n"),
            ("Upgrade: h2c\r\nx-connection: upgrade\r\n", "Upgrade: h2c\r\nx-connection: upgrade\r\n"),
            (
                "connections: upgrade\r\n connection: upgrade\r\n",
                "connections: upgrade\r\n connection: upgrade\r\n",
            ),
        ] {
            let whole = format!("GET /upgrade HTTP/1.1\r\nuser-agent: a, upgrade\r\n{headers}\r\n");
            for cut in 0..whole.len() {
                let mut bytes = whole.clone().into_bytes();
                let (mut reader, (start, end)) = (Head::default(), bytes.split_at_mut(cut));
                assert_eq!(reader.find_end(start), None);
                assert_eq!(reader.find_end(end), Some(whole.len() - cut));
                assert_eq!(String::from_utf8(bytes).unwrap(), whole.replace(headers, read));
            }
        }
    }
}
