//! Rule: every crate comes from crates.io, under a licence that lets anyone use the product as its own licence says.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::Finding;
use super::tree::Tree;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// What is released is built for this; crates for other platforms only are not even downloaded.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
const ALLOWED: [&str; 11] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];

pub(super) fn check(root: &Path, tree: &Tree, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    check_sources(tree, findings);
    check_licences(tree, &metadata(root)?, findings);
    Ok(())
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = crate::cargo(root)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the answer of cargo metadata cannot be read")
}

fn check_sources(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(lock) = tree.file("Cargo.lock") else { return };
    for (index, line) in lock.text.lines().enumerate() {
        if let Some(source) = line.strip_prefix("source = ")
            && source.trim_matches('"') != CRATES_IO
        {
            findings.push(lock.finding(index + 1, format!("{source} is not crates.io; take the crate from there")));
        }
    }
}

fn check_licences(tree: &Tree, metadata: &Value, findings: &mut Vec<Finding>) {
    let Some(lock) = tree.file("Cargo.lock") else { return };
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().unwrap_or("");
        if !is_allowed(licence) {
            let line = lock.line_starting(&format!("name = \"{name}\""));
            let text =
                format!("{name} is under {licence:?}, which ALLOWED in crates/xtask/src/tidy/supply.rs does not cover");
            findings.push(lock.finding(line, text));
        }
    }
}

/// Whether an SPDX expression leaves a choice whose every part is allowed. `AND` binds tighter than `OR`; the old `/` is
/// an `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any_of(&mut words) && words.is_empty()
}

fn any_of(words: &mut Vec<&str>) -> bool {
    let mut allowed = all_of(words);
    while words.last() == Some(&"OR") {
        words.pop();
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut Vec<&str>) -> bool {
    let mut allowed = one_of(words);
    while words.last() == Some(&"AND") {
        words.pop();
        allowed &= one_of(words);
    }
    allowed
}

fn one_of(words: &mut Vec<&str>) -> bool {
    match words.pop() {
        Some("(") => {
            let allowed = any_of(words);
            words.pop() == Some(")") && allowed
        }
        Some(licence) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or("");
            ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
        }
        Some(licence) => ALLOWED.contains(&licence),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn one_allowed_choice_is_enough_and_every_part_of_it_counts() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "(Apache-2.0 OR GPL-3.0) AND BSD-3-Clause",
            "MIT OR GPL-3.0 AND AGPL-3.0",
            "ISC AND (Apache-2.0 OR ISC) AND (Apache-2.0 OR ISC OR MIT-0)",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "Apache-2.0 WITH Classpath-exception-2.0",
            "(MIT",
            "MIT GPL-3.0",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn crates_come_from_one_registry() {
        let good = "[[package]]\nname = \"a\"\n\n[[package]]\nname = \"b\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert!(findings_in(check_sources, &[("Cargo.lock", good)]).is_empty());
        let bad = "[[package]]\nname = \"b\"\nsource = \"git+https://example.com/b\"\n";
        assert_eq!(
            findings_in(check_sources, &[("Cargo.lock", bad)]),
            ["Cargo.lock:3: \"git+https://example.com/b\" is not crates.io; take the crate from there"]
        );
    }

    #[test]
    fn a_licence_outside_the_list_is_found() {
        let metadata = serde_json::json!({"packages": [{"name": "a", "license": "MIT"}, {"name": "b", "license": "GPL-3.0"}, {"name": "c", "license": null}]});
        let tree = Tree::of(&[("Cargo.lock", "name = \"a\"\nname = \"b\"\nname = \"c\"\n")]);
        let mut findings = Vec::new();
        check_licences(&tree, &metadata, &mut findings);
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 3]);
    }
}
