//! Randomness that need not be secret: lease tokens, etags, backoff. Not for anything an attacker
//! must be unable to guess.

/// A 64-bit value, never zero, unique for all practical purposes.
pub fn token() -> u64 {
    loop {
        let value = fastrand::u64(..);
        if value != 0 {
            return value;
        }
    }
}

/// Uniform in (0, 1].
pub fn share() -> f64 {
    1.0 - fastrand::f64()
}

/// Backoff before attempt `attempt` (0-based): doubles from `base_ms`, stops at `cap_ms`, and keeps
/// half of it random so that instances do not return in step.
pub fn backoff_ms(attempt: u32, base_ms: u64, cap_ms: u64) -> u64 {
    let full = base_ms.saturating_mul(1 << attempt.min(16)).clamp(1, cap_ms.max(1));
    full / 2 + fastrand::u64(0..=full / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_stays_under_its_cap() {
        for attempt in 0..40 {
            for _ in 0..100 {
                let ms = backoff_ms(attempt, 20, 500);
                assert!(ms <= 500, "attempt {attempt}: {ms}");
                assert!(ms >= if attempt >= 5 { 250 } else { 10 }, "attempt {attempt}: {ms}");
            }
        }
    }
}
