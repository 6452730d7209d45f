//! Shares records out: over tenants by their size, over content types by what such tenants are seen to make.
//!
//! Never loses one to rounding: the shares of a total add up to the total.

use protocol::ids::ContentType;

use super::feed::Feed;
use super::options::WorldOptions;
use super::tenant::Tenant;
use super::timeline::Timeline;
use crate::records::Source;

/// Records of a tenant's history when nobody says how many.
const HISTORY_PER_TENANT: u64 = 600;

/// The part each content type has in a tenant's records, in the order of `ContentType::KNOWN`. The public samples come
/// from labs (records/STATISTICS.md says so itself), so these are of ordinary tenants: mail and sign-ins lead.
const KIND_WEIGHTS: [f64; 5] = [0.24, 0.34, 0.24, 0.16, 0.02];

/// Sets the volume of every feed.
pub(crate) fn distribute(tenants: &mut [Tenant], options: &WorldOptions, source: &Source, timeline: &Timeline) {
    let weights = tenant_weights(tenants, options);
    let natural = natural_total(source);
    let shares = match (options.records_total, natural) {
        (Some(total), _) => split(total, &weights),
        (None, Some(each)) => vec![each; tenants.len()],
        (None, None) => split(HISTORY_PER_TENANT * tenants.len() as u64, &weights),
    };
    let sum: f64 = weights.iter().sum();
    for ((tenant, history), weight) in tenants.iter_mut().zip(shares).zip(weights) {
        fill(tenant, history, options.live_rate * weight / sum, source);
    }
    place_huge(tenants, options, source, timeline);
}

/// Sets the volume of one tenant's feeds.
pub(crate) fn fill(tenant: &mut Tenant, history: u64, live_per_minute: f64, source: &Source) {
    let mut weights: Vec<f64> = KIND_WEIGHTS.to_vec();
    if let Source::Replayed(corpus) = source {
        let counts = tenant.feeds.iter().map(|feed| corpus.len(&feed.kind));
        #[expect(clippy::cast_precision_loss, reason = "counts of recorded records are small")]
        let counted: Vec<f64> = counts.map(|count| count as f64).collect();
        weights = counted;
    }
    let mut shares = split(history, &weights);
    if let Source::Replayed(corpus) = source {
        for (share, feed) in shares.iter_mut().zip(&tenant.feeds) {
            // What cannot get a fresh id is played once only.
            if !corpus.repeatable(&feed.kind) {
                *share = (*share).min(corpus.len(&feed.kind));
            }
        }
    }
    let sum: f64 = weights.iter().sum();
    for ((feed, share), weight) in tenant.feeds.iter_mut().zip(shares).zip(weights) {
        feed.history = share;
        feed.live = if sum > 0.0 && is_endless(source, feed) { live_per_minute / 60_000.0 * weight / sum } else { 0.0 };
    }
}

/// Whether the source has any number of records for a feed.
fn is_endless(source: &Source, feed: &Feed) -> bool {
    match source {
        Source::Generated => true,
        Source::Replayed(corpus) => corpus.repeatable(&feed.kind),
    }
}

fn natural_total(source: &Source) -> Option<u64> {
    ContentType::KNOWN.iter().map(|kind| source.natural_count(kind)).sum()
}

/// By seats as soon as somebody says how many seats a tenant has, else by place and skew.
#[expect(clippy::cast_precision_loss, reason = "places of tenants are small")]
fn tenant_weights(tenants: &[Tenant], options: &WorldOptions) -> Vec<f64> {
    if options.specs.iter().any(|spec| spec.seats.is_some()) {
        return tenants.iter().map(|tenant| f64::from(tenant.profile.seats.max(1))).collect();
    }
    (0..tenants.len()).map(|place| ((place + 1) as f64).powf(-options.skew)).collect()
}

/// Shares of `total` by weight, by largest remainder; while it lasts, every positive weight gets at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "far below 2^52"
)]
fn split(total: u64, weights: &[f64]) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<f64> = weights.iter().map(|weight| total as f64 * weight / sum).collect();
    let mut shares: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|place| weights[*place] > 0.0).collect();
    let rest = |place: &usize| if exact[*place] < 1.0 { 2.0 } else { exact[*place].fract() };
    order.sort_by(|a, b| rest(b).total_cmp(&rest(a)).then(a.cmp(b)));
    let mut left = total.saturating_sub(shares.iter().sum());
    for place in order.iter().cycle().take(usize::try_from(left).unwrap_or(0)) {
        shares[*place] += 1;
        left -= 1;
        if left == 0 {
            break;
        }
    }
    shares
}

/// Puts the huge blob into the first tenant's `Audit.General`, or another feed if nothing can fill that one, in the middle
/// of the last day of the history.
fn place_huge(tenants: &mut [Tenant], options: &WorldOptions, source: &Source, timeline: &Timeline) {
    let Some(bytes) = options.huge_blob else { return };
    let Some(tenant) = tenants.first_mut() else { return };
    let span = timeline.start() - timeline.begin();
    let created = if span > 1 { timeline.start() - (span / 2).min(12 * 3_600_000) } else { timeline.start() + 60_000 };
    let fitting = |feed: &Feed| is_endless(source, feed);
    let general = tenant.feeds.iter().position(|feed| feed.kind == ContentType::General && fitting(feed));
    let Some(place) = general.or_else(|| tenant.feeds.iter().position(fitting)) else { return };
    let mean = mean_size(tenant, place, source, created);
    if let Some(feed) = tenant.feeds.get_mut(place) {
        // A percent more, because the mean is taken of a sample.
        feed.huge = Some((created, bytes.saturating_mul(101) / 100 / mean.max(1) + 1));
    }
}

fn mean_size(tenant: &Tenant, place: usize, source: &Source, made_at: i64) -> u64 {
    const SAMPLE: u64 = 2000;
    let Some(feed): Option<&Feed> = tenant.feeds.get(place) else { return 1 };
    let mut out = Vec::new();
    for number in 0..SAMPLE {
        let number = super::content::RecordRef::HUGE + number;
        let wanted = crate::records::Wanted {
            tenant: &tenant.profile,
            kind: &feed.kind,
            feed: feed.seed,
            number,
            variant: false,
            withheld: false,
            made_at,
        };
        source.render(&wanted, &mut out);
        // The comma after it.
        out.push(b',');
    }
    out.len() as u64 / SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_nobody_with_weight_goes_empty_while_it_lasts() {
        for total in [0, 1, 5, 6, 100, 999_999] {
            let shares = split(total, &[0.24, 0.34, 0.0, 0.40, 0.02]);
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert_eq!(shares[2], 0);
            if total >= 100 {
                assert!(shares[4] > 0, "{shares:?}");
            }
        }
        assert_eq!(split(10, &[0.0, 0.0]), [0, 0]);
    }
}
