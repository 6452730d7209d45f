//! What was delivered and is no record: kept byte for byte under `_quarantine`, with a note of where it came from.
//!
//! Never overwrites different bytes: a file's name is a digest of its content's name and of what is in it. So a piece that
//! comes again with its content, after a fetch that broke off, is the same file, and the same bytes in another content are
//! another piece, with a note of their own.

use std::path::{Path, PathBuf};

use protocol::ids::{ContentId, ContentType, TenantId};
use protocol::time::Timestamp;
use serde_json::json;

use crate::commit::ContentRef;
use crate::{ArchiveError, disk, files};

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

/// Keeps a piece, synced, and says whether it was new on disk.
pub(crate) fn keep(
    root: &Path,
    tenant: TenantId,
    content: &ContentRef<'_>,
    piece: &[u8],
    reason: &str,
    ingested_at: Timestamp,
) -> Result<(Quarantined, bool), ArchiveError> {
    let digest = blake3::hash(piece);
    let folder = tenant_folder(root, tenant);
    files::create_folder(&folder)?;
    let path = folder.join(format!("{}.bin", name_of(content, piece)));
    let note = json!({
        "tenant_id": tenant,
        "content_type": content.content_type,
        "content_id": content.content_id.as_str(),
        "content_created": content.created.to_rfc3339(),
        "ingested_at": ingested_at.to_rfc3339(),
        "bytes": piece.len(),
        "blake3": digest.to_hex().as_str(),
        "reason": reason,
    });
    // A file of this name may be what a crash left of an earlier try, cut off; only the same bytes count as kept.
    let new = !matches!(disk::read(&path), Ok(there) if there == piece);
    if new {
        files::write_synced(&path, piece)?;
        files::write_synced(&note_path(&path), note.to_string().as_bytes())?;
    }
    // Even when it was there: the crash may have come between the rename and this.
    files::sync_folder(&folder)?;
    let kept = Quarantined {
        content_type: content.content_type.clone(),
        content_id: content.content_id.clone(),
        path: path.strip_prefix(root).unwrap_or(&path).to_owned(),
        bytes: piece.len() as u64,
        digest: *digest.as_bytes(),
        reason: reason.to_owned(),
    };
    Ok((kept, new))
}

/// Identity of a piece: where it came from, and its bytes.
fn name_of(content: &ContentRef<'_>, piece: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in [content.content_type.as_str(), content.content_id.as_str()] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.update(piece).finalize()
}

/// Takes back a piece that its commit had kept as new.
pub(crate) fn take_back(root: &Path, kept: &Quarantined) -> Result<(), ArchiveError> {
    let path = root.join(&kept.path);
    files::remove_file(&path)?;
    files::remove_file(&note_path(&path))?;
    Ok(())
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
