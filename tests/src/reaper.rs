//! Somebody who ends the daemons of a test process that was killed. A destructor runs when a test fails, not when it
//! gets SIGKILL or a person's Ctrl-C; then a small shell, in a session of its own, sees its pipe close and ends what is
//! left. It compares start times first: a pid that was given to another program in between is left alone.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Reads lines of "PID START", START as in /proc/PID/stat.
const SCRIPT: &str = r#"
list=
while read -r pid born; do list="$list $pid:$born"; done
for entry in $list; do
  stat=$(cat "/proc/${entry%:*}/stat" 2>/dev/null) || continue
  set -- ${stat##*) }
  shift 19
  if [ "$1" = "${entry#*:}" ]; then kill -9 "${entry%:*}" 2>/dev/null; fi
done
"#;

/// Has `pid` ended when this process ends, however it ends. Without a shell nothing is lost but this courtesy.
pub fn entrust(pid: i32) {
    static PIPE: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    let Some(pipe) = PIPE.get_or_init(start) else { return };
    let Some(born) = start_time(pid) else { return };
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    drop(pipe.write_all(format!("{pid} {born}\n").as_bytes()));
}

fn start() -> Option<Mutex<ChildStdin>> {
    let mut shell = Command::new("setsid");
    shell.args(["sh", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().ok()?.stdin.take().map(Mutex::new)
}

/// When the kernel started a process, in its own ticks: the 20th field after the name, which may hold anything.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()
}
