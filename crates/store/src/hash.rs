//! One number for a value: FNV-1a over everything that serde sees of it, in words of 64 bits. Equal values give equal
//! hashes on every machine and in every process; a difference of two managers shows (invariant I3).
//!
//! Every variable part is preceded by its length and every variant by its number, so that two different values do not run
//! together. Field names are left out: both sides run over the same type. Words, because every changed task is hashed
//! twice and byte by byte that was a third of all work. A multiplication carries only upwards, so the end mixes downwards
//! too: the hashes of objects are summed, and two differences in a highest bit would cancel out.

use std::fmt::{self, Display};

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// Which table an object lies in: equal contents in two tables must not cancel out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    Cluster,
    Service,
    Task,
    Node,
    Member,
    Token,
    RemovedNode,
    Event,
    Request,
    Network,
    Cron,
    Audit,
    Item,
}

/// The hash of one object of a table.
pub(crate) fn object_hash<T: Serialize + ?Sized>(table: Table, value: &T) -> u64 {
    let mut hasher = Hasher(OFFSET);
    hasher.word(table as u64);
    value.serialize(&mut hasher).expect("hashing writes to no medium, and the model's types serialize");
    finish(hasher.0)
}

/// FNV's offset basis and prime for 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The finalizer of MurmurHash3: every bit of the input reaches every bit of the output.
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

struct Hasher(u64);

impl Hasher {
    fn word(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(PRIME);
    }

    fn number(&mut self, value: u64) -> Result<(), fmt::Error> {
        self.word(value);
        Ok(())
    }

    fn length(&mut self, length: Option<usize>) -> Result<&mut Self, fmt::Error> {
        self.word(length.map_or(u64::MAX, |length| length as u64));
        Ok(self)
    }

    /// Bytes after their length: the last word is filled with zeros.
    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(word));
        }
    }
}

/// Narrow numbers count as the wide one of their kind.
macro_rules! widened {
    ($wide:ident: $($narrow:ident $from:ty),+) => {
        $(fn $narrow(self, v: $from) -> Result<(), fmt::Error> {
            self.$wide(v.into())
        })+
    };
}

impl Serializer for &mut Hasher {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    widened!(number: serialize_bool bool, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);
    widened!(serialize_i64: serialize_i8 i8, serialize_i16 i16, serialize_i32 i32);

    fn serialize_i64(self, v: i64) -> Result<(), fmt::Error> {
        self.number(v.cast_unsigned())
    }

    fn serialize_f32(self, v: f32) -> Result<(), fmt::Error> {
        self.number(v.to_bits().into())
    }

    fn serialize_f64(self, v: f64) -> Result<(), fmt::Error> {
        self.number(v.to_bits())
    }

    fn serialize_char(self, v: char) -> Result<(), fmt::Error> {
        self.number(u32::from(v).into())
    }

    fn serialize_str(self, v: &str) -> Result<(), fmt::Error> {
        self.serialize_bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), fmt::Error> {
        self.length(Some(v.len()))?.bytes(v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.word(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        variant: u32,
        _variant_name: &'static str,
    ) -> Result<(), fmt::Error> {
        self.number(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        variant: u32,
        _variant_name: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        self.number(variant.into())?;
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, fmt::Error> {
        self.length(len)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        variant: u32,
        _variant_name: &'static str,
        _len: usize,
    ) -> Result<Self, fmt::Error> {
        self.number(variant.into())?;
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, fmt::Error> {
        self.length(len)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        variant: u32,
        _variant_name: &'static str,
        _len: usize,
    ) -> Result<Self, fmt::Error> {
        self.number(variant.into())?;
        Ok(self)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.serialize_str(&value.to_string())
    }
}

/// The compound kinds differ in the names of their methods only.
macro_rules! compound {
    ($name:ident, $method:ident $(, $key:ident)?) => {
        impl $name for &mut Hasher {
            type Ok = ();
            type Error = fmt::Error;

            $(fn $key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
                key.serialize(&mut **self)
            })?

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                Ok(())
            }
        }
    };
    (named $name:ident) => {
        impl $name for &mut Hasher {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), fmt::Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                Ok(())
            }
        }
    };
}

compound!(SerializeSeq, serialize_element);
compound!(SerializeTuple, serialize_element);
compound!(SerializeTupleStruct, serialize_field);
compound!(SerializeTupleVariant, serialize_field);
compound!(SerializeMap, serialize_value, serialize_key);
compound!(named SerializeStruct);
compound!(named SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_anywhere_differ_in_their_hash() {
        let hash = |value: &(Vec<String>, Option<u64>)| object_hash(Table::Task, value);
        let text = |parts: &[&str]| parts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let values = [
            (text(&["ab", "c"]), None),
            (text(&["a", "bc"]), None),
            (text(&["abc"]), None),
            (text(&["abc"]), Some(0)),
            (text(&["abc"]), Some(1)),
            (text(&[]), Some(1)),
        ];
        for (position, one) in values.iter().enumerate() {
            assert_eq!(hash(one), hash(&one.clone()));
            for other in &values[position + 1..] {
                assert_ne!(hash(one), hash(other), "{one:?} and {other:?}");
            }
        }
        assert_ne!(object_hash(Table::Task, &1u64), object_hash(Table::Node, &1u64));
    }

    #[test]
    fn two_differences_in_a_highest_bit_do_not_cancel_out_in_a_sum() {
        let sum = |flip: u64| {
            let object = |id: u64| object_hash(Table::Task, &(id, 5 ^ flip));
            object(1).wrapping_add(object(2))
        };
        assert_ne!(sum(0), sum(1 << 63));
    }
}
