//! A `Disk` in memory that is exact about what a power cut keeps, and fails on request. Deterministic: all choices
//! come from the seed of `crash`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block::mix;
use crate::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// One write that has not been synced.
#[derive(Clone)]
struct Pending {
    offset: usize,
    data: Vec<u8>,
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Counts open handles: an unlinked file lives as long as one is open.
    handles: Arc<()>,
}

/// One change of the directory that has not been synced.
#[derive(Clone)]
enum DirChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String, u64),
}

#[derive(Clone, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<DirChange>,
    next_inode: u64,
    /// Counts crashes: a handle from before one is dead.
    epoch: u64,
    locked: bool,
    capacity: Option<u64>,
    changes: u64,
    syncs: u64,
    stop_after: Option<u64>,
    fail_next_sync: bool,
    fail_next_write: Option<usize>,
}

/// A disk in memory, shared by its clones.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

struct MemFile {
    disk: MemDisk,
    inode: u64,
    epoch: u64,
    _handle: Arc<()>,
}

impl MemDisk {
    /// Returns an empty disk without a capacity limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power. Synced data stays; of everything else, the seed decides sector by sector (and for a few sectors
    /// byte by byte) what had arrived. Handles from before are dead and the lock is free.
    pub fn crash(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mode = dice.roll(4);
        self.settle(dice, mode);
    }

    /// Cuts the power at the worst moment: nothing that was not synced has arrived.
    pub fn crash_to_synced(&self) {
        self.settle(Dice(0), 0);
    }

    fn settle(&self, mut dice: Dice, mode: u64) {
        let mut state = self.lock();
        state.settle_names(&mut dice, mode);
        let State { inodes, names, .. } = &mut *state;
        inodes.retain(|inode, _| names.values().any(|named| named == inode));
        inodes.values_mut().for_each(|inode| inode.settle(&mut dice, mode));
        state.restart();
    }

    /// Ends the process without cutting the power: handles are dead and the lock is free, but the page cache stays.
    pub fn kill(&self) {
        self.lock().restart();
    }

    /// Returns a copy that shares nothing with this disk.
    pub fn fork(&self) -> Self {
        let mut state = self.lock().clone();
        state.inodes.values_mut().for_each(|inode| inode.handles = Arc::default());
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Makes the next file sync fail. As with Linux, the data that it should have written counts as clean from then on
    /// and reaches the disk only if it is written again.
    pub fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// Makes the next write fail after `written` bytes of it.
    pub fn fail_next_write(&self, written: usize) {
        self.lock().fail_next_write = Some(written);
    }

    /// Lets this many more changes (writes, syncs, creates, renames, removals) succeed, and none after that.
    pub fn stop_after(&self, changes: u64) {
        let mut state = self.lock();
        state.stop_after = Some(state.changes + changes);
    }

    /// Limits the sum of all file lengths; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Returns the sum of all file lengths.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// Returns how many changes there have been.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Returns how many file syncs there have been.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Flips one bit of a file, on the medium. `false` when it has no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        self.edit(name, |bytes| match bytes.get_mut((bit / 8) as usize) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        })
        .unwrap_or(false)
    }

    /// Returns the contents of a file as a reader sees them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(name)?;
        Some(state.inodes[inode].current.clone())
    }

    /// Replaces the contents of a file, on the medium.
    pub fn set_contents(&self, name: &str, contents: Vec<u8>) -> bool {
        self.edit(name, |bytes| *bytes = contents).is_some()
    }

    fn edit<T>(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let mut state = self.lock();
        let inode = *state.names.get(name)?;
        let inode = state.inodes.get_mut(&inode)?;
        let result = change(&mut inode.current);
        inode.durable = inode.current.clone();
        inode.pending.clear();
        Some(result)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, state: &State, inode: u64) -> Arc<dyn DiskFile> {
        let handle = state.inodes[&inode].handles.clone();
        Arc::new(MemFile { disk: self.clone(), inode, epoch: state.epoch, _handle: handle })
    }
}

impl State {
    fn restart(&mut self) {
        self.epoch += 1;
        self.locked = false;
        self.stop_after = None;
        self.fail_next_sync = false;
        self.fail_next_write = None;
    }

    fn count_change(&mut self) -> io::Result<()> {
        if self.stop_after.is_some_and(|limit| self.changes >= limit) {
            return Err(io::Error::other("the disk has stopped"));
        }
        self.changes += 1;
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].current.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used()))
    }

    fn settle_names(&mut self, dice: &mut Dice, mode: u64) {
        let mut names = self.durable_names.clone();
        for change in std::mem::take(&mut self.pending_names) {
            if !dice.keeps(mode) {
                continue;
            }
            match change {
                DirChange::Link(name, inode) => {
                    names.insert(name, inode);
                }
                DirChange::Unlink(name) => {
                    names.remove(&name);
                }
                DirChange::Rename(from, to, inode) => {
                    names.remove(&from);
                    names.insert(to, inode);
                }
            }
        }
        self.names = names.clone();
        self.durable_names = names;
    }
}

impl Inode {
    fn settle(&mut self, dice: &mut Dice, mode: u64) {
        for write in std::mem::take(&mut self.pending) {
            let mut at = 0;
            while at < write.data.len() {
                let offset = write.offset + at;
                let end = (at + SECTOR - offset % SECTOR).min(write.data.len());
                let piece = &write.data[at..end];
                if dice.keeps(mode) {
                    put(&mut self.durable, offset, piece);
                } else if mode == 3 && dice.roll(4) == 0 {
                    let cut = dice.roll(piece.len() as u64 + 1) as usize;
                    match dice.roll(2) {
                        0 => put(&mut self.durable, offset, &piece[..cut]),
                        _ => put(&mut self.durable, offset + cut, &piece[cut..]),
                    }
                }
                at = end;
            }
        }
        self.current = self.durable.clone();
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

/// A small seeded source of choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % sides
    }

    /// Mode 0 loses everything, 1 keeps everything, 2 and 3 choose.
    fn keeps(&mut self, mode: u64) -> bool {
        match mode {
            0 => false,
            1 => true,
            _ => self.roll(2) == 0,
        }
    }
}

impl Disk for MemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.count_change()?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(name.to_owned(), inode);
        state.pending_names.push(DirChange::Link(name.to_owned(), inode));
        Ok(self.file(&state, inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        let inode = state.names.get(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(self.file(&state, *inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.count_change()?;
        state.names.remove(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.pending_names.push(DirChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.count_change()?;
        let inode = state.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.names.insert(to.to_owned(), inode);
        state.pending_names.push(DirChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.count_change()?;
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        let State { inodes, names, .. } = &mut *state;
        inodes.retain(|number, inode| {
            Arc::strong_count(&inode.handles) > 1 || names.values().any(|named| named == number)
        });
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(!std::mem::replace(&mut self.lock().locked, true))
    }

    fn unlock(&self) {
        self.lock().locked = false;
    }
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the handle is from before a crash"));
        }
        act(&mut state)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|state| {
            let bytes = &state.inode(self.inode)?.current;
            let start = (offset as usize).min(bytes.len());
            let count = buffer.len().min(bytes.len() - start);
            buffer[..count].copy_from_slice(&bytes[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|state| {
            state.count_change()?;
            let free = state.free();
            let failing = state.fail_next_write.take();
            let inode = state.inode(self.inode)?;
            let offset = offset as usize;
            let room = inode.current.len() as u64 + free;
            let fits = (room.saturating_sub(offset as u64)).min(data.len() as u64) as usize;
            let written = &data[..failing.unwrap_or(fits).min(fits)];
            put(&mut inode.current, offset, written);
            inode.pending.push(Pending { offset, data: written.to_vec() });
            match failing {
                Some(_) => Err(io::Error::other("a write has failed")),
                None if fits < data.len() => Err(io::Error::from(io::ErrorKind::StorageFull)),
                None => Ok(()),
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            state.count_change()?;
            state.syncs += 1;
            let failing = std::mem::take(&mut state.fail_next_sync);
            let inode = state.inode(self.inode)?;
            let pending = std::mem::take(&mut inode.pending);
            if failing {
                return Err(io::Error::other("a sync has failed"));
            }
            for write in pending {
                put(&mut inode.durable, write.offset, &write.data);
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.inode(self.inode)?.current.len() as u64))
    }
}

impl State {
    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}
