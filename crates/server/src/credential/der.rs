//! Walking through DER, as far as keys and their envelopes need it.
//!
//! Never copies and never panics: whatever is not as expected is `None`. Indefinite lengths are not DER and not read.

/// A tag of the universal class, or of a context.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// What is left of a run of elements.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        self.any().map(|(_, content)| content)
    }

    /// What is in the next element, if it is a SEQUENCE.
    pub(super) fn sequence(&mut self) -> Option<Der<'a>> {
        self.take(SEQUENCE).map(Der)
    }

    /// A whole number of at most eight bytes, not negative.
    pub(super) fn number(&mut self) -> Option<u64> {
        let bytes = self.take(INTEGER)?;
        let bytes = if bytes.first() == Some(&0) { bytes.get(1..)? } else { bytes };
        if bytes.len() > 8 {
            return None;
        }
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The next element: its tag and its content.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ 0..=0x7f => (short, rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

/// An object identifier as people write it, for messages.
pub(super) fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_walked_and_what_is_cut_off_is_not_read() {
        let bytes = [0x30, 0x08, 0x02, 0x02, 0x01, 0x00, 0x04, 0x02, 0xaa, 0xbb];
        let mut inner = Der::new(&bytes).sequence().unwrap();
        assert_eq!(inner.number(), Some(256));
        assert_eq!(inner.take(OID), None, "another tag");
        assert_eq!(inner.take(OCTET_STRING), Some(&[0xaa, 0xbb][..]));
        assert_eq!(inner.peek(), None);
        for end in 0..bytes.len() {
            assert!(Der::new(&bytes[..end]).sequence().is_none(), "{end}");
        }
        assert_eq!(Der::new(&[0x04, 0x82, 0x00, 0x01, 7]).take(OCTET_STRING), Some(&[7][..]));
        assert_eq!(Der::new(&[0x30, 0x80, 0, 0]).sequence().map(|_| ()), None, "indefinite");
        assert_eq!(Der::new(&[2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]).number(), Some(u64::MAX));
        assert_eq!(Der::new(&[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]).number(), None);
    }

    #[test]
    fn object_identifiers_are_written_with_dots() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d]), "1.2.840.113549.1.5.13");
        assert_eq!(dotted(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a]), "2.16.840.1.101.3.4.1.42");
    }
}
