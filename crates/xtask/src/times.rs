//! Times, and what is said of many of them.

use std::time::Duration;

/// Times of one kind, sorted.
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts them; there must be one at least.
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The 99th percentile; the largest where there are fewer than a hundred.
    pub fn p99(&self) -> Duration {
        self.0[(self.0.len() * 99 / 100).min(self.0.len() - 1)]
    }

    /// `p50 1.2 ms, p99 3.4 ms of 300`
    pub fn said(&self) -> String {
        format!("p50 {}, p99 {} of {}", short(self.p50()), short(self.p99()), self.0.len())
    }
}

/// How many times the floor's median ours is.
pub fn ratio(ours: &Times, floor: &Times) -> String {
    format!("{:.2} x", ours.p50().as_secs_f64() / floor.p50().as_secs_f64())
}

/// How much ours is above the floor, at the median.
pub fn above(ours: &Times, floor: &Times) -> String {
    let difference = ours.p50().as_secs_f64() - floor.p50().as_secs_f64();
    format!("{:+.0} ms p50", difference * 1e3)
}

/// A time for people.
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
