//! Memory of this machine, and sizes and times as people read them.

/// Bytes of memory that this machine has and that are free, where the system says (Linux).
pub fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

/// What is said where [`fits`] says no.
pub const TOO_LARGE: &str =
    "the model is not loaded, since the run may not fit into the memory that is free; there is no estimate of time";

/// Whether so many bytes are free, as far as the system says.
pub fn fits(bytes: u64) -> bool {
    memory().is_none_or(|(_, free)| bytes < free)
}

/// `1.9 GiB`, `310 MiB`.
pub fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes >= 1024.0 { format!("{:.1} GiB", mebibytes / 1024.0) } else { format!("{mebibytes:.0} MiB") }
}

/// `4.1 s`, `12 min`, `3.5 h`.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_in_units_that_fit() {
        assert_eq!([310 << 20, 2_040_109_466].map(size), ["310 MiB", "1.9 GiB"]);
        assert_eq!([4.12, 42.0, 720.0, 12_600.0].map(time), ["4.1 s", "42 s", "12 min", "3.5 h"]);
    }

    #[test]
    fn this_machine_has_memory() {
        if cfg!(target_os = "linux") {
            let (total, free) = memory().unwrap();
            assert!(total > 0 && free <= total);
        }
    }
}
