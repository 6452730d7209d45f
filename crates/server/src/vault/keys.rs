//! The vault's keys as text: one a line (in a file) or parted by commas (in a variable), 32 random bytes in base64 each.
//!
//! Never shows a key: what is wrong is said by its place in the text.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::VaultError;

/// AES-256.
const KEY_BYTES: usize = 32;

/// More keys than any rotation leaves behind; a longer list is no key file.
pub(super) const KEYS_MAX: usize = 16;

/// What a key file begins with.
const HEADER: &str = "# Tenantry's key: it seals the secrets that the ledger keeps. Whoever has it and the ledger can read them.\n\
     # The first key seals, every key opens; `tenantry secrets rotate` renews it. Keep a copy, apart from the ledger's.\n";

/// Which key sealed something: the first 8 bytes of a digest of the key. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(super) [u8; KeyId::BYTES]);

impl KeyId {
    pub(super) const BYTES: usize = 8;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key as text that a file or variable may hold.
pub(super) fn generate() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(&mut *bytes).expect("the system's random source answers, or nothing here can be secret");
    Zeroizing::new(STANDARD.encode(bytes.as_slice()))
}

/// The text of a key file with these keys, each as [`generate`] makes them.
pub(super) fn file_text(keys: &[&str]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(HEADER.to_owned());
    for key in keys {
        text.push_str(key);
        text.push('\n');
    }
    text
}

/// The keys of a text, the first first: one a line or parted by commas; what follows a `#` is left out.
pub(super) fn split(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

/// One key, ready to seal and open.
pub(super) struct Key {
    id: KeyId,
    cipher: RandomizedNonceKey,
}

impl Key {
    /// Reads every key of a text. `place` names the file or variable.
    pub(super) fn read_all(text: &str, place: &str) -> Result<Vec<Self>, VaultError> {
        let words = split(text);
        if words.is_empty() || words.len() > KEYS_MAX {
            return Err(VaultError::NoKeys { place: place.to_owned(), found: words.len() });
        }
        let mut keys: Vec<Self> = Vec::with_capacity(words.len());
        for (index, word) in words.into_iter().enumerate() {
            let key =
                Self::read(word).ok_or_else(|| VaultError::BadKey { place: place.to_owned(), number: index + 1 })?;
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn read(word: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(word).ok().filter(|bytes| bytes.len() == KEY_BYTES)?);
        // A key that is all one byte was typed, not drawn.
        if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
            return None;
        }
        let mut named = Zeroizing::new(b"tenantry vault key\0".to_vec());
        named.extend_from_slice(&bytes);
        let mut id = [0; KeyId::BYTES];
        id.copy_from_slice(digest(&SHA256, &named).as_ref().get(..KeyId::BYTES)?);
        Some(Self { id: KeyId(id), cipher: RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()? })
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Appends nonce, ciphertext and tag to what is in `sealed`, which is the associated data.
    pub(super) fn seal(&self, sealed: &mut Vec<u8>, plain: &[u8]) {
        let mut body = plain.to_vec();
        // In place: the plain text is overwritten by its cipher.
        let nonce = self
            .cipher
            .seal_in_place_append_tag(Aad::from(&*sealed), &mut body)
            .expect("AES-256-GCM seals any text below 64 GiB");
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
    }

    /// Opens what [`Key::seal`] made of `head`; `None` when anything of it was changed.
    pub(super) fn open(&self, head: &[u8], nonce: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self.cipher.open_in_place(nonce, Aad::from(head), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Key::read_all(text, "secret.key").err().unwrap().to_string()
    }

    #[test]
    fn keys_are_read_from_lines_and_commas_the_first_first() {
        let (a, b, c) = (generate(), generate(), generate());
        let text = file_text(&[&a, &b]);
        let ids = |text: &str| -> Vec<KeyId> { Key::read_all(text, "x").unwrap().iter().map(Key::id).collect() };
        let [first, second, third] = [&a, &b, &c].map(|key| ids(key)[0]);
        assert_eq!(ids(&text), [first, second]);
        assert_eq!(ids(&format!("{},\n {} # old\n{}", *c, *a, *c)), [third, first]);
        assert!(first != second && second != third);
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_place_and_never_repeated() {
        let good = generate();
        assert!(message("").contains("secret.key") && message("# nothing\n").contains("no key"));
        let short = STANDARD.encode([1, 2, 3]);
        for bad in ["hunter2", short.as_str(), &STANDARD.encode([0; 32]), &STANDARD.encode([7; 33])] {
            let message = message(&format!("{}\n{bad}\n", *good));
            assert!(message.contains("key 2 in secret.key"), "{message}");
            assert!(!message.contains(bad) && !message.contains(&*good), "{message}");
        }
        let many = |count: usize| vec![good.as_str(); count].join("\n");
        assert!(Key::read_all(&many(KEYS_MAX), "x").is_ok());
        assert!(Key::read_all(&many(KEYS_MAX + 1), "x").is_err());
    }
}
