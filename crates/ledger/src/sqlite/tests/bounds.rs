//! What fills up: the limits that are too large to be reached by calls alone.

use engine::consent::NewInvitation;
use rusqlite::Connection;

use super::Folder;
use crate::conformance::{block_on, days, minutes, noon};
use crate::values::ms;
use crate::{Ledger, LedgerError};

#[test]
fn a_full_list_of_invitations_takes_another_once_one_is_over() {
    let folder = Folder::in_place();
    let ledger = folder.ledger();
    let invitation = |secret: u8| NewInvitation {
        secret: [secret; 32],
        label: String::new(),
        tenant: None,
        expires_at: noon() + days(if secret < 3 { 1 } else { 3 }),
        uses_allowed: None,
    };
    let first = block_on(ledger.add_invitation(invitation(1), noon())).unwrap();
    let fill = Connection::open(folder.path()).unwrap();
    // All but one of the 20,000 there may be; the oldest is over an hour before the rest.
    fill.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 19998)
         INSERT INTO invitation (secret, label, created_at, expires_at)
         SELECT CAST(printf('%032d', i) AS BLOB), '', ?1, ?2 + 60000 * (i > 1) FROM n",
        [ms(noon()), ms(noon() + days(2))],
    )
    .unwrap();
    drop(fill);
    block_on(ledger.add_invitation(invitation(2), noon())).unwrap();
    let full = block_on(ledger.add_invitation(invitation(3), noon())).unwrap_err();
    assert!(matches!(full, LedgerError::TooManyInvitations { limit: 20_000 }), "{full}");
    let just_before = noon() + days(1) - chrono::TimeDelta::milliseconds(1);
    block_on(ledger.add_invitation(invitation(3), just_before)).unwrap_err();
    block_on(ledger.add_invitation(invitation(3), noon() + days(1))).unwrap();
    assert_eq!(block_on(ledger.invitation(first)).unwrap(), None, "the one that was over for longest made room");
    // Each that is over makes room for one.
    block_on(ledger.add_invitation(invitation(4), noon() + days(1))).unwrap();
    block_on(ledger.add_invitation(invitation(5), noon() + days(1) + minutes(1))).unwrap_err();
    assert_eq!(block_on(ledger.invitations(None, 30_000)).unwrap().len(), 20_000);
}
