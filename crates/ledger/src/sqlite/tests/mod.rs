pub(super) mod plans {
    pub(crate) fn note(_t: &str) {}
}
use super::*;
use chrono::TimeDelta;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rt.block_on(async {
        let l = SqliteLedger::open(dir.path().join("x/ledger.db"), OpenOptions::default()).unwrap();
        let t: TenantId = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let now = Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap();
        assert!(l.add_tenant(t, "x".into(), now - TimeDelta::days(1), now).await.unwrap());
        let c = Listed {
            content_type: ContentType::General,
            content_id: "a".parse().unwrap(),
            content_uri: "b".parse().unwrap(),
            created: now,
            expires: now + TimeDelta::days(7),
        };
        assert_eq!(l.contents_listed(t, vec![c.clone(), c], now).await.unwrap(), 1);
        let p = l.pending(t, now, 10, vec![]).await.unwrap();
        assert_eq!(p.len(), 1);
        l.content_failed(t, p[0].row, "m".into(), now).await.unwrap();
        println!("{:?}", l.coverage(t).await.unwrap());
        let a = engine::model::ArchivedContent {
            row: p[0].row,
            records: 3,
            duplicates: 0,
            variants: 0,
            quarantined: 0,
            bytes: 5,
        };
        l.commit(Commit {
            tenant: t,
            number: CommitNumber(1),
            at: now,
            contents: vec![a],
            lost: vec![],
            segments: vec![],
            quarantined: vec![],
        })
        .await
        .unwrap();
        println!("{:?} {:?}", l.coverage(t).await.unwrap(), l.check().await.unwrap());
        assert_eq!(l.fold(t, now + TimeDelta::days(8), 10).await.unwrap(), 1);
    });
}
