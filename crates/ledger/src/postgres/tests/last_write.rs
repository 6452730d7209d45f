//! What becomes of a write whose `COMMIT`, or the answer to it, was lost on the way: told as it is, whatever the server did
//! in between.

use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use super::few;
use crate::Ledger;
use crate::conformance::server::PgServer;
use crate::conformance::{all_pending, block_on, content, hours, noon, tenant};
use crate::postgres::PgLedger;

/// What becomes of the next `COMMIT` that comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    /// It is kept, and the line is cut when the test says so.
    IsLost,
    /// The client's line is cut at once; the server gets it when the test says so, and answers to nobody.
    IsLate,
}

#[derive(Debug)]
struct State {
    fate: Fate,
    caught: bool,
    goes_on: bool,
}

/// A line to the server on which a `COMMIT` can be caught.
struct Line {
    folder: tempfile::TempDir,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Line {
    fn to(server: &PgServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let state = Arc::new((Mutex::new(State { fate: Fate::Passes, caught: false, goes_on: false }), Condvar::new()));
        let url = server.url("postgres");
        let behind = PathBuf::from(url.split_once("host=").unwrap().1).join(".s.PGSQL.5432");
        let line = Self { folder, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&state));
                // While the server is down, whoever calls finds nobody.
                let Ok(server) = UnixStream::connect(&behind) else { continue };
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let answers = Arc::clone(&state);
                std::thread::spawn(move || relay(from, to, |_| false, &answers));
                // With its end, unlike `READ COMMITTED`.
                let is_commit = |bytes: &[u8]| bytes.windows(7).any(|word| word == b"COMMIT\0");
                std::thread::spawn(move || relay(client, server, is_commit, &state));
            }
        });
        line
    }

    fn ledger(&self, database: &str) -> PgLedger {
        PgLedger::open(few(&format!("postgres:///{database}?user=postgres&host={}", self.folder.path().display())))
            .unwrap()
    }

    fn next(&self, fate: Fate) {
        *self.state.0.lock().unwrap() = State { fate, caught: false, goes_on: false };
    }

    fn wait_until_caught(&self) {
        drop(self.state.1.wait_while(self.state.0.lock().unwrap(), |state| !state.caught).unwrap());
    }

    fn go_on(&self) {
        self.state.0.lock().unwrap().goes_on = true;
        self.state.1.notify_all();
    }
}

/// Carries bytes until either end is gone, or what `is_caught` knows has met its fate.
fn relay(
    mut from: UnixStream,
    mut to: UnixStream,
    is_caught: impl Fn(&[u8]) -> bool,
    (state, changed): &(Mutex<State>, Condvar),
) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap();
        if is_caught(bytes) {
            let mut known = state.lock().unwrap();
            let fate = std::mem::replace(&mut known.fate, Fate::Passes);
            if fate != Fate::Passes {
                drop(known);
                if fate == Fate::IsLate {
                    from.shutdown(Shutdown::Both).unwrap();
                }
                known = state.lock().unwrap();
                known.caught = true;
                changed.notify_all();
                drop(changed.wait_while(known, |state| !state.goes_on).unwrap());
                if fate == Fate::IsLate {
                    to.write_all(bytes).unwrap();
                }
                break;
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    // As long as a commit is held, nobody learns of anything else either.
    drop(changed.wait_while(state.lock().unwrap(), |state| state.caught && !state.goes_on).unwrap());
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Write));
}

/// Lists a content while its `COMMIT` meets its fate, and does something as soon as that is held.
fn listed_while(line: &Line, ledger: &PgLedger, fate: Fate, held: impl FnOnce()) -> u64 {
    line.next(fate);
    std::thread::scope(|scope| {
        let listing = scope
            .spawn(|| block_on(ledger.contents_listed(tenant(1), vec![content("one", hours(1))], noon())).unwrap());
        line.wait_until_caught();
        held();
        line.go_on();
        listing.join().unwrap()
    })
}

#[test]
fn a_write_that_a_crash_undid_is_done_again_although_its_transactions_number_was_given_to_another() {
    // Nothing reaches the log before something is committed.
    let mut server = PgServer::start_with(&["wal_writer_delay=10s"]);
    let (name, line) = (server.ledger(), Line::to(&server));
    let ledger = line.ledger(&name);
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let new = listed_while(&line, &ledger, Fate::IsLost, || {
        let next = |server: &PgServer| server.psql("SELECT pg_snapshot_xmax(pg_current_snapshot())").concat();
        let before: u64 = next(&server).parse().unwrap();
        server.crash();
        server.up();
        let after: u64 = next(&server).parse().unwrap();
        println!("the server's next number was {before}, and {after} after the crash");
        // All of them are committed, so whoever goes by the number is told that it was.
        server.psql("CREATE TABLE other (number integer)");
        server.psql("DO $$ BEGIN FOR number IN 1..50 LOOP INSERT INTO other VALUES (number); COMMIT; END LOOP; END $$");
    });
    assert_eq!(new, 1);
    assert_eq!(block_on(all_pending(&ledger, tenant(1))).len(), 1, "it was acknowledged");
}

#[test]
fn a_write_whose_answer_was_lost_has_happened_once() {
    let server = PgServer::start();
    let (name, line) = (server.ledger(), Line::to(&server));
    let ledger = line.ledger(&name);
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    // Done again, it would find the content known.
    assert_eq!(listed_while(&line, &ledger, Fate::IsLate, || {}), 1);
    assert_eq!(block_on(all_pending(&ledger, tenant(1))).len(), 1);
}

#[test]
fn a_write_that_the_server_still_holds_is_waited_for() {
    let server = PgServer::start();
    let (name, line) = (server.ledger(), Line::to(&server));
    let ledger = line.ledger(&name);
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let new = listed_while(&line, &ledger, Fate::IsLate, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND query LIKE '%INTO last_write%RETURNING%'";
        while server.psql(waiting) != ["1"] {}
    });
    assert_eq!(new, 1);
    assert_eq!(block_on(all_pending(&ledger, tenant(1))).len(), 1);
}
