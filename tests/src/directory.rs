//! A real directory (Debian's slapd) on loopback: people with passwords, groups, TLS of an authority that nobody knows.
//!
//! ```no_run
//! let directory = tests::directory::Directory::start(&std::env::temp_dir())?;
//! directory.person("ann", "secret")?;
//! directory.group("mx", &["ann"])?;
//! println!("{} {}", directory.ldaps(), directory.authority().display());
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! It takes passwords over TLS only: a client that sends one in clear is refused by it, too.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::run;
use crate::packages;
use crate::process::{Process, tail};
use crate::wait;

/// It starts within a second on an idle machine.
const START: Duration = Duration::from_secs(30);
/// Who may change everything, and that one's password.
const ROOT: (&str, &str) = ("cn=root,dc=example", "root-secret");
/// Who may search people and groups.
pub const ACCOUNT: (&str, &str) = ("cn=orch,dc=example", "orch-canary-account");

/// A directory. It ends with this value.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    ports: [u16; 2],
    process: Process,
}

impl Directory {
    /// Starts one whose files are in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// A package cannot be installed, or it does not come up; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<Directory> {
        packages::ensure(&packages::DIRECTORY)?;
        let dir = dir.join("directory");
        fs::create_dir_all(dir.join("data"))?;
        crate::registry::certify(&dir, Ipv4Addr::LOCALHOST)?;
        let config = dir.join("slapd.conf");
        fs::write(&config, configuration(&dir))?;
        let ports = free_ports()?;
        let urls =
            format!("ldaps://127.0.0.1:{}/ ldap://127.0.0.1:{}/ {}", ports[0], ports[1], socket_url(&dir));
        let mut command = Command::new("/usr/sbin/slapd");
        command.args(["-d", "stats", "-f"]).arg(&config).args(["-h", &urls]);
        let process = Process::spawn("slapd", &dir, command)?;
        let directory = Directory { dir, ports, process };
        let listens = || {
            let up = ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok());
            up.then_some(true).or_else(|| directory.process.exited().map(|_| false))
        };
        let up = wait::until("slapd to listen", START, listens)?;
        ensure!(up, "slapd does not come up:\n{}", tail(&directory.log_text(), 20));
        directory.found()?;
        Ok(directory)
    }

    /// Its address with TLS from the first byte.
    pub fn ldaps(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ports[0])
    }

    /// Its address without.
    pub fn ldap(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ports[1])
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// What it wrote: who logged in, what was searched.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Adds a person under `ou=people,dc=example`.
    ///
    /// # Errors
    /// It is there already.
    pub fn person(&self, name: &str, password: &str) -> Result<()> {
        self.change(&format!(
            "dn: uid={name},ou=people,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n\
             userPassword: {password}\n"
        ))
    }

    /// Adds a group under `ou=groups,dc=example`.
    ///
    /// # Errors
    /// It is there already.
    pub fn group(&self, name: &str, members: &[&str]) -> Result<()> {
        let members: String = members.iter().map(|name| format!("member: {}\n", entry(name))).collect();
        self.change(&format!(
            "dn: cn={name},ou=groups,dc=example\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\n\
             member: cn=root,dc=example\n{members}"
        ))
    }

    /// Takes a person out of a group.
    ///
    /// # Errors
    /// It is not in there.
    pub fn leave(&self, group: &str, name: &str) -> Result<()> {
        self.change(&format!(
            "dn: cn={group},ou=groups,dc=example\nchangetype: modify\ndelete: member\nmember: {}\n",
            entry(name)
        ))
    }

    fn found(&self) -> Result<()> {
        let (account, password) = ACCOUNT;
        self.change(&format!(
            "dn: dc=example\nchangetype: add\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n\
             dn: ou=people,dc=example\nchangetype: add\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: ou=groups,dc=example\nchangetype: add\nobjectClass: organizationalUnit\nou: groups\n\n\
             dn: {account}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: orch\n\
             userPassword: {password}\n"
        ))
    }

    fn change(&self, ldif: &str) -> Result<()> {
        let file = self.dir.join("change.ldif");
        fs::write(&file, ldif)?;
        let mut command = Command::new("ldapmodify");
        command.args(["-x", "-H", &socket_url(&self.dir), "-D", ROOT.0, "-w", ROOT.1, "-f"]).arg(&file);
        run(command.stdin(Stdio::null())).map(drop).with_context(|| ldif.to_owned())
    }
}

/// A person's entry.
pub fn entry(name: &str) -> String {
    format!("uid={name},ou=people,dc=example")
}

fn socket_url(dir: &Path) -> String {
    format!("ldapi://{}", dir.join("socket").display().to_string().replace('/', "%2F"))
}

fn free_ports() -> Result<[u16; 2]> {
    // Both at once, or they could be the same.
    let open = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; 2];
    for (port, listener) in ports.iter_mut().zip(open) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn configuration(dir: &Path) -> String {
    let (root, password) = ROOT;
    let dir = dir.display();
    format!(
        "include /etc/ldap/schema/core.schema\n\
         include /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\n\
         moduleload back_mdb\n\
         moduleload memberof\n\
         pidfile {dir}/pid\n\
         TLSCertificateFile {dir}/certificate.pem\n\
         TLSCertificateKeyFile {dir}/key.pem\n\
         security simple_bind=64\n\
         database mdb\n\
         suffix dc=example\n\
         rootdn {root}\n\
         rootpw {password}\n\
         directory {dir}/data\n\
         overlay memberof\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to * by users read by anonymous auth\n"
    )
}
