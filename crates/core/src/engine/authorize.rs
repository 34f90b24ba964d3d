//! One request to the application: is it within its limits, is its token revoked, was it verified, who is it and what
//! may they do. All of it travels together; what it means for the request is decided in JavaScript, where `verify` runs.
//!
//! Invariant: a request beyond its limits is told nothing else and makes nobody work any more.
//!
//! Invariant: ids that come from the text of a token are only used to look things up, and until the token was
//! verified only in the cache: nobody makes the source work with tokens of their own invention. The payload that
//! is answered was verified for exactly this text, or there is none.

use std::sync::Arc;

use crate::auth::jwt;
use crate::base::error::Error;
use crate::limiter::{AllTold, Told};
use crate::store::{Op, StoreResult};

use super::contexts::Consistency;
use super::hot::{Hot, Plan};
use super::ratelimits::{LimitCheck, LimitPlan, LimitsHot};
use super::{Core, Outcome, Request, Started};

/// What is asked about a request.
#[derive(Clone, Debug)]
pub struct Authorize {
    /// Its token.
    pub token: Option<String>,
    /// The id to look up in the blacklist; the token's own when absent.
    pub jti: Option<String>,
    /// Whose context; the token's own user when absent.
    pub user_id: Option<String>,
    /// Whether the blacklist is asked.
    pub check_token: bool,
    /// How current the context must be.
    pub consistency: Consistency,
    /// Whether texts are wanted even of objects that should be known.
    pub full: bool,
    /// The limits it counts against.
    pub limits: Vec<LimitCheck>,
}

/// What is known about it.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// `Bool`, or `Nothing` when not asked, or not known without the source and the token was not verified.
    pub revoked: Outcome,
    /// The verified payload, or `Nothing`.
    pub payload: Outcome,
    /// The context, why there is none, or `Nothing` as above.
    pub context: Outcome,
    /// The id that was looked up.
    pub jti: Option<String>,
    /// The user that was looked up.
    pub user_id: Option<String>,
    /// What each limit says. When one denies, nothing else is known.
    pub limits: AllTold,
}

impl Authorized {
    fn denied(limits: AllTold) -> Outcome {
        let nothing = || Outcome::Nothing;
        let (revoked, payload, context) = (nothing(), nothing(), nothing());
        let known = Authorized { revoked, payload, context, jti: None, user_id: None, limits };
        Outcome::Authorized(Box::new(known))
    }
}

/// One of the three reads.
enum Part {
    Done(Outcome),
    Hot(Hot),
    Task,
}

/// The limits on their way.
enum Limits {
    Told(AllTold),
    Hot(LimitsHot),
}

/// The limits and the three reads on their way.
pub(super) struct AuthorizeHot {
    limits: Limits,
    asked: [Option<Request>; 3],
    parts: [Part; 3],
    jti: Option<String>,
    user_id: Option<String>,
    /// Whether each id came from the caller and not from the token.
    vouched: [bool; 3],
}

impl AuthorizeHot {
    pub(super) fn ops(&self) -> usize {
        let limits = if let Limits::Hot(hot) = &self.limits { hot.ops() } else { 0 };
        let part = |part: &Part| if let Part::Hot(hot) = part { hot.ops() } else { 0 };
        limits + self.parts.iter().map(part).sum::<usize>()
    }
}

impl Core {
    pub(super) fn plan_authorize(&self, asked: &Authorize, ops: &mut Vec<Op>, started: Started) -> Plan {
        let limits = match self.plan_request_limits(&asked.limits, ops, started) {
            Ok(Limits::Told(told)) if !told.iter().all(Told::admits) => {
                return Plan::Now(Authorized::denied(told));
            }
            Ok(limits) => limits,
            Err(error) => return Plan::failed(error),
        };
        let claims = asked.token.as_deref().map(|token| jwt::ids(token, &self.settings.jwt.user_claims));
        let (own_jti, own_user) = claims.unwrap_or_default();
        let jti = asked.jti.clone().or(own_jti).filter(|_| asked.check_token);
        let user_id = asked.user_id.clone().or(own_user);
        let full = asked.full;
        let requests = [
            jti.clone().map(|jti| Request::TokenIsBlacklisted { jti }),
            asked
                .token
                .clone()
                .filter(|token| jwt::fits(token))
                .map(|token| Request::CachedJwt { token, full }),
            user_id.clone().map(|user_id| Request::UserContext {
                user_id,
                consistency: asked.consistency,
                full,
            }),
        ];
        let parts = requests.each_ref().map(|request| match request {
            None => Part::Done(Outcome::Nothing),
            Some(request) => match self.plan(request, ops, started) {
                Plan::Now(outcome) => Part::Done(outcome),
                Plan::Hot(hot) => Part::Hot(hot),
                Plan::Task => Part::Task,
            },
        });
        let vouched = [asked.jti.is_some(), true, asked.user_id.is_some()];
        let hot = AuthorizeHot { limits, asked: requests, parts, jti, user_id, vouched };
        Plan::Hot(Hot::Authorize(Box::new(hot)))
    }

    fn plan_request_limits(
        &self,
        checks: &[LimitCheck],
        ops: &mut Vec<Op>,
        started: Started,
    ) -> Result<Limits, Error> {
        if checks.is_empty() {
            return Ok(Limits::Told(AllTold::new()));
        }
        Ok(match self.plan_limits(checks, true, ops, started)? {
            LimitPlan::Now(told) => Limits::Told(told),
            LimitPlan::Hot(hot) => Limits::Hot(hot),
        })
    }

    pub(super) fn settle_authorize(
        &self,
        hot: &mut AuthorizeHot,
        replies: &[StoreResult],
        started: Started,
    ) -> Option<Outcome> {
        let mut at = 0;
        if let Limits::Hot(limits) = &mut hot.limits {
            at = limits.ops();
            let told = self.settle_limits(limits, &replies[..at], started)?;
            hot.limits = Limits::Told(told);
        }
        if let Limits::Told(told) = &mut hot.limits
            && !told.iter().all(Told::admits)
        {
            return Some(Authorized::denied(std::mem::take(told)));
        }
        for part in &mut hot.parts {
            if let Part::Hot(inner) = part {
                let mine = &replies[at..at + inner.ops()];
                at += inner.ops();
                if let Some(outcome) = self.settle_hot(inner, mine, started) {
                    *part = Part::Done(outcome);
                }
            }
        }
        let all: Option<Vec<Outcome>> = hot
            .parts
            .iter()
            .map(|part| if let Part::Done(outcome) = part { Some(outcome.clone()) } else { None })
            .collect();
        let told = |limits: &mut Limits| match limits {
            Limits::Told(told) => std::mem::take(told),
            Limits::Hot(_) => AllTold::new(),
        };
        all.map(|all| authorized(all, hot.jti.take(), hot.user_id.take(), told(&mut hot.limits)))
    }

    pub(super) async fn cold_authorize(self: &Arc<Self>, hot: AuthorizeHot, started: Started) -> Outcome {
        let AuthorizeHot { limits, asked, parts, jti, user_id, vouched } = hot;
        let told = match limits {
            Limits::Told(told) => told,
            // Denied, and something is to be given back first.
            Limits::Hot(limits) => return Authorized::denied(self.refund(limits).await),
        };
        let ([revoking, verifying, knowing], [revoked, payload, context]) = (asked, parts);
        let payload = self.finish_part(verifying, payload, true, started).await;
        let verified = matches!(payload, Outcome::Object { .. });
        let (revoked, context) = tokio::join!(
            self.finish_part(revoking, revoked, verified || vouched[0], started),
            self.finish_part(knowing, context, verified || vouched[2], started),
        );
        authorized(vec![revoked, payload, context], jti, user_id, told)
    }

    /// One of the reads to its end; only as far as the cache knows when the source `may` not be asked.
    async fn finish_part(
        self: &Arc<Self>,
        request: Option<Request>,
        part: Part,
        may: bool,
        started: Started,
    ) -> Outcome {
        let hot = match part {
            Part::Done(outcome) => return outcome,
            Part::Hot(hot) => Some(hot),
            Part::Task => None,
        };
        match request {
            // Boxed: an answer may contain an answer.
            Some(request) if may => Box::pin(self.clone().answer(request, hot, started)).await,
            _ => Outcome::Nothing,
        }
    }
}

/// The three outcomes together. A read that could not be answered fails the whole; a user without a context
/// does not, and neither does a user id that is none.
fn authorized(
    outcomes: Vec<Outcome>,
    jti: Option<String>,
    user_id: Option<String>,
    limits: AllTold,
) -> Outcome {
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().unwrap_or(Outcome::Nothing);
    let (revoked, payload, context) = (next(), next(), next());
    for outcome in [&revoked, &payload] {
        if let Outcome::Failed(error) = outcome {
            return Outcome::Failed(error.clone());
        }
    }
    match &context {
        Outcome::Failed(error) if error.reason.is_none() => Outcome::Failed(error.clone()),
        _ => Outcome::Authorized(Box::new(Authorized { revoked, payload, context, jti, user_id, limits })),
    }
}
