//! The words that operators and their machines read.

use std::collections::BTreeSet;

use engine::problem::ProblemKind;
use protocol::entra::{AppStep, EntraDisposition};
use protocol::error::{AdminStep, BackOffCause};

use crate::{minutes, noon};

#[test]
fn every_kind_has_a_word_of_its_own_a_problem_and_a_remedy() {
    let mut words = BTreeSet::new();
    for kind in ProblemKind::ALL {
        assert!(words.insert(kind.as_str()), "{} stands twice", kind.as_str());
        assert!(kind.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        for text in [kind.problem(), kind.remedy()] {
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains("  "), "{text}");
        }
    }
}

#[test]
fn a_problem_names_the_remedy_and_since_when_it_stands() {
    let kind = ProblemKind::Admin(AdminStep::EnableAuditing);
    let first = kind.stands_in_the_way(None, None, noon(), None);
    assert_eq!(first.kind, "auditing_off");
    assert!(first.message.starts_with("unified audit logging is off in this tenant: a tenant admin"), "{first:?}");
    let later = kind.stands_in_the_way(Some(" AF1 "), Some(&first), noon() + minutes(5), Some(noon()));
    assert_eq!(later.since, noon(), "it has stood since then");
    assert!(later.message.contains("this tenant (AF1): a tenant admin"), "{later:?}");
    let whole = format!("{} (HTTP 401): {}", kind.problem(), kind.remedy());
    assert_eq!(kind.stands_in_the_way(Some(&whole), None, noon(), None).message, whole, "nothing is said twice");
    let other = ProblemKind::Throttled.stands_in_the_way(Some(""), Some(&first), noon() + minutes(5), None);
    assert_eq!(other.since, noon() + minutes(5));
    assert!(!other.message.contains("()"));
}

#[test]
fn token_errors_become_the_problem_of_who_can_mend_them() {
    let word = |disposition| ProblemKind::of_token_error(disposition).as_str();
    assert_eq!(word(EntraDisposition::NeedsTenantAdmin(AdminStep::GiveConsent)), "consent_missing");
    assert_eq!(word(EntraDisposition::StopApp(AppStep::RenewSecret)), "secret_expired");
    assert_eq!(word(EntraDisposition::NewAssertion { if_repeated: AppStep::CheckClock }), "assertion_time_wrong");
    assert_eq!(word(EntraDisposition::BackOff { cause: BackOffCause::ServiceFault }), "service_down");
    assert_eq!(word(EntraDisposition::Bug), "our_fault");
}
