//! Verified JWT payloads: `jwt_payload:{jti}`, each bound to the whole token and to the user's
//! generation `jwt_user:{id}`.
//!
//! ```text
//! <sha256 of the token, 64 hex><space><generation, 16 hex><space><exp in seconds, 12 digits><space><JSON>
//! ```
//!
//! Nothing here verifies a signature: the claims are read from the token text to find its entry, and
//! the entry counts only for exactly the text that the application verified.
//!
//! Invariant: a payload is answered only for the token text it was verified for, before its `exp`, and
//! only while the user's generation is the one that held before the verification began.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::limits;
use crate::cache::flight::Binding;
use crate::cache::policy::{COMPANION_MS, Subject};
use crate::cache::{Effect, Loaded, Verdict};

/// S3: five minutes, or less when the token ends earlier.
pub const PAYLOAD_MS: u64 = 300_000;
const PREFIX: usize = 64 + 1 + 16 + 1 + 12 + 1;

/// The entry of one token text.
pub struct JwtSubject {
    key: Key,
    user: Key,
    sha: Binding,
    /// Expiry in seconds; 0 = none.
    pub exp_s: u64,
    /// Issued at, in seconds; 0 = not said.
    pub iat_s: u64,
    /// Wall time of the call, in milliseconds.
    pub unix_ms: u64,
}

impl JwtSubject {
    /// Reads id, user and times from the token text. `Ok(None)` when it cannot have an entry: not a JWT,
    /// without `jti`, without a user, or expired.
    pub fn new(
        keys: &Keys,
        user_claims: &[String],
        token: &str,
        unix_ms: u64,
    ) -> Result<Option<Self>, Error> {
        if token.is_empty() || token.len() > limits::JWT_BYTES {
            return Err(Error::argument("token", &format!("a token of 1 to {} bytes", limits::JWT_BYTES)));
        }
        // A token is ASCII by definition; other text may have lost its identity on the way here.
        let Some(claims) = claims(token).filter(|_| token.is_ascii()) else { return Ok(None) };
        let text = |name: &str| {
            claims
                .get(name)
                .and_then(serde_json::Value::as_str)
                .filter(|text| !text.is_empty() && text.len() <= limits::KEY_PART_BYTES)
        };
        let (Some(jti), Some(user)) = (text("jti"), user_claims.iter().find_map(|name| text(name))) else {
            return Ok(None);
        };
        let seconds = |name: &str| {
            claims
                .get(name)
                .and_then(serde_json::Value::as_f64)
                .filter(|at| *at > 0.0 && *at < 1e12)
                .unwrap_or(0.0)
        };
        if claims.contains_key("exp") && seconds("exp") as u64 * 1_000 <= unix_ms {
            return Ok(None);
        }
        Ok(Some(Self {
            key: keys.entry(Namespace::JwtPayload, jti),
            user: user_key(keys, user),
            sha: Sha256::digest(token.as_bytes()).into(),
            exp_s: seconds("exp") as u64,
            iat_s: seconds("iat") as u64,
            unix_ms,
        }))
    }

    /// Whether this text may be remembered although the user's tokens were voided at `not_before_s`.
    pub fn issued_after(&self, not_before_s: u64) -> bool {
        self.iat_s >= not_before_s
    }

    /// The generation key of the token's user.
    pub fn user(&self) -> &Key {
        &self.user
    }

    /// A verified payload, ready to be stored; not storable without the generation.
    pub fn loaded(&self, json: &str, generation: Option<u64>) -> Loaded {
        let left =
            if self.exp_s == 0 { PAYLOAD_MS } else { (self.exp_s * 1_000).saturating_sub(self.unix_ms) };
        let ttl_ms = if generation.is_some() { left.min(PAYLOAD_MS) } else { 0 };
        let payload =
            format!("{} {:016x} {:012} {json}", hex(&self.sha), generation.unwrap_or(0), self.exp_s);
        Loaded { kind: Kind::Value, payload: payload.into(), ttl_ms }
    }

    /// The JSON of a stored payload.
    pub fn json(payload: &Bytes) -> Bytes {
        payload.slice(PREFIX.min(payload.len())..)
    }
}

impl Subject for JwtSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn companion(&self) -> Option<&Key> {
        Some(&self.user)
    }

    fn binding(&self) -> Option<Binding> {
        Some(self.sha)
    }

    fn judge(&self, kind: Kind, payload: &Bytes, companion: Option<u64>) -> Verdict {
        let Some(prefix) = payload.get(..PREFIX).filter(|_| kind == Kind::Value) else {
            return Verdict::Stale;
        };
        let exp_s: u64 =
            std::str::from_utf8(&prefix[82..94]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(1);
        if exp_s != 0 && exp_s * 1_000 <= self.unix_ms {
            return Verdict::Stale;
        }
        // Before the generation: claims of a token that nobody verified must not get another one's entry voided.
        if prefix[..64] != *hex(&self.sha).as_bytes() {
            return Verdict::Foreign;
        }
        let generation =
            std::str::from_utf8(&prefix[65..81]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if companion.is_none() || generation != companion {
            return Verdict::Stale;
        }
        Verdict::Accept
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        let left =
            if self.exp_s == 0 { PAYLOAD_MS } else { (self.exp_s * 1_000).saturating_sub(self.unix_ms) };
        now_ms + left.min(PAYLOAD_MS)
    }
}

/// The generation key of a user.
pub fn user_key(keys: &Keys, user: &str) -> Key {
    keys.entry(Namespace::JwtUser, &user.to_ascii_lowercase())
}

/// Voids every payload of a user: a new generation, which also says from when on tokens are new.
pub fn regenerate(unix_ms: u64) -> Effect {
    Effect::Mark { payload: (unix_ms / 1_000).to_string().into_bytes().into(), ttl_ms: COMPANION_MS }
}

/// What a generation says: tokens issued before this second are not remembered any more.
pub fn not_before_s(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Voiding one payload leaves a hold, so that a verification that is still running cannot bring it back.
pub fn hold() -> Effect {
    Effect::Hold { ms: PAYLOAD_MS }
}

/// Whether a text may be a token at all.
pub fn fits(token: &str) -> bool {
    (1..=limits::JWT_BYTES).contains(&token.len())
}

/// Id and user as the text of a token claims them: good for looking something up, no proof of anything.
pub fn ids(token: &str, user_claims: &[String]) -> (Option<String>, Option<String>) {
    let readable = token.len() <= limits::JWT_BYTES && token.is_ascii();
    let Some(claims) = claims(token).filter(|_| readable) else { return (None, None) };
    let text =
        |name: &str| claims.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    let jti = text("jti").filter(|jti| super::text("tokenId", jti, super::token::JTI_CHARS).is_ok());
    let user =
        user_claims.iter().find_map(|name| text(name)).and_then(|user| super::uuid("userId", user).ok());
    (jti.map(str::to_owned), user)
}

fn claims(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut parts = token.split('.');
    let (_, body, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(body).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn hex(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [HEX[usize::from(byte >> 4)] as char, HEX[usize::from(byte & 15)] as char])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn token(claims: &str, signature: &str) -> String {
        format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    }

    fn subject(token: &str, unix_ms: u64) -> Option<JwtSubject> {
        JwtSubject::new(&Keys::new(""), &["user_id".into(), "sub".into()], token, unix_ms)
            .expect("short enough")
    }

    #[test]
    fn a_payload_belongs_to_one_text_one_generation_and_ends_at_exp() {
        let claims = r#"{"jti":"j","sub":"u","exp":1000010}"#;
        let mine = subject(&token(claims, "good"), NOW).expect("has an entry");
        let forged = subject(&token(claims, "evil"), NOW).expect("has an entry");
        assert_eq!(mine.key(), forged.key());
        let loaded = mine.loaded("{\"a\":1}", Some(7));
        assert_eq!(loaded.ttl_ms, 10_000);
        assert_eq!(&JwtSubject::json(&loaded.payload)[..], b"{\"a\":1}");
        let judge =
            |subject: &JwtSubject, generation| subject.judge(Kind::Value, &loaded.payload, generation);
        assert_eq!(judge(&mine, Some(7)), Verdict::Accept);
        assert_eq!(judge(&mine, Some(8)), Verdict::Stale);
        assert_eq!(judge(&mine, None), Verdict::Stale, "a missing generation is no generation");
        assert_eq!(judge(&forged, Some(7)), Verdict::Foreign);
        assert_eq!(
            judge(&forged, Some(8)),
            Verdict::Foreign,
            "whoever forges a user claim does not void the entry"
        );
        let late =
            JwtSubject { unix_ms: 1_000_010_000, ..subject(&token(claims, "good"), NOW).expect("entry") };
        assert_eq!(judge(&late, Some(7)), Verdict::Stale);
        assert_eq!(mine.loaded("{}", None).ttl_ms, 0, "without a generation nothing is stored");
        assert!(subject(&token(claims, "good"), 1_000_010_000).is_none(), "expired");
    }

    #[test]
    fn what_is_no_usable_token_has_no_entry() {
        for bad in ["x", "a.b", "a.b.c.d", "..", "a.!!.c"] {
            assert!(subject(bad, NOW).is_none(), "{bad}");
        }
        for claims in [
            "{}",
            r#"{"jti":"j"}"#,
            r#"{"sub":"u"}"#,
            r#"{"jti":"","sub":"u"}"#,
            r#"{"jti":7,"sub":"u"}"#,
            r#"{"jti":"j","sub":"u","exp":-5}"#,
            r#"{"jti":"j","sub":"u","exp":"9"}"#,
            "[]",
        ] {
            assert!(subject(&token(claims, "s"), NOW).is_none(), "{claims}");
        }
        assert!(JwtSubject::new(&Keys::new(""), &[], &"x".repeat(limits::JWT_BYTES + 1), NOW).is_err());
    }

    #[test]
    fn tokens_of_before_are_not_remembered_again() {
        let old = subject(&token(r#"{"jti":"j","sub":"u","iat":999}"#, "s"), NOW).expect("entry");
        let Effect::Mark { payload, .. } = regenerate(1_000_000) else { panic!() };
        assert!(!old.issued_after(not_before_s(&payload)));
        assert!(old.issued_after(not_before_s(b"")));
    }
}
