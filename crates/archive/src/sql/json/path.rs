//! Paths into JSON as SQL writes them.
//!
//! Never guesses: a path that can be read in no way, or in two, is refused with the reason.

/// One step of a path: a member's name, or an element's place (negative counts from the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Step {
    Name(String),
    Index(i64),
}

/// Reads a path such as `Actor[0].ID`, `$.Item.Id` or `['odd.name'][-1]`. The error says what is wrong with it.
pub(in crate::sql) fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let wrong =
        |problem: &str| Err(format!("the path {text:?} {problem}; write it like 'Actor[0].ID' or '[''odd.name'']'"));
    let mut steps = Vec::new();
    let mut rest = text.trim();
    if let Some(after) = rest.strip_prefix('$')
        && (after.is_empty() || after.starts_with(['.', '[']))
    {
        rest = after.strip_prefix('.').unwrap_or(after);
        if rest.is_empty() && after.starts_with('.') {
            return wrong("ends after a dot");
        }
    }
    // Whether a name may stand here without a dot before it: at the start only.
    let mut at_start = true;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some((step, after)) = parse_bracket(after) else {
                return wrong("has a bracket that holds neither a number nor a quoted name");
            };
            steps.push(step);
            rest = after;
        } else {
            let name_on = match rest.strip_prefix('.') {
                Some(after) if !at_start => after,
                None if at_start => rest,
                _ => return wrong("has a name or a dot where none can stand"),
            };
            let end = name_on.find(['.', '[']).unwrap_or(name_on.len());
            let (name, after) = name_on.split_at(end);
            if name.is_empty() {
                return wrong("has an empty name");
            }
            steps.push(Step::Name(name.to_owned()));
            rest = after;
        }
        at_start = false;
    }
    Ok(steps)
}

/// What stands between `[` and `]`, and the text after the bracket.
fn parse_bracket(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    let Some(quote @ ('\'' | '"')) = text.chars().next() else {
        let (number, after) = text.split_once(']')?;
        return Some((Step::Index(number.trim().parse().ok()?), after));
    };
    let mut name = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            name.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            name.push(quote);
        } else {
            let after = text.get(at + 1..)?.trim_start().strip_prefix(']')?;
            return Some((Step::Name(name), after));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_refused_with_a_reason() {
        for (path, problem) in [
            ("a.", "empty name"),
            (".a", "where none can stand"),
            ("a..b", "empty name"),
            ("a[", "bracket"),
            ("a[x]", "bracket"),
            ("a['x]", "bracket"),
            ("a[0]b", "where none can stand"),
            ("$.", "after a dot"),
            ("a[99999999999999999999]", "bracket"),
        ] {
            let error = parse_path(path).unwrap_err();
            assert!(error.contains(problem), "{path}: {error}");
        }
        assert_eq!(parse_path("['it''s']").unwrap(), [Step::Name("it's".to_owned())]);
        assert_eq!(parse_path("$schema.x").unwrap(), [Step::Name("$schema".to_owned()), Step::Name("x".to_owned())]);
    }
}
