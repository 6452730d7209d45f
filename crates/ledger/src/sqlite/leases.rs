//! Workers and what they hold.
//!
//! Never judges by a time that a caller brings: the clock is SQLite's, which is this machine's, or a
//! simulation's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use engine::lease::{Epoch, Fleet, Lease, Peer, WorkerId, WorkerRow};
use protocol::ids::TenantId;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteLedger;
use super::fault::Done;
use super::rows::{counted, sql, tenant_id};
use crate::values::{count, message};
use crate::{Hints, Ledger, LedgerError, LedgerFuture, Workers};

impl Workers for SqliteLedger {
    fn alive(&self, worker: WorkerId, name: String, lease_time: Duration) -> LedgerFuture<'_, Fleet> {
        let clock = self.shared.lease_clock.clone();
        self.write(move |connection| alive(connection, clock.as_deref(), worker, &name, lease_time))
    }

    fn take(&self, worker: WorkerId, limit: u32) -> LedgerFuture<'_, Vec<Lease>> {
        self.take_but(worker, limit, Vec::new())
    }

    fn give_back(&self, leases: Vec<Lease>) -> LedgerFuture<'_, u64> {
        self.write(move |connection| give_back(connection, &leases))
    }

    fn held(&self, worker: WorkerId) -> LedgerFuture<'_, Vec<Lease>> {
        self.read(move |connection| held(connection, worker))
    }

    fn leave(&self, worker: WorkerId) -> LedgerFuture<'_, u64> {
        self.write(move |connection| leave(connection, worker))
    }

    fn bury_others(&self, worker: WorkerId) -> LedgerFuture<'_, ()> {
        self.write(move |connection| {
            sql(connection, "UPDATE worker SET expires_at = 0 WHERE worker <> ?1")?.execute(params![worker.0])?;
            Ok(())
        })
    }

    /// A file's workers are in one process, which tells itself.
    fn hints(&self) -> Hints {
        Hints::none()
    }

    fn under(&self, lease: Lease) -> Arc<dyn Ledger> {
        Arc::new(Self { lease: Some(lease), ..self.clone() })
    }
}

impl SqliteLedger {
    /// [`Workers::take`] that passes these tenants over: they are being written this moment. No tenant of a file ever is
    /// while another call is carried out; in a simulation of a server that serves many at once it may be.
    pub fn take_but(&self, worker: WorkerId, limit: u32, written: Vec<TenantId>) -> LedgerFuture<'_, Vec<Lease>> {
        let clock = self.shared.lease_clock.clone();
        self.write(move |connection| take(connection, clock.as_deref(), worker, limit, &written))
    }
}

/// Refuses a write of this tenant unless the lease is for it and holds.
pub(super) fn check(connection: &Connection, lease: &Lease, tenant: TenantId) -> Done<()> {
    let lost = LedgerError::LeaseLost { tenant, epoch: lease.epoch };
    if lease.tenant != tenant {
        return Err(lost.into());
    }
    let holds = sql(connection, "SELECT lease_worker IS ?2 AND lease_epoch = ?3 FROM tenant WHERE id = ?1")?
        .query_row(params![tenant.as_uuid().as_bytes(), lease.worker.0, count(lease.epoch.0)], |row| row.get(0))
        .optional()?;
    match holds {
        Some(true) => Ok(()),
        Some(false) => Err(lost.into()),
        None => Err(LedgerError::UnknownTenant { tenant }.into()),
    }
}

fn now(connection: &Connection, clock: Option<&AtomicI64>) -> Done<i64> {
    if let Some(clock) = clock {
        return Ok(clock.load(Ordering::Relaxed));
    }
    Ok(sql(connection, "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")?
        .query_row([], |row| row.get(0))?)
}

fn alive(
    connection: &Connection,
    clock: Option<&AtomicI64>,
    worker: WorkerId,
    name: &str,
    lease_time: Duration,
) -> Done<Fleet> {
    let now = now(connection, clock)?;
    let expires_at = now.saturating_add(i64::try_from(lease_time.as_millis()).unwrap_or(i64::MAX));
    sql(
        connection,
        "INSERT INTO worker (worker, name, held, expires_at) VALUES (?1, ?2, 0, ?3)
         ON CONFLICT (worker) DO UPDATE SET name = ?2, expires_at = ?3",
    )?
    .execute(params![worker.0, message(name), expires_at])?;
    sql(connection, "DELETE FROM worker WHERE expires_at <= ?1 AND held = 0 AND worker <> ?2")?
        .execute(params![now, worker.0])?;
    let mut statement = sql(connection, "SELECT worker, name, held FROM worker WHERE expires_at > ?1")?;
    let peer =
        |row: &rusqlite::Row<'_>| Ok(Peer { worker: WorkerId(row.get(0)?), name: row.get(1)?, held: counted(row, 2)? });
    let mut workers = statement.query_map([now], peer)?.collect::<Result<Vec<_>, _>>()?;
    workers.sort_by_key(|peer| peer.worker);
    let nobodys = sql(connection, "SELECT count(*) FROM tenant WHERE lease_worker IS NULL")?
        .query_row([], |row| counted(row, 0))?;
    let deads = sql(connection, "SELECT coalesce(sum(held), 0) FROM worker WHERE expires_at <= ?1")?
        .query_row([now], |row| counted(row, 0))?;
    Ok(Fleet { workers, free: nobodys.saturating_add(deads) })
}

fn take(
    connection: &Connection,
    clock: Option<&AtomicI64>,
    worker: WorkerId,
    limit: u32,
    written: &[TenantId],
) -> Done<Vec<Lease>> {
    let now = now(connection, clock)?;
    let is_alive = sql(connection, "SELECT 1 FROM worker WHERE worker = ?1 AND expires_at > ?2")?
        .exists(params![worker.0, now])?;
    if !is_alive {
        return Ok(Vec::new());
    }
    let mut taken = take_from(connection, worker, None, limit, written)?;
    let dead: Vec<[u8; 16]> = sql(connection, "SELECT worker FROM worker WHERE expires_at <= ?1 ORDER BY expires_at")?
        .query_map([now], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for dead in dead {
        let left = limit.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let robbed = take_from(connection, worker, Some(dead), left, written)?;
        add_held(connection, WorkerId(dead), -count(robbed.len() as u64))?;
        taken.extend(robbed);
    }
    add_held(connection, worker, count(taken.len() as u64))?;
    taken.sort();
    Ok(taken)
}

fn take_from(
    connection: &Connection,
    worker: WorkerId,
    from: Option<[u8; 16]>,
    limit: u32,
    written: &[TenantId],
) -> Done<Vec<Lease>> {
    // As SQL writes a list of blobs; empty but in a simulation.
    let written: Vec<String> = written.iter().map(|tenant| format!("x'{}'", tenant.as_uuid().simple())).collect();
    let text = format!(
        "UPDATE tenant SET lease_worker = ?1, lease_epoch = lease_epoch + 1 WHERE tenant IN
         (SELECT tenant FROM tenant WHERE lease_worker IS ?2 AND id NOT IN ({}) ORDER BY tenant LIMIT ?3)
         RETURNING id, lease_epoch",
        written.join(", ")
    );
    let mut statement = sql(connection, &text)?;
    let lease =
        |row: &rusqlite::Row<'_>| Ok(Lease { tenant: tenant_id(row, 0)?, worker, epoch: Epoch(counted(row, 1)?) });
    Ok(statement.query_map(params![worker.0, from, limit], lease)?.collect::<Result<_, _>>()?)
}

fn add_held(connection: &Connection, worker: WorkerId, by: i64) -> Done<()> {
    sql(connection, "UPDATE worker SET held = held + ?2 WHERE worker = ?1")?.execute(params![worker.0, by])?;
    Ok(())
}

pub(super) fn give_back(connection: &Connection, leases: &[Lease]) -> Done<u64> {
    let mut given = 0;
    for lease in leases {
        let changed = sql(
            connection,
            "UPDATE tenant SET lease_worker = NULL WHERE id = ?1 AND lease_worker = ?2 AND lease_epoch = ?3",
        )?
        .execute(params![lease.tenant.as_uuid().as_bytes(), lease.worker.0, count(lease.epoch.0)])?;
        add_held(connection, lease.worker, -count(changed as u64))?;
        given += changed as u64;
    }
    Ok(given)
}

pub(super) fn held(connection: &Connection, worker: WorkerId) -> Done<Vec<Lease>> {
    let mut statement = sql(connection, "SELECT id, lease_epoch FROM tenant WHERE lease_worker = ?1")?;
    let lease =
        |row: &rusqlite::Row<'_>| Ok(Lease { tenant: tenant_id(row, 0)?, worker, epoch: Epoch(counted(row, 1)?) });
    let mut held = statement.query_map([worker.0], lease)?.collect::<Result<Vec<_>, _>>()?;
    held.sort();
    Ok(held)
}

pub(super) fn leave(connection: &Connection, worker: WorkerId) -> Done<u64> {
    let given =
        sql(connection, "UPDATE tenant SET lease_worker = NULL WHERE lease_worker = ?1")?.execute([worker.0])?;
    sql(connection, "DELETE FROM worker WHERE worker = ?1")?.execute([worker.0])?;
    Ok(given as u64)
}

/// A tenant is about to be deleted: whoever holds it holds one less.
pub(super) fn drop_tenant(connection: &Connection, tenant: TenantId) -> Done<()> {
    sql(
        connection,
        "UPDATE worker SET held = held - 1 WHERE worker = (SELECT lease_worker FROM tenant WHERE id = ?1)",
    )?
    .execute([tenant.as_uuid().as_bytes()])?;
    Ok(())
}

pub(super) fn workers(connection: &Connection, clock: Option<&AtomicI64>) -> Done<Vec<WorkerRow>> {
    let now = now(connection, clock)?;
    let mut statement = sql(connection, "SELECT name, held, expires_at > ?1 FROM worker ORDER BY name, worker")?;
    let worker =
        |row: &rusqlite::Row<'_>| Ok(WorkerRow { name: row.get(0)?, held: counted(row, 1)?, is_alive: row.get(2)? });
    Ok(statement.query_map([now], worker)?.collect::<Result<_, _>>()?)
}

pub(super) fn holders(connection: &Connection, tenants: &[TenantId]) -> Done<Vec<(TenantId, String)>> {
    let text = "SELECT w.name FROM tenant t JOIN worker w ON w.worker = t.lease_worker WHERE t.id = ?1";
    let mut holders = Vec::new();
    for tenant in tenants {
        let name = sql(connection, text)?.query_row([tenant.as_uuid().as_bytes()], |row| row.get(0)).optional()?;
        holders.extend(name.map(|name| (*tenant, name)));
    }
    Ok(holders)
}
