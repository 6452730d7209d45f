//! Random histories: whatever is called in whatever order, the ledger answers and holds what the naive model does.
//!
//! A history is drawn from a seed, which is printed when it fails. Handles come and go in the middle; calls are dropped
//! before they are done, and then either happened whole or not at all.

use std::future::poll_fn;
use std::task::Poll;

use engine::model::{ContentState, RefusedEntry, TenantState};

use super::model::{Answer, Model, lost_line, pending_line};
use super::*;

/// One call, with contents named by what they are instead of by their row.
#[derive(Debug, Clone)]
pub(super) enum Op {
    AddTenant {
        id: TenantId,
        label: String,
        collect_from: Timestamp,
        now: Timestamp,
    },
    SetState {
        id: TenantId,
        state: TenantState,
    },
    Purge {
        id: TenantId,
    },
    SetProblem {
        id: TenantId,
        content_type: Option<ContentType>,
        problem: Option<Problem>,
    },
    SubscriptionsListed {
        id: TenantId,
        listed: Vec<(ContentType, Option<bool>)>,
        now: Timestamp,
    },
    StartRequested {
        id: TenantId,
        content_type: ContentType,
        now: Timestamp,
    },
    ContentsListed {
        id: TenantId,
        contents: Vec<Listed>,
        now: Timestamp,
    },
    EntriesRefused {
        id: TenantId,
        entries: Vec<RefusedEntry>,
        now: Timestamp,
    },
    TileListed {
        id: TenantId,
        content_type: ContentType,
        tile: Tile,
    },
    ContentFailed {
        id: TenantId,
        key: Key,
        message: String,
        next: Timestamp,
    },
    ContentLost {
        id: TenantId,
        key: Key,
        loss: Loss,
        now: Timestamp,
    },
    Commit {
        id: TenantId,
        number: u64,
        now: Timestamp,
        archived: Vec<(Key, Sums)>,
        lost: Vec<(Key, Loss)>,
        segments: Vec<SegmentRow>,
        quarantined: Vec<QuarantineRow>,
    },
    Replace {
        id: TenantId,
        number: u64,
        now: Timestamp,
        removed: Vec<SegmentRow>,
        added: Vec<SegmentRow>,
    },
    Deleted {
        id: TenantId,
        segments: Vec<SegmentRow>,
    },
    Fold {
        id: TenantId,
        before: Timestamp,
    },
}

/// A content's type and id.
pub(super) type Key = (ContentType, String);

#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
}

impl Op {
    pub(super) fn tenant(&self) -> TenantId {
        match self {
            Self::AddTenant { id, .. }
            | Self::SetState { id, .. }
            | Self::Purge { id }
            | Self::SetProblem { id, .. }
            | Self::SubscriptionsListed { id, .. }
            | Self::StartRequested { id, .. }
            | Self::ContentsListed { id, .. }
            | Self::EntriesRefused { id, .. }
            | Self::TileListed { id, .. }
            | Self::ContentFailed { id, .. }
            | Self::ContentLost { id, .. }
            | Self::Commit { id, .. }
            | Self::Replace { id, .. }
            | Self::Deleted { id, .. }
            | Self::Fold { id, .. } => *id,
        }
    }

    /// Makes the call, and gives its answer as the model does.
    async fn call(&self, ledger: &dyn Ledger) -> Answer {
        fn told<T: ToString>(result: Result<T, LedgerError>) -> Answer {
            result.map(|value| value.to_string()).map_err(|error| name_of(&error))
        }
        fn done(result: Result<(), LedgerError>) -> Answer {
            result.map(|()| "()".to_owned()).map_err(|error| name_of(&error))
        }
        match self.clone() {
            Self::AddTenant { id, label, collect_from, now } => {
                told(ledger.add_tenant(id, label, collect_from, now).await)
            }
            Self::SetState { id, state } => told(ledger.set_tenant_state(id, state).await),
            Self::Purge { id } => done(ledger.purge_tenant(id).await),
            Self::SetProblem { id, content_type, problem } => done(ledger.set_problem(id, content_type, problem).await),
            Self::SubscriptionsListed { id, listed, now } => done(ledger.subscriptions_listed(id, listed, now).await),
            Self::StartRequested { id, content_type, now } => done(ledger.start_requested(id, content_type, now).await),
            Self::ContentsListed { id, contents, now } => told(ledger.contents_listed(id, contents, now).await),
            Self::EntriesRefused { id, entries, now } => told(ledger.entries_refused(id, entries, now).await),
            Self::TileListed { id, content_type, tile } => done(ledger.tile_listed(id, content_type, tile).await),
            Self::ContentFailed { id, key, message, next } => {
                let row = find(ledger, id, &key).await;
                done(ledger.content_failed(id, row, message, next).await)
            }
            Self::ContentLost { id, key, loss, now } => {
                let row = find(ledger, id, &key).await;
                done(ledger.content_lost(id, row, loss, now).await)
            }
            Self::Commit { id, number, now, archived, lost, segments, quarantined } => {
                let mut commit = Commit {
                    tenant: id,
                    number: CommitNumber(number),
                    at: now,
                    contents: Vec::new(),
                    lost: Vec::new(),
                    segments,
                    quarantined,
                };
                for (key, Sums { records, duplicates, variants }) in archived {
                    let row = find(ledger, id, &key).await;
                    commit.contents.push(ArchivedContent { duplicates, variants, ..super::archived(row, records) });
                }
                for (key, loss) in lost {
                    commit.lost.push((find(ledger, id, &key).await, loss));
                }
                done(ledger.commit(commit).await)
            }
            Self::Replace { id, number, now, removed, added } => {
                done(ledger.replace_segments(id, CommitNumber(number), removed, added, now).await)
            }
            Self::Deleted { id, segments } => done(ledger.obsolete_deleted(id, segments).await),
            Self::Fold { id, before } => told(ledger.fold(id, before, u32::MAX).await),
        }
    }
}

/// The row of a content that waits, or one that nothing has.
async fn find(ledger: &dyn Ledger, tenant: TenantId, (content_type, id): &Key) -> i64 {
    let pending = ledger.pending(tenant, noon() + days(3650), u32::MAX, Vec::new()).await.unwrap_or_default();
    let found = pending
        .iter()
        .find(|pending| pending.content.content_type == *content_type && pending.content.content_id.as_str() == id);
    found.map_or(i64::MAX, |pending| pending.row)
}

fn name_of(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::UnknownTenant { .. } => "UnknownTenant",
        LedgerError::NotRemoved { .. } => "NotRemoved",
        LedgerError::CommitOutOfOrder { .. } => "CommitOutOfOrder",
        LedgerError::NotListed { .. } => "NotListed",
        LedgerError::MalformedTile { .. } => "MalformedTile",
        LedgerError::OverlappingTile { .. } => "OverlappingTile",
        LedgerError::SegmentRefused { .. } => "SegmentRefused",
        LedgerError::SegmentNotVisible { .. } => "SegmentNotVisible",
        other => panic!("no call of a history may fail so: {other:?}"),
    }
}

/// Everything that can be seen of a ledger, as the model shows it; what is archived is asked for by name.
pub async fn lines(ledger: &dyn Ledger) -> Vec<String> {
    let (greatest, mut tenants) = ledger.tenants_since(0).await.unwrap();
    let mut lines = vec![format!("revision {greatest}")];
    tenants.sort_by_key(|tenant| tenant.id);
    for tenant in tenants {
        lines.push(format!("{tenant:?}"));
        let id = tenant.id;
        lines.extend(ledger.subscriptions(id).await.unwrap().iter().map(|known| format!("{known:?}")));
        for content_type in TYPES {
            let tiles = ledger.tiles(id, content_type.clone()).await.unwrap();
            lines.extend(tiles.iter().map(|tile| format!("{content_type} {tile:?}")));
            for name in names() {
                let state = ledger.content_state(id, content_type.clone(), name.clone()).await.unwrap();
                if state == Some(ContentState::Archived) {
                    lines.push(format!("{content_type} {name} archived"));
                }
            }
        }
        lines.extend(all_pending(ledger, id).await.iter().map(pending_line));
        lines.extend(ledger.losses(id, u32::MAX).await.unwrap().iter().map(lost_line));
        lines.extend(ledger.coverage(id).await.unwrap().iter().map(|coverage| format!("{coverage:?}")));
        lines.extend(ledger.quarantine(id, u32::MAX).await.unwrap().iter().map(|row| format!("{row:?}")));
        let none: Option<Timestamp> = None;
        lines.extend(ledger.segments(id).await.unwrap().iter().map(|segment| format!("{segment:?} {none:?}")));
        for (segment, since) in ledger.obsolete(id).await.unwrap() {
            lines.push(format!("{segment:?} {:?}", Some(since)));
        }
    }
    lines.sort();
    lines
}

const TYPES: [ContentType; 2] = [GENERAL, EXCHANGE];

fn names() -> impl Iterator<Item = String> {
    (0..12).map(|number| format!("content{number}"))
}

/// Draws histories.
pub struct Dice {
    state: u64,
    now: Timestamp,
    commits: [u64; 4],
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, now: noon(), commits: [0; 4] }
    }

    /// A number below `limit` (SplitMix64).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn signed(&mut self, from: i64, until: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(until - from).unwrap())).unwrap()
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn content_type(&mut self) -> ContentType {
        if self.below(3) == 0 { EXCHANGE } else { GENERAL }
    }

    fn key(&mut self) -> Key {
        (self.content_type(), format!("content{}", self.below(12)))
    }

    fn loss(&mut self) -> Loss {
        let kind = LossKind::ALL[usize::try_from(self.below(4)).unwrap()];
        Loss { kind, message: format!("lost {}", self.below(3)) }
    }

    fn problem(&mut self) -> Option<Problem> {
        match self.below(3) {
            0 => None,
            other => Some(problem(if other == 1 { "throttled" } else { "auditing_off" })),
        }
    }

    fn listed(&mut self) -> Listed {
        let (content_type, id) = self.key();
        // Created once and for all: derived from the id.
        let created = hours(i64::try_from(id.len()).unwrap() * 7) + minutes(i64::from(id.as_bytes()[7]) * 11);
        let uri = format!("https://manage.office.com/{}/{id}", self.below(2));
        Listed { content_type, content_uri: uri.parse().unwrap(), ..content(&id, created) }
    }

    fn entry(&mut self) -> RefusedEntry {
        let listed = self.listed();
        let named = self.below(2) == 0;
        RefusedEntry {
            content_type: listed.content_type,
            content_id: named.then_some(listed.content_id),
            created: (self.below(2) == 0).then_some(listed.created),
            raw: format!("raw {}", self.below(3)),
            loss: self.loss(),
        }
    }

    fn tile(&mut self) -> Tile {
        let start = noon() + hours(self.signed(0, 30)) + minutes(if self.below(8) == 0 { 30 } else { 0 });
        let until = start + minutes(if self.below(8) == 0 { self.signed(-30, 240) } else { 60 });
        let listed_until = match self.below(4) {
            0 => None,
            1 => Some(start + minutes(self.signed(-5, 65))),
            _ => Some(until),
        };
        Tile {
            start,
            until,
            listed_until,
            listed_at: listed_until.map(|_| self.now),
            closed_listings: u32::try_from(self.below(5)).unwrap(),
            next_listing_at: (self.below(2) == 0).then(|| self.now + minutes(5)),
            late_contents: self.below(3),
        }
    }

    fn segment(&mut self, number: u64) -> SegmentRow {
        let date = format!("2026-03-0{}", 1 + self.below(2));
        let number = if self.below(40) == 0 { number + 1 } else { number };
        SegmentRow { date, ..segment(number, u32::try_from(self.below(3)).unwrap()) }
    }

    fn old_segment(&mut self, last: u64) -> SegmentRow {
        let number = 1 + self.below(last.max(1));
        self.segment(number)
    }

    /// The next call.
    fn draw(&mut self) -> Op {
        let pass = self.signed(0, 7200);
        let factor = if self.below(20) == 0 { 50 } else { 1 };
        self.now += TimeDelta::seconds(pass * factor);
        let now = self.now;
        let which = self.below(3);
        let id = tenant(which);
        let last = self.commits[usize::try_from(which).unwrap()];
        // Mostly right, and wrong now and then.
        let number = if self.below(15) == 0 { self.below(last + 3) } else { last + 1 };
        match self.below(100) {
            0..5 => {
                let label = if self.below(2) == 0 { String::new() } else { format!("label {}", self.below(9)) };
                Op::AddTenant { id, label, collect_from: noon() + minutes(self.signed(-60, 60)), now }
            }
            5..8 => {
                let states = [TenantState::Active, TenantState::Paused, TenantState::Removed];
                Op::SetState { id, state: states[usize::try_from(self.below(3)).unwrap()] }
            }
            8 => Op::Purge { id },
            9..14 => {
                let content_type = (self.below(2) == 0).then(|| self.content_type());
                Op::SetProblem { id, content_type, problem: self.problem() }
            }
            14..17 => {
                let listed = self.some(2, |dice| {
                    (dice.content_type(), [None, Some(true), Some(false)][usize::try_from(dice.below(3)).unwrap()])
                });
                Op::SubscriptionsListed { id, listed, now }
            }
            17..19 => Op::StartRequested { id, content_type: self.content_type(), now },
            19..45 => Op::ContentsListed { id, contents: self.some(5, Self::listed), now },
            45..48 => Op::EntriesRefused { id, entries: self.some(3, Self::entry), now },
            48..60 => Op::TileListed { id, content_type: self.content_type(), tile: self.tile() },
            60..70 => {
                let next = now + minutes(self.signed(0, 90));
                Op::ContentFailed { id, key: self.key(), message: format!("failure {}", self.below(99)), next }
            }
            70..75 => Op::ContentLost { id, key: self.key(), loss: self.loss(), now },
            75..90 => Op::Commit {
                id,
                number,
                now,
                archived: self.some(2, |dice| {
                    let sums = Sums { records: dice.below(100), duplicates: dice.below(5), variants: dice.below(2) };
                    (dice.key(), sums)
                }),
                lost: if self.below(4) == 0 { self.some(1, |dice| (dice.key(), dice.loss())) } else { Vec::new() },
                segments: self.some(1, |dice| dice.segment(number)),
                quarantined: self.some(1, |dice| {
                    let content_type = dice.content_type();
                    QuarantineRow { content_type, ..quarantined(&format!("q{}", dice.below(20))) }
                }),
            },
            90..94 => Op::Replace {
                id,
                number,
                now,
                removed: self.some(1, |dice| dice.old_segment(last)),
                added: self.some(1, |dice| dice.segment(number)),
            },
            94..97 => Op::Deleted { id, segments: self.some(3, |dice| dice.old_segment(last)) },
            _ => Op::Fold { id, before: now - days(self.signed(0, 3)) },
        }
    }

    /// Notes what the model said of a call, so that the next numbers are mostly right.
    fn learn(&mut self, op: &Op, answer: &Answer) {
        let which = (0..4).find(|number| tenant(*number) == op.tenant()).unwrap_or(0);
        let last = &mut self.commits[usize::try_from(which).unwrap()];
        match (op, answer) {
            (Op::Commit { number, .. } | Op::Replace { number, .. }, Ok(_)) => *last = *number,
            (Op::Purge { .. }, Ok(_)) => *last = 0,
            _ => {}
        }
    }

    /// The next call, applied to the model.
    fn step(&mut self, model: &mut Model) -> (Op, Answer) {
        let mut op = self.draw();
        // Otherwise hardly any commit would find all it names.
        if let Op::Commit { id, archived, lost, .. } = &mut op
            && self.below(8) > 0
        {
            archived.retain(|(key, _)| model.waits(*id, key));
            archived.dedup_by(|one, other| one.0 == other.0);
            lost.retain(|(key, _)| model.waits(*id, key) && !archived.iter().any(|(other, _)| other == key));
        }
        let answer = model.apply(&op);
        self.learn(&op, &answer);
        (op, answer)
    }
}

/// Calls drawn from a seed, one each time it is asked, refused ones among them; for tests of a back end's own.
pub fn small_history(seed: u64) -> impl for<'l> FnMut(&'l dyn Ledger) -> LedgerFuture<'l, ()> {
    let mut dice = Dice::new(seed);
    let mut model = Model::default();
    let mut first = (0..3).map(tenant);
    move |ledger| {
        let (op, expected) = match first.next() {
            Some(id) => {
                let op = Op::AddTenant { id, label: String::new(), collect_from: noon(), now: noon() };
                let expected = model.apply(&op);
                (op, expected)
            }
            None => dice.step(&mut model),
        };
        Box::pin(async move {
            assert_eq!(op.call(ledger).await, expected, "{op:?}");
            Ok(())
        })
    }
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], context: &str) {
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).collect();
    assert!(found == expected, "{context}\nlacks {missing:#?}\nhas {extra:#?}");
}

pub async fn random_histories_match_the_model(fixture: &dyn Fixture) {
    // One ledger goes through all of them: purging is part of a history.
    let mut model = Model::default();
    for seed in 0..6 {
        let mut dice = Dice::new(seed);
        let mut ledger = fixture.open();
        if seed > 0 {
            for number in 0..3 {
                for op in
                    [Op::SetState { id: tenant(number), state: TenantState::Removed }, Op::Purge { id: tenant(number) }]
                {
                    let answer = model.apply(&op);
                    assert_eq!(op.call(&*ledger).await, answer);
                }
            }
        }
        for number in 0..3 {
            let now = noon();
            let op = Op::AddTenant { id: tenant(number), label: String::new(), collect_from: now, now };
            assert_eq!(op.call(&*ledger).await, model.apply(&op));
        }
        for step in 0..250 {
            let (op, expected) = dice.step(&mut model);
            let context = format!("seed {seed}, step {step}: {op:?}");
            let answer = op.call(&*ledger).await;
            assert_eq!(answer, expected, "{context}");
            if dice.below(40) == 0 {
                ledger = fixture.open();
            }
            if step % 25 == 24 {
                assert_same(&lines(&*ledger).await, &model.lines(), &context);
                pending_is_in_order(&*ledger, &mut dice).await;
            }
        }
    }
}

/// Urgent before the rest, each in its order, nothing that is not due, and no better one left out.
async fn pending_is_in_order(ledger: &dyn Ledger, dice: &mut Dice) {
    let (now, limit) = (dice.now, dice.below(6));
    let soon = now + days(1);
    for number in 0..3 {
        let Ok(all) = ledger.pending(tenant(number), noon() + days(3650), u32::MAX, Vec::new()).await else { continue };
        let in_flight: Vec<i64> = all.iter().map(|pending| pending.row).filter(|_| dice.below(4) == 0).collect();
        let key = |pending: &Pending| {
            let expires = pending.content.expires.timestamp_millis();
            if pending.content.expires <= soon { (0, expires) } else { (1, -expires) }
        };
        let mut expected: Vec<_> = all
            .iter()
            .filter(|pending| pending.next_attempt_at <= now && !in_flight.contains(&pending.row))
            .map(key)
            .collect();
        expected.sort_unstable();
        expected.truncate(usize::try_from(limit).unwrap());
        let found = ledger.pending(tenant(number), now, u32::try_from(limit).unwrap(), in_flight).await.unwrap();
        assert_eq!(found.iter().map(key).collect::<Vec<_>>(), expected);
        let next = all.iter().map(|pending| pending.next_attempt_at).min();
        assert_eq!(ledger.next_attempt_at(tenant(number)).await.unwrap(), next);
    }
}

pub async fn a_call_that_was_dropped_happened_whole_or_not_at_all(fixture: &dyn Fixture) {
    let mut model = Model::default();
    let mut dice = Dice::new(99);
    let ledger = fixture.open();
    for number in 0..3 {
        let now = noon();
        let op = Op::AddTenant { id: tenant(number), label: String::new(), collect_from: now, now };
        assert_eq!(op.call(&*ledger).await, model.apply(&op));
    }
    drop(ledger);
    let (mut happened, mut did_not) = (0, 0);
    for step in 0..120 {
        let before = model.clone();
        let (op, _) = dice.step(&mut model);
        let ledger = fixture.open();
        {
            let mut call = Box::pin(op.call(&*ledger));
            // Some are polled once, some a little longer; then nobody waits for the answer any more.
            for _ in 0..dice.below(4) {
                let polled = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        drop(ledger);
        let found = lines(&*fixture.open()).await;
        if found == model.lines() {
            happened += 1;
        } else {
            assert_same(&found, &before.lines(), &format!("step {step}, neither after nor before {op:?}"));
            model = before;
            dice.commits = [0, 1, 2, 3].map(|number| model_last(&model, number));
            did_not += 1;
        }
    }
    eprintln!("of 120 dropped calls {happened} happened and {did_not} did not");
    assert!(did_not > 0, "nothing was dropped in time, so nothing was tested");
}

fn model_last(model: &Model, number: u64) -> u64 {
    model.last_commit(tenant(number))
}
