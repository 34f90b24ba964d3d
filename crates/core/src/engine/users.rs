//! Requests about users.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::user::{self, EmailSubject, UserSubject};
use crate::base::error::Error;
use crate::cache::policy::Subject;
use crate::cache::{Effect, Loaded};
use crate::source::User;

use super::hot::Read;
use super::{Core, Outcome, Started};

impl Core {
    pub(super) async fn load_user(&self, user_id: &str) -> Result<Loaded, Error> {
        user::loaded(self.source.user_by_id(user_id).await?.as_ref())
    }

    pub(super) async fn user_by_email(
        self: &Arc<Self>,
        email: &str,
        started: Started,
    ) -> Result<Outcome, Error> {
        let subject = EmailSubject::new(&self.cache.keys, email)?;
        for attempt in 0..2 {
            let index = self
                .read(&subject, |_| async {
                    Ok(user::loaded_index(self.source.user_by_email(email).await?.as_ref()))
                })
                .await?;
            let us = self.cache.clock.now_us().saturating_sub(started.us);
            self.telemetry.of(subject.key().namespace()).answered(index.tier, index.negative(), us);
            let Ok(user_id) = std::str::from_utf8(&index.payload) else { break };
            if index.negative() {
                return Ok(Outcome::Nothing);
            }
            let owner = UserSubject::new(&self.cache.keys, user_id)?;
            let found = self.read(&owner, |_| self.load_user(&owner.user_id)).await?;
            let has_it = !found.negative() && address(&found.payload).as_deref() == Some(email);
            let read = Read::User(owner);
            self.count(&read, &found, started);
            if has_it {
                return Ok(Outcome::Object { serial: found.serial, text: Some(found.payload) });
            }
            if attempt == 0 {
                // The address has another owner, or none, by now: the hint is void.
                self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await?;
            }
        }
        Ok(Outcome::Nothing)
    }

    pub(super) async fn cache_user(&self, user_id: &str, json: &str) -> Result<Outcome, Error> {
        let subject = UserSubject::new(&self.cache.keys, user_id)?;
        let given = user::loaded(user::from_caller(&subject.user_id, json)?.as_ref())?;
        // The given object may be older than an invalidation that its caller does not know of: the source
        // decides, and the answer says whether it agreed.
        if !self.source.configured() || !self.cache.usable(subject.key()) {
            return Ok(Outcome::Bool(false));
        }
        let found = self.read(&subject, |_| self.load_user(&subject.user_id)).await?;
        Ok(Outcome::Bool(found.etag != 0 && found.kind == given.kind && found.payload == given.payload))
    }
}

fn address(payload: &Bytes) -> Option<String> {
    serde_json::from_slice::<User>(payload).ok().map(|user| user.email)
}
