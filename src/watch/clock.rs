//! Two clocks: that by which files are stamped, and how far the events have been read.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

/// The clock that most files are stamped with: it stands still for a tick (4 ms, say) at a
/// time. No later write gets an earlier stamp.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_now() -> SystemTime {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map(Duration::from);
    now.map_or_else(|_| SystemTime::now(), |since| SystemTime::UNIX_EPOCH + since)
}

/// The clock that files are stamped with.
#[cfg(not(target_os = "linux"))]
pub fn coarse_now() -> SystemTime {
    SystemTime::now()
}

/// The tick of that clock: a stamp may be so much older than what it stands for.
#[cfg(target_os = "linux")]
pub(super) fn tick() -> Duration {
    use nix::time::{ClockId, clock_getres};
    clock_getres(ClockId::CLOCK_REALTIME_COARSE).map_or(LONGEST_TICK, Duration::from)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn tick() -> Duration {
    Duration::ZERO
}

/// Waits for the next tick, and returns it: what was written before has an earlier stamp, and
/// what is written from now on has not.
pub(super) fn next_tick() -> SystemTime {
    let began = Instant::now();
    let before = coarse_now();
    loop {
        let now = coarse_now();
        if now > before || began.elapsed() > LONGEST_TICK {
            return now;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Of a kernel with 100 of them a second.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// When a file was last written, renamed or otherwise changed (its ctime).
pub(crate) fn changed_at(meta: &std::fs::Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(meta.ctime()).ok()?;
    let nanos = u32::try_from(meta.ctime_nsec()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

/// When what is stamped with this happened at the latest, by the clock that does not jump.
pub(super) fn instant_of(stamp: SystemTime) -> Instant {
    let now = Instant::now();
    let age = SystemTime::now().duration_since(stamp + tick()).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// A mark is kept of every so many events.
const STEP: u64 = 256;
/// An event counts as read when the handler is called, a little after it was read: with so
/// many others at a time, in the worst case this late.
const AT_A_TIME: u64 = 1024;
const LATE: Duration = Duration::from_millis(100);

/// How far the events of the operating system have been read.
///
/// When its queue runs over, it says so behind all that it still holds. So what was lost
/// happened after the last event that was read before those: as many back as the queue holds.
#[derive(Debug)]
pub(super) struct Reading {
    holds: u64,
    read: u64,
    /// After so many events it was this time.
    marks: VecDeque<(u64, SystemTime)>,
}

impl Reading {
    /// Of a queue that holds so many events, and is empty now.
    pub(super) fn new(holds: u64, now: SystemTime) -> Self {
        Self { holds, read: 0, marks: VecDeque::from([(0, now)]) }
    }

    /// An event was read at this time.
    pub(super) fn saw(&mut self, at: SystemTime) {
        self.read += 1;
        if !self.read.is_multiple_of(STEP) {
            return;
        }
        self.marks.push_back((self.read, at));
        while self.marks.get(1).is_some_and(|(count, _)| self.is_before_the_queue(*count)) {
            self.marks.pop_front();
        }
    }

    fn is_before_the_queue(&self, count: u64) -> bool {
        count + self.holds + AT_A_TIME <= self.read
    }

    /// Nothing that happened before this was lost, if events have been lost now.
    pub(super) fn safe_until(&self) -> SystemTime {
        let (_, at) = self.marks.front().expect("the first mark goes only if a later one stays");
        at.checked_sub(LATE).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// How many events the kernel keeps for whoever reads them slowly.
pub(super) fn queue_holds() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(16_384)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_happened_after_the_queue_was_last_known_to_have_room() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut reading = Reading::new(2000, start);
        assert_eq!(reading.safe_until(), start - LATE);
        for number in 1..=10_000u32 {
            reading.saw(start + Duration::from_secs(number.into()));
        }
        // 10,000 - 2000 - 1024 events were certainly read in time; the mark before that.
        let expected = start + Duration::from_secs(6976 / STEP * STEP) - LATE;
        assert_eq!(reading.safe_until(), expected);
        assert!(reading.marks.len() < 20);
    }
}
