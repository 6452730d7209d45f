//! The figures as a person reads them, and as JSON.

use serde_json::{Value, json};

use super::figures::{PEAK_KIB_MAX, RISE_MAX, Report, WARM_UP};

impl Report {
    /// For a person.
    pub(super) fn to_text(&self) -> String {
        let mut lines = vec![self.headline(), String::new()];
        lines.push(format!(
            "{:<10}{:>8}{:>18}{:>9}{:>8}{:>10}",
            "", "CPU s", "per million rec.", "wall s", "MB/s", "peak MiB"
        ));
        let row = |name: &str, cpu: f64, wall: f64, bytes: u64, peak: String| {
            let per_million = self.per_million(cpu);
            let speed = bytes as f64 / 1e6 / wall.max(1e-3);
            format!("{name:<10}{cpu:>8.2}{per_million:>18.2}{wall:>9.2}{speed:>8.0}{peak:>10}")
        };
        if let Some(floor) = self.floor() {
            lines.push(row("floor", floor.cpu_seconds, floor.wall_seconds, floor.bytes, String::new()));
        }
        if let Some(product) = self.product() {
            let measured = &product.measured;
            let peak = (self.peak_kib() >> 10).to_string();
            lines.push(row("tenantry", measured.cpu_seconds, measured.wall_seconds, product.bytes, peak));
        }
        if let Some(ratio) = self.ratio() {
            lines.push(format!("{:<10}{ratio:>8.2}", "ratio"));
        }
        lines.push(String::new());
        if let Some(tenths) = self.tenths() {
            lines.push(format!(
                "resident memory: {} MiB at most in the first tenth, {} in the last, {} ever (limit {})",
                tenths.first_kib >> 10,
                tenths.last_kib >> 10,
                self.peak_kib() >> 10,
                PEAK_KIB_MAX >> 10
            ));
        }
        if let Some(rise) = self.rise() {
            lines.push(format!(
                "after the first {:.0} % of the records it rises by {:.0} % (limit {:.0})",
                WARM_UP * 100.0,
                rise * 100.0,
                RISE_MAX * 100.0
            ));
        }
        lines.push(format!("archived: {} of {} records", grouped(self.archived), grouped(self.published.records)));
        lines.extend(self.queries_table());
        lines.extend(self.faults().into_iter().map(|fault| format!("NOT AS IT MUST BE: {fault}")));
        lines.join("\n")
    }

    fn headline(&self) -> String {
        let bytes = self.floor().map_or(0, |floor| floor.bytes);
        format!(
            "{} records, {} of them delivered again, in {} contents, {} MB of JSON; {} tenants, seed {}; least of {} rounds, {}",
            grouped(self.published.delivered()),
            grouped(self.published.repeats),
            grouped(self.published.contents),
            grouped(bytes / 1_000_000),
            self.options.tenants,
            self.options.seed,
            self.options.rounds,
            self.options.profile,
        )
    }

    fn queries_table(&self) -> Vec<String> {
        if self.queries.is_empty() {
            return Vec::new();
        }
        let mut lines =
            vec![String::new(), format!("{:>8}{:>8}{:>9}  query, program start included", "wall s", "CPU s", "rows")];
        for query in &self.queries {
            let (wall, cpu, rows) = (query.wall_seconds, query.cpu_seconds, grouped(query.rows as u64));
            lines.push(format!("{wall:>8.2}{cpu:>8.2}{rows:>9}  {}", query.name));
        }
        lines
    }

    /// For a program.
    pub(super) fn to_json(&self) -> Value {
        let floors: Vec<Value> = self
            .floors
            .iter()
            .map(|floor| {
                json!({
                    "cpu_seconds": floor.cpu_seconds,
                    "wall_seconds": floor.wall_seconds,
                    "bytes": floor.bytes,
                    "compressed_bytes": floor.compressed_bytes,
                })
            })
            .collect();
        let products: Vec<Value> = self
            .products
            .iter()
            .map(|product| {
                json!({
                    "cpu_seconds": product.measured.cpu_seconds,
                    "wall_seconds": product.measured.wall_seconds,
                    "peak_kib": product.measured.peak_kib,
                    "records": product.records,
                    "repeats": product.repeats,
                    "bytes": product.bytes,
                    "samples": product.measured.samples.iter().map(|sample| json!([sample.done, sample.resident_kib])).collect::<Vec<_>>(),
                })
            })
            .collect();
        let queries: Vec<Value> = self
            .queries
            .iter()
            .map(|query| {
                json!({
                    "name": query.name,
                    "sql": query.sql,
                    "rows": query.rows,
                    "wall_seconds": query.wall_seconds,
                    "cpu_seconds": query.cpu_seconds,
                })
            })
            .collect();
        json!({
            "tenants": self.options.tenants,
            "seed": self.options.seed,
            "profile": self.options.profile,
            "published": { "records": self.published.records, "repeats": self.published.repeats, "contents": self.published.contents },
            "archived": self.archived,
            "floor_cpu_seconds_per_million": self.floor().map(|floor| self.per_million(floor.cpu_seconds)),
            "cpu_seconds_per_million": self.product().map(|product| self.per_million(product.measured.cpu_seconds)),
            "ratio": self.ratio(),
            "peak_kib": self.peak_kib(),
            "first_tenth_kib": self.tenths().map(|tenths| tenths.first_kib),
            "last_tenth_kib": self.tenths().map(|tenths| tenths.last_kib),
            "rise": self.rise(),
            "floors": floors,
            "runs": products,
            "queries": queries,
            "faults": self.faults(),
        })
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
