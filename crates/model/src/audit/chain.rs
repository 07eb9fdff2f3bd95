//! The chain: every record's hash covers the hash of the one before, so that no record can be changed, left out or moved
//! without changing all later ones.
//!
//! `hash = SHA-256(previous || encoding)`. The encoding is of its own, so that no change of a serializer or of a type moves
//! it: the text `orch-audit-1`, then of each field that is there its number (1 byte), its length (4 bytes, big-endian) and its
//! bytes; numbers as 8 bytes big-endian, all else as UTF-8, digests in hexadecimal. A new field gets a new number.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Record;
use crate::id::ClusterId;

/// A SHA-256 hash; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.add(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(ParseDigestError);
        }
        let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte =
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or(ParseDigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A digest in the making; what is written to it counts.
pub struct Hasher(ring::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Hasher {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        let hash = self.0.finish();
        Digest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One place of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The record's number.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
}

/// The chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {number} is broken: {why}")]
pub struct Broken {
    /// The first record that is not as it was written, or is not there.
    pub number: u64,
    /// In words.
    pub why: String,
}

impl Link {
    /// What the first record of a cluster follows.
    pub fn genesis(cluster: ClusterId) -> Self {
        Self { number: 0, hash: Digest::of(format!("orch-audit of cluster {cluster}").as_bytes()) }
    }

    /// Goes on to the next record.
    ///
    /// # Errors
    /// It is not the next one, or not as it was written.
    pub fn follow(self, record: &Record) -> Result<Self, Broken> {
        let next = self.number + 1;
        let broken = |why: String| Broken { number: next, why };
        if record.number != next {
            return Err(broken(format!("record {} is in its place", record.number)));
        }
        if record.previous != self.hash {
            return Err(broken("it does not follow the one before: one of the two was changed".to_owned()));
        }
        if record.hash != record.computed_hash() {
            return Err(broken("its hash is not that of its contents: it was changed".to_owned()));
        }
        Ok(Self { number: next, hash: record.hash })
    }

    /// Goes on over all records, and returns the place of the last.
    ///
    /// # Errors
    /// The first one that is broken.
    pub fn follow_all<'a>(self, records: impl IntoIterator<Item = &'a Record>) -> Result<Self, Broken> {
        records.into_iter().try_fold(self, Self::follow)
    }

    /// Puts a record behind this place: its number, and both hashes.
    pub fn seal(self, record: &mut Record) {
        (record.number, record.previous) = (self.number + 1, self.hash);
        record.hash = record.computed_hash();
    }
}

impl Record {
    /// The hash that its contents have.
    pub fn computed_hash(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.add(&self.previous.0);
        hasher.add(&self.encoded());
        hasher.finish()
    }

    /// Bytes of its encoding, for bounds: the same in every version.
    pub fn size(&self) -> u64 {
        self.encoded().len() as u64
    }

    fn encoded(&self) -> Vec<u8> {
        let mut fields = Fields(b"orch-audit-1".to_vec());
        fields.number(1, self.number);
        fields.number(2, self.at.0);
        fields.text(3, &self.who);
        self.source.iter().for_each(|source| fields.text(4, source));
        self.job.iter().for_each(|job| fields.text(5, job));
        self.request.iter().for_each(|request| fields.number(6, request.0));
        fields.text(7, &self.verb);
        fields.text(8, &self.kind);
        fields.text(9, &self.name);
        self.old.iter().for_each(|old| fields.text(10, &old.to_string()));
        self.new.iter().for_each(|new| fields.text(11, &new.to_string()));
        fields.text(12, self.verdict.word());
        fields.text(13, &self.reason);
        fields.0
    }
}

struct Fields(Vec<u8>);

impl Fields {
    fn number(&mut self, field: u8, value: u64) {
        self.bytes(field, &value.to_be_bytes());
    }

    fn text(&mut self, field: u8, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("texts of a record are bounded");
        self.0.push(field);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Verdict, id::RequestId, time::ClusterTime};

    fn record(name: &str) -> Record {
        Record {
            number: 0,
            at: ClusterTime(7),
            who: "operator ann".into(),
            source: Some("10.0.0.1".into()),
            job: None,
            request: Some(RequestId(5)),
            verb: "create".into(),
            kind: "service".into(),
            name: name.into(),
            old: None,
            new: Some(Digest::of(b"new")),
            verdict: Verdict::Accepted,
            reason: String::new(),
            previous: Digest::of(b""),
            hash: Digest::of(b""),
        }
    }

    fn chain(count: u64) -> (Link, Vec<Record>) {
        let begin = Link::genesis(ClusterId(1));
        let mut last = begin;
        let mut records = Vec::new();
        for number in 0..count {
            let mut next = record(&format!("s{number}"));
            last.seal(&mut next);
            last = last.follow(&next).expect("just made");
            records.push(next);
        }
        (begin, records)
    }

    fn broken(begin: Link, records: &[Record]) -> u64 {
        begin.follow_all(records).expect_err("the chain is broken").number
    }

    #[test]
    fn whatever_is_changed_the_first_broken_record_is_named() {
        let (begin, records) = chain(9);
        let head = begin.follow_all(&records).expect("whole");
        assert_eq!((head.number, head.hash), (9, records[8].hash));
        let changes: [fn(&mut Record); 11] = [
            |record| record.at.0 += 1,
            |record| record.who = "operator bob".into(),
            |record| record.source = None,
            |record| record.job = Some("x".into()),
            |record| record.request = Some(RequestId(6)),
            |record| record.verb = "remove".into(),
            |record| record.kind = "node".into(),
            |record| record.name.push('x'),
            |record| record.old = record.new,
            |record| record.verdict = Verdict::Denied,
            |record| record.reason = "x".into(),
        ];
        for change in changes {
            let mut changed = records.clone();
            change(&mut changed[4]);
            assert_eq!(broken(begin, &changed), 5);
            // Who makes the changed record whole again breaks the next one.
            changed[4].hash = changed[4].computed_hash();
            assert_eq!(broken(begin, &changed), 6);
        }
    }

    #[test]
    fn a_record_that_is_left_out_or_moved_is_missed() {
        let (begin, records) = chain(5);
        let mut without = records.clone();
        without.remove(2);
        assert_eq!(broken(begin, &without), 3);
        let mut moved = records.clone();
        moved.swap(1, 2);
        assert_eq!(broken(begin, &moved), 2);
        assert_eq!(broken(Link::genesis(ClusterId(2)), &records), 1);
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        let (_, records) = chain(1);
        let expected = "20d673a02447374a74aab031ec4466cec1523b5edd135f1390425220b0fc3932";
        assert_eq!(records[0].hash.to_string(), expected);
    }

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((digest.to_string().as_str(), text.parse()), (text, Ok(digest)));
        for wrong in ["", "ba", &text[1..], &text.replace('b', "g")] {
            assert_eq!(wrong.parse::<Digest>(), Err(ParseDigestError), "{wrong}");
        }
    }
}
