//! Requests about values of the application. Reading one, and computing one, is a read like any other: `hot`, `leads`.
//!
//! Invariant: what removes values fails rather than leaving some of them in silence.

use crate::base::codec::{Header, Kind};
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::base::{jitter, limits};
use crate::cache::Effect;
use crate::cache::policy::Subject;
use crate::store::{FINER, Op, Reply, StoreError, Walk};
use crate::values::pattern::Pattern;
use crate::values::{self, ValueSubject};

use super::{Core, Outcome};

/// What may be asked for beside reading, setting, deleting and computing.
#[derive(Clone, Debug)]
pub enum ValueRequest {
    /// `set` and `setWithTags`.
    Set { key: String, json: String, ttl_ms: u64, tags: Vec<String> },
    /// `del`.
    Delete { key: String },
    /// `ttl` and `exists`: milliseconds, -2 without a value, -1 when the store cannot be asked.
    Life { key: String },
    /// `expire`.
    Expire { key: String, ttl_ms: u64 },
    /// `incr` and `decr`.
    Count { key: String, delta: i64, ttl_ms: u64 },
    /// `invalidateByTag`.
    InvalidateTag { tag: String },
    /// `delPattern`.
    DeletePattern { pattern: String },
    /// `flushAll`.
    Flush,
    /// `info`.
    Info,
}

/// Copies of something else, and the mark that says that they are there. Revocations, generations and rate limits are no copies: they stay.
const COPIES: [Namespace; 9] = [
    Namespace::Value,
    Namespace::DataSource,
    Namespace::UserBasic,
    Namespace::UserEmail,
    Namespace::UserContext,
    Namespace::RolePermissions,
    Namespace::OrganizationTree,
    Namespace::JwtPayload,
    Namespace::Warming,
];

impl Core {
    pub(super) async fn value(&self, request: ValueRequest) -> Result<Outcome, Error> {
        match request {
            ValueRequest::Set { key, json, ttl_ms, tags } => self.set_value(&key, json, ttl_ms, &tags).await,
            ValueRequest::Delete { key } => self.delete_value(&key).await,
            ValueRequest::Life { key } => self.value_life(&key).await,
            ValueRequest::Expire { key, ttl_ms } => self.expire_value(&key, ttl_ms).await,
            ValueRequest::Count { key, delta, ttl_ms } => self.count_value(&key, delta, ttl_ms).await,
            ValueRequest::InvalidateTag { tag } => self.invalidate_tag(&tag).await.map(number),
            ValueRequest::DeletePattern { pattern } => self.delete_pattern(&pattern).await.map(number),
            ValueRequest::Flush => self.flush().await.map(number),
            ValueRequest::Info => Ok(self.store_info().await),
        }
    }

    /// Stores a value over whatever is there: to everybody else it is an invalidation with a new value.
    async fn set_value(
        &self,
        key: &str,
        json: String,
        ttl_ms: u64,
        tags: &[String],
    ) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, Some(ttl_ms))?;
        let tags = if tags.is_empty() { Vec::new() } else { values::tags(&self.cache.keys, tags)? };
        let fits = json.len() <= limits::ENTRY_BYTES;
        if !fits || !self.tag(&subject, &tags, ttl_ms).await {
            // It cannot be stored, or not be found by its tags; the old one is out of date all the same.
            return self.void_value(&subject).await;
        }
        let mark = subject.mark(json, &tags);
        let done = self.cache.invalidate(vec![(subject.key().clone(), mark)]).await?;
        // Whoever voided a tag between the two did not see the value, and took its key from under the tag.
        if !self.tag(&subject, &tags, ttl_ms).await {
            return self.void_value(&subject).await;
        }
        Ok(Outcome::Bool(done.acknowledged && self.cache.available()))
    }

    async fn void_value(&self, subject: &ValueSubject) -> Result<Outcome, Error> {
        self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await?;
        Ok(Outcome::Bool(false))
    }

    /// Puts a key under tags. False when one of them does not have it for certain.
    async fn tag(&self, subject: &ValueSubject, tags: &[Key], ttl_ms: u64) -> bool {
        if tags.is_empty() {
            return true;
        }
        let member = bytes::Bytes::copy_from_slice(subject.key().bytes());
        let op = |tag: &Key| Op::Tag {
            tag: tag.clone(),
            member: member.clone(),
            ttl_ms,
            nonce: jitter::token() % FINER,
        };
        self.cache.exec(tags.iter().map(op).collect()).await.iter().all(Result::is_ok)
    }

    /// Voids a value.
    async fn delete_value(&self, key: &str) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, None)?;
        Ok(self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await?.into())
    }

    async fn value_life(&self, key: &str) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, None)?;
        if !self.cache.usable(subject.key()) {
            return Ok(Outcome::Number(-1));
        }
        Ok(Outcome::Number(match self.cache.exec(vec![Op::Life(subject.key().clone())]).await.pop() {
            Some(Ok(Reply::Number(life))) => life.unwrap_or(-2),
            Some(Err(StoreError::WrongType)) => -2,
            _ => -1,
        }))
    }

    /// Another end for a value; its tags must know it as long.
    async fn expire_value(&self, key: &str, ttl_ms: u64) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, Some(ttl_ms))?;
        if !self.cache.usable(subject.key()) {
            return Ok(Outcome::Bool(false));
        }
        let key = subject.key().clone();
        let found = self.cache.exec(vec![Op::Get(key.clone())]).await.pop();
        let Some(Ok(Reply::Bytes(Some(bytes)))) = found else { return Ok(Outcome::Bool(false)) };
        let payload = bytes.slice(bytes.len().min(crate::base::codec::HEADER)..);
        let tags = values::tags_of(&self.cache.keys, &payload);
        if !self.tag(&subject, &tags, subject.ttl_ms()).await {
            return Ok(Outcome::Bool(false));
        }
        let done = self.cache.exec(vec![Op::Prolong { key, ttl_ms }]).await.pop();
        Ok(Outcome::Bool(matches!(done, Some(Ok(Reply::Done(true))))))
    }

    /// Adds to a number. Nothing is repeated: when the reply is lost, so is the count.
    async fn count_value(&self, key: &str, delta: i64, ttl_ms: u64) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, Some(ttl_ms))?;
        if !self.cache.usable(subject.key()) {
            return Ok(Outcome::Nothing);
        }
        let key = subject.key().clone();
        let announcement = self.cache.announcement([&key].into_iter());
        let count = Op::Count { key, delta, ttl_ms, etag: jitter::token() };
        self.cache.void_here(subject.key());
        let replies = self.cache.exec(vec![count, Op::Announce(announcement)]).await;
        self.cache.void_here(subject.key());
        match replies.into_iter().next() {
            Some(Ok(Reply::Number(Some(sum)))) => Ok(Outcome::Number(sum)),
            Some(Ok(_)) => Err(Error::argument(
                "key",
                "the key of a whole number is expected, and a sum of at most 2^53 - 1",
            )),
            _ => Ok(Outcome::Nothing),
        }
    }

    /// Voids every value under a tag.
    async fn invalidate_tag(&self, tag: &str) -> Result<usize, Error> {
        let keys = &self.cache.keys;
        let tag = values::tags(keys, &[tag.to_owned()])?.remove(0);
        if matches!(self.cache.store, crate::store::Store::None) {
            return Ok(0);
        }
        let mut removed = 0;
        for _ in 0..limits::TAG_PAGES {
            let seen = match self.cache.exec(vec![Op::Tagged(tag.clone())]).await.pop() {
                Some(Ok(Reply::Members(seen))) => seen,
                // Of another type, so it is no tag of ours.
                Some(Err(StoreError::WrongType)) => Vec::new(),
                _ => return Err(unknown_extent()),
            };
            if seen.is_empty() {
                return Ok(removed);
            }
            let values = seen.iter().filter_map(|(key, _)| keys.parse(key));
            removed +=
                self.void_all(values.filter(|key| key.namespace() == Namespace::Value).collect()).await?;
            let untag = Op::Untag { tag: tag.clone(), seen };
            if self.cache.exec(vec![untag]).await.iter().any(Result::is_err) {
                return Err(unknown_extent());
            }
        }
        Ok(removed)
    }

    /// Voids every value whose key fits.
    async fn delete_pattern(&self, pattern: &str) -> Result<usize, Error> {
        values::part("pattern", pattern)?;
        let pattern = Pattern::new(pattern);
        self.void_namespace(Namespace::Value, &pattern.beginning(), |key| pattern.fits(key)).await
    }

    /// Voids every copy of something else.
    async fn flush(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for namespace in COPIES {
            removed += self.void_namespace(namespace, "", |_| true).await?;
        }
        self.void_tags().await?;
        Ok(removed)
    }

    async fn void_namespace(
        &self,
        namespace: Namespace,
        beginning: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<usize, Error> {
        if matches!(self.cache.store, crate::store::Store::None) {
            return Ok(0);
        }
        let keys = &self.cache.keys;
        let mut walk = Walk::over(keys.beginning(namespace, beginning));
        let mut removed = 0;
        while let Some(page) = self.cache.walk(&mut walk).await.map_err(|_| unknown_extent())? {
            let mine = page.iter().filter_map(|key| match namespace {
                // The one namespace whose keys have two parts.
                Namespace::DataSource => keys.parse(key).filter(|key| key.namespace() == namespace),
                _ => keys
                    .part(namespace, key)
                    .filter(|part| fits(part))
                    .map(|part| keys.entry(namespace, &part)),
            });
            let mine: Vec<Key> = mine.collect();
            for chunk in mine.chunks(limits::VOIDED_TOGETHER) {
                removed += self.void_all(chunk.to_vec()).await?;
            }
        }
        Ok(removed)
    }

    /// Tags without values.
    async fn void_tags(&self) -> Result<(), Error> {
        let mut walk = Walk::over(self.cache.keys.beginning(Namespace::ValueTag, ""));
        if matches!(self.cache.store, crate::store::Store::None) {
            return Ok(());
        }
        while let Some(page) = self.cache.walk(&mut walk).await.map_err(|_| unknown_extent())? {
            let tags = page.iter().filter_map(|key| self.cache.keys.parse(key));
            let tags = tags.filter(|key| key.namespace() == Namespace::ValueTag).map(Op::Delete).collect();
            if self.cache.exec(tags).await.iter().any(Result::is_err) {
                return Err(unknown_extent());
            }
        }
        Ok(())
    }

    /// Voids entries and the right to fill them; a hold stays, and so does what is not ours. How many values there
    /// were.
    async fn void_all(&self, keys: Vec<Key>) -> Result<usize, Error> {
        let heads = self.cache.exec(keys.iter().cloned().map(Op::Head).collect()).await;
        let (mut values, mut leases) = (Vec::new(), Vec::new());
        for (key, head) in keys.into_iter().zip(heads) {
            let kind = match head {
                Ok(Reply::Bytes(head)) => {
                    head.and_then(|head| Header::decode(&head)).map(|header| header.kind)
                }
                Err(StoreError::WrongType) => None,
                _ => return Err(unknown_extent()),
            };
            match kind {
                Some(Kind::Value | Kind::Negative) => values.push((key, Effect::Delete)),
                Some(Kind::Lease) => leases.push((key, Effect::Delete)),
                Some(Kind::Hold) | None => {}
            }
        }
        let mut removed = 0;
        for (targets, counts) in [(values, true), (leases, false)] {
            if targets.is_empty() {
                continue;
            }
            let done = self.cache.invalidate(targets).await?;
            if !done.acknowledged {
                return Err(unknown_extent());
            }
            removed += if counts { done.removed } else { 0 };
        }
        Ok(removed)
    }

    /// `{"connected":...,"keyCount":...,"memoryBytes":...}`; null for what the server does not say.
    async fn store_info(&self) -> Outcome {
        let size = self.cache.size().await;
        let connected = size.is_ok();
        let size = size.unwrap_or_default();
        let told =
            serde_json::json!({ "connected": connected, "keyCount": size.keys, "memoryBytes": size.bytes });
        Outcome::Json(told.to_string())
    }
}

fn number(removed: usize) -> Outcome {
    Outcome::Number(removed as i64)
}

fn unknown_extent() -> Error {
    Error::new(
        Code::StoreUnavailable,
        "the store could not be asked for all of the keys: some values may still be there, call it again",
    )
}
