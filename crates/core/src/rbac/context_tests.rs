use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::rbac::scope::Scope;

const USER: &str = "00000000-0000-0000-0000-000000000001";
const NOW: u64 = 1_000_000;

fn user(roles: Value, organizations: Value) -> UserPart {
    let user = json!({
        "user_id": USER, "email": "a@b.c", "first_name": "A", "last_name": "\"B\"", "is_active": true,
        "email_verified": null, "provider_uid": 0, "created_at": null, "updated_at": null,
    });
    let part = json!({ "user": user, "user_roles": roles, "user_organizations": organizations });
    UserPart::read(USER, part.to_string().as_bytes()).expect("a part")
}

fn assigned(role: &str, organization: Option<&str>, expires_ms: Option<f64>) -> Value {
    json!({
        "user_role_id": format!("ur-{role}"), "user_id": USER, "role_id": role, "organization_id": organization,
        "granted_by": null, "granted_at": null, "expires_at": null, "is_active": true, "expires_ms": expires_ms,
    })
}

fn member(organization: &str) -> Value {
    json!({
        "user_organization_id": format!("uo-{organization}"), "user_id": USER, "organization_id": organization,
        "is_active": true, "joined_at": null,
    })
}

fn role(id: &str, name: &str, system: bool, of: Option<&str>, permissions: &[(&str, &str)]) -> Arc<RolePart> {
    let permissions: Vec<Value> = permissions
        .iter()
        .map(|(pair, scope)| {
            let (resource, action) = pair.split_once(':').expect("a pair");
            let name = format!("{pair}:{scope}");
            json!({ "permission_id": name, "name": name, "resource": resource, "action": action, "scope": scope })
        })
        .collect();
    let json = json!({
        "role_id": id, "name": name, "organization_id": of, "is_system_role": system, "permissions": permissions,
    });
    Arc::new(RolePart::read(id, Bytes::from(json.to_string())).expect("a role"))
}

fn tree(organizations: &[(&str, Option<&str>, &[i64])]) -> Tree {
    let list: Vec<Value> = organizations
        .iter()
        .map(|(id, parent, practices)| {
            json!({ "organization_id": id, "parent_organization_id": parent, "practice_uids": practices })
        })
        .collect();
    Tree::read(Bytes::from(Value::from(list).to_string())).expect("a tree")
}

fn names() -> Names {
    Names { super_admin: vec!["super_admin".into()], organization_admin: vec!["practice_admin".into()] }
}

fn context(part: &UserPart, roles: &[Arc<RolePart>], tree: &Tree) -> (Value, Composed) {
    let composed = compose(part, roles, tree, &names(), NOW);
    let whole: Value = serde_json::from_slice(&composed.text).expect("JSON");
    (whole["context"].clone(), composed)
}

#[test]
fn descendants_are_reached_through_active_organizations_and_cycles_end() {
    // c's parent is not in the tree: it is inactive, and cuts what is below it.
    let tree = tree(&[
        ("a", Some("b"), &[5, 1]),
        ("b", Some("a"), &[1]),
        ("c", Some("gone"), &[9]),
        ("d", Some("b"), &[0]),
    ]);
    let part = user(json!([]), json!([member("b"), member("gone"), member("b")]));
    let (context, _) = context(&part, &[], &tree);
    assert_eq!(context["accessible_practices"], json!([0, 1, 5]));
    assert_eq!(context["current_organization_id"], "b");
    assert_eq!(context["organizations"].as_array().map(Vec::len), Some(1));
    assert_eq!(context["accessible_organizations"].as_array().map(Vec::len), Some(3));
    assert_eq!(context["user_organizations"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_assignment_counts_while_it_role_and_organization_do() {
    let tree = tree(&[("a", None, &[1])]);
    let permissions = [("analytics:read", "organization")];
    let roles = [
        role("r1", "user", true, None, &permissions),
        role("r2", "other", false, Some("gone"), &[("x:y", "all")]),
        role("r3", "late", false, None, &[("z:z", "all")]),
    ];
    let part = user(
        json!([
            assigned("r1", Some("a"), Some(NOW as f64 + 0.5)),
            assigned("r1", Some("gone"), None),
            assigned("r2", None, None),
            assigned("r3", None, Some(NOW as f64)),
            assigned("r4", None, None),
        ]),
        json!([member("a")]),
    );
    let (context, composed) = context(&part, &roles, &tree);
    assert_eq!(context["user_roles"].as_array().map(Vec::len), Some(1));
    assert_eq!(context["roles"][0]["role_id"], "r1");
    assert_eq!(context["all_permissions"].as_array().map(Vec::len), Some(1));
    assert_eq!(composed.until_unix_ms, NOW, "composed anew rather early than late");
    assert!(matches!(composed.scopes.of("analytics:read"), Scope::Rows(_)));
    assert_eq!(composed.scopes.of("x:y"), Scope::Nothing);
}

#[test]
fn a_name_alone_makes_no_administrator() {
    let tree = tree(&[("a", None, &[1])]);
    for (role, organization, chief, admin_for) in [
        (role("r", "super_admin", true, None, &[]), None, true, json!([])),
        (role("r", "super_admin", false, None, &[]), None, false, json!([])),
        (role("r", "super_admin", true, Some("a"), &[]), Some("a"), false, json!([])),
        (role("r", "practice_admin", true, None, &[]), Some("a"), false, json!(["a"])),
        (role("r", "practice_admin", true, None, &[]), None, false, json!([])),
        (role("r", "practice_admin", false, Some("a"), &[]), Some("a"), false, json!([])),
    ] {
        let part = user(json!([assigned("r", organization, None)]), json!([]));
        let (context, composed) = context(&part, std::slice::from_ref(&role), &tree);
        assert_eq!(context["is_super_admin"], chief, "{role:?}");
        assert_eq!(context["organization_admin_for"], admin_for, "{role:?}");
        assert_eq!(matches!(composed.scopes.of("any:thing"), Scope::All(_)), chief);
    }
}

#[test]
fn a_part_of_somebody_else_is_no_part() {
    let part = json!({ "user": { "user_id": "x" }, "user_roles": [], "user_organizations": [] });
    assert!(UserPart::read(USER, part.to_string().as_bytes()).is_none());
    assert!(
        RolePart::read("a", Bytes::from_static(b"{\"role_id\":\"b\",\"name\":\"n\",\"permissions\":[]}"))
            .is_none()
    );
    for hostile in [&b""[..], b"{}", b"[1]", b"[{}]", b"null", b"[{\"organization_id\":1}]"] {
        assert!(Tree::read(Bytes::from_static(hostile)).is_none(), "{hostile:?}");
    }
}
