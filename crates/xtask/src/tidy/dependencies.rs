//! Rule: every dependency stands once, in the root manifest, with a line that says what it is for, and is used.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::{File, Tree};

const ROOT_MANIFEST: &str = "Cargo.toml";
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
const REASON: &str = "# for: ";
/// The one line that may stand above several dependencies.
const REASON_OF_TESTS: &str = "# for: tests";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let mut used = BTreeSet::new();
    for (name, manifest) in tree.manifests() {
        used.extend(of_manifest(&manifest.text).into_iter().map(|(_, dependency)| dependency));
        check_inherited(name, manifest, findings);
    }
    if let Some(root) = tree.file(ROOT_MANIFEST) {
        check_root(root, &used, findings);
    }
}

/// The dependencies a manifest names, each with the table it stands in; those for one platform only as well.
pub(super) fn of_manifest(text: &str) -> Vec<(&'static str, String)> {
    tables_of(text).into_iter().flat_map(|(kind, table)| table.into_iter().map(move |(name, _)| (kind, name))).collect()
}

fn tables_of(text: &str) -> Vec<(&'static str, toml::Table)> {
    let Ok(mut manifest) = text.parse::<toml::Table>() else { return Vec::new() };
    let mut tables = Vec::new();
    let mut take = |owner: &mut toml::Table| {
        for kind in TABLES {
            if let Some(toml::Value::Table(table)) = owner.remove(kind) {
                tables.push((kind, table));
            }
        }
    };
    take(&mut manifest);
    if let Some(toml::Value::Table(targets)) = manifest.remove("target") {
        for (_, target) in targets {
            if let toml::Value::Table(mut target) = target {
                take(&mut target);
            }
        }
    }
    tables
}

fn check_inherited(name: &str, manifest: &File, findings: &mut Vec<Finding>) {
    for (_, table) in tables_of(&manifest.text) {
        for (dependency, how) in table {
            let inherited = how.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !inherited {
                let text = format!(
                    "{name} names a version of {dependency} itself; write `{dependency}.workspace = true`, and the version in the root manifest"
                );
                findings.push(manifest.finding(manifest.line_starting(&dependency), text));
            }
        }
    }
}

fn check_root(root: &File, used: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    let lines = root.text.lines().enumerate().skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1);
    let mut reason: Option<&str> = None;
    for (index, line) in lines.take_while(|(_, line)| !line.starts_with('[')) {
        if line.starts_with('#') {
            reason = line.starts_with(REASON).then_some(line);
            continue;
        }
        let Some((name, how)) = line.split_once('=') else {
            reason = None;
            continue;
        };
        let name = name.trim();
        if !how.contains("path =") && reason.is_none() {
            let text = format!("nothing says what {name} is for; write a line `{REASON}…` above it");
            findings.push(root.finding(index + 1, text));
        }
        if !used.contains(name) {
            findings.push(root.finding(index + 1, format!("no crate uses {name}; take it out")));
        }
        reason = reason.filter(|reason| *reason == REASON_OF_TESTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    const USES: (&str, &str) = (
        "crates/a/Cargo.toml",
        "[dependencies]\nb.workspace = true\n[dev-dependencies]\nc = { workspace = true }\n[target.'cfg(unix)'.dependencies]\nd.workspace = true\n",
    );

    #[test]
    fn every_dependency_has_its_reason_and_a_user() {
        let good = "[workspace.dependencies]\na = { path = \"crates/a\" }\n\n# for: b\nb = \"1\"\n\n# for: tests\nc = \"1\"\nd = \"1\"\n\n[lints]\n";
        let uses_a = ("crates/e/Cargo.toml", "[dependencies]\na.workspace = true\n");
        assert!(findings_in(check, &[("Cargo.toml", good), USES, uses_a]).is_empty());
        let bad =
            "[workspace.dependencies]\n# for: b\nb = \"1\"\nc = \"1\"\n# because\nd = \"1\"\n# for: e\ne = \"1\"\n";
        assert_eq!(
            findings_in(check, &[("Cargo.toml", bad), USES]),
            [
                "Cargo.toml:4: nothing says what c is for; write a line `# for: …` above it",
                "Cargo.toml:6: nothing says what d is for; write a line `# for: …` above it",
                "Cargo.toml:8: no crate uses e; take it out",
            ]
        );
    }

    #[test]
    fn versions_stand_in_the_root_manifest_only() {
        for bad in ["[dependencies]\nb = \"1\"\n", "[dev-dependencies]\nb = { version = \"1\" }\n"] {
            assert_eq!(findings_in(check, &[("crates/a/Cargo.toml", bad)]).len(), 1, "{bad}");
        }
    }
}
