//! Credential files as people have them: good ones of every form, and each kind of bad one.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use protocol::time::Timestamp;
use protocol::token::AssertionAlgorithm;
use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use tempfile::TempDir;

use super::*;

struct Pair {
    key: String,
    certificate: String,
}

fn rsa_pair() -> Pair {
    let key = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    pair(&key)
}

fn pair(key: &rcgen::KeyPair) -> Pair {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "tenantry test");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    Pair { key: key.serialize_pem(), certificate: params.self_signed(key).unwrap().pem() }
}

fn now() -> Timestamp {
    protocol::time::parse_timestamp("2026-06-01T00:00:00Z").unwrap()
}

fn read(texts: &[&str]) -> Result<CertificateCredential, CredentialError> {
    read_at(texts, now())
}

fn read_at(texts: &[&str], now: Timestamp) -> Result<CertificateCredential, CredentialError> {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        paths.push(write_private(&dir, &format!("file{number}.pem"), text.as_bytes()));
    }
    let files = CertificateFiles { path: paths[0].clone(), key_path: paths.get(1).cloned(), password: None };
    CertificateCredential::read(&files, AssertionAlgorithm::Rs256, now)
}

fn write_private(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    set_mode(&path, 0o600);
    path
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Each refusal is one sentence with the path and a remedy.
fn check_refused(texts: &[&str], expected: &str) {
    let error = read(texts).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("file"), "{error}");
    assert!(!error.ends_with('.') && !error.contains('\n'), "{error}");
}

#[test]
fn a_key_and_its_certificate_are_read_from_one_file_or_two_in_any_order() {
    let Pair { key, certificate } = rsa_pair();
    let together = read(&[&format!("{key}{certificate}")]).unwrap();
    let reversed = read(&[&format!("{certificate}{key}")]).unwrap();
    let apart = read(&[&certificate, &key]).unwrap();
    for credential in [&together, &reversed, &apart] {
        assert_eq!(credential.key_bits(), 2048);
        assert_eq!(credential.thumbprint(), together.thumbprint());
        assert_eq!(credential.not_after().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert!(credential.subject().contains("tenantry test"), "{}", credential.subject());
    }
    assert!(!format!("{together:?}").contains("KeyPair"), "{together:?}");
}

/// Made with OpenSSL; see the README beside them.
macro_rules! openssl {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/openssl/", $name))
    };
}

/// What `openssl x509 -fingerprint` prints of the fixture's certificate.
const FIXTURE_SHA1: &str = "D47E026DC578B974C87973876120214D0A245432";

fn text(password: &str) -> Option<Password> {
    Some(Password::text(password))
}

fn open(key: &str, password: Option<Password>) -> Result<CertificateCredential, CredentialError> {
    let dir = tempfile::tempdir().unwrap();
    let key = write_private(&dir, "key.pem", key.as_bytes());
    let path = write_private(&dir, "certificate.pem", openssl!("certificate.pem").as_bytes());
    let files = CertificateFiles { path, key_path: Some(key), password };
    CertificateCredential::load(&files, AssertionAlgorithm::Rs256)
}

#[test]
fn keys_are_read_in_every_form_openssl_writes_them_and_encrypted_ones_with_their_password() {
    for plain in [openssl!("key.pem"), openssl!("pkcs1.pem")] {
        assert_eq!(open(plain, None).unwrap().details().sha1_hex(), FIXTURE_SHA1);
        assert!(open(plain, text("not needed")).is_ok());
    }
    for encrypted in [openssl!("aes256-sha256.pem"), openssl!("aes192-sha512.pem"), openssl!("aes128-sha1.pem")] {
        assert_eq!(open(encrypted, text("correct horse")).unwrap().details().sha1_hex(), FIXTURE_SHA1);
        let refused = |password| open(encrypted, password).unwrap_err();
        assert!(matches!(refused(text("correct horse ")), CredentialError::WrongPassword { .. }));
        assert!(matches!(refused(text("")), CredentialError::WrongPassword { .. }));
        assert!(matches!(refused(None), CredentialError::NoPassword { .. }));
    }
    for (old, method) in [(openssl!("des3.pem"), "1.2.840.113549.3.7"), (openssl!("traditional.pem"), "of old")] {
        let error = open(old, text("correct horse")).unwrap_err().to_string();
        assert!(error.contains(method) && error.contains("openssl pkcs8 -topk8"), "{error}");
    }
}

const PKCS12: [(&str, &[u8]); 3] = [
    ("AES and SHA-256", include_bytes!("../../tests/fixtures/openssl/modern.p12")),
    ("RC2 and 3DES", include_bytes!("../../tests/fixtures/openssl/rc2.p12")),
    ("3DES", include_bytes!("../../tests/fixtures/openssl/des3.p12")),
];

fn open_pkcs12(bytes: &[u8], password: Option<Password>) -> Result<CertificateCredential, CredentialError> {
    let dir = tempfile::tempdir().unwrap();
    let path = write_private(&dir, "app.pfx", bytes);
    CertificateCredential::load(&CertificateFiles { path, key_path: None, password }, AssertionAlgorithm::Rs256)
}

#[test]
fn pkcs12_is_read_as_new_and_old_programs_write_it() {
    for (name, bytes) in PKCS12 {
        let opened = open_pkcs12(bytes, text("correct horse")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(opened.details().sha1_hex(), FIXTURE_SHA1, "{name}");
        assert!(matches!(open_pkcs12(bytes, text("wrong")), Err(CredentialError::WrongPassword { .. })), "{name}");
        assert!(matches!(open_pkcs12(bytes, None), Err(CredentialError::NoPassword { .. })), "{name}");
    }
    for (name, bytes) in [
        ("an empty password", &include_bytes!("../../tests/fixtures/openssl/empty.p12")[..]),
        ("no protection at all", include_bytes!("../../tests/fixtures/openssl/plain.p12")),
    ] {
        for password in [None, text("")] {
            let opened = open_pkcs12(bytes, password).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(opened.details().sha1_hex(), FIXTURE_SHA1, "{name}");
        }
    }
    let sha384 = include_bytes!("../../tests/fixtures/openssl/mac-sha384.p12");
    assert!(open_pkcs12(sha384, text("correct horse")).is_ok());
    assert!(matches!(open_pkcs12(sha384, text("wrong")), Err(CredentialError::WrongPassword { .. })));
}

#[test]
fn a_damaged_pkcs12_file_is_refused_and_never_panics() {
    let (_, whole) = PKCS12[1];
    for end in (0..whole.len()).step_by(13) {
        assert!(open_pkcs12(&whole[..end], text("correct horse")).is_err(), "{end}");
    }
    for place in (4..whole.len()).step_by(29) {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 0x40;
        // Every byte is under the password's check, or is the check, or says how it is made.
        let opened = open_pkcs12(&damaged, text("correct horse"));
        assert!(opened.is_err() || opened.is_ok_and(|opened| opened.details().sha1_hex() == FIXTURE_SHA1), "{place}");
    }
}

#[test]
fn a_password_comes_from_the_first_line_of_a_private_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_private(&dir, "password.txt", b"correct horse\r\nnot this\n");
    let password = Password::File(path.clone());
    assert!(open(openssl!("aes256-sha256.pem"), Some(password.clone())).is_ok());
    set_mode(&path, 0o644);
    let error = open(openssl!("aes256-sha256.pem"), Some(password)).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("password.txt"), "{error}");
    assert!(!format!("{:?}", text("correct horse")).contains("horse"));
}

#[test]
fn a_damaged_or_shortened_encrypted_key_is_never_taken_for_the_whole_one() {
    let whole = x509_parser::pem::parse_x509_pem(openssl!("aes256-sha256.pem").as_bytes()).unwrap().1.contents;
    let plain = encrypted::open_pkcs8(&whole, b"correct horse").unwrap();
    for place in 0..whole.len() {
        assert!(encrypted::open_pkcs8(&whole[..place], b"correct horse").is_err(), "{place}");
    }
    // Behind the header each byte is one of the ciphertext's.
    for place in (200..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x11;
        assert_ne!(encrypted::open_pkcs8(&damaged, b"correct horse").as_ref(), Ok(&plain), "{place}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let Pair { key, certificate } = rsa_pair();
    let dir = tempfile::tempdir().unwrap();
    let path = write_private(&dir, "app.pem", format!("{key}{certificate}").as_bytes());
    let read = || CertificateCredential::read(&CertificateFiles::at(&path), AssertionAlgorithm::Rs256, now());
    for private in [0o600, 0o400, 0o700] {
        set_mode(&path, private);
        assert!(read().is_ok(), "{private:o}");
    }
    // A group may read what root owns; that is `private_file`'s to test.
    for exposed in [0o604, 0o644, 0o620, 0o601, 0o666] {
        set_mode(&path, exposed);
        let error = read().unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        assert!(error.contains(&format!("{exposed:04o}")), "{error}");
        assert!(matches!(inspect_certificate(&path, None), Err(CredentialError::Exposed { .. })));
    }
    // A certificate alone is public.
    std::fs::write(&path, &certificate).unwrap();
    assert!(matches!(inspect_certificate(&path, None).unwrap().key, KeyState::Absent));
}

fn request<'a>(out: &'a Path, subject: &'a str) -> CertificateRequest<'a> {
    CertificateRequest { out, bits: 2048, days: 365, subject, now: now() }
}

#[test]
fn a_new_certificate_is_read_back_private_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("app.pem");
    let made = new_certificate(&request(&out, "CN=Tenantry collector")).unwrap();
    assert_eq!(made.public_path, dir.path().join("app.crt"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&out), 0o600);
    let read = CertificateCredential::read(&CertificateFiles::at(&out), AssertionAlgorithm::Ps256, now()).unwrap();
    assert_eq!((read.details(), read.key_bits()), (&made.details, 2048));
    assert_eq!(made.details.subject, "CN=Tenantry collector");
    assert_eq!(made.details.not_before.to_rfc3339(), "2026-05-31T23:50:00+00:00");
    assert_eq!(made.details.not_after.to_rfc3339(), "2027-06-01T00:00:00+00:00");
    let public = inspect_certificate(&made.public_path, None).unwrap();
    assert_eq!((&public.certificate, public.chain), (&made.details, 0));
    assert!(matches!(public.key, KeyState::Absent));
    assert!(!std::fs::read_to_string(&made.public_path).unwrap().contains("PRIVATE"));

    let before = std::fs::read(&out).unwrap();
    let refused = new_certificate(&request(&out, "x")).unwrap_err();
    assert!(matches!(refused, CredentialError::Exists { ref path } if *path == out), "{refused}");
    std::fs::remove_file(&out).unwrap();
    let refused = new_certificate(&request(&out, "x")).unwrap_err();
    assert!(matches!(refused, CredentialError::Exists { ref path } if *path == made.public_path), "{refused}");
    assert!(!out.exists(), "nothing is left of a pair that could not be written");
    assert!(String::from_utf8(before).unwrap().contains("PRIVATE KEY"));
    let named_crt = dir.path().join("other.crt");
    assert_eq!(new_certificate(&request(&named_crt, "x")).unwrap().public_path, dir.path().join("other.cer"));
}

#[test]
fn what_entra_or_x509_does_not_bear_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("app.pem");
    let ask = |bits, days, subject| new_certificate(&CertificateRequest { out: &out, bits, days, subject, now: now() });
    for bits in [0, 1024, 2047, 2049, 8192] {
        assert!(matches!(ask(bits, 1, "x"), Err(CredentialError::KeyLength { .. })), "{bits}");
    }
    for days in [0, 3651] {
        assert!(matches!(ask(2048, days, "x"), Err(CredentialError::Validity { .. })), "{days}");
    }
    let long = "x".repeat(65);
    for subject in ["", "  ", "CN=", "a\nb", &long] {
        assert!(matches!(ask(2048, 1, subject), Err(CredentialError::Subject { .. })), "{subject:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(ask(2048, 3650, &long[..64]).is_ok());
    let nowhere = out.join("below-a-file.pem");
    let error = new_certificate(&request(&nowhere, "x")).unwrap_err();
    assert!(matches!(error, CredentialError::Unwritable { .. }), "{error}");
}

#[test]
fn a_file_is_shown_with_its_chain_and_the_state_of_its_key() {
    let Pair { key, certificate } = rsa_pair();
    let other = rsa_pair();
    let dir = tempfile::tempdir().unwrap();
    let show = |text: String, password: Option<Password>| {
        inspect_certificate(&write_private(&dir, "file.pem", text.as_bytes()), password.as_ref()).unwrap()
    };
    let shown = show(format!("{key}{certificate}{}", other.certificate), None);
    assert!(matches!(shown.key, KeyState::Belongs));
    assert_eq!((shown.chain, shown.certificate.rsa_bits), (1, Some(2048)));
    assert!(matches!(
        show(format!("{}{certificate}", other.key), None).key,
        KeyState::Unusable(CredentialError::Mismatch { .. })
    ));
    let encrypted = format!("{}{}", openssl!("aes256-sha256.pem"), openssl!("certificate.pem"));
    assert!(matches!(show(encrypted.clone(), None).key, KeyState::Encrypted));
    assert!(matches!(show(encrypted.clone(), text("correct horse")).key, KeyState::Belongs));
    assert!(matches!(show(encrypted, text("wrong")).key, KeyState::Unusable(CredentialError::WrongPassword { .. })));
}

#[test]
fn signatures_of_both_kinds_verify_with_the_certificates_key() {
    let Pair { key, certificate } = rsa_pair();
    let credential = read(&[&format!("{key}{certificate}")]).unwrap();
    let public = credential.public_key();
    let signature = credential.sign(b"header.claims");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).verify(b"header.claims", &signature).unwrap();
    let credential = credential.signing_by(AssertionAlgorithm::Ps256);
    let signature = credential.sign(b"header.claims");
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &public).verify(b"header.claims", &signature).unwrap();
}

#[test]
fn what_entra_would_refuse_is_refused_with_path_and_remedy() {
    let Pair { key, certificate } = rsa_pair();
    let other = rsa_pair();
    let ec = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ec = pair(&ec);
    check_refused(&[&certificate], "holds no private key");
    check_refused(&[&key], "holds no certificate");
    check_refused(&["not pem at all"], "holds neither PEM text");
    check_refused(&["-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"], "holds neither PEM text");
    check_refused(&[&format!("{}{}", ec.key, ec.certificate)], "not an RSA key");
    check_refused(&[&format!("{}{certificate}", other.key)], "does not belong to the certificate");
    check_refused(
        &[&format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n{certificate}")],
        "is encrypted and no password",
    );
    check_refused(&[&format!("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")], "cannot be read");
    check_refused(&[&"x".repeat(256 * 1024 + 1)], "larger than 262144 bytes");
}

#[test]
fn a_missing_file_is_named() {
    let files = CertificateFiles::at("/nonexistent/app.pem");
    let error = CertificateCredential::read(&files, AssertionAlgorithm::Rs256, now()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/app.pem") && error.contains("correct the path"), "{error}");
}

#[test]
fn a_key_of_1024_bits_is_too_short() {
    let error = read(&[SHORT]).unwrap_err();
    assert!(matches!(error, CredentialError::ShortKey { .. }), "{error}");
}

#[test]
fn a_certificate_is_refused_just_outside_its_validity_and_accepted_at_its_ends() {
    let Pair { key, certificate } = rsa_pair();
    let text = format!("{key}{certificate}");
    let at = |time: &str| read_at(&[&text], protocol::time::parse_timestamp(time).unwrap());
    assert!(at("2026-01-01T00:00:00Z").is_ok());
    assert!(at("2027-01-01T00:00:00Z").is_ok());
    assert!(matches!(at("2025-12-31T23:59:59Z"), Err(CredentialError::NotYetValid { .. })));
    assert!(matches!(at("2027-01-01T00:00:01Z"), Err(CredentialError::Expired { .. })));
}

/// Made for this test with `openssl req -x509 -newkey rsa:1024`; opens nothing.
const SHORT: &str = include_str!("../../tests/fixtures/rsa1024.pem");
