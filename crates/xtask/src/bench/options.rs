//! The command line of `cargo xtask bench`.

use anyhow::{Context, bail, ensure};

/// What `cargo xtask bench --help` prints.
pub const HELP: &str = "\
cargo xtask bench [OPTIONS]
Measures tenantry collect --once against the floor: the same gzip bytes downloaded from the same emulator, inflated, and
compressed with zstd level 3. Builds both first. Linux only: it reads /proc.

  --records N   distinct records in all tenants together [default: 500000]
  --tenants N   tenants they are spread over, evenly [default: 3]
  --seed N      repeats a world exactly [default: 1]
  --rounds N    how often each is measured; the least CPU time of each counts [default: 3]
  --profile P   the cargo profile of both, such as dist [default: release]
  --json        figures as JSON
  --webhook     instead: a flood of notifications; its own options are told by --webhook --help
Exit code 1 when the archive is not what was published, or memory is not within its limits.";

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Distinct records in all tenants together.
    pub records: u64,
    /// Tenants they are spread over.
    pub tenants: u32,
    /// What the world is drawn from.
    pub seed: u64,
    /// How often each is measured.
    pub rounds: usize,
    /// The cargo profile that both are built with.
    pub profile: String,
    /// Figures as JSON.
    pub json: bool,
}

impl Options {
    /// Reads the words after `bench`; `None` when they ask for help.
    ///
    /// # Errors
    /// Names the word that is no option, or whose value is out of range.
    pub fn parse(arguments: &[&str]) -> anyhow::Result<Option<Self>> {
        let profile = "release".to_owned();
        let mut options = Self { records: 500_000, tenants: 3, seed: 1, rounds: 3, profile, json: false };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            // A number may be written with separators, `500_000`.
            let mut number = |least: u64, most: u64| {
                let text = words.next().with_context(|| format!("{word} needs a number"))?;
                let number: u64 = text.replace('_', "").parse().with_context(|| format!("{word} {text}"))?;
                ensure!((least..=most).contains(&number), "{word} must be {least} to {most}, not {number}");
                Ok(number)
            };
            match *word {
                "--records" => options.records = number(1000, 100_000_000)?,
                "--tenants" => options.tenants = u32::try_from(number(1, 1000)?)?,
                "--seed" => options.seed = number(0, i64::MAX as u64)?,
                "--rounds" => options.rounds = usize::try_from(number(1, 100)?)?,
                "--profile" => {
                    options.profile = (*words.next().with_context(|| format!("{word} needs a name"))?).to_owned();
                }
                "--json" => options.json = true,
                "--help" | "-h" | "help" => return Ok(None),
                other => bail!("no such option: {other}\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_defaults_and_their_limits() {
        let plain = Options::parse(&[]).unwrap().unwrap();
        let profile = "release".to_owned();
        assert_eq!(plain, Options { records: 500_000, tenants: 3, seed: 1, rounds: 3, profile, json: false });
        let words = ["--records", "1_000", "--tenants", "1000", "--seed", "7", "--rounds", "1", "--json"];
        let given = Options::parse(&[&words[..], &["--profile", "dist"]].concat()).unwrap().unwrap();
        let profile = "dist".to_owned();
        assert_eq!(given, Options { records: 1000, tenants: 1000, seed: 7, rounds: 1, profile, json: true });
        assert_eq!(Options::parse(&["--json", "--help"]).unwrap(), None);
        for wrong in [
            ["--records", "999"],
            ["--records", "100000001"],
            ["--tenants", "0"],
            ["--tenants", "1001"],
            ["--rounds", "0"],
            ["--rounds", "101"],
            ["--rounds", "x"],
            ["--speed", "1"],
        ] {
            assert!(Options::parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(Options::parse(&["--seed"]).is_err() && Options::parse(&["--profile"]).is_err());
    }
}
