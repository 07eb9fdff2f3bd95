//! Headers that concern one connection only are taken away; those that name the client are ours to write.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{self, CONNECTION, UPGRADE},
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use mesh::http as rules;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a client might say of itself to be believed by the service.
const CLAIMS: [HeaderName; 6] = [
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
];

/// RFC 9110, 7.6.1; and `Expect`, which we answer ourselves.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// From where.
    pub address: IpAddr,
    /// Over TLS.
    pub secure: bool,
}

/// The protocol that a request or an answer wants to change to.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    names_connection(headers, "upgrade").then(|| headers.get(UPGRADE).cloned()).flatten()
}

/// Makes a client's headers those of a request to the replica.
pub fn towards_replica(headers: &mut HeaderMap, client: Client, host: &HeaderValue) {
    let upgrade = upgrade(headers);
    strip_hop_by_hop(headers);
    CLAIMS.iter().for_each(|claim| drop(headers.remove(claim)));
    let address = HeaderValue::from_str(&client.address.to_string()).expect("an address is ASCII");
    let scheme = HeaderValue::from_static(if client.secure { "https" } else { "http" });
    headers.insert(X_FORWARDED_FOR, address);
    headers.insert(X_FORWARDED_PROTO, scheme);
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host.clone());
    join_cookies(headers);
    restore(headers, upgrade);
}

/// Makes a head one of HTTP/2; without a host that it can name, for the service.
pub fn over_http2(head: &mut Parts, service: &str, takes_trailers: bool) {
    let named = head.headers.remove(header::HOST);
    let named = named.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = named.or_else(|| Authority::try_from(service).ok());
    let mut uri = uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
    uri.path_and_query = head.uri.path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    head.uri = Uri::from_parts(uri).expect("it has all parts");
    head.version = Version::HTTP_2;
    for name in [CONNECTION, UPGRADE] {
        head.headers.remove(name);
    }
    if takes_trailers {
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a client says that it understands trailers, as gRPC demands of it.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Whether a request is one of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind == "application/grpc" || kind.starts_with("application/grpc+"))
}

/// Whether an answer says its length in two ways.
pub fn contradicts_itself(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lengths.next();
    lengths.any(|length| Some(length) != first)
}

/// HTTP/2 may send each cookie by itself; HTTP/1.1 has one header for all (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let (Some(first), Some(second)) = (all.next(), all.next()) {
        let parts: Vec<&[u8]> = [first, second].into_iter().chain(all).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// Makes a replica's headers those of an answer to the client.
pub fn towards_client(headers: &mut HeaderMap) {
    let upgrade = upgrade(headers);
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // Chunks say where the body ends, whatever else the replica says of it (RFC 9112, 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    restore(headers, upgrade);
}

/// The value of a cookie, whichever of the Cookie headers has it.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.find_map(|value| rules::cookie(value, name))
}

fn restore(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|name| name.parse().ok()).collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

fn names_connection(headers: &HeaderMap, token: &str) -> bool {
    tokens(headers).any(|name| name.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn sent(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(lines);
        let client = Client { address: "10.0.0.9".parse().unwrap(), secure: true };
        towards_replica(&mut headers, client, &HeaderValue::from_static("ispyb.example.org"));
        headers
    }

    #[test]
    fn what_a_client_claims_of_itself_is_replaced() {
        let sent = sent(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(sent["x-forwarded-for"], "10.0.0.9");
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert_eq!(sent["x-forwarded-host"], "ispyb.example.org");
        assert!(!sent.contains_key("forwarded") && !sent.contains_key("x-real-ip"));
    }

    #[test]
    fn headers_of_one_connection_go_no_further() {
        let sent = sent(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        assert_eq!(sent["accept"], "*/*");
        for gone in ["connection", "x-mine", "keep-alive", "te"] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn cookies_that_came_one_by_one_go_on_in_one_header() {
        let sent = sent(&[("cookie", "JSESSIONID=1"), ("cookie", "a=b"), ("cookie", "c=d")]);
        assert_eq!(sent.get_all("cookie").iter().collect::<Vec<_>>(), ["JSESSIONID=1; a=b; c=d"]);
    }

    #[test]
    fn a_change_of_protocol_is_passed_on_when_the_connection_asks_for_it() {
        let asked = sent(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            (&asked["connection"], &asked["upgrade"]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
        assert!(!sent(&[("upgrade", "h2c")]).contains_key("upgrade"));
    }
}
