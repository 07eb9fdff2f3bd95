//! Opening: read everything, refuse what is wrong, only then write.
//!
//! Before the log vouches for what it read, it makes sure that the disk holds it. A process that was killed between a
//! write and its sync leaves data in the page cache; and after a *failed* sync the kernel may keep data there, marked
//! clean, that never reached the disk. So the last batch and the segment's header are written again, synced, and only
//! then covered by the extent record.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::Options;
use crate::batch::Recovered;
use crate::block::BLOCK;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::poison::Poison;
use crate::record::chain_start;
use crate::scan::{ActiveScan, Scan, SegmentInfo, scan};
use crate::segment::{DATA_BLOCK, Extent, MIN_SEGMENT, SegmentHeader, file_name};
use crate::space::Room;
use crate::wal::{Active, Lock, Wal};

impl Wal {
    /// Opens the log of a data directory, or creates it.
    ///
    /// # Errors
    /// See [`OpenError`]; until the directory has been read and found right, nothing is written to it.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        assert!(options.segment_bytes >= MIN_SEGMENT, "a segment has at least {MIN_SEGMENT} bytes");
        let lock = lock(&disk)?;
        let mut found = scan(&*disk)?;
        if found.active.is_none() && !options.create {
            return Err(OpenError::Missing);
        }
        let mut room = Room::new(disk.clone(), &options, found.reserve);
        let spare = tidy(&*disk, &mut found, &room).map_err(OpenError::io("tidy", "the data directory"))?;
        if let Some(number) = spare {
            room.adopt(number).map_err(OpenError::io("open", &file_name(number)))?;
        }
        let active = match found.active.take() {
            Some(active) => resume(&*disk, &found, &active).map_err(OpenError::io("repair", "the log"))?,
            None => create(&mut room, &mut found, options.log_id)?,
        };
        let recovered = Recovered {
            hard_state: found.state.hard_state.clone(),
            snapshot: found.state.snapshot.map(|mark| mark.meta),
            entries: found.entries,
            truncated_tail: active.1,
        };
        let wal = Self {
            disk,
            poison: Poison::default(),
            log_id: found.log_id,
            segments: VecDeque::from(found.segments),
            active: active.0,
            room,
            state: found.state,
            seq: found.seq,
            chain: found.chain,
            unsealed: None,
            deferred: false,
            snapshot_attempts: 0,
            stream: Vec::new(),
            blocks: Vec::new(),
            _lock: lock,
        };
        Ok((wal, recovered))
    }
}

pub(crate) fn lock(disk: &Arc<dyn Disk>) -> Result<Lock, OpenError> {
    match disk.try_lock() {
        Ok(true) => Ok(Lock(disk.clone())),
        Ok(false) => Err(OpenError::Locked),
        Err(source) => Err(OpenError::io("lock", "the data directory")(source)),
    }
}

/// Removes what crashes have left behind; returns the prepared segment that can be used.
fn tidy(disk: &dyn Disk, found: &mut Scan, room: &Room) -> io::Result<Option<u64>> {
    let mut spare = None;
    match found.spare.take() {
        Some((number, bytes)) if bytes == room.segment_bytes() => spare = Some(number),
        Some((number, _)) => found.junk.push(file_name(number)),
        None => {}
    }
    for name in &found.junk {
        disk.remove(name)?;
    }
    // Names that a former process saw may not be durable yet, if it died before its own directory sync.
    disk.sync_dir()?;
    Ok(spare)
}

type Resumed = (Active, Option<crate::TruncatedTail>);

/// Makes durable what was read, cuts the torn tail off, and seals.
fn resume(disk: &dyn Disk, found: &Scan, scan: &ActiveScan) -> io::Result<Resumed> {
    let header = &scan.header;
    let name = file_name(header.number);
    let file = disk.open(&name)?;
    if scan.torn.is_some() {
        wipe(&*file, scan.next_block, scan.torn_end)?;
    }
    file.write_at(0, &header.encode())?;
    if let Some((block, bytes)) = &scan.last_batch {
        file.write_at(block * BLOCK as u64, bytes)?;
    }
    file.sync()?;
    if scan.last_batch.is_some() {
        let extent = Extent {
            seq: found.seq,
            end_block: scan.next_block,
            last_index: found.state.last,
            chain: found.chain,
            continued: false,
        };
        write_extent(&*file, found.log_id, header.number, &extent)?;
    }
    if let Some((number, closing)) = &found.unclosed {
        write_extent(&*disk.open(&file_name(*number))?, found.log_id, *number, closing)?;
    }
    let active =
        Active { file, name, number: header.number, blocks: header.blocks, next_block: scan.next_block };
    Ok((active, scan.torn.clone()))
}

/// Writes zeros over a torn batch: blocks that are not in use stay zero, which is what tells them from damage.
fn wipe(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    file.write_at(from * BLOCK as u64, &vec![0; (to - from) as usize * BLOCK])?;
    file.sync()
}

fn write_extent(file: &dyn DiskFile, log_id: u64, segment: u64, extent: &Extent) -> io::Result<()> {
    file.write_at(extent.place(log_id, segment).block * BLOCK as u64, &extent.encode(log_id, segment))?;
    file.sync()
}

fn create(room: &mut Room, found: &mut Scan, log_id: u64) -> Result<Resumed, OpenError> {
    let number = 1;
    let header = SegmentHeader {
        log_id,
        number,
        blocks: room.segment_bytes() / BLOCK as u64,
        base_seq: 0,
        base_chain: chain_start(log_id),
    };
    let name = file_name(number);
    let file = room.create_first(number, &header.encode()).map_err(OpenError::io("create", &name))?;
    let file = file.ok_or(OpenError::NoSpace)?;
    found.log_id = log_id;
    found.chain = header.base_chain;
    found.segments = vec![SegmentInfo { number, max_index: 0 }];
    Ok((Active { file, name, number, blocks: header.blocks, next_block: DATA_BLOCK }, None))
}
