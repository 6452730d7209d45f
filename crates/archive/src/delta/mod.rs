//! The archive as Delta Lake tables, one of each tenant: `tenant={guid}/_delta_log` says which segments a reader is to read.
//!
//! Guarantees: an entry of the log appears whole or not at all and is never replaced; every snapshot names complete files
//! only, and each record once; a file stays for a stated time after the table let go of it. Never the truth: the log is made
//! from the segments that the ledger shows, and can be made again from them at any time.
//!
//! Tables of protocol version (1, 2), which every reader knows: see PROTOCOL.md of delta-io/delta. One table of each tenant,
//! because commits of one tenant have one owner and those of all tenants have none: a common log would make every worker
//! wait for every other, and a checkpoint of it would name the files of all tenants.

mod action;
mod cache;
mod checkpoint;
mod facts;
mod log;
mod plan;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use protocol::ids::TenantId;
use protocol::time::Timestamp;

pub(crate) use self::cache::TableCache;
use self::facts::Facts;
use self::log::Log;
use self::plan::{Entry, Given};
pub use self::table::Table;
use crate::segment::Segment;
use crate::{Archive, ArchiveError};

/// What a publication is to bring the table to.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Names whoever publishes into the log, the same at all times: the ledger's id.
    pub publisher: String,
    /// The last commit whose segments are sure to be among `visible` and `replaced`.
    pub last_commit: u64,
    /// The segments the ledger shows.
    pub visible: Vec<Segment>,
    /// Those that a merge replaced or a retention took away so lately that their files are sure to stay for a while.
    pub replaced: Vec<Segment>,
    /// Now.
    pub now: Timestamp,
    /// How long readers may go on with a snapshot: entries of the log and names of files let go stay this long.
    pub kept: Duration,
    /// Whether to write down everything anew, whatever the log says.
    pub rebuild: bool,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The table is what was given.
    Done {
        /// Its version; `None` for a tenant that has no table, and no segment.
        version: Option<u64>,
        /// Entries of the log that this took; 0 when it was so already.
        entries: usize,
    },
    /// Somebody else has published meanwhile, or something later: open the table and read the ledger again, in this order.
    /// When that does not help, the ledger was restored from an older copy, and [`Publication::rebuild`] does.
    Contested,
}

/// See the file's head. How often a checkpoint is written: after as many entries as a fiftieth of the files, so that an
/// entry costs the writing of fifty lines at most; but readers need not read more than a hundred small files, and fewer than
/// ten are not worth one. An entry that says everything has one at once.
fn checkpoint_every(files: usize) -> u64 {
    (files as u64 / 50).clamp(10, 100)
}

impl Archive {
    /// A tenant's table as its log has it; nothing is read when it was published here a moment ago. To be called before the
    /// ledger is read.
    ///
    /// # Errors
    ///
    /// When the log cannot be read. One that is damaged is no error, and rebuilt when the table is published.
    pub fn table(&self, tenant: TenantId) -> Result<Table, ArchiveError> {
        let purges = self.0.tables.purges();
        let table = match self.0.tables.take(tenant) {
            Some(table) => table,
            None => table::load(&Log::of(self, tenant))?,
        };
        Ok(table.seen_after(purges))
    }

    /// Brings the tenant's table to what the ledger shows. Stopped or failed at any point it leaves the table at what it was
    /// or on the way, each a consistent snapshot, and the next publication goes on.
    ///
    /// # Errors
    ///
    /// When the log cannot be read or written, or a file that comes cannot be read. One that is damaged comes nevertheless:
    /// the ledger shows it.
    pub fn publish(&self, mut table: Table, publication: &Publication) -> Result<Published, ArchiveError> {
        let log = Log::of(self, table.tenant());
        // An entry being written has a temporary name that another of the same version would have too.
        let _turn = self.0.tables.turn(table.tenant());
        if !table.is_seen_after(self.0.tables.purges()) {
            return Ok(Published::Contested);
        }
        let rebuild = publication.rebuild || table.is_damaged() || table.is_of_another(&publication.publisher);
        if !rebuild && table.position().is_some_and(|position| position > publication.last_commit) {
            return Ok(Published::Contested);
        }
        table.settle(&log)?;
        if let Some(problem) = table.damage() {
            tracing::warn!(place = %log.place().display(), problem, "the table's log is damaged and is written anew");
        }
        let is_first = table.version().is_none();
        let given = self.given(&table, publication, rebuild)?;
        let entries = plan::plan(&table, &given, publication, rebuild);
        for Entry { actions } in &entries {
            let version = table.next_version();
            if !log.add(version, &action::lines(actions))? {
                return Ok(Published::Contested);
            }
            table.apply(version, actions);
        }
        let since = action::milliseconds(publication.now).saturating_sub(milliseconds_of(publication.kept));
        if (rebuild || is_first)
            && let Some(Entry { actions }) = entries.first()
        {
            // Nobody can read what lies before it; and it is too long to be read again and again.
            table.mended();
            let whole = table.begun_anew(actions);
            write_checkpoint(&log, &mut table, whole, since)?;
        } else if !entries.is_empty() && table.entries_since_checkpoint() >= checkpoint_every(table.files()) {
            let whole = table::load_whole(&log)?;
            // Unless somebody else is at it: whoever publishes next finds out.
            if !whole.is_damaged() && whole.version() == table.version() {
                write_checkpoint(&log, &mut table, whole, since)?;
            }
        }
        let version = table.version();
        self.0.tables.keep(table);
        Ok(Published::Done { version, entries: entries.len() })
    }

    /// Of segments that were replaced or taken away, those whose files no reader of the table can want any more: it does not
    /// name them, and has let go of them `kept` ago, or never named them.
    /// Of a table whose log is damaged, none are.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn not_wanted(
        &self,
        tenant: TenantId,
        mut replaced: Vec<Segment>,
        now: Timestamp,
        kept: Duration,
    ) -> Result<Vec<Segment>, ArchiveError> {
        let mut table = self.table(tenant)?;
        // What it has let go of must not come back after the files have gone.
        table.settle(&Log::of(self, tenant))?;
        let since = action::milliseconds(now).saturating_sub(milliseconds_of(kept));
        replaced.retain(|segment| !table.is_damaged() && !table.may_be_read(&segment.path_in_table(), since));
        self.0.tables.keep(table);
        Ok(replaced)
    }

    /// Takes what is not in the table yet together with what its file says.
    fn given(&self, table: &Table, publication: &Publication, rebuild: bool) -> Result<Given, ArchiveError> {
        let mut given = Given::default();
        for segment in &publication.visible {
            let path = segment.path_in_table();
            let is_new = rebuild || !table.names(&path, segment.bytes);
            let facts = match is_new {
                true => Some(facts::of(self, segment)?.unwrap_or_else(|| Facts::of_row(segment))),
                false => None,
            };
            given.visible.insert(path, (segment.clone(), facts));
        }
        // A table that begins has nobody who follows it; and what it has been through is not to come again.
        let Some(position) = table.position().filter(|_| !rebuild) else { return Ok(given) };
        for segment in publication.replaced.iter().filter(|segment| segment.commit > position) {
            let path = segment.path_in_table();
            if !given.visible.contains_key(&path)
                && !table.may_be_read(&path, i64::MIN)
                && let Some(facts) = facts::of(self, segment)?
            {
                given.replaced.insert(path, (segment.clone(), facts));
            }
        }
        Ok(given)
    }
}

/// Writes a checkpoint, and removes what nobody needs who reads from there.
fn write_checkpoint(log: &Log<'_>, table: &mut Table, mut whole: Table, since: i64) -> Result<(), ArchiveError> {
    whole.forget_before(since);
    checkpoint::write(log, &whole)?;
    table.forget_before(since);
    if let Some(version) = whole.version() {
        table.checkpointed(version);
    }
    log.remove_before(since)
}

/// A span as Delta's logs count it.
fn milliseconds_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Segment {
    /// Where it lies below its table's root, as the log names it. It needs no escapes as a URI.
    fn path_in_table(&self) -> String {
        let name = self.name();
        name.split_once('/').map_or_else(|| name.clone(), |(_, below)| below.to_owned())
    }
}
