//! Published ports with certificates.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use model::route::{HttpPort, IngressPort, TlsFiles};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tests::wait;

use super::backend::Backend;
use super::stage::{Authority, LIMIT, Mesh, config, free_port, http};

/// What a client finds behind a port.
struct Found {
    certificate: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
    answer: String,
}

fn ask(authority: &Authority, port: u16, offered: &[&str]) -> anyhow::Result<Found> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("orch-manager")?)?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"GET /head HTTP/1.1\r\nHost: orch-manager\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // The end of the connection may come without a farewell.
    drop(stream.read_to_end(&mut answer));
    let certificate = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    Ok(Found { certificate, protocol, answer: String::from_utf8_lossy(&answer).into_owned() })
}

fn write(dir: &Path, (certificate, key): &(String, String)) -> TlsFiles {
    let (certificate_file, key_file) = (dir.join("host.pem"), dir.join("host.key"));
    std::fs::write(&certificate_file, certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    TlsFiles {
        certificate: certificate_file.to_str().unwrap().to_owned(),
        key: key_file.to_str().unwrap().to_owned(),
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_port_speaks_tls_with_the_certificate_of_the_moment() {
    let authority = Authority::found();
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    let first = authority.host(1);
    let files = write(mesh.dir.path(), &first);
    let settings = HttpPort { tls: Some(files), sticky: true, ..HttpPort::default() };
    let published = IngressPort { http: Some(settings), ..http(port, target) };
    mesh.serve(&config(published.clone(), &[1]));
    let found = ask(&authority, port, &["http/1.1"]).unwrap();
    assert!(found.answer.starts_with("HTTP/1.1 200"), "{}", found.answer);
    assert!(found.answer.to_lowercase().contains("x-forwarded-proto: https"), "{}", found.answer);
    assert!(found.answer.contains("; Secure"), "{}", found.answer);
    assert_eq!(found.certificate, der(&first.0));
    let modern = ask(&authority, port, &["h2", "http/1.1"]).unwrap();
    assert_eq!(modern.protocol.as_deref(), Some(b"h2".as_slice()));

    // What cannot be read changes nothing but what is said.
    std::fs::write(mesh.dir.path().join("host.pem"), "no certificate").unwrap();
    let problems = mesh.configure(&config(published.clone(), &[1]));
    assert!(problems.len() == 1 && problems[0].contains("host.pem"), "{problems:?}");
    assert_eq!(ask(&authority, port, &["http/1.1"]).unwrap().certificate, der(&first.0));

    let second = authority.host(2);
    write(mesh.dir.path(), &second);
    wait::until_true("the new certificate", LIMIT, || {
        ask(&authority, port, &["http/1.1"]).is_ok_and(|found| found.certificate == der(&second.0))
    })
    .unwrap();
    mesh.serve(&config(published, &[1]));
}
