//! Invitations, people on their way through a consent, and what accepting one writes.

use engine::consent::{
    Acceptance, ConsentFlow, Digest, FLOW_LIFETIME, Invitation, InvitationNumber, Leg, NewInvitation, Standing, Taken,
    Visit,
};
use engine::model::TenantState;

use super::*;

const BROWSER: Digest = [1; 32];
const OTHER_BROWSER: Digest = [2; 32];

fn invited(secret: u8, uses_allowed: Option<u32>) -> NewInvitation {
    let label = "Contoso, by mail".to_owned();
    NewInvitation { secret: [secret; 32], label, tenant: None, expires_at: noon() + days(7), uses_allowed }
}

fn flow(state: u32, invitation: InvitationNumber) -> ConsentFlow {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&state.to_be_bytes());
    ConsentFlow {
        state: digest,
        browser: BROWSER,
        invitation,
        leg: Leg::Authorize,
        tenant: None,
        expires_at: noon() + minutes(i64::from(state) / 1000) + TimeDelta::from_std(FLOW_LIFETIME).unwrap(),
    }
}

fn visit(browser: Digest, tenant: TenantId, invitation: InvitationNumber) -> Visit {
    Visit {
        browser,
        tenant,
        invitation,
        account: Some("admin@contoso.example".to_owned()),
        proven_at: noon() + minutes(1),
        accepted_at: None,
        expires_at: noon() + days(1),
    }
}

async fn accept(ledger: &dyn Ledger, browser: Digest, number: u64) -> Acceptance {
    ledger.accept_consent(browser, tenant(number), noon() - days(7), noon() + minutes(2)).await.unwrap()
}

pub async fn an_invitation_is_found_by_its_number_and_its_secret(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let wanted = NewInvitation { tenant: Some(tenant(3)), ..invited(7, Some(2)) };
    let number = ledger.add_invitation(wanted, noon()).await.unwrap();
    let expected = Invitation {
        number,
        label: "Contoso, by mail".to_owned(),
        tenant: Some(tenant(3)),
        created_at: noon(),
        expires_at: noon() + days(7),
        uses_allowed: Some(2),
        uses: 0,
        revoked_at: None,
    };
    assert_eq!(ledger.invitation(number).await.unwrap(), Some(expected.clone()));
    assert_eq!(ledger.invitation_by_secret([7; 32]).await.unwrap(), Some(expected));
    assert_eq!(ledger.invitation_by_secret([8; 32]).await.unwrap(), None);
    assert_eq!(ledger.invitation(InvitationNumber(number.0 + 1)).await.unwrap(), None);
}

pub async fn invitations_are_listed_from_the_latest(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let mut numbers = Vec::new();
    for secret in 0..5 {
        numbers.push(ledger.add_invitation(invited(secret, None), noon()).await.unwrap());
    }
    numbers.reverse();
    let list = async |before, limit| {
        let found = ledger.invitations(before, limit).await.unwrap();
        found.into_iter().map(|invitation| invitation.number).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, numbers);
    assert_eq!(list(None, 2).await, numbers[..2]);
    assert_eq!(list(Some(numbers[1]), 2).await, numbers[2..4]);
    assert_eq!(list(Some(InvitationNumber(u64::MAX)), 1).await, numbers[..1]);
}

pub async fn a_revoked_invitation_takes_its_travellers_with_it(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let first = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let second = ledger.add_invitation(invited(2, None), noon()).await.unwrap();
    for (state, invitation) in [(1, first), (2, second)] {
        ledger.begin_consent(flow(state, invitation), noon()).await.unwrap();
    }
    assert!(ledger.revoke_invitation(first, noon() + minutes(1)).await.unwrap());
    assert!(ledger.revoke_invitation(first, noon() + minutes(9)).await.unwrap());
    let revoked = ledger.invitation(first).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(noon() + minutes(1)), "the first time counts");
    assert_eq!(ledger.take_consent(flow(1, first).state, BROWSER, noon()).await.unwrap(), Taken::Unknown);
    let other = ledger.take_consent(flow(2, second).state, BROWSER, noon()).await.unwrap();
    assert_eq!(other, Taken::Flow(flow(2, second)));
    assert!(!ledger.revoke_invitation(InvitationNumber(99), noon()).await.unwrap());
}

pub async fn a_tenant_that_goes_takes_its_own_invitations_with_it(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let bound = |secret| NewInvitation { tenant: Some(tenant(1)), ..invited(secret, None) };
    let mine = ledger.add_invitation(bound(1), noon()).await.unwrap();
    let mine_too = ledger.add_invitation(bound(2), noon()).await.unwrap();
    let over = NewInvitation { expires_at: noon() + minutes(1), ..bound(3) };
    let over = ledger.add_invitation(over, noon()).await.unwrap();
    let others = NewInvitation { tenant: Some(tenant(2)), ..invited(4, None) };
    let others = ledger.add_invitation(others, noon()).await.unwrap();
    let anyones = ledger.add_invitation(invited(5, None), noon()).await.unwrap();
    ledger.revoke_invitation(mine_too, noon() + minutes(1)).await.unwrap();
    for (state, invitation) in [(1, mine), (2, others), (3, anyones)] {
        ledger.begin_consent(flow(state, invitation), noon()).await.unwrap();
    }
    for number in [1, 2] {
        ledger.prove_consent(visit(BROWSER, tenant(number), anyones), noon()).await.unwrap();
    }
    assert_eq!(
        ledger.revoke_invitations_for(tenant(1), noon() + minutes(5)).await.unwrap(),
        1,
        "the one that was open"
    );
    let mut revoked = Vec::new();
    for number in [mine, mine_too, over, others, anyones] {
        revoked.push(ledger.invitation(number).await.unwrap().unwrap().revoked_at);
    }
    assert_eq!(revoked, [Some(noon() + minutes(5)), Some(noon() + minutes(1)), None, None, None]);
    for (state, invitation, there) in [(1, mine, false), (2, others, true), (3, anyones, true)] {
        let taken = ledger.take_consent(flow(state, invitation).state, BROWSER, noon()).await.unwrap();
        assert_eq!(taken != Taken::Unknown, there, "{state}");
    }
    assert_eq!(ledger.consent_visit(BROWSER, tenant(1), noon()).await.unwrap(), None);
    assert!(ledger.consent_visit(BROWSER, tenant(2), noon()).await.unwrap().is_some());
    assert_eq!(ledger.revoke_invitations_for(tenant(1), noon() + minutes(6)).await.unwrap(), 0);
}

pub async fn a_flow_is_taken_once_and_by_its_own_browser(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let flow = ConsentFlow { leg: Leg::SignIn, tenant: Some(tenant(4)), ..flow(1, invitation) };
    ledger.begin_consent(flow.clone(), noon()).await.unwrap();
    let take = async |browser| ledger.take_consent(flow.state, browser, noon() + minutes(1)).await.unwrap();
    assert_eq!(take(OTHER_BROWSER).await, Taken::OtherBrowser);
    assert_eq!(take(BROWSER).await, Taken::Flow(flow.clone()), "the stranger has not used it up");
    assert_eq!(take(BROWSER).await, Taken::Unknown);
    let nobodys = ConsentFlow { invitation: InvitationNumber(9), ..flow };
    assert!(matches!(
        refused(ledger.begin_consent(nobodys, noon())).await,
        LedgerError::UnknownInvitation { number: 9 }
    ));
}

pub async fn a_flow_that_is_over_cannot_be_taken(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    for state in [1, 2] {
        ledger.begin_consent(flow(state, invitation), noon()).await.unwrap();
    }
    let end = flow(1, invitation).expires_at;
    let take = async |state, now| ledger.take_consent(flow(state, invitation).state, BROWSER, now).await.unwrap();
    assert_eq!(take(1, end).await, Taken::Unknown);
    assert_eq!(take(2, end - TimeDelta::milliseconds(1)).await, Taken::Flow(flow(2, invitation)));
}

pub async fn a_link_opened_over_and_over_keeps_its_latest_flows(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let quiet = ledger.add_invitation(invited(2, None), noon()).await.unwrap();
    ledger.begin_consent(flow(0, quiet), noon()).await.unwrap();
    for state in 1..=300_u32 {
        ledger.begin_consent(flow(state * 1000, invitation), noon()).await.unwrap();
    }
    let mut kept = 0;
    for state in 1..=300_u32 {
        let flow = flow(state * 1000, invitation);
        let taken = ledger.take_consent(flow.state, BROWSER, noon()).await.unwrap();
        kept += u32::from(taken == Taken::Flow(flow));
        assert_eq!(kept > 0, state > 100, "the oldest went, at {state}");
    }
    assert_eq!(kept, 200);
    let other = ledger.take_consent(flow(0, quiet).state, BROWSER, noon()).await.unwrap();
    assert_eq!(other, Taken::Flow(flow(0, quiet)), "another link's are its own");
}

pub async fn accepting_adds_the_tenant_and_counts_the_use_together(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, Some(2)), noon()).await.unwrap();
    assert_eq!(accept(&*ledger, BROWSER, 1).await, Acceptance::NoVisit);
    assert_eq!(ledger.tenants_since(0).await.unwrap().1, vec![], "a claim is no proof");
    ledger.prove_consent(visit(BROWSER, tenant(1), invitation), noon() + minutes(1)).await.unwrap();
    assert_eq!(ledger.tenants_since(0).await.unwrap().1, vec![], "proof alone adds nothing");

    assert_eq!(accept(&*ledger, BROWSER, 1).await, Acceptance::Added);
    let added = ledger.tenant(tenant(1)).await.unwrap().unwrap();
    assert_eq!((added.state, added.label.as_str()), (TenantState::Active, "Contoso, by mail"));
    assert_eq!(added.collect_from, noon() - days(7));
    assert_eq!(ledger.invitation(invitation).await.unwrap().unwrap().uses, 1);
    assert_eq!(accept(&*ledger, BROWSER, 1).await, Acceptance::Repeated);
    assert_eq!(ledger.invitation(invitation).await.unwrap().unwrap().uses, 1, "a reload is no second use");
    let log = ledger.consents(Some(tenant(1)), 1000).await.unwrap();
    assert_eq!(log.len(), 1);
    let entry = log.first().unwrap();
    assert_eq!((entry.at, entry.invitation, entry.acceptance), (noon() + minutes(2), invitation, Acceptance::Added));
    assert_eq!((entry.account.as_deref(), entry.label.as_str()), (Some("admin@contoso.example"), "Contoso, by mail"));
}

pub async fn an_invitation_that_is_not_good_adds_nothing(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let revoked = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    ledger.revoke_invitation(revoked, noon()).await.unwrap();
    let early = NewInvitation { expires_at: noon() + minutes(1), ..invited(2, None) };
    let early = ledger.add_invitation(early, noon()).await.unwrap();
    let used = ledger.add_invitation(invited(3, Some(0)), noon()).await.unwrap();
    for (number, invitation, standing) in
        [(1, revoked, Standing::Revoked), (2, early, Standing::Expired), (3, used, Standing::UsedUp)]
    {
        ledger.prove_consent(visit(BROWSER, tenant(number), invitation), noon()).await.unwrap();
        assert_eq!(accept(&*ledger, BROWSER, number).await, Acceptance::Refused(standing));
    }
    // Proven in time is in time, however long Microsoft takes afterwards.
    let proven = Visit { proven_at: noon() + TimeDelta::seconds(59), ..visit(BROWSER, tenant(4), early) };
    ledger.prove_consent(proven, noon()).await.unwrap();
    assert_eq!(accept(&*ledger, BROWSER, 4).await, Acceptance::Added);
    let there = ledger.tenants_since(0).await.unwrap().1;
    assert_eq!(there.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [tenant(4)]);
    let nobodys = visit(BROWSER, tenant(5), InvitationNumber(9));
    assert!(matches!(
        refused(ledger.prove_consent(nobodys, noon())).await,
        LedgerError::UnknownInvitation { number: 9 }
    ));
}

pub async fn a_link_for_one_connects_one_of_two_at_once(fixture: &dyn Fixture) {
    let (first, second) = (fixture.open(), fixture.open());
    let invitation = first.add_invitation(invited(1, Some(1)), noon()).await.unwrap();
    first.prove_consent(visit(BROWSER, tenant(1), invitation), noon()).await.unwrap();
    second.prove_consent(visit(OTHER_BROWSER, tenant(2), invitation), noon()).await.unwrap();
    let (one, two) = tokio::join!(accept(&*first, BROWSER, 1), accept(&*second, OTHER_BROWSER, 2));
    let won = [one, two].iter().filter(|acceptance| **acceptance == Acceptance::Added).count();
    let lost = Acceptance::Refused(Standing::UsedUp);
    assert!(won == 1 && (one == lost || two == lost), "{one:?} {two:?}");
    assert_eq!(first.tenants_since(0).await.unwrap().1.len(), 1);
}

pub async fn a_tenant_that_was_removed_or_is_there_consents_again(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let again = async || {
        ledger.prove_consent(visit(BROWSER, tenant(1), invitation), noon() + minutes(1)).await.unwrap();
        accept(&*ledger, BROWSER, 1).await
    };
    assert_eq!(again().await, Acceptance::WasHere);
    assert_eq!(again().await, Acceptance::Repeated);
    ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap();
    assert_eq!(again().await, Acceptance::CameBack);
    ledger.set_tenant_state(tenant(1), TenantState::Paused, noon()).await.unwrap();
    assert_eq!(again().await, Acceptance::Repeated);
    let other = ledger.add_invitation(invited(2, None), noon()).await.unwrap();
    ledger.prove_consent(visit(BROWSER, tenant(1), other), noon() + minutes(1)).await.unwrap();
    assert_eq!(accept(&*ledger, BROWSER, 1).await, Acceptance::WasHere, "another link is another consent");
    assert_eq!(
        ledger.tenant(tenant(1)).await.unwrap().unwrap().state,
        TenantState::Paused,
        "the operator's pause stays"
    );
    let kinds: Vec<_> =
        ledger.consents(Some(tenant(1)), 1000).await.unwrap().iter().map(|entry| entry.acceptance).collect();
    assert_eq!(kinds, [Acceptance::WasHere, Acceptance::CameBack, Acceptance::WasHere]);
}

pub async fn a_visit_is_its_browsers_and_ends(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let expected = visit(BROWSER, tenant(1), invitation);
    ledger.prove_consent(expected.clone(), noon()).await.unwrap();
    let look = async |browser, number, now| ledger.consent_visit(browser, tenant(number), now).await.unwrap();
    assert_eq!(look(BROWSER, 1, noon()).await, Some(expected.clone()));
    assert_eq!(look(OTHER_BROWSER, 1, noon()).await, None);
    assert_eq!(look(BROWSER, 2, noon()).await, None);
    let last = expected.expires_at - TimeDelta::milliseconds(1);
    assert!(look(BROWSER, 1, last).await.is_some());
    assert_eq!(look(BROWSER, 1, expected.expires_at).await, None);
    accept(&*ledger, BROWSER, 1).await;
    assert_eq!(look(BROWSER, 1, noon()).await.unwrap().accepted_at, Some(noon() + minutes(2)));
    // What is over is deleted with the next one.
    ledger.prove_consent(visit(OTHER_BROWSER, tenant(2), invitation), noon() + days(2)).await.unwrap();
    assert_eq!(look(BROWSER, 1, noon()).await, None);
}

pub async fn a_purged_tenant_leaves_no_consent(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let invitation = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    ledger.prove_consent(visit(BROWSER, tenant(1), invitation), noon()).await.unwrap();
    accept(&*ledger, BROWSER, 1).await;
    ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap();
    evidence::purged(&*ledger, 1).await;
    assert_eq!(ledger.consent_visit(BROWSER, tenant(1), noon()).await.unwrap(), None);
    assert!(matches!(refused(ledger.consents(Some(tenant(1)), 1000)).await, LedgerError::UnknownTenant { .. }));
    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    assert_eq!(ledger.consents(Some(tenant(1)), 1000).await.unwrap(), vec![]);
    assert_eq!(ledger.invitation(invitation).await.unwrap().unwrap().uses, 1, "the link stays used");
}

pub async fn the_log_keeps_the_last_hundred_of_each_tenant_and_tells_them_together(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    for number in 1..=2 {
        ledger.add_tenant(tenant(number), String::new(), noon(), noon()).await.unwrap();
    }
    for number in 0..102_u32 {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let label = format!("link {number}");
        let invitation = NewInvitation { secret, label, ..invited(0, None) };
        let invitation = ledger.add_invitation(invitation, noon()).await.unwrap();
        // The other tenant's only two lie before the first that are dropped.
        for of in if number < 2 { 1..=2 } else { 1..=1 } {
            ledger.prove_consent(visit(BROWSER, tenant(of), invitation), noon()).await.unwrap();
            assert_eq!(accept(&*ledger, BROWSER, of).await, Acceptance::WasHere);
        }
    }
    let labels = async |of: Option<u64>, limit| {
        let entries = ledger.consents(of.map(tenant), limit).await.unwrap();
        entries.into_iter().map(|entry| (entry.tenant, entry.label)).collect::<Vec<_>>()
    };
    let of_first: Vec<_> = (2..102).rev().map(|number| (tenant(1), format!("link {number}"))).collect();
    let of_second: Vec<_> = (0..2).rev().map(|number| (tenant(2), format!("link {number}"))).collect();
    assert_eq!(labels(Some(1), 1000).await, of_first);
    assert_eq!(labels(Some(2), 1000).await, of_second);
    assert_eq!(labels(None, 1000).await, [of_first.clone(), of_second].concat());
    assert_eq!(labels(None, 3).await, of_first[..3]);
    assert_eq!(labels(Some(1), 1).await, of_first[..1]);
}

pub async fn one_invitations_visits_push_out_their_own(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let crowded = ledger.add_invitation(invited(1, None), noon()).await.unwrap();
    let quiet = ledger.add_invitation(invited(2, None), noon()).await.unwrap();
    ledger.prove_consent(visit(BROWSER, tenant(1), quiet), noon()).await.unwrap();
    let browser = |number: u32| {
        let mut digest = [9; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        digest
    };
    for number in 0..2_003_u32 {
        let later = noon() + days(1) + TimeDelta::milliseconds(i64::from(number));
        let visit = Visit { expires_at: later, ..visit(browser(number), tenant(2), crowded) };
        ledger.prove_consent(visit, noon()).await.unwrap();
    }
    for (number, there) in [(0, false), (2, false), (3, true), (2_002, true)] {
        let found = ledger.consent_visit(browser(number), tenant(2), noon()).await.unwrap();
        assert_eq!(found.is_some(), there, "{number}");
    }
    assert!(ledger.consent_visit(BROWSER, tenant(1), noon()).await.unwrap().is_some(), "another link's are its own");
}

pub async fn what_is_over_is_swept_a_bounded_number_at_a_time(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let mut invitations = Vec::new();
    for secret in 0..4 {
        invitations.push(ledger.add_invitation(invited(secret, None), noon()).await.unwrap());
    }
    // Each of one invitation's own two hundred: six hundred in all.
    for (place, invitation) in invitations.iter().take(3).enumerate() {
        for number in 0..200 {
            let flow = flow(u32::try_from(place).unwrap() * 200 + number, *invitation);
            ledger.begin_consent(flow, noon()).await.unwrap();
        }
    }
    let after = noon() + days(1);
    let last = ConsentFlow { expires_at: after + minutes(20), ..flow(9_000, invitations[3]) };
    ledger.begin_consent(last, after).await.unwrap();
    let mut left = 0;
    for number in 0..600_u32 {
        let flow = flow(number, invitations[usize::try_from(number / 200).unwrap()]);
        // By the clock of before, what is still there can be taken.
        left += u32::from(ledger.take_consent(flow.state, BROWSER, noon()).await.unwrap() != Taken::Unknown);
    }
    assert_eq!(left, 100, "five hundred go with one call");
}
