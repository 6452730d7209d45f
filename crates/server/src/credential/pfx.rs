//! Reading PKCS#12 (`.pfx`, `.p12`): the private key and the certificates in it (RFC 7292).
//!
//! Never writes one: PEM is what this program makes. What old Windows and Java wrote (3DES, RC2) is read, because that is
//! what people have; the password's check over the whole file comes first, so that nothing else in it is believed before.

use aws_lc_rs::{constant_time, digest, hmac};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, InnerIvInit as _, KeyIvInit as _};
use secrecy::zeroize::Zeroizing;

use super::der::{Der, OCTET_STRING, OID, SEQUENCE, dotted};
use super::encrypted::{self, Closed};

/// Rounds of the old derivation beyond which a file is refused; Windows takes 2,000, the largest seen are some 600,000.
const ROUNDS_MAX: u64 = 10_000_000;
/// Certificates and keys in one file beyond which it is no credential.
const BAGS_MAX: usize = 64;

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// 1.2.840.113549.1.12.10.1.x: what a bag holds.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
/// 1.2.840.113549.1.12.1.x: the old ciphers.
const OLD_CIPHER: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 2.16.840.1.101.3.4.2.x: SHA-2.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

const CONTEXT_0: u8 = 0xa0;

/// What a file holds.
#[derive(Default)]
pub(super) struct Pfx {
    /// PKCS#8 keys.
    pub(super) keys: Vec<Zeroizing<Vec<u8>>>,
    /// Certificates, DER.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// A password in the two forms that the format uses.
struct Secret<'a> {
    utf8: &'a [u8],
    /// UTF-16, big-endian, with a zero at its end; nothing at all for what has no password.
    utf16: Zeroizing<Vec<u8>>,
}

/// Opens a file. No password and an empty one are tried as the same, in both ways that programs write it.
pub(super) fn open(file: &[u8], password: Option<&[u8]>) -> Result<Pfx, Closed> {
    let utf8 = password.unwrap_or_default();
    let text = std::str::from_utf8(utf8).map_err(|_| Closed::WrongPassword)?;
    let mut utf16 = Zeroizing::new(Vec::new());
    for unit in text.encode_utf16().chain([0]) {
        utf16.extend_from_slice(&unit.to_be_bytes());
    }
    let opened = open_with(file, &Secret { utf8, utf16 });
    if utf8.is_empty() && matches!(opened, Err(Closed::WrongPassword)) {
        return open_with(file, &Secret { utf8, utf16: Zeroizing::default() });
    }
    opened
}

fn open_with(file: &[u8], secret: &Secret<'_>) -> Result<Pfx, Closed> {
    let mut outer = Der::new(file).sequence().ok_or(Closed::Malformed)?;
    if outer.number() != Some(3) {
        return Err(Closed::Malformed);
    }
    let mut content = outer.sequence().ok_or(Closed::Malformed)?;
    if content.take(OID) != Some(DATA) {
        return Err(Closed::Unknown("a file that is signed instead of protected by a password".to_owned()));
    }
    let content = content.take(CONTEXT_0).and_then(|inner| octets(&mut Der::new(inner))).ok_or(Closed::Malformed)?;
    if let Some(mac) = outer.sequence() {
        check_mac(mac, &content, secret)?;
    }
    let mut safe = Der::new(&content).sequence().ok_or(Closed::Malformed)?;
    let mut pfx = Pfx::default();
    while let Some(mut part) = safe.sequence() {
        let kind = part.take(OID).ok_or(Closed::Malformed)?;
        let inner = part.take(CONTEXT_0).ok_or(Closed::Malformed)?;
        let bags = if kind == DATA {
            Zeroizing::new(octets(&mut Der::new(inner)).ok_or(Closed::Malformed)?)
        } else if kind == ENCRYPTED_DATA {
            decrypt_part(inner, secret)?
        } else {
            continue;
        };
        read_bags(&bags, secret, &mut pfx)?;
    }
    Ok(pfx)
}

/// An OCTET STRING, in one piece or in several.
fn octets(der: &mut Der<'_>) -> Option<Vec<u8>> {
    match der.any()? {
        (OCTET_STRING, whole) => Some(whole.to_vec()),
        (0x24, pieces) => {
            let (mut pieces, mut whole) = (Der::new(pieces), Vec::new());
            while let Some(piece) = pieces.take(OCTET_STRING) {
                whole.extend_from_slice(piece);
            }
            pieces.peek().is_none().then_some(whole)
        }
        _ => None,
    }
}

fn decrypt_part(inner: &[u8], secret: &Secret<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let mut encrypted = Der::new(inner).sequence().ok_or(Closed::Malformed)?;
    encrypted.number().ok_or(Closed::Malformed)?;
    let mut content = encrypted.sequence().ok_or(Closed::Malformed)?;
    content.take(OID).ok_or(Closed::Malformed)?;
    let algorithm = content.sequence().ok_or(Closed::Malformed)?;
    let data = match content.any() {
        Some((0x80, data)) => data.to_vec(),
        // In pieces.
        Some((CONTEXT_0, pieces)) => {
            let (mut pieces, mut data) = (Der::new(pieces), Vec::new());
            while let Some(piece) = pieces.take(OCTET_STRING) {
                data.extend_from_slice(piece);
            }
            data
        }
        _ => return Err(Closed::Malformed),
    };
    decrypt(algorithm, &data, secret)
}

fn read_bags(bags: &[u8], secret: &Secret<'_>, pfx: &mut Pfx) -> Result<(), Closed> {
    let mut bags = Der::new(bags).sequence().ok_or(Closed::WrongPassword)?;
    while let Some(mut bag) = bags.sequence() {
        if pfx.keys.len() + pfx.certificates.len() >= BAGS_MAX {
            return Err(Closed::Malformed);
        }
        let kind = bag.take(OID).ok_or(Closed::Malformed)?;
        let value = bag.take(CONTEXT_0).ok_or(Closed::Malformed)?;
        match kind.strip_prefix(BAG) {
            Some([1]) => pfx.keys.push(Zeroizing::new(value.to_vec())),
            Some([2]) => {
                let mut shrouded = Der::new(value).sequence().ok_or(Closed::Malformed)?;
                let algorithm = shrouded.sequence().ok_or(Closed::Malformed)?;
                let data = shrouded.take(OCTET_STRING).ok_or(Closed::Malformed)?;
                let key = decrypt(algorithm, data, secret)?;
                if key.first() != Some(&SEQUENCE) {
                    return Err(Closed::WrongPassword);
                }
                pfx.keys.push(key);
            }
            Some([3]) => {
                let mut certificate = Der::new(value).sequence().ok_or(Closed::Malformed)?;
                if certificate.take(OID) == Some(X509) {
                    let der = certificate.take(CONTEXT_0).and_then(|inner| octets(&mut Der::new(inner)));
                    pfx.certificates.push(der.ok_or(Closed::Malformed)?);
                }
            }
            // Revocation lists, secrets, bags in bags: not ours.
            _ => {}
        }
    }
    Ok(())
}

/// The password's check over the whole content (RFC 7292 §4, MacData).
fn check_mac(mut mac: Der<'_>, content: &[u8], secret: &Secret<'_>) -> Result<(), Closed> {
    let mut digest_info = mac.sequence().ok_or(Closed::Malformed)?;
    let name = digest_info.sequence().and_then(|mut algorithm| algorithm.take(OID)).ok_or(Closed::Malformed)?;
    let expected = digest_info.take(OCTET_STRING).ok_or(Closed::Malformed)?;
    let salt = mac.take(OCTET_STRING).ok_or(Closed::Malformed)?;
    let rounds = if mac.peek().is_some() { mac.number().ok_or(Closed::Malformed)? } else { 1 };
    let (hash, algorithm) = match (name, name.strip_prefix(SHA2)) {
        (SHA1, _) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        (_, Some([1])) => (&digest::SHA256, hmac::HMAC_SHA256),
        (_, Some([2])) => (&digest::SHA384, hmac::HMAC_SHA384),
        (_, Some([3])) => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(Closed::Unknown(dotted(name))),
    };
    let mut key = Zeroizing::new(vec![0; hash.output_len()]);
    derive(hash, Purpose::Mac, &secret.utf16, salt, rounds, &mut key)?;
    let found = hmac::sign(&hmac::Key::new(algorithm, &key), content);
    constant_time::verify_slices_are_equal(found.as_ref(), expected).map_err(|_| Closed::WrongPassword)
}

fn decrypt(algorithm: Der<'_>, data: &[u8], secret: &Secret<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let mut old = algorithm;
    let name = old.take(OID).ok_or(Closed::Malformed)?;
    let Some([which]) = name.strip_prefix(OLD_CIPHER) else {
        return encrypted::open(algorithm, data, secret.utf8);
    };
    let mut parameters = old.sequence().ok_or(Closed::Malformed)?;
    let salt = parameters.take(OCTET_STRING).ok_or(Closed::Malformed)?;
    let rounds = parameters.number().ok_or(Closed::Malformed)?;
    let material = |length: usize| {
        let (mut key, mut iv) = (Zeroizing::new(vec![0; length]), [0; 8]);
        let hash = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        derive(hash, Purpose::Key, &secret.utf16, salt, rounds, &mut key)?;
        derive(hash, Purpose::Iv, &secret.utf16, salt, rounds, &mut iv)?;
        Ok::<_, Closed>((key, iv))
    };
    let plain = match which {
        3 => {
            let (key, iv) = material(24)?;
            let cipher = cbc::Decryptor::<des::TdesEde3>::new_from_slices(&key, &iv).map_err(|_| Closed::Malformed)?;
            cipher.decrypt_padded_vec::<Pkcs7>(data)
        }
        5 | 6 => {
            let (key, iv) = material(if *which == 5 { 16 } else { 5 })?;
            // The effective length is the key's own, which is what the cipher takes when it is not told another.
            let cipher = rc2::Rc2::new_with_eff_key_len(&key, key.len() * 8);
            cbc::Decryptor::inner_iv_init(cipher, &iv.into()).decrypt_padded_vec::<Pkcs7>(data)
        }
        _ => return Err(Closed::Unknown(dotted(name))),
    };
    plain.map(Zeroizing::new).map_err(|_| Closed::WrongPassword)
}

/// What bytes are derived for (RFC 7292 §B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// The derivation of RFC 7292 §B.2.
fn derive(
    hash: &'static digest::Algorithm,
    purpose: Purpose,
    password: &[u8],
    salt: &[u8],
    rounds: u64,
    out: &mut [u8],
) -> Result<(), Closed> {
    if rounds == 0 || rounds > ROUNDS_MAX {
        return Err(Closed::Malformed);
    }
    let block = hash.block_len();
    let filled =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().cycle().take(bytes.len().div_ceil(block) * block).collect() };
    let mut input = Zeroizing::new([filled(salt), filled(password)].concat());
    for chunk in out.chunks_mut(hash.output_len()) {
        let mut context = digest::Context::new(hash);
        context.update(&vec![purpose as u8; block]);
        context.update(&input);
        let mut found = context.finish();
        for _ in 1..rounds {
            found = digest::digest(hash, found.as_ref());
        }
        chunk.copy_from_slice(&found.as_ref()[..chunk.len()]);
        let addend: Vec<u8> = found.as_ref().iter().copied().cycle().take(block).collect();
        for part in input.chunks_mut(block) {
            // part = part + addend + 1, as numbers of `block` bytes.
            let mut carry = 1_u16;
            for (byte, add) in part.iter_mut().rev().zip(addend.iter().rev()) {
                carry += u16::from(*byte) + u16::from(*add);
                *byte = carry.to_le_bytes()[0];
                carry >>= 8;
            }
        }
    }
    Ok(())
}
