//! A context composed of its parts: pure arithmetic over (user, roles, tree, now). It reads no store and no
//! clock.
//!
//! Invariant: the same parts at the same moment give the same bytes, so that two contexts may be compared as
//! texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::part::{Permission, RolePart, Tree, UserPart, UserRole};
use super::scope::Scopes;

/// The role names that mean something by themselves.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of super administrators.
    pub super_admin: Vec<String>,
    /// Of administrators of the organization they are assigned in.
    pub organization_admin: Vec<String>,
}

/// A composed context.
#[derive(Clone, Debug)]
pub struct Composed {
    /// `{"context":{...},"user":{...},"scopes":{...}}`
    pub text: Bytes,
    /// What it may see.
    pub scopes: Scopes,
    /// Unix milliseconds from which on an assignment in it has expired; `u64::MAX` = never.
    pub until_unix_ms: u64,
}

/// Composes a context. `roles` finds a role that is active; an absent one is not.
pub fn compose(
    user: &UserPart,
    roles: &[Arc<RolePart>],
    tree: &Tree,
    names: &Names,
    now_unix_ms: u64,
) -> Composed {
    let role_of = |id: &str| roles.iter().find(|role| role.role_id == id);
    let in_force = |id: &Option<String>| id.as_deref().is_none_or(|id| tree.has(id));
    let live = |assigned: &&UserRole| assigned.expires_ms.is_none_or(|at| at > now_unix_ms as f64);
    let mut assignments: Vec<(&UserRole, &RolePart)> = Vec::with_capacity(user.user_roles.len());
    let mut until_unix_ms = u64::MAX;
    for assigned in user.user_roles.iter().filter(live) {
        let Some(role) = role_of(&assigned.role_id) else { continue };
        if in_force(&assigned.organization_id) && in_force(&role.organization_id) {
            assignments.push((assigned, role));
            // Rounded down: it may be composed anew a moment early, never late.
            until_unix_ms = until_unix_ms.min(assigned.expires_ms.map_or(u64::MAX, |at| at as u64));
        }
    }

    let mut held: Vec<&RolePart> = assignments.iter().map(|(_, role)| *role).collect();
    held.sort_by(|a, b| (&a.name, &a.role_id).cmp(&(&b.name, &b.role_id)));
    held.dedup_by(|a, b| a.role_id == b.role_id);

    let memberships: Vec<_> =
        user.user_organizations.iter().filter(|member| tree.has(&member.organization_id)).collect();
    let mut organizations = Vec::with_capacity(memberships.len());
    for position in memberships.iter().filter_map(|member| tree.position(&member.organization_id)) {
        if !organizations.contains(&position) {
            organizations.push(position);
        }
    }
    let accessible = tree.below(&organizations);
    let practices: BTreeSet<i64> =
        accessible.iter().flat_map(|position| tree.at(*position).practice_uids.iter().copied()).collect();

    let system = |role: &RolePart, among: &[String]| role.is_system_role && among.contains(&role.name);
    let super_admin = assignments
        .iter()
        .any(|(_, role)| system(role, &names.super_admin) && role.organization_id.is_none());
    let admin_for: BTreeSet<&str> = assignments
        .iter()
        .filter(|(_, role)| system(role, &names.organization_admin))
        .filter_map(|(assigned, _)| assigned.organization_id.as_deref())
        .collect();

    let permissions = distinct(&held);
    let practices: Vec<i64> = practices.into_iter().collect();
    let scopes = Scopes::new(
        super_admin,
        practices.clone(),
        user.user.provider_uid.map(i64::from),
        permissions.iter().map(|(_, permission)| (permission.pair.as_str(), permission.scope.as_str())),
    );

    let mut out = Text::default();
    out.raw(b"{\"context\":{\"user_id\":").json(&user.user.user_id);
    out.raw(b",\"email\":").json(&user.user.email);
    out.raw(b",\"first_name\":").json(&user.user.first_name);
    out.raw(b",\"last_name\":").json(&user.user.last_name);
    out.raw(b",\"is_active\":true,\"email_verified\":").json(&user.user.email_verified);
    out.raw(b",\"provider_uid\":").json(&user.user.provider_uid);
    out.raw(b",\"roles\":").list(held.iter().map(|role| &role.json()[..]));
    out.raw(b",\"organizations\":").list(organizations.iter().map(|position| tree.json_at(*position)));
    out.raw(b",\"accessible_organizations\":")
        .list(accessible.iter().map(|position| tree.json_at(*position)));
    out.raw(b",\"accessible_practices\":").json(&practices);
    let effective: Vec<&UserRole> = assignments.iter().map(|(assigned, _)| *assigned).collect();
    out.raw(b",\"user_roles\":").json(&effective);
    out.raw(b",\"user_organizations\":").json(&memberships);
    let current = organizations.first().map(|position| tree.at(*position).organization_id.as_str());
    out.raw(b",\"current_organization_id\":").json(&current);
    out.raw(b",\"all_permissions\":")
        .list(permissions.iter().map(|(role, permission)| role.permission_json(permission)));
    out.raw(b",\"is_super_admin\":").json(&super_admin);
    out.raw(b",\"organization_admin_for\":").json(&admin_for);
    out.raw(b"},\"user\":").json(&user.user);
    out.raw(b",\"scopes\":").json(&scopes.json()).raw(b"}");
    Composed { text: out.0.into(), scopes, until_unix_ms }
}

/// Every permission once, whichever roles bring it, in the order of names.
fn distinct<'a>(roles: &[&'a RolePart]) -> Vec<(&'a RolePart, &'a Permission)> {
    let mut all: Vec<(&RolePart, &Permission)> =
        roles.iter().flat_map(|role| role.permissions.iter().map(|permission| (*role, permission))).collect();
    all.sort_by(|(_, a), (_, b)| (&a.name, &a.permission_id).cmp(&(&b.name, &b.permission_id)));
    // Not only neighbours: one role may have been read before a permission got its new name.
    let mut seen = BTreeSet::new();
    all.retain(|(_, permission)| seen.insert(permission.permission_id.as_str()));
    all
}

/// JSON text in the making.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn json(&mut self, value: &impl Serialize) -> &mut Self {
        serde_json::to_writer(&mut self.0, value)
            .expect("texts, numbers and lists of them can be written to memory");
        self
    }

    fn list<'a>(&mut self, items: impl Iterator<Item = &'a [u8]>) -> &mut Self {
        self.0.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(item);
        }
        self.0.push(b']');
        self
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
