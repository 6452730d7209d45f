//! The public site beside the console: two listeners that know nothing of each other.

use emulator::{EmulatorOptions, WorldOptions};

use crate::serving::{Serving, get};
use crate::support::{Home, Microsoft};

#[test]
fn the_public_site_and_the_console_are_apart() {
    let world = WorldOptions { seed: 2_301, tenants: 1, records_total: Some(10), ..WorldOptions::default() };
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    let home = Home::new(&microsoft);
    home.append("tenantry.toml", "[public]\nlisten = \"127.0.0.1:0\"\nurl = \"https://audit.example.com\"\n");
    let mut serving = Serving::start(&home);
    let console = serving.logged("console");
    let console = console.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let public = serving.logged("listen").parse().unwrap();

    assert!(get(public, "/healthz").starts_with("HTTP/1.1 200"));
    for path in ["/metrics", "/readyz", "/api/v1/tenants", "/api/v1/status", "/"] {
        assert!(get(public, path).starts_with("HTTP/1.1 404"), "{path}");
    }
    let answer = get(public, "/metrics").to_ascii_lowercase();
    for header in
        ["content-security-policy: default-src 'none'", "referrer-policy: no-referrer", "x-frame-options: deny"]
    {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    assert!(get(console, "/metrics").starts_with("HTTP/1.1 200"));
    for path in ["/consent", "/consent/callback"] {
        assert!(get(console, path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn without_an_address_there_is_no_public_site() {
    let world = WorldOptions { seed: 2_302, tenants: 1, records_total: Some(10), ..WorldOptions::default() };
    let microsoft = Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() });
    let home = Home::new(&microsoft);
    home.append("tenantry.toml", "[public]\nlisten = \"127.0.0.1:0\"\n");
    let refused = home.fail(&["serve"], 3);
    assert!(refused.contains("public.url is not set") && refused.contains("https://audit.example.com"), "{refused}");
}
