//! Rule: the first line of every Rust file says what the file is for.

use super::Finding;
use super::tree::Tree;

const README_DOC: &str = "#![doc = include_str!(\"../README.md\")]";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, _) in tree.rust() {
        let first = file.text.lines().next().unwrap_or("");
        if first == README_DOC {
            let readme = file.path.rsplitn(3, '/').nth(2).map(|folder| format!("{folder}/README.md"));
            let text = readme.as_ref().and_then(|path| tree.file(path)).map(|file| file.text.trim());
            if text.is_none_or(str::is_empty) {
                findings.push(
                    file.finding(1, "the crate's README.md is missing or empty; write it, it is the crate's doc"),
                );
            }
            continue;
        }
        match first.strip_prefix("//!").map(str::trim) {
            None | Some("") => {
                findings
                    .push(file.finding(1, "there is no module doc; say in a first line `//! …` what the file is for"));
            }
            Some(doc) => {
                let idle = ["This module", "This file", "This crate", "Module"];
                if doc == "placeholder" || idle.iter().any(|words| doc.starts_with(words)) {
                    findings.push(file.finding(1, "the module doc says nothing yet; start with what the file is for"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn every_file_starts_with_what_it_is_for() {
        assert!(findings_in(check, &[("crates/a/src/b.rs", "//! Counts.\nfn f() {}")]).is_empty());
        for bad in ["", "fn f() {}", "// Counts.", "//!", "//! This module counts.", "\n//! Counts."] {
            assert_eq!(findings_in(check, &[("crates/a/src/b.rs", bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_readme_that_is_the_doc_exists() {
        let lib = ("crates/a/src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n");
        assert!(findings_in(check, &[lib, ("crates/a/README.md", "# a\n")]).is_empty());
        assert_eq!(findings_in(check, &[lib, ("crates/a/README.md", "\n")]).len(), 1);
        assert_eq!(findings_in(check, &[lib]).len(), 1);
    }
}
