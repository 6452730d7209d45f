//! A fleet's day, on a small scale: that it is lived through and counted.

use chrono::TimeDelta;
use simulator::{FleetOptions, fleet_day};

#[test]
fn a_fleets_day_is_counted_and_nothing_of_it_is_missing() {
    let options = FleetOptions { tenants: 3, records: 150, hours: 3, seed: 1 };
    let day = fleet_day(options).unwrap();
    println!("{options:?}: {day:?}");
    // Published while it warms up, too.
    assert!((250..750).contains(&day.records), "{}", day.records);
    let share = day.busiest_records * 100 / day.records;
    assert!((20..50).contains(&share), "{share} % are the busiest tenant's");
    assert_eq!(day.throttled, 0);
    assert!(day.segments > 0 && day.segment_bytes > 0 && day.ledger_bytes > 0);
    assert!(day.reads > 0 && day.writes > 0);
    assert!(day.requests > day.idle_requests && day.requests_max * 3 >= day.requests - day.idle_requests);
    // A poll, and the commit after it; a type that is silent for an hour now and then is polled less often.
    assert!(!day.busiest_delays.is_empty());
    let longest = *day.busiest_delays.last().unwrap();
    assert!(longest < TimeDelta::minutes(6), "{longest}");
}

#[test]
fn tenants_where_nothing_happens_are_asked_every_five_minutes() {
    let day = fleet_day(FleetOptions { tenants: 2, records: 0, hours: 6, seed: 2 }).unwrap();
    println!("{day:?}");
    assert_eq!((day.records, day.idle_tenants), (0, 2));
    let (requests, calls) = (day.idle_requests / 2, (day.reads + day.writes) / 2);
    // Five feeds twelve times an hour, their tiles again now and then, a token an hour.
    assert!((6 * 60..6 * 90).contains(&requests), "{requests} requests for a tenant");
    // Of all calls, the ones for no tenant in particular are the most: which tenants have changed.
    assert!(calls < 6 * 2_500, "{calls} calls of the ledger for a tenant");
}
