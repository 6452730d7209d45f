//! Tenants that go while `serve` runs: their subscriptions are stopped, their records kept or purged as told, and everybody
//! else is collected on. What Microsoft refuses to stop is said, with the command that does it later.

use std::net::SocketAddr;
use std::time::Duration;

use emulator::{EmulatorOptions, FaultPlan, WorldOptions};
use serde_json::Value;

use crate::serving::{Serving, get};
use crate::support::{Home, Microsoft, on_time};

/// A `serve` over three tenants, and its console.
struct House {
    microsoft: Microsoft,
    home: Home,
    console: SocketAddr,
    _serving: Serving,
}

impl House {
    fn new(seed: u64) -> Self {
        let world =
            WorldOptions { seed, tenants: 3, records_total: Some(600), lateness: on_time(), ..WorldOptions::default() };
        let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
        let home = Home::new(&microsoft);
        let config = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
        let often = "[collect]\npoll_interval = \"2s\"\ncommit_interval = \"500ms\"\n";
        home.write("tenantry.toml", &config.replace("[collect]\n", often));
        let mut serving = Serving::start(&home);
        let console = serving.logged("console");
        let console = console.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let house = Self { microsoft, home, console, _serving: serving };
        for tenant in house.tenants() {
            while house.commits(&tenant) == 0 || house.enabled(&tenant) < 5 {
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        house
    }

    fn tenants(&self) -> Vec<String> {
        self.microsoft.tenants().iter().map(ToString::to_string).collect()
    }

    fn shown(&self, path: &str) -> Value {
        let answer = get(self.console, path);
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn commits(&self, tenant: &str) -> u64 {
        self.shown(&format!("/api/v1/tenants/{tenant}"))["last_commit"].as_u64().unwrap()
    }

    fn listings(&self, tenant: &str) -> u64 {
        self.shown(&format!("/api/v1/tenants/{tenant}"))["since_start"]["listings"].as_u64().unwrap()
    }

    /// Waits for two more polls of this tenant, which is time for the others' too.
    fn wait_for_polls(&self, tenant: &str) {
        let before = self.listings(tenant);
        while self.listings(tenant) < before + 2 * 5 {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Subscriptions that Microsoft lists and does not call disabled; one may be listed without its status.
    fn enabled(&self, tenant: &str) -> usize {
        let listed = self.home.succeed(&["--json", "subscription", "list", "--tenant", tenant]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().unwrap().iter().filter(|row| row["status"] != "disabled").count()
    }

    fn records(&self, tenant: &str) -> Value {
        let sql = format!("SELECT count(*) AS n FROM audit WHERE tenant_id = '{tenant}'");
        let rows: Value = serde_json::from_str(&self.home.succeed(&["query", "--format", "json", &sql])).unwrap();
        rows[0]["n"].clone()
    }

    fn files(&self, tenant: &str) -> bool {
        self.home.data().join("archive").join(format!("tenant={tenant}")).exists()
    }

    fn fail_stops(&self, number: u32) {
        let plan =
            format!("[[rule]]\noperations = [\"stop\"]\nevery = 1\neffect = \"server_error\"\nstatus = {number}\n");
        self.microsoft.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
    }
}

#[test]
fn a_tenant_goes_beside_a_running_serve_with_its_records_or_without() {
    let house = House::new(2_401);
    let [kept, purged, stays] = &house.tenants()[..] else { panic!("three tenants") };

    let said: Value = serde_json::from_str(&house.home.succeed(&["--json", "tenant", "remove", kept])).unwrap();
    assert_eq!((&said["state"], &said["subscriptions_stopped"]), (&"removed".into(), &5.into()));
    assert!(house.files(kept) && house.records(kept).as_u64().unwrap() > 0, "its records are kept");

    let arguments = ["--json", "tenant", "remove", purged, "--purge", "--yes"];
    let said: Value = serde_json::from_str(&house.home.succeed(&arguments)).unwrap();
    assert_eq!(said["subscriptions_stopped"], 5);
    assert!(said["purged_records"].as_u64().unwrap() > 0, "{said}");
    house.home.fail(&["tenant", "show", purged], 2);
    assert_eq!(house.records(purged), 0);

    // The collector goes on, for the one that stays and for nobody else.
    house.wait_for_polls(stays);
    assert!(!house.files(purged), "nothing of it comes back");
    for gone in [kept, purged] {
        assert_eq!(house.enabled(gone), 0, "nothing is started again");
        assert!(get(house.console, &format!("/api/v1/tenants/{gone}")).find("since_start").is_none());
    }
    assert_eq!(house.enabled(stays), 5);
    let coverage = house.shown("/api/v1/coverage");
    assert!(coverage["items"].as_array().unwrap().iter().all(|row| row["tenant_id"] != purged.as_str()), "{coverage}");
}

#[test]
fn what_microsoft_refuses_to_stop_is_said_and_can_be_stopped_later() {
    let house = House::new(2_402);
    let [removed, purged, stays] = &house.tenants()[..] else { panic!("three tenants") };
    house.fail_stops(503);
    let said = house.home.fail(&["tenant", "remove", removed], 5);
    for words in ["HTTP 503", &format!("tenantry subscription stop --tenant {removed} --yes")] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let arguments = ["tenant", "remove", purged, "--purge", "--yes"];
    let output = house.home.run(&arguments);
    assert!(output.status.success(), "whoever wants the records gone is not held up by Microsoft");
    assert!(String::from_utf8_lossy(&output.stderr).contains("subscription stop"), "{output:?}");
    assert!(!house.files(purged));

    // Removed is removed: it is not collected, although Microsoft still thinks otherwise.
    let is_on_the_board = || house.shown(&format!("/api/v1/tenants/{removed}")).get("since_start").is_some();
    house.wait_for_polls(stays);
    assert!(!is_on_the_board());
    assert_eq!((house.enabled(removed), house.enabled(purged)), (5, 5));

    house.microsoft.emulator.world().set_faults(FaultPlan::default());
    for tenant in [removed, purged] {
        house.home.succeed(&["subscription", "stop", "--tenant", tenant, "--yes"]);
        assert_eq!(house.enabled(tenant), 0);
    }

    // One that lets nobody in any more has nothing to stop.
    let app = emulator::default_app(2_402).client_id;
    house.microsoft.emulator.world().set_roles(stays.parse().unwrap(), app, None);
    let said = house.home.succeed(&["tenant", "remove", stays]);
    assert!(said.contains("lets nobody in any more"), "{said}");
}
