//! How each part of the engine is, why, and since when; and what that makes of the whole. It asks nobody and decides
//! nothing.
//!
//! Invariant: whatever is not healthy has a reason, and nothing that is healthy has one.

use parking_lot::Mutex;

use crate::cache::moments::Refusing;
use crate::store::Store;

use super::Core;
use super::health::Component;

/// What a part was found to be when it was looked at last, and since when: for what nobody but the report asks.
pub(super) struct Found(Mutex<(Component, u64)>);

impl Found {
    /// Healthy since the engine was started.
    pub(super) fn new(started_ms: u64) -> Self {
        Self(Mutex::new((Component::Healthy, started_ms)))
    }

    /// Since when it is as it was found now.
    pub(super) fn since_ms(&self, component: Component, now_ms: u64) -> u64 {
        let mut found = self.0.lock();
        if found.0 != component {
            *found = (component, now_ms);
        }
        found.1
    }
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub component: Component,
    pub reason: Option<String>,
    /// Monotonic milliseconds.
    pub since_ms: u64,
}

impl Standing {
    pub(super) fn new(component: Component, reason: Option<&str>, since_ms: u64) -> Self {
        Self { component, reason: reason.map(str::to_owned), since_ms }
    }

    pub(super) fn is(&self, component: Component) -> bool {
        self.component == component
    }
}

impl Core {
    /// The shared tier.
    pub(super) fn store_standing(&self) -> Standing {
        let cache = &self.cache;
        let (_, breaker_ms) = cache.breaker_state();
        if matches!(cache.store, Store::None) {
            return Standing::new(Component::Off, None, self.started_ms);
        }
        if !cache.available() {
            return Standing::new(Component::Down, Some("the circuit breaker is open"), breaker_ms);
        }
        let now_ms = cache.clock.now_ms();
        let Some((what, first_ms)) = cache.moments.refusing(now_ms) else {
            return Standing::new(Component::Healthy, None, breaker_ms.max(cache.moments.quiet_ms()));
        };
        let reason = match what {
            Refusing::Writes => {
                "the store refuses writes (out of memory, not able to persist, or too few replicas)"
            }
            Refusing::Commands => "the store refuses a command (a missing right, or it does not know it)",
        };
        Standing::new(Component::Degraded, Some(reason), first_ms.max(breaker_ms))
    }

    /// This process's tier, given how the store is: nothing is served from here that the store, or an announcement
    /// that would have come, does not confirm.
    pub(super) fn near_standing(&self, store: &Standing) -> Standing {
        let cache = &self.cache;
        let (_, _, capacity) = cache.near.usage();
        if capacity == 0 || store.is(Component::Off) {
            return Standing::new(Component::Off, None, self.started_ms);
        }
        if store.is(Component::Down) {
            let reason = "the store does not answer, so that no copy can be confirmed; only revoked tokens are \
                          answered from here";
            return Standing::new(Component::Degraded, Some(reason), store.since_ms);
        }
        let (_, breaker_ms) = cache.breaker_state();
        if !cache.serves_unasked() {
            return Standing::new(Component::Healthy, None, breaker_ms);
        }
        if cache.hears() {
            return Standing::new(Component::Healthy, None, cache.moments.heard_ms().max(breaker_ms));
        }
        let reason = "announcements of other processes do not arrive; copies that are served unasked are confirmed \
                      with the store";
        Standing::new(Component::Degraded, Some(reason), cache.deaf_since_ms().max(breaker_ms))
    }

    /// Whether rate limits are those of all instances, given how the store is.
    pub(super) fn limiter_standing(&self, store: &Standing) -> Standing {
        let cache = &self.cache;
        let degraded = |reason, since_ms| Standing::new(Component::Degraded, Some(reason), since_ms);
        match store.component {
            Component::Off => {
                degraded("no store is configured; every process counts for itself", self.started_ms)
            }
            Component::Down => {
                degraded("the store does not answer; every process enforces its share", store.since_ms)
            }
            Component::Healthy | Component::Degraded if cache.limits.is_settled() => {
                Standing::new(Component::Healthy, None, cache.moments.told_ms().max(self.started_ms))
            }
            Component::Healthy | Component::Degraded if !cache.limits.is_refused() => degraded(
                "the store is back and is being told what was admitted without it",
                cache.breaker_state().1,
            ),
            Component::Healthy | Component::Degraded => {
                let now_ms = cache.clock.now_ms();
                let since_ms = cache.moments.refusing(now_ms).map_or(now_ms, |(_, first_ms)| first_ms);
                degraded(
                    "the store does not take rate limits (out of memory, or no right to run scripts); every process \
                     enforces its share",
                    since_ms,
                )
            }
        }
    }
}

/// The whole: as the gravest of its parts that are configured.
pub(super) fn overall(
    store: &Standing,
    source: &Standing,
    near: &Standing,
) -> (&'static str, Option<String>, u64) {
    let said = |status, reason: &str, since_ms| (status, Some(reason.to_owned()), since_ms);
    match (store.component, source.component) {
        (Component::Down, Component::Down) => {
            said("down", "neither the store nor the database answers", store.since_ms.max(source.since_ms))
        }
        (Component::Down, Component::Off) => {
            said("down", "the store does not answer and no database is configured", store.since_ms)
        }
        (Component::Down, _) => {
            said("degraded", "the store does not answer; every read goes to the database", store.since_ms)
        }
        (_, Component::Down) => {
            said("degraded", "the database does not answer; only cached entries are served", source.since_ms)
        }
        _ => match [store, source, near].into_iter().find(|part| part.is(Component::Degraded)) {
            Some(part) => ("degraded", part.reason.clone(), part.since_ms),
            None => ("healthy", None, store.since_ms.max(source.since_ms).max(near.since_ms)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(component: Component, since_ms: u64) -> Standing {
        let reason = matches!(component, Component::Down | Component::Degraded).then_some("because");
        Standing::new(component, reason, since_ms)
    }

    #[test]
    fn the_whole_is_as_its_gravest_part_and_as_old() {
        use Component::{Degraded, Down, Healthy, Off};
        for (store, source, near, status, since_ms) in [
            (Healthy, Healthy, Healthy, "healthy", 3),
            (Off, Healthy, Off, "healthy", 3),
            (Down, Healthy, Degraded, "degraded", 1),
            (Down, Down, Degraded, "down", 2),
            (Down, Off, Degraded, "down", 1),
            (Healthy, Down, Healthy, "degraded", 2),
            (Degraded, Healthy, Healthy, "degraded", 1),
            (Degraded, Down, Degraded, "degraded", 2),
            (Healthy, Degraded, Degraded, "degraded", 2),
            (Healthy, Healthy, Degraded, "degraded", 3),
        ] {
            let (got, reason, since) = overall(&part(store, 1), &part(source, 2), &part(near, 3));
            assert_eq!((got, since), (status, since_ms), "{store:?} {source:?} {near:?}");
            assert_eq!(reason.is_none(), status == "healthy");
        }
    }
}
