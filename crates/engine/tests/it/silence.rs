//! What is silence to a feed that is busy, to one that rests at weekends, and to one that is nearly always silent.

use chrono::{Datelike, TimeDelta, Timelike};
use engine::model::Gap;
use engine::silence::{Heard, LEARNT_MIN, Rhythm, SETTLES_AFTER, hour_of};
use proptest::prelude::*;
use protocol::time::Timestamp;

use crate::{at, hours};

fn monday() -> Timestamp {
    at("2026-03-02T00:00:00Z")
}

/// A feed that has content at the times given, learnt day by day until `until`.
fn learnt(times: &[Timestamp], until: Timestamp) -> Rhythm {
    let mut rhythm = Rhythm::default();
    let mut day = monday();
    while day <= until {
        let heard = heard(times, day);
        let recent: Vec<Heard> =
            heard.into_iter().filter(|heard| rhythm.through.is_none_or(|through| heard.last >= through)).collect();
        rhythm.learn(&recent, &[], day);
        day += hours(24);
    }
    rhythm
}

fn heard(times: &[Timestamp], before: Timestamp) -> Vec<Heard> {
    let mut all: Vec<Heard> = Vec::new();
    for time in times.iter().copied().filter(|time| *time < before) {
        match all.last_mut().filter(|last| hour_of(last.first) == hour_of(time)) {
            Some(last) => last.last = time,
            None => all.push(Heard { first: time, last: time }),
        }
    }
    all
}

/// Every ten minutes from eight to six on weekdays.
fn office(weeks: i64) -> Vec<Timestamp> {
    (0..weeks * 7 * 144)
        .map(|step| monday() + TimeDelta::minutes(step * 10))
        .filter(|time| time.weekday().num_days_from_monday() < 5 && (8..18).contains(&time.hour()))
        .collect()
}

#[test]
fn nothing_is_unusual_before_two_weeks_are_learnt() {
    let times: Vec<Timestamp> = (0..24 * 40).map(|hour| monday() + hours(hour)).collect();
    let silent_since = |days: i64| {
        let until = monday() + hours(24 * days) + SETTLES_AFTER;
        let times: Vec<Timestamp> = times.iter().copied().filter(|time| *time < monday() + hours(24 * days)).collect();
        let mut rhythm = Rhythm::default();
        rhythm.learn(&heard(&times, until), &[], until);
        (rhythm.hours, rhythm.judge(times.last().copied(), until + hours(48)).is_some())
    };
    assert_eq!(silent_since(14), (LEARNT_MIN, true));
    assert_eq!(silent_since(13), (LEARNT_MIN - 24, false));
}

#[test]
fn an_office_that_rests_at_night_and_at_the_weekend_is_not_unusual_and_one_that_is_silent_at_ten_is() {
    let rhythm = learnt(&office(4), monday() + hours(24 * 28));
    let last_friday = at("2026-03-27T17:50:00Z");
    for quiet in ["2026-03-27T23:00:00Z", "2026-03-28T12:00:00Z", "2026-03-29T23:59:00Z", "2026-03-30T07:59:00Z"] {
        assert_eq!(rhythm.judge(Some(last_friday), at(quiet)), None, "{quiet}");
    }
    // A Wednesday morning without anything since Tuesday evening.
    let tuesday = at("2026-03-31T17:50:00Z");
    assert_eq!(rhythm.judge(Some(tuesday), at("2026-04-01T08:30:00Z")), None, "the office is about to open");
    let silence = rhythm.judge(Some(at("2026-04-01T09:50:00Z")), at("2026-04-01T14:00:00Z")).unwrap();
    assert_eq!(silence.since, at("2026-04-01T09:50:00Z"));
    assert!(silence.usual < hours(3), "{}", silence.usual);
}

#[test]
fn a_gap_of_ours_teaches_no_silence() {
    let times: Vec<Timestamp> = (0..24 * 28)
        .map(|hour| monday() + hours(hour))
        .filter(|time| !(monday() + hours(240)..monday() + hours(300)).contains(time))
        .collect();
    let until = monday() + hours(24 * 28);
    let gap = Gap { start: monday() + hours(240), until: monday() + hours(300) };
    let (mut told, mut untold) = (Rhythm::default(), Rhythm::default());
    told.learn(&heard(&times, until), &[gap], until);
    untold.learn(&heard(&times, until), &[], until);
    assert!(told.longest.iter().all(|minutes| *minutes <= 60), "{:?}", told.longest);
    assert!(untold.longest.iter().any(|minutes| *minutes > 2000));
}

#[test]
fn an_old_outage_is_forgotten_in_the_course_of_weeks() {
    let mut rhythm = Rhythm { longest: [6000; 168], ..Rhythm::default() };
    let times: Vec<Timestamp> = (0..24 * 7 * 40).map(|hour| monday() + hours(hour)).collect();
    let mut day = monday();
    for _ in 0..7 * 40 {
        day += hours(24);
        let recent: Vec<Heard> = heard(&times, day).into_iter().rev().take(48).rev().collect();
        rhythm.learn(&recent, &[], day);
    }
    assert!(rhythm.longest.iter().all(|minutes| *minutes < 120), "{:?}", rhythm.longest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A feed that does every week what it did the week before is never unusual, and once it stops it is soon.
    #[test]
    fn a_week_that_repeats_is_usual_and_one_that_ends_is_not(
        week in prop::collection::btree_set(0..7 * 24 * 60_i64, 1..200),
        ask in 0..7 * 24_i64,
    ) {
        let times: Vec<Timestamp> = (0..5)
            .flat_map(|number| week.iter().map(move |minute| monday() + TimeDelta::minutes(number * 7 * 24 * 60 + minute)))
            .collect();
        let begin = monday() + hours(24 * 28);
        let rhythm = learnt(&times.iter().copied().filter(|time| *time < begin).collect::<Vec<_>>(), begin);
        let now = begin + hours(ask);
        let newest = times.iter().copied().filter(|time| *time < now).max();
        prop_assert_eq!(rhythm.judge(newest, now), None);
        // The longest silence of all, half as long again and a margin later, there is no excuse left.
        let longest = TimeDelta::minutes(i64::from(rhythm.longest.iter().copied().max().unwrap()));
        let newest = newest.unwrap();
        let late = newest + longest + longest / 2 + hours(1) + TimeDelta::minutes(1);
        prop_assert!(rhythm.judge(Some(newest), late).is_some());
    }

    /// Learning in one go or in pieces is the same, as long as every hour is heard whole.
    #[test]
    fn learning_in_pieces_is_learning_at_once(
        week in prop::collection::btree_set(0..21 * 24 * 60_i64, 1..200),
        cuts in prop::collection::btree_set(1..21 * 24_i64, 0..10),
    ) {
        let times: Vec<Timestamp> = week.iter().map(|minute| monday() + TimeDelta::minutes(*minute)).collect();
        let until = monday() + hours(21 * 24) + SETTLES_AFTER;
        let all = heard(&times, until);
        let mut once = Rhythm::default();
        once.learn(&all, &[], until);
        let mut pieces = Rhythm::default();
        for cut in cuts.iter().map(|cut| monday() + hours(*cut) + SETTLES_AFTER).chain([until]) {
            let first = all[0].first;
            // Nothing is begun before the first content is known.
            if pieces.through.is_some() || first < cut {
                pieces.learn(&all, &[], cut);
            }
        }
        prop_assert_eq!(once, pieces);
    }
}
