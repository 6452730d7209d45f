//! Whether a record is already in the archive: asked of the visible segments and of nothing else.
//!
//! What an unfinished or dropped commit left behind is never looked at; taking it for stored would lose the record.
//! One lookup belongs to one commit, during which the visible segments do not change.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use chrono::NaiveDate;

use crate::keys::RecordKey;
use crate::segment::{Segment, SegmentSet};
use crate::sidecar::{self, Found, Head};
use crate::verify::{self, Damage};
use crate::{Archive, ArchiveError};

/// Sidecar files kept open by one commit.
const OPEN_FILES: usize = 64;

/// The lookup of one commit.
pub(crate) struct Lookup {
    archive: Archive,
    visible: Arc<SegmentSet>,
    asked: HashMap<Place, Vec<Asked>>,
    held_bytes: usize,
    open_files: usize,
    damaged: Vec<Damage>,
}

/// Where a repeat of a record can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Date(NaiveDate),
    Untimed,
}

/// A visible segment and what is held of it.
struct Asked {
    segment: Segment,
    state: State,
}

enum State {
    Closed,
    Open {
        head: Arc<Head>,
        file: Option<File>,
    },
    /// Neither sidecar nor segment can be read: it holds nothing we could call stored.
    Damaged,
}

impl Lookup {
    pub(crate) fn new(archive: Archive, visible: Arc<SegmentSet>) -> Self {
        Self { archive, visible, asked: HashMap::new(), held_bytes: 0, open_files: 0, damaged: Vec::new() }
    }

    /// What the visible segments know of a record of this date; `second` is `None` for a record without readable time,
    /// which may have come before under any date.
    pub(crate) fn find(
        &mut self,
        date: NaiveDate,
        second: Option<i64>,
        key: &RecordKey,
    ) -> Result<Found, ArchiveError> {
        self.let_go_beyond_limits();
        let place = if second.is_some() { Place::Date(date) } else { Place::Untimed };
        let visible = &self.visible;
        let asked = self.asked.entry(place).or_insert_with(|| {
            let segments = match place {
                Place::Date(date) => visible.on_date(date),
                Place::Untimed => visible.with_untimed_rows(),
            };
            segments.iter().map(|segment| Asked { segment: segment.clone(), state: State::Closed }).collect()
        });
        let mut found = Found::No;
        for asked in asked {
            if second.is_some_and(|second| !asked.segment.covers(second)) {
                continue;
            }
            let before = asked.held();
            let answer = asked.find(&self.archive, key, &mut self.damaged);
            let after = asked.held();
            self.held_bytes = (self.held_bytes + after.0).saturating_sub(before.0);
            self.open_files = (self.open_files + after.1).saturating_sub(before.1);
            match answer? {
                Found::Same => return Ok(Found::Same),
                Found::SameId => found = Found::SameId,
                Found::No => {}
            }
        }
        Ok(found)
    }

    /// Segments that could not be asked, because neither they nor their sidecars can be read.
    pub(crate) fn damaged(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damaged)
    }

    fn let_go_beyond_limits(&mut self) {
        if self.held_bytes <= self.archive.0.sidecars.limit_bytes() && self.open_files <= OPEN_FILES {
            return;
        }
        for asked in self.asked.values_mut().flatten() {
            if matches!(asked.state, State::Open { .. }) {
                asked.state = State::Closed;
            }
        }
        (self.held_bytes, self.open_files) = (0, 0);
    }
}

impl Asked {
    /// Bytes and files held.
    fn held(&self) -> (usize, usize) {
        match &self.state {
            State::Open { head, file } => (head.memory_bytes(), usize::from(file.is_some())),
            State::Closed | State::Damaged => (0, 0),
        }
    }

    fn find(&mut self, archive: &Archive, key: &RecordKey, damaged: &mut Vec<Damage>) -> Result<Found, ArchiveError> {
        // Twice: a block found damaged on the first try is whole after the sidecar has been made again.
        for _ in 0..2 {
            if matches!(self.state, State::Closed) {
                self.open(archive, damaged)?;
            }
            let State::Open { head, file } = &mut self.state else { return Ok(Found::No) };
            if !head.may_hold(key) {
                return Ok(Found::No);
            }
            if file.is_none() {
                *file = match sidecar::open(archive.root(), &self.segment) {
                    Ok(file) => Some(file),
                    Err(_) if fetch_sidecar(archive, &self.segment)? => {
                        sidecar::open(archive.root(), &self.segment).ok()
                    }
                    Err(_) => None,
                };
            }
            if let Some(Ok(found)) = file.as_ref().map(|file| head.search(file, key)) {
                return Ok(found);
            }
            self.make_again(archive, damaged)?;
        }
        let path = sidecar::path(archive.root(), &self.segment);
        let problem = "it was just made again and is damaged again: check the disk".to_owned();
        Err(ArchiveError::Damaged { path, problem })
    }

    fn open(&mut self, archive: &Archive, damaged: &mut Vec<Damage>) -> Result<(), ArchiveError> {
        let cache = &archive.0.sidecars;
        if let Some(head) = cache.find(&self.segment) {
            self.state = State::Open { head, file: None };
            return Ok(());
        }
        let mut loaded = sidecar::load(archive.root(), &self.segment);
        if loaded.is_err() && fetch_sidecar(archive, &self.segment)? {
            loaded = sidecar::load(archive.root(), &self.segment);
        }
        let Ok((head, file)) = loaded else { return self.make_again(archive, damaged) };
        let head = Arc::new(head);
        cache.keep(&self.segment, &head);
        self.state = State::Open { head, file: Some(file) };
        Ok(())
    }

    /// Makes the sidecar again from the segment's own rows.
    fn make_again(&mut self, archive: &Archive, damaged: &mut Vec<Damage>) -> Result<(), ArchiveError> {
        let cache = &archive.0.sidecars;
        cache.forget(&self.segment);
        match verify::read_keys(archive, &self.segment) {
            Ok(mut keys) => {
                let head = Arc::new(sidecar::write(archive.root(), &self.segment, &mut keys)?);
                cache.keep(&self.segment, &head);
                self.state = State::Open { head, file: None };
            }
            // Its records cannot be read, so a repeat of one of them is stored again rather than taken for stored.
            Err(ArchiveError::Damaged { path, problem }) => {
                tracing::error!(path = %path.display(), problem, "damaged segment left out of dedup");
                damaged.push(Damage { segment: self.segment.clone(), path, problem });
                self.state = State::Damaged;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Fetches the sidecar of a remote archive's segment, if it is kept there.
fn fetch_sidecar(archive: &Archive, segment: &Segment) -> Result<bool, ArchiveError> {
    let Some(workspace) = archive.workspace() else { return Ok(false) };
    workspace.fetch_beside(segment, &sidecar::name(segment), &sidecar::path(archive.root(), segment))
}
