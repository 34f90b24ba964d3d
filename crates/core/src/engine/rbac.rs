//! Invalidations of contexts and of their parts: what each kind of change voids.
//!
//! | what changed | what is void |
//! | --- | --- |
//! | a user, their assignments or memberships | the user's two entries |
//! | permissions of a role, a role | the role, for all who hold it |
//! | an organization | the tree |
//! | many assignments or memberships at once | the epoch: every part |

use crate::auth::user::UserSubject;
use crate::base::error::Error;
use crate::base::key::Key;
use crate::cache::policy::Subject;
use crate::cache::{Effect, Invalidation};
use crate::rbac::subject::new_epoch;
use crate::rbac::{RoleSubject, TreeSubject, UserContextSubject, epoch_key};

use super::Core;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacTarget {
    /// One user: their row, assignments, memberships.
    User,
    /// Who holds a role, and the role.
    UsersWithRole,
    /// Who belongs to an organization, and the organizations.
    OrganizationMembers,
    /// The organizations.
    Hierarchy,
    /// One role.
    Role,
    /// Every role.
    Roles,
}

/// Longest reason.
const REASON_CHARS: usize = 64;
/// Longest hold, in milliseconds.
const HOLD_MS: u64 = 60_000;

/// An invalidation as it is asked for.
#[derive(Clone, Debug)]
pub struct RbacInvalidation {
    /// What changed.
    pub target: RbacTarget,
    /// Whose; empty where there is only one.
    pub id: String,
    /// Why, for the log; may be empty.
    pub reason: String,
    /// For how long fills are refused as well; 0 = not at all.
    pub hold_ms: u64,
}

impl Core {
    pub(super) async fn invalidate_rbac(&self, what: RbacInvalidation) -> Result<Invalidation, Error> {
        let RbacInvalidation { target, id, reason, hold_ms } = what;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if reason.len() > REASON_CHARS || !reason.bytes().all(plain) {
            return Err(Error::argument("reason", "at most 64 characters of A-Z a-z 0-9 _ . : -"));
        }
        if hold_ms > HOLD_MS {
            return Err(Error::argument("holdMs", "a whole number of milliseconds between 1 and 60000"));
        }
        let voided = self.voided(target, &id)?;
        tracing::info!(component = "rbac", what = ?target, reason = %reason, hold_ms, "invalidated");
        let held = |effect: Effect| if hold_ms > 0 { Effect::Hold { ms: hold_ms } } else { effect };
        self.cache.invalidate(voided.into_iter().map(|(key, effect)| (key, held(effect))).collect()).await
    }

    /// The entries that a change voids.
    pub(super) fn voided(&self, target: RbacTarget, id: &str) -> Result<Vec<(Key, Effect)>, Error> {
        let keys = &self.cache.keys;
        let gone = |subject: &dyn Subject| (subject.key().clone(), Effect::Delete);
        let epoch = || (epoch_key(keys), new_epoch());
        Ok(match target {
            RbacTarget::User => {
                vec![gone(&UserSubject::new(keys, id)?), gone(&UserContextSubject::new(keys, id)?)]
            }
            RbacTarget::Role => vec![gone(&RoleSubject::new(keys, id)?)],
            RbacTarget::UsersWithRole => vec![gone(&RoleSubject::new(keys, id)?), epoch()],
            RbacTarget::Hierarchy => vec![gone(&TreeSubject::new(keys))],
            RbacTarget::OrganizationMembers => {
                crate::auth::uuid("organizationId", id)?;
                vec![gone(&TreeSubject::new(keys)), epoch()]
            }
            RbacTarget::Roles => vec![epoch()],
        })
    }
}

impl Core {
    /// Installs or removes the outbox.
    pub(super) async fn migrate(&self, remove: bool) -> Result<super::Outcome, Error> {
        self.source.migrate(super::migration_sql(&self.settings, remove)).await?;
        Ok(super::Outcome::Nothing)
    }
}
