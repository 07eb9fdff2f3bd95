//! The process that served before this one, for as long as it still carries something: a task has drained only when both say so.
//!
//! The newcomer writes a task's id on the socket of the handover, eight bytes; the old process writes it back when nothing of that
//! task is under way any more. When the old process ends, everything has.

use std::{
    collections::BTreeMap,
    io,
    os::unix::net::UnixStream as StdStream,
    sync::{Arc, Mutex, PoisonError},
};

use model::id::TaskId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

use super::world::World;

/// Questions that wait to be written; there are as many as tasks that drain at a time.
const QUEUE: usize = 64;

type Question = (TaskId, oneshot::Sender<()>);
type Waiting = Arc<Mutex<BTreeMap<TaskId, Vec<oneshot::Sender<()>>>>>;

/// Asks the old process; nobody when there is none.
#[derive(Debug, Default)]
pub struct Predecessor(Mutex<Option<mpsc::Sender<Question>>>);

impl Predecessor {
    /// There is one at the other end, until the stream ends.
    ///
    /// # Errors
    /// The runtime does not take the stream.
    pub fn follow(&self, stream: StdStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let (questions, queue) = mpsc::channel(QUEUE);
        tokio::spawn(converse(reader, writer, queue));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(questions);
        Ok(())
    }

    /// Waits until nothing of a task is under way there.
    pub async fn drained(&self, task: TaskId) {
        let questions = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answer, answered) = oneshot::channel();
        if let Some(questions) = questions
            && questions.send((task, answer)).await.is_ok()
        {
            // It has ended: with it all that it carried.
            let _ = answered.await;
        }
    }
}

async fn converse(reader: OwnedReadHalf, writer: OwnedWriteHalf, queue: mpsc::Receiver<Question>) {
    let waiting = Waiting::default();
    // Either ends with the old process; those who still wait hear it by the end of this.
    tokio::select! {
        () = ask(writer, queue, &waiting) => {}
        () = hear(reader, &waiting) => {}
    }
}

async fn ask(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Question>, waiting: &Waiting) {
    while let Some((task, answer)) = queue.recv().await {
        waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default().push(answer);
        if writer.write_u64(task.0).await.is_err() {
            return;
        }
    }
}

async fn hear(mut reader: OwnedReadHalf, waiting: &Waiting) {
    while let Ok(task) = reader.read_u64().await {
        let answers = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&TaskId(task));
        for answer in answers.into_iter().flatten() {
            let _ = answer.send(());
        }
    }
}

/// Answers the newcomer's questions, as the old process.
pub async fn answer(world: Arc<World>, newcomer: UnixStream) {
    let (mut reader, mut writer) = newcomer.into_split();
    let (done, mut queue) = mpsc::channel::<TaskId>(QUEUE);
    let writing = async {
        while let Some(task) = queue.recv().await {
            if writer.write_u64(task.0).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        while let Ok(task) = reader.read_u64().await {
            let (over, done) = (world.drain(TaskId(task)), done.clone());
            tokio::spawn(async move {
                if over.await.is_ok() {
                    // A newcomer that is gone has no use for it.
                    let _ = done.send(TaskId(task)).await;
                }
            });
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}
