//! Durations as text with units: `500ms`, `60s`, `15m`, `2h`, `7d`; and sizes: `64MiB`, `4GiB`.
//!
//! Never accepts a bare number: whoever reads the file must see the unit.

use std::time::Duration;

/// Reads a duration; `None` when it is no whole number followed by `ms`, `s`, `m`, `h` or `d`, or is too large.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that divides it.
pub(crate) fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (size, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds >= size && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

const SIZES: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];

/// Reads a size; `None` when it is no whole number followed by `KiB`, `MiB`, `GiB` or `TiB`, or is too large.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (shift, unit) = SIZES.iter().find(|(_, unit)| text.ends_with(unit))?;
    let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn format_size(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_their_unit_both_ways() {
        for (text, bytes) in [("64MiB", 64 << 20), ("4GiB", 4 << 30), ("1TiB", 1 << 40), ("3KiB", 3 << 10)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        for text in ["", "4", "GiB", "4GB", "1.5GiB", "-1GiB", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_carry_their_unit_both_ways() {
        for (text, milliseconds) in
            [("500ms", 500), ("60s", 60_000), ("15m", 900_000), ("2h", 7_200_000), ("400d", 34_560_000_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(60)), "1m");
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn bare_numbers_fractions_and_overflows_are_refused() {
        for text in ["", "60", "s", "1.5h", "-1s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
