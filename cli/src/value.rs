//! Values as people write them on a command line: `1m30s`, `512MiB`, `1.5` cores, `8080:80/tcp`, `type=bind,src=…`.
//!
//! Text in, the model's types or a sentence about what would be right out. A sentence, not a panic and not a default:
//! the caller collects all of them.

pub mod calendar;
pub mod probe;
pub mod window;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use model::{
    container::{Mount, MountSource, PortSpec, Protocol, Ulimit},
    item::FileMount,
    network::AddressPool,
    route::{Backend, HttpPort, IngressPort, TlsFiles},
    signature::{PublicKey, SignerIdentity},
};

/// What is wrong with a value, and what would be right.
pub type Wrong = String;

const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Longer spans are mistakes: ten years.
const LONGEST_NANOS: f64 = 10.0 * 365.0 * 86_400e9;

/// Reads the file of a public key, as `cosign public-key` writes it.
///
/// # Errors
/// It cannot be read, or is no such key.
pub fn public_key(path: &str) -> Result<PublicKey, Wrong> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.parse().map_err(|wrong: String| format!("{path}: {wrong}"))
}

/// Reads who may have signed: `issuer=URL,subject=TEXT,authority=FILE,log=FILE`, the files as PEM.
///
/// # Errors
/// A part is missing, said twice or wrong, or a file cannot be read.
pub fn signer_identity(text: &str) -> Result<SignerIdentity, Wrong> {
    const KEYS: [&str; 4] = ["issuer", "subject", "authority", "log"];
    let mut parts: BTreeMap<&str, &str> = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if !KEYS.contains(&key) || value.is_empty() || parts.insert(key, value).is_some() {
            return Err(format!("\"{part}\": write each once of {}, with = and a value", KEYS.join(", ")));
        }
    }
    let part = |key: &str| parts.get(key).copied().ok_or_else(|| format!("{key}=… is missing"));
    let file = part("authority")?;
    let authority = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let authority = authority.parse().map_err(|wrong: String| format!("{file}: {wrong}"))?;
    let log = public_key(part("log")?)?;
    Ok(SignerIdentity { issuer: part("issuer")?.into(), subject: part("subject")?.into(), authority, log })
}

/// Reads a duration such as `90s`, `1m30s`, `1.5h` or `0`.
///
/// # Errors
/// Not a duration.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || format!("\"{text}\" is no duration; write such as 500ms, 10s, 1m30s or 2h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = DURATION_UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        nanos += number * unit.1 as f64;
        rest = &rest[letters..];
    }
    if text.is_empty() || nanos > LONGEST_NANOS {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Writes a duration so that [`duration`] reads it back exactly.
pub fn duration_text(value: Duration) -> String {
    let mut rest = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, nanos) in DURATION_UNITS {
        if rest >= nanos {
            text.push_str(&format!("{}{name}", rest / nanos));
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Reads a number of bytes such as `1073741824`, `512m`, `512MiB` or `1.5g`; units are powers of 1024, as Docker's.
///
/// # Errors
/// Not a size.
pub fn bytes(text: &str) -> Result<u64, Wrong> {
    let wrong = || format!("\"{text}\" is no size; write such as 512m, 1.5g or a number of bytes");
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let unit = match lower[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = lower[..digits].parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(wrong);
    }
    let number: f64 = lower[..digits].parse().map_err(|_| wrong())?;
    let bytes = number * unit as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Writes a size in the largest unit that divides it, so that [`bytes`] reads it back exactly.
pub fn bytes_text(value: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| value >= *unit && value.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", value / unit),
        None => value.to_string(),
    }
}

/// Reads cores such as `0.5` or `2` as thousandths.
///
/// # Errors
/// Not a positive number of cores.
pub fn cores(text: &str) -> Result<u64, Wrong> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (0.0..1e6).contains(&number) => {
            Ok((number * 1000.0).round() as u64)
        }
        _ => Err(format!("\"{text}\" is no number of cores; write such as 0.5 or 2")),
    }
}

/// Reads `KEY=VALUE`; the value may be empty.
///
/// # Errors
/// There is no `=` or no key.
pub fn pair(text: &str) -> Result<(String, String), Wrong> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is no KEY=VALUE")),
    }
}

/// A port as `--publish` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// On the task's own node.
    Host(PortSpec),
    /// On every ingress node.
    Ingress(IngressPort),
}

/// Reads `PUBLISHED:TARGET[/PROTOCOL]` (TCP: every ingress node answers; UDP: the task's own node), `TARGET[/PROTOCOL]` (the task's
/// own node, on a port that its engine chooses), or `published=80,target=8080[,mode=host][,protocol=udp][,http…]`.
///
/// # Errors
/// Not a port.
pub fn port(text: &str) -> Result<Published, Wrong> {
    if text.contains('=') {
        return port_long(text);
    }
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol_name(protocol)?;
    let Some((published, target)) = ports.rsplit_once(':') else {
        return Ok(Published::Host(PortSpec { target: port_number(ports)?, published: 0, protocol }));
    };
    let (published, target) = (port_number(published)?, port_number(target)?);
    Ok(match protocol {
        Protocol::Tcp => Published::Ingress(ingress(published, target)),
        Protocol::Udp => Published::Host(PortSpec { target, published, protocol }),
    })
}

fn ingress(published: u16, target: u16) -> IngressPort {
    IngressPort { published, target, http: None, proxy_protocol: false }
}

/// What the long form says, before it is known which kind of port it is.
#[derive(Default)]
struct LongPort {
    target: u16,
    published: u16,
    protocol: Protocol,
    host: bool,
    proxy_protocol: bool,
    http: Option<HttpPort>,
    certificate: Option<String>,
    key: Option<String>,
    masks: Option<Vec<String>>,
}

fn port_long(text: &str) -> Result<Published, Wrong> {
    let mut port = LongPort::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        port.take(key, value)?;
    }
    port.finish(text)
}

impl LongPort {
    fn take(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        match (key, value) {
            ("target", _) => self.target = port_number(value)?,
            ("published", _) => self.published = port_number(value)?,
            ("protocol", _) => self.protocol = protocol_name(value)?,
            ("mode", "host") => self.host = true,
            ("mode", "ingress") => self.host = false,
            ("proxy-protocol", "" | "true") => self.proxy_protocol = true,
            ("http", "" | "true") => drop(self.http()),
            ("sticky", "" | "true") => self.http().sticky = true,
            ("host", _) => self.http().hosts.push(value.to_owned()),
            ("path", _) => value.clone_into(&mut self.http().path),
            ("timeout", _) => self.http().timeout = duration(value)?,
            ("try-timeout", _) => self.http().try_timeout = duration(value)?,
            ("backend", _) => self.http().backend = backend(value)?,
            ("log", _) => self.http().log = share(value)?,
            ("log-mask", _) => {
                self.http();
                let masks = self.masks.get_or_insert_default();
                masks.extend((!value.is_empty()).then(|| value.to_owned()));
            }
            ("log-query", "" | "true") => self.http().log_query = true,
            ("tls-cert", _) => self.certificate = Some(value.to_owned()),
            ("tls-key", _) => self.key = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "unknown part \"{key}\"; known are published=, target=, protocol=, mode=host, proxy-protocol, http, \
                     sticky, host=, path=, timeout=, try-timeout=, backend=, log=, log-mask=, log-query, tls-cert= and tls-key="
                ));
            }
        }
        Ok(())
    }

    fn http(&mut self) -> &mut HttpPort {
        self.http.get_or_insert_default()
    }

    fn finish(mut self, text: &str) -> Result<Published, Wrong> {
        if self.target == 0 {
            return Err(format!("\"{text}\" has no target"));
        }
        match (self.certificate.take(), self.key.take()) {
            (Some(certificate), Some(key)) => self.http().tls = Some(TlsFiles { certificate, key }),
            (None, None) => {}
            _ => return Err("tls-cert= and tls-key= belong together".into()),
        }
        if let Some(masks) = self.masks.take() {
            self.http().log_mask = masks;
        }
        let (target, published, protocol) = (self.target, self.published, self.protocol);
        if self.host || published == 0 || protocol == Protocol::Udp {
            if self.http.is_some() || self.proxy_protocol {
                let why = "only a TCP port of the ingress nodes (published=, no mode=host) can be balanced by request";
                return Err(why.into());
            }
            return Ok(Published::Host(PortSpec { target, published, protocol }));
        }
        let port = ingress(published, target);
        Ok(Published::Ingress(IngressPort { http: self.http, proxy_protocol: self.proxy_protocol, ..port }))
    }
}

fn port_number(text: &str) -> Result<u16, Wrong> {
    text.parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("\"{text}\" is no port; expected 1-65535, as in 8080:80 or 8080:80/udp"))
}

fn protocol_name(text: &str) -> Result<Protocol, Wrong> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("\"{text}\" is no protocol; expected tcp or udp")),
    }
}

fn backend(text: &str) -> Result<Backend, Wrong> {
    match text {
        "http1" => Ok(Backend::Http1),
        "h2c" => Ok(Backend::H2c),
        _ => Err(format!("\"{text}\" is nothing that containers are spoken to in; expected http1 or h2c")),
    }
}

/// Reads `10.64.0.0/10` as a pool of /16s.
///
/// # Errors
/// Not a prefix, or not one of /16s.
pub fn pool(text: &str) -> Result<AddressPool, Wrong> {
    let wrong = || format!("\"{text}\" is no prefix of networks; expected /8 to /16, as in 10.64.0.0/10");
    let (base, length) = text.split_once('/').ok_or_else(wrong)?;
    let (base, length): (Ipv4Addr, u32) =
        (base.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
    if !(8..=16).contains(&length) {
        return Err(wrong());
    }
    let first = u32::from(base) & (u32::MAX << (32 - length));
    if first != u32::from(base) {
        return Err(format!("\"{text}\" begins within a prefix; {}/{length} is one", Ipv4Addr::from(first)));
    }
    Ok(AddressPool { base, networks: 1 << (16 - length) })
}

/// Reads which share of the requests is written to the access log: `off`, `all` or `1/100`.
///
/// # Errors
/// Something else.
pub fn share(text: &str) -> Result<u32, Wrong> {
    match text {
        "off" => Ok(0),
        "all" => Ok(1),
        _ => text
            .strip_prefix("1/")
            .and_then(|every| every.parse().ok())
            .filter(|every| *every > 0)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is no share of requests; expected off, all, or one of so many as in 1/100"
                )
            }),
    }
}

/// The reverse of [`share`].
pub fn share_text(every: u32) -> String {
    match every {
        0 => "off".to_owned(),
        1 => "all".to_owned(),
        _ => format!("1/{every}"),
    }
}

/// Reads `type=bind,src=/data,dst=/data,ro`; the type is `volume` when it is not said.
///
/// # Errors
/// An unknown key, or a missing source or target.
pub fn mount(text: &str) -> Result<Mount, Wrong> {
    let (mut kind, mut source, mut target, mut read_only) = ("volume", None, None, false);
    let (mut size, mut mode) = (0, 0);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("type", Some(value)) => kind = value,
            ("source" | "src", Some(value)) => source = Some(value.to_owned()),
            ("target" | "dst" | "destination", Some(value)) => target = Some(value.to_owned()),
            ("readonly" | "ro", None | Some("true" | "1")) => read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => read_only = false,
            ("tmpfs-size", Some(value)) => size = bytes(value)?,
            ("tmpfs-mode", Some(value)) => mode = octal(value)?,
            _ => {
                return Err(format!(
                    "unknown part \"{field}\"; known are type=, src=, dst=, ro, tmpfs-size= and tmpfs-mode="
                ));
            }
        }
    }
    let target = target.ok_or_else(|| format!("\"{text}\" has no target (dst=/PATH)"))?;
    let needed = || source.clone().ok_or_else(|| format!("\"{text}\" has no source (src=…)"));
    let source = match kind {
        "bind" => MountSource::Bind(needed()?),
        "volume" => MountSource::Volume(needed()?),
        "tmpfs" => MountSource::Tmpfs { size, mode },
        _ => return Err(format!("\"{kind}\" is no type of mount; expected bind, volume or tmpfs")),
    };
    Ok(Mount { source, target, read_only })
}

/// Reads `NAME[,target=/PATH,uid=0,gid=0,mode=0400]`, a secret or config as a file; `source=NAME` as Docker has it.
///
/// # Errors
/// An unknown key, a value that is none, or no name.
pub fn file(text: &str) -> Result<FileMount, Wrong> {
    let mut mount = FileMount::default();
    let number = |key: &str, value: &str| {
        value
            .parse::<u32>()
            .map(Some)
            .map_err(|_| format!("{key}={value}: write the number that it has in the container"))
    };
    for (position, field) in text.split(',').enumerate() {
        match field.split_once('=') {
            None if position == 0 => mount.name = field.to_owned(),
            Some(("source" | "src", name)) => mount.name = name.to_owned(),
            Some(("target" | "dst", path)) => mount.target = Some(path.to_owned()),
            Some((key @ "uid", value)) => mount.uid = number(key, value)?,
            Some((key @ "gid", value)) => mount.gid = number(key, value)?,
            Some(("mode", value)) => mount.mode = Some(value.parse()?),
            _ => {
                return Err(format!(
                    "unknown part \"{field}\"; known are NAME, target=, uid=, gid= and mode="
                ));
            }
        }
    }
    if mount.name.is_empty() {
        return Err(format!("\"{text}\" names nothing; write NAME[,target=PATH,uid=UID,gid=GID,mode=0400]"));
    }
    Ok(mount)
}

/// Reads `/PATH[:size=64m,mode=1777,ro]`.
///
/// # Errors
/// An unknown option.
pub fn tmpfs(text: &str) -> Result<Mount, Wrong> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut read_only) = (0, 0, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = bytes(value)?,
            Some(("mode", value)) => mode = octal(value)?,
            None if option == "ro" => read_only = true,
            None if option == "rw" => read_only = false,
            _ => return Err(format!("unknown option \"{option}\"; known are size=, mode=, ro and rw")),
        }
    }
    Ok(Mount { source: MountSource::Tmpfs { size, mode }, target: target.to_owned(), read_only })
}

fn octal(text: &str) -> Result<u32, Wrong> {
    u32::from_str_radix(text, 8).map_err(|_| format!("\"{text}\" is no octal mode such as 1777"))
}

/// Reads `NAME=SOFT[:HARD]`; `unlimited` or -1 lifts a limit.
///
/// # Errors
/// Not a limit.
pub fn ulimit(text: &str) -> Result<Ulimit, Wrong> {
    let (name, limits) = pair(text)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        _ => {
            text.parse::<i64>().map_err(|_| format!("\"{text}\" is no limit; write such as nofile=1024:4096"))
        }
    };
    Ok(Ulimit { name, soft: number(soft)?, hard: number(hard)? })
}

/// Splits a command as a shell would, with quotes and backslashes and nothing else.
///
/// # Errors
/// A quote is not closed.
pub fn words(text: &str) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(letter),
            (_, '\\') => word.get_or_insert_default().extend(letters.next()),
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(format!("a quote is not closed in: {text}")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_signed_is_said_with_all_four_parts_once() {
        for (text, why) in [
            ("issuer=https://a,subject=b,log=c", "authority=… is missing"),
            ("issuer=https://a,issuer=https://b,subject=b", "\"issuer=https://b\": write each once"),
            ("issuer=https://a,subject", "\"subject\": write each once"),
            ("key=cosign.pub", "of issuer, subject, authority, log"),
            ("issuer=https://a,subject=b,authority=/nowhere.pem,log=c", "/nowhere.pem: No such file"),
        ] {
            let wrong = signer_identity(text).unwrap_err();
            assert!(wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn durations_read_back_from_what_is_written() {
        for (text, millis) in
            [("0", 0), ("500ms", 500), ("10s", 10_000), ("1m30s", 90_000), ("1.5h", 5_400_000)]
        {
            let value = duration(text).unwrap();
            assert_eq!(value, Duration::from_millis(millis), "{text}");
            assert_eq!(duration(&duration_text(value)).unwrap(), value);
        }
        assert_eq!(duration_text(Duration::from_millis(90_500)), "1m30s500ms");
        for text in ["", "10", "s", "-1s", "1y", "1s ", "99999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_read_back() {
        for (text, value) in
            [("100", 100), ("1k", 1024), ("512MiB", 512 << 20), ("1.5g", 3 << 29), ("2GB", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(value), "{text}");
            assert_eq!(bytes(&bytes_text(value)), Ok(value));
        }
        for text in ["", "m", "-1", "1x", "99999999t", "1.2.3m"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!((cores("0.5"), cores("2")), (Ok(500), Ok(2000)));
        assert!(cores("-1").is_err() && cores("NaN").is_err() && cores("two").is_err());
    }

    #[test]
    fn ports_in_both_of_dockers_forms() {
        let on_node =
            |target, published, protocol| Ok(Published::Host(PortSpec { target, published, protocol }));
        assert_eq!(port("80"), on_node(80, 0, Protocol::Tcp));
        assert_eq!(port("8080:80/udp"), on_node(80, 8080, Protocol::Udp));
        assert_eq!(port("published=8080,target=80,mode=host"), on_node(80, 8080, Protocol::Tcp));
        assert_eq!(port("8080:80"), Ok(Published::Ingress(ingress(8080, 80))));
        let http = HttpPort {
            hosts: vec!["a.example".into()],
            path: "/b".into(),
            sticky: true,
            ..HttpPort::default()
        };
        let expected = IngressPort { http: Some(http), ..ingress(80, 8080) };
        let long = "published=80,target=8080,http,host=a.example,path=/b,sticky";
        assert_eq!(port(long), Ok(Published::Ingress(expected)));
        for text in
            ["0", "70000", "a:80", "80/sctp", "published=1", "target=80,http", "0:80", "target=80,x=1"]
        {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_is_a_prefix_and_reads_back_from_what_is_written() {
        for (text, networks) in
            [("10.64.0.0/10", 64), ("172.16.0.0/12", 16), ("192.168.0.0/16", 1), ("10.0.0.0/8", 256)]
        {
            let read = pool(text).unwrap();
            assert_eq!((read.networks, read.to_string().as_str()), (networks, text));
        }
        for text in
            ["10.64.0.0", "10.64.0.0/17", "10.0.0.0/7", "10.64.0.1/10", "10.65.0.0/10", "a/10", "10.0.0.0/x"]
        {
            assert!(pool(text).is_err(), "{text}");
        }
        let odd = AddressPool { base: Ipv4Addr::new(10, 128, 0, 0), networks: 3 };
        assert_eq!(odd.to_string(), "10.128.0.0 to 10.130.255.255");
    }

    #[test]
    fn a_share_of_requests_reads_back_from_what_is_written() {
        for (text, every) in [("off", 0), ("all", 1), ("1/100", 100)] {
            assert_eq!((share(text), share_text(every)), (Ok(every), text.to_owned()));
        }
        for text in ["", "on", "0", "1/0", "2/3", "1/", "1/-1", "1/99999999999"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_that_is_given_takes_the_place_of_the_one_that_is_not() {
        let masks = |text: &str| match port(&format!("published=80,target=80,{text}")) {
            Ok(Published::Ingress(port)) => port.http.map(|http| (http.log, http.log_mask)),
            _ => None,
        };
        let given = |log, masks: &[&str]| Some((log, masks.iter().map(|mask| (*mask).to_owned()).collect()));
        assert_eq!(masks("log=1/10"), given(10, &["rest/*"]));
        assert_eq!(masks("log=all,log-mask=a/*,log-mask=/b/*"), given(1, &["a/*", "/b/*"]));
        assert_eq!(masks("log=all,log-mask="), given(1, &[]));
    }

    #[test]
    fn mounts_in_dockers_words() {
        let bind = mount("type=bind,src=/a,dst=/b,ro").unwrap();
        let expected = Mount { source: MountSource::Bind("/a".into()), target: "/b".into(), read_only: true };
        assert_eq!(bind, expected);
        assert_eq!(mount("source=data,target=/d").unwrap().source, MountSource::Volume("data".into()));
        let memory = MountSource::Tmpfs { size: 64 << 20, mode: 0o1777 };
        assert_eq!(mount("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777").unwrap().source, memory);
        assert_eq!(tmpfs("/t:size=64m,mode=1777").unwrap().source, memory);
        for text in
            ["type=bind,dst=/b", "type=bind,src=/a", "type=npipe,src=a,dst=b", "src=a,dst=b,colour=red"]
        {
            assert!(mount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_mounted_by_its_name_or_in_dockers_words() {
        assert_eq!(file("db").unwrap().name, "db");
        let whole = file("source=db,target=/etc/db,uid=1000,gid=0,mode=0400").unwrap();
        assert_eq!(
            whole,
            FileMount {
                name: "db".into(),
                version: None,
                target: Some("/etc/db".into()),
                uid: Some(1000),
                gid: Some(0),
                mode: Some(model::item::FileMode(0o400)),
            }
        );
        assert_eq!(file("db,mode=0440").unwrap().mode, Some(model::item::FileMode(0o440)));
        for text in ["", "target=/x", "db,uid=root", "db,mode=999", "db,colour=red", "db,other"] {
            assert!(file(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let split = |text| words(text).unwrap();
        assert_eq!(split(r#"java -jar 'my app.jar' "" a\ b"#), ["java", "-jar", "my app.jar", "", "a b"]);
        assert!(split("  ").is_empty());
        assert!(words("say 'hello").is_err());
        let limit = ulimit("nofile=1024:unlimited").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, -1));
    }
}
