//! Fault plans by name.
//!
//! Never holds a fault that a patient client cannot get over: presets are for runs that must end complete.

use super::{FaultPlan, PlanError};

/// The names that [`FaultPlan::preset`] knows.
pub const PRESETS: [&str; 3] = ["none", "ten-percent", "demo"];

/// The rule that tells a client nothing of how long to wait, so that a polite one waits half a minute.
const WITHOUT_A_WAIT: &str = "name = \"AF429 as 403\"";

/// About one request in ten, in the mixture the deviations list suggests: mostly the front door's 5xx and broken
/// connections, sometimes throttling, seldom a refused token or a 200 that is none.
const TEN_PERCENT: &str = r#"
[[rule]]
name = "503 from the front door"
operations = ["list", "content", "retrieve", "notifications"]
probability = 0.018
effect = "server_error"
status = 503
[[rule]]
name = "AF50000"
operations = ["list", "content", "retrieve", "notifications"]
probability = 0.015
effect = "server_error"
status = 500
body = "envelope"
[[rule]]
name = "502 with nothing"
operations = ["list", "content", "retrieve", "notifications"]
probability = 0.01
effect = "server_error"
status = 502
body = "empty"
[[rule]]
name = "reset before the answer"
operations = ["list", "content", "retrieve"]
probability = 0.012
effect = "reset"
[[rule]]
name = "body cut short"
operations = ["content", "retrieve"]
probability = 0.013
effect = "truncate"
share = 0.6
[[rule]]
name = "body that seems to be all"
operations = ["content", "retrieve"]
probability = 0.003
effect = "truncate"
share = 0.7
clean = true
[[rule]]
name = "429 with Retry-After"
operations = ["list", "content", "retrieve"]
probability = 0.008
effect = "throttle"
status = 429
retry_after = "1s"
[[rule]]
name = "AF429 as 403"
operations = ["content", "retrieve"]
probability = 0.002
effect = "throttle"
[[rule]]
name = "slow body"
operations = ["retrieve"]
probability = 0.005
effect = "slow"
bytes_per_second = 400000
[[rule]]
name = "401 with nothing"
operations = ["content", "retrieve"]
probability = 0.004
effect = "unauthorized"
body = "empty"
[[rule]]
name = "401 with a Message"
operations = ["content", "retrieve"]
probability = 0.003
effect = "unauthorized"
body = "message"
[[rule]]
name = "200 with an error"
operations = ["content", "retrieve"]
probability = 0.003
effect = "error_as_success"
[[rule]]
name = "200 with nothing"
operations = ["content", "retrieve"]
probability = 0.003
effect = "empty_success"
[[rule]]
name = "empty page before the next"
operations = ["content"]
probability = 0.01
effect = "empty_page"
[[rule]]
name = "byte order mark"
operations = ["content", "retrieve"]
probability = 0.004
effect = "byte_order_mark"
[[rule]]
name = "token endpoint down"
operations = ["token"]
probability = 0.03
effect = "server_error"
status = 503
"#;

impl FaultPlan {
    /// The plan of that name, drawn with `seed`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn preset(name: &str, seed: u64) -> Result<Self, PlanError> {
        let text = match name {
            "none" => String::new(),
            "ten-percent" => TEN_PERCENT.to_owned(),
            "demo" => demo(),
            other => return Err(PlanError::UnknownPreset(other.to_owned())),
        };
        Ok(Self { seed, ..Self::parse(&text)? })
    }
}

/// The same share of faults, for people and tests that wait for the end: throttling, which a polite client sits out
/// second by second, is rarer and always names its wait; the front door fails the more often.
fn demo() -> String {
    TEN_PERCENT
        .replace(WITHOUT_A_WAIT, &format!("{WITHOUT_A_WAIT}\nretry_after = \"1s\""))
        .replace("probability = 0.002\neffect = \"throttle\"", "probability = 0.0005\neffect = \"throttle\"")
        .replace("probability = 0.008\neffect = \"throttle\"", "probability = 0.001\neffect = \"throttle\"")
        .replace("probability = 0.018", "probability = 0.0265")
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, When};
    use super::*;

    #[test]
    fn in_the_demo_every_throttling_names_its_wait() {
        let plan = FaultPlan::preset("demo", 1).unwrap();
        let waits: Vec<_> = plan
            .rules
            .iter()
            .filter_map(|rule| match &rule.effect {
                Effect::Throttle { retry_after, .. } => Some(*retry_after),
                _ => None,
            })
            .collect();
        assert!(!waits.is_empty() && waits.iter().all(|wait| *wait == Some(1)), "{waits:?}");
        let share = |plan: &FaultPlan| {
            let rules = plan.rules.iter().filter(|rule| rule.operations.contains(&super::super::Operation::Retrieve));
            rules.map(|rule| if let When::Probability(share) = rule.when { share } else { 1.0 }).sum::<f64>()
        };
        assert!((share(&plan) - share(&FaultPlan::preset("ten-percent", 1).unwrap())).abs() < 1e-9);
    }

    #[test]
    fn ten_percent_is_about_ten_percent_of_retrievals() {
        let plan = FaultPlan::preset("ten-percent", 1).unwrap();
        let of = |operation| {
            let rules = plan.rules.iter().filter(|rule| rule.operations.contains(&operation));
            rules.map(|rule| if let When::Probability(share) = rule.when { share } else { 1.0 }).sum::<f64>()
        };
        for operation in [super::super::Operation::Content, super::super::Operation::Retrieve] {
            let sum = of(operation);
            assert!((0.08..=0.12).contains(&sum), "{operation:?}: {sum}");
        }
    }

    #[test]
    fn every_preset_can_be_read_and_no_other_name() {
        for name in PRESETS {
            assert!(FaultPlan::preset(name, 1).is_ok(), "{name}");
        }
        assert!(FaultPlan::preset("lots", 1).is_err());
    }
}
