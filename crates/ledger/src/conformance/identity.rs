//! Which ledger it is.

use super::*;

pub async fn a_ledger_has_one_id_for_all_its_handles(fixture: &dyn Fixture) {
    let id = fixture.open().id().await.unwrap();
    assert_ne!(id.0, [0; 16]);
    fixture.open().add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    assert_eq!(fixture.open().id().await.unwrap(), id);
    assert_eq!(fixture.open_read_only().id().await.unwrap(), id);
}
