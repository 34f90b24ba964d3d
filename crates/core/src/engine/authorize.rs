//! One request to the application: is its token revoked, was it verified, who is it and what may they do. Three
//! reads that travel together; what they mean for the request is decided in JavaScript, where `verify` runs.
//!
//! Invariant: ids that come from the text of a token are only used to look things up, and until the token was
//! verified only in the cache: nobody makes the source work with tokens of their own invention. The payload that
//! is answered was verified for exactly this text, or there is none.

use std::sync::Arc;

use crate::auth::jwt;
use crate::store::{Op, StoreResult};

use super::contexts::Consistency;
use super::hot::{Hot, Plan};
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
}

/// One of the three reads.
enum Part {
    Done(Outcome),
    Hot(Hot),
    Task,
}

/// The three reads on their way.
pub(super) struct AuthorizeHot {
    asked: [Option<Request>; 3],
    parts: [Part; 3],
    jti: Option<String>,
    user_id: Option<String>,
    /// Whether each id came from the caller and not from the token.
    vouched: [bool; 3],
}

impl AuthorizeHot {
    pub(super) fn ops(&self) -> usize {
        self.parts.iter().map(|part| if let Part::Hot(hot) = part { hot.ops() } else { 0 }).sum()
    }
}

impl Core {
    pub(super) fn plan_authorize(&self, asked: &Authorize, ops: &mut Vec<Op>, started: Started) -> Plan {
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
        Plan::Hot(Hot::Authorize(Box::new(AuthorizeHot { asked: requests, parts, jti, user_id, vouched })))
    }

    pub(super) fn settle_authorize(
        &self,
        hot: &mut AuthorizeHot,
        replies: &[StoreResult],
        started: Started,
    ) -> Option<Outcome> {
        let mut at = 0;
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
        all.map(|all| authorized(all, hot.jti.take(), hot.user_id.take()))
    }

    pub(super) async fn cold_authorize(self: &Arc<Self>, hot: AuthorizeHot, started: Started) -> Outcome {
        let AuthorizeHot { asked, parts, jti, user_id, vouched } = hot;
        let ([revoking, verifying, knowing], [revoked, payload, context]) = (asked, parts);
        let payload = self.finish_part(verifying, payload, true, started).await;
        let verified = matches!(payload, Outcome::Object { .. });
        let (revoked, context) = tokio::join!(
            self.finish_part(revoking, revoked, verified || vouched[0], started),
            self.finish_part(knowing, context, verified || vouched[2], started),
        );
        authorized(vec![revoked, payload, context], jti, user_id)
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
fn authorized(outcomes: Vec<Outcome>, jti: Option<String>, user_id: Option<String>) -> Outcome {
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
        _ => Outcome::Authorized(Box::new(Authorized { revoked, payload, context, jti, user_id })),
    }
}
