//! What a check-up found: one step after another, each with its result, what that means and what mends it.
//!
//! Never holds a secret, a token or a URL's query: a report is printed, and sent to whoever helps.

use serde::Serialize;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// Collection does not work with this.
    Failed,
    /// Not looked at, since it could not make sense.
    Skipped,
}

/// What kind of trouble a failed step is; the exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The configuration, or a file it names.
    Configuration,
    /// Disk, ledger or archive.
    Storage,
    /// Something does not answer.
    Unreachable,
    /// The other side says no.
    Refused,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which step; a stable word.
    pub step: &'static str,
    /// Of what: a host, a file, a credential; may be empty.
    pub of: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub result: String,
    /// What that means; empty when the result says it.
    pub means: String,
    /// What mends it; empty when nothing need be.
    pub mend: String,
    /// What kind of trouble it is; of failed steps only.
    pub cause: Option<Cause>,
}

impl Step {
    /// It is as it should be.
    pub fn ok(step: &'static str, of: impl Into<String>, result: impl Into<String>) -> Self {
        Self::new(step, of, Status::Ok, result)
    }

    /// It works, and somebody should look at it.
    pub fn warning(step: &'static str, of: impl Into<String>, result: impl Into<String>) -> Self {
        Self::new(step, of, Status::Warning, result)
    }

    /// Collection does not work with this.
    pub fn failed(step: &'static str, of: impl Into<String>, cause: Cause, result: impl Into<String>) -> Self {
        Self { cause: Some(cause), ..Self::new(step, of, Status::Failed, result) }
    }

    /// Not looked at, because of this.
    pub fn skipped(step: &'static str, of: impl Into<String>, because: impl Into<String>) -> Self {
        Self::new(step, of, Status::Skipped, because)
    }

    /// With what it means and what mends it.
    #[must_use]
    pub fn explained(mut self, means: impl Into<String>, mend: impl Into<String>) -> Self {
        self.means = means.into();
        self.mend = mend.into();
        self
    }

    fn new(step: &'static str, of: impl Into<String>, status: Status, result: impl Into<String>) -> Self {
        Self {
            step,
            of: of.into(),
            status,
            result: result.into(),
            means: String::new(),
            mend: String::new(),
            cause: None,
        }
    }
}

/// All steps, in the order they were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Report {
    /// The worst that was found; [`Status::Ok`] when nothing was.
    pub fn outcome(&self) -> Status {
        let any = |status| self.steps.iter().any(|step| step.status == status);
        if any(Status::Failed) {
            Status::Failed
        } else if any(Status::Warning) {
            Status::Warning
        } else {
            Status::Ok
        }
    }

    /// The first step that failed: what comes after it may be its consequence.
    pub fn first_failure(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.status == Status::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_the_worst_step_and_skipped_ones_do_not_count() {
        let mut report = Report::default();
        assert_eq!(report.outcome(), Status::Ok);
        report.steps.push(Step::ok("a", "", "x"));
        report.steps.push(Step::skipped("b", "", "x"));
        assert_eq!(report.outcome(), Status::Ok);
        report.steps.push(Step::warning("c", "", "x"));
        assert_eq!(report.outcome(), Status::Warning);
        report.steps.push(Step::failed("d", "", Cause::Storage, "x"));
        report.steps.push(Step::failed("e", "", Cause::Refused, "x"));
        assert_eq!(report.outcome(), Status::Failed);
        assert_eq!(report.first_failure().unwrap().step, "d");
    }
}
