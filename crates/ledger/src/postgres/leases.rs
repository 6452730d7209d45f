//! Workers and what they hold.
//!
//! Never judges by a time that a caller brings: the clock is the server's. Never waits for a tenant that is being written:
//! it is passed over, and found again at the next turn.

use std::sync::Arc;
use std::time::Duration;

use engine::lease::{Epoch, Fleet, Lease, Peer, WorkerId, WorkerRow};
use protocol::ids::TenantId;
use tokio_postgres::Row;
use uuid::Uuid;

use super::PgLedger;
use super::fault::Done;
use super::hints::tell;
use super::rows::{counted, tenant_id};
use super::session::Session;
use crate::values::{count, message};
use crate::{Hint, Hints, Ledger, LedgerError, LedgerFuture, Workers};

impl Workers for PgLedger {
    fn alive(&self, worker: WorkerId, name: String, lease_time: Duration) -> LedgerFuture<'_, Fleet> {
        self.write(async move |session| alive(session, worker, &name, lease_time).await)
    }

    fn take(&self, worker: WorkerId, limit: u32) -> LedgerFuture<'_, Vec<Lease>> {
        self.write(async move |session| take(session, worker, limit).await)
    }

    fn give_back(&self, leases: Vec<Lease>) -> LedgerFuture<'_, u64> {
        let me = self.me();
        self.write(async move |session| {
            let given = give_back(session, &leases).await?;
            if given > 0 {
                tell(session, me, Hint::Free).await?;
            }
            Ok(given)
        })
    }

    fn held(&self, worker: WorkerId) -> LedgerFuture<'_, Vec<Lease>> {
        self.read(async move |session| held(session, worker).await)
    }

    fn leave(&self, worker: WorkerId) -> LedgerFuture<'_, u64> {
        let me = self.me();
        self.write(async move |session| {
            let given = leave(session, worker).await?;
            tell(session, me, Hint::Free).await?;
            Ok(given)
        })
    }

    fn bury_others(&self, worker: WorkerId) -> LedgerFuture<'_, ()> {
        self.write(async move |session| {
            session.run("UPDATE worker SET expires_at = 0 WHERE worker <> $1", &[&uuid(worker)]).await?;
            Ok(())
        })
    }

    fn hints(&self) -> Hints {
        self.heard()
    }

    fn under(&self, lease: Lease) -> Arc<dyn Ledger> {
        Arc::new(Self { lease: Some(lease), ..self.clone() })
    }
}

/// Refuses a write of this tenant unless the lease is for it and holds. The row stays locked to the transaction's end, so
/// nobody takes the tenant before that.
pub(super) async fn check(session: &Session<'_>, lease: &Lease, tenant: TenantId) -> Done<()> {
    let lost = LedgerError::LeaseLost { tenant, epoch: lease.epoch };
    if lease.tenant != tenant {
        return Err(lost.into());
    }
    let row = session
        .maybe("SELECT lease_worker, lease_epoch FROM tenant WHERE id = $1 FOR NO KEY UPDATE", &[tenant.as_uuid()])
        .await?
        .ok_or(LedgerError::UnknownTenant { tenant })?;
    let (worker, epoch): (Option<Uuid>, u64) = (row.try_get(0)?, counted(&row, 1)?);
    if worker == Some(uuid(lease.worker)) && epoch == lease.epoch.0 { Ok(()) } else { Err(lost.into()) }
}

fn uuid(worker: WorkerId) -> Uuid {
    Uuid::from_bytes(worker.0)
}

/// As it is when the statement runs, not when its transaction began.
async fn now(session: &Session<'_>) -> Done<i64> {
    let text = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    Ok(session.one(text, &[]).await?.try_get(0)?)
}

pub(super) async fn alive(session: &Session<'_>, worker: WorkerId, name: &str, lease_time: Duration) -> Done<Fleet> {
    // Somebody may be taking our tenants this moment, as we were silent for too long: then this waits for it.
    session
        .run(
            "INSERT INTO worker (worker, name, held, expires_at) VALUES ($1, $2, 0, 0)
             ON CONFLICT (worker) DO UPDATE SET name = $2",
            &[&uuid(worker), &message(name)],
        )
        .await?;
    let now = now(session).await?;
    let expires_at = now.saturating_add(i64::try_from(lease_time.as_millis()).unwrap_or(i64::MAX));
    session.run("UPDATE worker SET expires_at = $2 WHERE worker = $1", &[&uuid(worker), &expires_at]).await?;
    session
        .run(
            "DELETE FROM worker WHERE worker = ANY(ARRAY(
               SELECT worker FROM worker WHERE expires_at <= $1 AND held = 0 AND worker <> $2 FOR UPDATE SKIP LOCKED))",
            &[&now, &uuid(worker)],
        )
        .await?;
    let rows = session.rows("SELECT worker, name, held FROM worker WHERE expires_at > $1", &[&now]).await?;
    let peer = |row: &Row| {
        let worker: Uuid = row.try_get(0)?;
        Ok(Peer { worker: WorkerId(worker.into_bytes()), name: row.try_get(1)?, held: counted(row, 2)? })
    };
    let mut workers: Vec<Peer> = rows.iter().map(peer).collect::<Done<_>>()?;
    workers.sort_by_key(|peer| peer.worker);
    let row = session
        .one(
            "SELECT (SELECT count(*) FROM tenant WHERE lease_worker IS NULL)
                  + (SELECT coalesce(sum(held), 0) FROM worker WHERE expires_at <= $1)::bigint",
            &[&now],
        )
        .await?;
    Ok(Fleet { workers, free: counted(&row, 0)? })
}

pub(super) async fn take(session: &Session<'_>, worker: WorkerId, limit: u32) -> Done<Vec<Lease>> {
    // Nobody takes anything from us before this has ended.
    let row =
        session.maybe("SELECT expires_at FROM worker WHERE worker = $1 FOR NO KEY UPDATE", &[&uuid(worker)]).await?;
    let expires_at: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let now = now(session).await?;
    if expires_at <= now {
        return Ok(Vec::new());
    }
    let chosen = "SELECT tenant FROM tenant WHERE lease_worker IS NULL ORDER BY tenant LIMIT $1
                  FOR NO KEY UPDATE SKIP LOCKED";
    let rows = session.rows(chosen, &[&i64::from(limit)]).await?;
    let mut taken = hand_over(session, worker, &rows).await?;
    let dead = session
        .rows(
            "SELECT worker FROM worker WHERE expires_at <= $1 ORDER BY expires_at FOR NO KEY UPDATE SKIP LOCKED",
            &[&now],
        )
        .await?;
    for dead in &dead {
        let left = count(u64::from(limit).saturating_sub(taken.len() as u64));
        if left == 0 {
            break;
        }
        let dead: Uuid = dead.try_get(0)?;
        let chosen = "SELECT tenant FROM tenant WHERE lease_worker = $1 ORDER BY tenant LIMIT $2
                      FOR NO KEY UPDATE SKIP LOCKED";
        let rows = session.rows(chosen, &[&dead, &left]).await?;
        let robbed = hand_over(session, worker, &rows).await?;
        add_held(session, dead, -count(robbed.len() as u64)).await?;
        taken.extend(robbed);
    }
    add_held(session, uuid(worker), count(taken.len() as u64)).await?;
    taken.sort();
    Ok(taken)
}

/// The tenants' rows are locked, and as they were when they were chosen.
async fn hand_over(session: &Session<'_>, worker: WorkerId, chosen: &[Row]) -> Done<Vec<Lease>> {
    let tenants: Vec<i64> = chosen.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session
        .rows(
            "UPDATE tenant SET lease_worker = $1, lease_epoch = lease_epoch + 1 WHERE tenant = ANY($2)
             RETURNING id, lease_epoch",
            &[&uuid(worker), &tenants],
        )
        .await?;
    rows.iter().map(|row| lease_of(row, worker)).collect()
}

async fn add_held(session: &Session<'_>, worker: Uuid, by: i64) -> Done<()> {
    if by != 0 {
        session.run("UPDATE worker SET held = held + $2 WHERE worker = $1", &[&worker, &by]).await?;
    }
    Ok(())
}

pub(super) async fn give_back(session: &Session<'_>, leases: &[Lease]) -> Done<u64> {
    let tenants: Vec<Uuid> = leases.iter().map(|lease| *lease.tenant.as_uuid()).collect();
    let workers: Vec<Uuid> = leases.iter().map(|lease| uuid(lease.worker)).collect();
    let epochs: Vec<i64> = leases.iter().map(|lease| count(lease.epoch.0)).collect();
    let rows = session
        .rows(
            "UPDATE tenant AS t SET lease_worker = NULL
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS l (id, worker, epoch)
             WHERE t.id = l.id AND t.lease_worker = l.worker AND t.lease_epoch = l.epoch RETURNING l.worker",
            &[&tenants, &workers, &epochs],
        )
        .await?;
    for row in &rows {
        add_held(session, row.try_get(0)?, -1).await?;
    }
    Ok(rows.len() as u64)
}

pub(super) async fn held(session: &Session<'_>, worker: WorkerId) -> Done<Vec<Lease>> {
    let rows = session.rows("SELECT id, lease_epoch FROM tenant WHERE lease_worker = $1", &[&uuid(worker)]).await?;
    let mut held: Vec<Lease> = rows.iter().map(|row| lease_of(row, worker)).collect::<Done<_>>()?;
    held.sort();
    Ok(held)
}

fn lease_of(row: &Row, worker: WorkerId) -> Done<Lease> {
    Ok(Lease { tenant: tenant_id(row, 0)?, worker, epoch: Epoch(counted(row, 1)?) })
}

pub(super) async fn leave(session: &Session<'_>, worker: WorkerId) -> Done<u64> {
    // The row first: a `take` of this worker that is under way has locked it, and what that takes is seen only after it.
    session.run("DELETE FROM worker WHERE worker = $1", &[&uuid(worker)]).await?;
    session.run("UPDATE tenant SET lease_worker = NULL WHERE lease_worker = $1", &[&uuid(worker)]).await
}

/// A tenant is about to be deleted: whoever holds it holds one less.
pub(super) async fn drop_tenant(session: &Session<'_>, tenant: TenantId) -> Done<()> {
    session
        .run(
            "UPDATE worker SET held = held - 1 WHERE worker = (SELECT lease_worker FROM tenant WHERE id = $1)",
            &[tenant.as_uuid()],
        )
        .await?;
    Ok(())
}

pub(super) async fn workers(session: &Session<'_>) -> Done<Vec<WorkerRow>> {
    let now = now(session).await?;
    let rows = session.rows("SELECT name, held, expires_at > $1 FROM worker ORDER BY name, worker", &[&now]).await?;
    let worker = |row: &Row| Ok(WorkerRow { name: row.try_get(0)?, held: counted(row, 1)?, is_alive: row.try_get(2)? });
    rows.iter().map(worker).collect()
}

pub(super) async fn holders(session: &Session<'_>, tenants: &[TenantId]) -> Done<Vec<(TenantId, String)>> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| *tenant.as_uuid()).collect();
    let text = "SELECT t.id, w.name FROM unnest($1::uuid[]) WITH ORDINALITY AS a (id, place)
                JOIN tenant t ON t.id = a.id JOIN worker w ON w.worker = t.lease_worker ORDER BY a.place";
    let rows = session.rows(text, &[&tenants]).await?;
    rows.iter().map(|row| Ok((tenant_id(row, 0)?, row.try_get(1)?))).collect()
}
