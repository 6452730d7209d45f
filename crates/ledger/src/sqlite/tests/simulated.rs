//! What a simulation of a server asks of the file: a clock of its own for leases, and tenants that others are writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use engine::lease::WorkerId;

use super::Folder;
use crate::conformance::{block_on, noon, tenant};
use crate::sqlite::{OpenOptions, SqliteLedger};
use crate::{Ledger, Workers};

const LEASE_TIME: Duration = Duration::from_secs(30);

fn worker(number: u8) -> WorkerId {
    WorkerId([number; 16])
}

#[test]
fn leases_go_by_the_clock_that_is_given_and_what_others_write_is_passed_over() {
    let (folder, clock) = (Folder::in_place(), Arc::new(AtomicI64::new(1_000_000)));
    let options = OpenOptions { lease_clock: Some(Arc::clone(&clock)), ..folder.options() };
    let ledger = SqliteLedger::open(folder.path(), options).unwrap();
    for number in 1..=3 {
        assert!(block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap());
    }
    block_on(ledger.alive(worker(1), "one".to_owned(), LEASE_TIME)).unwrap();
    let taken = block_on(ledger.take_but(worker(1), 9, vec![tenant(2)])).unwrap();
    assert_eq!(taken.iter().map(|lease| lease.tenant).collect::<Vec<_>>(), [tenant(1), tenant(3)]);
    clock.fetch_add(29_999, Ordering::Relaxed);
    block_on(ledger.alive(worker(2), "two".to_owned(), LEASE_TIME)).unwrap();
    assert!(block_on(ledger.workers()).unwrap().iter().all(|row| row.is_alive));
    assert_eq!(block_on(ledger.take_but(worker(2), 9, vec![tenant(2)])).unwrap(), []);
    clock.fetch_add(1, Ordering::Relaxed);
    let robbed = block_on(ledger.take_but(worker(2), 9, vec![tenant(1), tenant(2)])).unwrap();
    assert_eq!(robbed.iter().map(|lease| (lease.tenant, lease.epoch.0)).collect::<Vec<_>>(), [(tenant(3), 2)]);
    assert_eq!(block_on(ledger.take(worker(2), 9)).unwrap().len(), 2);
}
