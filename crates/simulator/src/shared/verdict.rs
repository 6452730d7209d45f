//! What must be true of several workers: nothing claimed too early while they are at work, and, when everything has calmed
//! down and one worker has caught up, everything that was published.
//!
//! Never asks a worker: it looks at the database, at the archive's folder, and at what was seen to pass between them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use archive::{Archive, ArchiveOptions};
use chrono::TimeDelta;
use emulator::FaultPlan;
use emulator::world::RecordSet;
use ledger::Ledger;
use protocol::ids::TenantId;
use protocol::time::Timestamp;

use super::process::Ended;
use super::run::{Event, Run};
use super::troubles::Way;
use crate::check::{ByTenant, Excuses, Sides};
use crate::plan::Span;
use crate::run::block_on;

/// Runs after everything has calmed down until one of them says that it has everything.
const LAST_RUNS: u32 = 12;

impl Run {
    /// Nothing goes wrong any more, and one worker catches up with everything, from whoever had it.
    pub(super) fn last_runs(&mut self) -> Result<(), String> {
        if !self.server_is_up {
            self.happen(Event::ServerStarts)?;
        }
        self.emulator.world().clock().set(self.world.now());
        let contents = self.emulator.world().contents();
        let poison: BTreeSet<String> =
            contents.filter(|content| content.poison).map(|content| content.content_id).collect();
        self.fate.note("calm");
        self.events.happen(&self.emulator, Timestamp::MAX_UTC);
        self.emulator.world().clock().set(self.world.now());
        self.emulator.world().set_faults(FaultPlan::default());
        let mut last = String::new();
        for _ in 0..LAST_RUNS {
            let expected = self.with_sides(|sides| Ok(sides.records(RecordSet::Readable)))?;
            let way = Arc::new(Way { latency: 5, ..Way::default() });
            let (mut process, _) = self.process(None, way, None, true)?;
            let end = self.world.now() + TimeDelta::hours(12);
            let ended = loop {
                if let Some(ended) = process.go_on(end) {
                    break ended;
                }
                if process.at >= end {
                    break Ended::Failed("it does not end".to_owned());
                }
            };
            let at = process.at;
            self.pass_to(at);
            self.forget(process, at);
            self.server.settle(at);
            self.complaints()?;
            match ended {
                Ended::Itself(report) if report.is_complete() => return self.check_all(&expected, &poison),
                Ended::Itself(report) => last = format!("{report:?}"),
                Ended::Failed(error) => last = error,
                Ended::Crashed => last = "it crashed".to_owned(),
            }
            self.world.pass(TimeDelta::minutes(20));
        }
        Err(format!("it does not catch up, {LAST_RUNS} runs after everything has calmed down: {last}"))
    }

    fn check_all(&mut self, expected: &ByTenant, poison: &BTreeSet<String>) -> Result<(), String> {
        self.check_claims()?;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        archive::disk::watch(None);
        let archive = Archive::open(&ArchiveOptions { in_place: true, ..ArchiveOptions::at(self.root()) });
        let archive = archive.map_err(|error| format!("the archive cannot be opened: {error}"))?;
        let mut lost = 0;
        for (tenant, records) in expected {
            let lives = self.lives(*tenant);
            let excuses = Excuses { lives: &lives, complete_runs: &[], asked: &asked, poison };
            let expected = ByTenant::from([(*tenant, records.clone())]);
            lost += self
                .with_sides(|sides| block_on(sides.check_archive(&archive, &expected, &sides.contents(), &excuses)))?;
            let visible = block_on(self.server.ledger().segments(*tenant))?;
            self.server.leases().check_segments(*tenant, &visible)?;
        }
        self.with_sides(|sides| {
            block_on(sides.check_files(&archive)).and_then(|()| block_on(sides.check_tables(&archive)))
        })?;
        self.counts.lost = lost;
        self.counts.records = expected.values().map(|records| records.len() as u64).sum();
        let leases = self.server.leases();
        (self.counts.robbed, self.counts.hands) = (leases.robbed, leases.hands());
        Ok(())
    }

    /// When somebody had the tenant whom nothing kept from working on it.
    fn lives(&self, tenant: TenantId) -> Vec<Span> {
        let mut lives = Vec::new();
        for (id, held) in self.server.leases().history(tenant, self.world.now()) {
            let Some((_, of, there)) = self.processes.iter().find(|(process, _, _)| *process == id) else { continue };
            let mut from = held.from.max(there.from);
            let until = held.until.min(there.until);
            let worker = of.and_then(|of| self.workers.get(of));
            let mut hard = worker.map(|worker| worker.plan.way.hard_times()).unwrap_or_default();
            hard.extend(worker.iter().flat_map(|worker| &worker.ambushed));
            hard.extend(&self.plan.restarts);
            hard.sort_by_key(|span| span.from);
            for span in hard {
                if span.until <= from || span.from >= until {
                    continue;
                }
                lives.push(Span { from, until: span.from.max(from) });
                from = from.max(span.until);
            }
            lives.push(Span { from, until: until.max(from) });
        }
        lives
    }

    pub(super) fn check_claims(&self) -> Result<(), String> {
        self.with_sides(|sides| block_on(sides.check_claims(&sides.contents())))?;
        self.complaints()
    }

    /// Looks at the ledger from outside.
    fn with_sides<T>(&self, look: impl FnOnce(&Sides<'_>) -> Result<T, String>) -> Result<T, String> {
        let (plan, ledger, now) = (&self.plan.plan, self.server.ledger(), self.world.now());
        look(&Sides { plan, emulator: &self.emulator, ledger: &ledger, witness: &self.witness, now })
    }
}
