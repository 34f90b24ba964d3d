//! Which practices and providers a caller may see, as a type that only this module makes.
//!
//! Invariant: nothing is the default. Own scope without a provider, or no practice at all, is `Nothing`, never
//! "no filter".

use std::collections::BTreeMap;

/// What a caller may see of a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Not a single row.
    Nothing,
    /// Rows of these practices and providers.
    Rows(Rows),
    /// Every row.
    All(AllGrant),
}

/// A non-empty set of practices, and perhaps of providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    practices: Vec<i64>,
    providers: Option<Vec<i64>>,
}

impl Rows {
    /// Ascending, distinct, not empty.
    pub fn practices(&self) -> &[i64] {
        &self.practices
    }

    /// `None` = any provider; otherwise not empty.
    pub fn providers(&self) -> Option<&[i64]> {
        self.providers.as_deref()
    }
}

/// Proof that somebody may see everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllGrant(());

impl Scope {
    /// A scope that another layer of this package has decided and handed on; unlike [`Scopes::of`] it takes nothing from a
    /// context. Lists may come in any order; an empty one is nothing.
    pub(crate) fn handed_on(scope: HandedOn) -> Self {
        let distinct = |mut ids: Vec<i64>| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        match scope {
            HandedOn::All => Scope::All(AllGrant(())),
            HandedOn::Rows { practices, providers }
                if !practices.is_empty() && providers.as_ref().is_none_or(|ids| !ids.is_empty()) =>
            {
                Scope::Rows(Rows { practices: distinct(practices), providers: providers.map(distinct) })
            }
            HandedOn::Rows { .. } | HandedOn::Nothing => Scope::Nothing,
        }
    }
}

/// A scope on its way, see [`Scope::handed_on`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandedOn {
    /// Not a single row.
    Nothing,
    /// Rows of these practices and, if there is such a list, of these providers.
    Rows {
        /// Nothing when empty.
        practices: Vec<i64>,
        /// See `practices`.
        providers: Option<Vec<i64>>,
    },
    /// Every row.
    All,
}

/// How far one `resource:action` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The caller's own rows.
    Provider,
    /// The rows of the caller's practices.
    Practices,
    /// Every row.
    All,
}

impl Reach {
    /// The scope column of a permission; anything else reaches nothing.
    pub fn parse(scope: &str) -> Option<Self> {
        match scope {
            "own" => Some(Reach::Provider),
            "organization" => Some(Reach::Practices),
            "all" => Some(Reach::All),
            _ => None,
        }
    }

    /// The word that crosses to JavaScript.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Provider => "provider",
            Reach::Practices => "practices",
            Reach::All => "all",
        }
    }
}

/// The reach of every `resource:action` of one caller, with what it reaches.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    super_admin: bool,
    practices: Vec<i64>,
    provider: Option<i64>,
    reach: BTreeMap<String, Reach>,
}

impl Scopes {
    /// `granted` are pairs of `resource:action` and the scope column.
    pub(crate) fn new<'a>(
        super_admin: bool,
        practices: Vec<i64>,
        provider: Option<i64>,
        granted: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut scopes = Self { super_admin, practices, provider, reach: BTreeMap::new() };
        for (pair, scope) in granted {
            let Some(reach) = Reach::parse(scope) else { continue };
            let known = scopes.reach.get(pair).copied();
            if scopes.reaches(reach) && known.is_none_or(|known| known < reach) {
                scopes.reach.insert(pair.to_owned(), reach);
            }
        }
        scopes
    }

    /// Whether there is anything to see at that reach.
    fn reaches(&self, reach: Reach) -> bool {
        match reach {
            Reach::All => true,
            Reach::Practices => !self.practices.is_empty(),
            Reach::Provider => !self.practices.is_empty() && self.provider.is_some(),
        }
    }

    /// The scope of one `resource:action`.
    pub fn of(&self, pair: &str) -> Scope {
        let reach = if self.super_admin { Some(Reach::All) } else { self.reach.get(pair).copied() };
        match reach {
            None => Scope::Nothing,
            Some(Reach::All) => Scope::All(AllGrant(())),
            Some(reach) => Scope::Rows(Rows {
                practices: self.practices.clone(),
                providers: self.provider.filter(|_| reach == Reach::Provider).map(|provider| vec![provider]),
            }),
        }
    }

    /// As an object of words: `{"*":"all"}` for a super administrator, nothing is left out.
    pub(super) fn json(&self) -> serde_json::Value {
        if self.super_admin {
            return serde_json::json!({ "*": Reach::All.name() });
        }
        self.reach
            .iter()
            .map(|(pair, reach)| (pair.clone(), reach.name().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(practices: &[i64], provider: Option<i64>, granted: &[(&str, &str)]) -> Scopes {
        Scopes::new(false, practices.to_vec(), provider, granted.iter().copied())
    }

    #[test]
    fn nothing_is_the_default() {
        let everything = [("a:read", "own"), ("b:read", "organization"), ("c:read", "galaxy")];
        for (scopes, pair) in [
            (scopes(&[], Some(7), &everything), "a:read"),
            (scopes(&[], Some(7), &everything), "b:read"),
            (scopes(&[1], None, &everything), "a:read"),
            (scopes(&[1], Some(7), &everything), "c:read"),
            (scopes(&[1], Some(7), &everything), "d:read"),
            (Scopes::default(), ""),
        ] {
            assert_eq!(scopes.of(pair), Scope::Nothing, "{pair} {scopes:?}");
        }
    }

    #[test]
    fn a_scope_that_was_handed_on_is_what_it_was() {
        let on = |practices: &[i64], providers: Option<&[i64]>| {
            Scope::handed_on(HandedOn::Rows {
                practices: practices.to_vec(),
                providers: providers.map(<[i64]>::to_vec),
            })
        };
        assert_eq!(Scope::handed_on(HandedOn::Nothing), Scope::Nothing);
        assert!(matches!(Scope::handed_on(HandedOn::All), Scope::All(_)));
        for nothing in [on(&[], None), on(&[], Some(&[1])), on(&[1], Some(&[])), on(&[], Some(&[]))] {
            assert_eq!(nothing, Scope::Nothing);
        }
        let Scope::Rows(rows) = on(&[3, 0, 3], Some(&[9, 0, 9])) else { panic!("rows") };
        assert_eq!((rows.practices(), rows.providers()), (&[0, 3][..], Some(&[0, 9][..])));
        let Scope::Rows(rows) = on(&[0], None) else { panic!("rows") };
        assert_eq!((rows.practices(), rows.providers()), (&[0][..], None));
    }

    #[test]
    fn the_broadest_grant_that_reaches_something_decides() {
        let granted = [("a:read", "own"), ("a:read", "organization"), ("a:read", "own")];
        let rows = |scope: Scope| match scope {
            Scope::Rows(rows) => (rows.practices().to_vec(), rows.providers().map(<[i64]>::to_vec)),
            other => panic!("{other:?}"),
        };
        assert_eq!(rows(scopes(&[0, 3], Some(0), &granted).of("a:read")), (vec![0, 3], None));
        assert_eq!(rows(scopes(&[0], Some(0), &granted[..1]).of("a:read")), (vec![0], Some(vec![0])));
        assert!(matches!(scopes(&[], None, &[("a:read", "all")]).of("a:read"), Scope::All(_)));
        let chief = Scopes::new(true, Vec::new(), None, std::iter::empty());
        assert!(matches!(chief.of("anything:at"), Scope::All(_)));
        assert_eq!(chief.json().to_string(), r#"{"*":"all"}"#);
    }
}
