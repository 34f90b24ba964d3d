//! Listening for invalidations of other instances. Not the way correctness is kept: entries of the
//! `validated` mode never need it; the `bounded` mode serves only while this is healthy.
//!
//! Invariant: whoever listens is told of every gap before the first message after it.

use std::time::Duration;

use futures_util::StreamExt;

use crate::base::{jitter, limits};

use super::Valkey;
use super::link;

/// What the listening side does with what it hears.
pub trait Listener: Send + Sync {
    /// The subscription is (again) in place: whatever was announced before is unknown.
    fn gap(&self);
    /// A message arrived, of any content.
    fn message(&self, payload: &[u8]);
}

/// Subscribes for ever, reconnecting with backoff; ends when the future is dropped.
pub async fn run(store: &Valkey, channel: &str, listener: &dyn Listener) {
    let mut attempt = 0;
    loop {
        for address in store.addresses() {
            if listen(store, &address, channel, listener).await {
                attempt = 0;
            }
        }
        attempt += 1;
        let wait = jitter::backoff_ms(attempt, limits::PROBE_BASE_MS, limits::PROBE_CAP_MS);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

/// True when it had been subscribed.
async fn listen(store: &Valkey, address: &str, channel: &str, listener: &dyn Listener) -> bool {
    let limit = Duration::from_millis(store.options().connect_timeout_ms);
    let connected = tokio::time::timeout(limit, async {
        let mut subscription = link::client(store.options(), address)?.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        redis::RedisResult::Ok(subscription)
    });
    let Ok(Ok(mut subscription)) = connected.await else { return false };
    listener.gap();
    let mut messages = subscription.on_message();
    let silence = Duration::from_millis(limits::SUBSCRIPTION_SILENCE_MS);
    while let Ok(Some(message)) = tokio::time::timeout(silence, messages.next()).await {
        listener.message(message.get_payload_bytes());
    }
    true
}
