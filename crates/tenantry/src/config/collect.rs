//! `[collect]`: what is collected, and how fast.

use std::time::Duration;

use server::engine::tile::Grid;
use server::protocol::ids::ContentType;
use server::settings::CollectSettings;

use super::values::Reader;
use super::{CollectConfig, ConfigError, format_duration};

const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_COMMIT_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_LARGEST_RECORD_MIB: usize = 16;
const DEFAULT_REQUESTS_PER_MINUTE: u32 = 1_500;

pub(super) fn collect(reader: &Reader<'_>) -> Result<CollectConfig, ConfigError> {
    let content_types = match reader.list("collect.content_types")? {
        None => ContentType::KNOWN.to_vec(),
        Some(texts) => {
            let mut content_types = Vec::new();
            for text in texts {
                let content_type: ContentType = text
                    .parse()
                    .map_err(|error| reader.invalid("collect.content_types", format!("holds {text:?}: {error}")))?;
                if !content_types.contains(&content_type) {
                    content_types.push(content_type);
                }
            }
            if content_types.is_empty() || content_types.len() > 32 {
                return Err(reader.invalid("collect.content_types", "must hold 1 to 32 content types".to_owned()));
            }
            content_types
        }
    };
    let requests_per_minute = match reader.integer("collect.requests_per_minute")? {
        None => DEFAULT_REQUESTS_PER_MINUTE,
        // Below 10 a tenant's five listings a poll starve its fetches; above 60,000 no quota of Microsoft's reaches.
        Some(number) => {
            u32::try_from(number).ok().filter(|number| (10..=60_000).contains(number)).ok_or_else(|| {
                reader.invalid("collect.requests_per_minute", format!("must be 10 to 60000, not {number}"))
            })?
        }
    };
    let largest_record_mib = match reader.integer("collect.largest_record_mib")? {
        None => DEFAULT_LARGEST_RECORD_MIB,
        // Below 1 what other tools call large is none; above 32 the archive has no room in a row.
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| (1..=32).contains(number))
            .ok_or_else(|| reader.invalid("collect.largest_record_mib", format!("must be 1 to 32, not {number}")))?,
    };
    let poll_range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let poll_interval = reader.duration("collect.poll_interval", poll_range.clone())?.unwrap_or(DEFAULT_POLL_INTERVAL);
    let quiet_poll_interval = match reader.duration("collect.quiet_poll_interval", poll_range)? {
        None => CollectSettings::usual_quiet_poll_interval(poll_interval),
        Some(interval) if interval >= poll_interval => interval,
        Some(interval) => {
            let [quiet, usual] = [interval, poll_interval].map(format_duration);
            return Err(reader.invalid(
                "collect.quiet_poll_interval",
                format!("must not be shorter than collect.poll_interval, which is {usual}: it is {quiet}"),
            ));
        }
    };
    Ok(CollectConfig {
        content_types,
        largest_record_mib,
        poll_interval,
        quiet_poll_interval,
        commit_interval: reader
            .duration("collect.commit_interval", Duration::from_millis(100)..=Duration::from_secs(3_600))?
            .unwrap_or(DEFAULT_COMMIT_INTERVAL),
        requests_per_minute,
        tile: match reader.duration("collect.tile", Duration::from_secs(60)..=Duration::from_secs(86_400))? {
            None => Grid::FOUR_HOURS,
            Some(span) => {
                Grid::new(span).map_err(|error| reader.invalid("collect.tile", format!("is wrong: {error}")))?
            }
        },
    })
}
