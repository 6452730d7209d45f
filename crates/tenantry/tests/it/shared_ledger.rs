//! A ledger in PostgreSQL, the real server, as a user has it: two keys of the configuration changed, everything else as
//! before; moved there and back; and taken away while the collector is at work.

use std::path::Path;
use std::process::Stdio;

use emulator::{EmulatorOptions, WorldOptions};

use self::server::PgServer;
use crate::support::{Home, Microsoft, on_time};

#[path = "../../../ledger/src/conformance/server.rs"]
#[expect(dead_code, reason = "the ledger's own tests use what these do not")]
pub(crate) mod server;

fn microsoft(seed: u64, records: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 2, records_total: Some(records), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

/// A home whose ledger is in a database of this server.
fn home(microsoft: &Microsoft, url: &str) -> Home {
    let home = Home::without_tenants(microsoft);
    home.append("tenantry.toml", &format!("[ledger]\nurl = \"{url}\"\n"));
    for tenant in microsoft.tenants() {
        home.succeed(&["tenant", "add", &tenant.to_string()]);
    }
    home
}

#[test]
fn the_program_runs_on_a_shared_ledger_as_on_its_own() {
    let (microsoft, server) = (microsoft(5, 300), PgServer::start());
    let url = server.url(&server.database());
    let home = home(&microsoft, &url);
    let tenant = microsoft.tenants()[0].to_string();
    assert!(!home.data().join("ledger.db").exists());
    assert!(home.succeed(&["tenant", "list"]).contains(&tenant));
    home.succeed(&["collect", "--once"]);
    assert!(home.succeed(&["coverage"]).contains(&tenant));
    let checked = home.run(&["--json", "doctor"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("2 active, 0 paused, 0 removed"), "{checked}");
    assert!(!home.data().join("ledger.db").exists());

    // Moved into a file, the archive holds what was published, by that ledger's word.
    home.succeed(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"]);
    assert!(home.assert_holds_what_was_published(&microsoft, 5) > 100);
    let error = home.fail(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"], 6);
    assert!(error.contains("is not empty"), "{error}");
    let back = server.url(&server.database());
    home.succeed(&["ledger", "migrate", "--from", "sqlite:data/ledger.db", "--to", &back]);
    home.write("tenantry.toml", &home.text("tenantry.toml").replace(&url, &back));
    home.succeed(&["collect", "--once"]);
    let shown = home.succeed(&["--json", "tenant", "list"]);
    assert!(shown.contains(&tenant), "{shown}");
}

#[test]
fn a_second_collector_on_the_database_is_refused_and_a_move_too() {
    let (microsoft, server) = (microsoft(6, 50), PgServer::start());
    let url = server.url(&server.database());
    let (first, second) = (home(&microsoft, &url), home(&microsoft, &url));
    let mut serving = crate::serving::Serving::start(&first);
    serving.logged("console");
    let error = second.fail(&["collect", "--once"], 7);
    assert!(error.contains("another collector (tenantry collector, process"), "{error}");
    let error = second.fail(&["ledger", "migrate", "--to", "sqlite:moved.db"], 7);
    assert!(error.contains("another collector"), "{error}");
    assert!(second.succeed(&["tenant", "list"]).contains(&microsoft.tenants()[0].to_string()), "reading goes on");
    drop(serving);
    second.succeed(&["collect", "--once"]);
}

#[test]
fn a_server_that_crashes_under_the_collector_costs_no_record() {
    let microsoft = microsoft(7, 20_000);
    let mut server = PgServer::start_with(&["fsync=on"]);
    let url = server.url(&server.database());
    let home = home(&microsoft, &url);
    let mut collect = home.tenantry(&["collect", "--once"]);
    collect.env("TENANTRY_COLLECT__COMMIT_INTERVAL", "100ms").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = collect.spawn().unwrap();
    // In the middle of it: the first commits are visible, the last is not.
    let database = url.split(['/', '?']).nth(3).unwrap().to_owned();
    while server.psql_in(&database, "SELECT count(*) > 0 FROM segment").concat() != "t" {
        assert!(child.try_wait().unwrap().is_none(), "it ended before anything could be tested");
    }
    server.crash();
    server.up();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    home.succeed(&["ledger", "migrate", "--to", "sqlite:data/ledger.db"]);
    assert!(home.assert_holds_what_was_published(&microsoft, 7) > 10_000);
}

#[test]
fn a_password_is_shown_nowhere_and_a_server_that_is_not_there_is_named() {
    let home = Home::empty();
    let config = |ledger: &str| home.write("tenantry.toml", &format!("data_dir = \"data\"\n[ledger]\n{ledger}\n"));
    config("url = \"postgres://tenantry:s3cr3t@127.0.0.1:1/ledger\"");
    let error = home.fail(&["config", "check"], 3);
    assert!(error.contains("ledger.password_file") && !error.contains("s3cr3t"), "{error}");
    config("url = \"postgres://tenantry@127.0.0.1:1/ledger\"\npassword = \"s3cr3t\"");
    let error = home.fail(&["config", "check"], 3);
    assert!(error.contains("secret") && !error.contains("s3cr3t"), "{error}");
    config("url = \"postgres://tenantry@127.0.0.1:1/ledger\"\npassword_file = \"password\"");
    home.write("password", "s3cr3t\n");
    let shown = home.succeed(&["config", "show"]);
    assert!(shown.contains("postgres://tenantry@127.0.0.1:1/ledger") && !shown.contains("s3cr3t"), "{shown}");
    let error = home.fail(&["-v", "-v", "tenant", "list"], 6);
    assert!(error.contains("127.0.0.1:1/ledger cannot be reached") && !error.contains("s3cr3t"), "{error}");
    let doctor = home.run(&["doctor"]);
    let said = crate::support::said(&doctor);
    assert!(said.contains("cannot be reached") && !said.contains("s3cr3t"), "{said}");
    let error = home.fail(&["ledger", "migrate", "--to", "postgres://u:s3cr3t@h/d"], 2);
    assert!(error.contains("TENANTRY_LEDGER__PASSWORD") && !error.contains("s3cr3t"), "{error}");
    assert!(Path::new(&home.data()).read_dir().into_iter().flatten().next().is_none(), "nothing was made");
}
