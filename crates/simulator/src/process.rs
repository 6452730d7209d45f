//! What this process has cost so far, as the system tells it; 0 where it does not.
//!
//! Never part of what a seed means: it is shown beside the results and drawn from nowhere.

/// Clock ticks of `/proc/self/stat` in a second: Linux has shown 100 to programs on every machine since 2.6 (proc(5)).
const TICKS: u64 = 100;

/// `VmRSS`, in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// Processor time of all threads, of the program and of the system on its behalf, in whole seconds.
pub fn processor_seconds() -> u64 {
    seconds_in(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

/// The second field is the program's name in brackets, with anything in it; `utime` and `stime` are the 14th and 15th.
fn seconds_in(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks / TICKS
}

#[cfg(test)]
mod tests {
    use super::seconds_in;

    #[test]
    fn the_time_of_the_program_and_of_the_system_are_added_up() {
        let stat = "4711 (a) 9 9 9 (b) R 1 2 3 4 5 6 7 8 9 10 1250 149 11 12 20 0 1 0";
        assert_eq!(seconds_in(stat), 13);
        assert_eq!(seconds_in(&stat.replace("149", "150")), 14);
        assert_eq!(seconds_in(""), 0);
    }
}
