//! Durations and sizes as people write them in option files: `90s`, `15m`, `6d`, `64MiB`.
//!
//! Never guesses a unit: a bare number is refused, because nobody can tell seconds from minutes in it.

use std::time::Duration;

/// Why a duration or a size cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number with a unit of time.
    #[error("{0:?} is no duration: write a number and one of ms, s, m, h, d, such as 15m")]
    Duration(String),
    /// Not a number with a unit of size.
    #[error("{0:?} is no size: write a number and one of B, KiB, MiB, GiB, such as 64MiB")]
    Size(String),
}

/// What is wrong with TOML text, in one line that names the place: the parser's own report draws over several.
pub(crate) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let problem = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).unwrap_or("").matches('\n').count() + 1;
            format!("line {line}: {problem}; correct or remove it")
        }
        None => format!("{problem}; correct it"),
    }
}

/// Reads `250ms`, `90s`, `15m`, `2h` or `6d`. Whole numbers only.
///
/// # Errors
/// When the number or the unit is missing or unknown, or the span does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let refused = || UnitError::Duration(text.chars().take(40).collect());
    let (number, unit) = split(text).ok_or_else(refused)?;
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    let millis = number.checked_mul(millis_per_unit).filter(|millis| *millis <= MAX_MILLIS).ok_or_else(refused)?;
    Ok(Duration::from_millis(millis))
}

/// Reads `512B`, `64KiB`, `100MiB` or `1GiB`. Whole numbers only; the result is in bytes.
///
/// # Errors
/// When the number or the unit is missing or unknown, or the size does not fit.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let refused = || UnitError::Size(text.chars().take(40).collect());
    let (number, unit) = split(text).ok_or_else(refused)?;
    let bytes_per_unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(refused()),
    };
    number.checked_mul(bytes_per_unit).ok_or_else(refused)
}

/// A thousand years: far beyond any use, far below what time arithmetic overflows at.
const MAX_MILLIS: u64 = 1000 * 366 * 86_400_000;

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_known_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("6d"), Ok(Duration::from_secs(6 * 86_400)));
        for text in ["", "15", "m", "1.5h", "-3s", "15 minutes", "99999999999d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_need_a_number_and_a_known_unit() {
        assert_eq!(parse_size("100MiB"), Ok(100 << 20));
        assert_eq!(parse_size("7 B"), Ok(7));
        for text in ["", "100", "100MB", "1e3KiB", "99999999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
