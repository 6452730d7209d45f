//! Undoes `Content-Encoding: gzip` as the bytes arrive, and tells corruption from a connection that broke.
//!
//! Never holds more than the chunk it is given and 64 KiB of what came out of it, whatever that grows to. What it hands on is
//! proven only when the stream ends without an error: a gzip member's checksum comes behind its data (RFC 1952 §2.3.1).

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::TransportError;

/// Decoded bytes that are handed on together. Fewer mean more work for each byte and more records that lie across a border,
/// more mean more memory for each answer.
const CHUNK: usize = 64 << 10;

/// The window that gzip may look back over, as a power of two: the largest there is.
const WINDOW_BITS: u8 = 15;

type Chunks = BoxStream<'static, Result<Bytes, TransportError>>;

/// The decoded chunks of `raw`, which came from `origin`.
pub(super) fn gunzip(raw: Chunks, origin: String) -> Chunks {
    let state = State { raw, origin, input: Bytes::new(), decoder: Decoder::default(), end: None };
    stream::unfold(state, |mut state| async move { Some((state.next().await?, state)) }).boxed()
}

struct State {
    raw: Chunks,
    origin: String,
    input: Bytes,
    decoder: Decoder,
    /// Nothing more is read; what is left to say.
    end: Option<Option<TransportError>>,
}

impl State {
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            if let Some(end) = &mut self.end {
                return end.take().map(Err);
            }
            let decoded = if self.input.is_empty() {
                match self.raw.next().await {
                    Some(Ok(chunk)) => {
                        self.input = chunk;
                        continue;
                    }
                    Some(Err(error)) => {
                        self.end = Some(Some(error));
                        Ok(self.decoder.take())
                    }
                    None => {
                        self.end = Some(None);
                        self.decoder.finish()
                    }
                }
            } else {
                self.decoder.decode(&mut self.input)
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(Ok(bytes)),
                Err(reason) => {
                    self.end = Some(None);
                    return Some(Err(TransportError::Corrupt { origin: self.origin.clone(), reason }));
                }
            }
        }
    }
}

/// Of members one behind the other; an empty body has none.
#[derive(Default)]
struct Decoder {
    member: Option<Decompress>,
    decoded: Vec<u8>,
    has_ended: bool,
}

impl Decoder {
    /// Decodes until a chunk is full, or all of `input` is read.
    fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, String> {
        while !input.is_empty() {
            if self.member.is_none() && self.has_ended && input[0] == 0 {
                // Padding, which other readers of gzip take as well.
                input.advance(1);
                continue;
            }
            let read = self.inflate(input)?;
            input.advance(read);
            if self.decoded.len() >= CHUNK {
                return Ok(self.take());
            }
        }
        Ok(Bytes::new())
    }

    /// Decodes into what is left of the chunk, and says how much of `input` that took.
    fn inflate(&mut self, input: &[u8]) -> Result<usize, String> {
        if self.decoded.capacity() == 0 {
            self.decoded.reserve_exact(CHUNK);
        }
        let member = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        let (read, decoded) = (member.total_in(), self.decoded.len());
        let status = member.decompress_vec(input, &mut self.decoded, FlushDecompress::None);
        let status = status.map_err(|error| error.to_string())?;
        let read = usize::try_from(member.total_in() - read).unwrap_or(usize::MAX).min(input.len());
        if status == Status::StreamEnd {
            self.member = None;
            self.has_ended = true;
        } else if read == 0 && self.decoded.len() == decoded {
            return Err("the data leads nowhere".to_owned());
        }
        Ok(read)
    }

    /// There are no more bytes, as it should be: what is left. A little of it may still be inside of the member, which found
    /// the chunk full; it is far less than a chunk.
    fn finish(&mut self) -> Result<Bytes, String> {
        let ended = if self.member.is_some() { self.inflate(&[]) } else { Ok(0) };
        if ended.is_err() || self.member.is_some() {
            return Err("the data ends early".to_owned());
        }
        Ok(self.take())
    }

    /// What there is so far.
    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.decoded).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text(length: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(length as u64);
        std::iter::repeat_with(|| rng.alphanumeric() as u8).take(length).collect()
    }

    /// What comes out of `raw` in chunks of `chunk` bytes, and whether it was sound; `breaks`: the connection breaks behind it.
    async fn decoded(raw: &[u8], chunk: usize, breaks: bool) -> (Vec<u8>, Option<TransportError>) {
        let broken = || TransportError::Broken { origin: "o".into(), reason: "reset".into() };
        let mut chunks: Vec<_> = raw.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        chunks.extend(breaks.then(|| Err(broken())));
        let mut stream = gunzip(stream::iter(chunks).boxed(), "o".into());
        let mut whole = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    assert!(!chunk.is_empty() && chunk.len() <= CHUNK, "{}", chunk.len());
                    whole.extend_from_slice(&chunk);
                }
                Err(error) => {
                    assert!(stream.next().await.is_none(), "nothing follows an error");
                    return (whole, Some(error));
                }
            }
        }
        (whole, None)
    }

    #[tokio::test]
    async fn what_was_compressed_comes_out_however_it_is_cut() {
        for length in [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 300_000] {
            for raw in [text(length), vec![b'x'; length]] {
                for (level, chunk) in [(0, 1000), (6, 1), (6, 70_000), (9, usize::MAX)] {
                    let (whole, error) = decoded(&gzip(&raw, level), chunk, false).await;
                    assert!(whole == raw && error.is_none(), "{length} {level} {chunk}: {error:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn no_bytes_at_all_members_in_a_row_and_padding_are_sound() {
        assert!(matches!(decoded(&[], 1, false).await, (whole, None) if whole.is_empty()));
        let two = [gzip(b"one", 6), gzip(b"two", 6), vec![0; 5]].concat();
        for chunk in [1, 7, usize::MAX] {
            let (whole, error) = decoded(&two, chunk, false).await;
            assert!(whole == b"onetwo" && error.is_none(), "{error:?}");
        }
    }

    #[tokio::test]
    async fn every_corrupt_byte_and_every_short_stream_is_told() {
        let sound = gzip(&text(200), 6);
        // Behind the header, whose time and system nobody checks.
        for at in 10..sound.len() {
            let mut raw = sound.clone();
            raw[at] ^= 0x20;
            let (whole, error) = decoded(&raw, 50, false).await;
            // The last byte of the data has bits that mean nothing.
            let is_told = matches!(error, Some(TransportError::Corrupt { .. }));
            assert!(is_told || (whole == text(200) && at == sound.len() - 9), "{at}: {error:?}");
        }
        for length in 1..sound.len() {
            let (_, error) = decoded(&sound[..length], 50, false).await;
            assert!(matches!(error, Some(TransportError::Corrupt { .. })), "{length}: {error:?}");
        }
        for behind in [&b"x"[..], b"\x1f\x8b", b"<html>"] {
            let (_, error) = decoded(&[&sound, behind].concat(), 50, false).await;
            assert!(matches!(error, Some(TransportError::Corrupt { .. })), "{error:?}");
        }
    }

    #[tokio::test]
    async fn of_a_connection_that_breaks_all_that_came_is_handed_on_and_the_break_is_told() {
        let raw = text(100_000);
        let compressed = gzip(&raw, 6);
        let (whole, error) = decoded(&compressed[..compressed.len() / 2], 1000, true).await;
        assert!(matches!(error, Some(TransportError::Broken { .. })), "{error:?}");
        assert!(whole.len() > raw.len() / 3 && raw.starts_with(&whole), "{}", whole.len());
    }

    #[tokio::test]
    async fn what_grows_a_thousandfold_is_handed_on_in_small_chunks() {
        let bomb = gzip(&vec![0; 50 << 20], 9);
        let (whole, error) = decoded(&bomb, usize::MAX, false).await;
        assert!(whole.len() == 50 << 20 && error.is_none());
    }
}
