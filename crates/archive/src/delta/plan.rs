//! Which entries bring a table to what the ledger shows. Pure.
//!
//! Guarantees: after each entry the table holds each of its records once; `dataChange` is false only where the records of the
//! files that go are those of the files that come, so that whoever follows the table reads each record once too.

use std::collections::{BTreeMap, BTreeSet};

use super::Publication;
use super::action::{self, Action, Add, Metadata, READER_VERSION, Txn, WRITER_VERSION};
use super::facts::{Facts, Origin};
use super::table::Table;
use crate::segment::Segment;

/// What is to be in the table, by its path there.
#[derive(Default)]
pub(super) struct Given {
    /// What the ledger shows, with what its file says where the table does not know it.
    pub(super) visible: BTreeMap<String, (Segment, Option<Facts>)>,
    /// What is not visible any more and was never in the table.
    pub(super) replaced: BTreeMap<String, (Segment, Facts)>,
}

/// One entry of the log.
pub(super) struct Entry {
    pub(super) actions: Vec<Action>,
}

/// The entries in order: new records; the same records in other files; what has gone. None when the table is what it is to
/// be.
pub(super) fn plan(table: &Table, given: &Given, publication: &Publication, rebuild: bool) -> Vec<Entry> {
    let mut plan = Plan { table, publication, now: action::milliseconds(publication.now), entries: Vec::new() };
    if rebuild || table.version().is_none() {
        plan.begin(given, rebuild);
        return plan.entries;
    }
    let new = given.visible.iter().filter_map(|(path, (segment, facts))| Some((path, segment, facts.as_ref()?)));
    // One that may be a merge is left out: its records come with those of the merge that replaced it.
    let late = given.replaced.iter().filter(|(_, (segment, facts))| facts.origin(segment) == Origin::Commit);
    let late: Vec<_> = late.map(|(path, (segment, facts))| (path, segment, facts)).collect();
    // Whatever is not to stay, with its date and records.
    let mut dates: BTreeMap<String, Date> = BTreeMap::new();
    for (path, add) in table.files.iter().filter(|(path, _)| !given.visible.contains_key(*path)) {
        dates.entry(add.date.clone().unwrap_or_default()).or_default().remove(path, add.rows);
    }
    for (path, segment, _) in &late {
        dates.entry(date_of(segment)).or_default().remove(path, Some(segment.rows));
    }
    // One that may be a merge may hold records of those: it comes when they go, and not before.
    let (appended, merged): (Vec<_>, Vec<_>) = new.partition(|(_, segment, facts)| match facts.origin(segment) {
        Origin::Commit => true,
        Origin::Merge => false,
        Origin::Unknown => !dates.contains_key(&date_of(segment)),
    });
    let adds = appended.iter().chain(&late).map(|(path, segment, facts)| plan.add(path, segment, facts, true));
    let adds: Vec<Action> = adds.collect();
    for (path, segment, facts) in merged {
        dates.entry(date_of(segment)).or_default().add(path, segment, facts);
    }
    plan.push("WRITE", adds);
    let (same, other): (Vec<_>, Vec<_>) = dates.into_values().partition(Date::is_rearranged);
    let same = same.iter().flat_map(|date| date.actions(&plan)).collect();
    plan.push("OPTIMIZE", same);
    let other = other.iter().flat_map(|date| date.actions(&plan)).collect();
    plan.push("DELETE", other);
    // A column that came later, or another time that is kept.
    if plan.entries.is_empty() && !plan.metadata_agrees() {
        plan.entries.push(Entry { actions: plan.head("SET TBLPROPERTIES") });
    }
    plan.entries
}

struct Plan<'a> {
    table: &'a Table,
    publication: &'a Publication,
    now: i64,
    entries: Vec<Entry>,
}

/// What changes on one date: merges stay within one.
#[derive(Default)]
struct Date<'a> {
    removes: BTreeSet<&'a str>,
    /// Records in them, if all say so.
    rows_removed: Option<u64>,
    adds: Vec<(&'a str, &'a Segment, &'a Facts)>,
    rows_added: u64,
    /// One of them may be no merge.
    is_uncertain: bool,
}

impl<'a> Date<'a> {
    fn remove(&mut self, path: &'a str, rows: Option<u64>) {
        let before = if self.removes.is_empty() { Some(0) } else { self.rows_removed };
        self.rows_removed = before.zip(rows).map(|(before, rows)| before + rows);
        self.removes.insert(path);
    }

    fn add(&mut self, path: &'a str, segment: &'a Segment, facts: &'a Facts) {
        self.rows_added += segment.rows;
        self.is_uncertain |= facts.origin(segment) == Origin::Unknown;
        self.adds.push((path, segment, facts));
    }

    /// Whether the files that come hold the records of those that go, and no other.
    fn is_rearranged(&self) -> bool {
        !self.adds.is_empty() && !self.is_uncertain && self.rows_removed == Some(self.rows_added)
    }

    fn actions(&self, plan: &Plan<'_>) -> Vec<Action> {
        // More than has gone, or who knows: a merge of records that were never published. Less: retention took the rest.
        let adds_records = self.is_uncertain || self.rows_removed.is_none_or(|rows| rows < self.rows_added);
        let adds = self.adds.iter().map(|(path, segment, facts)| plan.add(path, segment, facts, adds_records));
        let data_change = !self.is_rearranged();
        let removes = self.removes.iter().map(|path| plan.remove(path, data_change));
        adds.chain(removes).collect()
    }
}

impl Plan<'_> {
    /// Everything anew. `rebuild` is of a table that is there.
    fn begin(&mut self, given: &Given, rebuild: bool) {
        if given.visible.is_empty() && !rebuild {
            return;
        }
        let operation = if rebuild { "RESTORE" } else { "CREATE TABLE AS SELECT" };
        let mut actions = vec![
            Action::Info { operation, at: self.now },
            Action::Protocol { reader: READER_VERSION, writer: WRITER_VERSION },
            Action::Metadata(self.metadata()),
            Action::Txn(self.txn()),
        ];
        for (path, (segment, facts)) in &given.visible {
            let is_new = !self.table.names(path, segment.bytes);
            let facts = facts.clone().unwrap_or_else(|| Facts::of_row(segment));
            actions.push(self.add(path, segment, &facts, is_new));
        }
        let gone = self.table.files.keys().filter(|path| !given.visible.contains_key(*path));
        actions.extend(gone.map(|path| self.remove(path, true)));
        self.entries.push(Entry { actions });
    }

    fn push(&mut self, operation: &'static str, actions: Vec<Action>) {
        if !actions.is_empty() {
            let mut all = self.head(operation);
            all.extend(actions);
            self.entries.push(Entry { actions: all });
        }
    }

    /// How an entry begins.
    fn head(&self, operation: &'static str) -> Vec<Action> {
        let mut actions = vec![Action::Info { operation, at: self.now }, Action::Txn(self.txn())];
        if self.entries.is_empty() && !self.metadata_agrees() {
            actions.push(Action::Metadata(self.metadata()));
        }
        actions
    }

    fn add(&self, path: &str, segment: &Segment, facts: &Facts, data_change: bool) -> Action {
        let add = Add {
            date: Some(date_of(segment)),
            bytes: segment.bytes,
            modified: self.now,
            data_change,
            rows: Some(segment.rows),
            stats: Some(facts.stats.clone()),
        };
        Action::Add { path: path.to_owned(), add }
    }

    fn remove(&self, path: &str, data_change: bool) -> Action {
        Action::Remove { path: path.to_owned(), at: self.now, data_change }
    }

    fn txn(&self) -> Txn {
        let Publication { publisher, last_commit, .. } = self.publication;
        Txn {
            publisher: publisher.clone(),
            version: i64::try_from(*last_commit).unwrap_or(i64::MAX),
            at: Some(self.now),
        }
    }

    fn metadata(&self) -> Metadata {
        let Publication { publisher, kept, now, .. } = self.publication;
        let metadata = Metadata::of(self.table.tenant(), publisher, *kept, *now);
        let created = self.table.metadata.as_ref().and_then(|there| there.created);
        Metadata { created: created.or(metadata.created), ..metadata }
    }

    fn metadata_agrees(&self) -> bool {
        self.table.metadata.as_ref().is_some_and(|there| there.agrees_with(&self.metadata()))
    }
}

fn date_of(segment: &Segment) -> String {
    segment.date.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Commits and merges as a ledger has them, with the table that follows.
    struct Life {
        table: Table,
        visible: Vec<Segment>,
        replaced: Vec<Segment>,
        /// Merges and the commits of their records.
        merged: BTreeMap<u64, u64>,
        /// Commits whose files do not say what they are.
        unreadable: BTreeSet<u64>,
        last_commit: u64,
    }

    fn segment(date: &str, commit: u64, rows: u64) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: date.parse().unwrap(),
            commit,
            part: 0,
            rows,
            bytes: 1000 + rows,
            second_min: None,
            second_max: None,
            untimed_rows: rows,
            digest: [0; 32],
        }
    }

    impl Life {
        fn new() -> Self {
            let table = Table::new(segment("2026-03-04", 1, 1).tenant);
            let (merged, unreadable) = (BTreeMap::new(), BTreeSet::new());
            Self { table, visible: Vec::new(), replaced: Vec::new(), merged, unreadable, last_commit: 0 }
        }

        fn commit(&mut self, dates: &[(&str, u64)]) {
            self.last_commit += 1;
            self.visible.extend(dates.iter().map(|(date, rows)| segment(date, self.last_commit, *rows)));
        }

        fn merge(&mut self, date: &str) {
            self.last_commit += 1;
            let rows = self.expire(date);
            self.visible.push(segment(date, self.last_commit, rows));
            self.merged.insert(self.last_commit, self.last_commit - 1);
        }

        fn expire(&mut self, date: &str) -> u64 {
            let date = date.parse().unwrap();
            let (gone, stay): (Vec<_>, Vec<_>) = self.visible.drain(..).partition(|segment| segment.date == date);
            self.visible = stay;
            let rows = gone.iter().map(|segment| segment.rows).sum();
            self.replaced.extend(gone);
            rows
        }

        fn facts(&self, segment: &Segment) -> Facts {
            if self.unreadable.contains(&segment.commit) {
                return Facts::of_row(segment);
            }
            let newest = self.merged.get(&segment.commit).copied().unwrap_or(segment.commit);
            Facts { newest_commit: Some(newest), ..Facts::of_row(segment) }
        }

        fn publish(&mut self, rebuild: bool) -> Vec<String> {
            let publication = Publication {
                publisher: "ledger".to_owned(),
                last_commit: self.last_commit,
                visible: self.visible.clone(),
                replaced: self.replaced.clone(),
                now: protocol::time::parse_timestamp("2026-03-04T05:06:07Z").unwrap(),
                kept: Duration::from_secs(3600),
                rebuild,
            };
            let mut given = Given::default();
            let position = self.table.position().filter(|_| !rebuild);
            for segment in &self.visible {
                let path = segment.path_in_table();
                let is_new = rebuild || !self.table.names(&path, segment.bytes);
                given.visible.insert(path, (segment.clone(), is_new.then(|| self.facts(segment))));
            }
            for segment in self.replaced.iter().filter(|segment| position.is_some_and(|at| segment.commit > at)) {
                let path = segment.path_in_table();
                if !self.table.may_be_read(&path, i64::MIN) {
                    given.replaced.insert(path, (segment.clone(), self.facts(segment)));
                }
            }
            let entries = plan(&self.table, &given, &publication, rebuild);
            for entry in &entries {
                self.table.apply(self.table.next_version(), &entry.actions);
                assert_eq!(self.table.position(), Some(self.last_commit));
            }
            let names: Vec<_> = self.table.files.keys().cloned().collect();
            let mut visible: Vec<_> = self.visible.iter().map(Segment::path_in_table).collect();
            visible.sort();
            assert_eq!(names, visible, "the table is what the ledger shows");
            entries.iter().map(|entry| told(&entry.actions)).collect()
        }
    }

    /// `+` and `-` with a file's commit; in brackets where the data does not change.
    fn told(actions: &[Action]) -> String {
        let number = |path: &str| path.rsplit('/').next().unwrap().split('-').next().unwrap().to_owned();
        let mark = |sign: &str, path: &str, data_change: bool| {
            if data_change { format!("{sign}{}", number(path)) } else { format!("({sign}{})", number(path)) }
        };
        let told = actions.iter().filter_map(|action| match action {
            Action::Info { operation, .. } => Some((*operation).to_owned()),
            Action::Add { path, add } => Some(mark("+", path, add.data_change)),
            Action::Remove { path, data_change, .. } => Some(mark("-", path, *data_change)),
            _ => None,
        });
        told.collect::<Vec<_>>().join(" ")
    }

    const DAY: &str = "2026-03-04";
    const NEXT: &str = "2026-03-05";

    #[test]
    fn commits_are_added_and_publishing_twice_writes_nothing() {
        let mut life = Life::new();
        assert_eq!(life.publish(false), Vec::<String>::new(), "there is nothing to have a table of");
        life.commit(&[(DAY, 3), (NEXT, 1)]);
        assert_eq!(life.publish(false), ["CREATE TABLE AS SELECT +1 +1"]);
        assert_eq!(life.publish(false), Vec::<String>::new());
        life.commit(&[(DAY, 3)]);
        life.commit(&[(NEXT, 3)]);
        assert_eq!(life.publish(false), ["WRITE +2 +3"]);
        life.commit(&[]);
        assert_eq!(life.publish(false), Vec::<String>::new(), "a commit without a segment");
    }

    #[test]
    fn a_merge_changes_no_data() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.commit(&[(DAY, 4)]);
        life.publish(false);
        life.merge(DAY);
        assert_eq!(life.publish(false), ["OPTIMIZE (+3) (-1) (-2)"]);
        life.commit(&[(DAY, 4)]);
        life.publish(false);
        assert_eq!(life.publish(false), Vec::<String>::new());
    }

    #[test]
    fn what_was_merged_before_it_was_published_is_published_first() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.publish(false);
        life.commit(&[(DAY, 4), (NEXT, 1)]);
        life.merge(DAY);
        life.commit(&[(DAY, 5)]);
        life.merge(DAY);
        assert_eq!(life.publish(false), ["WRITE +2 +2 +4", "OPTIMIZE (+5) (-1) (-2) (-4)"]);
        assert_eq!(life.publish(false), Vec::<String>::new());
    }

    #[test]
    fn what_was_merged_and_whose_file_is_gone_comes_with_its_merge_as_new_data() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.publish(false);
        life.commit(&[(DAY, 4)]);
        life.merge(DAY);
        life.replaced.clear();
        assert_eq!(life.publish(false), ["DELETE +3 -1"]);
    }

    #[test]
    fn retention_removes_data_and_a_merge_beside_it_does_not() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3), (NEXT, 1)]);
        life.commit(&[(NEXT, 3)]);
        life.publish(false);
        life.expire(DAY);
        life.merge(NEXT);
        assert_eq!(life.publish(false), ["OPTIMIZE (+3) (-1) (-2)", "DELETE -1"]);
    }

    #[test]
    fn a_date_that_was_merged_and_shortened_at_once_adds_no_record_twice() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.commit(&[(DAY, 4)]);
        life.publish(false);
        // One of them goes, the other is written anew.
        let gone = life.visible.remove(0);
        life.replaced.push(gone);
        life.merge(DAY);
        assert_eq!(life.publish(false), ["DELETE (+3) -1 -2"]);
    }

    #[test]
    fn a_file_that_may_be_a_merge_comes_in_one_entry_with_what_its_date_lets_go_of() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.commit(&[(DAY, 4)]);
        life.publish(false);
        life.merge(DAY);
        // Where nothing goes, it is new.
        life.commit(&[(NEXT, 1)]);
        life.unreadable.extend([3, 4]);
        assert_eq!(life.publish(false), ["WRITE +4", "DELETE +3 -1 -2"]);
    }

    #[test]
    fn a_file_that_may_be_a_merge_and_was_never_in_the_table_does_not_come_any_more() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.publish(false);
        life.commit(&[(DAY, 4)]);
        life.merge(DAY);
        life.commit(&[(DAY, 1)]);
        life.merge(DAY);
        life.unreadable.extend([3]);
        assert_eq!(life.publish(false), ["WRITE +2 +4", "OPTIMIZE (+5) (-1) (-2) (-4)"]);
    }

    #[test]
    fn a_rebuilt_table_says_again_what_is_there_and_takes_away_what_is_not() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.commit(&[(NEXT, 4)]);
        life.publish(false);
        life.expire(DAY);
        life.commit(&[(NEXT, 1)]);
        assert_eq!(life.publish(true), ["RESTORE (+2) +3 -1"]);
        assert_eq!(life.publish(false), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_another_size_under_a_name_that_is_known_is_added_anew() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.publish(false);
        life.visible[0].bytes += 1;
        assert_eq!(life.publish(false), ["WRITE +1"]);
    }

    #[test]
    fn a_column_that_came_later_is_told_with_the_next_entry() {
        let mut life = Life::new();
        life.commit(&[(DAY, 3)]);
        life.publish(false);
        life.table.metadata.as_mut().unwrap().schema.push(' ');
        assert_eq!(life.publish(false), ["SET TBLPROPERTIES"]);
        assert_eq!(life.publish(false), Vec::<String>::new());
        life.table.metadata.as_mut().unwrap().schema.push(' ');
        life.commit(&[(DAY, 3)]);
        assert_eq!(life.publish(false), ["WRITE +2"]);
        assert_eq!(life.publish(false), Vec::<String>::new());
    }
}
