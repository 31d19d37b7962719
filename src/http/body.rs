//! The body of a vendor's answer as it arrives: decompressed where it is compressed, and bounded either way.
//!
//! No compression is asked for. Some proxies compress all the same, and what was paid for must be read.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// RFC 1952 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How many bytes tell a format from another.
const HEAD: usize = 2;

/// A content coding that is understood, RFC 9110 8.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// The bytes as they are: not compressed, or in a way that is not understood.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 as some servers send it.
    Deflate,
}

impl Coding {
    /// The coding that the headers of an answer name.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CONTENT_ENCODING);
        let words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let mut words = words.map(|word| word.trim().to_ascii_lowercase());
        let mut words = words.by_ref().filter(|word| !matches!(word.as_str(), "" | "identity"));
        match (words.next().as_deref(), words.next()) {
            (Some("gzip" | "x-gzip"), None) => Self::Gzip,
            (Some("deflate"), None) => Self::Deflate,
            // What is compressed twice, or in another way, is no JSON and malformed as such.
            _ => Self::Identity,
        }
    }
}

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than allowed, as it came or decompressed.
    TooLarge,
    /// It is not what its coding says, or ends too soon.
    Corrupt,
}

/// A body as far as it has arrived. It never holds more than its limit.
pub(super) struct Body {
    coding: Coding,
    limit: usize,
    /// The beginning, until it is long enough to tell what it is.
    head: Vec<u8>,
    decoder: Option<Decoder>,
}

enum Decoder {
    Plain(Bounded),
    Gzip(MultiGzDecoder<Bounded>),
    Zlib(ZlibDecoder<Bounded>),
    Deflate(DeflateDecoder<Bounded>),
}

impl Body {
    pub(super) fn new(coding: Coding, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { coding, limit, head: Vec::new(), decoder: None }
    }

    /// How many bytes it has, decompressed.
    pub(super) fn len(&self) -> usize {
        self.decoder.as_ref().map_or(0, |decoder| decoder.decoded().bytes.len())
    }

    /// Takes some of what arrived and returns the rest, so that the caller can look at the length in between.
    ///
    /// # Errors
    /// The body is larger than allowed, or not what its coding says.
    pub(super) fn write<'c>(&mut self, chunk: &'c [u8]) -> Result<&'c [u8], BodyError> {
        if let Some(decoder) = &mut self.decoder {
            let taken = decoder.as_write().write(chunk)?;
            // Nothing is taken of what stands behind the compressed data.
            return if taken == 0 {
                Err(BodyError::Corrupt)
            } else {
                Ok(chunk.get(taken..).unwrap_or_default())
            };
        }
        let (head, rest) = chunk.split_at(chunk.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        if self.head.len() == HEAD {
            self.begin()?;
        }
        Ok(rest)
    }

    /// The whole body.
    ///
    /// # Errors
    /// The body is larger than allowed, not what its coding says, or cut.
    pub(super) fn finish(self) -> Result<Bytes, BodyError> {
        let decoded = match self.decoder {
            // Shorter than any compressed body.
            None if self.head.len() > self.limit => return Err(BodyError::TooLarge),
            None => return Ok(self.head.into()),
            Some(Decoder::Plain(decoded)) => decoded,
            Some(Decoder::Gzip(decoder)) => decoder.finish()?,
            Some(Decoder::Zlib(decoder)) => decoder.finish()?,
            Some(Decoder::Deflate(decoder)) => decoder.finish()?,
        };
        Ok(decoded.bytes.freeze())
    }

    fn begin(&mut self) -> Result<(), BodyError> {
        let mut decoder = Decoder::of(self.coding, &self.head, self.limit);
        decoder.as_write().write_all(&self.head)?;
        self.decoder = Some(decoder);
        Ok(())
    }
}

impl Decoder {
    /// The decoder for a body that begins with `head`. Some servers name a coding and send plain JSON.
    fn of(coding: Coding, head: &[u8], limit: usize) -> Self {
        let decoded = Bounded { bytes: BytesMut::new(), limit };
        match coding {
            Coding::Gzip if head == GZIP_MAGIC => Self::Gzip(MultiGzDecoder::new(decoded)),
            Coding::Deflate if is_zlib(head) => Self::Zlib(ZlibDecoder::new(decoded)),
            Coding::Deflate if !is_json(head) => Self::Deflate(DeflateDecoder::new(decoded)),
            Coding::Identity | Coding::Gzip | Coding::Deflate => Self::Plain(decoded),
        }
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(decoded) => decoded,
            Self::Gzip(decoder) => decoder,
            Self::Zlib(decoder) => decoder,
            Self::Deflate(decoder) => decoder,
        }
    }

    fn decoded(&self) -> &Bounded {
        match self {
            Self::Plain(decoded) => decoded,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zlib(decoder) => decoder.get_ref(),
            Self::Deflate(decoder) => decoder.get_ref(),
        }
    }
}

/// The header of zlib, RFC 1950 2.2.
fn is_zlib(head: &[u8]) -> bool {
    let [method, flags] = *head else { return false };
    method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0
}

/// Whether these can be the first bytes of plain JSON. No JSON in raw deflate begins with them.
fn is_json(head: &[u8]) -> bool {
    matches!(head, [b'{' | b'[', next] if next.is_ascii())
}

/// Bytes up to a limit.
struct Bounded {
    bytes: BytesMut,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge { Self::TooLarge } else { Self::Corrupt }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    const LIMIT: u64 = 100_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The body that arrives in pieces of `size` bytes, and the most that it held.
    fn read(coding: Coding, sent: &[u8], size: usize) -> (Result<Bytes, BodyError>, usize) {
        let mut body = Body::new(coding, LIMIT);
        let mut most = 0;
        for mut rest in sent.chunks(size) {
            while !rest.is_empty() {
                match body.write(rest) {
                    Ok(left) => rest = left,
                    Err(error) => return (Err(error), most),
                }
                most = most.max(body.len());
            }
        }
        (body.finish(), most)
    }

    fn documents() -> Vec<Vec<u8>> {
        let long = (0..9_000_u32).flat_map(|number| format!("{number},").into_bytes()).collect();
        vec![b"{}".to_vec(), b"[]".to_vec(), b"{\"id\":\"x\"}".to_vec(), b"\xef\xbb\xbf{}".to_vec(), long]
    }

    #[test]
    fn a_compressed_body_is_read_in_whatever_pieces_it_arrives() {
        for document in documents() {
            for (coding, sent) in [
                (Coding::Identity, document.clone()),
                (Coding::Gzip, gzip(&document)),
                (Coding::Gzip, [gzip(&document[..1]), gzip(&document[1..])].concat()),
                (Coding::Deflate, zlib(&document)),
                (Coding::Deflate, raw(&document)),
            ] {
                for size in [1, 2, 3, 1_000, sent.len()] {
                    let (body, _) = read(coding, &sent, size);
                    assert_eq!(body.as_deref(), Ok(&*document), "{coding:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_plain_body_is_read_whatever_coding_is_named() {
        for document in documents().into_iter().filter(|document| !document.starts_with(b"\xef")) {
            let is_json = document.starts_with(b"{") || document.starts_with(b"[");
            for coding in [Coding::Gzip, Coding::Deflate] {
                if is_json || coding == Coding::Gzip {
                    assert_eq!(read(coding, &document, 7).0.as_deref(), Ok(&*document), "{coding:?}");
                }
            }
        }
        for short in [&b""[..], b"7"] {
            assert_eq!(read(Coding::Gzip, short, 1).0.as_deref(), Ok(short));
        }
    }

    #[test]
    fn a_body_is_bounded_after_it_is_decompressed() {
        let fits = vec![b' '; 100_000];
        let bomb = vec![b' '; 3_000_000];
        for (coding, pack) in [
            (Coding::Identity, (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>),
            (Coding::Gzip, gzip),
            (Coding::Deflate, zlib),
            (Coding::Deflate, raw),
        ] {
            for size in [100, 1_000_000] {
                assert_eq!(read(coding, &pack(&fits), size).0.map(|body| body.len()), Ok(100_000));
                let (body, most) = read(coding, &pack(&bomb), size);
                assert_eq!(body, Err(BodyError::TooLarge), "{coding:?}");
                assert!(most <= 100_000, "{coding:?}: {most}");
            }
        }
    }

    #[test]
    fn a_compressed_body_that_is_cut_or_damaged_is_not_taken_for_whole() {
        let document = &documents()[4];
        for (coding, whole) in [
            (Coding::Gzip, gzip(document)),
            (Coding::Deflate, zlib(document)),
            (Coding::Deflate, raw(document)),
        ] {
            for cut in [3, whole.len() / 2, whole.len() - 1] {
                assert_eq!(read(coding, &whole[..cut], 100).0, Err(BodyError::Corrupt), "{coding:?} {cut}");
            }
            let longer = [&*whole, b"garbage"].concat();
            assert_eq!(read(coding, &longer, 100).0, Err(BodyError::Corrupt), "{coding:?}");
        }
        let mut damaged = gzip(document);
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert_eq!(read(Coding::Gzip, &damaged, 100).0, Err(BodyError::Corrupt));
    }

    #[test]
    fn one_known_coding_is_understood_and_anything_else_left_as_it_is() {
        for (values, expected) in [
            (&[][..], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&[" X-GZIP "], Coding::Gzip),
            (&["identity, gzip,"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["", "identity"], Coding::Identity),
            (&["br"], Coding::Identity),
            (&["zstd"], Coding::Identity),
            (&["gzip, gzip"], Coding::Identity),
            (&["gzip", "deflate"], Coding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(Coding::of(&headers), expected, "{values:?}");
        }
    }
}
