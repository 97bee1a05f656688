//! What a client's key is good for: one or more of three things.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// One thing that a key can be good for.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case", const_into_str, parse_err_ty = String, parse_err_fn = unknown)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To upload files, and to learn what they have to look like.
    Upload = 1,
    /// To see batches and rows, and to take results.
    Read = 2,
    /// To pause, resume, cancel, retry and delete batches.
    Manage = 4,
}

fn unknown(_: &str) -> String {
    "a scope is upload, read or manage".to_owned()
}

impl Scope {
    /// Each of them.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As it is spelled everywhere.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What a key is good for: at least one [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// All of them.
    pub const ALL: Self = Self(Scope::Upload as u8 | Scope::Read as u8 | Scope::Manage as u8);

    /// These; `None` where there is none.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Option<Self> {
        Self::from_bits(scopes.into_iter().fold(0, |bits, scope| bits | scope as u8))
    }

    /// As the database has them: the sum of [`Scope`]'s numbers.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// See [`Self::bits`].
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits != 0 && bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }

    /// Whether this is one of them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether all of the others are among these.
    pub fn include(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Those that are in both.
    pub fn and(self, others: Self) -> Option<Self> {
        Self::from_bits(self.0 & others.0)
    }

    fn each(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.has(*scope))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.each().map(Scope::as_str).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Scopes {
    type Err = String;

    /// Reads `upload,read`.
    fn from_str(text: &str) -> Result<Self, String> {
        let scopes = text.split(',').map(|scope| scope.trim().parse()).collect::<Result<Vec<Scope>, _>>()?;
        Self::of(scopes).ok_or_else(|| "name at least one of upload, read, manage".to_owned())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scopes = Vec::<Scope>::deserialize(deserializer)?;
        Self::of(scopes).ok_or_else(|| D::Error::custom("name at least one scope"))
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "minItems": 1,
            "items": { "type": "string", "enum": Scope::ALL },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_and_read_back() {
        for text in ["upload", "read", "upload,read", "upload,read,manage"] {
            let scopes: Scopes = text.parse().expect(text);
            assert_eq!(scopes.to_string(), text);
            assert_eq!(Scopes::from_bits(scopes.bits()), Some(scopes));
            let json = serde_json::to_string(&scopes).expect("JSON");
            assert_eq!(serde_json::from_str::<Scopes>(&json).expect("read"), scopes, "{json}");
        }
        assert_eq!(" read , upload ".parse::<Scopes>().map(|scopes| scopes.to_string()), Ok("upload,read".into()));
        for wrong in ["", "all", "read,", "Read"] {
            assert!(wrong.parse::<Scopes>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Scopes>("[]").is_err() && Scopes::from_bits(8).is_none());
    }

    #[test]
    fn what_one_includes() {
        let (read, both): (Scopes, Scopes) = ("read".parse().expect("one"), "upload,read".parse().expect("two"));
        assert!(Scopes::ALL.include(both) && both.include(read) && !read.include(both));
        assert!(both.has(Scope::Upload) && !both.has(Scope::Manage));
        assert_eq!((both.and(read), read.and("manage".parse().expect("one"))), (Some(read), None));
    }
}
