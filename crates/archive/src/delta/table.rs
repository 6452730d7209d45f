//! One tenant's table as its log has it: what a reader would see, without the statistics.
//!
//! Never reads the archive's files, and never guesses: a log that does not add up is damaged, and said to be.

use std::collections::BTreeMap;

use protocol::ids::TenantId;

use super::action::{self, Action, Add, Metadata, READER_VERSION, Txn, WRITER_VERSION};
use super::checkpoint;
use super::log::{Log, Name};
use crate::ArchiveError;
use crate::segment::Segment;

/// A tenant's table. What it was when it was opened: whoever publishes afterwards makes it old, and a publication that is
/// based on it is then refused.
#[derive(Debug, Clone)]
pub struct Table {
    tenant: TenantId,
    version: Option<u64>,
    checkpoint: Option<u64>,
    pub(super) metadata: Option<Metadata>,
    pub(super) txn: Option<Txn>,
    pub(super) files: BTreeMap<String, Add>,
    /// Files it has let go of, with the time in milliseconds.
    pub(super) gone: BTreeMap<String, i64>,
    /// Why the log cannot be relied on.
    damage: Option<String>,
    /// So many tenants had been purged before it was opened.
    purges: u64,
    /// Its last entry may be there and not last, if a crash came just then.
    is_unsettled: bool,
}

impl Table {
    /// One that is not there yet.
    pub(super) fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            version: None,
            checkpoint: None,
            metadata: None,
            txn: None,
            files: BTreeMap::new(),
            gone: BTreeMap::new(),
            damage: None,
            purges: 0,
            is_unsettled: false,
        }
    }

    pub(super) fn seen_after(self, purges: u64) -> Self {
        Self { purges, ..self }
    }

    /// Whether no tenant was purged since it was opened.
    pub(super) fn is_seen_after(&self, purges: u64) -> bool {
        self.purges == purges
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Its version; `None` when it has none yet.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The commit of the ledger that it was published for.
    pub fn position(&self) -> Option<u64> {
        self.txn.as_ref().and_then(|txn| u64::try_from(txn.version).ok())
    }

    /// How many files it names.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// What is wrong with its log, as a sentence's fragment; the next publication writes it anew.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// How many of the visible segments it lacks, and how many other files it names.
    pub fn differs_from(&self, visible: &[Segment]) -> u64 {
        let named = visible.iter().filter(|segment| self.names(&segment.path_in_table(), segment.bytes)).count();
        (visible.len() - named + self.files.len().saturating_sub(named)) as u64
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// Whether somebody else was the last to publish it.
    pub(super) fn is_of_another(&self, publisher: &str) -> bool {
        self.txn.as_ref().is_some_and(|txn| txn.publisher != publisher)
    }

    /// Makes its log last, unless that was done.
    pub(super) fn settle(&mut self, log: &Log<'_>) -> Result<(), ArchiveError> {
        if self.is_unsettled {
            log.settle()?;
        }
        self.is_unsettled = false;
        Ok(())
    }

    pub(super) fn next_version(&self) -> u64 {
        self.version.map_or(0, |version| version + 1)
    }

    pub(super) fn entries_since_checkpoint(&self) -> u64 {
        self.next_version() - self.checkpoint.map_or(0, |version| version + 1)
    }

    /// The state of a table that was written down anew, to be made a checkpoint: of what was before, only the names of files
    /// let go.
    pub(super) fn begun_anew(&self, actions: &[Action]) -> Self {
        let mut whole = Self { gone: self.gone.clone(), ..Self::new(self.tenant) };
        whole.apply_whole(self.version.unwrap_or_default(), actions);
        whole
    }

    /// It was written down anew: what was wrong with its log does not count any more.
    pub(super) fn mended(&mut self) {
        self.damage = None;
    }

    pub(super) fn checkpointed(&mut self, version: u64) {
        self.checkpoint = Some(version);
    }

    /// Whether it names this file, of this size.
    pub(super) fn names(&self, path: &str, bytes: u64) -> bool {
        self.files.get(path).is_some_and(|add| add.bytes == bytes)
    }

    /// Whether it names this file, or has let go of it after `since`.
    pub(super) fn may_be_read(&self, path: &str, since: i64) -> bool {
        self.files.contains_key(path) || self.gone.get(path).is_some_and(|at| *at > since)
    }

    /// Lets go of the names of files that went before `since`.
    pub(super) fn forget_before(&mut self, since: i64) {
        self.gone.retain(|_, at| *at > since);
    }

    /// What an entry, or a checkpoint, makes of it. The statistics are most of it, and in the log: they are left out.
    pub(super) fn apply(&mut self, version: u64, actions: &[Action]) {
        self.apply_whole(version, actions);
        for action in actions {
            if let Action::Add { path, .. } = action
                && let Some(add) = self.files.get_mut(path)
            {
                add.stats = None;
            }
        }
    }

    /// The same with the statistics, as for a checkpoint.
    pub(super) fn apply_whole(&mut self, version: u64, actions: &[Action]) {
        self.version = Some(version);
        for action in actions {
            match action {
                Action::Metadata(metadata) => self.metadata = Some(metadata.clone()),
                // Of other publishers we keep nothing.
                Action::Txn(txn) => self.txn = Some(txn.clone()),
                Action::Add { path, add } => {
                    self.gone.remove(path);
                    self.files.insert(path.clone(), add.clone());
                }
                Action::Remove { path, at, .. } => {
                    self.files.remove(path);
                    self.gone.insert(path.clone(), *at);
                }
                Action::Protocol { reader, writer } => {
                    if (*reader, *writer) != (READER_VERSION, WRITER_VERSION) {
                        self.damage = Some(format!("another program has made it one of protocol {reader}, {writer}"));
                    }
                }
                Action::Info { .. } => {}
            }
        }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        // A name of 32 characters, a date of 10, and what a map's nodes take beside them.
        512 + 220 * self.files.len() + 100 * self.gone.len()
    }
}

/// The table as its log has it, from the last checkpoint on.
pub(super) fn load(log: &Log<'_>) -> Result<Table, ArchiveError> {
    load_with(log, |table, version, actions| table.apply(version, &actions))
}

/// The same with the statistics.
pub(super) fn load_whole(log: &Log<'_>) -> Result<Table, ArchiveError> {
    load_with(log, |table, version, actions| table.apply_whole(version, &actions))
}

fn load_with(log: &Log<'_>, mut take: impl FnMut(&mut Table, u64, Vec<Action>)) -> Result<Table, ArchiveError> {
    let names = log.names()?;
    let entries: Vec<u64> = names.iter().filter_map(|name| name.entry()).collect();
    let checkpoints = names.iter().filter_map(|name| name.checkpoint());
    let mut table = Table::new(log.tenant());
    let Some(last) = entries.last().copied() else {
        // A log is removed as a whole, from its beginning: whatever else is there is of no use.
        if let Some(last) = checkpoints.max() {
            table.version = Some(last);
            table.damage = Some("its last entries are missing".to_owned());
        }
        return Ok(table);
    };
    let checkpoint = checkpoints.filter(|version| *version <= last).max();
    let mut damage = None;
    if let Some(version) = checkpoint {
        match checkpoint::read(log, version)? {
            Ok(actions) => take(&mut table, version, actions),
            Err(problem) => damage = Some(format!("checkpoint {version}: {problem}")),
        }
        table.checkpointed(version);
    }
    for version in checkpoint.map_or(0, |version| version + 1)..=last {
        if damage.is_some() {
            break;
        }
        match log.read(&Name::of_entry(version))?.map(|text| action::parse(&text)) {
            Some(Ok(actions)) => take(&mut table, version, actions),
            Some(Err(problem)) => damage = Some(format!("entry {version}: {problem}")),
            None => damage = Some(format!("entry {version} is missing")),
        }
    }
    table.version = Some(last);
    table.damage = damage.or(table.damage);
    table.is_unsettled = true;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap()
    }

    fn entry(lines: &str) -> Vec<Action> {
        action::parse(lines.as_bytes()).unwrap()
    }

    #[test]
    fn the_newest_reference_to_a_file_wins_as_in_the_specification() {
        // PROTOCOL.md, "Log Compaction Files": entries 4 to 6 and what they come to.
        let add =
            |path: &str| format!(r#"{{"add":{{"path":"{path}","partitionValues":{{}},"size":1,"dataChange":true}}}}"#);
        let remove =
            |path: &str| format!(r#"{{"remove":{{"path":"{path}","deletionTimestamp":5,"dataChange":true}}}}"#);
        let txn = |version: u32| {
            format!(r#"{{"txn":{{"appId":"3ae45b72-24e1-865a-a211-34987ae02f2a","version":{version}}}}}"#)
        };
        let mut table = Table::new(tenant());
        table.apply(4, &entry(&[add("f2"), remove("f1")].join("\n")));
        table.apply(5, &entry(&[add("f3"), add("f4"), txn(4389)].join("\n")));
        table.apply(6, &entry(&[remove("f3"), txn(4390)].join("\n")));
        assert_eq!(table.files.keys().collect::<Vec<_>>(), ["f2", "f4"]);
        assert_eq!(table.gone.keys().collect::<Vec<_>>(), ["f1", "f3"]);
        assert_eq!((table.version(), table.position()), (Some(6), Some(4390)));
        table.forget_before(5);
        assert!(table.gone.is_empty());
    }

    #[test]
    fn a_file_is_wanted_while_it_is_named_and_as_long_after_as_was_said() {
        let mut table = Table::new(tenant());
        table.apply(0, &entry(r#"{"add":{"path":"a","partitionValues":{},"size":7,"dataChange":true}}"#));
        assert!(table.names("a", 7) && !table.names("a", 8) && table.may_be_read("a", i64::MAX));
        table.apply(1, &entry(r#"{"remove":{"path":"a","deletionTimestamp":100,"dataChange":false}}"#));
        assert!(!table.names("a", 7) && table.may_be_read("a", 99) && !table.may_be_read("a", 100));
    }

    #[test]
    fn a_table_that_was_raised_to_another_protocol_is_not_ours_to_write() {
        let mut table = Table::new(tenant());
        table.apply(0, &entry(r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#));
        assert_eq!(table.damage(), None);
        table.apply(1, &entry(r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7}}"#));
        assert_eq!(table.damage(), Some("another program has made it one of protocol 3, 7"));
    }
}
