//! A record's bytes with the proof that they are UTF-8, so that the check is made once on the way to the archive.
//!
//! Never made without the check, and never changes a byte.

use std::str::Utf8Error;

use bytes::Bytes;

/// The bytes of one record as delivered; valid UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordText(Bytes);

impl RecordText {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none; of a record there always are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Bytes> for RecordText {
    type Error = (Utf8Error, Bytes);

    /// Checks them.
    ///
    /// # Errors
    /// With the bytes, when they are not UTF-8.
    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(error) => Err((error, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf8_becomes_a_record_and_what_is_none_is_given_back() {
        let text = RecordText::try_from(Bytes::from_static("{\"a\":\"é\"}".as_bytes())).unwrap();
        assert_eq!((text.as_bytes(), text.len()), ("{\"a\":\"é\"}".as_bytes(), 10));
        let (error, bytes) = RecordText::try_from(Bytes::from_static(b"{\xff}")).unwrap_err();
        assert_eq!((error.valid_up_to(), &bytes[..]), (1, &b"{\xff}"[..]));
    }
}
