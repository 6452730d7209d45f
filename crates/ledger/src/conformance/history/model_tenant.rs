//! What each call does to one tenant of the model.

use engine::model::{CommitNumber, Listed, LossKind, Problem, RefusedEntry, SegmentRow, Tile};
use protocol::activity::RETENTION;
use protocol::ids::ContentType;
use protocol::time::Timestamp;

use super::model::{Answer, Content, ModelTenant, State, done};
use super::op::{Key, Op};

impl ModelTenant {
    pub(super) fn apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::AddTenant { .. } | Op::SetState { .. } | Op::Purge { .. } => Ok(done()),
            Op::SetProblem { content_type, problem, .. } => {
                Ok(self.set_problem(content_type.as_ref(), problem.as_ref()))
            }
            Op::SubscriptionsListed { listed, now, .. } => {
                for feed in self.feeds.values_mut() {
                    feed.subscription.enabled = Some(false);
                    feed.subscription.listed_at = Some(*now);
                }
                for (content_type, enabled) in listed {
                    let subscription = &mut self.feed(content_type, *now).subscription;
                    subscription.enabled = *enabled;
                    subscription.listed_at = Some(*now);
                }
                Ok(done())
            }
            Op::StartRequested { content_type, now, .. } => {
                self.feed(content_type, *now).subscription.start_requested_at = Some(*now);
                Ok(done())
            }
            Op::ContentsListed { contents, now, .. } => {
                let new = contents.iter().filter(|listed| self.list(listed, *now)).count();
                Ok(new.to_string())
            }
            Op::EntriesRefused { entries, now, .. } => {
                let new = entries.iter().filter(|entry| self.refuse(entry, *now)).count();
                Ok(new.to_string())
            }
            Op::TileListed { content_type, tile, .. } => self.tile(content_type, tile),
            Op::ContentFailed { key, message, next, .. } => self.fail(key, message, *next),
            Op::ContentLost { key, loss, now, .. } => {
                if !self.waits(key) {
                    return Err("NotListed");
                }
                let (uri, message) = (self.uri(key), loss.message.clone());
                self.end(key, State::Lost { kind: loss.kind, message, uri, at: *now });
                Ok(done())
            }
            Op::Commit { number, now, archived, lost, segments, quarantined, .. } => {
                self.take_number(*number)?;
                for (key, sums) in archived {
                    if !self.waits(key) {
                        return Err("NotListed");
                    }
                    self.end(key, State::Archived);
                    let feed = self.feeds.get_mut(&key.0).unwrap();
                    feed.records += sums.records;
                    feed.duplicates += sums.duplicates;
                    feed.variants += sums.variants;
                }
                for (key, loss) in lost {
                    if !self.waits(key) {
                        return Err("NotListed");
                    }
                    let (uri, message) = (self.uri(key), loss.message.clone());
                    self.end(key, State::Lost { kind: loss.kind, message, uri, at: *now });
                }
                self.show(*number, segments)?;
                for row in quarantined {
                    self.feed(&row.content_type, *now);
                    self.quarantine.entry(row.path.clone()).or_insert_with(|| row.clone());
                }
                Ok(done())
            }
            Op::Replace { number, now, removed, added, .. } => {
                self.take_number(*number)?;
                for segment in removed {
                    let found = self.segments.get_mut(&name(segment)).filter(|(_, since)| since.is_none());
                    found.ok_or("SegmentNotVisible")?.1 = Some(*now);
                }
                self.show(*number, added)?;
                Ok(done())
            }
            Op::Deleted { segments, .. } => {
                for segment in segments {
                    let key = name(segment);
                    if self.segments.get(&key).is_some_and(|(_, since)| since.is_some()) {
                        self.segments.remove(&key);
                    }
                }
                Ok(done())
            }
            Op::Fold { before, .. } => Ok(self.fold(*before).to_string()),
        }
    }

    fn set_problem(&mut self, content_type: Option<&ContentType>, problem: Option<&Problem>) -> String {
        if let Some(content_type) = content_type {
            if let Some(feed) = self.feeds.get_mut(content_type) {
                feed.subscription.problem = problem.cloned();
            } else if let Some(problem) = problem {
                self.feed(content_type, problem.since).subscription.problem = Some(problem.clone());
            }
        }
        done()
    }

    fn list(&mut self, listed: &Listed, now: Timestamp) -> bool {
        let new = listed.content_uri.as_str().to_owned();
        let feed = self.feed(&listed.content_type, now);
        let waits = State::Waits { uri: new.clone(), seen_at: now, attempts: 0, next: now, failure: None };
        let Some(content) = feed.contents.get_mut(listed.content_id.as_str()) else {
            let content = Content { created: listed.created, expires: listed.expires, state: waits };
            feed.contents.insert(listed.content_id.as_str().to_owned(), content);
            return true;
        };
        match &mut content.state {
            State::Waits { uri, attempts, next, .. } if *attempts > 0 && *uri != new => {
                *uri = new;
                *next = now.min(*next);
            }
            State::Lost { kind, uri, .. } if now < content.expires => {
                let hope = match kind {
                    LossKind::Missing => true,
                    LossKind::RefusedUrl => *uri != new,
                    LossKind::Expired | LossKind::Unreadable => uri.is_empty(),
                };
                if hope {
                    content.state = waits;
                }
            }
            State::Waits { .. } | State::Archived | State::Lost { .. } => {}
        }
        false
    }

    fn refuse(&mut self, entry: &RefusedEntry, now: Timestamp) -> bool {
        let feed = self.feed(&entry.content_type, now);
        let id = match &entry.content_id {
            Some(id) => id.as_str().to_owned(),
            None => format!("entry {}", blake3::hash(entry.raw.as_bytes())),
        };
        if feed.contents.contains_key(&id) {
            return false;
        }
        let created = entry.created.unwrap_or(now);
        let message = format!("{}: {}", entry.loss.message, entry.raw);
        let state = State::Lost { kind: entry.loss.kind, message, uri: String::new(), at: now };
        feed.contents.insert(id, Content { created, expires: created + RETENTION, state });
        true
    }

    fn tile(&mut self, content_type: &ContentType, tile: &Tile) -> Answer {
        let inside = tile.listed_until.is_none_or(|listed| tile.start <= listed && listed <= tile.until);
        if tile.start >= tile.until || !inside {
            return Err("MalformedTile");
        }
        let feed = self.feed(content_type, tile.listed_at.unwrap_or(tile.start));
        let mut cut = None;
        for other in feed.tiles.values().filter(|other| other.start != tile.start) {
            if other.start < tile.until && tile.start < other.until {
                if other.start > tile.start || other.listed_until.is_some_and(|listed| listed > tile.start) {
                    return Err("OverlappingTile");
                }
                cut = Some(other.start);
            }
        }
        if let Some(cut) = cut {
            feed.tiles.get_mut(&cut).unwrap().until = tile.start;
        }
        feed.tiles.insert(tile.start, tile.clone());
        if feed.settled_through.is_none() {
            feed.began = Some(feed.began.map_or(tile.start, |began| began.min(tile.start)));
        }
        Ok(done())
    }

    fn fail(&mut self, key: &Key, text: &str, at: Timestamp) -> Answer {
        if !self.waits(key) {
            return Err("NotListed");
        }
        let feed = self.feeds.get_mut(&key.0).unwrap();
        feed.failures += 1;
        let number = feed.failures;
        if let State::Waits { attempts, next, failure, .. } = &mut feed.contents.get_mut(&key.1).unwrap().state {
            *attempts += 1;
            *next = at;
            *failure = Some((number, text.to_owned()));
        }
        Ok(done())
    }

    fn take_number(&mut self, number: u64) -> Result<(), &'static str> {
        if number != self.tenant.last_commit.0 + 1 {
            return Err("CommitOutOfOrder");
        }
        self.tenant.last_commit = CommitNumber(number);
        Ok(())
    }

    fn show(&mut self, number: u64, segments: &[SegmentRow]) -> Result<(), &'static str> {
        for segment in segments {
            let new =
                segment.commit.0 == number && self.segments.insert(name(segment), (segment.clone(), None)).is_none();
            if !new {
                return Err("SegmentRefused");
            }
        }
        Ok(())
    }

    fn fold(&mut self, before: Timestamp) -> usize {
        let mut folded = 0;
        for feed in self.feeds.values_mut() {
            let tiles = feed.tiles();
            if let Some(settlement) = feed.evidence(self.tenant.collect_from, &tiles).settle(before) {
                for gap in settlement.gaps {
                    match feed.gaps.last_mut() {
                        Some(last) if last.until == gap.start => last.until = gap.until,
                        _ => feed.gaps.push(gap),
                    }
                }
                for start in settlement.tiles {
                    feed.tiles.remove(&start);
                }
                feed.settled_through = Some(settlement.through);
            }
            let known = feed.contents.len();
            feed.contents.retain(|_, content| !matches!(content.state, State::Archived) || content.expires >= before);
            folded += known - feed.contents.len();
            feed.folded += u64::try_from(known - feed.contents.len()).unwrap();
        }
        folded
    }
}

fn name(segment: &SegmentRow) -> (String, u64, u64) {
    (segment.date.clone(), segment.commit.0, segment.part)
}
