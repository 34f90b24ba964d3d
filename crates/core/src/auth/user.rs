//! Users: `user_basic:{id}` and the address index `user_email:{sha256}`.
//!
//! Invariant: a deactivated, deleted or unknown user is a stored denial, and no `password_hash` ever
//! reaches an entry.

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Keys, Namespace};
use crate::cache::Loaded;
use crate::cache::policy::Subject;
use crate::source::User;

/// S1: user data rarely changes and is invalidated when it does.
pub const USER_MS: u64 = 300_000;

/// The entry of one user.
pub struct UserSubject {
    key: Key,
    /// Lower-case uuid.
    pub user_id: String,
}

impl UserSubject {
    /// Checks the id.
    pub fn new(keys: &Keys, user_id: &str) -> Result<Self, Error> {
        let user_id = super::uuid("userId", user_id)?;
        Ok(Self { key: keys.entry(Namespace::UserBasic, &user_id), user_id })
    }
}

impl Subject for UserSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        now_ms + USER_MS
    }
}

/// Which user has an address. Only a hint: the user found through it must have that address.
pub struct EmailSubject {
    key: Key,
    /// The address as given.
    pub email: String,
}

impl EmailSubject {
    /// Checks the address as far as a column can hold it.
    pub fn new(keys: &Keys, email: &str) -> Result<Self, Error> {
        super::text("email", email, 255)?;
        Ok(Self { key: keys.email(email), email: email.to_owned() })
    }
}

impl Subject for EmailSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        now_ms + USER_MS
    }
}

/// A user, or the denial, ready to be stored.
pub fn loaded(user: Option<&User>) -> Result<Loaded, Error> {
    match user {
        None => Ok(Loaded { kind: Kind::Negative, payload: Bytes::new(), ttl_ms: USER_MS }),
        Some(user) => {
            let text = serde_json::to_vec(user)
                .map_err(|_| Error::new(Code::Internal, "a user could not be written as JSON"))?;
            Ok(Loaded { kind: Kind::Value, payload: text.into(), ttl_ms: USER_MS })
        }
    }
}

/// The id behind an address. "Nobody" is not stored: somebody may get the address next.
pub fn loaded_index(user: Option<&User>) -> Loaded {
    match user {
        Some(user) => {
            Loaded { kind: Kind::Value, payload: user.user_id.clone().into_bytes().into(), ttl_ms: USER_MS }
        }
        None => Loaded { kind: Kind::Negative, payload: Bytes::new(), ttl_ms: 0 },
    }
}

/// A user object given by the caller: extra properties are dropped, wrong ones refused by name. A message
/// never repeats a value: it may be an address.
pub fn from_caller(user_id: &str, json: &str) -> Result<Option<User>, Error> {
    let given: serde_json::Value =
        serde_json::from_str(json).map_err(|_| Error::argument("user", "an object"))?;
    let given = given.as_object().ok_or_else(|| Error::argument("user", "an object"))?;
    let active = given.get("is_active").and_then(serde_json::Value::as_bool).unwrap_or(false);
    if !active || given.get("deleted_at").is_some_and(|deleted| !deleted.is_null()) {
        return Ok(None);
    }
    let optional = |name: &str| given.get(name).filter(|value| !value.is_null());
    let text = |name: &str, field: &'static str| {
        let text = given.get(name).and_then(serde_json::Value::as_str);
        text.map(str::to_owned).ok_or_else(|| Error::argument(field, "a text"))
    };
    let time = |name: &str, field: &'static str| optional(name).map(|_| text(name, field)).transpose();
    let verified = |value: &serde_json::Value| {
        value.as_bool().ok_or_else(|| Error::argument("user.email_verified", "true, false or null"))
    };
    let provider = |value: &serde_json::Value| {
        let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| Error::argument("user.provider_uid", "a 32-bit integer or null"))
    };
    let user = User {
        user_id: super::uuid("user.user_id", &text("user_id", "user.user_id")?)?,
        email: text("email", "user.email")?,
        first_name: text("first_name", "user.first_name")?,
        last_name: text("last_name", "user.last_name")?,
        is_active: true,
        email_verified: optional("email_verified").map(verified).transpose()?,
        provider_uid: optional("provider_uid").map(provider).transpose()?,
        created_at: time("created_at", "user.created_at")?,
        updated_at: time("updated_at", "user.updated_at")?,
    };
    if user.user_id != user_id {
        return Err(Error::argument("user.user_id", "the id given as userId"));
    }
    Ok(Some(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

    #[test]
    fn only_the_known_properties_of_an_active_user_are_stored() {
        let json = format!(
            r#"{{"user_id":"{ID}","email":"a@b.c","first_name":"A","last_name":"B","is_active":true,"password_hash":"SECRET","x":1}}"#
        );
        let user = from_caller(ID, &json).expect("accepted").expect("active");
        let stored = loaded(Some(&user)).expect("json").payload;
        let text = std::str::from_utf8(&stored).expect("utf8");
        assert!(!text.contains("SECRET") && !text.contains("\"x\""), "{text}");
        for denied in ["false", "null"] {
            assert_eq!(
                from_caller(ID, &json.replace("\"is_active\":true", &format!("\"is_active\":{denied}"))),
                Ok(None)
            );
        }
        assert!(from_caller("00000000-0000-0000-0000-000000000000", &json).is_err());
        assert!(from_caller(ID, "[]").is_err());
        let wrong = from_caller(ID, &json.replace("\"A\"", "7")).expect_err("not a name");
        assert_eq!(wrong.field.as_deref(), Some("user.first_name"));
        let address = json.replace("\"x\":1", "\"provider_uid\":\"a@b.c\"");
        let wrong = from_caller(ID, &address).expect_err("not a number");
        assert!(!wrong.message.contains("a@b.c"), "{wrong}");
    }
}
