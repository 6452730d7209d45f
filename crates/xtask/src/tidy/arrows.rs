//! Rule: which crate may know which (ARCHITECTURE.md has the picture).

use super::Finding;
use super::source::{closing, word_places};
use super::tree::{File, Tree};

/// Each crate, and the crates of this workspace it may depend on.
const ARROWS: [(&str, &[&str]); 11] = [
    ("protocol", &[]),
    ("record", &["protocol"]),
    ("engine", &["protocol"]),
    ("ledger", &["engine", "protocol"]),
    ("archive", &["record", "protocol"]),
    ("outputs", &["record", "protocol"]),
    ("server", &["protocol", "record", "engine", "ledger", "archive", "outputs"]),
    ("emulator", &["protocol"]),
    ("tenantry", &["server", "emulator"]),
    // Only chores and its own tests run it; it needs the parts that the server puts together, to put its own in between.
    ("simulator", &["server", "emulator", "archive", "ledger", "engine", "protocol"]),
    ("xtask", &[]),
];
/// What tests of any crate may use besides.
const FOR_TESTS: &str = "emulator";
/// The parts of `protocol` that the emulator may use: it is the second witness to what Microsoft's side does, and must
/// not share the client's parsers.
const FOR_EMULATOR: [&str; 2] = ["ids", "cloud"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (name, manifest) in tree.manifests() {
        check_manifest(name, manifest, findings);
    }
    for (file, source) in tree.rust() {
        if file.crate_name() == Some("emulator") {
            check_emulator(file, source.code(), findings);
        }
    }
}

fn check_manifest(name: &str, manifest: &File, findings: &mut Vec<Finding>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        let text = format!("crate {name} has no arrows; add it to ARROWS in crates/xtask/src/tidy/arrows.rs");
        findings.push(manifest.finding(1, text));
        return;
    };
    for (table, dependency) in super::dependencies::of_manifest(&manifest.text) {
        let ours = ARROWS.iter().any(|(known, _)| *known == dependency);
        let in_tests = table == "dev-dependencies" && dependency == FOR_TESTS;
        if ours && !in_tests && !allowed.contains(&dependency.as_str()) {
            let allowed = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
            let text = format!("{name} must not depend on {dependency}; it may on {allowed}");
            findings.push(manifest.finding(manifest.line_starting(&dependency), text));
        }
    }
}

fn check_emulator(file: &File, code: &str, findings: &mut Vec<Finding>) {
    for place in word_places(code, "protocol::") {
        // `crate::protocol::…` is the emulator's own.
        if code[..place].ends_with("::") {
            continue;
        }
        let path_start = place + "protocol::".len();
        for part in first_parts(code, path_start) {
            if !FOR_EMULATOR.contains(&part) {
                let text = format!(
                    "the emulator must not use protocol::{part}, only protocol::{{{}}}; write its own from the documentation",
                    FOR_EMULATOR.join(", ")
                );
                findings.push(file.finding(file.line_of(place), text));
            }
        }
    }
}

/// The names that may follow `protocol::` at `start`: one, or those of a braced list.
fn first_parts(code: &str, start: usize) -> Vec<&str> {
    if !code[start..].starts_with('{') {
        return vec![first_word(&code[start..])];
    }
    let end = closing(code, start);
    let inside = &code[start + 1..end.saturating_sub(1).max(start + 1)];
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (index, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(first_word(&inside[from..index]));
                from = index + 1;
            }
            _ => {}
        }
    }
    parts.push(first_word(&inside[from..]));
    parts.retain(|part| !part.is_empty());
    parts
}

fn first_word(code: &str) -> &str {
    let code = code.trim_start();
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(code.len());
    &code[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn arrows_point_one_way() {
        let good = "[dependencies]\nprotocol.workspace = true\nbytes.workspace = true\n[dev-dependencies]\nemulator.workspace = true\n";
        assert!(findings_in(check, &[("crates/record/Cargo.toml", good)]).is_empty());
        let bad = "[dependencies]\nbytes.workspace = true\narchive = { workspace = true }\nemulator.workspace = true\n";
        assert_eq!(
            findings_in(check, &[("crates/record/Cargo.toml", bad)]),
            [
                "crates/record/Cargo.toml:3: record must not depend on archive; it may on protocol",
                "crates/record/Cargo.toml:4: record must not depend on emulator; it may on protocol",
            ]
        );
        assert_eq!(findings_in(check, &[("crates/novel/Cargo.toml", "")]).len(), 1);
        assert_eq!(
            findings_in(check, &[("crates/protocol/Cargo.toml", "[build-dependencies]\nrecord.workspace = true")])
                .len(),
            1
        );
    }

    #[test]
    fn the_emulator_uses_ids_and_clouds_only() {
        for good in [
            "use protocol::ids::TenantId;",
            "use protocol::{cloud::Cloud, ids::{TenantId, ClientId}};",
            "use crate::protocol::anything;",
            "// protocol::activity says so",
            "let x = protocol::cloud::CloudName::Gcc;",
        ] {
            assert!(findings_in(check, &[("crates/emulator/src/lib.rs", good)]).is_empty(), "{good}");
        }
        for bad in [
            "use protocol::activity::Content;",
            "use protocol::{ids::TenantId, error};",
            "use protocol::*;",
            "\nlet x = protocol::time::parse_timestamp(t);",
        ] {
            assert_eq!(findings_in(check, &[("crates/emulator/src/a.rs", bad)]).len(), 1, "{bad}");
            assert!(findings_in(check, &[("crates/server/src/a.rs", bad)]).is_empty(), "{bad}");
        }
    }
}
