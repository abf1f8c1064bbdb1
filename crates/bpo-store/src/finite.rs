//! Finds the NaN or infinity in a value before JSON turns it into `null`.
//!
//! serde_json writes a non-finite float as `null` without a word, and reads `null` back as the
//! `None` of an `Option`. This serializer writes nothing; it only looks at the floats.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// The first NaN or infinity in a value.
pub(crate) fn first_not_finite<T: Serialize + ?Sized>(value: &T) -> Option<f64> {
    match value.serialize(Look) {
        Err(Found(number)) => number,
        Ok(()) => None,
    }
}

/// The end of the search: a number, or an error of the value's own, which JSON will report.
#[derive(Debug)]
struct Found(Option<f64>);

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.0)
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

#[derive(Clone, Copy)]
struct Look;

type Seen = Result<(), Found>;

macro_rules! nothing_to_see {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, _: $type) -> Seen { Ok(()) })*
    };
}

impl Serializer for Look {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    nothing_to_see! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_i128(i128), serialize_u8(u8), serialize_u16(u16),
        serialize_u32(u32), serialize_u64(u64), serialize_u128(u128), serialize_char(char),
        serialize_str(&str), serialize_bytes(&[u8]), serialize_unit_struct(&'static str),
    }

    fn serialize_f32(self, number: f32) -> Seen {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Seen {
        match number.is_finite() {
            true => Ok(()),
            false => Err(Found(Some(number))),
        }
    }

    fn serialize_none(self) -> Seen {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Seen {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Seen {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Seen {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Seen {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Seen {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Found> {
        Ok(self)
    }
}

macro_rules! look_inside {
    ($($trait:ident: $method:ident($($key:ty)?)),* $(,)?) => {
        $(impl ser::$trait for Look {
            type Ok = ();
            type Error = Found;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Seen {
                value.serialize(*self)
            }

            fn end(self) -> Seen {
                Ok(())
            }
        })*
    };
}

look_inside! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for Look {
    type Ok = ();
    type Error = Found;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Seen {
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Seen {
        value.serialize(*self)
    }

    fn end(self) -> Seen {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Any {
        Unit,
        New(Option<f32>),
        Pair(u8, f64),
        Named { text: String, deep: Vec<(char, f64)> },
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_anywhere() {
        let bad = f64::NEG_INFINITY;
        assert_eq!(first_not_finite(&bad), Some(bad));
        assert_eq!(first_not_finite(&Any::New(Some(f32::NEG_INFINITY))), Some(bad));
        assert_eq!(first_not_finite(&Any::Pair(1, bad)), Some(bad));
        let deep = vec![('a', 1.0), ('b', bad)];
        let text = String::new();
        assert_eq!(first_not_finite(&Any::Named { text, deep }), Some(bad));
        assert_eq!(first_not_finite(&BTreeMap::from([(1, Some([bad]))])), Some(bad));
        assert!(first_not_finite(&(0, f64::NAN)).unwrap().is_nan());
    }

    #[test]
    fn a_finite_value_passes() {
        let deep = vec![('a', f64::MAX)];
        let text = "NaN".to_owned();
        let named = Any::Named { text, deep };
        assert_eq!(first_not_finite(&(Any::Unit, named, Any::New(None))), None);
    }
}
