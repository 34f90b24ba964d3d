//! What a data source's table looks like: names, types, and which columns play a part of their own.
//!
//! Not where the description comes from, and not SQL: names are data here, whoever makes statements of them quotes them.
//!
//! Invariant: two schemas have the same fingerprint only if their columns, types and roles are the same.

use sha2::{Digest, Sha256};

use super::refused::Refused;
use super::wire::{self, Reader};
use crate::base::limits;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Up to 32 bits.
    Int,
    /// 64 bits.
    BigInt,
    /// A double.
    Float,
    /// Exact, up to 38 digits.
    Numeric,
    /// Compared by bytes, as under `COLLATE "C"`.
    Text,
    /// True or false.
    Bool,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since 2000-01-01, on no particular clock.
    Timestamp,
    /// Microseconds since 2000-01-01 in UTC.
    TimestampTz,
    /// 16 bytes.
    Uuid,
    /// Kept as the text that Postgres gives; not comparable.
    Json,
}

impl Type {
    /// Every type with its byte on the wire and its name in messages. Bytes are never given a new meaning.
    const ALL: [(Type, u8, &'static str); 11] = [
        (Type::Int, 1, "int"),
        (Type::BigInt, 2, "bigint"),
        (Type::Float, 3, "float"),
        (Type::Numeric, 4, "numeric"),
        (Type::Text, 5, "text"),
        (Type::Bool, 6, "bool"),
        (Type::Date, 7, "date"),
        (Type::Timestamp, 8, "timestamp"),
        (Type::TimestampTz, 9, "timestamptz"),
        (Type::Uuid, 10, "uuid"),
        (Type::Json, 11, "json"),
    ];

    /// The type for a name of Postgres. What it does not know is exported as text.
    pub fn of_sql(name: &str) -> Self {
        match name {
            "smallint" | "int2" | "integer" | "int" | "int4" => Type::Int,
            "bigint" | "int8" => Type::BigInt,
            "real" | "float4" | "double precision" | "float8" => Type::Float,
            "numeric" | "decimal" => Type::Numeric,
            "boolean" | "bool" => Type::Bool,
            "date" => Type::Date,
            "timestamp" | "timestamp without time zone" => Type::Timestamp,
            "timestamptz" | "timestamp with time zone" => Type::TimestampTz,
            "uuid" => Type::Uuid,
            "json" | "jsonb" => Type::Json,
            _ => Type::Text,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// Its byte, in frames and in answers.
    pub(super) fn byte(self) -> u8 {
        self.entry().1
    }

    fn entry(self) -> &'static (Type, u8, &'static str) {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).expect("the table lists every type")
    }

    /// Whether values are kept in a dictionary.
    pub(super) fn has_dictionary(self) -> bool {
        matches!(self, Type::Text | Type::Uuid | Type::Json)
    }

    /// The integers a value may be kept as.
    pub(super) fn integers(self) -> (i128, i128) {
        match self {
            Type::Int | Type::Date => (i32::MIN.into(), i32::MAX.into()),
            Type::BigInt | Type::Timestamp | Type::TimestampTz => (i64::MIN.into(), i64::MAX.into()),
            Type::Float => (0, u64::MAX.into()),
            Type::Bool => (0, 1),
            Type::Numeric => (i128::MIN, i128::MAX),
            Type::Text | Type::Uuid | Type::Json => (0, u32::MAX.into()),
        }
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.push(self.byte());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Refused> {
        let byte = reader.byte()?;
        let known = Self::ALL.iter().find(|(_, known, _)| *known == byte);
        known.map(|(kind, ..)| *kind).ok_or(Refused::Corrupt("a type of another release"))
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As the table calls it.
    pub name: String,
    /// What it holds.
    pub kind: Type,
}

/// Columns that play a part of their own, by position. Without one, its value counts as NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// What is measured: text.
    pub measure: Option<usize>,
    /// The time period it is measured over (`frequency`, `time_period`): text.
    pub frequency: Option<usize>,
    /// When: date or timestamp.
    pub date: Option<usize>,
    /// Whose: int or bigint.
    pub practice: Option<usize>,
    /// By whom: int or bigint.
    pub provider: Option<usize>,
}

/// A table, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
    roles: Roles,
    fingerprint: u64,
}

const UIDS: &[Type] = &[Type::Int, Type::BigInt];

impl Schema {
    /// Names must be distinct, and roles must fit their types.
    pub fn new(fields: Vec<Field>, roles: Roles) -> Result<Self, Refused> {
        let refuse = |column: &str, because| Refused::Schema { column: column.to_owned(), because };
        if fields.is_empty() || fields.len() > limits::ANALYTICS_COLUMNS {
            return Err(refuse("*", "a table has 1 to 256 columns"));
        }
        for (at, field) in fields.iter().enumerate() {
            if field.name.is_empty() || field.name.len() > limits::ANALYTICS_NAME_BYTES {
                return Err(refuse(&field.name, "a name has 1 to 255 bytes"));
            }
            if fields[..at].iter().any(|other| other.name == field.name) {
                return Err(refuse(&field.name, "two columns have this name"));
            }
        }
        for (role, kinds, accepted) in [
            (roles.measure, &[Type::Text][..], "the measure is a text column"),
            (roles.frequency, &[Type::Text], "the frequency is a text column"),
            (
                roles.date,
                &[Type::Date, Type::Timestamp, Type::TimestampTz],
                "the date is a date or timestamp column",
            ),
            (roles.practice, UIDS, "the practice is an int or bigint column"),
            (roles.provider, UIDS, "the provider is an int or bigint column"),
        ] {
            let Some(at) = role else { continue };
            let field = fields.get(at).ok_or_else(|| refuse("*", "a role names no column"))?;
            if !kinds.contains(&field.kind) {
                return Err(refuse(&field.name, accepted));
            }
        }
        let mut schema = Self { fields, roles, fingerprint: 0 };
        let mut bytes = Vec::new();
        schema.encode(&mut bytes);
        let digest = Sha256::digest(&bytes);
        schema.fingerprint = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        Ok(schema)
    }

    /// The columns, in the order of the table.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Columns that play a part of their own.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Names columns, types and roles together.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The place of a column.
    pub fn position(&self, name: &str) -> Result<usize, Refused> {
        let found = self.fields.iter().position(|field| field.name == name);
        found.ok_or_else(|| Refused::question(name, "the data source has no such column"))
    }

    /// The columns by which an answer is ordered, ascending and NULLs last: date, practice, provider; then, so that the order
    /// is total, measure, frequency and all others as the table has them.
    pub fn order(&self) -> Vec<usize> {
        let Roles { measure, frequency, date, practice, provider } = self.roles;
        let mut order: Vec<usize> = Vec::with_capacity(self.fields.len());
        for column in
            [date, practice, provider, measure, frequency].into_iter().flatten().chain(0..self.fields.len())
        {
            if !order.contains(&column) {
                order.push(column);
            }
        }
        order
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        wire::put_number(out, self.fields.len() as u128);
        for field in &self.fields {
            wire::put_bytes(out, field.name.as_bytes());
            field.kind.encode(out);
        }
        let Roles { measure, frequency, date, practice, provider } = self.roles;
        for role in [measure, frequency, date, practice, provider] {
            wire::put_number(out, role.map_or(0, |at| at as u128 + 1));
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Refused> {
        let mut fields = Vec::new();
        for _ in 0..reader.count()? {
            fields.push(Field { name: reader.text()?.to_owned(), kind: Type::decode(reader)? });
        }
        let mut role = || reader.fitting::<usize>().map(|place| place.checked_sub(1));
        let (measure, frequency, date, practice, provider) = (role()?, role()?, role()?, role()?, role()?);
        Self::new(fields, Roles { measure, frequency, date, practice, provider })
            .map_err(|_| Refused::Corrupt("a schema that is none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, kind: Type) -> Field {
        Field { name: name.to_owned(), kind }
    }

    fn measures() -> (Vec<Field>, Roles) {
        let fields = vec![
            field("practice_uid", Type::Int),
            field("measure", Type::Text),
            field("frequency", Type::Text),
            field("date_index", Type::Date),
            field("measure_value", Type::Numeric),
            field("provider_uid", Type::Int),
        ];
        let roles = Roles {
            measure: Some(1),
            frequency: Some(2),
            date: Some(3),
            practice: Some(0),
            provider: Some(5),
        };
        (fields, roles)
    }

    fn because(made: Result<Schema, Refused>) -> &'static str {
        match made {
            Err(Refused::Schema { because, .. }) => because,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn roles_must_fit() {
        let (fields, roles) = measures();
        assert!(Schema::new(fields.clone(), roles).is_ok());
        let with = |roles| because(Schema::new(fields.clone(), roles));
        assert_eq!(with(Roles { measure: Some(0), ..roles }), "the measure is a text column");
        assert_eq!(with(Roles { date: Some(1), ..roles }), "the date is a date or timestamp column");
        assert_eq!(with(Roles { practice: Some(1), ..roles }), "the practice is an int or bigint column");
        assert_eq!(with(Roles { provider: Some(6), ..roles }), "a role names no column");
        let none = Roles::default();
        assert_eq!(because(Schema::new(Vec::new(), none)), "a table has 1 to 256 columns");
        assert_eq!(because(Schema::new(vec![field("", Type::Int)], none)), "a name has 1 to 255 bytes");
        assert_eq!(because(Schema::new(vec![field("a", Type::Int); 2], none)), "two columns have this name");
    }

    #[test]
    fn every_difference_changes_the_fingerprint() {
        let (fields, roles) = measures();
        let first = Schema::new(fields.clone(), roles).unwrap();
        assert_eq!(first.fingerprint(), Schema::new(fields.clone(), roles).unwrap().fingerprint());
        let mut renamed = fields.clone();
        renamed[4].name.push('2');
        let mut retyped = fields.clone();
        retyped[4].kind = Type::Float;
        let mut swapped = fields.clone();
        swapped.swap(0, 5);
        let changed = [
            Schema::new(renamed, roles),
            Schema::new(retyped, roles),
            Schema::new(swapped, roles),
            Schema::new(fields, Roles { provider: None, ..roles }),
        ];
        for other in changed {
            assert_ne!(first.fingerprint(), other.unwrap().fingerprint());
        }
    }

    #[test]
    fn orders_by_date_practice_provider_and_then_by_everything() {
        let (fields, roles) = measures();
        let schema = Schema::new(fields, roles).unwrap();
        assert_eq!(schema.order(), [3, 0, 5, 1, 2, 4]);
        assert_eq!(schema.position("measure"), Ok(1));
        assert!(
            matches!(schema.position("nothing"), Err(Refused::Question { field, .. }) if field == "nothing")
        );
    }

    #[test]
    fn is_read_as_it_was_written() {
        let (fields, roles) = measures();
        for roles in [roles, Roles::default()] {
            let schema = Schema::new(fields.clone(), roles).unwrap();
            let mut out = Vec::new();
            schema.encode(&mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(Schema::decode(&mut reader), Ok(schema));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn types_of_postgres() {
        for (sql, kind) in [
            ("integer", Type::Int),
            ("bigint", Type::BigInt),
            ("double precision", Type::Float),
            ("numeric", Type::Numeric),
            ("timestamp with time zone", Type::TimestampTz),
            ("jsonb", Type::Json),
            ("character varying", Type::Text),
            ("inet", Type::Text),
        ] {
            assert_eq!(Type::of_sql(sql), kind, "{sql}");
        }
        for (kind, _, name) in Type::ALL {
            assert_eq!(kind.name(), name);
        }
    }
}
