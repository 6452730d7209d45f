//! What stands between one worker and what it shares with others, as of now.
//!
//! Never draws anything: it is all in the plan.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use protocol::time::Timestamp;

use crate::clock::{Errors, WorldClock};
use crate::plan::Span;

/// What is in one worker's way, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    /// Nothing reaches the ledger, and nothing comes back.
    pub(crate) ledger_cut: Vec<Span>,
    /// Connections to the ledger break, this often at each message.
    pub(crate) breaks: Vec<(Span, f64)>,
    /// The archive's folder does not answer.
    pub(crate) archive_cut: Vec<Span>,
    /// The service cannot be reached.
    pub(crate) service_cut: Vec<Span>,
    /// It is stopped at the beginning, and goes on at the end as if nothing had happened.
    pub(crate) stops: Vec<Span>,
    /// Its own clock.
    pub(crate) clock_errors: Errors,
    /// What goes wrong in the midst of a call, in each of its processes.
    pub(crate) ambushes: Vec<Ambush>,
    /// The longest way of a message to the ledger or back, in milliseconds.
    pub(crate) latency: u64,
}

/// Something that goes wrong at a point of a call that matters, wherever in time that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambush {
    /// The how manieth such call of the process it is.
    pub(crate) number: u64,
    pub(crate) stage: Stage,
    /// The process is stopped; otherwise it is cut off from the ledger.
    pub(crate) stops: bool,
    pub(crate) long: TimeDelta,
}

/// A point of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its transaction is about to begin.
    Begin,
    /// Its statements have been carried out, and its `COMMIT` is about to be sent.
    Commit,
    /// That has been carried out, and the answer is about to come.
    Answer,
}

/// The calls that matter: what they write must not be written by two, and is missed when it is not written.
const AMBUSHED: [&str; 4] = ["commit", "replace_segments", "contents_listed", "tile_listed"];

impl Way {
    /// Whether it can tell the ledger that it is alive at that moment.
    pub(crate) fn reaches_the_ledger(&self, at: Timestamp) -> bool {
        let is_in = |spans: &[Span]| spans.iter().any(|span| span.holds(at));
        !is_in(&self.ledger_cut) && !is_in(&self.stops) && !self.breaks_at(at)
    }

    /// Whether its connections break at that moment, every now and then.
    pub(crate) fn breaks_at(&self, at: Timestamp) -> bool {
        self.breaks.iter().any(|(span, _)| span.holds(at))
    }

    /// Everything that keeps it from working.
    pub(crate) fn hard_times(&self) -> Vec<Span> {
        let breaks = self.breaks.iter().map(|(span, _)| span);
        let spans =
            self.ledger_cut.iter().chain(&self.archive_cut).chain(&self.service_cut).chain(&self.stops).chain(breaks);
        let mut all: Vec<Span> = spans.copied().collect();
        let ends = self.clock_errors.iter().skip(1).map(|(from, _)| *from).chain([Timestamp::MAX_UTC]);
        let wrong = self.clock_errors.iter().zip(ends).filter(|((_, error), _)| !error.is_zero());
        all.extend(wrong.map(|((from, _), until)| Span { from: *from, until }));
        all
    }
}

/// The same for one process, which has a clock.
pub(crate) struct Troubles {
    pub(crate) way: Arc<Way>,
    pub(crate) world: WorldClock,
    pub(crate) ambushed: Mutex<Ambushed>,
}

/// What became of ambushes.
#[derive(Debug, Default)]
pub(crate) struct Ambushed {
    /// Calls so far.
    calls: u64,
    /// Cut off from the ledger.
    cuts: Vec<Span>,
    /// Stopped.
    stops: Vec<Span>,
    /// To be stopped now, until then.
    stop: Option<Timestamp>,
}

impl Troubles {
    pub(crate) fn new(way: Arc<Way>, world: WorldClock) -> Self {
        Self { way, world, ambushed: Mutex::default() }
    }

    /// This point of this call has been reached. Says whether something happens there.
    pub(crate) fn ambush(&self, name: &str, stage: Stage, now: Timestamp) -> bool {
        if !AMBUSHED.contains(&name) {
            return false;
        }
        let mut ambushed = self.lock();
        ambushed.calls += u64::from(stage == Stage::Begin);
        let of = |ambush: &&Ambush| ambush.number == ambushed.calls && ambush.stage == stage;
        let Some(ambush) = self.way.ambushes.iter().find(of) else { return false };
        let span = Span { from: now, until: now + ambush.long };
        if ambush.stops {
            ambushed.stop = Some(span.until);
            ambushed.stops.push(span);
        } else {
            ambushed.cuts.push(span);
        }
        true
    }

    /// Until when the process is to be stopped from now on.
    pub(crate) fn take_stop(&self) -> Option<Timestamp> {
        self.lock().stop.take()
    }

    /// When something of this kind befell it.
    pub(crate) fn ambushes(&self) -> Vec<Span> {
        let ambushed = self.lock();
        ambushed.cuts.iter().chain(&ambushed.stops).copied().collect()
    }

    /// Whether it can tell the ledger that it is alive at that moment, unless it is stopped.
    pub(crate) fn reaches_the_ledger(&self, at: Timestamp) -> bool {
        self.way.reaches_the_ledger(at) && self.ledger_away_until(at).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Ambushed> {
        self.ambushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn archive_is_away(&self) -> bool {
        !self.way.archive_cut.is_empty() && {
            let now = self.world.now();
            self.way.archive_cut.iter().any(|span| span.holds(now))
        }
    }

    /// Until when nothing reaches the ledger; `None` when it is reached.
    pub(crate) fn ledger_away_until(&self, at: Timestamp) -> Option<Timestamp> {
        let ambushed = self.lock();
        let cuts = self.way.ledger_cut.iter().chain(&ambushed.cuts);
        cuts.filter(|span| span.holds(at)).map(|span| span.until).max()
    }

    /// How often a connection breaks at a message.
    pub(crate) fn breaks(&self) -> f64 {
        if self.way.breaks.is_empty() {
            return 0.0;
        }
        let now = self.world.now();
        self.way.breaks.iter().filter(|(span, _)| span.holds(now)).map(|(_, share)| *share).fold(0.0, f64::max)
    }
}

/// A span that begins so long after the start.
pub(crate) fn span(start: Timestamp, after: TimeDelta, long: TimeDelta) -> Span {
    Span { from: start + after, until: start + after + long }
}
