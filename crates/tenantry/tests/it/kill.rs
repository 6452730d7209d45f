//! SIGKILL at random moments of a run, again and again: nothing lost, nothing twice, nothing altered.

use std::time::Instant;

use crate::replay::unruly;
use crate::support::{Home, Microsoft, recorded};

/// Kills, unless the environment says how many: `TENANTRY_TEST_KILLS=200`.
const KILLS: u32 = 25;

#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    let seed = 2_103;
    let kills = std::env::var("TENANTRY_TEST_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    let mut draw = fastrand::Rng::with_seed(seed);
    let mut options = unruly(seed);
    match recorded() {
        Some(files) => options.world.records_files = files,
        None => println!("skipped: the recorded records of ../shared/records; generated ones take their place"),
    }
    let microsoft = Microsoft::start(options);
    let home = Home::new(&microsoft);
    let (mut killed, mut starts) = (0, Vec::new());
    for round in 0..kills * 4 {
        if killed == kills {
            break;
        }
        // The moment is drawn in requests and not in seconds: a slow machine is killed in the same places.
        let before = microsoft.fetches();
        let started = Instant::now();
        let mut first_fetch = None;
        let enough = microsoft.requests() + draw.u64(0..if round % 5 == 0 { 20 } else { 500 });
        let look = || {
            if first_fetch.is_none() && microsoft.fetches() > before {
                first_fetch = Some(started.elapsed());
            }
        };
        let which = format!("seed {seed}, round {round}");
        killed += u32::from(home.collect_killed_at(&microsoft, enough, &which, look));
        starts.extend(first_fetch);
    }
    // Not held to a limit here: a test must not depend on how busy the machine is.
    starts.sort_unstable();
    let (half, last) = (starts.get(starts.len() / 2), starts.last());
    println!(
        "{killed} kills; from start to first fetch {half:?} in the middle, {last:?} at most, of {} starts",
        starts.len()
    );
    assert_eq!(killed, kills, "seed {seed}: the runs ended before they could be killed");
    microsoft.wait_until_complete();
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, seed);
    home.succeed(&["archive", "verify"]);
}
