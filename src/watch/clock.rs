//! The clock of file timestamps, and how far events have been read.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

/// Returns the time of the clock that most files are stamped with. It advances in ticks, of 4 ms
/// for example. A later write never gets an earlier timestamp.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_now() -> SystemTime {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map(Duration::from);
    now.map_or_else(|_| SystemTime::now(), |since| SystemTime::UNIX_EPOCH + since)
}

/// Returns the time of the clock that files are stamped with.
#[cfg(not(target_os = "linux"))]
pub fn coarse_now() -> SystemTime {
    SystemTime::now()
}

/// Returns the tick of that clock. A timestamp may be older than its write by this much.
#[cfg(target_os = "linux")]
pub(super) fn tick() -> Duration {
    use nix::time::{ClockId, clock_getres};
    clock_getres(ClockId::CLOCK_REALTIME_COARSE).map_or(MAX_TICK, Duration::from)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn tick() -> Duration {
    Duration::ZERO
}

/// Waits for the next tick, and returns it. Earlier writes have an earlier timestamp, later writes
/// have not.
pub(super) fn next_tick() -> SystemTime {
    let began = Instant::now();
    let before = coarse_now();
    loop {
        let now = coarse_now();
        if now > before || began.elapsed() > MAX_TICK {
            return now;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The tick of a kernel with 100 ticks per second.
const MAX_TICK: Duration = Duration::from_millis(10);

/// Returns when a file was last written, renamed or otherwise changed (its ctime).
pub(crate) fn changed_at(meta: &std::fs::Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(meta.ctime()).ok()?;
    let nanos = u32::try_from(meta.ctime_nsec()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

/// Returns the latest time, by the monotonic clock, at which a file got this timestamp.
pub(super) fn instant_of(stamp: SystemTime) -> Instant {
    let now = Instant::now();
    let age = SystemTime::now().duration_since(stamp + tick()).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

/// Number of events between two marks.
const MARK_INTERVAL: u64 = 256;
/// Delay with which an event counts as read. The handler is called a little after the event was
/// read: at worst after this many other events, and this time.
const MAX_EVENTS_LATE: u64 = 1024;
const MAX_TIME_LATE: Duration = Duration::from_millis(100);

/// How far the events of the operating system have been read.
///
/// After an overflow of its queue, the overflow event comes after all events that the queue still
/// holds. So the lost events happened after the last event that was read before those. That is as
/// many events back as the queue holds.
#[derive(Debug)]
pub(super) struct Reading {
    holds: u64,
    read: u64,
    /// Times at which this many events had been read.
    marks: VecDeque<(u64, SystemTime)>,
}

impl Reading {
    /// Starts with an empty queue for this many events.
    pub(super) fn new(holds: u64, now: SystemTime) -> Self {
        Self { holds, read: 0, marks: VecDeque::from([(0, now)]) }
    }

    /// Records that an event was read at this time.
    pub(super) fn saw(&mut self, at: SystemTime) {
        self.read += 1;
        if !self.read.is_multiple_of(MARK_INTERVAL) {
            return;
        }
        self.marks.push_back((self.read, at));
        while self.marks.get(1).is_some_and(|(count, _)| self.is_before_the_queue(*count)) {
            self.marks.pop_front();
        }
    }

    fn is_before_the_queue(&self, count: u64) -> bool {
        count + self.holds + MAX_EVENTS_LATE <= self.read
    }

    /// Returns a time before which nothing was lost, if events have been lost now.
    pub(super) fn safe_until(&self) -> SystemTime {
        let (_, at) = self.marks.front().expect("the first mark goes only if a later one stays");
        at.checked_sub(MAX_TIME_LATE).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Returns how many events the kernel queues for a slow reader.
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
        assert_eq!(reading.safe_until(), start - MAX_TIME_LATE);
        for number in 1..=10_000u32 {
            reading.saw(start + Duration::from_secs(number.into()));
        }
        // 10,000 - 2000 - 1024 events were certainly read in time; the mark before that counts.
        let expected =
            start + Duration::from_secs(6976 / MARK_INTERVAL * MARK_INTERVAL) - MAX_TIME_LATE;
        assert_eq!(reading.safe_until(), expected);
        assert!(reading.marks.len() < 20);
    }
}
