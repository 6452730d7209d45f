//! Power loss: the files as they lie at any moment, with the end of the log torn off anywhere, hold one of the states that
//! the ledger went through; and with nothing torn off, the last one that was acknowledged.
//!
//! The fault model: what was synced is there, the rest of the log is missing or is garbage; the file itself is whole.

use std::fs;

use super::Folder;
use crate::Ledger;
use crate::conformance::history::{Dice, lines, small_history};
use crate::conformance::{Fixture, block_on};

#[test]
fn what_was_acknowledged_survives_and_a_torn_log_is_an_earlier_state() {
    for seed in 0..4 {
        let folder = Folder::new();
        let ledger = folder.ledger();
        let mut states = vec![block_on(lines(&ledger))];
        let mut dice = Dice::new(seed);
        let mut history = small_history(seed);
        for step in 0..25 {
            block_on(history(&ledger)).unwrap();
            let now = block_on(lines(&ledger));
            let wal = fs::read(folder.path().with_extension("db-wal")).unwrap();
            let main = fs::read(folder.path()).unwrap();
            assert_eq!(after_crash(&main, &wal), now, "seed {seed}, step {step}: acknowledged and lost");
            states.push(now);
            for _ in 0..3 {
                let cut = usize::try_from(dice.below(u64::try_from(wal.len()).unwrap() + 1)).unwrap();
                let mut torn = wal[..cut].to_vec();
                if dice.below(2) == 0 {
                    torn.extend(std::iter::repeat_n(0x5a, wal.len() - cut));
                }
                let found = after_crash(&main, &torn);
                assert!(states.contains(&found), "seed {seed}, step {step}, cut at {cut}: {found:#?}");
            }
        }
        drop(ledger);
    }
}

/// What another process finds that opens these files.
fn after_crash(main: &[u8], wal: &[u8]) -> Vec<String> {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
    fs::write(folder.path(), main).unwrap();
    fs::write(folder.path().with_extension("db-wal"), wal).unwrap();
    let found = block_on(lines(&folder.ledger()));
    assert_eq!(folder.check(), Vec::<String>::new());
    found
}

#[test]
fn reading_only_shows_what_lies_in_a_log_that_nobody_has_folded_in() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    let mut history = small_history(7);
    for _ in 0..10 {
        block_on(history(&ledger)).unwrap();
    }
    let now = block_on(lines(&ledger));
    let (main, wal) = (fs::read(folder.path()).unwrap(), fs::read(folder.path().with_extension("db-wal")).unwrap());
    assert!(!wal.is_empty());
    let copy = Folder::new();
    fs::create_dir_all(copy.path().parent().unwrap()).unwrap();
    fs::write(copy.path(), main).unwrap();
    fs::write(copy.path().with_extension("db-wal"), wal).unwrap();
    let reader = copy.open_read_only();
    assert_eq!(block_on(lines(&*reader)), now);
    let writer: &dyn Ledger = &ledger;
    assert_eq!(block_on(lines(writer)), now);
}
