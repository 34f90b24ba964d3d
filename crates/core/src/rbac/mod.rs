//! Roles, organizations, contexts, scopes: what their entries mean and how a context is composed of them. Not
//! how they are cached: that is `cache`, the same for all.
//!
//! ```text
//! user_context:{id}   the user's own part: user, memberships, assignments
//! role_perms:{id}     a role with its permissions
//! org_tree:all        every active organization
//! rbac_epoch:all      the version that all of them carry: a new one voids everything at once
//! ```
//!
//! Invariant: a context is composed of parts that were each current after the call began; a changed role or
//! tree is one invalidation, whoever many users it concerns.

pub mod context;
pub mod part;
pub mod scope;
pub mod subject;

pub use context::{Composed, Names, compose};
pub use part::{Denied, RolePart, Tree, UserPart};
pub use subject::{RoleSubject, TreeSubject, UserContextSubject, epoch_key};
