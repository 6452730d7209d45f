//! What was seen of leases from where all of them pass: that each write was made under the one that held at that moment,
//! that epochs only grow, that nobody who was alive was robbed, and that no tenant lay idle for too long.
//!
//! Never asks the ledger: it goes by what calls were made and what they answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use engine::lease::{Lease, WorkerId};
use engine::model::{CommitNumber, SegmentRow};
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use crate::plan::Span;

/// Numbers of parts in an epoch (`archive::epoch`).
const PARTS: u64 = 10_000_000_000;

/// One run's.
pub(crate) struct Leases {
    lease_time: TimeDelta,
    tenants: BTreeMap<TenantId, Tenancy>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Under which epoch each commit was made.
    commits: BTreeMap<(TenantId, CommitNumber), u64>,
    wrong: Option<String>,
    /// How often a tenant changed hands because of who was silent.
    pub(crate) robbed: u64,
}

struct Tenancy {
    holder: Option<Lease>,
    epoch: u64,
    /// Since when the holder has it, or nobody.
    since: Timestamp,
    /// Who has had it, and from when to when.
    history: Vec<(WorkerId, Span)>,
}

struct Worker {
    heard: Timestamp,
    expires: Timestamp,
}

impl Leases {
    pub(crate) fn new(tenants: &[TenantId], lease_time: Duration, start: Timestamp) -> Self {
        let tenancy =
            |tenant: &TenantId| (*tenant, Tenancy { holder: None, epoch: 0, since: start, history: Vec::new() });
        Self {
            lease_time: TimeDelta::from_std(lease_time).unwrap_or(TimeDelta::MAX),
            tenants: tenants.iter().map(tenancy).collect(),
            workers: BTreeMap::new(),
            commits: BTreeMap::new(),
            wrong: None,
            robbed: 0,
        }
    }

    /// The first thing seen that must not be.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.wrong.clone()
    }

    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(crate) fn alive(&mut self, worker: WorkerId, lease_time: Duration, now: Timestamp) {
        let expires = now + TimeDelta::from_std(lease_time).unwrap_or(TimeDelta::MAX);
        self.workers.insert(worker, Worker { heard: now, expires });
    }

    pub(crate) fn took(&mut self, leases: &[Lease], now: Timestamp) {
        for lease in leases {
            let Some(tenancy) = self.tenants.get_mut(&lease.tenant) else { continue };
            let before = tenancy.release(now);
            let grows = lease.epoch.0 > tenancy.epoch;
            (tenancy.holder, tenancy.epoch) = (Some(*lease), tenancy.epoch.max(lease.epoch.0));
            if !grows {
                self.complain(format!("tenant {} was taken under epoch {} again", lease.tenant, lease.epoch.0));
            }
            let Some(before) = before else { continue };
            self.robbed += 1;
            if self.workers.get(&before.worker).is_some_and(|robbed| now < robbed.expires) {
                self.complain(format!("tenant {} was taken from {} that is alive", lease.tenant, before.worker));
            }
        }
    }

    pub(crate) fn given_back(&mut self, leases: &[Lease], now: Timestamp) {
        for lease in leases {
            if let Some(tenancy) = self.tenants.get_mut(&lease.tenant).filter(|of| of.holder == Some(*lease)) {
                tenancy.release(now);
            }
        }
    }

    pub(crate) fn left(&mut self, worker: WorkerId, now: Timestamp) {
        for tenancy in self.tenants.values_mut() {
            if tenancy.holder.is_some_and(|lease| lease.worker == worker) {
                tenancy.release(now);
            }
        }
        self.workers.remove(&worker);
    }

    /// A write of this tenant was committed.
    pub(crate) fn wrote(&mut self, what: &str, lease: Option<Lease>, tenant: TenantId) {
        let holder = self.tenants.get(&tenant).and_then(|tenancy| tenancy.holder);
        if lease.is_some() && lease != holder {
            self.complain(format!(
                "{what} of tenant {tenant} was written under {}, when it was held under {}",
                shown(lease),
                shown(holder)
            ));
        }
    }

    pub(crate) fn committed(
        &mut self,
        tenant: TenantId,
        number: CommitNumber,
        lease: Option<Lease>,
        added: &[SegmentRow],
    ) {
        let epoch = lease.map_or(0, |lease| lease.epoch.0);
        self.commits.insert((tenant, number), epoch);
        for segment in added.iter().filter(|segment| segment.part / PARTS != epoch) {
            let named = segment.part / PARTS;
            self.complain(format!(
                "commit {number} of tenant {tenant} under epoch {epoch} names a file of epoch {named}"
            ));
        }
    }

    /// No visible file was written under another epoch than its commit was made under.
    pub(crate) fn check_segments(&self, tenant: TenantId, visible: &[SegmentRow]) -> Result<(), String> {
        for segment in visible {
            let (named, made) = (segment.part / PARTS, self.commits.get(&(tenant, segment.commit)));
            if made != Some(&named) {
                return Err(format!(
                    "a file of epoch {named} is visible in commit {} of tenant {tenant}, which was made under {made:?}",
                    segment.commit
                ));
            }
        }
        Ok(())
    }

    /// No tenant has been without a word of whoever holds it for longer than `lease_times` of them. Not to be asked unless
    /// there was somebody who could have taken it.
    pub(crate) fn check_idle(&mut self, now: Timestamp, lease_times: i32) {
        for (tenant, tenancy) in &self.tenants {
            let heard = tenancy.holder.and_then(|lease| Some(self.workers.get(&lease.worker)?.heard));
            let tended = heard.map_or(tenancy.since, |heard| heard.max(tenancy.since));
            if now - tended > self.lease_time * lease_times {
                let holder = shown(tenancy.holder);
                let wrong = format!("tenant {tenant} (held under {holder}) lies idle since {tended}: it is {now}");
                self.wrong.get_or_insert(wrong);
                return;
            }
        }
    }

    /// Who has had the tenant when, up to now.
    pub(crate) fn history(&self, tenant: TenantId, now: Timestamp) -> Vec<(WorkerId, Span)> {
        let Some(tenancy) = self.tenants.get(&tenant) else { return Vec::new() };
        let mut history = tenancy.history.clone();
        history.extend(tenancy.holder.map(|lease| (lease.worker, Span { from: tenancy.since, until: now })));
        history
    }

    /// How many had the tenant, one after the other.
    pub(crate) fn hands(&self) -> u64 {
        let hands = |tenancy: &Tenancy| tenancy.history.iter().map(|(worker, _)| worker).collect::<BTreeSet<_>>().len();
        self.tenants.values().map(|tenancy| hands(tenancy) as u64).sum()
    }
}

impl Tenancy {
    fn release(&mut self, now: Timestamp) -> Option<Lease> {
        let before = self.holder.take();
        self.history.extend(before.map(|lease| (lease.worker, Span { from: self.since, until: now })));
        self.since = now;
        before
    }
}

fn shown(lease: Option<Lease>) -> String {
    lease.map_or_else(|| "no lease".to_owned(), |lease| format!("epoch {} of {}", lease.epoch.0, lease.worker))
}

#[cfg(test)]
mod tests {
    use engine::lease::Epoch;

    use super::*;

    const LEASE_TIME: Duration = Duration::from_secs(30);

    fn tenant() -> TenantId {
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn lease(worker: u8, epoch: u64) -> Lease {
        Lease { tenant: tenant(), worker: WorkerId([worker; 16]), epoch: Epoch(epoch) }
    }

    /// The first worker is alive since second 0, and has the tenant.
    fn taken() -> Leases {
        let mut leases = Leases::new(&[tenant()], LEASE_TIME, at(0));
        leases.alive(WorkerId([1; 16]), LEASE_TIME, at(0));
        leases.took(&[lease(1, 1)], at(0));
        leases
    }

    #[test]
    fn a_write_is_the_holders_alone() {
        let mut leases = taken();
        leases.wrote("commit", Some(lease(1, 1)), tenant());
        leases.wrote("commit", None, tenant());
        assert_eq!(leases.complaint(), None);
        leases.wrote("commit", Some(lease(1, 2)), tenant());
        assert!(leases.complaint().unwrap().contains("when it was held under epoch 1"));
    }

    #[test]
    fn nobody_takes_from_who_is_alive_or_under_an_epoch_that_was() {
        let mut leases = taken();
        leases.took(&[lease(2, 2)], at(30));
        assert_eq!((leases.complaint(), leases.robbed), (None, 1));
        let mut leases = taken();
        leases.took(&[lease(2, 2)], at(29));
        assert!(leases.complaint().unwrap().contains("that is alive"));
        let mut leases = taken();
        leases.took(&[lease(2, 1)], at(31));
        assert!(leases.complaint().unwrap().contains("again"));
    }

    #[test]
    fn two_lease_times_of_silence_are_borne_and_no_more() {
        let mut leases = taken();
        leases.check_idle(at(60), 2);
        assert_eq!(leases.complaint(), None);
        leases.check_idle(at(61), 2);
        assert!(leases.complaint().unwrap().contains("lies idle"));
        let mut leases = taken();
        leases.given_back(&[lease(1, 1)], at(10));
        leases.check_idle(at(70), 2);
        assert_eq!(leases.complaint(), None);
        leases.check_idle(at(71), 2);
        assert!(leases.complaint().is_some());
    }

    #[test]
    fn a_file_of_another_epoch_than_its_commits_is_found() {
        let mut leases = taken();
        let segment = |epoch: u64| SegmentRow {
            date: "2026-03-04".to_owned(),
            commit: CommitNumber(1),
            part: epoch * PARTS + 3,
            rows: 1,
            bytes: 1,
            second_min: None,
            second_max: None,
            untimed_rows: 1,
            digest: [0; 32],
        };
        leases.committed(tenant(), CommitNumber(1), Some(lease(1, 1)), &[segment(1)]);
        assert_eq!(leases.complaint(), None);
        assert_eq!(leases.check_segments(tenant(), &[segment(1)]), Ok(()));
        assert!(leases.check_segments(tenant(), &[segment(2)]).is_err());
        leases.committed(tenant(), CommitNumber(2), Some(lease(1, 1)), &[segment(2)]);
        assert!(leases.complaint().unwrap().contains("names a file of epoch 2"));
    }
}
