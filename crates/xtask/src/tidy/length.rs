//! Rule: a file that has grown too long is two rooms with names of their own.

use super::Finding;
use super::tree::Tree;

/// The aim is 400; this is where it stops being a matter of taste. Functions are clippy's business.
const LINES_MAX: usize = 600;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, _) in tree.rust() {
        let lines = file.text.lines().count();
        if !file.is_test() && lines > LINES_MAX {
            let text =
                format!("{lines} lines are more than {LINES_MAX}; split the file in two that have names of their own");
            findings.push(file.finding(LINES_MAX + 1, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn six_hundred_lines_are_the_most() {
        let (most, more) = ("\n".repeat(600), "\n".repeat(601));
        assert!(findings_in(check, &[("crates/a/src/b.rs", &most)]).is_empty());
        assert!(findings_in(check, &[("crates/a/tests/it/b.rs", &more)]).is_empty());
        assert!(findings_in(check, &[("README.md", &more)]).is_empty());
        assert_eq!(findings_in(check, &[("crates/a/src/b.rs", &more)]).len(), 1);
    }
}
