//! What identifies a record: the number it is filed under, from its second and `Id`, and a digest of its body.
//!
//! The numbers are written to disk: the functions here must answer the same for ever, and tests pin their answers.

use chrono::{DateTime, Datelike};
use protocol::time::Timestamp;
use twox_hash::XxHash3_128;

/// Bytes of a body's digest.
pub(crate) const BODY_DIGEST_BYTES: usize = 16;

/// 128 bits of a body: no two bodies that are compared share them by chance.
///
/// * Of a record without `Id` it is BLAKE3, for it is all that identifies the record.
/// * Of a record with an `Id` it is XXH3 seeded by second and `Id`. It only has to tell apart the bodies of the *same*
///   second and `Id`: whoever would pass one record off as another has no say in its `Id`, which the service draws after the
///   content is fixed, so he can neither make two records share one nor know the seed beforehand.
///
/// XXH3 withstands chance and not intent. What is left open: some workloads issue an updated record under the same `Id`
/// (audit-schema.md §10). Who shapes both versions, has learnt the `Id` from the first, and solves XXH3 within the text of
/// the second, can have the second taken for a repeat; never another record, and never the first. BLAKE3 would close that.
/// Measured on records of 1.5 kB: 1.66 µs a record against 0.04, a tenth of all the CPU time that collecting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BodyDigest(pub(crate) [u8; BODY_DIGEST_BYTES]);

/// A record as dedup knows it. Sorted by `file_under` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordKey {
    /// Equal for records with the same second and `Id`; of a record without `Id`, taken from its body. Two different
    /// (second, `Id`) may share it by chance, which costs a comparison of bodies, never a record.
    pub(crate) file_under: u64,
    /// What decides whether it is the same record.
    pub(crate) body: BodyDigest,
}

impl RecordKey {
    /// `id` and `second` as they stand in the columns, so that a key can be made again from the file alone.
    pub(crate) fn new(id: Option<&str>, second: Option<i64>, body: &[u8]) -> Self {
        match id {
            Some(id) => {
                // The least second there is never occurs: times before year 1 are not readable times.
                let file_under = hash(id.as_bytes(), second.unwrap_or(i64::MIN) as u64);
                let body = XxHash3_128::oneshot_with_seed(file_under, body).to_le_bytes();
                Self { file_under, body: BodyDigest(body) }
            }
            None => {
                let digest = blake3::hash(body);
                let (first, _) = digest.as_bytes().split_at(BODY_DIGEST_BYTES);
                let body: [u8; BODY_DIGEST_BYTES] = first.try_into().expect("split there");
                Self {
                    file_under: u64::from_le_bytes(*body.first_chunk().expect("16 is more than 8")),
                    body: BodyDigest(body),
                }
            }
        }
    }
}

/// A sum over the bodies of a set of records that does not depend on their order: what a merge must leave unchanged, and
/// what `verify` computes again from the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    pub(crate) fn add(&mut self, body: BodyDigest) {
        self.0 = self.0.wrapping_add(u128::from_le_bytes(body.0));
    }

    pub(crate) fn add_all(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// 32 hexadecimal digits.
    pub(crate) fn to_text(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads [`Self::to_text`] back.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

/// A time as its column will hold it: whole microseconds, of the years 1 to 9999, which can name a folder. Others are null
/// in their column. The date and second taken from the result are those a reader of the column finds; of a leap second, which
/// the column cannot hold, those of the second after it.
pub(crate) fn usable_time(time: Option<Timestamp>) -> Option<Timestamp> {
    let time = DateTime::from_timestamp_micros(time?.timestamp_micros())?;
    (1..=9999).contains(&time.year()).then_some(time)
}

/// The second of a time in microseconds, rounded down.
pub(crate) fn second_of_micros(micros: i64) -> i64 {
    micros.div_euclid(1_000_000)
}

/// A 64-bit hash of short texts: eight bytes at a time through a folded multiplication. Not for use against an adversary.
pub(crate) fn hash(bytes: &[u8], seed: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = fold(seed ^ 0xa076_1d64_78bd_642f, (bytes.len() as u64).wrapping_add(ODD));
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), ODD);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(fold(state ^ u64::from_le_bytes(last), ODD) ^ ODD, 0xe703_7ed1_a0b4_28db)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    const ID: &str = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11";

    #[test]
    fn the_answers_written_to_disk_stay_what_they_are() {
        // Computed apart, by other programs.
        assert_eq!(hash(b"", 0), 16_854_865_307_811_320_227);
        assert_eq!(hash(ID.as_bytes(), 1_700_000_000), 13_508_106_661_330_787_255);
        let without = RecordKey::new(None, Some(5), br#"{"Id":"a"}"#);
        assert_eq!(u128::from_be_bytes(without.body.0), 0xa58e_3e34_c535_9327_097f_1358_9e3c_920e);
        assert_eq!(without.file_under, 0x2793_35c5_343e_8ea5);
        let with = RecordKey::new(Some(ID), Some(1_700_000_000), br#"{"Id":"a"}"#);
        assert_eq!(with.file_under, 13_508_106_661_330_787_255);
        assert_eq!(u128::from_le_bytes(with.body.0), 92_685_652_648_704_424_731_986_536_977_659_034_178);
        let long = RecordKey::new(Some(ID), Some(1_700_000_000), &[b'x'; 5000]);
        assert_eq!(u128::from_le_bytes(long.body.0), 252_340_412_884_789_903_147_632_073_301_847_916_139);
    }

    #[test]
    fn the_same_id_in_another_second_or_without_one_is_filed_elsewhere() {
        let under = |id, second| RecordKey::new(id, second, b"{}").file_under;
        assert_eq!(under(Some("a"), Some(1)), under(Some("a"), Some(1)));
        assert_ne!(under(Some("a"), Some(1)), under(Some("a"), Some(2)));
        assert_ne!(under(Some("a"), Some(1)), under(Some("a"), None));
        assert_ne!(under(Some("a"), Some(1)), under(Some("b"), Some(1)));
        assert_eq!(under(None, Some(1)), under(None, None));
    }

    #[test]
    fn one_changed_bit_of_a_body_makes_another_key_whatever_its_length() {
        for length in [1, 8, 16, 17, 128, 129, 240, 241, 1023, 1024, 1025, 5000] {
            for id in [Some(ID), None] {
                let body = vec![b'x'; length];
                let key = RecordKey::new(id, Some(1), &body);
                for at in [0, length / 2, length - 1] {
                    let mut other = body.clone();
                    other[at] ^= 1;
                    assert_ne!(RecordKey::new(id, Some(1), &other).body, key.body, "byte {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_fingerprint_depends_on_the_records_and_not_on_their_order() {
        let keys = [b"1", b"2", b"3"].map(|body| RecordKey::new(Some(ID), Some(1), body));
        let sum = |order: &[usize]| {
            let mut sum = Fingerprint::default();
            order.iter().for_each(|i| sum.add(keys[*i].body));
            sum
        };
        assert_eq!(sum(&[0, 1, 2]), sum(&[2, 0, 1]));
        assert_ne!(sum(&[0, 1, 2]), sum(&[0, 1]));
        assert_ne!(sum(&[0, 1, 2]), sum(&[0, 1, 2, 2]));
        assert_eq!(Fingerprint::parse(&sum(&[0, 1]).to_text()), Some(sum(&[0, 1])));
    }

    #[test]
    fn seconds_are_rounded_down_and_years_that_no_folder_can_name_are_not_times() {
        assert_eq!(second_of_micros(1_999_999), 1);
        assert_eq!(second_of_micros(-1), -1);
        let at = |year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).map(|time| time.and_utc());
        assert!(usable_time(at(1)).is_some() && usable_time(at(9999)).is_some());
        assert!(usable_time(at(0)).is_none() && usable_time(at(10_000)).is_none());
        let leap = protocol::time::parse_timestamp("2016-12-31T23:59:60.5Z");
        assert_eq!(usable_time(leap), protocol::time::parse_timestamp("2017-01-01T00:00:00.5Z"));
    }
}
