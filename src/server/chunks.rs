//! Where a body of chunks ends, RFC 9112 section 7.1: what follows belongs to the next request.

/// Follows the chunks of a body in whichever pieces they come. Those that are broken never end: the HTTP library refuses
/// them.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    next: Next,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    /// The first digit of a size.
    #[default]
    Size,
    /// Another digit of a size, or what ends it.
    MoreOfSize(u64),
    Extension(u64),
    /// The LF that ends the line of a size.
    SizeEnd(u64),
    /// So much of the chunk and the end of its line.
    Data(u64),
    /// A line after the last chunk: the empty one is the end.
    Trailer,
    MoreOfTrailer,
    TrailerEnd,
    LastLf,
    Broken,
}

impl Chunks {
    /// How many of the next bytes there are up to the end of the body; none if it is not among them.
    pub(super) fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let mut step = 1;
            self.next = match (self.next, byte) {
                (Next::Size, digit) => digit_of(*digit).map_or(Next::Broken, Next::MoreOfSize),
                (Next::MoreOfSize(size), b'\t' | b' ' | b';') => Next::Extension(size),
                (Next::MoreOfSize(size) | Next::Extension(size), b'\r') => Next::SizeEnd(size),
                (Next::MoreOfSize(size), digit) => {
                    let longer = size.checked_mul(16).zip(digit_of(*digit));
                    longer.map_or(Next::Broken, |(size, digit)| Next::MoreOfSize(size + digit))
                }
                (Next::Extension(size), _) => Next::Extension(size),
                (Next::SizeEnd(0) | Next::TrailerEnd, b'\n') => Next::Trailer,
                (Next::SizeEnd(size), b'\n') => size.checked_add(2).map_or(Next::Broken, Next::Data),
                (Next::Data(left), _) => {
                    step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    match left - step as u64 {
                        0 => Next::Size,
                        left => Next::Data(left),
                    }
                }
                (Next::Trailer, b'\r') => Next::LastLf,
                (Next::MoreOfTrailer, b'\r') => Next::TrailerEnd,
                (Next::Trailer | Next::MoreOfTrailer, _) => Next::MoreOfTrailer,
                (Next::LastLf, b'\n') => {
                    self.next = Next::Size;
                    return Some(at + 1);
                }
                (Next::SizeEnd(_) | Next::TrailerEnd | Next::LastLf | Next::Broken, _) => Next::Broken,
            };
            at += step;
        }
        None
    }
}

fn digit_of(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_with_its_last_chunk_in_whichever_pieces_it_comes() {
        for body in [
            "0\r\n\r\n",
            "00\r\n\r\n",
            "2\r\n{}\r\n0\r\n\r\n",
            "1b \t;name=\"value\"\r\n0\r\n\r\n and twenty more bytes\r\n0\r\n\r\n",
            "4\r\n\r\n\r\n\r\n3;x\r\n0\r\n\r\n0;last\r\nname: value\r\nother:\r\n\r\n",
        ] {
            for cut in 0..body.len() {
                let (mut chunks, (start, end)) = (Chunks::default(), body.split_at(cut));
                assert_eq!(chunks.find_end(start.as_bytes()), None, "{start:?}");
                // Another one follows.
                let next = end.to_owned() + "0\r\n\r\n";
                assert_eq!(chunks.find_end(next.as_bytes()), Some(end.len()), "{next:?}");
                assert_eq!(chunks.find_end(&next.as_bytes()[end.len()..]), Some(5));
            }
        }
    }

    #[test]
    fn what_is_broken_has_no_end() {
        for body in [
            "\r\n",
            "x\r\n",
            "0\n\n",
            "0\r\r\n",
            "0x\r\n\r\n",
            "0\r\n\rx",
            "0\r\nname: value\r\r\n\r\n",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
        ] {
            let mut chunks = Chunks::default();
            assert_eq!(chunks.find_end(body.as_bytes()), None, "{body:?}");
            assert_eq!(chunks.find_end(b"0\r\n\r\n"), None, "{body:?}");
        }
    }
}
