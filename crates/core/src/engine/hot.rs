//! The hot half of a read: what to ask the store, and whether its reply is the answer. No I/O here: the
//! worker sends the operations of a whole batch together.

use crate::auth::jwt::JwtSubject;
use crate::auth::token::{self, TokenSubject};
use crate::auth::user::UserSubject;
use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::Namespace;
use crate::cache::policy::Subject;
use crate::cache::tiered::{Asked, Judged, Look};
use crate::cache::{Found, Left};
use crate::dashboard::LayeredSubject;
use crate::datasource::{self, ResultSubject};
use crate::rbac::RoleSubject;
use crate::rbac::subject::body;
use crate::store::{Op, StoreResult};
use crate::telemetry::Tier;
use crate::values::{self, ValueSubject};

use super::analytics::AnalyticsHot;
use super::authorize::AuthorizeHot;
use super::contexts::ContextHot;
use super::ratelimits::{LimitsHot, limits_outcome};
use super::{Core, Outcome, Request, Started};

/// What becomes of a request before the store is asked.
pub(super) enum Plan {
    /// Settled already.
    Now(Outcome),
    /// Its reply may settle it.
    Hot(Hot),
    /// It needs a task.
    Task,
}

impl Plan {
    pub(super) fn failed(error: Error) -> Self {
        Plan::Now(Outcome::Failed(error))
    }
}

/// What is read.
pub(super) enum Read {
    Token(TokenSubject),
    User(UserSubject),
    Jwt(Box<JwtSubject>),
    Role(RoleSubject),
    Value(ValueSubject),
    Layered(LayeredSubject),
    /// With its text as it is stored, for a response.
    Result {
        subject: ResultSubject,
        raw: bool,
    },
}

impl Read {
    pub(super) fn subject(&self) -> &dyn Subject {
        match self {
            Read::Token(subject) => subject,
            Read::User(subject) => subject,
            Read::Jwt(subject) => &**subject,
            Read::Role(subject) => subject,
            Read::Value(subject) => subject,
            Read::Layered(subject) => subject,
            Read::Result { subject, .. } => subject,
        }
    }

    /// The answer as the caller gets it.
    pub(super) fn outcome(&self, found: &Found, full: bool) -> Outcome {
        match self {
            Read::Token(_) => Outcome::Bool(token::revoked(&found.payload)),
            _ if found.negative() => Outcome::Nothing,
            Read::Result { raw: true, .. } => {
                datasource::unpack(&found.payload).map_or_else(unreadable, Outcome::Raw)
            }
            // A near copy was handed out with its text before; the caller asks in full if it lost it.
            _ if found.tier == Tier::Near && !full => Outcome::Object { serial: found.serial, text: None },
            Read::User(_) => Outcome::Object { serial: found.serial, text: Some(found.payload.clone()) },
            // Not found stored: figures must not call it a hit.
            Read::Layered(_) if found.tier == Tier::Source => {
                Outcome::Shared { text: values::json(&found.payload), stored: found.etag != 0 }
            }
            Read::Value(_) | Read::Layered(_) => {
                Outcome::Object { serial: found.serial, text: Some(values::json(&found.payload)) }
            }
            Read::Jwt(_) => {
                Outcome::Object { serial: found.serial, text: Some(JwtSubject::json(&found.payload)) }
            }
            Read::Result { .. } => match datasource::unpack(&found.payload) {
                None => unreadable(),
                text => Outcome::Object { serial: found.serial, text },
            },
            Read::Role(_) => Outcome::Object { serial: found.serial, text: body(found).ok() },
        }
    }
}

/// Never text that is none: its caller would take a number for it.
fn unreadable() -> Outcome {
    Outcome::Failed(Error::new(Code::Internal, "a result that cannot be read"))
}

/// A request on its way.
pub(super) enum Hot {
    /// One entry.
    One(Box<OneHot>),
    /// A context, which is made up of several.
    Context(Box<ContextHot>),
    /// Everything about one request to the application.
    Authorize(Box<AuthorizeHot>),
    /// Rate limits.
    Limits(Box<LimitsHot>),
    /// Questions about data sources.
    Analytics(Box<AnalyticsHot>),
}

impl Hot {
    /// How many replies belong to it.
    pub(super) fn ops(&self) -> usize {
        match self {
            Hot::One(hot) => hot.ops,
            Hot::Context(hot) => hot.ops(),
            Hot::Authorize(hot) => hot.ops(),
            Hot::Limits(hot) => hot.ops(),
            Hot::Analytics(hot) => hot.ops(),
        }
    }
}

/// A read of one entry on its way.
pub(super) struct OneHot {
    pub(super) read: Read,
    /// The caller does not have the object of a near copy.
    pub(super) full: bool,
    look: Option<Look>,
    /// Set once the reply was judged.
    pub(super) asked: Option<Asked>,
    /// There is another version than the near copy.
    pub(super) changed: bool,
    ops: usize,
}

impl Core {
    pub(super) fn plan(&self, request: &Request, ops: &mut Vec<Op>, started: Started) -> Plan {
        let keys = &self.cache.keys;
        let read = match request {
            Request::TokenIsBlacklisted { jti } | Request::TokenStatus { jti } => {
                TokenSubject::new(keys, jti).map(|one| Some(Read::Token(one)))
            }
            Request::UserById { user_id, .. } | Request::CachedUser { user_id, .. } => {
                UserSubject::new(keys, user_id).map(|one| Some(Read::User(one)))
            }
            Request::CachedJwt { token, .. } => self.jwt(token).map(|one| one.map(Box::new).map(Read::Jwt)),
            Request::BeginJwt { token, .. } => match self.jwt(token) {
                Ok(Some(subject)) => Ok(Some(Read::Jwt(Box::new(subject)))),
                // Not cacheable: the caller verifies, and nothing is remembered.
                Ok(None) => return Plan::Now(Outcome::Lead(0)),
                Err(error) => Err(error),
            },
            Request::RolePermissions { role_id, .. } => {
                RoleSubject::new(keys, role_id).map(|one| Some(Read::Role(one)))
            }
            Request::CachedValue { key, .. } => {
                ValueSubject::new(keys, key, None).map(|one| Some(Read::Value(one)))
            }
            Request::BeginValue { key, ttl_ms, .. } => {
                ValueSubject::new(keys, key, Some(*ttl_ms)).map(|one| Some(Read::Value(one)))
            }
            Request::BeginLayered { key, scope, ttl_ms, .. } => {
                LayeredSubject::new(keys, key, scope, *ttl_ms).map(|one| Some(Read::Layered(one)))
            }
            Request::BeginResult { source, hash, ttl_ms, wish, raw, .. } => {
                let subject = self.result(source, hash, *ttl_ms, *wish);
                subject.map(|subject| Some(Read::Result { subject, raw: *raw }))
            }
            Request::UserContext { user_id, consistency, full } => {
                return self
                    .plan_context(user_id, *consistency, *full, ops, started)
                    .unwrap_or_else(Plan::failed);
            }
            Request::Authorize(asked) => return self.plan_authorize(asked, ops, started),
            Request::Limit { check, charge } => {
                return self.plan_limits_alone(std::slice::from_ref(check), *charge, ops, started);
            }
            Request::Limits { checks, charge } => {
                return self.plan_limits_alone(checks, *charge, ops, started);
            }
            Request::Analytics(ask) => return self.plan_analytics(ask, ops),
            _ => return Plan::Task,
        };
        match read {
            Err(error) => Plan::Now(Outcome::Failed(error)),
            Ok(None) => Plan::Now(Outcome::Nothing),
            Ok(Some(read)) => self.start(read, request.full(), ops, started),
        }
    }

    fn start(&self, read: Read, full: bool, ops: &mut Vec<Op>, started: Started) -> Plan {
        self.fallbacks.reads.up();
        if let Some(found) = self.unasked(&read) {
            self.count(&read, &found, started);
            return Plan::Now(read.outcome(&found, full));
        }
        let look = self.cache.look(read.subject(), started.moment, ops);
        let ops = look.ops;
        Plan::Hot(Hot::One(Box::new(OneHot {
            ops,
            look: Some(look),
            read,
            full,
            asked: None,
            changed: false,
        })))
    }

    /// A near copy that needs no confirmation: a revoked token, or a `bounded` namespace.
    fn unasked(&self, read: &Read) -> Option<Found> {
        let key = read.subject().key();
        let near = match read {
            Read::Token(_) => match self.cache.near.get(key, self.cache.clock.now_ms()) {
                Some(near) => near,
                // Revoked here, and the store has not heard of it yet: nobody else knows.
                None => {
                    let payload = self.cache.pending.mark(key)?;
                    let (kind, etag, serial, tier) = (Kind::Value, 0, 0, Tier::Near);
                    return Some(Found { kind, etag, payload, serial, tier, left: Left::Unasked });
                }
            },
            Read::User(_) => self.cache.bounded(Namespace::UserBasic, key.bytes())?,
            Read::Jwt(subject) => {
                let near = self.cache.bounded(Namespace::JwtPayload, key.bytes())?;
                let generation = self.cache.bounded(Namespace::JwtUser, subject.user().bytes())?.etag;
                let accepted = subject.judge(near.kind, &near.payload, Some(generation))
                    == crate::cache::Verdict::Accept;
                accepted.then_some(near)?
            }
            // Without its epoch it is not known to be current.
            Read::Role(_) => return None,
            Read::Value(_) => self.cache.bounded(Namespace::Value, key.bytes())?,
            Read::Layered(subject) if subject.companion().is_none() => {
                self.cache.bounded(Namespace::Value, key.bytes())?
            }
            // Without its generation it is not known to be current.
            Read::Layered(_) => return None,
            // Without its generation it is not known to be current.
            Read::Result { .. } => return None,
        };
        Some(Found {
            kind: near.kind,
            etag: near.etag,
            payload: near.payload.clone(),
            serial: near.serial,
            tier: Tier::Near,
            left: Left::Unasked,
        })
    }

    /// Judges the replies; `None` = it needs a task.
    pub(super) fn settle_hot(
        &self,
        hot: &mut Hot,
        replies: &[StoreResult],
        started: Started,
    ) -> Option<Outcome> {
        let hot = match hot {
            Hot::One(hot) => hot,
            Hot::Context(hot) => return self.settle_context(hot, replies, started),
            Hot::Authorize(hot) => return self.settle_authorize(hot, replies, started),
            Hot::Limits(hot) => return self.settle_limits(hot, replies, started).map(limits_outcome),
            Hot::Analytics(hot) => {
                self.take_analytics(hot, replies);
                return None;
            }
        };
        let look = hot.look.take()?;
        let past = self.past_because(look.ops == 0, replies);
        match self.cache.judge(hot.read.subject(), look, replies) {
            Judged::Found(found) => {
                self.count(&hot.read, &found, started);
                return Some(self.hit(&hot.read, &found, hot.full));
            }
            Judged::Changed(asked) => {
                hot.asked = Some(asked);
                hot.changed = true;
            }
            Judged::Miss(asked) => {
                if let Some(why) = past {
                    self.went_past(hot.read.subject().key().namespace(), why);
                }
                hot.asked = Some(asked);
            }
        }
        None
    }

    pub(super) fn count(&self, read: &Read, found: &Found, started: Started) {
        let us = self.cache.clock.now_us().saturating_sub(started.us);
        self.telemetry.of(read.subject().key().namespace()).answered(found.tier, found.negative(), us);
    }

    pub(super) fn jwt(&self, token: &str) -> Result<Option<JwtSubject>, Error> {
        JwtSubject::new(&self.cache.keys, &self.settings.jwt.user_claims, token, self.cache.clock.unix_ms())
    }
}
