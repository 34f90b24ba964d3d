//! The only place that builds keys. Not a parser of foreign keys.
//!
//! Invariant: two different (namespace, parts) never give the same key, whatever the parts contain,
//! because every byte outside a small safe set is percent-escaped.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// One family of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// `token_bl:{jti}`: is a token revoked.
    TokenBlacklist,
    /// `user_basic:{id}`: the user object.
    UserBasic,
    /// `jwt_payload:{jti}`: a verified payload, bound to the whole token.
    JwtPayload,
    /// `jwt_user:{id}`: the generation that a user's payloads must carry.
    JwtUser,
    /// `user_email:{sha256}`: which user has an address, without the address.
    UserEmail,
    /// `user_context:{id}`: the user's own part of a context: user, memberships, assignments.
    UserContext,
    /// `role_perms:{id}`: a role with its permissions.
    RolePermissions,
    /// `org_tree:all`: the active organizations.
    OrganizationTree,
    /// `rbac_epoch:all`: the version that every part of a context must carry.
    RbacEpoch,
    /// `cache:{key}`: a value of the application.
    Value,
    /// `cache_tag:{tag}`: the keys of values that are under a tag.
    ValueTag,
    /// `cache_gen:{key}`: the generation that the values of all scopes of a key must carry.
    ValueGeneration,
    /// `datasource:{source}:{hash}`: the result of a query.
    DataSource,
    /// `datasource_gen:{source}`: the generation that a source's results must carry.
    DataSourceGeneration,
    /// `tail:...`: who follows the outbox, and up to where.
    Tail,
    /// `ratelimit:{type}:{identifier}`: what was admitted lately.
    RateLimit,
    /// `warming:{level}`: who warms the cache, or that somebody just has.
    Warming,
    /// `cache:meta:{ds:1}:live`: which generation of a data source is served.
    AnalyticsLive,
    /// `idx:ds:{source}:{name}`: a manifest.
    AnalyticsIndex,
    /// `cache:ds:{source}:{name}`: a frame.
    AnalyticsFrame,
    /// `lock:{ds:1}:...`: who warms a data source, and that somebody just has.
    AnalyticsLock,
}

impl Namespace {
    /// All namespaces, in the order of their counters.
    pub const ALL: [Namespace; 21] = [
        Namespace::TokenBlacklist,
        Namespace::UserBasic,
        Namespace::JwtPayload,
        Namespace::JwtUser,
        Namespace::UserEmail,
        Namespace::UserContext,
        Namespace::RolePermissions,
        Namespace::OrganizationTree,
        Namespace::RbacEpoch,
        Namespace::Value,
        Namespace::ValueTag,
        Namespace::ValueGeneration,
        Namespace::DataSource,
        Namespace::DataSourceGeneration,
        Namespace::Tail,
        Namespace::RateLimit,
        Namespace::Warming,
        Namespace::AnalyticsLive,
        Namespace::AnalyticsIndex,
        Namespace::AnalyticsFrame,
        Namespace::AnalyticsLock,
    ];

    /// The name users see in metrics and options.
    pub fn name(self) -> &'static str {
        match self {
            Namespace::TokenBlacklist => "token_bl",
            Namespace::UserBasic => "user_basic",
            Namespace::JwtPayload => "jwt_payload",
            Namespace::JwtUser => "jwt_user",
            Namespace::UserEmail => "user_email",
            Namespace::UserContext => "user_context",
            Namespace::RolePermissions => "role_perms",
            Namespace::OrganizationTree => "org_tree",
            Namespace::RbacEpoch => "rbac_epoch",
            Namespace::Value => "cache",
            Namespace::ValueTag => "cache_tag",
            Namespace::ValueGeneration => "cache_gen",
            Namespace::DataSource => "datasource",
            Namespace::DataSourceGeneration => "datasource_gen",
            Namespace::Tail => "tail",
            Namespace::RateLimit => "ratelimit",
            Namespace::Warming => "warming",
            Namespace::AnalyticsLive => "analytics_live",
            Namespace::AnalyticsIndex => "analytics_index",
            Namespace::AnalyticsFrame => "analytics_frame",
            Namespace::AnalyticsLock => "analytics_lock",
        }
    }

    /// What its keys begin with. No part of a key contains a colon, so that `cache:ds:1` is nobody's value `ds:1`.
    pub fn family(self) -> &'static str {
        match self {
            Namespace::AnalyticsLive => "cache:meta",
            Namespace::AnalyticsIndex => "idx:ds",
            Namespace::AnalyticsFrame => "cache:ds",
            Namespace::AnalyticsLock => "lock",
            other => other.name(),
        }
    }

    /// Position in [`Namespace::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A complete key, ready for the store, with its namespace. Cloning is cheap.
#[derive(Clone)]
pub struct Key {
    bytes: Arc<[u8]>,
    namespace: Namespace,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// The bytes of a key, for looking one up without building a [`Key`].
pub struct KeyBytes<'a>(pub &'a [u8]);

impl Hash for KeyBytes<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl quick_cache::Equivalent<Key> for KeyBytes<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.0 == *key.bytes
    }
}

impl Key {
    /// The bytes as the store sees them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The family this key belongs to.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// 32 bits that spread keys over shards and name one in a log without showing it.
    pub fn fingerprint(&self) -> u32 {
        let hash = fnv1a(&self.bytes);
        (hash ^ (hash >> 32)) as u32
    }

    /// Where the lease lies of whoever refreshes this entry while it is still answered. No part of a key contains a
    /// colon, so no entry lies there.
    pub fn refresh(&self) -> Key {
        Key { bytes: [&self.bytes, &b":refresh"[..]].concat().into(), namespace: self.namespace }
    }

    /// Where it is noted that the store was told something of this limit. As with [`Key::refresh`], no entry lies there.
    pub fn told(&self, mark: u64) -> Key {
        let suffix = format!(":told:{mark:016x}");
        Key { bytes: [&self.bytes, suffix.as_bytes()].concat().into(), namespace: self.namespace }
    }

    /// The cluster slot: CRC16 of the hash tag, or of the whole key.
    pub fn slot(&self) -> u16 {
        slot(&self.bytes)
    }
}

impl fmt::Debug for Key {
    /// Shows the namespace and a digest: a key part may be a token id.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:#{:08x}", self.namespace.name(), self.fingerprint())
    }
}

/// Builds keys under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// `prefix` is put in front of everything as it is; configuration has checked it.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The key of `part` in `namespace`.
    pub fn entry(&self, namespace: Namespace, part: &str) -> Key {
        written(namespace, |out| self.write(namespace, part, out))
    }

    /// Writes the key of `part` into `out`: for a look-up that must not allocate.
    pub fn write(&self, namespace: Namespace, part: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(namespace.family().as_bytes());
        out.push(b':');
        escape(part.as_bytes(), out);
    }

    /// The key of a result. `hash` needs no escaping.
    pub fn result(&self, source: &str, hash: &str) -> Key {
        written(Namespace::DataSource, |out| {
            self.write(Namespace::DataSource, source, out);
            out.push(b':');
            out.extend_from_slice(hash.as_bytes());
        })
    }

    /// The key of a manifest or a frame. `name` needs no escaping.
    pub fn block(&self, namespace: Namespace, source: i64, name: &str) -> Key {
        written(namespace, |out| {
            self.write(namespace, &source.to_string(), out);
            out.push(b':');
            out.extend_from_slice(name.as_bytes());
        })
    }

    /// The key of what there is one of for a data source: its hash tag, then what it is.
    pub fn of_source(&self, namespace: Namespace, source: i64, what: &str) -> Key {
        let (prefix, family) = (&self.prefix, namespace.family());
        Key { bytes: format!("{prefix}{family}:{{ds:{source}}}:{what}").into_bytes().into(), namespace }
    }

    /// The key of a limit. The identifier is its hash tag: limits of one identifier share a slot of a cluster.
    pub fn limit(&self, kind: &str, identifier: &str) -> Key {
        written(Namespace::RateLimit, |out| self.write_limit(kind, identifier, out))
    }

    /// As [`Keys::write`], for a limit.
    pub fn write_limit(&self, kind: &str, identifier: &str, out: &mut Vec<u8>) {
        self.write(Namespace::RateLimit, kind, out);
        out.extend_from_slice(b":{");
        escape(identifier.as_bytes(), out);
        out.push(b'}');
    }

    /// The namespace of a key written under this prefix, read back from its bytes.
    pub fn parse(&self, bytes: &[u8]) -> Option<Key> {
        let rest = bytes.strip_prefix(self.prefix.as_bytes())?;
        let begins = |namespace: &Namespace| {
            rest.strip_prefix(namespace.family().as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
        };
        let namespace =
            Namespace::ALL.into_iter().filter(begins).max_by_key(|namespace| namespace.family().len())?;
        Some(Key { bytes: bytes.into(), namespace })
    }

    /// What the keys of a namespace begin with, up to and with the escaped beginning of their part.
    pub fn beginning(&self, namespace: Namespace, part: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(namespace, part, &mut bytes);
        bytes
    }

    /// The part of a key of `namespace`, if it is one that this type would have built.
    pub fn part(&self, namespace: Namespace, key: &[u8]) -> Option<String> {
        let escaped = key.strip_prefix(&self.beginning(namespace, "")[..])?;
        let part = String::from_utf8(unescape(escaped)?).ok()?;
        (self.entry(namespace, &part).bytes() == key).then_some(part)
    }

    /// The key of the address index: a digest, so that no address is stored as a key.
    pub fn email(&self, email: &str) -> Key {
        let digest = Sha256::digest(email.as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.entry(Namespace::UserEmail, &hex)
    }

    /// The channel on which invalidations are announced.
    pub fn channel(&self) -> String {
        format!("{}bcos:invalidate", self.prefix)
    }
}

thread_local! {
    /// Where a key is written before it is taken at its length: keys are built several times per request.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The key that `write` writes.
fn written(namespace: Namespace, write: impl FnOnce(&mut Vec<u8>)) -> Key {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        write(scratch);
        Key { bytes: scratch[..].into(), namespace }
    })
}

fn escape(part: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    if part.iter().all(plain) {
        return out.extend_from_slice(part);
    }
    for &byte in part {
        if plain(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    Some(out)
}

/// 64-bit FNV-1a: short, stable between versions, and only used for noticing mix-ups.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The cluster slot of a key: CRC16/XMODEM modulo 16384, of the part between the first braces if it
/// is not empty.
pub fn slot(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let length = key[open + 1..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open + 1..open + 1 + length])
    });
    crc16(tagged.unwrap_or(key)) % 16_384
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_agree_with_the_server() {
        // Figures from `CLUSTER KEYSLOT` of a real server.
        for (key, expected) in [("foo", 12182), ("123456789", 12739), ("{user1000}.a", 3443)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(slot(b"{x}a"), slot(b"{x}b"));
        assert_ne!(slot(b"{}a"), slot(b"{}b"));
    }

    #[test]
    fn a_value_cannot_forge_another_key() {
        let keys = Keys::new("app:");
        let plain = keys.entry(Namespace::TokenBlacklist, "a");
        assert_eq!(plain.bytes(), b"app:token_bl:a");
        let hostile = keys.entry(Namespace::TokenBlacklist, "x:{y}*\n\u{e9}");
        assert_eq!(hostile.bytes(), b"app:token_bl:x%3A%7By%7D%2A%0A%C3%A9");
        assert_eq!(keys.limit("a:{b}", "c}:d").bytes(), b"app:ratelimit:a%3A%7Bb%7D:{c%7D%3Ad}");
        assert_eq!(keys.limit("a", "u").slot(), keys.limit("b", "u").slot());
        assert_ne!(keys.limit("a", "").slot(), keys.limit("b", "").slot(), "an empty tag is none");
        let live = keys.of_source(Namespace::AnalyticsLive, 1, "live");
        assert_eq!(live.bytes(), b"app:cache:meta:{ds:1}:live");
        let frame = keys.block(Namespace::AnalyticsFrame, -1, "00");
        assert_eq!(frame.bytes(), b"app:cache:ds:-1:00");
        let value = keys.entry(Namespace::Value, "ds:-1:00");
        assert_eq!(value.bytes(), b"app:cache:ds%3A-1%3A00");
        for key in [live, frame, value, plain] {
            assert_eq!(keys.parse(key.bytes()).map(|read| read.namespace()), Some(key.namespace()));
        }
    }

    #[test]
    fn debug_output_hides_the_part() {
        let key = Keys::new("").entry(Namespace::TokenBlacklist, "secret-token-id");
        assert!(!format!("{key:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn keys_are_equal_only_for_equal_parts(a in ".{0,40}", b in ".{0,40}") {
            let keys = Keys::new("p:");
            let left = keys.entry(Namespace::UserBasic, &a);
            let right = keys.entry(Namespace::UserBasic, &b);
            prop_assert_eq!(left == right, a == b);
            prop_assert!(left.bytes().iter().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(keys.part(Namespace::UserBasic, left.bytes()), Some(a));
        }

        #[test]
        fn only_keys_of_this_form_have_a_part(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let keys = Keys::new("p:");
            let mut key = keys.beginning(Namespace::Value, "");
            key.extend_from_slice(&bytes);
            if let Some(part) = keys.part(Namespace::Value, &key) {
                let again = keys.entry(Namespace::Value, &part);
                prop_assert_eq!(again.bytes(), &key[..]);
            }
        }
    }
}
