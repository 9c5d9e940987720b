//! The host's questions about the container as a whole, and their answers.

use protocol::{Answer, FromAgent, Question, RequestId};

use super::{ServeError, Server};
use crate::{kernel_log, network, questions, step::describe};

impl Server {
    pub(super) fn ask(&mut self, request: RequestId, question: Question) -> Result<(), ServeError> {
        match self.answer(request, question) {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => self.say(&FromAgent::Answer { request, answer }),
            Err(message) => self.fail(request, message),
        }
    }

    /// The answer, if it can be given at once.
    fn answer(&mut self, request: RequestId, question: Question) -> Result<Option<Answer>, String> {
        let (Ok(cgroup), Some(disks), Some(_)) = (&self.cgroup, &self.disks, self.container())
        else {
            return Err("the container is not running".into());
        };
        let answer = match question {
            Question::Pause => return self.freezer.freeze(cgroup, request),
            Question::Unpause => {
                for overtaken in self.freezer.thaw(cgroup)? {
                    let told = self.fail(overtaken, "the container was unpaused".into());
                    told.map_err(|error| describe(&error))?;
                }
                Ok(Answer::Done)
            }
            Question::Top => questions::top(disks.root()),
            Question::Stats => questions::stats(cgroup),
            Question::Update(limits) => cgroup.update(&limits).map(|()| Answer::Done),
            Question::KernelLog => kernel_log::read_all(),
            Question::Connect { device, interface } => {
                network::join(device, &interface).map(|()| Answer::Done)
            }
            Question::Disconnect { device } => network::leave(device).map(|()| Answer::Done),
        };
        answer.map(Some).map_err(|error| describe(&error))
    }

    pub(super) fn hear_freezer(&mut self) -> Result<(), ServeError> {
        for request in self.freezer.hear()? {
            self.say(&FromAgent::Answer { request, answer: Answer::Done })?;
        }
        Ok(())
    }

    fn fail(&mut self, request: RequestId, message: String) -> Result<(), ServeError> {
        self.say(&FromAgent::Answer { request, answer: Answer::Failed { message } })
    }
}
