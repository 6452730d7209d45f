//! Measures how fast a world makes its records and blobs, and what sizes they have.
//!
//! Never asserts anything: it prints, for a person who changes the generator.
#![expect(clippy::print_stdout, reason = "printing is all it does")]

use std::time::Instant;

use emulator::world::RecordSet;
use emulator::{EmulatorClock, World, WorldOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let total: u64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let options = WorldOptions { records_total: Some(total), ..WorldOptions::default() };
    let clock = EmulatorClock::frozen(chrono::DateTime::from_timestamp(1_798_754_437, 0).unwrap_or_default());
    let world = World::new(options, clock)?;
    let began = Instant::now();
    let contents = world.contents().count();
    println!("{contents} contents planned in {:?}", began.elapsed());
    let began = Instant::now();
    let mut sizes = Vec::new();
    for tenant in world.tenant_ids() {
        world.each_record(tenant, RecordSet::Readable, |_, text| {
            sizes.push(text.len());
            true
        });
    }
    let bytes: usize = sizes.iter().sum();
    let took = began.elapsed();
    println!(
        "{} records, {bytes} bytes made in {took:?}: {:.0} MB/s",
        sizes.len(),
        bytes as f64 / 1e6 / took.as_secs_f64()
    );
    sizes.sort_unstable();
    let at = |share: f64| sizes[((sizes.len() - 1) as f64 * share) as usize];
    println!("p10 {} p50 {} p90 {} p99 {} p999 {} max {}", at(0.1), at(0.5), at(0.9), at(0.99), at(0.999), at(1.0));
    for level in [1, 6] {
        let began = Instant::now();
        let mut made = 0;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        world.each_record(world.tenant_ids()[0], RecordSet::Readable, |_, text| {
            made += text.len();
            encoder.write_all(text).is_ok()
        });
        let packed = encoder.finish()?.len();
        println!(
            "with gzip {level}: {:.0} MB/s, ratio {:.1}",
            made as f64 / 1e6 / began.elapsed().as_secs_f64(),
            made as f64 / packed as f64
        );
    }
    Ok(())
}
