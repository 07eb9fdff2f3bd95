//! The host's resolvers, as its `resolv.conf` names them at the moment.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// More than the C library asks are not asked.
const MOST: usize = 3;

/// The list, read anew when the file has changed.
#[derive(Debug)]
pub struct Resolvers {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, Vec<IpAddr>)>,
}

impl Resolvers {
    /// Those of a file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::default() }
    }

    /// The list now.
    pub fn list(&self) -> Vec<IpAddr> {
        let written = fs::metadata(&self.path).and_then(|about| about.modified()).ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_none() || written != read.0 {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            *read = (written, parse(&text));
        }
        read.1.clone()
    }
}

/// A stub on loopback only stands for others: it is asked when there are no others.
fn parse(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()).flatten()?.parse().ok()
    });
    let (stubs, others): (Vec<IpAddr>, Vec<IpAddr>) = named.partition(IpAddr::is_loopback);
    let mut list = if others.is_empty() { stubs } else { others };
    list.truncate(MOST);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_asked_only_when_there_is_nobody_else() {
        let check = |text: &str| parse(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        let both = "# mine\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\nnameserver ::x\n";
        assert_eq!(check(both), ["192.0.2.1"]);
        assert_eq!(check("search example.org\nnameserver 127.0.0.53\n"), ["127.0.0.53"]);
        assert_eq!(check(""), [""; 0]);
    }
}
