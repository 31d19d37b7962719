//! Where a head ends: the HTTP library takes all the requests that it is given apart at once, and keeps them until each
//! has its turn.

/// Looks for the blank line that ends a head.
#[derive(Debug, Default)]
pub(super) struct BlankLine {
    line: Line,
}

#[derive(Clone, Copy, Debug, Default)]
enum Line {
    /// Nothing came but blank lines, which end nothing.
    #[default]
    Before,
    Within,
    Begins,
}

impl BlankLine {
    /// How many of the next bytes there are up to the blank line and with it; none if it is not among them.
    pub(super) fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            self.line = match (self.line, byte) {
                (Line::Begins, b'\n') => {
                    self.line = Line::Before;
                    return Some(index + 1);
                }
                (Line::Within, b'\n') | (Line::Begins, b'\r') => Line::Begins,
                (Line::Before, b'\r' | b'\n') => Line::Before,
                _ => Line::Within,
            };
        }
        None
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
                let (mut blank, (start, end)) = (BlankLine::default(), head.split_at(cut));
                assert_eq!(blank.find_end(start.as_bytes()), None, "{start:?}");
                let next = end.to_owned() + "GET / HTTP/1.1\r\n\r\n";
                assert_eq!(blank.find_end(next.as_bytes()), Some(end.len()), "{next:?}");
            }
        }
    }
}
