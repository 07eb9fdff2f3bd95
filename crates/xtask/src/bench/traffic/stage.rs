//! Three hosts, two replicas, and what stands between them and the clients.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh::control::{LocalTask, MeshConfig};
use model::{
    id::{NodeId, ServiceId, TaskId},
    route::{Endpoint, HttpPort, IngressPort, RouteTable, ServiceRoute},
};
use tests::{
    binaries::Binaries,
    command::run,
    hosts::{Host, Lab, Plan},
    mesh::{Agent, Authority},
    process::Process,
    wait,
};

use crate::usage;

/// What each proxy listens on, and the replicas.
const HTTP: u16 = 8_000;
const BULK: u16 = 9_000;
const LIMIT: Duration = Duration::from_secs(20);
/// What a host of servers has: ports enough for as many connections as a round makes.
const SETTINGS: &str = "
    echo '1024 65535' > /proc/sys/net/ipv4/ip_local_port_range
    echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse
    echo 262144 > /proc/sys/net/ipv4/tcp_max_tw_buckets
    echo 8192 > /proc/sys/net/core/somaxconn";

/// How clients reach a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing is between.
    Direct,
    /// Network address translation.
    Kernel,
    /// Ours, request by request.
    MeshHttp,
    /// Ours, connection by connection.
    MeshTcp,
    /// The same, for bulk.
    MeshBulk,
    /// HAProxy, request by request.
    HaproxyHttp,
    /// HAProxy, connection by connection.
    HaproxyTcp,
    /// The same, for bulk.
    HaproxyBulk,
    /// nginx, request by request.
    Nginx,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Kernel => "kernel",
            Self::MeshHttp | Self::MeshTcp | Self::MeshBulk => "mesh",
            Self::HaproxyHttp | Self::HaproxyTcp | Self::HaproxyBulk => "HAProxy",
            Self::Nginx => "nginx",
        })
    }
}

impl Way {
    fn port(self) -> u16 {
        match self {
            Self::Direct => HTTP,
            Self::Kernel => BULK,
            Self::MeshHttp => 8_001,
            Self::MeshTcp => 8_002,
            Self::MeshBulk => 8_003,
            Self::HaproxyHttp => 8_011,
            Self::HaproxyTcp => 8_012,
            Self::HaproxyBulk => 8_013,
            Self::Nginx => 8_021,
        }
    }
}

/// Hosts and everything on them but the mesh.
pub struct Stage {
    // Order matters: processes end before their hosts go.
    haproxy: Process,
    nginx: Process,
    _replicas: Process,
    lab: Lab,
}

/// A running mesh process.
pub struct Mesh {
    process: Process,
    _agent: Agent,
}

impl Stage {
    /// Sets all of it up.
    ///
    /// # Errors
    /// Something does not start.
    pub fn set() -> Result<Self> {
        let lab = Lab::with(Plan { hosts: 3, engines: 0 })?;
        for host in lab.hosts() {
            run(host.command("sh").args(["-c", SETTINGS]))?;
        }
        let second = format!("{}/24", replicas(&lab)[1]);
        run(lab.host(2).command("ip").args(["addr", "add", &second, "dev", "eth0"]))?;
        let replicas = start(&lab, 2, "nginx", "replicas", &replicas_config())?;
        let nginx = start(&lab, 1, "nginx", "nginx", &nginx_config(&lab))?;
        let haproxy = start(&lab, 1, "haproxy", "haproxy", &haproxy_config(&lab))?;
        let stage = Self { haproxy, nginx, _replicas: replicas, lab };
        for way in [Way::Direct, Way::HaproxyHttp, Way::HaproxyTcp, Way::Nginx] {
            let answers =
                || stage.clients().get(stage.address(way), "/").is_ok_and(|answer| answer.status == 200);
            let words = || format!("{}\n{}", stage.haproxy.log_text(), stage.nginx.log_text());
            wait::until_true(&format!("{way:?} to answer"), LIMIT, answers).with_context(words)?;
        }
        Ok(stage)
    }

    /// Starts the mesh and waits until it answers. One at a time.
    ///
    /// # Errors
    /// It does not.
    pub fn mesh(&self) -> Result<Mesh> {
        let directory = self.lab.host(1).disk().join("mesh");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        Authority::found()?.enrol(&directory, NodeId(1))?;
        let mut command = self.lab.host(1).command(Binaries::release()?.agent);
        command
            .arg("mesh")
            .arg("--dir")
            .arg(&directory)
            .arg("--resolv-conf")
            .arg(directory.join("resolv.conf"));
        let process = self.lab.host(1).spawn("mesh", command)?;
        let mut agent = Agent::connect(&directory, LIMIT)?;
        let problems = agent.configure(&config(&self.lab))?;
        ensure!(problems.is_empty(), "the mesh: {problems:?}");
        Ok(Mesh { process, _agent: agent })
    }

    /// Where clients are.
    pub fn clients(&self) -> &Host {
        self.lab.host(0)
    }

    /// Where replicas are.
    pub fn servers(&self) -> &Host {
        self.lab.host(2)
    }

    /// Where bulk comes from.
    pub fn source(&self) -> SocketAddr {
        (self.servers().address(), BULK).into()
    }

    /// Whom clients ask.
    pub fn address(&self, way: Way) -> SocketAddr {
        let host = if way == Way::Direct { 2 } else { 1 };
        (self.lab.host(host).address(), way.port()).into()
    }

    /// Seconds of CPU that the processes of a way have had.
    ///
    /// # Errors
    /// They are gone.
    pub fn cpu(&self, mesh: &Mesh, way: Way) -> Result<f64> {
        let process = match way {
            Way::Direct | Way::Kernel => return Ok(0.0),
            Way::MeshHttp | Way::MeshTcp | Way::MeshBulk => &mesh.process,
            Way::HaproxyHttp | Way::HaproxyTcp | Way::HaproxyBulk => &self.haproxy,
            Way::Nginx => &self.nginx,
        };
        let pid = process.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        [pid].into_iter().chain(children).map(usage::cpu_of).sum()
    }

    /// Forwards by the kernel while `work` runs. It tracks connections then, which would cost the others as well.
    ///
    /// # Errors
    /// The kernel has no nftables, or `work` fails.
    pub fn forwarding<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let rules = format!(
            "table ip bench {{
                chain there {{ type nat hook prerouting priority dstnat; tcp dport {BULK} dnat to {}; }}
                chain back {{ type nat hook postrouting priority srcnat; tcp dport {BULK} masquerade; }}
            }}",
            self.source()
        );
        let nft = |rules: &str| run(self.lab.host(1).command("nft").arg(rules));
        nft(&rules)?;
        let done = work();
        nft("delete table ip bench")?;
        done
    }
}

impl Mesh {
    /// Bytes resident.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> Result<f64> {
        usage::memory_of(self.process.pid())
    }
}

fn replicas(lab: &Lab) -> [Ipv4Addr; 2] {
    let first = lab.host(2).address();
    let [a, b, c, d] = first.octets();
    [first, Ipv4Addr::new(a, b, c, d + 100)]
}

fn start(lab: &Lab, host: usize, program: &str, name: &str, config: &str) -> Result<Process> {
    let host = lab.host(host);
    let path: PathBuf = host.disk().join(format!("{name}.conf"));
    std::fs::write(&path, config).with_context(|| path.display().to_string())?;
    let mut command = host.command(program);
    match program {
        "nginx" => command.arg("-p").arg(host.disk()).arg("-e").arg("/dev/stderr").arg("-c").arg(&path),
        _ => command.arg("-db").arg("-f").arg(&path),
    };
    host.spawn(name, command)
}

const NGINX: &str = "
user root;
daemon off;
pid nginx-NAME.pid;
error_log stderr error;
worker_rlimit_nofile 20000;
events { worker_connections 8192; }
";

fn replicas_config() -> String {
    let body = "x".repeat(200);
    format!(
        "{}worker_processes 1;
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    server {{
        listen {HTTP} backlog=8192;
        location / {{ return 200 '{body}'; }}
    }}
}}",
        NGINX.replace("NAME", "replicas")
    )
}

fn nginx_config(lab: &Lab) -> String {
    let servers = replicas(lab).map(|address| format!("server {address}:{HTTP};")).join(" ");
    format!(
        "{}worker_processes 2;
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    upstream replicas {{ least_conn; {servers} keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen {} backlog=8192;
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}",
        NGINX.replace("NAME", "proxy"),
        Way::Nginx.port()
    )
}

fn haproxy_config(lab: &Lab) -> String {
    let servers = |port: u16| {
        let [first, second] = replicas(lab);
        format!("    server one {first}:{port}\n    server two {second}:{port}\n")
    };
    format!(
        "global
    nbthread 2
    maxconn 4000
defaults
    timeout connect 1s
    timeout client 600s
    timeout server 600s
    balance leastconn
listen http
    mode http
    bind :{} backlog 8192
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-reuse always
{}listen tcp
    mode tcp
    bind :{} backlog 8192
{}listen bulk
    mode tcp
    bind :{}
    option splice-auto
{}",
        Way::HaproxyHttp.port(),
        servers(HTTP),
        Way::HaproxyTcp.port(),
        servers(HTTP),
        Way::HaproxyBulk.port(),
        format_args!("    server one {}:{BULK}\n", replicas(lab)[0]),
    )
}

/// One service for requests with both replicas, and one for bulk with the first.
fn config(lab: &Lab) -> MeshConfig {
    let port =
        |way: Way, target, http| IngressPort { published: way.port(), target, http, proxy_protocol: false };
    let service = |id: u64, tasks: &[u64], ports| ServiceRoute {
        service: ServiceId(id),
        name: format!("bench{id}"),
        addresses: Vec::new(),
        ports,
        endpoints: tasks
            .iter()
            .map(|task| Endpoint { task: TaskId(*task), node: NodeId(1), addresses: Vec::new() })
            .collect(),
    };
    let requests = vec![port(Way::MeshHttp, HTTP, Some(HttpPort::default())), port(Way::MeshTcp, HTTP, None)];
    let services =
        vec![service(1, &[1, 2], requests), service(2, &[3], vec![port(Way::MeshBulk, BULK, None)])];
    let [first, second] = replicas(lab);
    let local = |(task, address)| LocalTask { task: TaskId(task), address };
    MeshConfig {
        table: RouteTable { ingress: true, services, ..RouteTable::default() },
        locals: [(1, first), (2, second), (3, first)].map(local).into(),
        listen: None,
    }
}
