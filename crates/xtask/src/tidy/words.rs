//! Rule: words that mean "not finished", "not run", or "only on my machine" have no place in the tree.

use super::Finding;
use super::source::word_places;
use super::tree::Tree;

// The words are put together here so that this file does not break its own rule.
const IN_CODE: [(&str, &str); 5] = [
    (concat!("to", "do!"), "finish it"),
    (concat!("un", "implemented!"), "finish it"),
    (concat!("#[ig", "nore"), "make the test run, or take it out"),
    (concat!("#[al", "low("), "use #[expect(…, reason = \"…\")]"),
    (concat!("#![al", "low("), "use #![expect(…, reason = \"…\")]"),
];
const ANYWHERE: [(&str, &str); 2] =
    [(concat!("FIX", "ME"), "mend it, or open an issue"), (concat!("XX", "X"), "mend it, or open an issue")];
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.rust() {
        for (word, mend) in IN_CODE {
            for place in word_places(source.code(), word) {
                findings.push(file.finding(file.line_of(place), format!("`{word}` is not for this tree; {mend}")));
            }
        }
    }
    for file in tree.files().filter(|file| file.path != "Cargo.lock") {
        for (word, mend) in ANYWHERE {
            for place in word_places(&file.text, word) {
                findings.push(file.finding(file.line_of(place), format!("`{word}` is not for this tree; {mend}")));
            }
        }
        for path in MACHINE_PATHS {
            for (place, _) in file.text.match_indices(path) {
                let before = file.text[..place].chars().next_back();
                // In the middle of a longer path or URL it is a folder's name like any other.
                if before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '~')) {
                    let text = format!("`{path}` is one machine's path; make it relative, or take it as an argument");
                    findings.push(file.finding(file.line_of(place), text));
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
    fn unfinished_code_is_found() {
        for (word, _) in IN_CODE {
            let code = format!("//! x\nfn f() {{ {word}) }}\n");
            assert_eq!(findings_in(check, &[("crates/a/src/b.rs", &code)]).len(), 1, "{word}");
            let comment = format!("//! x\n// {word}\n");
            assert!(findings_in(check, &[("crates/a/src/b.rs", &comment)]).is_empty(), "{word}");
        }
        for (word, _) in ANYWHERE {
            assert_eq!(findings_in(check, &[("README.md", &format!("a {word}: b"))]).len(), 1, "{word}");
        }
        assert!(findings_in(check, &[("README.md", concat!("XX", "XX and PRE", "FIX", "ME"))]).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for path in MACHINE_PATHS {
            assert_eq!(
                findings_in(check, &[("docs/a.md", &format!("\nsee `{path}main`\n"))]),
                [format!("docs/a.md:2: `{path}` is one machine's path; make it relative, or take it as an argument")]
            );
            assert!(findings_in(check, &[("docs/a.md", &format!("https://example.com{path}x"))]).is_empty());
        }
    }
}
