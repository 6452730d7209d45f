//! The threads: what they share, when they end, and what their callers hear.

use super::Folder;
use crate::conformance::{block_on, content, hours, noon, tenant};
use crate::sqlite::SqliteLedger;
use crate::{Ledger, LedgerError};

/// The names of this process's threads that serve the ledger in `folder`: none but this test has one, in this moment.
fn open_files(folder: &Folder) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|link| std::fs::read_link(link.unwrap().path()).ok())
        .filter(|target| target.starts_with(folder.path().parent().unwrap()))
        .count()
}

#[test]
fn the_file_is_closed_when_the_last_handle_is_dropped() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let clone = ledger.clone();
    drop(ledger);
    assert!(block_on(clone.tenant(tenant(1))).unwrap().is_some(), "a clone keeps it open");
    if cfg!(target_os = "linux") {
        assert!(open_files(&folder) > 0);
    }
    drop(clone);
    if cfg!(target_os = "linux") {
        assert_eq!(open_files(&folder), 0);
    }
    assert!(!folder.path().with_extension("db-wal").exists(), "and the log is folded into it");
}

#[test]
fn what_was_queued_is_carried_out_before_the_drop_returns() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    block_on(async {
        for number in 0..50 {
            let mut call = ledger.contents_listed(tenant(1), vec![content(&format!("{number}"), hours(1))], noon());
            // Queued, and not waited for.
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_ready())).await;
        }
    });
    drop(ledger);
    assert_eq!(block_on(crate::conformance::all_pending(&folder.ledger(), tenant(1))).len(), 50);
}

fn panics(ledger: &SqliteLedger) -> LedgerError {
    block_on(ledger.write(|_connection| -> crate::sqlite::Done<()> { panic!("a bug, on purpose") })).unwrap_err()
}

#[test]
fn a_thread_that_ended_by_a_bug_fails_its_callers_clearly_and_leaves_the_file_whole() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let waiting = ledger.clone();
    assert!(matches!(panics(&ledger), LedgerError::ThreadGone { .. }));
    let error = block_on(waiting.add_tenant(tenant(2), String::new(), noon(), noon())).unwrap_err();
    assert!(matches!(error, LedgerError::ThreadGone { .. }), "{error:?}");
    assert!(error.to_string().contains("start the program again"));
    assert!(!error.is_passing() && !error.is_refusal());
    assert!(block_on(ledger.tenant(tenant(1))).unwrap().is_some(), "reading goes on");
    drop((ledger, waiting));
    let ledger = folder.ledger();
    assert!(block_on(ledger.add_tenant(tenant(2), String::new(), noon(), noon())).unwrap());
}

#[test]
fn in_place_a_call_is_done_when_it_has_been_polled_once() {
    let folder = Folder::in_place();
    let ledger = folder.ledger();
    let mut call = ledger.add_tenant(tenant(1), String::new(), noon(), noon());
    let ready =
        block_on(std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_ready())));
    assert!(ready, "no other thread is waited for");
}

#[test]
fn calls_that_wait_together_share_a_transaction() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let before = commits_in_log(&folder);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // The first holds the thread up until all the others are queued. It is let in alone: a thread that woke late
        // would take some of the others into the same transaction.
        let mut first = ledger.write(move |_connection| {
            enter.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            Ok(1)
        });
        assert!(is_pending(&mut first).await);
        entered.recv().unwrap();
        let mut calls = vec![first];
        for number in 0..60 {
            let mut call = ledger.contents_listed(tenant(1), vec![content(&format!("{number}"), hours(1))], noon());
            assert!(is_pending(&mut call).await);
            calls.push(call);
        }
        open.send(()).unwrap();
        for call in calls {
            assert_eq!(call.await.unwrap(), 1);
        }
    });
    // The first had a transaction of its own, which wrote nothing.
    assert_eq!(commits_in_log(&folder) - before, 1);
}

#[test]
fn reads_that_wait_together_see_all_that_was_written_before_and_fail_alone() {
    let folder = Folder::new();
    let ledger = folder.ledger();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // The first holds the thread up until all the others are queued; it has seen the ledger empty.
        let mut first = ledger.read(move |connection| {
            let before = super::super::tenants::one(connection, tenant(1))?;
            enter.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            Ok(before)
        });
        assert!(is_pending(&mut first).await);
        entered.recv().unwrap();
        let mut calls = Vec::new();
        for number in 1..=60 {
            ledger.add_tenant(tenant(number), String::new(), noon(), noon()).await.unwrap();
            let (mut good, mut bad) = (ledger.tenant(tenant(number)), ledger.webhooks(tenant(255)));
            assert!(is_pending(&mut good).await && is_pending(&mut bad).await);
            calls.push((good, bad));
        }
        open.send(()).unwrap();
        assert_eq!(first.await.unwrap(), None);
        for (number, (good, bad)) in (1..).zip(calls) {
            assert!(good.await.unwrap().is_some(), "{number}");
            assert!(matches!(bad.await, Err(LedgerError::UnknownTenant { .. })), "{number}");
        }
    });
}

/// Polls once, which queues the call.
async fn is_pending<T>(call: &mut crate::LedgerFuture<'_, T>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_pending())).await
}

/// Transactions in the write-ahead log: frames whose header names a size of the file (sqlite.org/fileformat2.html §4.1).
fn commits_in_log(folder: &Folder) -> usize {
    let log = std::fs::read(folder.path().with_extension("db-wal")).unwrap();
    let frames = log.get(32..).unwrap().chunks_exact(24 + 4096);
    frames.filter(|frame| frame.get(4..8).unwrap().iter().any(|byte| *byte != 0)).count()
}
