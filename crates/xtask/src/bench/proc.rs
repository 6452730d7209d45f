//! What the kernel says of processes: CPU time of children, memory of a running one. Linux's `/proc` only.
//!
//! Never guesses: what a line does not say is `None`.

use std::time::Duration;

/// The kernel counts CPU time in ticks of 10 ms (`USER_HZ`), on every architecture this builds for.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time, user and system, of all children that were waited for, from the line of `/proc/self/stat`.
pub(super) fn children_cpu(stat: &str) -> Option<Duration> {
    // The second field, in brackets, is the program's name, and may hold blanks and brackets of its own.
    let (_, fields) = stat.rsplit_once(')')?;
    // `cutime` and `cstime` are the 16th and 17th field of the line, so the 14th and 15th behind the name.
    let mut ticks = fields.split_ascii_whitespace().skip(13).map(|field| field.parse::<u64>().ok());
    let ticks = ticks.next()?? + ticks.next()??;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident_kib: u64,
    /// The most that was ever resident.
    pub(super) peak_kib: u64,
}

/// From the text of `/proc/{pid}/status`. `None` for a process that has ended and was not waited for yet: it has none.
pub(super) fn memory(status: &str) -> Option<Memory> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim_end().parse().ok()
    };
    Some(Memory { resident_kib: value("VmRSS")?, peak_kib: value("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_counted_from_the_right_fields_whatever_the_name() {
        // Fields of proc(5): user 11, system 12, children's user 234, children's system 56.
        let fields = "S 1 100 100 0 -1 4194560 900 8000 0 3 11 12 234 56 20 0 4 0 700 100000 5000 18446744073709551615";
        for name in ["xtask", "a b", "a) S 9 9", "((x)"] {
            let line = format!("4711 ({name}) {fields}\n");
            assert_eq!(children_cpu(&line), Some(Duration::from_millis(2900)), "{name}");
        }
        for line in ["", "4711 (x", "4711 (x) S 1 2 3", "4711 (x) S 1 1 1 0 -1 4 9 8 0 3 11 12 - 56 20"] {
            assert_eq!(children_cpu(line), None, "{line}");
        }
    }

    #[test]
    fn memory_is_read_with_its_unit_and_a_process_that_has_ended_has_none() {
        let status = "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\nVmRSSx:\t 1 kB\n";
        assert_eq!(memory(status), Some(Memory { resident_kib: 1024, peak_kib: 2048 }));
        assert_eq!(memory("Name:\tx\nState:\tZ (zombie)\n"), None);
        assert_eq!(memory("VmHWM:\t 1 MB\nVmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn this_machine_writes_the_lines_that_are_read() {
        let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
        assert!(children_cpu(&stat).is_some(), "{stat}");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = memory(&status).unwrap();
        assert!(memory.resident_kib > 0 && memory.resident_kib <= memory.peak_kib, "{memory:?}");
    }
}
