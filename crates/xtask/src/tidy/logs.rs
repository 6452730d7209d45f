//! Rule: log messages are lower-case fragments without a full stop; what varies is a field.

use super::Finding;
use super::source::{Source, closing, word_places};
use super::tree::{File, Tree};

const MACROS: [&str; 5] = ["trace!", "debug!", "info!", "warn!", "error!"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.rust().filter(|(file, source)| file.is_product() && source.code().contains("tracing")) {
        for name in MACROS {
            for place in word_places(source.code(), name) {
                check_call(file, source, place + name.len(), findings);
            }
        }
    }
}

fn check_call(file: &File, source: &Source, open: usize, findings: &mut Vec<Finding>) {
    let end = closing(source.code(), open);
    let Some(message) = message_of(file, source, open, end) else { return };
    let line = file.line_of(open);
    if message.ends_with('.') {
        findings.push(file.finding(line, format!("the log message {message:?} ends with a full stop; take it off")));
    }
    let mut letters = message.chars();
    // Two capitals are an acronym.
    if let (Some(first), Some(second)) = (letters.next(), letters.next())
        && first.is_uppercase()
        && second.is_lowercase()
    {
        findings.push(file.finding(line, format!("the log message {message:?} starts with a capital; write it small")));
    }
}

/// The message: the first text that is an argument of its own, and not a field's or the target's value.
fn message_of<'a>(file: &'a File, source: &Source, open: usize, end: usize) -> Option<&'a str> {
    let literal = source.literals().iter().find(|literal| {
        open < literal.start && literal.end < end && source.code()[open..literal.start].trim_end().ends_with(['(', ','])
    })?;
    Some(file.text[literal.clone()].trim_start_matches(['r', '#']).trim_end_matches('#').trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn messages_are_small_fragments() {
        for good in [
            "tracing::info!(\"listed {n} contents\");",
            "tracing::info!(tenant = %id, text = \"Any.\", \"stored\");",
            "use tracing::warn; warn!(target: \"A.B\", \"HTTP 429\");",
            "tracing::error!(error = %e);",
            "// tracing::info!(\"Not code.\")",
        ] {
            assert!(findings_in(check, &[("crates/a/src/b.rs", good)]).is_empty(), "{good}");
        }
        for bad in [
            "tracing::info!(\"Listed {n} contents\");",
            "tracing::info!(tenant = %id, \"stored.\");",
            "use tracing::warn; warn!(\n  n,\n  \"throttled by the feed.\",\n);",
        ] {
            assert_eq!(findings_in(check, &[("crates/a/src/b.rs", bad)]).len(), 1, "{bad}");
        }
    }
}
