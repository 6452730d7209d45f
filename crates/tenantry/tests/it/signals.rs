//! The signals that a daemon is told to end by.

use std::net::SocketAddr;

use emulator::{EmulatorOptions, WorldOptions};

use crate::serving::{Serving, get};
use crate::support::{Home, Microsoft};

fn small(seed: u64) -> Microsoft {
    let world = WorldOptions { seed, tenants: 1, records_total: Some(20), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn console(serving: &mut Serving) -> SocketAddr {
    let console = serving.logged("console");
    console.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}

#[test]
fn a_terminal_that_closes_ends_it_in_good_order_as_term_and_int_do() {
    let microsoft = small(2_401);
    let home = Home::new(&microsoft);
    for signal in ["HUP", "TERM", "INT"] {
        let mut serving = Serving::start(&home);
        let address = console(&mut serving);
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(!serving.ignores_hang_up());
        serving.signal(signal);
        assert_eq!(serving.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn under_nohup_a_hang_up_is_ignored() {
    let microsoft = small(2_402);
    let home = Home::new(&microsoft);
    let mut serving = Serving::start_without_hang_up(&home);
    let address = console(&mut serving);
    assert!(serving.ignores_hang_up());
    serving.signal("HUP");
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    serving.signal("TERM");
    assert_eq!(serving.exit_code(), Some(0));
}
