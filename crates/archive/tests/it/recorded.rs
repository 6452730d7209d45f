//! Recorded audit records, where they lie beside the workspace, through the archive and back.

use std::path::Path;

use archive::Appended;

use crate::world::World;

#[test]
fn recorded_records_come_back_byte_for_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/records");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no recorded records in {}", folder.display());
        return;
    };
    let mut lines: Vec<String> = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".ndjson.zst") {
            let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
        }
    }
    let mut world = World::new();
    let mut seen = std::collections::BTreeSet::new();
    for chunk in lines.chunks(lines.len().div_ceil(7).max(1)) {
        for (raw, appended) in chunk.iter().zip(world.store(chunk)) {
            assert_eq!(appended == Appended::Duplicate, !seen.insert(raw.clone()), "{raw}");
        }
    }
    assert!(world.raw().into_iter().eq(seen.iter().cloned()));
    assert_eq!(world.store(&lines), vec![Appended::Duplicate; lines.len()]);
}
