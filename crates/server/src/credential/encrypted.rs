//! Opening what a password protects: PBES2 (RFC 8018) with PBKDF2 and AES-CBC, as OpenSSL 1.1 and later write it.
//!
//! Never tries a cipher it does not know, and never more rounds than a password could need: a hostile file would only cost
//! time.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use secrecy::zeroize::Zeroizing;

use super::der::{Der, INTEGER, OCTET_STRING, OID, SEQUENCE, dotted};

/// Rounds of PBKDF2 beyond which a file is refused: a hundred times what is recommended today, some seconds of CPU.
const ROUNDS_MAX: u64 = 50_000_000;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.2.840.113549.2.x: the HMACs.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
/// 2.16.840.1.101.3.4.1.x: AES.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];

/// Why something could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is not what it says.
    Malformed,
    /// It is encrypted in a way that is not read.
    Unknown(String),
    /// The password does not fit.
    WrongPassword,
}

/// The PKCS#8 key in an EncryptedPrivateKeyInfo (RFC 5958 §3).
pub(super) fn open_pkcs8(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let mut outer = Der::new(der).sequence().ok_or(Closed::Malformed)?;
    let algorithm = outer.sequence().ok_or(Closed::Malformed)?;
    let data = outer.take(OCTET_STRING).ok_or(Closed::Malformed)?;
    let plain = open(algorithm, data, password)?;
    // A wrong password passes the padding check once in 256 times; a key begins as one.
    if plain.first() == Some(&SEQUENCE) { Ok(plain) } else { Err(Closed::WrongPassword) }
}

/// Opens `data` by the AlgorithmIdentifier that stands beside it.
pub(super) fn open(mut algorithm: Der<'_>, data: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let method = algorithm.take(OID).ok_or(Closed::Malformed)?;
    if method != PBES2 {
        return Err(Closed::Unknown(dotted(method)));
    }
    let mut parameters = algorithm.sequence().ok_or(Closed::Malformed)?;
    let derivation = parameters.sequence().ok_or(Closed::Malformed)?;
    let mut cipher = parameters.sequence().ok_or(Closed::Malformed)?;
    let name = cipher.take(OID).ok_or(Closed::Malformed)?;
    // …1.2, …1.22 and …1.42 are AES-CBC with 128, 192 and 256 bits.
    let (algorithm, key_bytes) = match name.strip_prefix(AES) {
        Some([2]) => (&AES_128, 16),
        Some([22]) => (&AES_192, 24),
        Some([42]) => (&AES_256, 32),
        _ => return Err(Closed::Unknown(dotted(name))),
    };
    let iv: [u8; 16] = cipher.take(OCTET_STRING).and_then(|iv| iv.try_into().ok()).ok_or(Closed::Malformed)?;
    let mut key = Zeroizing::new(vec![0; key_bytes]);
    derive(derivation, password, &mut key)?;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(|_| Closed::Malformed)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Closed::Malformed)?;
    let mut buffer = Zeroizing::new(data.to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain = key.decrypt(&mut buffer, context).map_err(|_| Closed::WrongPassword)?;
    Ok(Zeroizing::new(plain.to_vec()))
}

/// PBKDF2 (RFC 8018 §5.2) by its AlgorithmIdentifier.
fn derive(mut algorithm: Der<'_>, password: &[u8], key: &mut [u8]) -> Result<(), Closed> {
    let method = algorithm.take(OID).ok_or(Closed::Malformed)?;
    if method != PBKDF2 {
        return Err(Closed::Unknown(dotted(method)));
    }
    let mut parameters = algorithm.sequence().ok_or(Closed::Malformed)?;
    let salt = parameters.take(OCTET_STRING).ok_or(Closed::Malformed)?;
    let rounds = parameters.number().filter(|rounds| *rounds <= ROUNDS_MAX).ok_or(Closed::Malformed)?;
    let rounds = u32::try_from(rounds).ok().and_then(NonZeroU32::new).ok_or(Closed::Malformed)?;
    if parameters.peek() == Some(INTEGER) {
        // The key's length, which the cipher says too.
        parameters.number().ok_or(Closed::Malformed)?;
    }
    let hmac = match parameters.sequence() {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(mut hmac) => {
            let name = hmac.take(OID).ok_or(Closed::Malformed)?;
            match name.strip_prefix(HMAC) {
                Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
                Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
                Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
                Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => return Err(Closed::Unknown(dotted(name))),
            }
        }
    };
    pbkdf2::derive(hmac, rounds, salt, password, key);
    Ok(())
}
