//! The ledger's rules, told as simply as they can be: maps in memory, everything counted anew each time it is asked for.
//!
//! Never shares code with a back end. Where the engine decides (what tiles prove, what is settled), so does it here.

use std::collections::BTreeMap;

use engine::coverage::Evidence;
use engine::lease::Epoch;
use engine::model::{
    CommitNumber, Coverage, Gap, LossKind, LostContent, Pending, QuarantineRow, SegmentRow, Subscription, Tenant,
    TenantState, Tile,
};
use engine::tile::Grid;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::op::Op;

/// What a ledger holds.
#[derive(Clone, Default)]
pub(super) struct Model {
    greatest: u64,
    tenants: BTreeMap<TenantId, ModelTenant>,
    /// The last epoch of those that were purged.
    purged: BTreeMap<TenantId, u64>,
}

#[derive(Clone)]
pub(super) struct ModelTenant {
    pub(super) tenant: Tenant,
    pub(super) feeds: BTreeMap<ContentType, Feed>,
    pub(super) segments: BTreeMap<(String, u64, u64), (SegmentRow, Option<Timestamp>)>,
    pub(super) quarantine: BTreeMap<String, QuarantineRow>,
}

#[derive(Clone)]
pub(super) struct Feed {
    pub(super) subscription: Subscription,
    pub(super) first_seen_at: Timestamp,
    pub(super) began: Option<Timestamp>,
    pub(super) settled_through: Option<Timestamp>,
    pub(super) gaps: Vec<Gap>,
    pub(super) tiles: BTreeMap<Timestamp, Tile>,
    pub(super) contents: BTreeMap<String, Content>,
    pub(super) failures: u64,
    pub(super) folded: u64,
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) variants: u64,
}

#[derive(Clone)]
pub(super) struct Content {
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) state: State,
}

#[derive(Clone)]
pub(super) enum State {
    Waits { uri: String, seen_at: Timestamp, attempts: u32, next: Timestamp, failure: Option<(u64, String)> },
    Archived,
    Lost { kind: LossKind, message: String, uri: String, at: Timestamp },
}

impl Feed {
    fn new(content_type: &ContentType, now: Timestamp) -> Self {
        Self {
            subscription: Subscription {
                content_type: content_type.clone(),
                enabled: None,
                listed_at: None,
                start_requested_at: None,
                problem: None,
            },
            first_seen_at: now,
            began: None,
            settled_through: None,
            gaps: Vec::new(),
            tiles: BTreeMap::new(),
            contents: BTreeMap::new(),
            failures: 0,
            folded: 0,
            records: 0,
            duplicates: 0,
            variants: 0,
        }
    }

    pub(super) fn evidence<'t>(&self, collect_from: Timestamp, tiles: &'t [Tile]) -> Evidence<'t> {
        let mut evidence = Evidence {
            collect_from,
            first_seen_at: self.first_seen_at,
            began: self.began,
            settled_through: self.settled_through,
            tiles,
            oldest_unarchived: None,
        };
        let from = evidence.from();
        let waiting = self.contents.values().filter(|content| matches!(content.state, State::Waits { .. }));
        evidence.oldest_unarchived = waiting.map(|content| content.created).filter(|created| *created >= from).min();
        evidence
    }

    pub(super) fn tiles(&self) -> Vec<Tile> {
        self.tiles.values().cloned().collect()
    }
}

fn waiting(state: &State) -> Option<(u32, Option<&(u64, String)>)> {
    match state {
        State::Waits { attempts, failure, .. } => Some((*attempts, failure.as_ref())),
        State::Archived | State::Lost { .. } => None,
    }
}

impl ModelTenant {
    pub(super) fn feed(&mut self, content_type: &ContentType, now: Timestamp) -> &mut Feed {
        self.feeds.entry(content_type.clone()).or_insert_with(|| Feed::new(content_type, now))
    }

    pub(super) fn waits(&self, key: &(ContentType, String)) -> bool {
        let content = self.feeds.get(&key.0).and_then(|feed| feed.contents.get(&key.1));
        content.is_some_and(|content| waiting(&content.state).is_some())
    }

    pub(super) fn end(&mut self, key: &(ContentType, String), state: State) {
        let content = self.feeds.get_mut(&key.0).and_then(|feed| feed.contents.get_mut(&key.1));
        content.unwrap().state = state;
    }

    pub(super) fn uri(&self, key: &(ContentType, String)) -> String {
        match &self.feeds[&key.0].contents[&key.1].state {
            State::Waits { uri, .. } => uri.clone(),
            _ => String::new(),
        }
    }

    fn coverage(&self) -> Vec<Coverage> {
        self.feeds.iter().map(|(content_type, feed)| self.feed_coverage(content_type, feed)).collect()
    }

    fn feed_coverage(&self, content_type: &ContentType, feed: &Feed) -> Coverage {
        let tiles = feed.tiles();
        let evidence = feed.evidence(self.tenant.collect_from, &tiles);
        let assessment = evidence.assess();
        let states: Vec<&State> = feed.contents.values().map(|content| &content.state).collect();
        let count = |wanted: &dyn Fn(&State) -> bool| -> u64 {
            u64::try_from(states.iter().filter(|state| wanted(state)).count()).unwrap()
        };
        let lost = |kind| count(&|state| matches!(state, State::Lost { kind: of, .. } if *of == kind));
        let last = states.iter().filter_map(|state| waiting(state)?.1).max_by_key(|(number, _)| *number);
        let quarantined = self.quarantine.values().filter(|row| row.content_type == *content_type).count();
        Coverage {
            tenant: self.tenant.id,
            content_type: content_type.clone(),
            from: evidence.from(),
            complete_through: assessment.complete_through,
            gaps: merged(feed.gaps.iter().copied().chain(assessment.gaps)),
            archived: feed.folded + count(&|state| matches!(state, State::Archived)),
            pending: count(&|state| waiting(state).is_some()),
            failing: count(&|state| waiting(state).is_some_and(|(attempts, _)| attempts > 0)),
            last_failure: last.map(|(_, message)| message.clone()),
            lost: LossKind::ALL.into_iter().map(|kind| (kind, lost(kind))).filter(|(_, lost)| *lost > 0).collect(),
            records: feed.records,
            duplicates: feed.duplicates,
            variants: feed.variants,
            quarantined: u64::try_from(quarantined).unwrap(),
            problem: self.tenant.problem.clone().or(feed.subscription.problem.clone()),
        }
    }
}

/// What a call says when it is refused: the name of the error.
pub(super) type Answer = Result<String, &'static str>;

impl Model {
    fn changed(&mut self, id: TenantId) {
        self.greatest += 1;
        self.tenants.get_mut(&id).unwrap().tenant.revision = self.greatest;
    }

    /// Does what the call is to do, and says what it is to answer.
    pub(super) fn apply(&mut self, op: &Op) -> Answer {
        // Refused as a whole: the copy is dropped.
        let mut after = self.clone();
        let answer = after.try_apply(op)?;
        *self = after;
        Ok(answer)
    }

    fn try_apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::AddTenant { id, label, collect_from, now } => return Ok(self.add(*id, label, *collect_from, *now)),
            Op::SetState { id, state } => return Ok(self.set_state(*id, *state)),
            Op::Purge { id } => {
                let tenant = self.tenants.get(id).ok_or("UnknownTenant")?;
                if tenant.tenant.state != TenantState::Removed {
                    return Err("NotRemoved");
                }
                self.purged.insert(*id, tenant.tenant.epoch.0);
                self.tenants.remove(id);
                return Ok(done());
            }
            Op::SetProblem { id, content_type: None, problem, .. } => {
                let tenant = self.tenants.get_mut(id).ok_or("UnknownTenant")?;
                if tenant.tenant.problem != *problem {
                    tenant.tenant.problem = problem.clone();
                    self.changed(*id);
                }
                return Ok(done());
            }
            _ => {}
        }
        let tenant = self.tenants.get_mut(&op.tenant()).ok_or("UnknownTenant")?;
        tenant.apply(op)
    }

    fn add(&mut self, id: TenantId, label: &str, collect_from: Timestamp, now: Timestamp) -> String {
        if let Some(there) = self.tenants.get_mut(&id) {
            if there.tenant.state != TenantState::Removed {
                return "false".to_owned();
            }
            there.tenant.state = TenantState::Active;
            if !label.is_empty() {
                there.tenant.label = label.to_owned();
            }
        } else {
            let greatest = self.purged.values().max().copied().unwrap_or_default();
            let epoch = self.purged.get(&id).map_or(0, |through| through + 1).max(greatest);
            let tenant = Tenant {
                id,
                label: label.to_owned(),
                state: TenantState::Active,
                added_at: now,
                collect_from: Grid::HOUR.floor(collect_from),
                last_commit: CommitNumber(0),
                problem: None,
                hold: None,
                epoch: Epoch(epoch),
                revision: 0,
            };
            let empty = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let (feeds, segments, quarantine) = empty;
            self.tenants.insert(id, ModelTenant { tenant, feeds, segments, quarantine });
        }
        self.changed(id);
        "true".to_owned()
    }

    fn set_state(&mut self, id: TenantId, state: TenantState) -> String {
        let Some(there) = self.tenants.get_mut(&id) else { return "false".to_owned() };
        if there.tenant.state != state {
            there.tenant.state = state;
            self.changed(id);
        }
        "true".to_owned()
    }

    /// Everything that can be seen of it, as lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("revision {}", self.greatest)];
        for tenant in self.tenants.values() {
            lines.push(format!("{:?}", tenant.tenant));
            for (content_type, feed) in &tenant.feeds {
                let known = &feed.subscription;
                if known.listed_at.is_some() || known.start_requested_at.is_some() || known.problem.is_some() {
                    lines.push(format!("{known:?}"));
                }
                lines.extend(feed.tiles.values().map(|tile| format!("{content_type} {tile:?}")));
                for (id, content) in &feed.contents {
                    lines.push(content_line(content_type, id, content));
                }
            }
            lines.extend(tenant.coverage().iter().map(|coverage| format!("{coverage:?}")));
            lines.extend(tenant.quarantine.values().map(|row| format!("{row:?}")));
            lines.extend(tenant.segments.values().map(|(segment, since)| format!("{segment:?} {since:?}")));
        }
        lines.sort();
        lines
    }

    /// The number of a tenant's last commit.
    pub(super) fn last_commit(&self, id: TenantId) -> u64 {
        self.tenants.get(&id).map_or(0, |tenant| tenant.tenant.last_commit.0)
    }

    /// Whether a content waits.
    pub(super) fn waits(&self, id: TenantId, key: &(ContentType, String)) -> bool {
        self.tenants.get(&id).is_some_and(|tenant| tenant.waits(key))
    }
}

/// How [`Model::lines`] shows a content that waits.
pub(super) fn pending_line(pending: &Pending) -> String {
    let content = &pending.content;
    format!(
        "{} {} waits {} {} {} {} {} {}",
        content.content_type,
        content.content_id,
        content.content_uri,
        content.created,
        content.expires,
        pending.seen_at,
        pending.attempts,
        pending.next_attempt_at,
    )
}

/// How [`Model::lines`] shows a content that is lost.
pub(super) fn lost_line(lost: &LostContent) -> String {
    let LostContent { content_type, content_id, created, expires, loss, lost_at } = lost;
    format!("{content_type} {content_id} lost {created} {expires} {:?} {} {lost_at}", loss.kind, loss.message)
}

fn content_line(content_type: &ContentType, id: &str, content: &Content) -> String {
    let Content { created, expires, state } = content;
    match state {
        State::Waits { uri, seen_at, attempts, next, .. } => {
            format!("{content_type} {id} waits {uri} {created} {expires} {seen_at} {attempts} {next}")
        }
        State::Archived => format!("{content_type} {id} archived"),
        State::Lost { kind, message, at, .. } => {
            format!("{content_type} {id} lost {created} {expires} {kind:?} {message} {at}")
        }
    }
}

/// Gaps in order, those that touch each other as one.
fn merged(gaps: impl Iterator<Item = Gap>) -> Vec<Gap> {
    let mut all: Vec<Gap> = Vec::new();
    for gap in gaps {
        match all.last_mut() {
            Some(last) if last.until == gap.start => last.until = gap.until,
            _ => all.push(gap),
        }
    }
    all
}

pub(super) fn done() -> String {
    "()".to_owned()
}
