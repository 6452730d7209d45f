//! The steps on this machine's disk: the data folder, free space, the key, the ledger, the archive.
//!
//! Never creates a file or folder, and takes no lock: a collector may be running, or not have run yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::{Archive, ArchiveOptions};
use engine::checkup::{Verdict, judge_space};
use engine::model::{Tenant, TenantState};
use ledger::{Ledger, LedgerError, Location};
use protocol::ids::TenantId;

use super::report::{Cause, Step};
use crate::safe::Safe;
use crate::vault::{KeySource, Vault, VaultError};

/// Segments whose files are looked for; `archive verify` looks at all of them, and into them.
const SEGMENTS_MAX: usize = 2_000;

/// The same where each is a request.
const OBJECTS_MAX: usize = 50;

/// The folder everything lies in.
pub(super) fn data_dir(path: &Path) -> Step {
    let name = path.display().to_string();
    let existing = nearest(path);
    if existing == path && !path.is_dir() {
        return Step::failed("data_dir", &name, Cause::Storage, "is a file, not a folder")
            .explained("ledger and archive have no place", "choose another data_dir, or move that file away");
    }
    if let Err(reason) = writable(&existing) {
        return Step::failed(
            "data_dir",
            &name,
            Cause::Storage,
            format!("{} cannot be written: {reason}", existing.display()),
        )
        .explained(
            "the collector, run by this user, can keep nothing",
            "give this user the folder, run as the user who has it, or choose another data_dir",
        );
    }
    if existing == path {
        Step::ok("data_dir", name, "is there and can be written")
    } else {
        Step::ok("data_dir", name, "is not there yet, and can be made")
    }
}

/// Free space where ledger and archive lie.
pub(super) fn disk(places: &[(&str, &Path)]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (what, path) in places {
        let step = match free_bytes(&nearest(path)) {
            None => Step::skipped("disk", *what, "this system does not say how much space is free"),
            Some(free) => {
                let result = format!("{} MiB are free for the {what}", free >> 20);
                match judge_space(free) {
                    Verdict::Good => Step::ok("disk", *what, result),
                    Verdict::Doubtful => Step::warning("disk", *what, result).explained(
                        "a busy day may not fit; a full disk stops collection, and what the feed keeps for seven days is \
                         caught up on afterwards",
                        "free some space, set archive.retention, or place the archive elsewhere",
                    ),
                    Verdict::Bad => Step::failed("disk", *what, Cause::Storage, result).explained(
                        "the next commit may not fit",
                        "free some space: collection goes on by itself and nothing is lost within seven days",
                    ),
                }
            }
        };
        steps.push(step);
    }
    steps
}

/// The key that seals what is secret in the ledger.
pub(super) fn key(source: KeySource) -> Step {
    let place = match &source {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Variable { name, .. } => format!("variable {name}"),
    };
    match Vault::load_existing(source) {
        Ok(vault) => match vault.key_ids().as_slice() {
            [] | [_] => Step::ok("secrets", place, "one key, for its owner only"),
            several => Step::warning("secrets", place, format!("{} keys", several.len())).explained(
                "a rotation is not finished: older keys still open what they sealed",
                "run `tenantry secrets rotate`; it goes on where it was",
            ),
        },
        Err(VaultError::Missing { .. }) => {
            Step::ok("secrets", place, "no key yet: it is made when the collector first runs")
        }
        Err(error) => Step::failed("secrets", place, Cause::Configuration, crate::chain(&error)).explained(
            "what is sealed in the ledger (consents under way) cannot be opened, and the collector does not start",
            "do what the message says; a key that is lost cannot be had back",
        ),
    }
}

/// The ledger, open for reading, and what it says of the tenants.
pub(super) type Known = (Arc<dyn Ledger>, Vec<Tenant>);

/// Opens the ledger for reading and asks it.
pub(super) async fn ledger(location: &Location) -> (Step, Option<Known>) {
    let name = match location {
        Location::File(path) => path.display().to_string(),
        Location::Database(_) => location.to_string(),
    };
    let opened = location.open_read_only().map(|ledger| ledger.shared());
    if matches!(opened, Err(LedgerError::Missing { .. })) {
        return (Step::ok("ledger", name, "is not there yet: it is made when the collector first runs"), None);
    }
    let tenants = match &opened {
        Ok(ledger) => ledger.tenants_since(0).await.map(|(_, tenants)| tenants),
        Err(error) => Err(error.clone()),
    };
    match (opened, tenants) {
        (Ok(ledger), Ok(tenants)) => (judge_ledger(name, &tenants), Some((ledger, tenants))),
        (Err(error @ LedgerError::OlderVersion { .. }), _) => {
            let step = Step::warning("ledger", name, crate::chain(&error)).explained(
                "an older version of this program wrote it; the collector brings it up to date when it next starts",
                "start the collector, and look again",
            );
            (step, None)
        }
        (_, Err(error)) | (Err(error), _) => {
            let step = Step::failed("ledger", name, Cause::Storage, crate::chain(&error)).explained(
                "what was collected and what is still to be had is not known",
                "do what the message says; the archive's files are not affected",
            );
            (step, None)
        }
    }
}

fn judge_ledger(name: String, tenants: &[Tenant]) -> Step {
    let count = |state: TenantState| tenants.iter().filter(|tenant| tenant.state == state).count();
    let troubled: Vec<&Tenant> =
        tenants.iter().filter(|tenant| tenant.state == TenantState::Active && tenant.problem.is_some()).collect();
    let result = format!(
        "{} active, {} paused, {} removed tenant(s)",
        count(TenantState::Active),
        count(TenantState::Paused),
        count(TenantState::Removed)
    );
    match troubled.first().and_then(|tenant| Some((tenant.id, tenant.problem.as_ref()?))) {
        None => Step::ok("ledger", name, result),
        Some((id, problem)) => Step::warning("ledger", name, format!("{result}, {} with a problem", troubled.len()))
            .explained(
                format!("tenant {id}: {}", problem.message),
                format!("look at one of them: `tenantry doctor --tenant {id}`; `tenantry tenant list` names all"),
            ),
    }
}

/// Who shares the tenants, and who has this one; nothing to say where there is one collector, or none.
pub(super) async fn workers(known: Option<&Known>, tenant: Option<TenantId>) -> Option<Step> {
    let (ledger, _) = known?;
    let workers = ledger.workers().await.ok().filter(|workers| !workers.is_empty())?;
    let mut result: Vec<String> =
        workers.iter().map(|worker| format!("{} has {} tenant(s)", worker.name, worker.held)).collect();
    if let Some(tenant) = tenant {
        let holder = ledger.holders(vec![tenant]).await.ok()?.pop();
        let holder = holder.map_or_else(|| "nobody".to_owned(), |(_, name)| name);
        result.push(format!("tenant {tenant} is held by {holder}"));
    }
    let result = result.join("; ");
    match workers.iter().find(|worker| !worker.is_alive && worker.held > 0) {
        None => Some(Step::ok("workers", "", result)),
        Some(silent) => Some(Step::warning("workers", "", result).explained(
            format!(
                "{} has not said for the lease time that it is alive, and nobody has taken its tenants",
                silent.name
            ),
            "start a worker (`tenantry serve`): it takes them within seconds",
        )),
    }
}

/// Whether the key is the one that the ledger is sealed with.
pub(super) async fn sealed(source: KeySource, known: Option<&Known>) -> Step {
    let Some((ledger, _)) = known else { return Step::skipped("sealed", "", "there is no ledger to look into") };
    let vault = match Vault::load_existing(source) {
        Ok(vault) => vault,
        // None is there yet, or none is there any more: what the ledger holds tells which.
        Err(VaultError::Missing { .. }) => Vault::ephemeral(),
        // That it cannot be loaded has been said.
        Err(_) => return Step::skipped("sealed", "", "there is no key to try"),
    };
    match Safe::new(Arc::new(vault), ledger.clone()).entries().await {
        Err(error) => Step::failed("sealed", "", Cause::Storage, crate::chain(&error))
            .explained("what is sealed cannot be read", "do what the message says"),
        Ok(entries) => {
            let lost: Vec<&str> =
                entries.iter().filter(|entry| !entry.opens).map(|entry| entry.name.as_str()).collect();
            if lost.is_empty() {
                return Step::ok("sealed", "", format!("{} value(s), and the key opens them", entries.len()));
            }
            Step::failed("sealed", "", Cause::Configuration, format!("no key at hand opens: {}", lost.join(", ")))
                .explained(
                    "the key was replaced or lost; what it sealed is lost with it, collection is not affected",
                    "bring the key back from its copy, behind the present one; or `tenantry secrets reset`",
                )
        }
    }
}

/// Whether the files that the ledger names are there, with the size it says.
pub(super) async fn archive(options: &Result<ArchiveOptions, String>, known: Option<&Known>) -> Step {
    let unusable = |name: &str, problem: String| {
        Step::failed("archive", name, Cause::Storage, problem)
            .explained("nothing can be kept, and nothing that was kept can be read", "do what the message says")
    };
    let options = match options {
        Ok(options) => options,
        Err(problem) => return unusable("", problem.clone()),
    };
    let name = match &options.remote {
        Some(remote) => remote.url.to_string(),
        None => options.root.display().to_string(),
    };
    let opened = options.remote.is_some().then(|| Archive::open_read_only(options)).transpose();
    let remote = match opened {
        Ok(remote) => remote,
        Err(error) => return unusable(&name, crate::chain(&error)),
    };
    let most = if remote.is_some() { OBJECTS_MAX } else { SEGMENTS_MAX };
    let Some((ledger, tenants)) = known else {
        return Step::skipped("archive", name, "without a ledger nobody knows which files belong to it");
    };
    let (mut seen, mut missing) = (0, None);
    'tenants: for tenant in tenants {
        let rows = match ledger.segments(tenant.id).await {
            Ok(rows) => rows,
            Err(error) => {
                return Step::failed("archive", name, Cause::Storage, crate::chain(&error))
                    .explained("the ledger cannot be read", "do what the message says");
            }
        };
        for row in &rows {
            let Some(segment) = crate::collector::segments::segment_of(tenant.id, row) else { continue };
            let (path, length) = match &remote {
                Some(archive) => match archive.size_of(&segment) {
                    Ok(length) => (archive.place_of(&segment.path()), length),
                    Err(error) => return unusable(&name, crate::chain(&error)),
                },
                None => {
                    let path = options.root.join(segment.path());
                    let length = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
                    (path, length)
                }
            };
            if length != Some(row.bytes) {
                missing = Some((path, length.is_some()));
                break 'tenants;
            }
            seen += 1;
            if seen >= most {
                break 'tenants;
            }
        }
    }
    match missing {
        None => Step::ok("archive", name, format!("{seen} file(s) looked for and found")),
        Some((path, there)) => {
            let what = if there { "has another size than the ledger says" } else { "is not there" };
            Step::failed("archive", name, Cause::Storage, format!("{} {what}", path.display())).explained(
                "records that were collected are damaged or gone: a file was changed or deleted by somebody else, or the \
                 archive was moved without its ledger",
                "bring the files back from a copy; `tenantry archive verify` names every one that is wrong",
            )
        }
    }
}

/// What lies set aside in the archive, where queries do not look; no step when there is nothing.
pub(super) fn aside(options: &ArchiveOptions) -> Option<Step> {
    let name = match &options.remote {
        Some(remote) => format!("{}/_aside", remote.url),
        None => options.root.join("_aside").display().to_string(),
    };
    let aside = match archive::set_aside(options) {
        Ok(aside) => aside,
        Err(error) => {
            let step = Step::failed("aside", name, Cause::Storage, crate::chain(&error));
            return Some(step.explained("what lies there is not known", "do what the message says"));
        }
    };
    let (files, bytes) = aside.iter().fold((0, 0), |(files, bytes), of| (files + of.files, bytes + of.bytes));
    (files > 0).then(|| {
        let found = format!("{files} segment(s) of {} tenant(s), {} MiB", aside.len(), bytes.div_ceil(1 << 20));
        Step::warning("aside", name, found).explained(
            "the ledger did not know them, as after it was restored from an older copy: queries and retention pass them over",
            "take over what is needed of them (they are Parquet files like the others), then delete the folder",
        )
    })
}

/// The folder itself, or the nearest above it that exists.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if path.exists() {
        return path.to_owned();
    }
    absolute.ancestors().find(|ancestor| ancestor.exists()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(unix)]
fn writable(path: &Path) -> Result<(), String> {
    use rustix::fs::Access;
    rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn writable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().readonly() => Err("it is read-only".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(path).ok()?;
    space.f_bavail.checked_mul(space.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn what_was_set_aside_is_told_with_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let options = ArchiveOptions::at(dir.path());
        assert_eq!(aside(&options), None);
        let folder = dir.path().join("_aside/tenant=6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/date=2026-03-04");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(aside(&options), None);
        for name in ["1-0.parquet", "1-0.2.parquet"] {
            std::fs::write(folder.join(name), vec![0; 600 << 10]).unwrap();
        }
        let step = aside(&options).unwrap();
        assert_eq!((step.status, step.result.as_str()), (Status::Warning, "2 segment(s) of 1 tenant(s), 2 MiB"));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_yet_is_no_trouble_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("data");
        assert_eq!(data_dir(&path).status, Status::Ok);
        assert_eq!(key(KeySource::File(path.join("secret.key"))).status, Status::Ok);
        let (step, known) = ledger(&Location::File(path.join("ledger.db"))).await;
        assert!(step.status == Status::Ok && known.is_none());
        assert_eq!(archive(&Ok(ArchiveOptions::at(path.join("archive"))), None).await.status, Status::Skipped);
        assert!(disk(&[("archive", &path)]).iter().all(|step| step.status != Status::Skipped || cfg!(not(unix))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a check-up leaves nothing behind");
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_named_with_its_mend() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "not a ledger, not a folder, not a key").unwrap();
        let (ledger, _) = ledger(&Location::File(file.clone())).await;
        for step in [data_dir(&file), ledger, key(KeySource::File(file.clone()))] {
            assert_eq!(step.status, Status::Failed, "{step:?}");
            assert!(step.of.contains("file") && !step.means.is_empty() && !step.mend.is_empty(), "{step:?}");
        }
    }
}
