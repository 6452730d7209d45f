//! `cargo xtask scale-test`: several workers on one database and one store, while one thing after the other goes wrong, and
//! whether the archive holds what was published.
//!
//! Hands its options to a test of the whole program (`crates/tenantry/tests/it/workers/scale.rs`), which runs at a small size
//! with all others. It measures what workers and database cost only where nothing goes wrong (`--rounds 0`).

use anyhow::{Context, bail, ensure};

/// What `cargo xtask scale-test --help` prints.
pub const HELP: &str = "\
cargo xtask scale-test [OPTIONS]
Starts a PostgreSQL server, a server of object storage, the emulator and several workers. Workers are told to end, killed,
stopped past their lease and resumed, and cut off from the database; the database crashes; the store answers 503: each once a
round, in an order and to workers that are drawn from the seed. In the end the archive is compared with what was published.

  --workers N              workers [default: 3]
  --tenants N              tenants they share [default: 300]
  --records N              records in all tenants together [default: 5_000_000]
  --rounds N               how often each trouble comes [default: 3]; with none it is told what collecting costs
  --seed N                 repeats a world, and what befalls whom [default: 1]
  --records-per-blob N     half of the blobs have fewer [default: 60]
  --requests-per-minute N  what a tenant is asked at the most: fewer make it last longer [default: 1500]
  --lease-seconds N        how long a worker's word counts [default: 10]
  --store KIND             s3 or azure, as moto and Azurite have them [default: s3]
  --release                build for speed first
Exit code 1 when a record is missing or there twice, or a tenant was nobody's for two lease times.";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The test's settings, `name=value`.
    settings: Vec<(&'static str, String)>,
    release: bool,
}

impl Options {
    /// Reads the words after `scale-test`; `None` when they ask for help.
    ///
    /// # Errors
    /// Names the word that is no option, or whose value is out of range.
    pub fn parse(arguments: &[&str]) -> anyhow::Result<Option<Self>> {
        let numbers: [(&str, &'static str, u64, u64, u64); 8] = [
            ("--workers", "workers", 3, 1, 16),
            ("--tenants", "tenants", 300, 1, 10_000),
            ("--records", "records", 5_000_000, 1, 1_000_000_000),
            ("--rounds", "rounds", 3, 0, 1000),
            ("--seed", "seed", 1, 0, i64::MAX as u64),
            ("--records-per-blob", "records_per_blob", 60, 1, 10_000),
            ("--requests-per-minute", "requests_per_minute", 1500, 60, 60_000),
            ("--lease-seconds", "lease_seconds", 10, 3, 600),
        ];
        let mut settings: Vec<_> = numbers.iter().map(|(_, name, value, ..)| (*name, value.to_string())).collect();
        let (mut store, mut release) = ("s3".to_owned(), false);
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if let Some(place) = numbers.iter().position(|(option, ..)| option == word) {
                let (_, name, _, least, most) = numbers[place];
                let text = words.next().with_context(|| format!("{word} needs a number"))?;
                // A number may be written with separators, `500_000`.
                let number: u64 = text.replace('_', "").parse().with_context(|| format!("{word} {text}"))?;
                ensure!((least..=most).contains(&number), "{word} must be {least} to {most}, not {number}");
                settings[place] = (name, number.to_string());
                continue;
            }
            match *word {
                "--store" => {
                    store = (*words.next().with_context(|| format!("{word} needs a kind"))?).to_owned();
                }
                "--release" => release = true,
                "--help" | "-h" | "help" => return Ok(None),
                other => bail!("no such option: {other}\n\n{HELP}"),
            }
        }
        let number = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let alone = number("workers") == Some("1") && number("rounds") != Some("0");
        ensure!(!alone, "where something goes wrong (--rounds), there must be two workers or more");
        ensure!(["s3", "azure"].contains(&store.as_str()), "--store must be s3 or azure, not {store}");
        settings.push(("store", store));
        Ok(Some(Self { settings, release }))
    }

    fn as_words(&self) -> String {
        let words: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.join(" ")
    }
}

/// Installs what is missing, and runs it; `false` when the archive is not what was published.
///
/// # Errors
/// When something cannot be installed or started.
pub fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    let Some(options) = Options::parse(arguments)? else {
        println!("{HELP}");
        return Ok(true);
    };
    let root = crate::workspace_root()?;
    crate::test::install_servers(&root)?;
    let mut cargo = crate::cargo(&root);
    cargo.args(["test", "--workspace", "--test", "it"]).args(options.release.then_some("--release"));
    cargo.args(["--", "workers::scale::", "--nocapture"]).env("TENANTRY_TEST_SCALE", options.as_words());
    Ok(cargo.status().context("cargo cannot be started")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_defaults_and_their_limits() {
        let plain = Options::parse(&[]).unwrap().unwrap();
        assert_eq!(
            plain.as_words(),
            "workers=3 tenants=300 records=5000000 rounds=3 seed=1 records_per_blob=60 requests_per_minute=1500 \
             lease_seconds=10 store=s3"
        );
        let words = ["--workers", "2", "--records", "1_000", "--store", "azure", "--lease-seconds", "6", "--release"];
        let given = Options::parse(&words).unwrap().unwrap();
        assert!(given.release && given.as_words().starts_with("workers=2 tenants=300 records=1000 "), "{given:?}");
        assert!(given.as_words().ends_with(" lease_seconds=6 store=azure"), "{given:?}");
        assert!(Options::parse(&["--workers", "1", "--rounds", "0"]).is_ok());
        assert_eq!(Options::parse(&["--release", "--help"]).unwrap(), None);
        for wrong in [
            ["--workers", "0"],
            ["--workers", "1"],
            ["--workers", "17"],
            ["--tenants", "0"],
            ["--tenants", "10001"],
            ["--rounds", "x"],
            ["--store", "gcs"],
            ["--lease-seconds", "2"],
            ["--lease-seconds", "601"],
            ["--speed", "1"],
        ] {
            assert!(Options::parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(Options::parse(&["--seed"]).is_err() && Options::parse(&["--store"]).is_err());
    }
}
