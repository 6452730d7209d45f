//! When a webhook is set, again, and taken off; and what a list makes of it.

use engine::model::Subscription;
use engine::webhook::{Sighting, Webhook, WebhookAction, WebhookState, decide};
use proptest::prelude::*;
use protocol::activity::WebhookStatus;
use protocol::ids::ContentType;
use protocol::time::Timestamp;

use crate::{hours, minutes, noon, seconds};

const BASE: &str = "https://audit.example.com/webhook/";

fn subscription(started: Option<Timestamp>) -> Subscription {
    Subscription {
        content_type: ContentType::General,
        enabled: Some(true),
        listed_at: Some(noon()),
        start_requested_at: started,
        problem: None,
    }
}

fn webhook(state: WebhookState) -> Webhook {
    let place = (format!("{BASE}a"), [1; 16]);
    Webhook { state, ..Webhook::offer(None, noon(), ContentType::General, place, [2; 32]) }
}

fn sighting<'a>(address: &'a str, status: &'a WebhookStatus) -> Sighting<'a> {
    Sighting { address, status, expires: None, auth: None }
}

#[test]
fn a_webhook_follows_the_subscription_by_a_quarter_of_an_hour() {
    let started = subscription(Some(noon()));
    let action = |after, row: Option<&Webhook>| decide(noon() + after, Some(BASE), &started, row, None);
    let until = noon() + minutes(15);
    assert_eq!(action(seconds(0), None), WebhookAction::Wait { until });
    assert_eq!(action(minutes(15) - seconds(1), None), WebhookAction::Wait { until });
    assert_eq!(action(minutes(15), None), WebhookAction::Arm);
    // The service's own word weighs more, and no subscription means no webhook.
    let told = Some(noon() + hours(1));
    assert_eq!(
        decide(noon() + minutes(15), Some(BASE), &started, None, told),
        WebhookAction::Wait { until: noon() + hours(1) }
    );
    for missing in [
        Subscription { enabled: Some(false), ..subscription(None) },
        Subscription { listed_at: None, ..subscription(None) },
    ] {
        assert_eq!(decide(noon(), Some(BASE), &missing, None, None), WebhookAction::Nothing);
    }
    let odd = Subscription { enabled: None, ..subscription(None) };
    assert_eq!(decide(noon(), Some(BASE), &odd, None, None), WebhookAction::Arm, "listed without a status");
}

#[test]
fn only_what_is_as_wanted_is_left_alone() {
    for state in WebhookState::ALL {
        let row = webhook(state);
        let done = matches!(state, WebhookState::Armed | WebhookState::Offered);
        let expected = if done { WebhookAction::Nothing } else { WebhookAction::Arm };
        assert_eq!(decide(noon(), Some(BASE), &subscription(None), Some(&row), None), expected, "{state:?}");
        // Another address is wanted, whatever this one's state.
        let moved = decide(noon(), Some("https://other.example/webhook/"), &subscription(None), Some(&row), None);
        assert_eq!(moved, WebhookAction::Arm);
        let gone = state == WebhookState::Removed;
        let expected = if gone { WebhookAction::Nothing } else { WebhookAction::Remove };
        assert_eq!(decide(noon(), None, &subscription(None), Some(&row), None), expected, "{state:?}");
    }
    assert_eq!(decide(noon(), None, &subscription(None), None, None), WebhookAction::Nothing);
}

#[test]
fn a_webhook_that_is_refused_is_tried_ever_more_seldom() {
    let mut row = webhook(WebhookState::Offered);
    let mut waits = Vec::new();
    for _ in 0..7 {
        row = row.refused(noon(), "it answered 301");
        match decide(noon(), Some(BASE), &subscription(Some(noon())), Some(&row), None) {
            WebhookAction::Wait { until } => waits.push((until - noon()).num_minutes()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [15, 30, 60, 120, 240, 240, 240]);
    assert_eq!(row.refusal.as_deref(), Some("it answered 301"));
    let address = row.address.clone();
    let (row, _) = row.listed(noon(), Some(sighting(&address, &WebhookStatus::Enabled)), None);
    assert_eq!((row.state, row.failures, row.refusal), (WebhookState::Armed, 0, None));
    let long = webhook(WebhookState::Offered).refused(noon(), &"ä".repeat(1000));
    assert_eq!(long.refusal.unwrap().len(), 500);
}

#[test]
fn a_list_tells_what_became_of_it_and_a_drift_is_told_once() {
    let ours = format!("{BASE}a");
    let (enabled, disabled, expired) = (WebhookStatus::Enabled, WebhookStatus::Disabled, WebhookStatus::Expired);
    let cases: [(Option<Sighting<'_>>, WebhookState); 5] = [
        (None, WebhookState::Vanished),
        (Some(Sighting { address: &ours, status: &disabled, expires: None, auth: None }), WebhookState::Disabled),
        (Some(Sighting { address: &ours, status: &expired, expires: None, auth: None }), WebhookState::Expired),
        (
            Some(Sighting { address: "https://x/", status: &enabled, expires: None, auth: None }),
            WebhookState::Elsewhere,
        ),
        (Some(Sighting { address: &ours, status: &enabled, expires: None, auth: None }), WebhookState::Armed),
    ];
    for (sighting, expected) in cases {
        let (row, drift) = webhook(WebhookState::Armed).listed(noon() + hours(1), sighting, Some(noon()));
        let drifted = expected != WebhookState::Armed;
        assert_eq!((row.state, drift, row.drifts), (expected, drifted.then_some(expected), u64::from(drifted)));
        assert_eq!(row.since, noon() + if drifted { hours(1) } else { hours(0) });
        let (again, drift) = row.clone().listed(noon() + hours(2), sighting, Some(noon()));
        assert_eq!((again, drift), (row, None), "told once");
    }
}

#[test]
fn right_after_a_start_the_list_has_no_webhook_yet() {
    let listed = |after, state| webhook(state).listed(noon() + after, None, Some(noon())).0.state;
    assert_eq!(listed(minutes(15) - seconds(1), WebhookState::Offered), WebhookState::Offered);
    assert_eq!(listed(minutes(15), WebhookState::Offered), WebhookState::Vanished);
    assert_eq!(listed(minutes(60), WebhookState::Refused), WebhookState::Refused, "why is said already");
    assert_eq!(listed(minutes(1), WebhookState::Leaving), WebhookState::Removed);
    let address = format!("{BASE}a");
    let there = Some(sighting(&address, &WebhookStatus::Enabled));
    for state in [WebhookState::Leaving, WebhookState::Removed] {
        assert_eq!(webhook(state).listed(noon(), there, None).0.state, WebhookState::Leaving);
    }
}

#[test]
fn a_secret_counts_as_taken_when_the_service_shows_it_and_is_kept_until_then() {
    let address = format!("{BASE}a");
    let row = Webhook { accepted: Some([9; 32]), ..webhook(WebhookState::Offered) };
    let shown = |auth| Some(Sighting { auth, ..sighting(&address, &WebhookStatus::Enabled) });
    let secrets = |row: Webhook| (row.accepted, row.offered);
    // A list that hides it, or shows another, decides nothing: both are accepted on.
    for auth in [None, Some([9; 32]), Some([8; 32])] {
        assert_eq!(secrets(row.clone().listed(noon(), shown(auth), None).0), (Some([9; 32]), Some([2; 32])));
    }
    assert_eq!(secrets(row.clone().listed(noon(), shown(Some([2; 32])), None).0), (Some([2; 32]), None));
    assert_eq!(secrets(row.clone().taken()), (Some([2; 32]), None));
    assert_eq!(secrets(row.clone().refused(noon(), "")), (Some([9; 32]), None), "what it had, it has");
    let offer = |address: &str| {
        Webhook::offer(Some(&row), noon(), ContentType::General, (address.to_owned(), [1; 16]), [3; 32])
    };
    assert_eq!(secrets(offer(&address)), (Some([9; 32]), Some([3; 32])));
    assert_eq!(secrets(offer("https://other.example/webhook/b")), (None, Some([3; 32])));
}

proptest! {
    /// Whatever lists and answers say: starts of one type are 15 minutes apart, and a webhook that can be set is set.
    #[test]
    fn starts_keep_their_distance_and_a_good_endpoint_ends_up_armed(
        events in prop::collection::vec((1..120_i64, 0..6_u8), 1..60),
    ) {
        let mut now = noon();
        let mut row: Option<Webhook> = None;
        let mut known = subscription(None);
        let mut at_service: Option<(String, &WebhookStatus)> = None;
        for (wait, event) in events.iter().copied().chain(std::iter::repeat_n((60, 5), 12)) {
            now += minutes(wait);
            match event {
                0 => at_service = None,
                1 => at_service = at_service.map(|(address, _)| (address, &WebhookStatus::Disabled)),
                2 => at_service = Some(("https://x/".to_owned(), &WebhookStatus::Enabled)),
                _ => {}
            }
            let list = |row: Option<Webhook>, at_service: &Option<(String, &'static WebhookStatus)>, known: &Subscription| {
                let seen = at_service.as_ref().map(|(address, status)| Sighting { address, status, expires: None, auth: None });
                row.map(|row| row.listed(now, seen, known.start_requested_at).0)
            };
            row = list(row, &at_service, &known);
            if decide(now, Some(BASE), &known, row.as_ref(), None) == WebhookAction::Arm {
                if let Some(last) = known.start_requested_at {
                    prop_assert!(now - last >= minutes(15));
                }
                known.start_requested_at = Some(now);
                let place = (format!("{BASE}a"), [1; 16]);
                let offer = Webhook::offer(row.as_ref(), now, ContentType::General, place, [2; 32]);
                row = Some(if event == 3 { offer.refused(now, "unreachable") } else {
                    at_service = Some((offer.address.clone(), &WebhookStatus::Enabled));
                    offer.taken()
                });
                row = list(row, &at_service, &known);
            }
        }
        prop_assert_eq!(row.map(|row| row.state), Some(WebhookState::Armed));
    }
}
