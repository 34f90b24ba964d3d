//! The entries of the parts: keys, lifetimes, and the version they all carry in front of their JSON.
//!
//! ```text
//! <epoch, 16 hex><space><JSON>
//! ```
//!
//! Invariant: a part counts only while the epoch is the one that held before it was read from the source. An
//! epoch that is not there is no epoch: everything is read anew.

use bytes::Bytes;

use crate::auth::uuid;
use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::cache::flight::Binding;
use crate::cache::policy::{COMPANION_MS, Subject};
use crate::cache::{Effect, Found, Loaded, Verdict};

use super::part::Denied;

/// S1: the user's own part.
pub const USER_MS: u64 = 300_000;
/// S1: a role changes rarely, and is invalidated when it does.
pub const ROLE_MS: u64 = 24 * 3_600_000;
/// The tree of organizations.
pub const TREE_MS: u64 = 4 * 3_600_000;
/// A role that is not there may be made, or made active, by somebody who tells nobody.
pub const NO_ROLE_MS: u64 = 300_000;
/// Organizations of one tree: about 20,000 of them.
const TREE_BYTES: usize = 8 * 1024 * 1024;
/// Epoch and space.
const PREFIX: usize = 17;
/// The only key of a namespace that has one.
const ALL: &str = "all";

/// The entry whose version every part carries.
pub fn epoch_key(keys: &Keys) -> Key {
    keys.entry(Namespace::RbacEpoch, ALL)
}

/// A new epoch: everything that was read before is void.
pub fn new_epoch() -> Effect {
    Effect::Mark { payload: Bytes::new(), ttl_ms: COMPANION_MS }
}

/// What is common to the parts.
#[derive(Clone)]
pub struct Part {
    key: Key,
    epoch: Key,
    ttl_ms: u64,
}

impl Part {
    fn judge(&self, kind: Kind, payload: &Bytes, companion: Option<u64>) -> Verdict {
        let carried = payload
            .get(..PREFIX)
            .filter(|prefix| prefix[PREFIX - 1] == b' ')
            .and_then(|prefix| std::str::from_utf8(&prefix[..PREFIX - 1]).ok())
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let whole = matches!(kind, Kind::Value | Kind::Negative);
        if whole && companion.is_some() && carried == companion { Verdict::Accept } else { Verdict::Stale }
    }

    /// What the source said, ready to be stored under the epoch that held before it was asked.
    fn loaded(&self, epoch: Option<u64>, part: &Result<Bytes, Denied>) -> Loaded {
        let (kind, body, ttl_ms) = match part {
            Ok(json) => (Kind::Value, &json[..], self.ttl_ms),
            Err(denied) => (Kind::Negative, denied.name().as_bytes(), self.ttl_ms.min(NO_ROLE_MS)),
        };
        let mut payload = format!("{:016x} ", epoch.unwrap_or(0)).into_bytes();
        payload.extend_from_slice(body);
        Loaded { kind, payload: payload.into(), ttl_ms: if epoch.is_some() { ttl_ms } else { 0 } }
    }
}

/// The JSON of a stored part, or the denial.
pub fn body(found: &Found) -> Result<Bytes, Denied> {
    let body = found.payload.slice(PREFIX.min(found.payload.len())..);
    if found.negative() {
        Err(Denied::parse(std::str::from_utf8(&body).unwrap_or_default()))
    } else {
        Ok(body)
    }
}

macro_rules! part {
    ($name:ident, $longest:expr) => {
        impl $name {
            /// What the source said, ready to be stored.
            pub fn loaded(&self, epoch: Option<u64>, part: &Result<Bytes, Denied>) -> Loaded {
                self.part.loaded(epoch, part)
            }
        }

        impl Subject for $name {
            fn key(&self) -> &Key {
                &self.part.key
            }
            fn companion(&self) -> Option<&Key> {
                Some(&self.part.epoch)
            }
            fn judge(&self, kind: Kind, payload: &Bytes, companion: Option<u64>) -> Verdict {
                self.part.judge(kind, payload, companion)
            }
            fn longest(&self) -> usize {
                $longest
            }
            fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
                now_ms + self.part.ttl_ms
            }
        }
    };
}

/// The entry of a user's own part.
#[derive(Clone)]
pub struct UserContextSubject {
    part: Part,
    /// Lower-case uuid.
    pub user_id: String,
}

/// The entry of a role.
#[derive(Clone)]
pub struct RoleSubject {
    part: Part,
    /// Lower-case uuid.
    pub role_id: String,
}

/// The entry of the organizations.
#[derive(Clone)]
pub struct TreeSubject {
    part: Part,
}

part!(UserContextSubject, crate::base::limits::ENTRY_BYTES);
part!(RoleSubject, crate::base::limits::ENTRY_BYTES);
part!(TreeSubject, TREE_BYTES);

fn part(keys: &Keys, namespace: Namespace, id: &str, ttl_ms: u64) -> Part {
    Part { key: keys.entry(namespace, id), epoch: epoch_key(keys), ttl_ms }
}

impl UserContextSubject {
    /// Checks the id.
    pub fn new(keys: &Keys, user_id: &str) -> Result<Self, Error> {
        let user_id = uuid("userId", user_id)?;
        Ok(Self { part: part(keys, Namespace::UserContext, &user_id, USER_MS), user_id })
    }
}

impl RoleSubject {
    /// Checks the id.
    pub fn new(keys: &Keys, role_id: &str) -> Result<Self, Error> {
        let role_id = uuid("roleId", role_id)?;
        Ok(Self { part: part(keys, Namespace::RolePermissions, &role_id, ROLE_MS), role_id })
    }
}

impl TreeSubject {
    /// There is one.
    pub fn new(keys: &Keys) -> Self {
        Self { part: part(keys, Namespace::OrganizationTree, ALL, TREE_MS) }
    }
}

/// A whole context loaded at once, while there is no store to keep parts in. It is shared by those who wait for
/// it and never stored.
pub struct WholeSubject(pub UserContextSubject);

impl Subject for WholeSubject {
    fn key(&self) -> &Key {
        self.0.key()
    }
    fn companion(&self) -> Option<&Key> {
        self.0.companion()
    }
    fn binding(&self) -> Option<Binding> {
        Some([b'w'; 32])
    }
    fn judge(&self, _: Kind, _: &Bytes, _: Option<u64>) -> Verdict {
        // What is stored under this key is a part, and valid for those who ask for one.
        Verdict::Foreign
    }
    fn near_until_ms(&self, _: &Bytes, _: u64) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

    #[test]
    fn a_part_belongs_to_one_epoch() {
        let subject = UserContextSubject::new(&Keys::new(""), ID).expect("a uuid");
        let loaded = subject.loaded(Some(7), &Ok(Bytes::from_static(b"{}")));
        assert_eq!(loaded.ttl_ms, USER_MS);
        assert_eq!(&loaded.payload[..], b"0000000000000007 {}");
        let judge = |companion| subject.judge(Kind::Value, &loaded.payload, companion);
        assert_eq!(judge(Some(7)), Verdict::Accept);
        assert_eq!(judge(Some(8)), Verdict::Stale);
        assert_eq!(judge(None), Verdict::Stale, "a missing epoch is no epoch");
        assert_eq!(subject.loaded(None, &Ok(Bytes::new())).ttl_ms, 0, "without an epoch nothing is stored");
        for hostile in
            [&b""[..], b"0000000000000007", b"000000000000000g {}", b"7 {}", b"0000000000000007x{}"]
        {
            let payload = Bytes::from_static(hostile);
            assert_eq!(subject.judge(Kind::Value, &payload, Some(7)), Verdict::Stale, "{hostile:?}");
        }
    }

    #[test]
    fn a_denial_says_why() {
        let subject = RoleSubject::new(&Keys::new(""), ID).expect("a uuid");
        let loaded = subject.loaded(Some(1), &Err(Denied::Deleted));
        assert_eq!((loaded.kind, loaded.ttl_ms), (Kind::Negative, NO_ROLE_MS));
        let found = Found {
            kind: loaded.kind,
            etag: 1,
            payload: loaded.payload,
            serial: 0,
            tier: crate::telemetry::Tier::Store,
            left: Default::default(),
        };
        assert_eq!(body(&found), Err(Denied::Deleted));
    }
}
