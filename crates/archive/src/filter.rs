//! A split-block Bloom filter over 64-bit numbers: says "not there" for sure, or "perhaps", from one cache line.
//!
//! Its bits are written to disk; the layout never changes. The same design as Parquet's own Bloom filters.

/// Bits spent on a number: about one wrong "perhaps" in a thousand.
const BITS_PER_KEY: u64 = 16;
const WORDS: usize = 8;
const SALT: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// Bytes of one block.
pub(crate) const BLOCK_BYTES: usize = WORDS * 4;

/// The filter. Empty, it says "not there" to everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    blocks: Vec<[u32; WORDS]>,
}

impl Filter {
    /// A filter for that many numbers.
    pub(crate) fn sized_for(keys: u64) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BYTES as u64 * 8);
        Self { blocks: vec![[0; WORDS]; usize::try_from(blocks).unwrap_or(usize::MAX)] }
    }

    pub(crate) fn insert(&mut self, key: u64) {
        let masks = masks(key);
        if let Some(index) = self.index(key)
            && let Some(block) = self.blocks.get_mut(index)
        {
            block.iter_mut().zip(masks).for_each(|(word, mask)| *word |= mask);
        }
    }

    /// Whether the number may have been inserted.
    pub(crate) fn may_hold(&self, key: u64) -> bool {
        let masks = masks(key);
        let block = self.index(key).and_then(|index| self.blocks.get(index));
        block.is_some_and(|block| block.iter().zip(masks).all(|(word, mask)| word & mask != 0))
    }

    /// Bytes it takes, in memory and on disk.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        for word in self.blocks.iter().flatten() {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads [`Self::write_to`] back; `None` when the length is no multiple of a block.
    pub(crate) fn read_from(bytes: &[u8]) -> Option<Self> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        let word = |bytes: &[u8; BLOCK_BYTES], at: usize| {
            let (words, _) = bytes.as_chunks::<4>();
            words.get(at).map_or(0, |word| u32::from_le_bytes(*word))
        };
        Some(Self { blocks: blocks.iter().map(|block| std::array::from_fn(|at| word(block, at))).collect() })
    }

    fn index(&self, key: u64) -> Option<usize> {
        // The high half of the number, scaled to the number of blocks.
        usize::try_from(((key >> 32) * self.blocks.len() as u64) >> 32).ok()
    }
}

fn masks(key: u64) -> [u32; WORDS] {
    SALT.map(|salt| 1 << ((key as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::hash;

    #[test]
    fn what_was_inserted_is_never_denied_and_little_else_is_suspected() {
        let mut filter = Filter::sized_for(10_000);
        (0..10_000_u64).for_each(|i| filter.insert(hash(&i.to_le_bytes(), 1)));
        assert!((0..10_000_u64).all(|i| filter.may_hold(hash(&i.to_le_bytes(), 1))));
        let wrong = (0..100_000_u64).filter(|i| filter.may_hold(hash(&i.to_le_bytes(), 2))).count();
        assert!(wrong < 500, "{wrong} of 100,000 suspected");
    }

    #[test]
    fn an_empty_filter_holds_nothing() {
        let filter = Filter::sized_for(0);
        assert!(!filter.may_hold(0) && !filter.may_hold(u64::MAX));
    }

    #[test]
    fn a_filter_is_read_back_as_it_was_written() {
        let mut filter = Filter::sized_for(40);
        (0..40_u64).for_each(|i| filter.insert(hash(&i.to_le_bytes(), 1)));
        let mut bytes = Vec::new();
        filter.write_to(&mut bytes);
        assert_eq!(bytes.len(), filter.bytes());
        assert_eq!(Filter::read_from(&bytes), Some(filter));
        assert_eq!(Filter::read_from(&bytes[1..]), None);
    }
}
