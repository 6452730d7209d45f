//! Shares are even, few tenants move, and who is silent stops in time.

use std::time::Duration;

use engine::lease::{Epoch, Fleet, Lease, Peer, Turn, WorkerId, renew_every, to_give_back, trusted_for};
use proptest::prelude::*;
use protocol::ids::TenantId;

fn id(number: u8) -> WorkerId {
    WorkerId([number; 16])
}

fn fleet(held: &[u64], free: u64) -> Fleet {
    let peer = |(number, held): (usize, &u64)| Peer {
        worker: id(u8::try_from(number).unwrap()),
        name: String::new(),
        held: *held,
    };
    Fleet { workers: held.iter().enumerate().map(peer).collect(), free }
}

/// What everybody does, one after the other.
fn turns(held: &[u64], free: u64) -> Vec<(u64, u64)> {
    let fleet = fleet(held, free);
    let turn = |peer: &Peer| fleet.turn(peer.worker);
    fleet.workers.iter().map(turn).map(|turn| (turn.take, turn.give_back)).collect()
}

#[test]
fn shares_are_even_and_what_is_left_over_stays_where_it_is() {
    assert_eq!(turns(&[0], 0), [(0, 0)]);
    assert_eq!(turns(&[0], 7), [(7, 0)]);
    assert_eq!(turns(&[0, 0], 7), [(4, 0), (3, 0)]);
    assert_eq!(turns(&[150, 150, 0], 0), [(0, 50), (0, 50), (0, 0)]);
    assert_eq!(turns(&[100, 100, 50], 50), [(0, 0), (0, 0), (50, 0)]);
    // 3, 3 and 4, whoever has the 4.
    assert_eq!(turns(&[3, 3, 4], 0), [(0, 0); 3]);
    assert_eq!(turns(&[4, 3, 3], 0), [(0, 0); 3]);
    assert_eq!(turns(&[4, 4, 2], 0), [(0, 0), (0, 1), (0, 0)]);
    assert_eq!(fleet(&[3, 0], 1).turn(id(9)), Turn::default(), "who is dead does nothing");
}

#[test]
fn no_more_is_taken_than_is_free() {
    assert_eq!(turns(&[10, 0], 1), [(0, 4), (1, 0)]);
    assert_eq!(turns(&[u64::MAX, 0], 1)[1], (1, 0));
}

#[test]
fn the_idle_go_first() {
    let lease = |number: u128| Lease {
        tenant: TenantId::from_uuid(format!("{number:032x}").parse().unwrap()),
        worker: id(1),
        epoch: Epoch(1),
    };
    let held = vec![(lease(1), true), (lease(2), false), (lease(3), true), (lease(4), false)];
    assert_eq!(to_give_back(held.clone(), 0), []);
    assert_eq!(to_give_back(held.clone(), 3), [lease(2), lease(4), lease(1)]);
    assert_eq!(to_give_back(held, 9).len(), 4);
}

#[test]
fn a_worker_stops_trusting_before_others_may_take_and_after_it_could_have_renewed_twice() {
    for seconds in [1, 3, 30, 3600] {
        let time = Duration::from_secs(seconds);
        assert!(renew_every(time) * 2 < trusted_for(time) && trusted_for(time) < time);
    }
}

proptest! {
    /// Whoever comes and goes: as many rounds as it takes to be told and to take, and the shares are even; and what
    /// moved is what had to.
    #[test]
    fn shares_become_even_and_nothing_moves_that_need_not(
        mut held in prop::collection::vec(0u64..40, 1..8),
        mut free in 0u64..60,
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let total: u64 = held.iter().sum::<u64>() + free;
        let workers = held.len() as u64;
        let (least, extra) = (total / workers, total % workers);
        let mut shares: Vec<u64> = (0..workers).map(|place| least + u64::from(place < extra)).collect();
        let mut sorted = held.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        shares.sort_unstable_by(|a, b| b.cmp(a));
        let must_move: u64 = sorted.iter().zip(&shares).map(|(held, share)| held.saturating_sub(*share)).sum();
        let mut moved = 0;
        // Each acts on how things stand at its own time, in any order, some oftener than others; then all in turn.
        let everybody = (0..held.len()).chain(0..held.len()).chain(0..held.len());
        let drawn = order.iter().map(|index| index.index(held.len())).collect::<Vec<_>>();
        for me in drawn.into_iter().chain(everybody) {
            let turn = fleet(&held, free).turn(id(u8::try_from(me).unwrap()));
            prop_assert!(turn.take == 0 || turn.give_back == 0);
            held[me] = held[me] + turn.take - turn.give_back;
            free = free + turn.give_back - turn.take;
            moved += turn.give_back;
        }
        prop_assert_eq!(free, 0);
        prop_assert!(held.iter().all(|held| *held == least || (extra > 0 && *held == least + 1)), "{:?}", held);
        prop_assert_eq!(moved, must_move);
    }
}
