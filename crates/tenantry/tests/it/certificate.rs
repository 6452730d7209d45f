//! `certificate new|show` and what `config check` says of credentials, by the program itself.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::Home;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn mode(home: &Home, name: &str) -> u32 {
    std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777
}

const APP: &str = "[app]\nclient_id = 'a6099727-6b7b-482c-b509-1df309acc563'\npublisher_id = '46b472a7-c68e-4adf-8ade-3db49497518e'\n";

#[test]
fn a_certificate_is_made_shown_and_accepted_by_config_check() {
    let home = Home::empty();
    let made = json(&home.succeed(&["--json", "certificate", "new", "--out", "app.pem", "--bits", "2048"]));
    assert_eq!((mode(&home, "app.pem"), &made["rsa_bits"]), (0o600, &2048.into()));
    for file in ["app.pem", "app.crt"] {
        let shown = json(&home.succeed(&["--json", "certificate", "show", file]));
        for field in ["sha1_hex", "sha256_hex", "sha1_base64url", "sha256_base64url", "not_after", "certificate_pem"] {
            assert_eq!(shown[field], made[field], "{file} {field}");
        }
        assert_eq!(shown["private_key"], if file == "app.pem" { "belongs" } else { "absent" });
    }
    let text = home.succeed(&["certificate", "show", "app.pem"]);
    assert!(text.contains(made["sha1_hex"].as_str().unwrap()) && text.contains("364 days left"), "{text}");
    assert!(!text.contains("PRIVATE"), "{text}");

    home.write("tenantry.toml", &format!("{APP}[[app.credential]]\nkind='certificate'\npath='app.pem'\n"));
    let checked = json(&home.succeed(&["--json", "config", "check"]));
    assert_eq!(checked["credential"][0]["sha1_hex"], made["sha1_hex"]);
    let refused = home.fail(&["certificate", "new", "--out", "app.pem"], 2);
    assert!(refused.contains("not overwritten"), "{refused}");
    let refused = home.fail(&["certificate", "new", "--out", "short.pem", "--bits", "1024"], 2);
    assert!(refused.contains("2048"), "{refused}");
    assert!(!home.path().join("short.pem").exists());
}

#[test]
fn config_check_names_what_is_wrong_with_each_credential() {
    let home = Home::empty();
    home.succeed(&["certificate", "new", "--out", "app.pem", "--bits", "2048"]);
    home.write("secret.txt", "value");
    let tables = "[[app.credential]]\nkind='certificate'\npath='app.pem'\n\
                  [[app.credential]]\nkind='secret'\npath='secret.txt'\n\
                  [[app.credential]]\nkind='federated'\ntoken_file='token'\n\
                  [[app.credential]]\nkind='managed_identity'\n";
    home.write("tenantry.toml", &format!("{APP}{tables}"));
    std::fs::set_permissions(home.path().join("secret.txt"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = home.run(&["--json", "config", "check"]);
    assert_eq!(output.status.code(), Some(3));
    let checked = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(checked["ok"], false);
    let problem = |number: usize| checked["credential"][number]["problem"].as_str().unwrap_or_default();
    assert_eq!((problem(0), problem(3)), ("", ""), "{checked}");
    assert!(problem(1).contains("chmod 600") && problem(1).contains("secret.txt"), "{checked}");
    assert!(problem(2).contains("token"), "{checked}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("secret.txt") && !said.contains("value"), "{said}");
}
