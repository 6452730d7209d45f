//! What was typed.

/// What can be typed.
pub(crate) const HELP: &str = "\
cargo xtask simulate [--seeds N] [--from S] [--jobs J]   many seeds, 100 from 1 unless told otherwise
cargo xtask simulate --seed S [--trace]                  one seed, and all that happened in it
cargo xtask simulate --planted [--seeds N] [--from S]    how many seeds each planted bug takes, 1000 at most
cargo xtask simulate --month                             a calm month, week by week
  --days D   simulated days of a seed, 7 unless told otherwise
  --bug B    with this bug planted";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    Help,
    Many,
    One { trace: bool },
    Planted,
    Month,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments {
    pub(crate) chore: Chore,
    pub(crate) seeds: Option<u64>,
    pub(crate) from: u64,
    pub(crate) jobs: usize,
    pub(crate) days: i64,
    pub(crate) bug: Option<simulator::Bug>,
}

impl Arguments {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut read = Self { chore: Chore::Many, seeds: None, from: 1, jobs, days: 7, bug: None };
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
                "--days" => read.days = i64::try_from(number()?.clamp(1, 365)).unwrap_or(7),
                "--seed" => {
                    read.from = number()?;
                    read.chore = Chore::One { trace: read.chore == (Chore::One { trace: true }) };
                }
                "--trace" => read.chore = Chore::One { trace: true },
                "--planted" => read.chore = Chore::Planted,
                "--month" => read.chore = Chore::Month,
                "--bug" => {
                    let name = words.next().unwrap_or_default();
                    let bug = simulator::Bug::ALL.iter().find(|(known, _)| *known == name);
                    let known = || simulator::Bug::ALL.map(|(name, _)| name).join(", ");
                    read.bug = Some(bug.ok_or_else(|| format!("--bug knows {}", known()))?.1);
                }
                "--help" | "-h" | "help" => read.chore = Chore::Help,
                _ => return Err(format!("unknown: {word}")),
            }
        }
        Ok(read)
    }
}
