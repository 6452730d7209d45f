//! What was sealed opens for its purpose and under its key, and for nothing else.

use proptest::prelude::*;

use super::*;

fn variable(keys: &[&str]) -> Vault {
    let text = Zeroizing::new(keys.join(","));
    Vault::load(KeySource::Variable { name: "TENANTRY_SECRETS__KEY".to_owned(), text }).unwrap()
}

proptest! {
    #[test]
    fn what_was_sealed_opens_again_and_no_two_seals_are_alike(
        plain in prop::collection::vec(any::<u8>(), 0..300),
        purpose in ".{0,40}",
    ) {
        let vault = Vault::ephemeral();
        let (one, two) = (vault.seal(&purpose, &plain), vault.seal(&purpose, &plain));
        prop_assert_ne!(&one, &two);
        let opened = vault.open(&purpose, &one).unwrap();
        prop_assert_eq!(opened.expose(), &plain[..]);
        // The overhead callers count on: 11 bytes of head, the purpose, 12 of nonce, 16 of tag.
        prop_assert_eq!(one.len(), 39 + purpose.len() + plain.len());
    }

    #[test]
    fn any_flipped_bit_is_refused(plain in prop::collection::vec(any::<u8>(), 0..64), purpose in "[a-z./]{0,20}") {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(&purpose, &plain);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(vault.open(&purpose, &changed).is_err(), "bit {}", bit);
            prop_assert!(!matches!(vault.reseal(&changed), Ok(Some(_))), "bit {}", bit);
        }
    }

    #[test]
    fn another_length_is_refused(plain in prop::collection::vec(any::<u8>(), 0..64), extra in any::<u8>()) {
        let vault = Vault::ephemeral();
        let sealed = vault.seal("p", &plain);
        for length in 0..sealed.len() {
            prop_assert!(vault.open("p", &sealed[..length]).is_err(), "{} bytes", length);
        }
        let mut longer = sealed;
        longer.push(extra);
        prop_assert!(vault.open("p", &longer).is_err());
    }

    #[test]
    fn bytes_of_strangers_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Vault::ephemeral().open("p", &bytes).is_err());
        prop_assert!(Vault::ephemeral().reseal(&bytes).is_err());
    }

    #[test]
    fn another_purpose_is_refused(sealed_for in "[a-c]{0,3}", opened_for in "[a-c]{0,3}") {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(&sealed_for, b"x");
        prop_assert_eq!(vault.open(&opened_for, &sealed).is_ok(), sealed_for == opened_for);
    }
}

#[test]
fn a_purpose_that_was_rewritten_in_the_value_is_noticed() {
    let vault = Vault::ephemeral();
    let mut sealed = vault.seal("webhook.auth_id/a", b"x");
    sealed[PURPOSE_AT + 16] = b'b';
    let error = vault.open("webhook.auth_id/b", &sealed).unwrap_err();
    assert!(matches!(error, VaultError::Changed { .. }), "{error}");
}

#[test]
fn the_first_key_seals_every_key_opens_and_a_key_that_is_gone_is_named() {
    let (old, new) = (keys::generate(), keys::generate());
    let before = variable(&[&old]);
    let sealed = before.seal("p", b"verifier");
    assert_eq!(before.reseal(&sealed).unwrap(), None);

    let during = variable(&[&new, &old]);
    assert_eq!(during.open("p", &sealed).unwrap().expose_text(), Some("verifier"));
    let again = during.reseal(&sealed).unwrap().unwrap();

    let after = variable(&[&new]);
    assert_eq!(after.open("p", &again).unwrap().expose(), b"verifier");
    let error = after.open("p", &sealed).unwrap_err();
    assert!(matches!(error, VaultError::UnknownKey { .. }), "{error}");
    assert!(error.to_string().contains(&before.key_ids()[0].to_string()), "{error}");
}

#[test]
fn nothing_secret_is_ever_printed() {
    let key = keys::generate();
    let vault = variable(&[&key]);
    let sealed = vault.seal("p", b"hunter2");
    let opened = vault.open("p", &sealed).unwrap();
    for text in [format!("{vault:?}"), format!("{opened:?}"), format!("{:#?}", vault.source)] {
        assert!(!text.contains(key.as_str()) && !text.contains("hunter2"), "{text}");
        assert!(!text.contains("104"), "{text}");
    }
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
}

#[test]
fn a_key_file_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data").join("secret.key");
    let missing = Vault::load_existing(KeySource::File(path.clone())).unwrap_err();
    assert!(matches!(missing, VaultError::Missing { .. }) && !path.exists(), "{missing}");

    let first = Vault::load(KeySource::File(path.clone())).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let second = Vault::load(KeySource::File(path.clone())).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(second.open("p", &first.seal("p", b"x")).unwrap().expose(), b"x");
    assert_eq!((second.key_file(), second.key_ids()), (Some(path.as_path()), first.key_ids()));
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.key");
    Vault::load(KeySource::File(path.clone())).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let error = Vault::load(KeySource::File(path)).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn many_who_begin_at_once_agree_on_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.key");
    let vaults: Vec<Vault> = std::thread::scope(|scope| {
        let open = || Vault::load(KeySource::File(path.clone())).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(vaults.iter().all(|vault| vault.key_ids() == vaults[0].key_ids()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_running_program_follows_a_key_file_that_changes_and_outlives_one_that_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.key");
    let vault = Vault::load(KeySource::File(path.clone())).unwrap();
    let sealed = vault.seal("p", b"x");
    let old = std::fs::read_to_string(&path).unwrap();

    let new = keys::generate();
    private_file::replace(&path, format!("{}\n{old}", *new).as_bytes()).unwrap();
    let again = vault.reseal(&sealed).unwrap().unwrap();
    assert_eq!(vault.key_ids().len(), 2);

    private_file::replace(&path, b"no key at all").unwrap();
    assert_eq!(vault.open("p", &again).unwrap().expose(), b"x");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(vault.open("p", &again).unwrap().expose(), b"x");
}
