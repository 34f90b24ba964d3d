//! Requests about revoked tokens.

use crate::auth::token::{self, TokenSubject};
use crate::auth::{text, uuid};
use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::cache::policy::Subject;
use crate::cache::{Invalidation, Loaded};
use crate::source::Revocation;

use super::{Core, Outcome};

impl Core {
    pub(super) async fn load_token(&self, jti: &str) -> Result<Loaded, Error> {
        Ok(token::loaded(self.source.token_is_blacklisted(jti).await?))
    }

    pub(super) async fn cache_token_status(&self, jti: &str, revoked: bool) -> Result<Outcome, Error> {
        let subject = TokenSubject::new(&self.cache.keys, jti)?;
        if revoked {
            let done = self.cache.invalidate(vec![(subject.key().clone(), token::mark())]).await?;
            self.remember_revoked(&subject);
            return Ok(Outcome::Bool(done.acknowledged));
        }
        if !self.source.configured() || !self.cache.usable(subject.key()) {
            return Ok(Outcome::Bool(false));
        }
        // The caller may have looked before a revocation that it does not know of: the source decides.
        let found = self.read(&subject, |_| self.load_token(&subject.jti)).await?;
        Ok(Outcome::Bool(found.etag != 0 && !token::revoked(&found.payload)))
    }

    pub(super) async fn invalidate_token(&self, jti: &str) -> Result<Invalidation, Error> {
        let subject = TokenSubject::new(&self.cache.keys, jti)?;
        // Here at once, whatever becomes of the store.
        self.remember_revoked(&subject);
        let done = self.cache.invalidate(vec![(subject.key().clone(), token::mark())]).await;
        self.remember_revoked(&subject);
        done
    }

    pub(super) async fn blacklist_token(&self, mut row: Revocation) -> Outcome {
        let checked = || -> Result<(), Error> {
            text("jti", &row.jti, token::JTI_CHARS)?;
            row.user_id = uuid("userId", &row.user_id)?;
            row.blacklisted_by =
                row.blacklisted_by.as_deref().map(|by| uuid("blacklistedBy", by)).transpose()?;
            text("tokenType", &row.token_type, 20)?;
            text("reason", &row.reason, 50)?;
            row.ip_address.as_deref().map_or(Ok(()), |ip| text("ipAddress", ip, 45))?;
            row.user_agent.as_deref().map_or(Ok(()), |agent| text("userAgent", agent, 4_096))?;
            // Postgres holds 4713 BC to 294276 AD; a token ends in this range of years or is a mistake.
            if !(0.0..=253_402_300_799_999.0).contains(&row.expires_at_ms) {
                return Err(Error::argument("expiresAt", "a time between the years 1970 and 9999"));
            }
            Ok(())
        }();
        if let Err(error) = checked {
            return error.into();
        }
        let jti = row.jti.clone();
        let inserted = self.source.blacklist_token(row).await;
        // Marked even when the row could not be written: refusing a token is the safe side.
        let marked = self.invalidate_token(&jti).await;
        match (inserted, marked) {
            (Ok(inserted), Ok(done)) => Outcome::Invalidated(done, Some(inserted)),
            (Err(error), _) | (_, Err(error)) => error.into(),
        }
    }

    /// A revoked token stays revoked, so this process need not ask again.
    fn remember_revoked(&self, subject: &TokenSubject) {
        let (near, key) = (&self.cache.near, subject.key());
        let loaded = token::loaded(true);
        let now = self.cache.clock.now_ms();
        near.insert(key, near.epoch(key), (Kind::Value, 0, loaded.payload), now, now + token::REVOKED_MS);
    }
}
