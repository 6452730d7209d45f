//! `query`: SQL over the archive's visible segments, beside a collector that may be running.
//!
//! Never writes to ledger or archive (but checksums beside segments that have none), and prints nothing but rows to stdout.

use std::io::{IsTerminal as _, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use server::archive::sql::{self, Extent, QueryEngine, QueryError, QueryOptions, write_results};
use server::archive::{Reading, Segment};
use server::collector::segments::segment_of;
use server::ledger::LedgerError;

use super::out_file::OutFile;
use super::{load, store};
use crate::cli::{Format, Global, QueryArgs};
use crate::exit::{Code, Failure};
use crate::present;

/// A longer statement is not typed by anybody; it is a file that was meant for something else.
const SQL_MAX: u64 = 1 << 20;

pub(crate) async fn run(global: &Global, args: QueryArgs) -> Result<(), Failure> {
    if args.functions {
        return list_functions(global);
    }
    let sql = statement(args.sql.as_deref().unwrap_or_default())?;
    let config = load(global)?;
    let _reading = Reading::begin(&config.archive_root);
    let ledger = store::open_ledger_read_only(&config)?;
    let archive = store::read_archive(&config, ledger.as_ref()).await?;
    let spill = config.data_dir.join("query-spill");
    let options = QueryOptions::with_spill_dir(spill);
    let engine = match &archive {
        Some(archive) => QueryEngine::over(archive, &options),
        None => QueryEngine::open(&config.archive_root, &options),
    };
    let engine = engine.map_err(failure)?;
    let manifest = |extent: Extent| {
        let ledger = Arc::clone(&ledger);
        async move {
            let mut segments: Vec<Segment> = Vec::new();
            for (tenant, rows) in ledger.segments_within(extent.tenants, extent.seconds).await? {
                segments.extend(rows.iter().filter_map(|row| segment_of(tenant, row)));
            }
            Ok::<Arc<[Segment]>, LedgerError>(segments.into())
        }
    };
    let rows = engine.run(&manifest, &sql).await.map_err(failure)?;
    let format = match args.format {
        None if global.json => sql::Format::Json,
        None | Some(Format::Table) => sql::Format::Table { width: args.out.is_none().then(terminal_width).flatten() },
        Some(Format::Json) => sql::Format::Json,
        Some(Format::Ndjson) => sql::Format::Ndjson,
        Some(Format::Csv) => sql::Format::Csv,
        Some(Format::Parquet) => sql::Format::Parquet,
    };
    let mut out = match &args.out {
        Some(path) => Out::File(OutFile::create(path).map_err(|error| cannot_write(path, &error))?),
        None if format == sql::Format::Parquet && std::io::stdout().is_terminal() => {
            return Err(Failure::new(
                Code::Usage,
                "a Parquet file is not for a terminal: add --out FILE or redirect stdout",
            ));
        }
        None => Out::Stdout(std::io::BufWriter::new(std::io::stdout())),
    };
    match write_results(rows, format, &mut out).await.and_then(|written| {
        out.flush().map_err(|source| QueryError::Output { source })?;
        Ok(written)
    }) {
        Ok(written) => {
            if let (Out::File(file), Some(path)) = (out, &args.out) {
                file.finish().map_err(|error| cannot_write(path, &error))?;
            }
            if std::io::stderr().is_terminal() && !global.quiet {
                let _ = writeln!(
                    std::io::stderr(),
                    "{} row(s); {} of {} segments read",
                    present::count(written.rows),
                    written.candidate_segments,
                    written.segments
                );
            }
            Ok(())
        }
        // `| head` has seen enough.
        Err(error) if error.is_broken_pipe() => Ok(()),
        // After its first rows a query cannot begin anew; but only one that the ledger has moved on from is worth repeating.
        Err(QueryError::SegmentGone { path }) => {
            let visible = manifest(Extent::EVERYTHING).await.map_err(store::ledger_failure)?;
            let missing = visible.iter().any(|segment| segment.path() == Path::new(&path));
            Err(failure(if missing { QueryError::SegmentMissing { path } } else { QueryError::SegmentGone { path } }))
        }
        Err(error) => Err(failure(error)),
    }
}

/// Where rows go.
enum Out {
    File(OutFile),
    Stdout(std::io::BufWriter<std::io::Stdout>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::new(Code::Storage, format!("cannot write {path}: {error}; choose another file with --out"))
}

fn statement(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(SQL_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Code::Usage, format!("cannot read the query from stdin: {error}")))?;
    Ok(text)
}

fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    comfy_table::Table::new().width().map(usize::from)
}

fn failure(error: QueryError) -> Failure {
    let code = if error.is_usage() { Code::Usage } else { Code::Storage };
    Failure::from_chain(code, &error)
}

fn list_functions(global: &Global) -> Result<(), Failure> {
    if global.json {
        let functions: Vec<_> = sql::describe()
            .map(|function| json!({ "usage": function.usage, "gives": function.gives, "example": function.example }))
            .collect();
        return present::print_json(&functions.into());
    }
    let rows = sql::describe()
        .map(|function| vec![function.usage.to_owned(), function.gives.to_owned(), function.example.to_owned()])
        .collect();
    present::print(&present::table(&["function", "gives", "example"], &[], rows))
}
