//! Several workers on one database: what each sees is in order, and nothing is counted twice or lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::lease::{Lease, WorkerId};
use engine::model::{Commit, CommitNumber, TenantState};
use protocol::ids::ContentType;

use super::Database;
use crate::conformance::server::PgServer;
use crate::conformance::{all_pending, archived, block_on, commit, content, hours, noon, segment, tenant};
use crate::postgres::PgLedger;
use crate::{Ledger, LedgerError, Workers};

const WORKERS: u64 = 4;

/// Each worker is a handle with connections of its own, as another process would be.
fn at_once(database: &Database<'_>, work: impl Fn(u64, &PgLedger) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let work = &work;
            scope.spawn(move || work(number, &database.ledger()));
        }
    });
}

#[test]
fn revisions_and_commit_numbers_are_never_seen_out_of_order() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let ledger = database.ledger();
    for number in 0..WORKERS {
        block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Who remembers the greatest revision and asks for what came after must, in the end, know every tenant as it is.
        let reader = scope.spawn(|| {
            let reader = database.ledger();
            let (mut greatest, mut known) = (0, std::collections::BTreeMap::new());
            loop {
                let last = over.load(Ordering::SeqCst);
                let (now, changed) = block_on(reader.tenants_since(greatest)).unwrap();
                assert!(now >= greatest, "{now} after {greatest}");
                for tenant in changed {
                    assert!(tenant.revision > greatest && tenant.revision <= now);
                    known.insert(tenant.id, tenant);
                }
                greatest = now;
                if last {
                    return known;
                }
            }
        });
        // And commits become visible one after the other, each with its segment.
        let commits = scope.spawn(|| {
            let reader = database.ledger();
            let mut seen = 0;
            while !over.load(Ordering::SeqCst) {
                let segments = block_on(reader.segments(tenant(0))).unwrap();
                let numbers: Vec<u64> = segments.iter().map(|segment| segment.commit.0).collect();
                assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
                assert!(numbers.len() >= seen);
                seen = numbers.len();
            }
        });
        at_once(&database, |number, ledger| {
            for round in 0..40 {
                let state = if round % 2 == 0 { TenantState::Paused } else { TenantState::Active };
                block_on(ledger.set_tenant_state(tenant(number), state, noon())).unwrap();
                // All four try to write the tenant's next commit; what another was first with is tried anew.
                loop {
                    let next = block_on(ledger.tenant(tenant(0))).unwrap().unwrap().last_commit.0 + 1;
                    let mine = Commit { tenant: tenant(0), segments: vec![segment(next, 0)], ..commit(next) };
                    match block_on(ledger.commit(mine)) {
                        Ok(()) => break,
                        Err(LedgerError::CommitOutOfOrder { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
        over.store(true, Ordering::SeqCst);
        commits.join().unwrap();
        let known = reader.join().unwrap();
        let (greatest, tenants) = block_on(ledger.tenants_since(0)).unwrap();
        assert_eq!(greatest, WORKERS * 41);
        for tenant in tenants {
            // A commit alone moves no revision.
            let seen = &known[&tenant.id];
            assert_eq!((seen.revision, seen.state), (tenant.revision, tenant.state));
        }
    });
    assert_eq!(block_on(ledger.tenant(tenant(0))).unwrap().unwrap().last_commit, CommitNumber(WORKERS * 40));
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
}

#[test]
fn one_content_that_all_workers_list_and_archive_is_counted_once() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let ledger = database.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let new = AtomicU64::new(0);
    at_once(&database, |number, ledger| {
        for page in 0..10 {
            // The same pages in another order, types mixed, so that they get into each other's way.
            let page = if number % 2 == 0 { page } else { 9 - page };
            let mut contents: Vec<_> = (0..20).map(|place| content(&format!("{page}-{place}"), hours(place))).collect();
            let other = format!("Audit.Type{}", page % 3).parse::<ContentType>().unwrap();
            contents.push(engine::model::Listed { content_type: other, ..content(&format!("{page}"), hours(1)) });
            let found = block_on(ledger.contents_listed(tenant(1), contents, noon())).unwrap();
            new.fetch_add(found, Ordering::SeqCst);
        }
    });
    assert_eq!(new.load(Ordering::SeqCst), 210);
    let pending = block_on(all_pending(&ledger, tenant(1)));
    assert_eq!(pending.len(), 210);
    let won = AtomicU64::new(0);
    at_once(&database, |_, ledger| {
        for (index, pending) in pending.iter().enumerate() {
            let number = index as u64 + 1;
            let contents = vec![archived(pending.row, 1)];
            match block_on(ledger.commit(Commit { contents, ..commit(number) })) {
                Ok(()) => {
                    won.fetch_add(1, Ordering::SeqCst);
                }
                Err(LedgerError::CommitOutOfOrder { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    assert_eq!(won.load(Ordering::SeqCst), 210, "every number was given once");
    let coverage = block_on(ledger.coverage(tenant(1))).unwrap();
    assert_eq!(
        coverage.iter().map(|row| (row.archived, row.pending)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (210, 0)
    );
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
}

#[test]
fn one_tenant_that_all_workers_add_at_once_is_added_by_one() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let added = AtomicU64::new(0);
    let ready = std::sync::Barrier::new(usize::try_from(WORKERS).unwrap());
    at_once(&database, |_, ledger| {
        for number in 0..20 {
            ready.wait();
            let new = block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap();
            added.fetch_add(u64::from(new), Ordering::SeqCst);
        }
    });
    assert_eq!(added.load(Ordering::SeqCst), 20);
    assert_eq!(block_on(database.ledger().tenants_since(0)).unwrap().0, 20, "no revision was given for nothing");
}

#[test]
fn workers_that_die_and_come_back_while_they_write_never_write_after_their_successor() {
    const TENANTS: u64 = 3;
    let server = PgServer::start();
    let database = Database::new(&server);
    let ledger = database.ledger();
    for number in 0..TENANTS {
        block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap();
    }
    // Tenant, commit number, epoch: as each worker was told that it had happened.
    let written = std::sync::Mutex::new(Vec::new());
    let (refused, greatest) = (AtomicU64::new(0), AtomicU64::new(0));
    at_once(&database, |number, ledger| {
        let me = WorkerId([u8::try_from(number).unwrap(); 16]);
        let mut believed: Vec<Lease> = Vec::new();
        // How often they rob each other is the scheduler's choice.
        let is_enough = || refused.load(Ordering::SeqCst) > 10 && greatest.load(Ordering::SeqCst) > 10;
        for round in (0..5_000).take_while(|round| *round < 60 || !is_enough()) {
            // Every other time it is dead at once by the server's clock, and does not know.
            let lease_time = if (round + number) % 2 == 0 { Duration::from_secs(60) } else { Duration::ZERO };
            block_on(ledger.alive(me, String::new(), lease_time)).unwrap();
            believed.extend(block_on(ledger.take(me, 2)).unwrap());
            believed.retain(|lease| {
                let next = block_on(ledger.tenant(lease.tenant)).unwrap().unwrap().last_commit.0 + 1;
                let mine = Commit { tenant: lease.tenant, ..commit(next) };
                match block_on(ledger.under(*lease).commit(mine)) {
                    Ok(()) => {
                        greatest.fetch_max(lease.epoch.0, Ordering::SeqCst);
                        written.lock().unwrap().push((lease.tenant, next, lease.epoch));
                    }
                    Err(LedgerError::LeaseLost { .. }) => {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return false;
                    }
                    Err(error) => panic!("{error:?}"),
                }
                true
            });
        }
    });
    let mut written = written.into_inner().unwrap();
    written.sort();
    for pair in written.windows(2) {
        let ((tenant, number, epoch), (next_tenant, next_number, next_epoch)) = (pair[0], pair[1]);
        if tenant == next_tenant {
            assert_eq!(next_number, number + 1, "each number once");
            assert!(next_epoch >= epoch, "{pair:?}");
        }
    }
    assert!(refused.load(Ordering::SeqCst) > 10, "nobody was ever robbed, so nothing was tested");
    assert!(greatest.load(Ordering::SeqCst) > 10);
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
}
