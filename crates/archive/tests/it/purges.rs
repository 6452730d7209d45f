//! A purge takes everything of a tenant up to its epoch, whatever it is called, and nothing that came later.

use std::collections::BTreeSet;

use archive::{Archive, ContentRef, NewCommit, Purged, SegmentSet};
use protocol::ids::ContentType;

use crate::world::{World, append, record, tenant, time};

const DAY: &str = "2026-03-04T05:06:07";

/// A record and a piece that is none.
fn commit(archive: &Archive, id: &str) -> SegmentSet {
    let ingested_at = time("2026-03-06T12:00:00Z");
    let visible = std::sync::Arc::default();
    let mut writer = archive.begin(NewCommit { tenant: tenant(), number: 1, visible, ingested_at }).unwrap();
    append(&mut writer, record(id, DAY, "").as_bytes());
    let content_id = id.parse().unwrap();
    let content = ContentRef { content_type: &ContentType::General, content_id: &content_id, created: ingested_at };
    writer.quarantine(&content, b"rubbish", "it is rubbish").unwrap();
    writer.finish().unwrap().segments.into_iter().collect()
}

fn of_tenant(world: &World) -> Vec<String> {
    world.files().into_iter().filter(|name| name.contains(&tenant().to_string())).collect()
}

#[test]
fn everything_goes_whatever_it_is_called_and_what_went_is_counted() {
    let world = World::new();
    commit(&world.archive, "a");
    let folder = world.archive.root().join(format!("tenant={}", tenant()));
    std::fs::create_dir_all(folder.join("date=2026-03-05/deep")).unwrap();
    for name in [".9-0.parquet.tmp", "date=2026-03-05/deep/notes", "date=2026-03-05/7-0.parquet"] {
        std::fs::write(folder.join(name), b"12345").unwrap();
    }
    let files = of_tenant(&world);
    assert!(files.len() >= 8, "{files:?}");
    assert_eq!(world.archive.tenants().unwrap(), BTreeSet::from([tenant()]));
    assert_eq!(world.archive.held_of(tenant()).unwrap().0, files.len() as u64);
    let purged = world.purge(0);
    assert_eq!((purged.files, purged.left, purged.later), (files.len() as u64, 0, 0));
    assert!(purged.bytes > 15 && !folder.exists());
    assert_eq!(world.archive.held_of(tenant()).unwrap(), (0, 0));
    assert_eq!(of_tenant(&world), Vec::<String>::new());
    assert_eq!(world.archive.tenants().unwrap(), BTreeSet::new());
    assert_eq!(world.purge(0), Purged::default(), "made again, it finds nothing");
}

#[test]
fn what_a_tenant_that_returned_has_written_stays() {
    let world = World::new();
    let (before, after) = (world.archive.under(2), world.archive.under(3));
    commit(&before, "a");
    let old = of_tenant(&world);
    let returned = commit(&after, "b");
    // Somebody wakes up in the middle of the purge that was done before it came back.
    let purged = world.purge(2);
    // Three pieces beside a segment bear its name; a piece of the quarantine may be either's.
    assert_eq!((purged.files, purged.left), (3, 4), "{old:?}");
    assert!(purged.later >= 1);
    for segment in returned.iter() {
        assert!(world.archive.segment_path(segment).exists());
    }
    assert!(of_tenant(&world).iter().any(|name| name.ends_with(".bin")));
    let purged = world.purge(3);
    assert_eq!((purged.left, purged.later), (0, 0));
    assert_eq!(of_tenant(&world), Vec::<String>::new());
}
