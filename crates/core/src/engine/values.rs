//! Requests about values of the application.

use crate::base::error::Error;
use crate::base::limits;
use crate::cache::Effect;
use crate::cache::policy::Subject;
use crate::values::ValueSubject;

use super::{Core, Outcome};

impl Core {
    /// Stores a value over whatever is there: to everybody else it is an invalidation with a new value.
    pub(super) async fn set_value(&self, key: &str, json: String, ttl_ms: u64) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, Some(ttl_ms))?;
        if json.len() > limits::ENTRY_BYTES {
            // Too large to be stored; the old one is out of date all the same.
            self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await?;
            return Ok(Outcome::Bool(false));
        }
        let mark = subject.mark(json);
        let done = self.cache.invalidate(vec![(subject.key().clone(), mark)]).await?;
        Ok(Outcome::Bool(done.acknowledged && self.cache.available()))
    }

    /// Voids a value.
    pub(super) async fn delete_value(&self, key: &str) -> Result<Outcome, Error> {
        let subject = ValueSubject::new(&self.cache.keys, key, None)?;
        Ok(self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await?.into())
    }
}
