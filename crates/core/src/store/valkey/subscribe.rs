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

/// How an attempt to listen ended.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    /// It had been subscribed.
    Heard,
    /// There was no connection.
    Failed,
    /// The user has no right to subscribe.
    Refused,
}

/// Subscribes for ever, reconnecting with backoff; ends when the future is dropped.
pub async fn run(store: &Valkey, channel: &str, listener: &dyn Listener) {
    let (mut attempt, mut said) = (0, false);
    loop {
        let mut ended = Ended::Failed;
        for address in store.addresses() {
            match listen(store, &address, channel, listener).await {
                Ended::Heard => (attempt, said, ended) = (0, false, Ended::Heard),
                Ended::Refused if ended == Ended::Failed => ended = Ended::Refused,
                _ => {}
            }
        }
        attempt += 1;
        let mut wait = jitter::backoff_ms(attempt, limits::PROBE_BASE_MS, limits::PROBE_CAP_MS);
        if ended == Ended::Refused {
            wait = limits::SUBSCRIPTION_REFUSED_MS;
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    component = "store",
                    channel,
                    "the user of the store may not subscribe: invalidations are not pushed, and rate limits know of no other process"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

async fn listen(store: &Valkey, address: &str, channel: &str, listener: &dyn Listener) -> Ended {
    let limit = Duration::from_millis(store.options().connect_timeout_ms);
    let connected = tokio::time::timeout(limit, async {
        let mut subscription = link::client(store.options(), address)?.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        redis::RedisResult::Ok(subscription)
    });
    let mut subscription = match connected.await {
        Ok(Ok(subscription)) => subscription,
        Ok(Err(error)) if error.code() == Some("NOPERM") => return Ended::Refused,
        _ => return Ended::Failed,
    };
    listener.gap();
    let mut messages = subscription.on_message();
    let silence = Duration::from_millis(limits::SUBSCRIPTION_SILENCE_MS);
    while let Ok(Some(message)) = tokio::time::timeout(silence, messages.next()).await {
        listener.message(message.get_payload_bytes());
    }
    Ended::Heard
}
