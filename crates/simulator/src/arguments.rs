//! What was typed.

/// What can be typed.
pub(crate) const HELP: &str = "\
cargo xtask simulate [--seeds N] [--from S] [--jobs J]   many seeds, 100 from 1 unless told otherwise
cargo xtask simulate --seed S [--trace]                  one seed, and all that happened in it
cargo xtask simulate --planted [--seeds N] [--from S]    how many seeds each planted bug takes, 1000 at most
cargo xtask simulate --month                             a calm month, week by week
cargo xtask simulate --fleet T [--records R] [--hours H] a calm day of T tenants, and what it costs
  --shared     several workers on one ledger, their number drawn; in all of the above but the month
  --workers N  the same with so many
  --days D     simulated days of a seed, 7 unless told otherwise, and 2 of several workers
  --bug B      with this bug planted";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    Help,
    Many,
    One { trace: bool },
    Planted,
    Month,
    Fleet,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments {
    pub(crate) chore: Chore,
    pub(crate) seeds: Option<u64>,
    pub(crate) from: u64,
    pub(crate) jobs: usize,
    pub(crate) days: Option<i64>,
    pub(crate) bug: Option<Planted>,
    pub(crate) fleet: simulator::FleetOptions,
    /// Several workers, and how many if that is said.
    pub(crate) shared: Option<Option<usize>>,
}

/// A planted bug, of one collector or of several workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    One(simulator::Bug),
    Shared(simulator::SharingBug),
}

impl Planted {
    /// Every one, with its name.
    pub(crate) fn all() -> impl Iterator<Item = (&'static str, Self)> {
        let one = simulator::Bug::ALL.into_iter().map(|(name, bug)| (name, Self::One(bug)));
        one.chain(simulator::SharingBug::ALL.into_iter().map(|(name, bug)| (name, Self::Shared(bug))))
    }
}

impl Arguments {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let fleet = simulator::FleetOptions { tenants: 100, records: 100_000, hours: 24, seed: 1 };
        let mut read =
            Self { chore: Chore::Many, seeds: None, from: 1, jobs, days: None, bug: None, fleet, shared: None };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let mut number = || {
                let text = words.next().unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("{word} wants a number, not {text:?}"))
            };
            match word.as_str() {
                "--seeds" => read.seeds = Some(number()?),
                "--from" => read.from = number()?,
                "--jobs" => read.jobs = usize::try_from(number()?.clamp(1, 256)).unwrap_or(1),
                "--days" => read.days = i64::try_from(number()?.clamp(1, 365)).ok(),
                "--shared" => read.shared = read.shared.or(Some(None)),
                "--workers" => read.shared = Some(usize::try_from(number()?.clamp(1, 16)).ok()),
                "--seed" => {
                    read.from = number()?;
                    read.chore = Chore::One { trace: read.chore == (Chore::One { trace: true }) };
                }
                "--trace" => read.chore = Chore::One { trace: true },
                "--planted" => read.chore = Chore::Planted,
                "--month" => read.chore = Chore::Month,
                "--fleet" => {
                    read.fleet.tenants = usize::try_from(number()?.clamp(1, 100_000)).unwrap_or(1);
                    read.chore = Chore::Fleet;
                }
                "--records" => read.fleet.records = number()?,
                "--hours" => read.fleet.hours = u32::try_from(number()?.clamp(1, 168)).unwrap_or(24),
                "--bug" => {
                    let name = words.next().unwrap_or_default();
                    let bug = Planted::all().find(|(known, _)| *known == name);
                    let known = || Planted::all().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
                    let bug = bug.ok_or_else(|| format!("--bug knows {}", known()))?.1;
                    if matches!(bug, Planted::Shared(_)) {
                        read.shared = read.shared.or(Some(None));
                    }
                    read.bug = Some(bug);
                }
                "--help" | "-h" | "help" => read.chore = Chore::Help,
                _ => return Err(format!("unknown: {word}")),
            }
        }
        read.fleet.seed = read.from;
        Ok(read)
    }
}
