//! A fault plan as a TOML file.
//!
//! Never passes over a key it does not know: a misspelt rule would be a fault that silently never happens.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{Effect, ErrorBody, FaultPlan, Operation, PoisonForm, RefusedBody, Rule, When};
use crate::units::{UnitError, parse_duration, toml_problem};

/// Why a fault plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not TOML, or with keys or types that a plan has not.
    #[error("the fault plan cannot be read: {0}")]
    Toml(String),
    /// A rule contradicts itself or leaves something out.
    #[error("rule {rule:?} of the fault plan {problem}")]
    Rule {
        /// Its name, or its place counted from 1.
        rule: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No preset of that name.
    #[error("there is no fault plan named {0:?}; there is \"none\" and \"ten-percent\", or give a file")]
    UnknownPreset(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    seed: u64,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    name: Option<String>,
    #[serde(default)]
    operations: Vec<String>,
    #[serde(default)]
    tenants: Vec<protocol::ids::TenantId>,
    #[serde(default)]
    content_types: Vec<protocol::ids::ContentType>,
    from: Option<String>,
    until: Option<String>,
    max: Option<u64>,
    probability: Option<f64>,
    every: Option<u64>,
    first: Option<u64>,
    effect: String,
    status: Option<u16>,
    body: Option<String>,
    retry_after: Option<String>,
    single_quotes: Option<bool>,
    share: Option<f64>,
    clean: Option<bool>,
    bytes_per_second: Option<u32>,
    by: Option<String>,
    form: Option<String>,
    number: Option<u32>,
}

impl FaultPlan {
    /// Reads a plan from TOML text.
    ///
    /// # Errors
    /// When it is no TOML, has unknown keys, or a rule makes no sense.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let file: PlanFile = toml::from_str(text).map_err(|error| PlanError::Toml(toml_problem(text, &error)))?;
        let rules = file.rules.into_iter().enumerate().map(|(place, rule)| {
            let name = rule.name.clone().unwrap_or_else(|| format!("{} {}", place + 1, rule.effect));
            rule.into_rule(name.clone()).map_err(|problem| PlanError::Rule { rule: name, problem })
        });
        Ok(Self { seed: file.seed, rules: rules.collect::<Result<_, _>>()? })
    }
}

impl RuleFile {
    fn into_rule(self, name: String) -> Result<Rule, String> {
        let operations = self.operations.iter().map(|text| operation(text)).collect::<Result<_, _>>()?;
        let when = match (self.probability, self.every, self.first) {
            (Some(share), None, None) if (0.0..=1.0).contains(&share) => When::Probability(share),
            (Some(share), None, None) => return Err(format!("has probability {share}, which is not between 0 and 1")),
            (None, Some(nth), None) if nth > 0 => When::Every(nth),
            (None, None, Some(many)) => When::First(many),
            (None, Some(_), None) => return Err("has every = 0; the least is 1".to_owned()),
            _ => return Err("must have exactly one of probability, every and first".to_owned()),
        };
        let effect = self.effect()?;
        if effect.is_lasting() && !matches!(when, When::Probability(_)) {
            return Err(format!("has effect {:?}, which goes by content and needs probability", self.effect));
        }
        Ok(Rule {
            name,
            operations,
            tenants: self.tenants,
            content_types: self.content_types,
            from: time(self.from.as_deref())?,
            until: time(self.until.as_deref())?,
            max: self.max,
            when,
            effect,
        })
    }

    fn effect(&self) -> Result<Effect, String> {
        let status = |default: u16, allowed: &[u16]| match self.status.unwrap_or(default) {
            status if allowed.contains(&status) => Ok(status),
            status => Err(format!("has status {status}; {:?} can have {allowed:?}", self.effect)),
        };
        Ok(match self.effect.as_str() {
            "throttle" => Effect::Throttle {
                status: status(403, &[403, 429])?,
                retry_after: self.retry_after.as_deref().map(seconds).transpose()?,
                single_quotes: self.single_quotes.unwrap_or(false),
            },
            "server_error" => Effect::ServerError {
                status: status(503, &[408, 500, 502, 503, 504])?,
                body: choose("body", self.body.as_deref(), &ERROR_BODIES)?,
            },
            "unauthorized" => Effect::Unauthorized(choose("body", self.body.as_deref(), &REFUSED_BODIES)?),
            "reset" => Effect::Reset,
            "close" => Effect::Close,
            "lost_answer" => Effect::LostAnswer,
            "truncate" => match self.share.unwrap_or(0.5) {
                share if (0.0..1.0).contains(&share) => Effect::Truncate { share, clean: self.clean.unwrap_or(false) },
                share => return Err(format!("has share {share}, which is not between 0 and 1")),
            },
            "slow" => match self.bytes_per_second {
                Some(rate) if rate > 0 => Effect::Slow(rate),
                _ => return Err("needs bytes_per_second of at least 1".to_owned()),
            },
            "delay" => {
                let by = self.by.as_deref().ok_or("needs by, a duration such as 2s")?;
                Effect::Delay(parse_duration(by).map_err(|error: UnitError| format!("has a bad by: {error}"))?)
            }
            "error_as_success" => Effect::ErrorAsSuccess,
            "empty_success" => Effect::EmptySuccess,
            "null_uri" => Effect::NullUri,
            "empty_page" => Effect::EmptyPage,
            "byte_order_mark" => Effect::ByteOrderMark,
            "poison" => Effect::Poison(choose("form", self.form.as_deref(), &POISON_FORMS)?),
            "not_a_record" => Effect::NotARecord,
            "aadsts" => Effect::Aadsts(self.number.ok_or("needs number, such as 7000215")?),
            other => return Err(format!("has effect {other:?}; known are {}", EFFECTS.join(", "))),
        })
    }
}

const EFFECTS: [&str; 17] = [
    "throttle",
    "server_error",
    "unauthorized",
    "reset",
    "close",
    "lost_answer",
    "truncate",
    "slow",
    "delay",
    "error_as_success",
    "empty_success",
    "null_uri",
    "empty_page",
    "byte_order_mark",
    "poison",
    "not_a_record",
    "aadsts",
];

const ERROR_BODIES: [(&str, ErrorBody); 3] =
    [("html", ErrorBody::Html), ("envelope", ErrorBody::Envelope), ("empty", ErrorBody::Empty)];

const REFUSED_BODIES: [(&str, RefusedBody); 3] =
    [("empty", RefusedBody::Empty), ("message", RefusedBody::Message), ("envelope", RefusedBody::Envelope)];

const POISON_FORMS: [(&str, PoisonForm); 5] = [
    ("server_error", PoisonForm::ServerError),
    ("not_found", PoisonForm::NotFound),
    ("truncated", PoisonForm::Truncated),
    ("reset", PoisonForm::Reset),
    ("invalid_id", PoisonForm::InvalidId),
];

/// The named choice, or the first when none is named.
fn choose<T: Copy>(key: &str, text: Option<&str>, from: &[(&str, T)]) -> Result<T, String> {
    let found = match text {
        None => from.first(),
        Some(text) => from.iter().find(|(name, _)| *name == text),
    };
    let names = || from.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("has an unknown {key}; known are {}", names()))
}

fn operation(text: &str) -> Result<Operation, String> {
    let names = || Operation::ALL.map(|(name, _)| name).join(", ");
    let found = Operation::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, operation)| *operation).ok_or_else(|| format!("names operation {text:?}; known are {}", names()))
}

fn time(text: Option<&str>) -> Result<Option<DateTime<Utc>>, String> {
    let read = |text: &str| {
        let time = DateTime::parse_from_rfc3339(text);
        time.map(|time| time.with_timezone(&Utc))
            .map_err(|_| format!("has {text:?} where a time such as 2026-01-31T12:00:00Z must be"))
    };
    text.map(read).transpose()
}

fn seconds(text: &str) -> Result<u32, String> {
    let span = parse_duration(text).map_err(|error| format!("has a bad retry_after: {error}"))?;
    u32::try_from(span.as_secs()).map_err(|_| "has a retry_after that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_with_all_its_parts() {
        let plan = FaultPlan::parse(
            r#"
            seed = 7
            [[rule]]
            name = "throttled at noon"
            operations = ["content", "retrieve"]
            content_types = ["Audit.General"]
            tenants = ["6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11"]
            from = "2026-01-01T12:00:00Z"
            max = 3
            probability = 0.25
            effect = "throttle"
            status = 429
            retry_after = "30s"
            [[rule]]
            every = 10
            effect = "delay"
            by = "2s"
            "#,
        )
        .unwrap();
        assert_eq!((plan.seed, plan.rules.len()), (7, 2));
        let rule = &plan.rules[0];
        assert_eq!(rule.effect, Effect::Throttle { status: 429, retry_after: Some(30), single_quotes: false });
        assert_eq!((rule.when, rule.max), (When::Probability(0.25), Some(3)));
        assert_eq!(plan.rules[1].name, "2 delay");
    }

    #[test]
    fn a_plan_that_would_not_do_what_it_says_is_refused_with_the_reason() {
        for (text, reason) in [
            ("[[rule]]\neffect = \"reset\"", "exactly one of"),
            ("[[rule]]\neffect = \"reset\"\nfirst = 1\nevery = 2", "exactly one of"),
            ("[[rule]]\neffect = \"rest\"\nfirst = 1", "known are"),
            ("[[rule]]\neffect = \"reset\"\nprobability = 1.1", "not between 0 and 1"),
            ("[[rule]]\neffect = \"poison\"\nfirst = 1", "needs probability"),
            ("[[rule]]\neffect = \"throttle\"\nfirst = 1\nstatus = 500", "can have"),
            ("[[rule]]\neffect = \"reset\"\nfirst = 1\noperations = [\"fetch\"]", "known are start"),
        ] {
            let error = FaultPlan::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = FaultPlan::parse("seed = 1\n[[rule]]\nefect = \"reset\"\n").unwrap_err().to_string();
        assert!(error.starts_with("the fault plan cannot be read: line 3: unknown field `efect`"), "{error}");
        assert!(error.ends_with("; correct or remove it") && !error.contains('\n'), "{error}");
        let error = FaultPlan::parse("[[rules]]\n").unwrap_err().to_string();
        assert!(error.contains("line 1: unknown field `rules`") && !error.contains('\n'), "{error}");
    }
}
