//! The one reader of numbers in token answers: v1 writes them as strings, v2 as numbers.
//!
//! Never fails an answer for a number it cannot read.

use serde_json::Value;

/// A count of seconds, or a time in seconds since 1970, from a number or a string; `None` for all else, negatives too.
pub(crate) fn tolerant_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse::<f64>().ok().and_then(whole))
        }
        _ => None,
    }
}

fn whole(number: f64) -> Option<u64> {
    // Beyond 2^53 a float no longer counts seconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked in the condition"
    )]
    (0.0..9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_and_numbers_are_the_same_number() {
        for value in [json!(3599), json!("3599"), json!(" 3599 "), json!(3599.0), json!("3599.9"), json!(3599.9)] {
            assert_eq!(tolerant_number(&value), Some(3599), "{value}");
        }
        assert_eq!(tolerant_number(&json!("0")), Some(0));
        assert_eq!(tolerant_number(&json!(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn what_is_no_count_is_none() {
        for value in
            [json!(-1), json!("-1"), json!("soon"), json!(""), json!(null), json!([1]), json!(1e300), json!("NaN")]
        {
            assert_eq!(tolerant_number(&value), None, "{value}");
        }
    }
}
