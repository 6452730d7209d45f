//! Whether a ledger is whole: SQLite's own check, and ours that the sums are what a count would give.
//!
//! Never mends anything, and never runs by itself: it reads every row.

use rusqlite::Connection;

use super::fault::Done;

/// The most lines a report has.
const LINES_MAX: usize = 100;

/// Statements that return one line of text for each thing that is not as it must be.
const RULES: &[&str] = &[
    "SELECT 'the ledger has no id of its own' WHERE (SELECT count(*) FROM identity) <> 1",
    "SELECT 'feed ' || feed || ' counts ' || pending || ' pending contents but has ' || found FROM feed
     JOIN (SELECT feed AS f, (SELECT count(*) FROM pending AS p WHERE p.feed = feed.feed) AS found FROM feed) ON f = feed
     WHERE pending <> found",
    "SELECT 'feed ' || feed || ' counts ' || failing || ' failing contents but has ' || found FROM feed
     JOIN (SELECT feed AS f, (SELECT count(*) FROM pending AS p WHERE p.feed = feed.feed AND attempts > 0) AS found
           FROM feed) ON f = feed
     WHERE failing <> found",
    "SELECT 'feed ' || feed || ' counts ' || lost || ' lost contents but has ' || found FROM
     (SELECT feed, lost_expired + lost_missing + lost_unreadable + lost_refused_url AS lost,
             (SELECT count(*) FROM content AS c WHERE c.feed = feed.feed AND state = 2) AS found FROM feed)
     WHERE lost <> found",
    "SELECT 'feed ' || feed || ' counts ' || archived || ' archived contents but has ' || found FROM
     (SELECT feed, archived, (SELECT count(*) FROM content AS c WHERE c.feed = feed.feed AND state = 1) AS found FROM feed)
     WHERE archived < found",
    "SELECT 'feed ' || feed || ' counts ' || quarantined || ' things in quarantine but has ' || found FROM
     (SELECT feed, quarantined, (SELECT count(*) FROM quarantine AS q WHERE q.feed = feed.feed) AS found FROM feed)
     WHERE quarantined <> found",
    "SELECT 'content ' || content || ' waits but has nothing to wait with' FROM content
     WHERE state = 0 AND content NOT IN (SELECT content FROM pending)",
    "SELECT 'content ' || content || ' waits although it has ended' FROM pending JOIN content USING (content)
     WHERE state <> 0",
    "SELECT 'content ' || content || ' is lost without a cause' FROM content
     WHERE state = 2 AND content NOT IN (SELECT content FROM loss)",
    "SELECT 'content ' || content || ' has a cause of loss but is not lost' FROM loss JOIN content USING (content)
     WHERE state <> 2",
    "SELECT 'content ' || content || ' waits for another tenant than its feed''s' FROM pending JOIN feed USING (feed)
     WHERE pending.tenant <> feed.tenant",
    "SELECT 'window ' || a.start || ' of feed ' || a.feed || ' overlaps ' || b.start FROM tile AS a JOIN tile AS b
     ON a.feed = b.feed AND a.start < b.start AND a.until > b.start",
    "SELECT 'segment ' || date || '/' || number || '-' || part || ' is of a commit that has not happened' FROM segment
     JOIN tenant USING (tenant) WHERE number > last_commit OR number < 1",
    "SELECT 'tenant ' || hex(id) || ' has a revision that has not been given' FROM tenant, revision
     WHERE revision > greatest",
    "SELECT 'worker ' || name || ' counts ' || held || ' tenants but has ' || found FROM
     (SELECT name, held, (SELECT count(*) FROM tenant AS t WHERE t.lease_worker = w.worker) AS found FROM worker AS w) AS c
     WHERE held <> found",
    "SELECT 'tenant ' || hex(id) || ' is held by a worker that is not there' FROM tenant
     WHERE lease_worker IS NOT NULL AND lease_worker NOT IN (SELECT worker FROM worker)",
];

pub(super) fn check(connection: &Connection) -> Done<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({LINES_MAX})"))?;
    for line in statement.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            lines.push(line);
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    for table in statement.query_map([], |row| row.get::<_, String>(0))?.take(LINES_MAX) {
        lines.push(format!("a row of table {} belongs to nothing", table?));
    }
    for rule in RULES {
        let mut statement = connection.prepare(rule)?;
        for line in statement.query_map([], |row| row.get::<_, String>(0))?.take(LINES_MAX) {
            lines.push(line?);
        }
    }
    lines.truncate(LINES_MAX);
    Ok(lines)
}
