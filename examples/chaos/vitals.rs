//! Measures memory and descriptors of the processes while they live, and holds them to being flat.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Holds what was measured of every process.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    lives: BTreeMap<String, Vec<Sample>>,
}

/// Names a process that is measured.
#[derive(Debug)]
pub(crate) struct Patient {
    name: String,
    pid: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    age: Duration,
    kib: u64,
    descriptors: u64,
}

/// Sums up the processes that lived long enough to be judged.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) judged: usize,
    pub(crate) longest: Duration,
    /// The most that one has grown by, of the median at its beginning and that at its end.
    pub(crate) kib: i64,
    pub(crate) descriptors: i64,
    /// The most that one ever had.
    pub(crate) most_kib: u64,
    pub(crate) most_descriptors: u64,
}

impl Vitals {
    pub(crate) fn begin(&mut self, name: String, pid: u64) -> Patient {
        self.lives.insert(name.clone(), Vec::new());
        Patient { name, pid }
    }

    /// Adds a sample; where the system does not tell there is none.
    pub(crate) fn measure(&mut self, patient: &Patient, age: Duration) {
        let Some(kib) = resident(patient.pid) else { return };
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", patient.pid)) else { return };
        if let Some(samples) = self.lives.get_mut(&patient.name) {
            samples.push(Sample { age, kib, descriptors: open.count() as u64 });
        }
    }

    /// Judges every process that lived for some minutes; a text for each that grew.
    pub(crate) fn judge(&self) -> (Growth, Vec<String>) {
        let (mut growth, mut grown) = (Growth::default(), Vec::new());
        for (name, samples) in &self.lives {
            for sample in samples {
                growth.most_kib = growth.most_kib.max(sample.kib);
                growth.most_descriptors = growth.most_descriptors.max(sample.descriptors);
            }
            let Some(last) = samples.last().filter(|last| last.age >= JUDGED_FROM) else {
                continue;
            };
            let early = |sample: &Sample| (WARM_FROM..WARM_TO).contains(&sample.age);
            let late = |sample: &Sample| sample.age + (WARM_TO - WARM_FROM) >= last.age;
            let (before, after) = (median(samples, early), median(samples, late));
            let (kib, descriptors) = (after.0 - before.0, after.1 - before.1);
            growth.judged += 1;
            growth.longest = growth.longest.max(last.age);
            growth.kib = growth.kib.max(kib);
            growth.descriptors = growth.descriptors.max(descriptors);
            if kib > before.0 / 3 + SLACK_KIB || descriptors > SLACK_DESCRIPTORS {
                grown.push(format!(
                    "process {name} has grown in {:?}: from {} to {} KiB, from {} to {} descriptors",
                    last.age, before.0, after.0, before.1, after.1
                ));
            }
        }
        (growth, grown)
    }
}

fn median(samples: &[Sample], is_meant: impl Fn(&Sample) -> bool) -> (i64, i64) {
    let meant: Vec<&Sample> = samples.iter().filter(|sample| is_meant(sample)).collect();
    let middle = |mut values: Vec<u64>| {
        values.sort_unstable();
        values.get(values.len() / 2).map_or(0, |value| i64::try_from(*value).unwrap_or(i64::MAX))
    };
    let kib = middle(meant.iter().map(|sample| sample.kib).collect());
    (kib, middle(meant.iter().map(|sample| sample.descriptors).collect()))
}

fn resident(pid: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A process that lived for less says nothing.
const JUDGED_FROM: Duration = Duration::from_secs(150);
/// By then buffers have the size that they need.
const WARM_FROM: Duration = Duration::from_secs(30);
const WARM_TO: Duration = Duration::from_secs(90);
const SLACK_KIB: i64 = 6 * 1024;
/// Links that are being replaced.
const SLACK_DESCRIPTORS: i64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(kib: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Vitals {
        let samples = (0..60).map(|number| Sample {
            age: Duration::from_secs(5 * number),
            kib: kib(number),
            descriptors: descriptors(number),
        });
        Vitals { lives: BTreeMap::from([("0.0".to_owned(), samples.collect())]) }
    }

    #[test]
    fn a_leak_is_told_from_a_peak() {
        assert_eq!(vitals(|_| 10_000, |_| 20).judge().1, [""; 0]);
        let peak = |number| if number % 7 == 0 { 90_000 } else { 10_000 };
        assert_eq!(vitals(peak, |_| 20).judge().1, [""; 0]);
        assert_eq!(vitals(|number| 10_000 + 400 * number, |_| 20).judge().1.len(), 1);
        assert_eq!(vitals(|_| 10_000, |number| 20 + number).judge().1.len(), 1);
    }
}
