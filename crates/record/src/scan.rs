//! Finds where JSON texts and nested values end, at memory speed, without knowing what is in them.
//!
//! Never checks grammar: `[}` nests as well as `[]` does, and a backslash hides a quote behind it outside texts too.
//! What a malformed record means is for [`crate::split`] and [`crate::view`] to say; here it must only always mean the
//! same, however the bytes are cut into chunks.

use memchr::memchr2;

/// How many bytes are looked at together: one bit each in a `u64`.
const BLOCK: usize = 64;

/// A walk through an object or array whose opening bracket was read already. Survives the end of a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Nest {
    /// Brackets still open. A `u64` cannot overflow: it would take as many bytes.
    depth: u64,
    in_text: bool,
    /// The last byte was a backslash that takes the next byte with it.
    escaped: bool,
}

impl Nest {
    /// Just behind an opening bracket.
    pub(crate) fn opened() -> Self {
        Self { depth: 1, in_text: false, escaped: false }
    }

    /// Whether the walk stands inside a JSON text.
    pub(crate) fn in_text(&self) -> bool {
        self.in_text
    }

    /// Goes on through `bytes`: the index just behind the bracket that closes the nest, or `None` when it does not close
    /// in here.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let (blocks, tail) = bytes.as_chunks::<BLOCK>();
        for (index, block) in blocks.iter().enumerate() {
            if let Some(end) = self.block(block, BLOCK) {
                return Some(index * BLOCK + end);
            }
        }
        if tail.is_empty() {
            return None;
        }
        // Blanks mean nothing anywhere, so a short tail is looked at as one more block filled up with them.
        let mut filled = [b' '; BLOCK];
        filled[..tail.len()].copy_from_slice(tail);
        self.block(&filled, tail.len()).map(|end| blocks.len() * BLOCK + end)
    }

    /// One block, of which the first `len` bytes are real.
    fn block(&mut self, block: &[u8; BLOCK], len: usize) -> Option<usize> {
        let escaped = self.escaped_bytes(block, len);
        let quotes = equal_bytes(block, 0, b'"') & !escaped;
        // Ones from each opening quote up to, not including, its closing quote.
        let texts = running_parity(quotes) ^ if self.in_text { u64::MAX } else { 0 };
        self.in_text = texts >> (BLOCK - 1) == 1;
        // '[' and '{' differ in this one bit only, and so do ']' and '}'.
        let opens = equal_bytes(block, 0x20, b'{') & !texts;
        let closes = equal_bytes(block, 0x20, b'}') & !texts;
        if self.depth > u64::from(closes.count_ones()) {
            self.depth = self.depth + u64::from(opens.count_ones()) - u64::from(closes.count_ones());
            return None;
        }
        self.close_within(opens, closes)
    }

    /// The slow half of [`Self::block`]: it may hold the last bracket, so they are counted one by one.
    fn close_within(&mut self, opens: u64, closes: u64) -> Option<usize> {
        let mut brackets = opens | closes;
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            if opens >> at & 1 == 1 {
                self.depth += 1;
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    return Some(at as usize + 1);
                }
            }
            brackets &= brackets - 1;
        }
        None
    }

    /// The bytes that a backslash in front of them takes away from the grammar, and the carry into the next block.
    fn escaped_bytes(&mut self, block: &[u8; BLOCK], len: usize) -> u64 {
        let carried = u64::from(self.escaped);
        if !holds_backslash(block) {
            self.escaped = false;
            return carried;
        }
        let mut backslashes = equal_bytes(block, 0, b'\\') & !carried;
        let mut escaped = carried;
        self.escaped = false;
        while backslashes != 0 {
            let at = backslashes.trailing_zeros();
            // This backslash takes the next byte, which may be a backslash that then takes none.
            let taken = (1_u64 << at) << 1;
            escaped |= taken;
            self.escaped |= at as usize + 1 == len;
            backslashes &= !(1_u64 << at | taken);
        }
        escaped
    }
}

/// Where a JSON text ends, its opening quote read already: the index just behind the closing quote, or `None` when
/// `bytes` ends first. `escaped` carries a backslash over to the next chunk.
pub(crate) fn text_end_in_chunk(bytes: &[u8], escaped: &mut bool) -> Option<usize> {
    let mut at = 0;
    if *escaped {
        if bytes.is_empty() {
            return None;
        }
        *escaped = false;
        at = 1;
    }
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let index = at + found;
        if bytes[index] == b'"' {
            return Some(index + 1);
        }
        if index + 1 == bytes.len() {
            *escaped = true;
            return None;
        }
        at = index + 2;
    }
    None
}

/// The end of a short JSON text: the first quote or backslash in `bytes` at or behind `at`. Most texts in a record have
/// fewer than 24 bytes, for which a call of `memchr` costs more than it saves.
pub(crate) fn quote_or_backslash(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;

    let rest = bytes.get(at..)?;
    for word in rest.as_chunks::<8>().0.iter().take(6) {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        // The lowest marked byte is a true hit; marks above it may be false, and are not looked at.
        let hits = ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & HIGHS;
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', bytes.get(at..)?).map(|found| at + found)
}

/// Which bytes of the block, with `fold`'s bits set in each, equal `wanted`: bit *i* for byte *i*.
///
/// Written as two loops because that is what the compiler turns into vector compares followed by one multiplication per
/// eight bytes; a single loop over bits stays scalar and is eight times slower. The vector instruction that does it at
/// once cannot be reached without `unsafe` or one more dependency, for a third of this file's time.
fn equal_bytes(block: &[u8; BLOCK], fold: u8, wanted: u8) -> u64 {
    let mut equal = [0_u8; BLOCK];
    for (flag, byte) in equal.iter_mut().zip(block) {
        *flag = u8::from(byte | fold == wanted);
    }
    let mut mask = 0;
    for (index, eight) in equal.as_chunks::<8>().0.iter().enumerate() {
        // Gathers the eight flags' lowest bits in the topmost byte.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= gathered << (index * 8);
    }
    mask
}

fn holds_backslash(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |found, byte| found | (*byte == b'\\'))
}

/// Bit *i* says whether an odd number of bits is set at or below *i*.
fn running_parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same walk, a byte at a time.
    fn naive_nest_end(bytes: &[u8]) -> Option<usize> {
        let (mut depth, mut in_text, mut escaped) = (1, false, false);
        for (index, byte) in bytes.iter().enumerate() {
            if std::mem::take(&mut escaped) && matches!(byte, b'"' | b'\\') {
                continue;
            }
            match byte {
                b'\\' => escaped = true,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn in_chunks(bytes: &[u8], cuts: &[usize]) -> Option<usize> {
        let mut nest = Nest::opened();
        let mut from = 0;
        for until in cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]) {
            let until = until.max(from);
            if let Some(end) = nest.advance(&bytes[from..until]) {
                return Some(from + end);
            }
            from = until;
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn blocks_see_what_single_bytes_see(
            bytes in prop::collection::vec(prop::sample::select(b"\"\"\\\\{}[]{[ab,: \n\xff".to_vec()), 0..300),
            mut cuts in prop::collection::vec(0_usize..300, 0..5),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(in_chunks(&bytes, &cuts), naive_nest_end(&bytes));
        }

        #[test]
        fn every_byte_has_its_bit(
            block in prop::array::uniform32(prop::array::uniform2(any::<u8>())),
            fold in prop::sample::select(vec![0, 0x20]),
            wanted: u8,
        ) {
            let block: [u8; BLOCK] = std::array::from_fn(|index| block[index / 2][index % 2]);
            let naive = (0..BLOCK).fold(0, |mask, index| mask | u64::from(block[index] | fold == wanted) << index);
            prop_assert_eq!(equal_bytes(&block, fold, wanted), naive);
        }

        #[test]
        fn words_see_what_single_bytes_see(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            hit in prop::sample::select(vec![b'"', b'\\', b'#', b'!', 0x5d, 0xa2]),
            place in 0_usize..100,
            from in 0_usize..110,
        ) {
            let mut bytes: Vec<u8> = bytes.into_iter().filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
            let place = place.min(bytes.len());
            bytes.insert(place, hit);
            let naive = bytes.iter().enumerate().skip(from).find(|(_, byte)| matches!(byte, b'"' | b'\\')).map(|(i, _)| i);
            prop_assert_eq!(quote_or_backslash(&bytes, from), naive);
        }

        #[test]
        fn a_text_ends_at_the_same_quote_in_any_chunks(
            bytes in prop::collection::vec(prop::sample::select(b"\"\\\\ab".to_vec()), 0..40),
            cut in 0_usize..40,
        ) {
            let whole = text_end_in_chunk(&bytes, &mut false);
            let cut = cut.min(bytes.len());
            let mut escaped = false;
            let halves = text_end_in_chunk(&bytes[..cut], &mut escaped)
                .or_else(|| text_end_in_chunk(&bytes[cut..], &mut escaped).map(|end| cut + end));
            prop_assert_eq!(whole, halves);
        }
    }
}
