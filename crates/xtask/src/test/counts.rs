//! How many tests passed and failed, by the closing lines that test runners print.
//!
//! Never counts a check that only passed or failed as a whole as a passed test; a failed one counts as failed.

/// Passed and failed tests of one or more runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Counts {
    /// A run that could not tell its counts.
    pub(super) const BROKEN: Self = Self { passed: 0, failed: 1 };

    /// A check that has no tests to count.
    pub(super) fn of_check(success: bool) -> Self {
        if success { Self::default() } else { Self::BROKEN }
    }

    /// What a line of a test runner's output adds: nothing, unless it is a closing line.
    pub(super) fn of_line(line: &str) -> Self {
        // Indented, it is part of what nextest shows of a failed test, once or twice.
        if line.starts_with("test result: ") {
            return Self { passed: before(line, "passed"), failed: before(line, "failed") };
        }
        let line = line.trim();
        if line.starts_with("Summary [") && line.contains(" run: ") {
            return Self { passed: before(line, "passed"), failed: before(line, "failed") + before(line, "timed") };
        }
        Self::default()
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// The counts of a run that has ended: one that failed without a failed test did not build, or broke off.
    pub(super) fn ended(self, success: bool) -> Self {
        if !success && self.failed == 0 { self.and(Self::BROKEN) } else { self }
    }

    /// For a person.
    pub(super) fn outcome(self) -> String {
        match (self.passed, self.failed) {
            (0, 0) => "ok".to_owned(),
            (passed, 0) => format!("ok, {passed} passed"),
            (0, _) => "FAILED".to_owned(),
            (passed, failed) => format!("FAILED, {passed} passed and {failed} failed"),
        }
    }
}

/// The number in front of `word`, as in `12 passed`; 0 when there is none.
fn before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split([' ', ';', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_others_are_not() {
        for (line, passed, failed) in [
            ("test result: ok. 44 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.17s\n", 44, 0),
            (
                "test result: FAILED. 17 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.19s",
                17,
                1,
            ),
            ("     Summary [   0.512s] 44 tests run: 44 passed, 0 skipped", 44, 0),
            ("     Summary [   1.002s] 44 tests run: 40 passed (1 slow), 3 failed, 1 timed out, 2 skipped", 40, 4),
            (
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.1s",
                0,
                0,
            ),
            ("test a::b ... ok", 0, 0),
            ("running 12 tests", 0, 0),
            ("12 passed, 3 failed", 0, 0),
        ] {
            assert_eq!(Counts::of_line(line), Counts { passed, failed }, "{line}");
        }
    }

    #[test]
    fn a_run_that_broke_off_counts_as_failed() {
        let passed = Counts { passed: 3, failed: 0 };
        assert_eq!(passed.ended(true), passed);
        assert_eq!(passed.ended(false), Counts { passed: 3, failed: 1 });
        assert_eq!(Counts { passed: 3, failed: 2 }.ended(false), Counts { passed: 3, failed: 2 });
    }
}
