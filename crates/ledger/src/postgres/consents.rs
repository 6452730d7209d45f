//! Invitations, people on their way through a consent, and who connected what.
//!
//! Never keeps more than the limits below: what is over goes first, then what is oldest. Accepting a tenant is one
//! transaction with the count of its invitation, so that a link for one cannot connect two. Locks are taken in one order
//! by everybody: the invitation, then the tenant, then the visit.

use engine::consent::{
    Acceptance, ConsentEntry, ConsentFlow, Digest, Invitation, InvitationNumber, Leg, NewInvitation, Standing, Taken,
    Visit,
};
use engine::model::TenantState;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::Done;
use super::rows::{bytes, counted, known, position, small, tenant_id, tenant_if_any, tenant_number, time, time_if_any};
use super::session::Session;
use super::{schema, tenants};
use crate::LedgerError;
use crate::values::{count, message, ms, plain};

/// Invitations kept, those that are over included. A provider with 10,000 tenants sends as many in a year.
const INVITATIONS_MAX: u64 = 20_000;
/// Flows under way by one invitation: a link that is opened over and over pushes out its own.
const FLOWS_MAX: u64 = 200;
/// Visits by one invitation.
const VISITS_MAX: u64 = 2_000;
/// Lines of the log of one tenant.
const LOG_MAX: u64 = 100;
/// Rows that are over, deleted with one call: a call stays short whatever has piled up.
const SWEPT: i64 = 500;

const INVITATION: &str =
    "SELECT invitation, label, tenant, created_at, expires_at, uses_allowed, uses, revoked_at FROM invitation";

const LEGS: [Leg; 3] = [Leg::Authorize, Leg::AdminConsent, Leg::SignIn];
const ACCEPTANCES: [Acceptance; 3] = [Acceptance::Added, Acceptance::CameBack, Acceptance::WasHere];

pub(super) async fn add_invitation(
    session: &Session<'_>,
    new: &NewInvitation,
    now: Timestamp,
) -> Done<InvitationNumber> {
    // One at a time: the limit holds, and a number becomes visible before the next is given.
    session.rows("SELECT pg_advisory_xact_lock($1, hashtext('invitation'))", &[&schema::LOCKS]).await?;
    let there = counted(&session.one("SELECT count(*) FROM invitation", &[]).await?, 0)?;
    if there >= INVITATIONS_MAX {
        // The one that has been over for longest makes room; while all are good, there is none.
        let made_room = session
            .run(
                "DELETE FROM invitation WHERE invitation =
                 (SELECT invitation FROM invitation WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1)",
                &[&ms(now)],
            )
            .await?;
        if made_room == 0 {
            return Err(LedgerError::TooManyInvitations { limit: INVITATIONS_MAX }.into());
        }
    }
    let row = session
        .one(
            "INSERT INTO invitation (secret, label, tenant, created_at, expires_at, uses_allowed)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING invitation",
            &[
                &&new.secret[..],
                &plain(&new.label),
                &new.tenant.as_ref().map(TenantId::as_uuid),
                &ms(now),
                &ms(new.expires_at),
                &new.uses_allowed.map(i64::from),
            ],
        )
        .await?;
    number(&row, 0)
}

pub(super) async fn invitations(
    session: &Session<'_>,
    before: Option<InvitationNumber>,
    limit: u32,
) -> Done<Vec<Invitation>> {
    let before = before.map_or(i64::MAX, row_of);
    let text = format!("{INVITATION} WHERE invitation < $1 ORDER BY invitation DESC LIMIT $2");
    session.rows(&text, &[&before, &i64::from(limit)]).await?.iter().map(invitation_row).collect()
}

pub(super) async fn invitation_by_secret(session: &Session<'_>, secret: &Digest) -> Done<Option<Invitation>> {
    let row = session.maybe(&format!("{INVITATION} WHERE secret = $1"), &[&&secret[..]]).await?;
    row.as_ref().map(invitation_row).transpose()
}

pub(super) async fn invitation(session: &Session<'_>, number: InvitationNumber) -> Done<Option<Invitation>> {
    let row = session.maybe(&format!("{INVITATION} WHERE invitation = $1"), &[&row_of(number)]).await?;
    row.as_ref().map(invitation_row).transpose()
}

/// The same, and nobody else changes it, or begins anything with it, before the transaction's end.
async fn locked(session: &Session<'_>, number: InvitationNumber) -> Done<Option<Invitation>> {
    let text = format!("{INVITATION} WHERE invitation = $1 FOR NO KEY UPDATE");
    session.maybe(&text, &[&row_of(number)]).await?.as_ref().map(invitation_row).transpose()
}

pub(super) async fn revoke_invitation(session: &Session<'_>, number: InvitationNumber, now: Timestamp) -> Done<bool> {
    let changed = session
        .run(
            "UPDATE invitation SET revoked_at = coalesce(revoked_at, $2) WHERE invitation = $1",
            &[&row_of(number), &ms(now)],
        )
        .await?;
    if changed > 0 {
        // Whoever is on the way with it comes back to nothing.
        session.run("DELETE FROM consent_flow WHERE invitation = $1", &[&row_of(number)]).await?;
    }
    Ok(changed > 0)
}

pub(super) async fn revoke_for(session: &Session<'_>, tenant: TenantId, now: Timestamp) -> Done<u64> {
    // All of them, in one order, so that nobody begins anything with one of them meanwhile.
    let locked = "SELECT invitation FROM invitation WHERE tenant = $1 ORDER BY invitation FOR NO KEY UPDATE";
    let mut invitations: Vec<i64> = Vec::new();
    for row in session.rows(locked, &[tenant.as_uuid()]).await? {
        invitations.push(row.try_get(0)?);
    }
    session.run("DELETE FROM consent_flow WHERE invitation = ANY($1)", &[&invitations]).await?;
    session.run("DELETE FROM consent_visit WHERE tenant = $1", &[tenant.as_uuid()]).await?;
    session
        .run(
            "UPDATE invitation SET revoked_at = $2
             WHERE invitation = ANY($1) AND revoked_at IS NULL AND expires_at > $2",
            &[&invitations, &ms(now)],
        )
        .await
}

pub(super) async fn begin(session: &Session<'_>, flow: &ConsentFlow, now: Timestamp) -> Done<()> {
    sweep(session, now).await?;
    let invitation = row_of(flow.invitation);
    if locked(session, flow.invitation).await?.is_none() {
        return Err(LedgerError::UnknownInvitation { number: flow.invitation.0 }.into());
    }
    session
        .run(
            "DELETE FROM consent_flow WHERE state = ANY(ARRAY(
               SELECT state FROM consent_flow WHERE invitation = $1 ORDER BY expires_at DESC OFFSET $2))",
            &[&invitation, &count(FLOWS_MAX - 1)],
        )
        .await?;
    session
        .run(
            "INSERT INTO consent_flow (state, browser, invitation, leg, tenant, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                &&flow.state[..],
                &&flow.browser[..],
                &invitation,
                &position(&LEGS, &flow.leg),
                &flow.tenant.as_ref().map(TenantId::as_uuid),
                &ms(flow.expires_at),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn take(session: &Session<'_>, state: &Digest, browser: &Digest, now: Timestamp) -> Done<Taken> {
    // Who comes second waits here until the first has taken it, and finds none.
    let row = session
        .maybe(
            "SELECT state, browser, invitation, leg, tenant, expires_at FROM consent_flow WHERE state = $1 FOR UPDATE",
            &[&&state[..]],
        )
        .await?;
    let Some(row) = row else { return Ok(Taken::Unknown) };
    let flow = ConsentFlow {
        state: bytes(&row, 0)?,
        browser: bytes(&row, 1)?,
        invitation: number(&row, 2)?,
        leg: known(&row, 3, &LEGS)?,
        tenant: tenant_if_any(&row, 4)?,
        expires_at: time(&row, 5)?,
    };
    if now >= flow.expires_at {
        return Ok(Taken::Unknown);
    }
    if flow.browser != *browser {
        return Ok(Taken::OtherBrowser);
    }
    session.run("DELETE FROM consent_flow WHERE state = $1", &[&&state[..]]).await?;
    Ok(Taken::Flow(flow))
}

pub(super) async fn prove(session: &Session<'_>, visit: &Visit, now: Timestamp) -> Done<()> {
    sweep(session, now).await?;
    let invitation = row_of(visit.invitation);
    if locked(session, visit.invitation).await?.is_none() {
        return Err(LedgerError::UnknownInvitation { number: visit.invitation.0 }.into());
    }
    session
        .run(
            "DELETE FROM consent_visit WHERE ctid = ANY(ARRAY(
               SELECT ctid FROM consent_visit WHERE invitation = $1 ORDER BY expires_at DESC OFFSET $2))",
            &[&invitation, &count(VISITS_MAX - 1)],
        )
        .await?;
    session
        .run(
            "INSERT INTO consent_visit (browser, tenant, invitation, account, proven_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (browser, tenant) DO UPDATE SET invitation = $3, account = $4, proven_at = $5, expires_at = $6,
             accepted_at = CASE WHEN consent_visit.invitation = $3 THEN consent_visit.accepted_at END",
            &[
                &&visit.browser[..],
                visit.tenant.as_uuid(),
                &invitation,
                &visit.account.as_deref().map(message),
                &ms(visit.proven_at),
                &ms(visit.expires_at),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn visit(
    session: &Session<'_>,
    browser: &Digest,
    tenant: TenantId,
    now: Timestamp,
) -> Done<Option<Visit>> {
    let row = session
        .maybe(
            "SELECT browser, tenant, invitation, account, proven_at, accepted_at, expires_at FROM consent_visit
             WHERE browser = $1 AND tenant = $2",
            &[&&browser[..], tenant.as_uuid()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let visit = Visit {
        browser: bytes(&row, 0)?,
        tenant: tenant_id(&row, 1)?,
        invitation: number(&row, 2)?,
        account: row.try_get(3)?,
        proven_at: time(&row, 4)?,
        accepted_at: time_if_any(&row, 5)?,
        expires_at: time(&row, 6)?,
    };
    Ok(Some(visit).filter(|visit| now < visit.expires_at))
}

pub(super) async fn accept(
    session: &Session<'_>,
    actor: &str,
    browser: &Digest,
    tenant: TenantId,
    collect_from: Timestamp,
    now: Timestamp,
) -> Done<Acceptance> {
    let Some(first) = visit(session, browser, tenant, now).await? else { return Ok(Acceptance::NoVisit) };
    let invitation = locked(session, first.invitation).await?;
    // Read again, now that everybody else who changes any of it waits.
    let Some(visit) = visit(session, browser, tenant, now).await? else { return Ok(Acceptance::NoVisit) };
    if visit.invitation != first.invitation {
        return Err(super::fault::Fault::Again);
    }
    let before = tenants::locked(session, tenant).await?.map(|tenant| tenant.state);
    // Accepted and removed since: consenting again means it.
    if visit.accepted_at.is_some() && matches!(before, Some(TenantState::Active | TenantState::Paused)) {
        return Ok(Acceptance::Repeated);
    }
    let Some(invitation) = invitation else { return Ok(Acceptance::Refused(Standing::Expired)) };
    // Its time may run out while Microsoft is still spreading the permission: whoever had proven the tenant in time is in.
    let standing = invitation.standing(visit.proven_at);
    if standing != Standing::Open {
        return Ok(Acceptance::Refused(standing));
    }
    let acceptance = match before {
        None => Acceptance::Added,
        Some(TenantState::Removed) => Acceptance::CameBack,
        Some(TenantState::Active | TenantState::Paused) => Acceptance::WasHere,
    };
    tenants::add(session, actor, tenant, &invitation.label, collect_from, now).await?;
    session.run("UPDATE invitation SET uses = uses + 1 WHERE invitation = $1", &[&row_of(visit.invitation)]).await?;
    session
        .run(
            "UPDATE consent_visit SET accepted_at = $3 WHERE browser = $1 AND tenant = $2",
            &[&&browser[..], tenant.as_uuid(), &ms(now)],
        )
        .await?;
    log(session, &visit, &invitation, acceptance, now).await?;
    Ok(acceptance)
}

async fn log(
    session: &Session<'_>,
    visit: &Visit,
    invitation: &Invitation,
    acceptance: Acceptance,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(session, visit.tenant).await?;
    session
        .run(
            "DELETE FROM consent_log WHERE entry = ANY(ARRAY(
               SELECT entry FROM consent_log WHERE tenant = $1 ORDER BY entry DESC OFFSET $2))",
            &[&tenant, &count(LOG_MAX - 1)],
        )
        .await?;
    session
        .run(
            "INSERT INTO consent_log (at, tenant, invitation, label, account, acceptance)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                &ms(now),
                &tenant,
                &row_of(invitation.number),
                &invitation.label,
                &visit.account,
                &position(&ACCEPTANCES, &acceptance),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn entries(session: &Session<'_>, tenant: Option<TenantId>, limit: u32) -> Done<Vec<ConsentEntry>> {
    const ENTRY: &str = "SELECT l.at, t.id, l.invitation, l.label, l.account, l.acceptance FROM";
    const BESIDE: &str = "AS l JOIN tenant AS t USING (tenant) ORDER BY l.entry DESC";
    let limit = i64::from(limit);
    let rows = match tenant {
        Some(tenant) => {
            let tenant = tenant_number(session, tenant).await?;
            let log = "(SELECT * FROM consent_log WHERE tenant = $1 ORDER BY entry DESC LIMIT $2)";
            session.rows(&format!("{ENTRY} {log} {BESIDE}"), &[&tenant, &limit]).await?
        }
        None => {
            let log = "(SELECT * FROM consent_log WHERE entry <= $1 ORDER BY entry DESC LIMIT $2)";
            session.rows(&format!("{ENTRY} {log} {BESIDE}"), &[&i64::MAX, &limit]).await?
        }
    };
    rows.iter()
        .map(|row| {
            Ok(ConsentEntry {
                at: time(row, 0)?,
                tenant: tenant_id(row, 1)?,
                invitation: number(row, 2)?,
                label: row.try_get(3)?,
                account: row.try_get(4)?,
                acceptance: known(row, 5, &ACCEPTANCES)?,
            })
        })
        .collect()
}

/// Deletes what is over, a bounded number of rows, and none that somebody else is at.
async fn sweep(session: &Session<'_>, now: Timestamp) -> Done<()> {
    for statement in [
        "DELETE FROM consent_flow WHERE ctid = ANY(ARRAY(SELECT ctid FROM consent_flow WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        "DELETE FROM consent_visit WHERE ctid = ANY(ARRAY(SELECT ctid FROM consent_visit WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    ] {
        session.run(statement, &[&ms(now), &SWEPT]).await?;
    }
    Ok(())
}

fn invitation_row(row: &Row) -> Done<Invitation> {
    Ok(Invitation {
        number: number(row, 0)?,
        label: row.try_get(1)?,
        tenant: tenant_if_any(row, 2)?,
        created_at: time(row, 3)?,
        expires_at: time(row, 4)?,
        uses_allowed: row.try_get::<_, Option<i64>>(5)?.map(|_| small(row, 5)).transpose()?,
        uses: small(row, 6)?,
        revoked_at: time_if_any(row, 7)?,
    })
}

fn number(row: &Row, column: usize) -> Done<InvitationNumber> {
    counted(row, column).map(InvitationNumber)
}

fn row_of(number: InvitationNumber) -> i64 {
    count(number.0)
}
