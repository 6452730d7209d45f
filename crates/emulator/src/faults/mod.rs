//! What goes wrong on purpose, and when: a plan of rules, and a seed that repeats it.
//!
//! Never draws from a stream that all requests share: a decision follows from the seed, the rule, what is asked for,
//! and
//! how often it has been asked for before. So the same client meets the same faults, whatever else runs beside it.

mod file;
mod preset;
mod rule;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use protocol::ids::{ContentType, TenantId};

pub use file::PlanError;
pub use preset::PRESETS;
pub use rule::{Effect, ErrorBody, Operation, PoisonForm, RefusedBody, Rule, When};

use crate::seed::{Seed, text_key};

/// Rules and the seed they are drawn with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaultPlan {
    /// What the draws start from.
    pub seed: u64,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A request, as far as rules choose by it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Which call.
    pub operation: Operation,
    /// The tenant of its path.
    pub tenant: Option<TenantId>,
    /// Its content type.
    pub kind: Option<&'a ContentType>,
    /// What exactly is asked for: a content id, or the times and page of a listing.
    pub subject: &'a str,
    /// The world's time.
    pub now: DateTime<Utc>,
}

/// A plan at work: with the counts its decisions depend on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: FaultPlan,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often a thing has been asked for, by rule and thing.
    asked: HashMap<u64, u32>,
    /// How often a rule has struck, by its place.
    struck: HashMap<usize, u64>,
}

/// Things whose requests are counted. When more come, counting starts again, and a probability is drawn as at first.
const COUNTED_MAX: usize = 1 << 20;

impl Faults {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { plan, counts: Mutex::default() }
    }

    pub(crate) fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// What goes wrong with this request, if anything. Counts it.
    pub(crate) fn decide(&self, call: &Call<'_>) -> Option<Effect> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, rule) in self.plan.rules.iter().enumerate() {
            if rule.effect.is_lasting() || !rule.concerns(call) {
                continue;
            }
            if rule.max.is_some_and(|max| counts.struck.get(&place).copied().unwrap_or(0) >= max) {
                continue;
            }
            if self.strikes(place, rule, call, &mut counts) {
                *counts.struck.entry(place).or_default() += 1;
                return Some(rule.effect.clone());
            }
        }
        None
    }

    fn strikes(&self, place: usize, rule: &Rule, call: &Call<'_>, counts: &mut Counts) -> bool {
        let tenant = call.tenant.map_or(0, |tenant| text_key(&tenant.to_string()));
        let kind = call.kind.map_or(0, |kind| text_key(kind.as_str()));
        let rule_seed = self.rule_seed(place).child(tenant);
        let of_operation = rule_seed.child(call.operation as u64).child(kind);
        let counted = match rule.when {
            When::Probability(_) => of_operation.child(text_key(call.subject)),
            When::Every(_) => rule_seed,
            When::First(_) => of_operation,
        };
        if counts.asked.len() >= COUNTED_MAX {
            counts.asked.clear();
        }
        let count = counts.asked.entry(counted.value()).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        match rule.when {
            When::Probability(share) => counted.child(u64::from(before)).unit() < share,
            When::Every(nth) => (u64::from(before) + 1).is_multiple_of(nth.max(1)),
            When::First(many) => u64::from(before) < many,
        }
    }

    /// What is wrong with a content for good.
    pub(crate) fn lasting(&self, tenant: TenantId, kind: &ContentType, content_id: &str) -> Vec<(u64, Effect)> {
        let mut found = Vec::new();
        for (place, rule) in self.plan.rules.iter().enumerate() {
            let concerns = (rule.tenants.is_empty() || rule.tenants.contains(&tenant))
                && (rule.content_types.is_empty() || rule.content_types.contains(kind));
            if !rule.effect.is_lasting() || !concerns {
                continue;
            }
            let drawn = self.rule_seed(place).named(&tenant.to_string()).named(content_id);
            if matches!(rule.when, When::Probability(share) if drawn.unit() < share) {
                found.push((drawn.child(1).value(), rule.effect.clone()));
            }
        }
        found
    }

    /// How often each rule has struck.
    pub(crate) fn struck(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |place: usize| counts.struck.get(&place).copied().unwrap_or(0);
        self.plan.rules.iter().enumerate().map(|(place, rule)| (rule.name.clone(), count(place))).collect()
    }

    fn rule_seed(&self, place: usize) -> Seed {
        Seed::new(self.plan.seed).named("faults").child(place as u64)
    }
}

/// Elements of a blob that are no records. The braces and quotes of each are balanced, so what follows can be read.
pub const NOT_RECORDS: [&str; 8] = [
    "null",
    "\"The record could not be serialised.\"",
    "42",
    "[]",
    "{}",
    "{\"CreationTime\":\"2026-01-01T00:00:00\",\"Operation\":\"bad \\q escape\"}",
    "{\"Id\":012,\"RecordType\":+1}",
    "{\"error\":{\"code\":\"AF50000\",\"message\":\"An internal error occurred. Retry the request.\"}}",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: When, effect: Effect) -> Rule {
        Rule {
            name: "rule".to_owned(),
            operations: Vec::new(),
            tenants: Vec::new(),
            content_types: Vec::new(),
            from: None,
            until: None,
            max: None,
            when,
            effect,
        }
    }

    fn call(subject: &str) -> Call<'_> {
        Call {
            operation: Operation::Retrieve,
            tenant: Some("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()),
            kind: Some(&ContentType::Exchange),
            subject,
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        }
    }

    fn struck(plan: &FaultPlan, order: &[usize]) -> Vec<(usize, bool)> {
        let faults = Faults::new(plan.clone());
        let mut drawn: Vec<_> =
            order.iter().map(|subject| (*subject, faults.decide(&call(&subject.to_string())).is_some())).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn the_same_seed_strikes_the_same_things_in_whatever_order_they_are_asked_for() {
        let plan = FaultPlan { seed: 3, rules: vec![rule(When::Probability(0.5), Effect::Reset)] };
        let forward: Vec<usize> = (0..200).collect();
        let backward: Vec<usize> = (0..200).rev().collect();
        assert_eq!(struck(&plan, &forward), struck(&plan, &backward));
        let other = FaultPlan { seed: 4, ..plan.clone() };
        assert_ne!(struck(&plan, &forward), struck(&other, &forward));
    }

    #[test]
    fn a_thing_asked_for_again_is_drawn_again() {
        let faults = Faults::new(FaultPlan { seed: 3, rules: vec![rule(When::Probability(0.5), Effect::Reset)] });
        let draws: Vec<bool> = (0..64).map(|_| faults.decide(&call("same")).is_some()).collect();
        assert!(draws.contains(&true) && draws.contains(&false));
    }

    #[test]
    fn counted_rules_strike_exactly_as_often_as_they_say() {
        let first = Faults::new(FaultPlan { seed: 1, rules: vec![rule(When::First(2), Effect::Reset)] });
        let every = Faults::new(FaultPlan { seed: 1, rules: vec![rule(When::Every(3), Effect::Reset)] });
        let capped = Rule { max: Some(1), ..rule(When::Every(1), Effect::Reset) };
        let capped = Faults::new(FaultPlan { seed: 1, rules: vec![capped] });
        let run = |faults: &Faults| (0..6).map(|n| faults.decide(&call(&n.to_string())).is_some()).collect::<Vec<_>>();
        assert_eq!(run(&first), [true, true, false, false, false, false]);
        assert_eq!(run(&every), [false, false, true, false, false, true]);
        assert_eq!(run(&capped), [true, false, false, false, false, false]);
        assert_eq!(capped.struck(), [("rule".to_owned(), 1)]);
    }

    #[test]
    fn a_rule_strikes_only_what_it_names() {
        let mut named = rule(When::Every(1), Effect::Reset);
        named.operations = vec![Operation::Content];
        named.content_types = vec![ContentType::Exchange];
        named.from = DateTime::from_timestamp(1_800_000_000, 0);
        named.until = DateTime::from_timestamp(1_800_000_001, 0);
        let faults = Faults::new(FaultPlan { seed: 1, rules: vec![named] });
        let fitting = Call { operation: Operation::Content, ..call("x") };
        assert!(faults.decide(&fitting).is_some());
        assert!(faults.decide(&call("x")).is_none(), "another operation");
        assert!(faults.decide(&Call { kind: Some(&ContentType::General), ..fitting }).is_none());
        assert!(faults.decide(&Call { kind: None, ..fitting }).is_none());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert!(faults.decide(&Call { now: at(1_799_999_999), ..fitting }).is_none());
        assert!(faults.decide(&Call { now: at(1_800_000_001), ..fitting }).is_none());
    }

    #[test]
    fn lasting_faults_stay_with_their_content() {
        let plan =
            FaultPlan { seed: 5, rules: vec![rule(When::Probability(0.3), Effect::Poison(PoisonForm::NotFound))] };
        let faults = Faults::new(plan);
        let tenant = call("").tenant.unwrap();
        let poisoned = |id: usize| !faults.lasting(tenant, &ContentType::Exchange, &id.to_string()).is_empty();
        let first: Vec<bool> = (0..100).map(poisoned).collect();
        assert_eq!(first, (0..100).map(poisoned).collect::<Vec<_>>());
        assert!(first.contains(&true) && first.contains(&false));
        assert!(faults.decide(&call("1")).is_none(), "it is not drawn per request");
    }
}
