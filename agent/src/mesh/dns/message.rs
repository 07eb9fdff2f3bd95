//! Questions as they are asked, and our answers to them.

use std::{net::Ipv4Addr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};
use mesh::names::{Kind, NEGATIVE_TTL, Reply};

/// A question of one name.
#[derive(Debug)]
pub struct Question {
    message: Message,
    query: Query,
}

impl Question {
    /// Reads a message; `None` when it is no question that can be answered.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let is_question = message.metadata.message_type == MessageType::Query;
        let [query] = message.queries.as_slice() else { return None };
        let query = query.clone();
        is_question.then_some(Self { message, query })
    }

    /// The name that is asked for.
    pub fn name(&self) -> String {
        self.query.name().to_ascii()
    }

    /// What is asked for; `None` when only others could know.
    pub fn kind(&self) -> Option<Kind> {
        let is_usual =
            self.message.metadata.op_code == OpCode::Query && self.query.query_class() == DNSClass::IN;
        let kind = if self.query.query_type() == RecordType::A { Kind::A } else { Kind::Other };
        is_usual.then_some(kind)
    }

    /// How long a datagram the asker takes.
    pub fn longest_datagram(&self) -> usize {
        usize::from(self.message.max_payload()).clamp(512, 1232)
    }

    /// Our answer; `None` when it is not ours to give.
    pub fn answer(&self, reply: &Reply) -> Option<Vec<u8>> {
        let mut answer = self.blank();
        match reply {
            Reply::Addresses { addresses, ttl } => {
                answer.add_answers(addresses.iter().map(|address| self.record(*address, *ttl)));
            }
            Reply::Nothing => drop(answer.add_authority(self.authority())),
            Reply::Unknown => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(self.authority());
            }
            Reply::Refused => answer.metadata.response_code = ResponseCode::Refused,
            Reply::Forward => return None,
        }
        answer.to_vec().ok()
    }

    /// Nobody could say.
    pub fn failure(&self) -> Option<Vec<u8>> {
        let mut answer = self.blank();
        answer.metadata.response_code = ResponseCode::ServFail;
        answer.to_vec().ok()
    }

    fn blank(&self) -> Message {
        let asked = &self.message.metadata;
        let mut answer = Message::response(asked.id, asked.op_code);
        answer.metadata.recursion_desired = asked.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        answer.add_query(self.query.clone());
        answer
    }

    fn record(&self, address: Ipv4Addr, ttl: Duration) -> Record {
        Record::from_rdata(self.query.name().clone(), seconds(ttl), RData::A(A(address)))
    }

    /// Says how long "no" may be kept.
    fn authority(&self) -> Record {
        let ttl = seconds(NEGATIVE_TTL);
        let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, ttl);
        Record::from_rdata(self.query.name().clone(), ttl, RData::SOA(soa))
    }
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).expect("a lifetime is short")
}
