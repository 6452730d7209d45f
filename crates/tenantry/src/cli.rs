//! The command line: what may be typed, and its help text.
//!
//! Never does anything: `main` hands each command to the file of its name under `commands/`.

mod init;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use server::engine::evidence::ActivityKind;
use server::protocol::ids::{ClientId, ContentType, TenantId};

use crate::config::parse_duration;

pub(crate) use init::{InitArgs, ProofKind, parse_yes_no};

/// Collects Microsoft 365 audit records from every tenant that consents, and loses none.
#[derive(Debug, Parser)]
#[command(name = "tenantry", version, max_term_width = 110, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  an unexpected failure
  2  the command line cannot be carried out as written
  3  the configuration is missing or wrong
  4  the other side refused us (credential, consent, permission, cloud)
  5  it ran, and something is incomplete (contents failing or lost, a requirement not met)
  6  local storage (full disk, unwritable folder, corrupt ledger or segment)
  7  another instance is running on the same data folder or address
doctor ends with the code of the first step that failed: 3, 6, 4, or 5 when something does not answer; warnings end with 0";

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration file [default: tenantry.toml, when there is one here]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the ledger and the archive are, unless the configuration places them elsewhere
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only warnings and errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Emulator and collector together: collects from an emulated Microsoft and shows what came of it
    Demo(DemoArgs),
    /// Sets everything up: asks what it needs, makes key and certificate, writes tenantry.toml, and prints what to enter in
    /// Entra ID
    Init(Box<InitArgs>),
    /// Goes through everything from the configuration to a listed window: what is wrong, what it means, what mends it
    Doctor(DoctorArgs),
    /// Collects all day, with the console at console.listen
    Serve,
    /// Collects everything available now
    Collect(CollectArgs),
    /// The tenants that are collected
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Makes a link that a customer's admin connects a tenant with
    ConsentLink(ConsentLinkArgs),
    /// The subscriptions of tenants, at Microsoft's side
    #[command(subcommand)]
    Subscription(SubscriptionCommand),
    /// What was done with tenants and their records, the latest first: added, paused, purged, expired, held, released
    Activity(ActivityArgs),
    /// What is complete through when for each tenant and content type, and by name what is missing and why
    Coverage(CoverageArgs),
    /// Runs SQL over the archive; its table is called `audit`
    #[cfg(feature = "query")]
    Query(QueryArgs),
    /// The archive's files
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Microsoft's side on this machine: Entra ID and the Activity API, for tests and development
    Emulate(EmulateArgs),
    /// The app's certificate: makes one, shows one
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The key that seals what is secret in the ledger
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// The ledger itself
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The tenant to ask Microsoft for [default: the first active one]
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Exit when everything published has been collected, instead of going on until Ctrl-C
    #[arg(long)]
    pub(crate) once: bool,
    /// Replay recorded records (NDJSON; .zst and .gz are unpacked) with fresh ids and times
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) records: Vec<PathBuf>,
    /// How many tenants Microsoft's side has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) tenants: u32,
    /// Repeats a demo exactly
    #[arg(long, default_value_t = 2026)]
    pub(crate) seed: u64,
    /// The faults Microsoft's side shows: a TOML file, or a preset (demo, ten-percent, none)
    #[arg(long, value_name = "FILE", default_value = "demo")]
    pub(crate) faults: String,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Catch up on everything available now, then exit
    #[arg(long, required = true)]
    pub(crate) once: bool,
    /// Only these tenants
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Begins to collect a tenant that has consented
    Add {
        /// The tenant's id (a GUID)
        id: TenantId,
        /// What to call it
        #[arg(long, default_value = "")]
        label: String,
        /// Do not ask the login authority which cloud the tenant lives in
        #[arg(long)]
        unchecked: bool,
    },
    /// All tenants and how they are
    List,
    /// One tenant in full
    Show {
        /// The tenant's id
        id: TenantId,
    },
    /// Stops collecting a tenant; its subscriptions stay, and what the feed keeps for seven days can be caught up on
    Pause {
        /// The tenant's id
        id: TenantId,
    },
    /// Collects a paused tenant again
    Resume {
        /// The tenant's id
        id: TenantId,
    },
    /// Tries once more what was given up as missing or unreadable and has not expired yet
    Retry {
        /// The tenant's id
        id: TenantId,
    },
    /// Sets a legal hold: from now on neither retention nor a purge deletes anything of a tenant; merging goes on
    Hold {
        /// The tenant's id
        id: TenantId,
        /// Why, such as the number of a case; kept in the log of activity
        #[arg(long)]
        reason: String,
    },
    /// Ends a legal hold: what is past its retention goes with the next look at it
    Release {
        /// The tenant's id
        id: TenantId,
    },
    /// Offboards a tenant: its subscriptions are stopped at Microsoft; its archive is kept unless --purge is given
    Remove {
        /// The tenant's id
        id: TenantId,
        /// Delete its records and everything known about it, too; repeated, it goes on where it was stopped
        #[arg(long)]
        purge: bool,
        /// Do it; without this flag a purge only says what it would delete
        #[arg(long, requires = "purge")]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ConsentLinkArgs {
    #[command(flatten)]
    pub(crate) link: NewLink,
    #[command(subcommand)]
    pub(crate) command: Option<ConsentLinkCommand>,
}

#[derive(Debug, Args)]
pub(crate) struct NewLink {
    /// Whom it is for; the tenant it connects is called so
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) label: String,
    /// How long it is good, up to 90d
    #[arg(long, default_value = "7d", value_name = "TIME", value_parser = parse_link_life)]
    pub(crate) expires: Duration,
    /// How many tenants it can connect: a number, or `unlimited`
    #[arg(long, default_value = "1", value_name = "N", value_parser = parse_uses)]
    pub(crate) uses: Uses,
    /// The only tenant that may use it
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsentLinkCommand {
    /// The links there are, the latest first; their secrets are kept by nobody
    List,
    /// Who has connected which tenant with which link, the latest first
    Log {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        /// At most so many lines
        #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Takes a link back, at once and for whoever is on the way with it
    Revoke {
        /// Its number
        number: u64,
    },
}

/// How many tenants a link can connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uses(pub(crate) Option<u32>);

fn parse_uses(text: &str) -> Result<Uses, String> {
    if text == "unlimited" {
        return Ok(Uses(None));
    }
    let most = server::engine::consent::INVITATION_USES_MAX;
    let uses = text.parse().ok().filter(|uses| (1..=most).contains(uses));
    uses.map(|uses| Uses(Some(uses))).ok_or_else(|| format!("must be 1 to {most}, or unlimited"))
}

fn parse_link_life(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=server::engine::consent::INVITATION_LIFETIME_MAX;
    parse_duration(text)
        .filter(|life| range.contains(life))
        .ok_or_else(|| "must be 1s to 90d, such as 12h or 7d".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct SubscriptionFilter {
    /// Only these tenants [default: all active ones]
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Only these content types [default: the configured ones]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Vec<ContentType>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Asks Microsoft which subscriptions there are
    List(SubscriptionFilter),
    /// Starts those that are missing
    Start(SubscriptionFilter),
    /// Stops them: content of the time until the next start can never be had
    Stop {
        #[command(flatten)]
        filter: SubscriptionFilter,
        /// Do it; without this flag it only says what it would stop
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ActivityArgs {
    /// Only of this tenant, known here or not
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    /// Only this: tenant_added, tenant_paused, tenant_resumed, tenant_removed, purge_ordered, purged, expired, hold_set,
    /// hold_released or vacuumed
    #[arg(long, value_name = "WHAT")]
    pub(crate) kind: Option<ActivityKind>,
    /// Only of the last while, such as 90d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) since: Option<Duration>,
    /// Only entries before the one of this number
    #[arg(long, value_name = "ENTRY")]
    pub(crate) before: Option<u64>,
    /// At most so many entries
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "must be a time with its unit, such as 12h or 90d".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct CoverageArgs {
    /// Only these tenants
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Exit with 5 unless every tenant and type meets this, such as "complete within 2h"
    #[arg(long, value_name = "WHAT", value_parser = parse_requirement)]
    pub(crate) require: Option<Requirement>,
    /// Name so many losses and pieces in quarantine of each tenant [default: 20; 1000 with --json]
    #[arg(long, value_name = "N")]
    pub(crate) details: Option<u32>,
}

/// What `--require` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// How far back "complete through" may lie.
    pub(crate) within: Duration,
}

fn parse_requirement(text: &str) -> Result<Requirement, String> {
    text.trim()
        .strip_prefix("complete within ")
        .and_then(parse_duration)
        .map(|within| Requirement { within })
        .ok_or_else(|| "write it as \"complete within 2h\", with ms, s, m, h or d".to_owned())
}

/// How `query` prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for a terminal
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated, RFC 4180, with a header
    Csv,
    /// A Parquet file
    Parquet,
}

#[cfg(feature = "query")]
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// How to print the result [default: table; json with --json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write the result to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// List the functions that read JSON in `raw`
    #[arg(long, conflicts_with = "sql")]
    pub(crate) functions: bool,
    /// The query, such as "SELECT operation, count(*) FROM audit GROUP BY operation"; - reads it from stdin
    #[arg(required_unless_present = "functions")]
    pub(crate) sql: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// Re-reads every file: digests, counts, ledger against files
    Verify {
        /// Only these tenants
        #[arg(long, value_name = "ID")]
        tenant: Vec<TenantId>,
    },
    /// Merges small segments now
    Compact {
        /// Only these tenants
        #[arg(long, value_name = "ID")]
        tenant: Vec<TenantId>,
    },
    /// Publishes the tables of Delta Lake now, as a collector does by itself
    Publish {
        /// Only these tenants
        #[arg(long, value_name = "ID")]
        tenant: Vec<TenantId>,
        /// Write each table's log down anew, from the ledger
        #[arg(long)]
        rebuild: bool,
    },
    /// Names the files of tenants that the ledger does not know, and deletes them when told to
    ///
    /// Such files are what a ledger leaves behind that was lost or restored from an older copy, and may hold records that cannot
    /// be had again. What a crash has left of tenants that are known goes by itself.
    Vacuum {
        /// Only these tenants
        #[arg(long, value_name = "ID")]
        tenant: Vec<TenantId>,
        /// Delete them
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EmulateArgs {
    /// Where to listen for HTTP
    #[arg(long, default_value = "127.0.0.1:7000", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Where to listen for HTTPS as well, with a certificate of an own CA for Microsoft's host names
    #[arg(long, value_name = "ADDR")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Where the CA is kept between runs and its certificate (ca.pem) is written [default: made anew, in the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) ca_dir: Option<PathBuf>,
    /// How many tenants there are [default: what the world file says, else 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) tenants: Option<u32>,
    /// Replay recorded records (NDJSON; .zst and .gz are unpacked) with fresh ids and times
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) records: Vec<PathBuf>,
    /// A fault plan: a TOML file, or the name of a preset (ten-percent, demo, none)
    #[arg(long, value_name = "FILE", default_value = "none")]
    pub(crate) faults: String,
    /// Repeats a world exactly: the same tenants, records, contents and faults [default: what the world file says, else
    /// 2026]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// More of the world (volumes, lateness, duplicates, limits), in a TOML file; the options here come before it
    #[arg(long, value_name = "FILE")]
    pub(crate) world: Option<PathBuf>,
    /// The application that may ask for tokens [default: one drawn from the seed]
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<ClientId>,
    /// A file with that application's secret [default: one drawn from the seed, printed at the start]
    #[arg(long, value_name = "FILE")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// A certificate (PEM) that application may sign assertions with
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Makes an RSA key and a self-signed certificate, and says what to upload to the app registration
    New {
        /// Where the private key goes, with the certificate; the certificate alone goes beside it as .crt
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The RSA key's length: 2048, 3072 or 4096
        #[arg(long, default_value_t = server::credential::KEY_BITS_DEFAULT)]
        bits: u32,
        /// For how many days it is valid, at most 3650
        #[arg(long, default_value_t = 365)]
        days: u32,
        /// The certificate's common name
        #[arg(long, value_name = "NAME", default_value = "Tenantry")]
        subject: String,
    },
    /// Shows thumbprints, expiry and the state of the key: PEM or PKCS#12
    Show {
        /// The certificate, with its private key or without
        file: PathBuf,
        /// A file whose first line is the key's password [default: the variable TENANTRY_CERTIFICATE_PASSWORD]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Moves a whole ledger into an empty one, such as from SQLite to PostgreSQL or back; the old one stays as it is
    Migrate {
        /// Where it is: sqlite:PATH or postgres://USER@HOST/DATABASE [default: ledger.url]
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        /// Where it goes. A database's password comes from TENANTRY_LEDGER__PASSWORD or --password-file
        #[arg(long, value_name = "URL")]
        to: String,
        /// The file that holds the password of the database, for both sides [default: ledger.password_file]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Which keys there are, and how much each has sealed
    Status,
    /// Renews the key: a fresh one is put in front, everything is sealed anew with it, the old one is dropped. Can be
    /// stopped at any moment and goes on where it was; a collector may be running
    Rotate,
    /// Forgets what is sealed with a key that is lost: consents that are under way have to be begun again
    Reset {
        /// Do it; without this flag it only says what it would forget
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Validates the configuration, with everything it points to
    Check,
    /// Prints every value in force and where it comes from
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_requirement_is_read_with_its_unit() {
        assert_eq!(parse_requirement("complete within 2h"), Ok(Requirement { within: Duration::from_secs(7200) }));
        assert!(parse_requirement("complete").is_err());
        assert!(parse_requirement("complete within 2").is_err());
    }

    #[test]
    fn a_link_is_made_listed_or_revoked() {
        let parse = |arguments: &[&str]| {
            let line = ["tenantry", "consent-link"].iter().chain(arguments);
            match Cli::try_parse_from(line).map(|cli| cli.command) {
                Ok(Command::ConsentLink(args)) => Ok(args),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        let plain = parse(&[]).unwrap();
        assert!(plain.command.is_none());
        assert_eq!((plain.link.expires, plain.link.uses), (Duration::from_secs(7 * 86_400), Uses(Some(1))));
        assert_eq!(parse(&["--uses", "unlimited"]).unwrap().link.uses, Uses(None));
        assert_eq!(parse(&["--uses", "100000"]).unwrap().link.uses, Uses(Some(100_000)));
        assert_eq!(parse(&["--expires", "90d"]).unwrap().link.expires, Duration::from_secs(90 * 86_400));
        for wrong in [&["--uses", "0"], &["--uses", "100001"], &["--expires", "91d"], &["--expires", "999ms"]] {
            assert!(parse(wrong).unwrap_err().contains("must be"), "{wrong:?}");
        }
        assert!(matches!(parse(&["revoke", "3"]).unwrap().command, Some(ConsentLinkCommand::Revoke { number: 3 })));
        assert!(matches!(parse(&["list"]).unwrap().command, Some(ConsentLinkCommand::List)));
        assert!(parse(&["--uses", "2", "list"]).is_err());
    }

    #[test]
    fn a_malformed_tenant_id_is_refused_with_its_text() {
        let error = Cli::try_parse_from(["tenantry", "tenant", "add", "contoso.com"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("must be a GUID"), "{error}");
    }
}
