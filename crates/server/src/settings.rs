//! What the collector runs on: validated values, no options left, no text to read.
//!
//! Never reads a file or a variable: the program's configuration does, and hands this over whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::tile::Grid;
use protocol::cloud::Cloud;
use protocol::ids::{ClientId, ContentType, PublisherId};

pub use protocol::token::{AssertionAlgorithm, IdentityEndpoint, IdentityName, TokenEndpoint};

pub use crate::credential::Credential;

/// Everything the collector is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the lock file lives, and the embedded ledger and archive unless they are set otherwise.
    pub data_dir: PathBuf,
    /// The app registration.
    pub app: AppSettings,
    /// Whose login authority and Activity API are asked.
    pub cloud: Cloud,
    /// What is collected, and how fast.
    pub collect: CollectSettings,
    /// How long records are kept; `None`: for ever. At least [`engine::retention::RETENTION_MIN`].
    pub retention: Option<Duration>,
    /// Whether the archive is published as tables of Delta Lake, and how.
    pub tables: Option<TableSettings>,
    /// How much may be under way at one time.
    pub limits: Limits,
}

/// How the archive is published as tables for programs that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSettings {
    /// The least time between two publications of one tenant: what is committed meanwhile comes in one entry of the log.
    /// Shorter: more entries and, in object storage, more requests. Longer: readers see records later.
    pub interval: Duration,
    /// How long a reader may go on with a snapshot: replaced files, and what the log says of them, stay this long. At least
    /// [`Limits::obsolete_grace`] is kept in any case.
    pub kept: Duration,
}

impl TableSettings {
    /// A minute, and a day.
    pub const DEFAULT: Self = Self { interval: Duration::from_secs(60), kept: Duration::from_secs(86_400) };
}

/// The app registration the tenants have consented to.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The application (client) id.
    pub client_id: ClientId,
    /// Sent as `PublisherIdentifier` on every request (activity-api.md §1).
    pub publisher_id: PublisherId,
    /// Several side by side are a rollover: the first that is not refused is used. At least one.
    pub credentials: Vec<Credential>,
    /// Which of Entra's two token endpoints is asked.
    pub token_endpoint: TokenEndpoint,
}

/// What is collected, and how fast.
#[derive(Debug, Clone)]
pub struct CollectSettings {
    /// Subscribed to and collected, in this order of preference. At least one.
    pub content_types: Vec<ContentType>,
    /// How often the open tile of each content type is listed. 1 s to 1 d.
    pub poll_interval: Duration,
    /// How often that is done at least when the type has brought nothing for long. `poll_interval` or more; the same: as often
    /// as ever.
    pub quiet_poll_interval: Duration,
    /// The longest time that fetched records wait for their commit. 100 ms to 10 min.
    pub commit_interval: Duration,
    /// The windows that time is cut into; what was listed by another grid keeps its own.
    pub tile: Grid,
    /// The request budget of one tenant, all operations together. The API's documented baseline is 2,000
    /// (activity-api.md §7).
    pub requests_per_minute: u32,
}

impl CollectSettings {
    /// The `quiet_poll_interval` for those who set none: five of the others, an hour at most. With a minute and the five content
    /// types an idle tenant costs some 1,800 requests a day then instead of 7,200, and a tenth of the ledger's work.
    pub fn usual_quiet_poll_interval(poll_interval: Duration) -> Duration {
        (5 * poll_interval).min(Duration::from_secs(3_600)).max(poll_interval)
    }
}

/// How much may be under way at one time, over all tenants unless said otherwise.
///
/// Memory follows from these and not from the number of tenants or the size of blobs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tenants being worked on: each lists, and fetches if there is something to fetch. A waiting one costs nothing but
    /// its row on the board.
    pub tenants: usize,
    /// Commits being written. Each may hold some MiB of unfinished segments; one that waits holds its tenant back only.
    pub commits: usize,
    /// Blobs being fetched.
    pub fetches: usize,
    /// Blobs of one tenant being fetched; Microsoft's advice is a modest 8 to 16 (activity-api.md §7).
    pub fetches_per_tenant: usize,
    /// Bytes that have left the network and are not yet in a commit writer.
    pub bytes_in_flight: usize,
    /// Token requests under way. Entra throttles the token endpoint (entra.md §5.5).
    pub token_requests: usize,
    /// Raw bytes of records after which a batch is committed without waiting for the interval.
    pub commit_bytes: u64,
    /// Contents after which a batch is committed without waiting for the interval.
    pub commit_contents: usize,
    /// Listings of one tenant under way.
    pub listings_per_tenant: usize,
    /// The largest single record; a longer one goes to quarantine, whole. At most [`RECORD_BYTES_MOST`].
    pub record_bytes: usize,
    /// The largest blob, after decompression, that is read at all; beyond it something is wrong with the other side.
    pub blob_bytes: u64,
    /// The longest time one attempt at one blob may take.
    pub blob_time: Duration,
    /// The largest body of any other answer.
    pub answer_bytes: usize,
    /// Pages of one listing.
    pub pages_per_listing: u32,
    /// How long `collect --once` waits for the next attempt of what failed, from one success to the next.
    pub longest_wait_in_one_run: Duration,
    /// How long a merged segment's file stays for readers that may still have it open.
    pub obsolete_grace: Duration,
    /// How often the ledger is asked which tenants have changed.
    pub tenants_interval: Duration,
    /// How long a stop waits for what is under way before it is dropped; dropped work is fetched again.
    pub stop_grace: Duration,
}

/// The most that [`Limits::record_bytes`] may be: what the archive stores as a row. Some of this size are in memory at a time.
pub const RECORD_BYTES_MOST: usize = 32 << 20;

impl Default for Limits {
    /// What one small machine bears: under 300 MiB with blobs of 100 MiB, and thousands of tenants.
    fn default() -> Self {
        Self {
            tenants: 128,
            commits: 8,
            fetches: 64,
            fetches_per_tenant: 8,
            bytes_in_flight: 24 << 20,
            token_requests: 8,
            commit_bytes: 128 << 20,
            commit_contents: 2000,
            listings_per_tenant: 4,
            record_bytes: 16 << 20,
            blob_bytes: 4 << 30,
            blob_time: Duration::from_secs(30 * 60),
            answer_bytes: 16 << 20,
            pages_per_listing: 10_000,
            longest_wait_in_one_run: Duration::from_secs(3 * 60),
            obsolete_grace: Duration::from_secs(10 * 60),
            tenants_interval: Duration::from_secs(2),
            stop_grace: Duration::from_secs(20),
        }
    }
}

/// Where the console listens: private, loopback unless told otherwise.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// The address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}
