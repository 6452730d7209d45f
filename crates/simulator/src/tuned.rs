//! The collector's settings, from a plan's tuning.

use std::path::PathBuf;
use std::time::Duration;

use emulator::DEFAULT_SECRET;
use protocol::cloud::{Cloud, CustomCloud};
use protocol::ids::PublisherId;
use protocol::secret::ClientSecret;
use server::settings::{AppSettings, CollectSettings, Credential, Limits, Settings, TableSettings, TokenEndpoint};

use crate::plan::Plan;
use crate::plant::Bug;

pub(crate) fn settings(
    plan: &Plan,
    app: &emulator::app::AppRegistration,
    data_dir: PathBuf,
    bug: Option<Bug>,
) -> Result<Settings, String> {
    let root = "http://127.0.0.1:7000".to_owned();
    let custom = CustomCloud { login: root.clone(), activity: root, graph: None, resource: None };
    let tuning = &plan.tuning;
    let mut limits = Limits {
        fetches_per_tenant: tuning.fetches_per_tenant,
        listings_per_tenant: tuning.listings_per_tenant,
        commit_contents: tuning.commit_contents,
        obsolete_grace: tuning.obsolete_grace,
        tenants_interval: tuning.tenants_interval,
        ..Limits::default()
    };
    if bug == Some(Bug::EndsWhileFetching) {
        limits.stop_grace = Duration::ZERO;
    }
    Ok(Settings {
        data_dir,
        app: AppSettings {
            client_id: app.client_id,
            publisher_id: PublisherId::from_uuid(*app.home_tenant.as_uuid()),
            credentials: vec![Credential::Secret(ClientSecret::new(DEFAULT_SECRET))],
            token_endpoint: TokenEndpoint::V2,
        },
        cloud: Cloud::custom(&custom).map_err(|error| format!("no cloud: {error}"))?,
        collect: CollectSettings {
            content_types: tuning.content_types.clone(),
            poll_interval: tuning.poll_interval,
            quiet_poll_interval: CollectSettings::usual_quiet_poll_interval(tuning.poll_interval),
            commit_interval: tuning.commit_interval,
            requests_per_minute: tuning.requests_per_minute,
            tile: tuning.tile,
        },
        retention: None,
        tables: tables(plan.world.seed),
        limits,
    })
}

/// In one seed of three the archive is published as tables. Drawn from the seed itself, so that all else in it stays as it was.
pub(crate) fn tables(seed: u64) -> Option<TableSettings> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x7461_626c_6573);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    (rng.u8(0..3) == 0).then(|| TableSettings {
        interval: minutes([1, 10, 60][rng.usize(0..3)]),
        kept: minutes([10, 600][rng.usize(0..2)]),
    })
}
