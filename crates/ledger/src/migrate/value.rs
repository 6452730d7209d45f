//! A row on its way, the same whichever side it comes from, and the digest that tells whether it arrived.

use super::table::Kind;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, in the order of its table's columns.
pub(super) type Row = Vec<Value>;

/// What a table holds, in short.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    pub(super) rows: u64,
    hasher: blake3::Hasher,
}

impl Sum {
    /// One row more.
    pub(super) fn add(&mut self, row: &Row) {
        self.rows += 1;
        for value in row {
            // Each with its kind and length, so that no two rows have the same bytes.
            match value {
                Value::Null => self.feed(0, &[]),
                Value::Int(number) => self.feed(1, &number.to_le_bytes()),
                Value::Text(text) => self.feed(2, text.as_bytes()),
                Value::Bytes(bytes) => self.feed(3, bytes),
            }
        }
    }

    fn feed(&mut self, kind: u8, bytes: &[u8]) {
        self.hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    /// The digest of all rows in their order.
    pub(super) fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

/// Whether a value may stand in a column of that kind.
pub(super) fn fits(value: &Value, kind: Kind) -> bool {
    match (value, kind) {
        (Value::Null, _)
        | (Value::Int(_), Kind::Int)
        | (Value::Text(_), Kind::Text)
        | (Value::Bytes(_), Kind::Bytes) => true,
        (Value::Int(number), Kind::Small) => i16::try_from(*number).is_ok(),
        (Value::Int(number), Kind::Bool) => matches!(number, 0 | 1),
        (Value::Bytes(bytes), Kind::Uuid) => bytes.len() == 16,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_have_digests_that_differ() {
        let digest = |rows: &[Row]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum.digest()
        };
        let text = |text: &str| Value::Text(text.to_owned());
        assert_ne!(digest(&[vec![text("ab"), text("c")]]), digest(&[vec![text("a"), text("bc")]]));
        assert_ne!(digest(&[vec![Value::Null]]), digest(&[vec![text("")]]));
        assert_ne!(digest(&[vec![text("a")]]), digest(&[vec![Value::Bytes(b"a".to_vec())]]));
        assert_eq!(digest(&[vec![Value::Int(1)], vec![Value::Null]]), digest(&[vec![Value::Int(1), Value::Null]]));
    }
}
