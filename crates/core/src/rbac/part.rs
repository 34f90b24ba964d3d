//! The parts of a context as they are stored: JSON of the source, read here without copying what is only passed
//! on. Not a decision about them: that is `context`.
//!
//! Invariant: what cannot be read, or belongs to another id, is `None`, never half a part.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::source::User;

pub use crate::source::Denied;

/// The user's own part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct UserPart {
    /// An active user.
    pub user: User,
    /// Active assignments that had not expired when they were read, in order.
    pub user_roles: Vec<UserRole>,
    /// Active memberships, in order.
    pub user_organizations: Vec<UserOrganization>,
}

/// One row of `user_roles`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserRole {
    pub user_role_id: String,
    pub user_id: String,
    pub role_id: String,
    pub organization_id: Option<String>,
    pub granted_by: Option<String>,
    pub granted_at: Option<String>,
    pub expires_at: Option<String>,
    pub is_active: bool,
    /// Unix milliseconds of `expires_at`; `None` = never.
    #[serde(skip_serializing)]
    pub expires_ms: Option<f64>,
}

/// One row of `user_organizations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserOrganization {
    pub user_organization_id: String,
    pub user_id: String,
    pub organization_id: String,
    pub is_active: bool,
    pub joined_at: Option<String>,
}

impl UserPart {
    /// Reads the part of `user_id`.
    pub fn read(user_id: &str, json: &[u8]) -> Option<Self> {
        let part: Self = serde_json::from_slice(json).ok()?;
        (part.user.user_id == user_id && part.user.is_active).then_some(part)
    }

    /// The roles that are assigned, each once, in order.
    pub fn role_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.user_roles.iter().map(|assigned| assigned.role_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// A role, its JSON, and what decisions need of it.
#[derive(Clone, Debug)]
pub struct RolePart {
    json: Bytes,
    pub role_id: String,
    pub name: String,
    pub organization_id: Option<String>,
    pub is_system_role: bool,
    pub permissions: Vec<Permission>,
}

/// A permission inside the JSON of its role.
#[derive(Clone, Debug)]
pub struct Permission {
    pub permission_id: String,
    pub name: String,
    /// `resource:action`.
    pub pair: String,
    /// `own`, `organization` or `all`.
    pub scope: String,
    at: Range<usize>,
}

#[derive(Deserialize)]
struct RoleJson<'a> {
    role_id: String,
    name: String,
    organization_id: Option<String>,
    is_system_role: Option<bool>,
    #[serde(borrow)]
    permissions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PermissionJson {
    permission_id: String,
    name: String,
    resource: Option<String>,
    action: Option<String>,
    scope: Option<String>,
}

impl RolePart {
    /// Reads the part of `role_id`.
    pub fn read(role_id: &str, json: Bytes) -> Option<Self> {
        let role: RoleJson<'_> = serde_json::from_slice(&json).ok()?;
        if role.role_id != role_id {
            return None;
        }
        let permissions = role.permissions.iter().map(|raw| permission(&json, raw)).collect::<Option<_>>()?;
        let RoleJson { role_id, name, organization_id, is_system_role, .. } = role;
        let is_system_role = is_system_role.unwrap_or(false);
        Some(Self { role_id, name, organization_id, is_system_role, permissions, json })
    }

    /// The role object as JSON.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// One of its permissions as JSON.
    pub fn permission_json(&self, permission: &Permission) -> &[u8] {
        &self.json[permission.at.clone()]
    }
}

fn permission(json: &Bytes, raw: &RawValue) -> Option<Permission> {
    let text = raw.get();
    let start = (text.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    let at = start..start + text.len();
    let read: PermissionJson = serde_json::from_str(text).ok()?;
    let pair = format!("{}:{}", read.resource.unwrap_or_default(), read.action.unwrap_or_default());
    Some(Permission {
        permission_id: read.permission_id,
        name: read.name,
        pair,
        scope: read.scope.unwrap_or_default(),
        at,
    })
}

/// Every active organization, with the way down.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    json: Bytes,
    organizations: Vec<Organization>,
    by_id: HashMap<String, usize, ahash::RandomState>,
    children: Vec<Vec<usize>>,
}

/// One organization inside the JSON of the tree.
#[derive(Clone, Debug)]
pub struct Organization {
    pub organization_id: String,
    pub practice_uids: Vec<i64>,
    at: Range<usize>,
}

#[derive(Deserialize)]
struct OrganizationJson {
    organization_id: String,
    parent_organization_id: Option<String>,
    practice_uids: Option<Vec<Option<i64>>>,
}

impl Tree {
    /// Reads a list of organizations, which is in the order of names.
    pub fn read(json: Bytes) -> Option<Self> {
        let raw: Vec<&RawValue> = serde_json::from_slice(&json).ok()?;
        let mut organizations = Vec::with_capacity(raw.len());
        let mut parents = Vec::with_capacity(raw.len());
        let mut by_id = HashMap::with_capacity_and_hasher(raw.len(), ahash::RandomState::new());
        for raw in raw {
            let text = raw.get();
            let start = (text.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
            let read: OrganizationJson = serde_json::from_str(text).ok()?;
            by_id.insert(read.organization_id.clone(), organizations.len());
            parents.push(read.parent_organization_id);
            organizations.push(Organization {
                organization_id: read.organization_id,
                practice_uids: read.practice_uids.unwrap_or_default().into_iter().flatten().collect(),
                at: start..start + text.len(),
            });
        }
        let mut children = vec![Vec::new(); organizations.len()];
        for (child, parent) in parents.into_iter().enumerate() {
            // A parent that is not here is inactive: its subtree is reached through memberships of its own only.
            if let Some(parent) = parent.and_then(|parent| by_id.get(&parent).copied()) {
                children[parent].push(child);
            }
        }
        Some(Self { json, organizations, by_id, children })
    }

    /// Whether an organization is active.
    pub fn has(&self, organization_id: &str) -> bool {
        self.by_id.contains_key(organization_id)
    }

    /// Position of an active organization.
    pub fn position(&self, organization_id: &str) -> Option<usize> {
        self.by_id.get(organization_id).copied()
    }

    /// The organization at a position.
    pub fn at(&self, position: usize) -> &Organization {
        &self.organizations[position]
    }

    /// Its JSON.
    pub fn json_at(&self, position: usize) -> &[u8] {
        &self.json[self.organizations[position].at.clone()]
    }

    /// These organizations and everything below them, ascending. A cycle ends where it began.
    pub fn below(&self, tops: &[usize]) -> Vec<usize> {
        let mut seen = vec![false; self.organizations.len()];
        let mut todo = tops.to_vec();
        while let Some(position) = todo.pop() {
            if !std::mem::replace(&mut seen[position], true) {
                todo.extend(self.children[position].iter().copied());
            }
        }
        seen.iter().enumerate().filter_map(|(position, seen)| seen.then_some(position)).collect()
    }
}
