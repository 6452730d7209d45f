//! `cargo xtask tidy`: the house's rules that a machine can check, over the whole tree.
//!
//! Never changes a file, and never guesses what was meant: a finding names the place, the rule and the mend. Runs as a
//! test of this crate too, so `cargo test` tells what `tidy` would.

mod arrows;
mod dependencies;
mod docs;
mod length;
mod logs;
mod purity;
mod secrets;
mod source;
mod supply;
mod tree;
mod words;

use std::fmt;
use std::path::Path;

use self::tree::Tree;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the workspace's root.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and how to mend it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// Prints every finding; `false` when there is any.
///
/// # Errors
/// When the tree cannot be read.
pub fn run() -> anyhow::Result<bool> {
    let findings = findings(&crate::workspace_root()?)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy"),
        count => println!("{count} to mend"),
    }
    Ok(findings.is_empty())
}

/// Every finding in the tree under `root`, sorted by place.
///
/// # Errors
/// When the tree cannot be read, or `cargo metadata` does not answer.
pub fn findings(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = Vec::new();
    arrows::check(&tree, &mut findings);
    purity::check(&tree, &mut findings);
    docs::check(&tree, &mut findings);
    length::check(&tree, &mut findings);
    dependencies::check(&tree, &mut findings);
    words::check(&tree, &mut findings);
    logs::check(&tree, &mut findings);
    secrets::check(&tree, &mut findings);
    supply::check(root, &tree, &mut findings)?;
    findings.sort();
    findings.dedup();
    Ok(findings)
}

#[cfg(test)]
mod testing {
    //! What the tests of the rules share: a tree made of texts.

    use super::Finding;
    use super::tree::Tree;

    /// The findings of one rule in a tree of these files, as lines.
    pub(super) fn findings_in(check: fn(&Tree, &mut Vec<Finding>), files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        findings.sort();
        findings.iter().map(ToString::to_string).collect()
    }
}
