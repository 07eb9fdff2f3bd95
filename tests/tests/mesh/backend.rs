//! A replica: a small HTTP server on a loopback address that can be slow, break off, or die with all its connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::stage::address_of;

/// A running replica; dies when it is dropped.
pub struct Backend {
    state: Arc<State>,
    address: SocketAddr,
}

struct State {
    name: String,
    dead: AtomicBool,
    requests: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    /// Requests for `/held` wait until this is set.
    released: Mutex<bool>,
    changed: Condvar,
}

/// A request as it arrived.
pub struct Arrived {
    pub method: String,
    pub target: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Backend {
    /// The replica of a task, on that port of the task's address.
    pub fn start(task: u64, port: u16) -> Self {
        let address = SocketAddr::from((address_of(task), port));
        let listener = TcpListener::bind(address).unwrap();
        let state = Arc::new(State {
            name: format!("task {task}"),
            dead: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            open: Mutex::default(),
            released: Mutex::new(false),
            changed: Condvar::new(),
        });
        let serving = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.dead.load(Ordering::SeqCst) {
                    return;
                }
                serving.open.lock().unwrap().push(stream.try_clone().unwrap());
                let serving = serving.clone();
                thread::spawn(move || serve(&serving, stream));
            }
        });
        Self { state, address }
    }

    /// How many requests it has had.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.state.open.lock().unwrap().len()
    }

    /// Lets requests for `/held` go on.
    pub fn release(&self) {
        *self.state.released.lock().unwrap() = true;
        self.state.changed.notify_all();
    }

    /// Ends like a process that is killed: no listener, no connection.
    pub fn kill(&self) {
        if self.state.dead.swap(true, Ordering::SeqCst) {
            return;
        }
        // The listener is closed by its own thread, which this wakes.
        drop(TcpStream::connect(self.address));
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
        for stream in self.state.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.release();
        self.kill();
    }
}

fn serve(state: &State, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        state.requests.fetch_add(1, Ordering::SeqCst);
        if !answer(state, &request, &stream, &mut reader) {
            break;
        }
    }
    drop(stream.shutdown(Shutdown::Both));
}

/// Answers; whether the connection goes on.
fn answer(
    state: &State,
    request: &Arrived,
    mut stream: &TcpStream,
    reader: &mut BufReader<TcpStream>,
) -> bool {
    let path = request.target.split('?').next().unwrap_or_default();
    let body = match path {
        "/break" => return false,
        "/never" => {
            state.hold();
            return false;
        }
        "/held" => {
            state.hold();
            state.name.clone().into_bytes()
        }
        "/head" => request.head.clone().into_bytes(),
        "/length" => request.body.len().to_string().into_bytes(),
        "/session" => {
            let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: JSESSIONID=1.a; Path=/\r\nContent-Length: 0\r\n\r\n";
            return stream.write_all(answer.as_bytes()).is_ok();
        }
        "/socket" => {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if stream.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            return false;
        }
        _ => state.name.clone().into_bytes(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let is_head = request.method == "HEAD";
    stream.write_all(&[head.as_bytes(), if is_head { b"" } else { &body }].concat()).is_ok()
}

impl State {
    fn hold(&self) {
        let mut released = self.released.lock().unwrap();
        while !*released {
            released = self.changed.wait(released).unwrap();
        }
    }
}

/// Reads a request with its body, of a known length or in chunks; `None` at the end.
pub fn read(reader: &mut BufReader<impl Read>) -> Option<Arrived> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    if lower.contains("\r\ntransfer-encoding: chunked") {
        body = read_chunks(reader)?;
    }
    let mut words = head.split(' ').map(str::to_owned);
    Some(Arrived { method: words.next()?, target: words.next()?, head, body })
}

fn read_chunks(reader: &mut BufReader<impl Read>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(all);
        }
        all.extend(&chunk[..length]);
    }
}
