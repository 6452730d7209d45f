//! Repeatable chance: a seed and a path of numbers give always the same draw, in whatever order things are asked.
//!
//! Never holds state that one request could change for the next: a record or a content can be made again at any time.

use fastrand::Rng;
use uuid::Uuid;

/// A point in the tree of seeds. [`Seed::child`] goes one level down; siblings are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) const fn new(value: u64) -> Self {
        Self(mix(value ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// The seed of the branch named by `key`.
    pub(crate) const fn child(self, key: u64) -> Self {
        Self(mix(self.0 ^ mix(key.wrapping_add(0x632b_e59b_d9b4_e019))))
    }

    /// The seed of the branch named by text.
    pub(crate) fn named(self, key: &str) -> Self {
        self.child(text_key(key))
    }

    /// The number at this point.
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// A number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    pub(crate) fn unit(self) -> f64 {
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A stream of draws that starts here.
    pub(crate) fn rng(self) -> Rng {
        Rng::with_seed(self.0)
    }

    /// A random-looking (version 4) GUID.
    pub(crate) fn guid(self) -> Uuid {
        let high = self.0;
        let low = self.child(1).0;
        uuid::Builder::from_u128((u128::from(high) << 64) | u128::from(low))
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::Random)
            .into_uuid()
    }
}

/// A number for a text, for use as a key of [`Seed::child`] (FNV-1a; not for hash tables).
pub(crate) fn text_key(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_path_gives_the_same_draw_and_another_path_another() {
        let seed = Seed::new(7);
        assert_eq!(seed.child(1).child(2), Seed::new(7).child(1).child(2));
        assert_ne!(seed.child(1).child(2), seed.child(2).child(1));
        assert_ne!(seed, Seed::new(8));
        assert_eq!(seed.guid().get_version_num(), 4);
    }
}
