//! The program's streams, and who has a part in them.

use std::os::fd::OwnedFd;

use protocol::StreamKind;

use super::Attachment;
use super::clients::ClientId;
use super::error::Error;
use super::serve::Supervisor;
use crate::link::FromSupervisor;

impl Supervisor<'_> {
    /// Gives a client the program's streams: a pipe for each output, and the input itself, into which
    /// it writes without a way through here.
    pub(super) fn attach(&mut self, id: ClientId, attachment: Attachment) -> Result<(), Error> {
        if attachment == Attachment::None {
            return Ok(());
        }
        let input = attachment == Attachment::Both;
        let failed = |source| Error::System { action: "connect the program's streams", source };
        let (mut kinds, mut streams) = (Vec::new(), Vec::<OwnedFd>::new());
        let Some(client) = self.clients.get(id) else { return Ok(()) };
        client.follows = true;
        client.input = input;
        self.notes.note(self.record, "attach", &[]);
        if let Some(stream) = self.input.as_ref().filter(|_| input) {
            kinds.push(StreamKind::Stdin);
            streams.push(stream.try_clone().map_err(failed)?.into());
        }
        for (kind, pipe) in self.outputs.attach(id).map_err(failed)? {
            kinds.push(kind);
            streams.push(pipe);
        }
        // The client may be gone by now; the next wait sees it.
        let _ = client.link.try_send_with(&FromSupervisor::Streams(kinds), &streams);
        if let Some(trouble) = self.outputs.log_trouble() {
            self.clients.tell(id, &FromSupervisor::Warning(trouble));
        }
        Ok(())
    }

    /// The program's input ends with that of the one who was attached first, unless it is a terminal.
    pub(super) fn end_input(&mut self) {
        let ends =
            self.record.keeping.input_once && self.record.container.process.terminal.is_none();
        if let Some(input) = self.input.take_if(|_| ends) {
            // Fails only when the program has closed it before.
            let _ = input.shutdown(std::net::Shutdown::Write);
        }
    }
}
