//! What was delivered and is no record: kept byte for byte under `_quarantine`, with a note of where it came from.
//!
//! Never overwrites different bytes: a file's name is a digest of its content's name and of what is in it. So a piece that
//! comes again with its content, after a fetch that broke off, is the same file, and the same bytes in another content are
//! another piece, with a note of their own.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use protocol::ids::{ContentId, ContentType, TenantId};
use protocol::time::Timestamp;
use serde_json::json;

use crate::commit::ContentRef;
use crate::depot::Whole;
use crate::segment::slashed;
use crate::workspace::Workspace;
use crate::{Archive, ArchiveError, files};

/// One piece in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Of which content.
    pub content_type: ContentType,
    /// Of which content.
    pub content_id: ContentId,
    /// Where it lies, relative to the archive's root.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the bytes.
    pub digest: [u8; 32],
    /// Why it is there.
    pub reason: String,
}

/// Keeps a piece, synced. Read twice and never held whole, for it may be large. Nobody takes it back, not even when its commit
/// comes to nothing: its name is that of its bytes and their source, so whoever has the tenant by now may have found it there
/// and rely on it.
pub(crate) fn keep(
    archive: &Archive,
    tenant: TenantId,
    content: &ContentRef<'_>,
    piece: &mut (impl Read + Seek),
    reason: &str,
    ingested_at: Timestamp,
) -> Result<Quarantined, ArchiveError> {
    let read = |error| ArchiveError::io("read a piece for", archive.root())(error);
    let Summed { name, digest, bytes } = sum(content, piece).map_err(read)?;
    let path = tenant_folder(Path::new(""), tenant).join(format!("{name}.bin"));
    let note = json!({
        "tenant_id": tenant,
        "content_type": content.content_type,
        "content_id": content.content_id.as_str(),
        "content_created": content.created.to_rfc3339(),
        "ingested_at": ingested_at.to_rfc3339(),
        "bytes": bytes,
        "blake3": digest.to_hex().as_str(),
        "reason": reason,
    });
    piece.rewind().map_err(read)?;
    let (note, whole) = (note.to_string(), Whole { bytes, digest: *digest.as_bytes() });
    match archive.workspace() {
        Some(workspace) => put(workspace, &path, piece, &whole, &note)?,
        None => write(&archive.root().join(&path), archive.epoch(), piece, &whole, &note)?,
    }
    Ok(Quarantined {
        content_type: content.content_type.clone(),
        content_id: content.content_id.clone(),
        path,
        bytes,
        digest: *digest.as_bytes(),
        reason: reason.to_owned(),
    })
}

/// Writes the piece and its note, unless it is there.
fn write(path: &Path, epoch: u64, piece: &mut impl Read, whole: &Whole, note: &str) -> Result<(), ArchiveError> {
    let folder = path.parent().unwrap_or(path);
    files::create_folder(folder)?;
    // A file of this name may be what a crash left of an earlier try, cut off; only the same bytes count as kept.
    if !matches!(files::digest_file(path), Ok(there) if there.sum() == (whole.bytes, whole.digest)) {
        // Who has lost the tenant without knowing it yet may be writing the same piece.
        let temporary = format!("{epoch}.tmp");
        files::write_synced(path, &temporary, piece)?;
        files::write_synced(&note_path(path), &temporary, &mut note.as_bytes())?;
    }
    // Even when it was there: the crash may have come between the rename and this.
    files::sync_folder(folder)
}

/// The same in a store, the note first: a piece that is there has one.
fn put(
    workspace: &Workspace,
    path: &Path,
    piece: &mut impl Read,
    whole: &Whole,
    note: &str,
) -> Result<(), ArchiveError> {
    let name = slashed(path);
    if workspace.depot().size(&name)?.is_some() {
        match workspace.check(&name, whole.bytes, &whole.digest) {
            Ok(()) => return Ok(()),
            // The name says what its bytes are to be.
            Err(ArchiveError::Damaged { .. }) => workspace.remove(vec![name.clone()], &[])?,
            Err(error) => return Err(error),
        }
    }
    workspace.depot().put(&slashed(&note_path(path)), note.to_owned().into())?;
    workspace.put_piece(&name, piece, whole)
}

/// What identifies a piece.
struct Summed {
    /// Of where it came from, and its bytes.
    name: blake3::Hash,
    /// Of its bytes.
    digest: blake3::Hash,
    bytes: u64,
}

fn sum(content: &ContentRef<'_>, piece: &mut impl Read) -> io::Result<Summed> {
    let (mut name, mut digest) = (blake3::Hasher::new(), blake3::Hasher::new());
    for part in [content.content_type.as_str(), content.content_id.as_str()] {
        name.update(part.as_bytes()).update(&[0]);
    }
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let read = match piece.read(&mut buffer) {
            Ok(0) => return Ok(Summed { name: name.finalize(), digest: digest.finalize(), bytes }),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let some = buffer.get(..read).unwrap_or_default();
        name.update(some);
        digest.update(some);
        bytes += some.len() as u64;
    }
}

/// `{root}/_quarantine/tenant={guid}`
pub(crate) fn tenant_folder(root: &Path, tenant: TenantId) -> PathBuf {
    crate::segment::tenant_folder(&folder(root), tenant)
}

/// `{root}/_quarantine`
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("_quarantine")
}

fn note_path(path: &Path) -> PathBuf {
    path.with_extension("json")
}
