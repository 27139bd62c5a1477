//! Bounds how often something is done, with room for a burst: the generic cell rate
//! algorithm (ITU-T I.371), which stores one time.

use std::time::Duration;

use tokio::time::Instant;

/// Allows `burst` actions at once, and one more each `interval`.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: u32,
    interval: Duration,
    /// When all actions so far would have been done at one each interval.
    done: Instant,
}

impl RateLimit {
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            done: Instant::now(),
        }
    }

    /// Counts an action at `now`, and returns how long it must wait.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.done = self.done.max(now) + self.interval;
        (self.done - now).saturating_sub(self.interval * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_period_has_more_actions_than_a_burst_and_one_each_interval(
            pauses in prop::collection::vec(0_u32..3000, 1..200),
            burst in 1_u32..20,
        ) {
            let interval = Duration::from_millis(500);
            let mut limit = RateLimit::new(burst, interval);
            let mut now = Instant::now();
            let mut done = Vec::new();
            for (number, pause) in pauses.into_iter().enumerate() {
                // Most of them follow at once.
                if number % 7 == 0 {
                    now += Duration::from_millis(pause.into());
                }
                let wait = limit.take(now);
                now += wait;
                done.push(now);
            }
            for (first, &from) in done.iter().enumerate() {
                for (count, &to) in (1_u32..).zip(&done[first..]) {
                    let earned = (to - from).as_millis() / interval.as_millis();
                    prop_assert!(u128::from(count) <= u128::from(burst) + earned + 1);
                }
            }
        }
    }

    #[test]
    fn burst_does_not_wait_and_the_next_one_waits_an_interval() {
        let interval = Duration::from_millis(500);
        let (mut limit, now) = (RateLimit::new(3, interval), Instant::now());
        let waits = [(); 5].map(|()| limit.take(now));
        assert_eq!(waits[..3], [Duration::ZERO; 3]);
        assert_eq!(waits[3..], [interval, 2 * interval]);
    }
}
