//! Which rows one question may see: what the caller may see, narrowed by what was asked for.
//!
//! What a caller may see is decided in `rbac::scope`; here it is only ever made smaller.
//!
//! Invariant: every row that is visible is within the scope. An empty list is nothing, never "not filtered". NULL is in no
//! list.

use crate::rbac::scope::Scope;

/// The rows that one question may see. Only a scope makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible(Option<Lists>);

/// Practices and providers, both of which a row must be of; `None` = any, NULL included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lists {
    /// Ascending, distinct, not empty.
    practices: Option<Vec<i64>>,
    /// See `practices`.
    providers: Option<Vec<i64>>,
}

/// Ascending identifiers; `None` = any.
type Ids<'a> = Option<&'a [i64]>;

impl Visible {
    /// Not a single row.
    pub const NOTHING: Self = Self(None);

    /// `scope`, narrowed to the asked practices and providers. `None` = not asked for; an empty list = no rows.
    pub fn of(scope: &Scope, practices: Option<&[i64]>, providers: Option<&[i64]>) -> Self {
        let (own_practices, own_providers) = match scope {
            Scope::Nothing => return Self::NOTHING,
            Scope::All(_) => (None, None),
            Scope::Rows(rows) => (Some(rows.practices()), rows.providers()),
        };
        match (narrowed([own_practices, practices]), narrowed([own_providers, providers])) {
            (Some(practices), Some(providers)) => Self(Some(Lists { practices, providers })),
            _ => Self::NOTHING,
        }
    }

    /// Practices and providers to look for: a list, never empty, or any. `None` = nothing, and nobody is to be asked.
    pub fn lists(&self) -> Option<(Ids<'_>, Ids<'_>)> {
        self.0.as_ref().map(|lists| (lists.practices.as_deref(), lists.providers.as_deref()))
    }

    /// Whether a row of this practice and provider may be seen.
    pub fn shows(&self, practice: Option<i64>, provider: Option<i64>) -> bool {
        self.lists()
            .is_some_and(|(practices, providers)| holds(practices, practice) && holds(providers, provider))
    }
}

/// Whether an ascending list holds `id`; any list does, when there is none.
pub(super) fn holds(list: Option<&[i64]>, id: Option<i64>) -> bool {
    match (list, id) {
        (None, _) => true,
        (Some(list), Some(id)) => list.binary_search(&id).is_ok(),
        (Some(_), None) => false,
    }
}

/// What is in all of these lists: `None` when nothing is, `Some(None)` without a list.
fn narrowed(lists: [Option<&[i64]>; 2]) -> Option<Option<Vec<i64>>> {
    lists.into_iter().flatten().try_fold(None, |narrow: Option<Vec<i64>>, list| {
        let mut ids: Vec<i64> =
            list.iter().copied().filter(|id| holds(narrow.as_deref(), Some(*id))).collect();
        ids.sort_unstable();
        ids.dedup();
        (!ids.is_empty()).then_some(Some(ids))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::scope::Scopes;
    use proptest::prelude::*;

    fn scope(practices: &[i64], provider: Option<i64>, reach: &str) -> Scope {
        Scopes::new(false, practices.to_vec(), provider, [("analytics:read", reach)].into_iter())
            .of("analytics:read")
    }

    #[test]
    fn an_empty_list_is_nothing() {
        let all = scope(&[], None, "all");
        for scope in [&all, &scope(&[1, 2], Some(3), "organization"), &scope(&[1], Some(3), "own")] {
            assert_eq!(Visible::of(scope, Some(&[]), None), Visible::NOTHING);
            assert_eq!(Visible::of(scope, None, Some(&[])), Visible::NOTHING);
        }
        assert_eq!(Visible::of(&scope(&[], Some(3), "organization"), None, None), Visible::NOTHING);
        assert_eq!(Visible::of(&scope(&[1], None, "own"), Some(&[1]), None), Visible::NOTHING);
        assert_eq!(Visible::of(&Scope::Nothing, Some(&[1]), Some(&[1])), Visible::NOTHING);
        assert_eq!(Visible::of(&all, None, None).lists(), Some((None, None)));
        assert_eq!(Visible::NOTHING.lists(), None);
    }

    #[test]
    fn null_belongs_to_nobody_in_particular_and_zero_is_an_id() {
        let all = scope(&[], None, "all");
        assert!(Visible::of(&all, None, None).shows(None, None));
        assert!(!Visible::of(&all, Some(&[0]), None).shows(None, None));
        assert!(!Visible::of(&all, None, Some(&[0])).shows(Some(0), None));
        assert!(Visible::of(&all, Some(&[0]), Some(&[0])).shows(Some(0), Some(0)));
        assert!(Visible::of(&scope(&[0], Some(0), "own"), None, None).shows(Some(0), Some(0)));
        assert!(Visible::of(&scope(&[0], Some(0), "organization"), None, None).shows(Some(0), None));
    }

    proptest! {
        #[test]
        fn a_filter_only_ever_takes_away(
            own in proptest::collection::vec(-2..4_i64, 0..4),
            provider in proptest::option::of(-2..4_i64),
            reach in proptest::sample::select(vec!["own", "organization", "all", "none"]),
            practices in proptest::option::of(proptest::collection::vec(-2..4_i64, 0..4)),
            providers in proptest::option::of(proptest::collection::vec(-2..4_i64, 0..4)),
        ) {
            let scope = scope(&own, provider, reach);
            let visible = Visible::of(&scope, practices.as_deref(), providers.as_deref());
            let ids = (-3..5).map(Some).chain([None]);
            for (practice, by) in ids.clone().flat_map(|practice| ids.clone().map(move |by| (practice, by))) {
                let asked = |list: &Option<Vec<i64>>, id: Option<i64>| {
                    list.as_ref().is_none_or(|list| id.is_some_and(|id| list.contains(&id)))
                };
                let permitted = match reach {
                    "all" => true,
                    "organization" => practice.is_some_and(|id| own.contains(&id)),
                    "own" => practice.is_some_and(|id| own.contains(&id)) && by.is_some() && by == provider,
                    _ => false,
                };
                let expected = permitted && asked(&practices, practice) && asked(&providers, by);
                prop_assert_eq!(visible.shows(practice, by), expected, "{:?} {:?}", practice, by);
            }
        }
    }
}
