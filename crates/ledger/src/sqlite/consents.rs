//! Invitations, people on their way through a consent, and who connected what.
//!
//! Never keeps more than the limits below: what is over goes first, then what is oldest. Accepting a tenant is one
//! transaction with the count of its invitation, so that a link for one cannot connect two.

use engine::consent::{
    Acceptance, ConsentEntry, ConsentFlow, Digest, Invitation, InvitationNumber, Leg, NewInvitation, Standing, Taken,
    Visit,
};
use engine::model::TenantState;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Done;
use super::rows::{known, sql, tenant_id, tenant_number, time, time_if_any};
use super::tenants;
use crate::LedgerError;
use crate::values::{message, ms, plain};

/// Invitations kept, those that are over included. A provider with 10,000 tenants sends as many in a year.
const INVITATIONS_MAX: u64 = 20_000;
/// Flows under way by one invitation: a link that is opened over and over pushes out its own.
const FLOWS_MAX: u64 = 200;
/// Visits by one invitation.
const VISITS_MAX: u64 = 2_000;
/// Lines of the log of one tenant.
const LOG_MAX: u64 = 100;
/// Rows that are over, deleted with one call: a call stays short whatever has piled up.
const SWEPT: u32 = 500;

const INVITATION: &str =
    "SELECT invitation, label, tenant, created_at, expires_at, uses_allowed, uses, revoked_at FROM invitation";

const LEGS: [Leg; 3] = [Leg::Authorize, Leg::AdminConsent, Leg::SignIn];
const ACCEPTANCES: [Acceptance; 3] = [Acceptance::Added, Acceptance::CameBack, Acceptance::WasHere];

pub(super) fn add_invitation(connection: &Connection, new: &NewInvitation, now: Timestamp) -> Done<InvitationNumber> {
    let there: u64 = sql(connection, "SELECT count(*) FROM invitation WHERE invitation > 0")?
        .query_row([], |row| super::rows::counted(row, 0))?;
    if there >= INVITATIONS_MAX {
        // The one that has been over for longest makes room; while all are good, there is none.
        let made_room = sql(
            connection,
            "DELETE FROM invitation WHERE invitation =
             (SELECT invitation FROM invitation WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 1)",
        )?
        .execute([ms(now)])?;
        if made_room == 0 {
            return Err(LedgerError::TooManyInvitations { limit: INVITATIONS_MAX }.into());
        }
    }
    let number = sql(
        connection,
        "INSERT INTO invitation (secret, label, tenant, created_at, expires_at, uses_allowed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING invitation",
    )?
    .query_row(
        params![
            new.secret,
            plain(&new.label),
            new.tenant.as_ref().map(|tenant| tenant.as_uuid().as_bytes()),
            ms(now),
            ms(new.expires_at),
            new.uses_allowed
        ],
        |row| number(row, 0),
    )?;
    Ok(number)
}

pub(super) fn invitations(
    connection: &Connection,
    before: Option<InvitationNumber>,
    limit: u32,
) -> Done<Vec<Invitation>> {
    let before = before.map_or(i64::MAX, row_of);
    let mut statement =
        sql(connection, &format!("{INVITATION} WHERE invitation < ?1 ORDER BY invitation DESC LIMIT ?2"))?;
    let found = statement.query_map(params![before, limit], invitation_row)?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn invitation_by_secret(connection: &Connection, secret: &Digest) -> Done<Option<Invitation>> {
    Ok(sql(connection, &format!("{INVITATION} WHERE secret = ?1"))?.query_row([secret], invitation_row).optional()?)
}

pub(super) fn invitation(connection: &Connection, number: InvitationNumber) -> Done<Option<Invitation>> {
    let found = sql(connection, &format!("{INVITATION} WHERE invitation = ?1"))?
        .query_row([row_of(number)], invitation_row)
        .optional()?;
    Ok(found)
}

pub(super) fn revoke_invitation(connection: &Connection, number: InvitationNumber, now: Timestamp) -> Done<bool> {
    let changed = sql(connection, "UPDATE invitation SET revoked_at = coalesce(revoked_at, ?2) WHERE invitation = ?1")?
        .execute(params![row_of(number), ms(now)])?;
    if changed > 0 {
        // Whoever is on the way with it comes back to nothing.
        sql(connection, "DELETE FROM consent_flow WHERE invitation = ?1")?.execute([row_of(number)])?;
    }
    Ok(changed > 0)
}

pub(super) fn revoke_for(connection: &Connection, tenant: TenantId, now: Timestamp) -> Done<u64> {
    let id = tenant.as_uuid().as_bytes();
    sql(
        connection,
        "DELETE FROM consent_flow WHERE invitation IN (SELECT invitation FROM invitation WHERE tenant = ?1)",
    )?
    .execute([id])?;
    sql(connection, "DELETE FROM consent_visit WHERE tenant = ?1")?.execute([id])?;
    let revoked = sql(
        connection,
        "UPDATE invitation SET revoked_at = ?2 WHERE tenant = ?1 AND revoked_at IS NULL AND expires_at > ?2",
    )?
    .execute(params![id, ms(now)])?;
    Ok(revoked.try_into().unwrap_or(u64::MAX))
}

pub(super) fn begin(connection: &Connection, flow: &ConsentFlow, now: Timestamp) -> Done<()> {
    sweep(connection, now)?;
    let invitation = row_of(flow.invitation);
    if self::invitation(connection, flow.invitation)?.is_none() {
        return Err(LedgerError::UnknownInvitation { number: flow.invitation.0 }.into());
    }
    sql(
        connection,
        "DELETE FROM consent_flow WHERE state IN
         (SELECT state FROM consent_flow WHERE invitation = ?1 ORDER BY expires_at DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![invitation, crate::values::count(FLOWS_MAX - 1)])?;
    sql(
        connection,
        "INSERT INTO consent_flow (state, browser, invitation, leg, tenant, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        flow.state,
        flow.browser,
        invitation,
        leg_number(flow.leg),
        flow.tenant.as_ref().map(|tenant| tenant.as_uuid().as_bytes()),
        ms(flow.expires_at)
    ])?;
    Ok(())
}

pub(super) fn take(connection: &Connection, state: &Digest, browser: &Digest, now: Timestamp) -> Done<Taken> {
    let found = sql(
        connection,
        "SELECT state, browser, invitation, leg, tenant, expires_at FROM consent_flow WHERE state = ?1",
    )?
    .query_row([state], |row| {
        Ok(ConsentFlow {
            state: row.get(0)?,
            browser: row.get(1)?,
            invitation: number(row, 2)?,
            leg: known(row, 3, &LEGS)?,
            tenant: tenant_if_any(row, 4)?,
            expires_at: time(row, 5)?,
        })
    })
    .optional()?;
    let Some(flow) = found.filter(|flow| now < flow.expires_at) else { return Ok(Taken::Unknown) };
    if flow.browser != *browser {
        return Ok(Taken::OtherBrowser);
    }
    sql(connection, "DELETE FROM consent_flow WHERE state = ?1")?.execute([state])?;
    Ok(Taken::Flow(flow))
}

pub(super) fn prove(connection: &Connection, visit: &Visit, now: Timestamp) -> Done<()> {
    sweep(connection, now)?;
    let invitation = row_of(visit.invitation);
    if self::invitation(connection, visit.invitation)?.is_none() {
        return Err(LedgerError::UnknownInvitation { number: visit.invitation.0 }.into());
    }
    sql(
        connection,
        "DELETE FROM consent_visit WHERE (browser, tenant) IN
         (SELECT browser, tenant FROM consent_visit WHERE invitation = ?1 ORDER BY expires_at DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![invitation, crate::values::count(VISITS_MAX - 1)])?;
    sql(
        connection,
        "INSERT INTO consent_visit (browser, tenant, invitation, account, proven_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (browser, tenant) DO UPDATE SET invitation = ?3, account = ?4, proven_at = ?5, expires_at = ?6,
         accepted_at = CASE WHEN invitation = ?3 THEN accepted_at END",
    )?
    .execute(params![
        visit.browser,
        visit.tenant.as_uuid().as_bytes(),
        invitation,
        visit.account.as_deref().map(message),
        ms(visit.proven_at),
        ms(visit.expires_at)
    ])?;
    Ok(())
}

pub(super) fn visit(
    connection: &Connection,
    browser: &Digest,
    tenant: TenantId,
    now: Timestamp,
) -> Done<Option<Visit>> {
    let found = sql(
        connection,
        "SELECT browser, tenant, invitation, account, proven_at, accepted_at, expires_at FROM consent_visit
         WHERE browser = ?1 AND tenant = ?2",
    )?
    .query_row(params![browser, tenant.as_uuid().as_bytes()], |row| {
        Ok(Visit {
            browser: row.get(0)?,
            tenant: tenant_id(row, 1)?,
            invitation: number(row, 2)?,
            account: row.get(3)?,
            proven_at: time(row, 4)?,
            accepted_at: time_if_any(row, 5)?,
            expires_at: time(row, 6)?,
        })
    })
    .optional()?;
    Ok(found.filter(|visit| now < visit.expires_at))
}

pub(super) fn accept(
    connection: &Connection,
    actor: &str,
    browser: &Digest,
    tenant: TenantId,
    collect_from: Timestamp,
    now: Timestamp,
) -> Done<Acceptance> {
    let Some(visit) = visit(connection, browser, tenant, now)? else { return Ok(Acceptance::NoVisit) };
    let before = tenants::one(connection, tenant)?.map(|tenant| tenant.state);
    // Accepted and removed since: consenting again means it.
    if visit.accepted_at.is_some() && matches!(before, Some(TenantState::Active | TenantState::Paused)) {
        return Ok(Acceptance::Repeated);
    }
    let invitation = match invitation(connection, visit.invitation)? {
        Some(invitation) => invitation,
        None => return Ok(Acceptance::Refused(Standing::Expired)),
    };
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
    tenants::add(connection, actor, tenant, &invitation.label, collect_from, now)?;
    sql(connection, "UPDATE invitation SET uses = uses + 1 WHERE invitation = ?1")?
        .execute([row_of(visit.invitation)])?;
    sql(connection, "UPDATE consent_visit SET accepted_at = ?3 WHERE browser = ?1 AND tenant = ?2")?
        .execute(params![browser, tenant.as_uuid().as_bytes(), ms(now)])?;
    log(connection, &visit, &invitation, acceptance, now)?;
    Ok(acceptance)
}

fn log(
    connection: &Connection,
    visit: &Visit,
    invitation: &Invitation,
    acceptance: Acceptance,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, visit.tenant)?;
    let kind = ACCEPTANCES.iter().position(|known| *known == acceptance).unwrap_or_default();
    sql(
        connection,
        "DELETE FROM consent_log WHERE entry IN
         (SELECT entry FROM consent_log WHERE tenant = ?1 ORDER BY entry DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![tenant, crate::values::count(LOG_MAX - 1)])?;
    sql(
        connection,
        "INSERT INTO consent_log (at, tenant, invitation, label, account, acceptance) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        ms(now),
        tenant,
        row_of(invitation.number),
        invitation.label,
        visit.account,
        i64::try_from(kind).unwrap_or_default()
    ])?;
    Ok(())
}

pub(super) fn entries(connection: &Connection, tenant: Option<TenantId>, limit: u32) -> Done<Vec<ConsentEntry>> {
    const ENTRY: &str = "SELECT at, id, invitation, consent_log.label, account, acceptance FROM consent_log CROSS JOIN \
                         tenant USING (tenant)";
    let entry = |row: &Row<'_>| {
        Ok(ConsentEntry {
            at: time(row, 0)?,
            tenant: tenant_id(row, 1)?,
            invitation: number(row, 2)?,
            label: row.get(3)?,
            account: row.get(4)?,
            acceptance: known(row, 5, &ACCEPTANCES)?,
        })
    };
    let entries = match tenant {
        Some(tenant) => {
            let tenant = tenant_number(connection, tenant)?;
            sql(connection, &format!("{ENTRY} WHERE consent_log.tenant = ?1 ORDER BY entry DESC LIMIT ?2"))?
                .query_map(params![tenant, limit], entry)?
                .collect::<Result<_, _>>()
        }
        None => sql(connection, &format!("{ENTRY} WHERE entry <= ?1 ORDER BY entry DESC LIMIT ?2"))?
            .query_map(params![i64::MAX, limit], entry)?
            .collect::<Result<_, _>>(),
    };
    Ok(entries?)
}

/// Deletes what is over, a bounded number of rows.
fn sweep(connection: &Connection, now: Timestamp) -> Done<()> {
    for statement in [
        "DELETE FROM consent_flow WHERE state IN
         (SELECT state FROM consent_flow WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        "DELETE FROM consent_visit WHERE (browser, tenant) IN
         (SELECT browser, tenant FROM consent_visit WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    ] {
        sql(connection, statement)?.execute(params![ms(now), SWEPT])?;
    }
    Ok(())
}

fn invitation_row(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    Ok(Invitation {
        number: number(row, 0)?,
        label: row.get(1)?,
        tenant: tenant_if_any(row, 2)?,
        created_at: time(row, 3)?,
        expires_at: time(row, 4)?,
        uses_allowed: row.get(5)?,
        uses: row.get(6)?,
        revoked_at: time_if_any(row, 7)?,
    })
}

fn tenant_if_any(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<TenantId>> {
    row.get::<_, Option<[u8; 16]>>(column)?.map(|_| tenant_id(row, column)).transpose()
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<InvitationNumber> {
    super::rows::counted(row, column).map(InvitationNumber)
}

fn row_of(number: InvitationNumber) -> i64 {
    crate::values::count(number.0)
}

fn leg_number(leg: Leg) -> i64 {
    match leg {
        Leg::Authorize => 0,
        Leg::AdminConsent => 1,
        Leg::SignIn => 2,
    }
}
