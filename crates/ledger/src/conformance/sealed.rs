//! Sealed values: kept as they are, changed only by who knows what was there.

use super::*;

pub async fn a_sealed_value_is_kept_changed_and_forgotten_by_who_knows_it(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let put = |was: Option<&[u8]>, now: Option<&[u8]>| {
        ledger.put_sealed("a".to_owned(), was.map(<[u8]>::to_vec), now.map(<[u8]>::to_vec))
    };
    assert_eq!(ledger.sealed("a".to_owned()).await.unwrap(), None);
    assert!(put(None, None).await.unwrap());
    assert!(!put(Some(b"1"), Some(b"2")).await.unwrap(), "there is none to be changed");
    assert!(put(None, Some(b"1")).await.unwrap());
    assert!(!put(None, Some(b"2")).await.unwrap(), "another was first");
    assert!(!put(Some(b"0"), Some(b"2")).await.unwrap(), "it is another by now");
    assert_eq!(ledger.sealed("a".to_owned()).await.unwrap(), Some(b"1".to_vec()));
    assert!(put(Some(b"1"), Some(b"2")).await.unwrap());
    assert_eq!(fixture.open().sealed("a".to_owned()).await.unwrap(), Some(b"2".to_vec()));
    assert!(!put(Some(b"1"), None).await.unwrap());
    assert!(!put(None, None).await.unwrap());
    assert!(put(Some(b"2"), None).await.unwrap());
    assert_eq!(ledger.sealed("a".to_owned()).await.unwrap(), None);
}

pub async fn sealed_values_are_listed_by_name_in_bounded_pieces(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    for name in ["c", "a", "b", "a/1"] {
        assert!(ledger.put_sealed(name.to_owned(), None, Some(name.as_bytes().to_vec())).await.unwrap());
    }
    let mut names = Vec::new();
    loop {
        let found = ledger.all_sealed(names.last().cloned(), 3).await.unwrap();
        assert!(found.len() <= 3);
        if found.is_empty() {
            break;
        }
        for (name, value) in found {
            assert_eq!(value, name.as_bytes());
            names.push(name);
        }
    }
    assert_eq!(names, ["a", "a/1", "b", "c"]);
}

pub async fn a_sealed_value_of_the_greatest_size_is_kept_and_a_larger_one_refused(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let put = |name: usize, value: usize| ledger.put_sealed("n".repeat(name), None, Some(vec![7; value]));
    assert!(put(200, 65_536).await.unwrap());
    for (name, value) in [(201, 1), (1, 65_537), (0, 1), (1, 0)] {
        assert!(put(name, value).await.is_err(), "{name} {value}");
    }
    assert_eq!(ledger.sealed("n".repeat(200)).await.unwrap(), Some(vec![7; 65_536]));
    assert_eq!(ledger.all_sealed(None, 10).await.unwrap().len(), 1);
}
