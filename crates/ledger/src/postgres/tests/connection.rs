//! Connections that break, servers that restart, lines that are encrypted: what a caller hears, and that nothing is half.
//! What becomes of a `COMMIT` that broke is in `last_write`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Database;
use crate::conformance::server::PgServer;
use crate::conformance::{all_pending, block_on, content, hours, noon, tenant};
use crate::postgres::connect::Connector;
use crate::postgres::{Company, PgAddress, PgLedger, PgOptions, PgPassword};
use crate::{Ledger, LedgerError};

#[test]
fn what_a_client_that_fell_silent_had_locked_is_free_after_the_time_that_was_asked_for() {
    let server = PgServer::start();
    let name = server.ledger();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked_for = |silence_max| {
        let options = PgOptions { silence_max, ..server.options(&name) };
        let ledger = PgLedger::open(options.clone()).unwrap();
        let connector = Connector::new(options, ledger.place()).unwrap();
        runtime.block_on(async {
            let (client, _task) = connector.open().await.unwrap();
            let mut shown = Vec::new();
            for name in ["idle_in_transaction_session_timeout", "lock_timeout"] {
                shown.push(client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, String>(0));
            }
            shown
        })
    };
    assert_eq!(asked_for(PgOptions::SILENCE_MAX), ["30s", "20s"]);
    assert_eq!(asked_for(Duration::from_millis(3500)), ["3500ms", "2333ms"]);
}

#[test]
fn connections_that_are_cut_while_many_calls_are_under_way_cost_nothing() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let ledger = database.ledger();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let (over, cuts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                           WHERE application_name = 'tenantry' AND random() < 0.5";
                cuts.fetch_add(server.psql(cut).concat().parse().unwrap(), Ordering::SeqCst);
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let ledger = ledger.clone();
                scope.spawn(move || {
                    for number in 0..100 {
                        let one = vec![content(&format!("{worker}-{number}"), hours(1))];
                        // Written again by the ledger itself where that is safe; where its patience ends, by us. Had the
                        // failed call been written after all, this would find it known.
                        let new = loop {
                            match block_on(ledger.contents_listed(tenant(1), one.clone(), noon())) {
                                Ok(new) => break new,
                                Err(error) => assert!(error.is_passing(), "{error:?}"),
                            }
                        };
                        assert_eq!(new, 1, "{worker}-{number}");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(cuts.load(Ordering::SeqCst) > 0, "nothing was cut, so nothing was tested");
    assert_eq!(block_on(all_pending(&ledger, tenant(1))).len(), 400);
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_server_that_crashes_is_unreachable_until_it_is_back_and_nothing_acknowledged_is_lost() {
    let mut server = PgServer::start_with(&["fsync=on"]);
    let name = server.ledger();
    let ledger = PgLedger::open(server.options(&name)).unwrap();
    let claim = block_on(ledger.claim(Company::Alone)).unwrap();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let mut acknowledged = 0;
    for round in 0..3 {
        let (counted, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (ledger, counted, stop) = (&ledger, &counted, &stop);
            for worker in 0..4 {
                scope.spawn(move || {
                    for number in 0.. {
                        let one = vec![content(&format!("{round}-{worker}-{number}"), hours(1))];
                        loop {
                            match block_on(ledger.contents_listed(tenant(1), one.clone(), noon())) {
                                Ok(new) => {
                                    assert_eq!(new, 1);
                                    counted.fetch_add(1, Ordering::SeqCst);
                                    break;
                                }
                                // As the collector does: it says so, waits, and makes the same call again.
                                Err(error) => assert!(error.is_unreachable() && error.is_passing(), "{error:?}"),
                            }
                        }
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                });
            }
            let until = |number: u64| {
                while counted.load(Ordering::SeqCst) < number {
                    std::thread::yield_now();
                }
            };
            until(50);
            if round == 1 {
                server.stop()
            } else {
                server.crash()
            }
            if round == 2 {
                let error = block_on(ledger.tenant(tenant(1))).unwrap_err();
                assert!(matches!(error, LedgerError::Unreachable { .. }), "{error:?}");
                assert!(
                    error.to_string().contains("goes on by itself") && error.to_string().contains(&name),
                    "{error}"
                );
            }
            let before = counted.load(Ordering::SeqCst);
            server.up();
            until(before + 50);
            stop.store(true, Ordering::SeqCst);
        });
        acknowledged += counted.load(Ordering::SeqCst);
        let pending = block_on(all_pending(&ledger, tenant(1)));
        assert_eq!(pending.len() as u64, acknowledged, "round {round}");
    }
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
    let second = PgLedger::open(server.options(&name)).unwrap();
    block_on(second.claim(Company::Alone)).unwrap_err();
    drop(claim);
}

#[test]
fn a_server_that_is_not_there_or_refuses_us_is_named_without_the_password() {
    let server = PgServer::start();
    let name = server.ledger();
    server.psql("CREATE ROLE guest LOGIN");
    server.psql_in(&name, "REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let open = |url: &str| {
        let (address, password) = PgAddress::parse(url).unwrap();
        let password = password.map(PgPassword::Text);
        PgLedger::open(PgOptions { password, ..PgOptions::at(address) }).unwrap_err()
    };
    // Nobody listens on port 1.
    let error = open("postgres://u:s3cr3t@127.0.0.1:1/d");
    assert!(error.is_unreachable() && !format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
    for url in [server.url("no_such_database"), server.url(&name).replace("user=postgres", "user=nobody")] {
        let error = open(&url);
        assert!(matches!(error, LedgerError::CannotOpen { .. }) && !error.is_passing(), "{error:?}");
    }
    let error = open(&server.url(&server.database()).replace("user=postgres", "user=guest"));
    assert!(!error.is_passing(), "{error:?}");
}

#[test]
fn an_encrypted_line_is_used_only_when_the_certificate_is_trusted_and_of_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (server, port) = PgServer::start_encrypted(&certificate, &key);
    let name = server.ledger();
    server.psql("ALTER ROLE postgres PASSWORD 'correct horse'");
    let password = folder.path().join("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let open = |host: &str, roots: Option<&std::path::Path>, password: &std::path::Path| {
        let (address, _) =
            PgAddress::parse(&format!("postgres://postgres@{host}:{port}/{name}?sslmode=verify-full")).unwrap();
        let address = address.with_root_certificate(roots.map(std::path::Path::to_owned));
        PgLedger::open(PgOptions { password: Some(PgPassword::File(password.to_owned())), ..PgOptions::at(address) })
    };
    let ledger = open("localhost", Some(&certificate), &password).unwrap();
    assert!(block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap());
    assert_eq!(server.psql("SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl"), ["t"]);
    for (host, roots) in [("localhost", None), ("127.0.0.1", Some(&*certificate))] {
        let error = open(host, roots, &password).unwrap_err();
        assert!(matches!(error, LedgerError::CannotOpen { .. }), "{host}: {error:?}");
        assert!(error.to_string().contains("certificates") && !error.is_passing(), "{error}");
    }
    std::fs::write(&password, "wrong\n").unwrap();
    let error = open("localhost", Some(&certificate), &password).unwrap_err();
    assert!(matches!(error, LedgerError::CannotOpen { .. }), "{error:?}");
    // What is in the clear the server refuses, and we do not fall back to it.
    let (address, _) = PgAddress::parse(&format!("postgres://postgres@127.0.0.1:{port}/{name}")).unwrap();
    assert!(PgLedger::open(PgOptions::at(address)).is_err());
}
